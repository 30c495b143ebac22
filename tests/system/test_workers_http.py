"""Workers of kind http: services that are sent the queue's messages."""
import contextlib
import json
import os
import signal
import threading
import time

import pytest

from kit.config import listener
from kit.wire import connect, request
from kit.workers import SERVICE, Crew, house, is_there, section

DEAD = "retry { attempts = 3  first = 10ms  most = 20ms }  dead-letter = dead"


@pytest.fixture
def crew(maitred):
    def start(options="min = 1  max = 1", words="", general="", **others):
        return Crew(maitred(house(section(f"kind = http  {options}", words, program=SERVICE), general, **others)))
    return start


def test_a_service_is_sent_what_its_queue_has(crew):
    crew = crew('min = 1  max = 1  path = "/cook"')

    ids = crew.publish(20)

    crew.wait_ended(ids)
    state = crew.wait(lambda crew: crew["handled"] == 20 and crew["idle"] == 1, "20 handled")
    assert sorted(crew.ended()) == ids and len(crew.pids()) == 1
    assert crew.begun() == ["1 false /cook"] * 20
    assert state["kind"] == "http"
    crew.wait_queue(lambda queue: queue["ready"] == queue["in_flight"] == 0 and queue["workers"] == "crew", "an empty queue")


def test_each_has_a_port_of_its_own(crew):
    crew = crew("min = 3  max = 3  slots = 2", "environment")

    state = crew.wait_running(3)

    told = [json.loads(rest) for *_, rest in crew.notes("environment")]
    ports = {int(each["PORT"]) for each in told}
    assert len(ports) == 3 and ports == {process["port"] for process in state["processes"]}
    for each in told:
        assert each["HOST"] == "127.0.0.1" and each["MAITRED_SLOTS"] == "2" and each["MAITRED_QUEUE"] == "jobs"
        assert "AMQP_URL" not in each


def test_one_that_does_not_listen_yet_is_given_nothing(crew):
    crew = crew("min = 1  max = 1", "late")
    crew.publish(3)
    crew.poll(crew.pids, "a start")

    state = crew.wait(lambda crew: crew["starting"] == 1, "a service that starts")
    assert state["in_flight"] == 0 and crew.queue_state()["ready"] == 3
    crew.touch("open")

    crew.wait_ended(range(3))
    assert crew.begun() == ["1 false /"] * 3


def test_one_that_never_listens_is_killed_and_started_again(crew):
    crew = crew("min = 1  max = 1  start-timeout = 3s", "late ignore_sigterm")
    crew.publish()

    crew.poll(lambda: len(crew.pids()) == 2, "a second process", 20)

    assert not is_there(crew.pids()[0])
    assert "not ready at port" in crew.events("worker-killed")[0]["text"]
    crew.touch("open")
    crew.wait_ended([0])
    assert crew.begun() == ["1 false /"]


def test_a_service_has_no_more_messages_than_slots(crew):
    crew = crew("min = 1  max = 1  slots = 3")
    gate = crew.proxy.directory / "gate"

    ids = crew.publish(8, until=str(gate))
    state = crew.wait(lambda crew: crew["in_flight"] == 3, "three at work")
    crew.poll(lambda: len(crew.notes("begin")) == 3, "three begun")

    assert state["busy"] == 1 and crew.queue_state()["ready"] == 5
    gate.touch()
    crew.wait_ended(ids)


def test_an_answer_that_is_no_yes_returns_it_until_it_is_dead(crew):
    crew = crew(general="queue dead {}", queue=DEAD)

    crew.publish(status=500)
    others = crew.publish(3)

    crew.wait_queue(lambda queue: queue["ready"] == 1, "a dead letter", "dead")
    assert crew.begun(0) == ["1 false /", "2 true /", "3 true /"]
    crew.wait_ended(others)
    assert crew.get()["crashes"] == 0 and len(crew.pids()) == 1


def test_a_client_who_waits_hears_what_the_service_answers(crew):
    crew = crew(general=listener('route "/jobs" { queue = jobs }', address="127.0.0.1:{port2}"))
    crew.wait_running(1)

    body = b'{"id": 5}'
    with contextlib.closing(connect(("127.0.0.1", crew.proxy.port2))) as client:
        answer = client.ask(request("POST", "/jobs", f"Content-Length: {len(body)}", "Prefer: wait=10", body=body))

    assert answer.status == 200 and answer.body == b"done 5"


def test_one_that_crashes_in_the_middle_gets_its_messages_again_and_they_are_marked(crew):
    crew = crew("min = 1  max = 1  slots = 2")
    gate = crew.proxy.directory / "gate"
    crew.publish(2, until=str(gate))
    crew.poll(lambda: len(crew.notes("begin")) == 2, "two at work")

    os.kill(crew.pids()[0], signal.SIGKILL)
    gate.touch()

    crew.wait_ended([0, 1])
    for number in (0, 1):
        assert crew.begun(number) == ["1 false /", "2 true /"]
    state = crew.get()
    assert state["crashes"] == 1 and "signal 9" in state["processes"][0]["reason"]
    assert len(crew.pids()) == 2


def test_a_message_that_kills_every_service_is_dead_in_the_end(crew):
    crew = crew("min = 2  max = 2", general="queue dead {}", queue=DEAD)

    crew.publish(do="crash")
    ids = crew.publish(5)

    crew.wait_queue(lambda queue: queue["ready"] == 1, "a dead letter", "dead")
    crew.wait_ended(ids)
    assert [each.split()[0] for each in crew.begun(0)] == ["1", "2", "3"]


def test_one_that_is_not_well_is_given_nothing_until_it_is(crew):
    crew = crew('min = 1  max = 1  health = "/health"')
    crew.wait_ended(crew.publish())

    sick = crew.touch("sick")
    crew.wait(lambda crew: crew["starting"] == 1, "a service that is not well", 20)
    crew.publish(3)
    assert crew.queue_state()["in_flight"] == 0
    crew.proxy.wait_log("is not well, and is given nothing more until it is")
    assert len(crew.notes("begin")) == 1
    sick.unlink()

    crew.wait_ended([1, 2, 3], 20)
    assert len(crew.pids()) == 1
    assert crew.begun() == ["1 false /"] * 4


def test_one_that_stays_unwell_is_killed_and_another_takes_its_place(crew):
    crew = crew('min = 1  max = 1  health = "/health"  start-timeout = 3s')
    crew.wait_ended(crew.publish())

    sick = crew.touch("sick")
    crew.poll(lambda: not is_there(crew.pids()[0]), "its end", 20)
    sick.unlink()

    crew.wait_ended(crew.publish(), 20)
    assert crew.begun(1) == ["1 false /"]


def test_its_health_says_when_it_is_ready(crew):
    crew = crew('min = 1  max = 1  health = "/health"', "begin_sick")
    crew.publish()
    crew.poll(lambda: crew.notes("listens"), "a service that listens")
    assert crew.get()["starting"] == 1 and crew.notes("begin") == []

    (crew.proxy.directory / "sick").unlink()

    crew.wait_ended([0])


def test_connections_that_a_service_does_not_keep_cost_nothing(crew):
    crew = crew("min = 1  max = 1", "blind")

    ids = crew.publish(50)

    crew.wait_ended(ids)
    assert crew.begun() == ["1 false /"] * 50


def test_a_flood_makes_them_more_and_its_end_fewer_and_loses_nothing(crew):
    crew = crew("min = 1  max = 3  slots = 2  drain-target = 1s  cooldown = 1s  backlog-per-worker = 4")
    crew.wait_running(1)

    ids = crew.publish(200, seconds=0.05)
    crew.wait(lambda crew: crew["running"] == 3, "growth", 30)
    crew.wait_ended(ids, 60)
    crew.wait_running(1, 90)

    assert sorted(crew.ended()) == ids
    assert crew.begun() == ["1 false /"] * 200      # each once: nobody was ended in the middle of one
    state = crew.get()
    assert len(state["processes"]) == 1
    assert state["kills"] == state["crashes"] == 0


def test_crashes_under_load_lose_nothing(crew):
    crew = crew("min = 3  max = 3  slots = 2", queue="retry { attempts = 0  first = 10ms  most = 50ms }")
    crew.wait_running(3)
    ids = []
    publisher = threading.Thread(target=lambda: ids.extend(crew.publish(150, seconds=0.1)))
    publisher.start()

    killed = set()
    for _ in range(4):
        busy = crew.poll(lambda: {each["pid"] for each in crew.processes() if each["state"] == "busy"} - killed, "work")
        os.kill(min(busy), signal.SIGKILL)
        killed.add(min(busy))
        crew.wait(lambda crew: not killed & {each["pid"] for each in crew["processes"]}, "its end")
    publisher.join()

    crew.wait_ended(ids, 60)
    crew.wait_queue(lambda queue: queue["ready"] == queue["in_flight"] == 0, "an empty queue")
    assert set(crew.ended()) == set(ids)
    for number in ids:
        assert all(again.split()[1] == "true" for again in crew.begun(number)[1:])


# --- ends


def test_fewer_by_hand_means_that_each_finishes_what_it_has(crew):
    crew = crew("min = 3  max = 3  slots = 2")
    gate = crew.proxy.directory / "gate"
    ids = crew.publish(6, until=str(gate))
    crew.poll(lambda: len(crew.notes("begin")) == 6, "six at work", 20)

    crew.post("/api/workers/crew/set?count=1")
    crew.wait(lambda crew: crew["stopping"] == 2, "two that stop")
    more = crew.publish(4)
    gate.touch()

    crew.wait_ended(ids + more)
    crew.wait_running(1)
    assert crew.begun() == ["1 false /"] * 10
    assert crew.get()["kills"] == 0


def test_who_ignores_sigterm_is_killed_after_stop_timeout(crew):
    crew = crew("min = 1  max = 1  stop-timeout = 300ms", "ignore_sigterm")
    crew.wait_running(1)
    pid, = crew.pids()

    crew.post("/api/workers/crew/pause")

    crew.wait(lambda crew: not crew["processes"], "no process")
    assert not is_there(pid)
    assert crew.get()["kills"] == 1


def test_a_drain_lets_a_service_finish_what_it_has(crew):
    crew = crew()
    gate = crew.proxy.directory / "gate"
    crew.publish(until=str(gate))
    crew.publish(3)
    crew.poll(lambda: crew.notes("begin"), "a message at work")

    crew.proxy.terminate()
    crew.proxy.wait_log("draining")
    gate.touch()
    assert crew.proxy.wait() == 0

    assert crew.ended() == [0] and len(crew.notes("begin")) == 1
    assert not any(map(is_there, crew.pids()))
    crew.proxy.start_again()
    crew.wait_ended([1, 2, 3])
    assert len(crew.begun(0)) == 1


def test_a_drain_ends_in_time_and_what_was_cut_off_comes_again(crew):
    crew = crew("min = 1  max = 1", "ignore_sigterm", drain="1s")
    crew.publish(until=str(crew.proxy.directory / "gate"))
    crew.poll(lambda: crew.notes("begin"), "a message at work")

    since = time.monotonic()
    crew.proxy.terminate()
    assert crew.proxy.wait() == 0

    assert time.monotonic() - since < 5
    assert not any(map(is_there, crew.pids()))
    crew.touch("gate")
    crew.proxy.start_again()
    crew.wait_ended([0])
    assert crew.begun(0)[1].split()[1] == "true"


def test_nothing_is_left_when_maitred_is_killed_and_its_messages_come_again(crew):
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
        first, again = crew.begun(number)
        assert first == "1 false /" and again.split()[1] == "true"


# --- reload


def test_another_path_takes_over_one_by_one_and_loses_nothing(crew):
    crew = crew('min = 2  max = 2  path = "/old"')
    crew.wait_running(2)
    old = crew.pids()

    ids = crew.publish(20, seconds=0.02)
    crew.proxy.reload(house(section('kind = http  min = 2  max = 2  path = "/new"', program=SERVICE)))
    ids += crew.publish(20, seconds=0.02)
    crew.wait_ended(ids, 30)
    crew.wait(lambda crew: crew["idle"] == 2 and not {process["pid"] for process in crew["processes"]} & set(old), "two others", 30)

    assert sorted(crew.ended()) == ids
    assert {each.split()[0] for each in crew.begun()} == {"1"}
    crew.wait_ended(crew.publish())
    assert crew.begun()[-1] == "1 false /new"


@pytest.mark.parametrize("before, after, seconds, attempts", [("1s", "1m", 3, ["1 false /"]), ("1m", "1s", 20, ["1 false /", "2 true /"])])
def test_another_ack_timeout_holds_for_the_next_request_and_nothing_is_restarted(crew, before, after, seconds, attempts):
    def queue(timeout):
        return f"ack-timeout = {timeout}  retry {{ first = 10ms  most = 10ms }}"
    crew = crew("min = 1  max = 1  slots = 2", queue=queue(before))
    crew.wait_running(1)

    crew.proxy.reload(house(section("kind = http  min = 1  max = 1  slots = 2", program=SERVICE), queue=queue(after)))
    crew.publish(seconds=seconds)

    crew.poll(lambda: crew.ended() or len(crew.begun(0)) > 1, "its end, or another attempt")
    assert crew.begun(0) == attempts
    assert len(crew.pids()) == 1


# --- upgrade


def test_an_upgrade_breaks_off_what_takes_too_long_and_the_next_process_has_it(crew):
    crew = crew("min = 1  max = 1  slots = 2", drain="60s")
    gate = crew.proxy.directory / "gate"
    crew.publish(until=str(gate))
    crew.poll(lambda: crew.notes("begin"), "a message at work")

    crew.proxy.upgrade()
    crew.poll(lambda: len(crew.begun(0)) == 2, "another attempt", 15)
    gate.touch()

    crew.wait_ended(crew.publish(3))
    crew.wait_queue(lambda queue: queue["ready"] == queue["in_flight"] == 0, "an empty queue")
    assert crew.begun(0)[1].split()[1] == "true"
    assert len(crew.pids()) == 2 and not is_there(crew.pids()[0])
