"""Workers of kind filter: a process for each message."""
import json
import os
import signal
import time
from pathlib import Path

import pika
import pytest

from kit.workers import FILTER, Crew, children, house, is_there, section

DEAD = "retry { attempts = 3  first = 10ms  most = 20ms }  dead-letter = dead"


@pytest.fixture
def crew(maitred):
    def start(options="min = 1  max = 2", words="", general="", **others):
        return Crew(maitred(house(section(f"kind = filter  {options}", words, program=FILTER), general, **others)))
    return start


def publish_by_amqp(crew, body, **properties):
    parameters = pika.ConnectionParameters("127.0.0.1", crew.proxy.port, credentials=pika.PlainCredentials("guest", "guest"))
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", "jobs", body, pika.BasicProperties(delivery_mode=2, **properties))


def test_exit_code_0_acknowledges(crew):
    crew = crew()

    ids = crew.publish(20)

    crew.wait_ended(ids)
    crew.wait_queue(lambda queue: queue["ready"] == queue["in_flight"] == 0, "an empty queue")
    assert sorted(crew.ended()) == ids and len(crew.pids()) == 20
    state = crew.wait(lambda crew: crew["handled"] == 20 and crew["idle"] == crew["running"], "20 handled")
    assert state["kind"] == "filter" and state["starts"] == 20 and state["crashes"] == 0


def test_any_other_exit_code_returns_it_until_it_is_dead(crew):
    crew = crew(general="queue dead {}", queue=DEAD)

    crew.publish(code=7)
    others = crew.publish(3)

    crew.wait_queue(lambda queue: queue["ready"] == 1, "a dead letter", "dead")
    assert crew.begun(0) == ["1 0", "2 1", "3 1"]
    crew.wait_ended(others)
    crew.proxy.wait_log("exit code 7: attempt 1 at its message failed")
    assert crew.get()["crashes"] == 0


def test_one_that_is_killed_in_the_middle_gets_its_message_again(crew):
    crew = crew()
    crew.publish(until=str(crew.proxy.directory / "gate"))
    pid, = crew.poll(lambda: crew.notes("begin") and crew.pids(), "a message at work")

    os.kill(pid, signal.SIGKILL)

    crew.poll(lambda: len(crew.begun(0)) == 2, "another attempt")
    assert crew.begun(0) == ["1 0", "2 1"]
    crew.touch("gate")
    crew.wait_ended([0])


def test_it_knows_its_message_and_who_it_is(crew):
    crew = crew("min = 1  max = 1", "environment")

    publish_by_amqp(crew, b'{"id": 0}', content_type="application/json")
    crew.wait_ended([0])

    told = json.loads(crew.notes("environment")[0][3])
    assert len(told["MAITRED_MESSAGE_ID"]) == 26
    assert told["MAITRED_ATTEMPT"] == "1" and told["MAITRED_REDELIVERED"] == "0"
    assert told["CONTENT_TYPE"] == "application/json" and told["MAITRED_BODY_BYTES"] == "9"
    assert told["MAITRED_WORKER"] == "crew" and told["MAITRED_WORKER_NUMBER"] == "1" and told["MAITRED_QUEUE"] == "jobs"
    assert told["MAITRED_ADMIN"] == f"http://127.0.0.1:{crew.proxy.port9}"
    assert "AMQP_URL" not in told and "PORT" not in told


def test_a_content_type_without_measure_is_left_out_and_harms_nobody(crew):
    crew = crew("min = 1  max = 1", "environment", queue="max-message = 1m")

    crew.admin.ask("POST", "/api/queues/jobs/publish?field=Content-Type:%20" + 6000 * "x", "Content-Length: 9", body=b'{"id": 0}')
    crew.wait_ended([0])

    assert "CONTENT_TYPE" not in json.loads(crew.notes("environment")[0][3])


def test_what_it_writes_is_in_the_log_with_its_name(crew):
    crew = crew("min = 1  max = 1")

    crew.publish(say="hello from here")

    assert " info workers crew/1: hello from here" in crew.proxy.wait_log("hello from here")


def test_who_closes_its_input_unread_has_read_enough(crew):
    crew = crew("min = 1  max = 1", "deaf", queue="max-message = 16m")

    for _ in range(3):
        publish_by_amqp(crew, 4_000_000 * b"x")

    state = crew.wait(lambda crew: crew["handled"] == 3 and crew["in_flight"] == 0, "three messages")
    assert state["crashes"] == 0
    assert crew.queue_state()["ready"] == 0


def test_a_large_body_that_nobody_reads_yet_holds_nobody_up(crew):
    crew = crew("min = 2  max = 2", "patient bytes", queue="max-message = 16m", threads=1)
    sizes = [8_000_000, 9_000_000]
    for size in sizes:
        publish_by_amqp(crew, size * b"x")
    crew.wait(lambda crew: crew["in_flight"] == 2, "two at work")

    slowest = 0
    for _ in range(20):
        since = time.monotonic()
        crew.get()
        slowest = max(slowest, time.monotonic() - since)
    crew.touch("open")

    crew.wait(lambda crew: crew["handled"] == 2, "both")
    assert sorted(int(rest) for *_, rest in crew.notes("bytes")) == sizes
    assert slowest < 0.5


def test_a_large_body_that_cannot_be_read_is_not_taken_for_a_short_one(crew):
    crew = crew("min = 1  max = 1", "bytes", general="queue dead {}", queue=f"max-message = 16m  {DEAD}")
    crew.admin.ask("POST", "/api/queues/jobs/pause", "Content-Length: 0")
    publish_by_amqp(crew, 4_000_000 * b"x")
    stored, = (Path(crew.proxy.directory) / "state").glob("body-*")
    with stored.open("r+b") as file:
        file.seek(3_000_000)
        file.write(b"damaged")

    crew.admin.ask("POST", "/api/queues/jobs/resume", "Content-Length: 0")

    crew.proxy.wait_log(r"workers crew/1: the body of message \d+ of queue jobs cannot be read")
    crew.wait_queue(lambda queue: queue["ready"] == 1, "a dead letter", "dead")
    assert not crew.notes("bytes")


def test_max_is_how_many_run_at_a_time(crew):
    crew = crew("min = 2  max = 2")
    gate = crew.proxy.directory / "gate"

    ids = crew.publish(6, until=str(gate))
    crew.poll(lambda: len(crew.notes("begin")) == 2, "two at work")
    state = crew.wait(lambda crew: crew["busy"] == 2, "two busy")

    assert state["in_flight"] == 2 and len(crew.pids()) == 2
    assert crew.queue_state()["ready"] == 4
    gate.touch()
    crew.wait_ended(ids)


def test_one_that_runs_too_long_is_killed_at_the_ack_timeout(crew):
    crew = crew("min = 1  max = 1", "ignore_sigterm", queue="ack-timeout = 500ms  retry { attempts = 0  first = 10ms }")
    crew.publish(until=str(crew.proxy.directory / "gate"))

    crew.poll(lambda: len(crew.begun(0)) >= 2, "another attempt")

    assert crew.begun(0)[:2] == ["1 0", "2 1"]
    assert crew.get()["kills"] >= 1
    assert not is_there(crew.pids()[0])
    assert crew.events("worker-killed")
    crew.touch("gate")
    crew.wait_ended([0])


def test_one_that_is_ended_in_the_middle_has_made_no_attempt(crew):
    crew = crew("min = 1  max = 1  stop-timeout = 300ms", "fail_at_sigterm")
    crew.publish(until=str(crew.proxy.directory / "gate"))
    crew.poll(lambda: crew.notes("begin"), "a message at work")

    crew.post("/api/workers/crew/pause")
    crew.wait(lambda crew: not crew["processes"], "no process")
    crew.proxy.wait_log("exit code 3, after it was told to stop: its message waits again")
    crew.touch("gate")
    crew.post("/api/workers/crew/resume")

    crew.wait_ended([0])
    assert crew.begun(0) == ["1 0", "1 1"]


def test_one_that_is_lost_with_the_keeper_has_made_no_attempt(crew):
    crew = crew("min = 1  max = 1", general="queue dead {}", queue="retry { attempts = 1 }  dead-letter = dead")
    crew.publish(until=str(crew.proxy.directory / "gate"))
    crew.poll(lambda: crew.notes("begin"), "a message at work")

    os.kill(crew.keeper(), signal.SIGKILL)

    crew.poll(lambda: len(crew.begun(0)) == 2, "another try")
    assert crew.begun(0) == ["1 0", "1 1"]
    crew.touch("gate")
    crew.wait_ended([0])
    assert crew.queue_state("dead")["ready"] == 0


def test_one_that_ends_well_because_it_was_told_to_has_not_handled_its_message(crew):
    crew = crew("min = 1  max = 1  stop-timeout = 300ms", "end_well_at_sigterm")
    crew.publish(until=str(crew.proxy.directory / "gate"))
    crew.poll(lambda: crew.notes("begin"), "a message at work")

    crew.post("/api/workers/crew/pause")
    crew.wait(lambda crew: not crew["processes"], "no process")
    assert crew.queue_state()["ready"] == 1
    crew.touch("gate")
    crew.post("/api/workers/crew/resume")

    crew.wait_ended([0])
    assert crew.begun(0) == ["1 0", "1 1"]


def test_who_is_left_behind_with_its_output_does_not_put_off_what_became_of_its_message(crew):
    crew = crew("min = 1  max = 1", "leave_output_open")
    crew.publish()
    crew.wait_ended([0])

    state = crew.wait(lambda crew: crew["processes"][0]["pid"] is None, "the end of its process")

    assert state["in_flight"] == 0 and state["handled"] == 1


def test_one_that_is_told_to_stop_keeps_its_message_no_longer_than_it_may(crew):
    crew = crew("min = 1  max = 1  stop-timeout = 30s", "ignore_sigterm", queue="ack-timeout = 2s  retry { first = 10ms }")
    crew.publish(until=str(crew.proxy.directory / "gate"))
    crew.poll(lambda: crew.notes("begin"), "a message at work")

    crew.post("/api/workers/crew/restart")

    crew.poll(lambda: len(crew.begun(0)) == 2, "another attempt", 20)
    assert not is_there(crew.pids()[0])
    crew.touch("gate")
    crew.wait_ended([0])


def test_a_command_that_is_not_there_is_given_no_message_at_a_reload(crew):
    crew = crew("min = 4  max = 4", general="queue dead {}", queue=DEAD)
    crew.wait_running(4)

    missing = 'workers crew { queue = jobs  kind = filter  command = "{dir}/nowhere"  min = 4  max = 4 }'
    crew.proxy.configure(house(missing, "queue dead {}", queue=DEAD))
    crew.proxy.reload()
    state = crew.wait(lambda crew: crew["backing_off"] == 1, "one that does not start")
    ids = crew.publish(5)

    crew.wait_ended(ids)
    assert "cannot be started" in "".join(each["reason"] for each in state["processes"])
    assert crew.queue_state("dead")["ready"] == 0


def test_a_flood_makes_them_more_and_its_end_none(crew):
    crew = crew("min = 0  max = 2  drain-target = 1s  cooldown = 1s  backlog-per-worker = 2")

    ids = crew.publish(60, seconds=0.1)
    crew.wait(lambda crew: crew["desired"] == 2, "growth", 30)
    crew.wait_ended(ids, 90)
    state = crew.wait(lambda crew: crew["running"] == 0 and not crew["processes"], "none", 90)

    assert sorted(crew.ended()) == ids
    assert sorted(rest for *_, rest in crew.notes("begin")) == sorted(f"{number} 1 0" for number in ids)
    assert state["kills"] == 0 and state["crashes"] == 0


def test_what_cannot_be_started_costs_no_message_an_attempt(maitred):
    missing = 'workers crew { queue = jobs  kind = filter  command = "{dir}/tool {dir}/ledger"  min = 1  max = 2 }'
    crew = Crew(maitred(house(missing, "queue dead {}", queue=DEAD)))
    crew.publish()

    state = crew.wait(lambda crew: crew["crashes"] >= 3, "three failures", 20)
    assert "cannot be started" in state["reason"] and state["state"] == "crashing"
    tool = crew.proxy.directory / "tool"
    tool.write_text(f'#!/bin/sh\nexec /usr/bin/python3 {FILTER} "$@"\n')
    tool.chmod(0o755)

    crew.wait_ended([0], 40)
    assert crew.begun(0)[0].startswith("1 ")


# --- ends


def test_a_drain_lets_one_finish(crew):
    crew = crew("min = 1  max = 1")
    gate = crew.proxy.directory / "gate"
    crew.publish(until=str(gate))
    crew.publish(2)
    crew.poll(lambda: crew.notes("begin"), "a message at work")

    crew.proxy.terminate()
    crew.proxy.wait_log("draining")
    gate.touch()
    assert crew.proxy.wait() == 0

    assert crew.ended() == [0] and len(crew.notes("begin")) == 1
    crew.proxy.start_again()
    crew.wait_ended([1, 2])
    assert len(crew.begun(0)) == 1


def test_a_drain_ends_in_time_and_what_was_cut_off_comes_again(crew):
    crew = crew("min = 1  max = 1", "ignore_sigterm", drain="1s")
    crew.publish(until=str(crew.proxy.directory / "gate"))
    crew.poll(lambda: crew.notes("begin"), "a message at work")

    since = time.monotonic()
    crew.proxy.terminate()
    assert crew.proxy.wait() == 0

    assert time.monotonic() - since < 10    # less than stop-timeout
    assert not any(map(is_there, crew.pids()))
    crew.touch("gate")
    crew.proxy.start_again()
    crew.wait_ended([0])
    assert len(crew.begun(0)) == 2 and crew.begun(0)[1].endswith(" 1")


def test_fewer_by_hand_means_that_each_finishes_what_it_has(crew):
    crew = crew("min = 3  max = 3")
    gate = crew.proxy.directory / "gate"
    ids = crew.publish(3, until=str(gate))
    crew.poll(lambda: len(crew.notes("begin")) == 3, "three at work")

    crew.post("/api/workers/crew/set?count=1")
    crew.wait(lambda crew: crew["stopping"] == 2, "two that stop")
    gate.touch()

    crew.wait_ended(ids)
    crew.wait_running(1)
    assert len(crew.notes("begin")) == 3


def test_nothing_is_left_when_maitred_is_killed(crew):
    crew = crew("min = 2  max = 2", "have_children ignore_sigterm")
    crew.publish(2, until=str(crew.proxy.directory / "gate"))
    crew.poll(lambda: len(crew.notes("begin")) == 2, "two at work")
    all_of_them = [*crew.pids(), *(int(rest) for *_, rest in crew.notes("child")), crew.keeper()]
    assert len(all_of_them) == 7 and all(map(is_there, all_of_them))

    crew.proxy.kill()

    crew.wait_gone(all_of_them)
    crew.touch("gate")
    crew.proxy.start_again()
    crew.wait_ended([0, 1])
    for number in (0, 1):
        assert len(crew.begun(number)) == 2 and crew.begun(number)[1].endswith(" 1")


def test_what_a_process_leaves_behind_goes_with_it(crew):
    crew = crew("min = 1  max = 1", "have_children")
    crew.wait_ended(crew.publish())

    crew.wait_gone([int(crew.notes("child")[0][3])])
    assert crew.get()["handled"] == 1
    assert children(crew.keeper()) == [int(crew.notes("child")[1][3])]      # it left the group: the keeper's until maitred ends


def test_an_upgrade_breaks_off_what_takes_too_long_and_the_next_process_has_it(crew):
    crew = crew("min = 1  max = 1", drain="60s")
    gate = crew.proxy.directory / "gate"
    crew.publish(until=str(gate))
    crew.poll(lambda: crew.notes("begin"), "a message at work")

    crew.proxy.upgrade()
    crew.poll(lambda: len(crew.begun(0)) == 2, "another attempt", 15)
    gate.touch()

    crew.wait_ended(crew.publish(3))
    crew.wait_queue(lambda queue: queue["ready"] == queue["in_flight"] == 0, "an empty queue")
    assert crew.begun(0)[1].split()[1] == "1"
    assert not is_there(crew.pids()[0])
