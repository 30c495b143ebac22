"""Workers that maitred starts: what they get, how they end, and what is left of them when something is killed."""
import json
import os
import signal
import time

import pika
import pytest

from kit.wire import DEADLINE, connect
from kit.workers import Crew, children, command, house, is_there, section


@pytest.fixture
def crew(maitred):
    def start(options="min = 1  max = 1", words="", general="", **others):
        return Crew(maitred(house(section(options, words), general, **others)))
    return start


def test_a_worker_takes_what_its_queue_has(crew):
    crew = crew()
    ids = crew.publish(20)

    crew.wait_ended(ids)

    state = crew.wait(lambda crew: crew["handled"] == 20, "20 handled")
    assert sorted(crew.ended()) == ids
    assert len(crew.pids()) == 1
    assert state["kind"] == "consumer" and state["queue"] == "jobs"
    queue, = [queue for queue in crew.admin.state()["queues"] if queue["name"] == "jobs"]
    assert queue["workers"] == "crew"


def test_a_worker_knows_who_it_is(crew):
    crew = crew("min = 2  max = 2  slots = 3", "environment")
    crew.wait_running(2)

    told = [json.loads(rest) for *_, rest in crew.notes("environment")]

    assert sorted(each["MAITRED_WORKER_NUMBER"] for each in told) == ["1", "2"]
    for each in told:
        assert each["MAITRED_WORKER"] == "crew"
        assert each["MAITRED_QUEUE"] == "jobs"
        assert each["MAITRED_SLOTS"] == "3"
        assert each["MAITRED_ADMIN"] == f"http://127.0.0.1:{crew.proxy.port9}"
        assert each["PATH"] == os.environ["PATH"]
    assert told[0]["AMQP_URL"] != told[1]["AMQP_URL"]


def test_a_login_ends_with_its_process(crew):
    crew = crew("min = 1  max = 1", "environment")
    crew.wait_running(1)
    url = json.loads(crew.notes("environment")[0][3])["AMQP_URL"]
    pika.BlockingConnection(pika.URLParameters(url)).close()

    os.kill(crew.pids()[0], signal.SIGKILL)
    crew.poll(lambda: len(crew.pids()) == 2, "a second process")

    with pytest.raises(pika.exceptions.AMQPConnectionError):
        pika.BlockingConnection(pika.URLParameters(url))


def test_a_worker_has_no_more_messages_than_slots(crew):
    crew = crew("min = 1  max = 1  slots = 2")
    gate = crew.proxy.directory / "gate"
    crew.publish(5, until=str(gate))

    state = crew.wait(lambda crew: crew["in_flight"] == 2, "two in flight")

    assert state["busy"] == 1
    gate.touch()
    crew.wait_ended(range(5))


def test_all_consumers_of_a_worker_share_its_slots(crew):
    crew = crew("min = 1  max = 1  slots = 3", "environment")
    crew.wait_running(1)
    url = json.loads(crew.notes("environment")[0][3])["AMQP_URL"]
    gate, got = crew.proxy.directory / "gate", []
    connections = [pika.BlockingConnection(pika.URLParameters(url)) for _ in range(2)]
    for channel in [connections[0].channel(), connections[0].channel(), connections[1].channel()]:
        channel.basic_consume("jobs", lambda channel, method, *_: got.append((channel, method.delivery_tag)))

    crew.publish(10, until=str(gate))

    def take():
        for connection in connections:
            connection.process_data_events(0)
    crew.wait(lambda crew: crew["in_flight"] == 3, "three in flight")
    gate.touch()
    handled = []
    while len(handled) + len(crew.notes("end")) < 10:
        take()
        begun = len(crew.notes("begin"))
        assert len(got) + begun - len(crew.notes("end")) <= 3
        while got:
            channel, tag = got.pop()
            channel.basic_ack(tag)
            handled.append(tag)
    assert handled, "its other consumers got their share"
    for connection in connections:
        connection.close()


def test_an_answer_that_a_worker_waits_for_needs_no_slot(crew):
    crew = crew("min = 1  max = 1  slots = 1", "environment")
    crew.wait_running(1)
    url = json.loads(crew.notes("environment")[0][3])["AMQP_URL"]
    gate, got = crew.proxy.directory / "gate", []
    crew.publish(until=str(gate))
    crew.wait(lambda crew: crew["in_flight"] == 1, "it has its one")
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        answers = channel.queue_declare("", exclusive=True).method.queue
        channel.basic_consume(answers, lambda channel, method, *_: got.append(method.delivery_tag))

        channel.basic_publish("", answers, b"here it is")

        crew.poll(lambda: connection.process_data_events(0.01) or got, "the answer")
    gate.touch()
    crew.wait_ended(range(1))


def test_what_a_worker_writes_is_in_the_log_with_its_name(crew):
    crew = crew()
    crew.publish(say="hello from here")

    line = crew.proxy.wait_log("hello from here")

    assert " info workers crew/1: hello from here" in line


def test_a_worker_that_crashes_is_started_again_and_its_message_comes_back(crew):
    crew = crew()
    ids = crew.publish(do="crash")
    crew.poll(lambda: len(crew.notes("crash")) == 1, "the crash")

    crew.poll(lambda: len(crew.notes("begin")) == 2, "another attempt")

    assert [rest for *_, rest in crew.notes("begin")] == [f"{ids[0]} 0", f"{ids[0]} 1"]
    state = crew.get()
    assert state["crashes"] >= 1
    assert "signal 9" in state["processes"][0]["reason"]


def test_failing_ones_are_tried_ever_more_rarely_and_for_ever(crew):
    crew = crew("min = 1  max = 1", "fail_while_broken")
    crew.wait_running(1)
    crew.touch("broken")
    os.kill(crew.pids()[0], signal.SIGKILL)

    def ends():
        return [line.split()[0] for line in list(crew.proxy.log) if "ended after" in line]
    crew.poll(lambda: len(ends()) == 5, "five failures", 30)
    times = ends()
    state = crew.wait(lambda crew: crew["backing_off"] == 1, "a back-off")

    seconds = [float(text[17:23]) + 60 * float(text[14:16]) for text in times]
    waits = [(b - a) % 3600 for a, b in zip(seconds, seconds[1:])]
    assert len(waits) == 4 and waits[0] >= 0.5 and waits[1] >= 1 and waits[2] >= 2 and waits[3] >= 4, waits
    assert state["state"] == "crashing"
    assert "exit code 3" in state["reason"]
    assert len(crew.events("worker-failed")) == 3      # the 1st, the 2nd, the 4th
    (crew.proxy.directory / "broken").unlink()
    crew.wait_running(1, 20)
    crew.wait_ended(crew.publish())


# --- ends


def test_a_drain_lets_a_worker_finish_what_it_has(crew):
    crew = crew()
    gate = crew.proxy.directory / "gate"
    crew.publish(until=str(gate))
    crew.publish(3)
    crew.wait(lambda crew: crew["busy"] == 1, "a message at work")

    crew.proxy.terminate()
    crew.proxy.wait_log("draining")
    gate.touch()
    assert crew.proxy.wait() == 0

    assert crew.ended() == [0]      # and nothing new was begun
    assert len(crew.notes("begin")) == 1
    assert not any(map(is_there, crew.pids()))
    crew.proxy.start_again()
    crew.wait_ended([1, 2, 3], 30)
    assert [rest for *_, rest in crew.notes("begin")].count("0 0") == 1
    assert "0 1" not in [rest for *_, rest in crew.notes("begin")]      # it was acknowledged


def test_a_drain_ends_in_time_whatever_a_worker_does(crew):
    crew = crew("min = 1  max = 1", "ignore_sigterm", drain="1s")
    crew.publish(until="/never")
    crew.wait(lambda crew: crew["busy"] == 1, "a message at work")

    since = time.monotonic()
    crew.proxy.terminate()
    assert crew.proxy.wait() == 0

    assert time.monotonic() - since < 10    # less than stop-timeout
    assert not any(map(is_there, crew.pids()))
    assert "killed, as it did not end" in crew.proxy.errors


def test_who_ignores_sigterm_is_killed_after_stop_timeout(crew):
    crew = crew("min = 1  max = 1  stop-timeout = 300ms", "ignore_sigterm")
    crew.wait_running(1)
    pid, = crew.pids()

    crew.post("/api/workers/crew/pause")

    crew.wait(lambda crew: not crew["processes"], "no process")
    assert not is_there(pid)
    assert crew.get()["kills"] == 1
    assert crew.events("worker-killed")


def test_nothing_is_left_when_maitred_is_killed(crew):
    crew = crew("min = 2  max = 2", "have_children ignore_sigterm")
    crew.wait_running(2)
    all_of_them = [*crew.pids(), *(int(rest) for *_, rest in crew.notes("child")), crew.keeper()]
    assert len(all_of_them) == 7 and all(map(is_there, all_of_them))

    crew.proxy.kill()

    crew.wait_gone(all_of_them)
    crew.proxy.start_again()        # and nothing of it is adopted
    crew.wait_running(2, 30)


def test_what_a_worker_leaves_behind_in_its_group_goes_with_it(crew):
    crew = crew("min = 1  max = 1", "have_children")
    crew.wait_running(1)
    child = int(crew.notes("child")[0][3])

    os.kill(crew.pids()[0], signal.SIGKILL)

    crew.wait_gone([child])


def children_of(crew, workers):
    """Those in their groups, and those that have left them."""
    each = [[int(rest) for pid, _, _, rest in crew.notes("child") if pid == worker] for worker in workers]
    return [first for first, _ in each], [second for _, second in each]


def test_another_keeper_takes_the_place_of_one_that_was_killed(crew):
    crew = crew("min = 2  max = 2", "have_children")
    crew.wait_running(2)
    before, keeper = crew.pids(), crew.keeper()
    in_groups, strays = children_of(crew, before)

    os.kill(keeper, signal.SIGKILL)

    crew.wait_gone([*before, *in_groups, *strays])
    crew.poll(lambda: len(crew.pids()) == 4, "two others")
    crew.wait_running(2)
    assert crew.keeper() != keeper
    assert crew.events("keeper-lost")
    crew.wait_ended(crew.publish(5))


def test_a_keeper_that_was_stopped_does_not_hold_up_a_drain(crew):
    crew = crew(drain="1s")
    crew.wait_running(1)

    os.kill(crew.keeper(), signal.SIGSTOP)
    crew.proxy.terminate()

    assert crew.proxy.wait(25) == 0
    assert not is_there(crew.pids()[0])


def test_a_house_without_workers_has_no_keeper(maitred):
    proxy = maitred(house('workers crew { queue = jobs  min = 2  max = 4 }'))
    crew = Crew(proxy)

    state = crew.wait(lambda crew: crew["desired"] == 2, "a decision")

    assert state["processes"] == []
    assert children(proxy.pid) == []


def test_the_keeper_and_the_workers_have_none_of_maitreds_descriptors(crew):
    crew = crew()
    crew.wait_running(1)

    keeper = sorted(os.readlink(f"/proc/{crew.keeper()}/fd/{fd}").split(":")[0] for fd in os.listdir(f"/proc/{crew.keeper()}/fd"))
    worker = {int(fd): os.readlink(f"/proc/{crew.pids()[0]}/fd/{fd}") for fd in os.listdir(f"/proc/{crew.pids()[0]}/fd")}

    assert keeper == ["/dev/null"] * 4 + ["anon_inode", "socket"]
    assert worker[0] == "/dev/null" and worker[1] == worker[2] and worker[1].startswith("pipe:")
    assert not any(str(crew.proxy.directory / "state") in path for path in worker.values())
    assert not any(path.startswith("anon_inode:[signalfd]") for path in worker.values())


# --- reload


def test_a_reload_that_changes_nothing_restarts_nothing(crew):
    crew = crew("min = 2  max = 2")
    crew.wait_running(2)

    crew.proxy.reload()
    crew.proxy.reload(house(section("min = 2  max = 3  cooldown = 5s  drain-target = 3s")))

    assert crew.wait_running(2)["max"] == 3
    assert len(crew.pids()) == 2


def test_a_reload_changes_how_many_there_are_at_once(crew):
    crew = crew("min = 1  max = 1")
    crew.wait_running(1)

    crew.proxy.reload(house(section("min = 3  max = 3")))
    crew.wait_running(3)
    crew.proxy.reload(house(section("min = 0  max = 2")))
    crew.wait_running(2)

    assert len(crew.pids()) == 3
    assert [process["number"] for process in crew.processes()] == [1, 2] or len(crew.processes()) == 2


def test_another_command_takes_over_one_by_one_and_loses_nothing(crew):
    crew = crew("min = 3  max = 3")
    crew.wait_running(3)
    old = crew.pids()
    gate = crew.proxy.directory / "gate"
    crew.publish(3, until=str(gate))
    crew.wait(lambda crew: crew["busy"] == 3, "all at work")

    crew.proxy.reload(house(section("min = 3  max = 3", "another")))
    crew.wait(lambda crew: crew["stopping"] == 1, "one that stops")
    gate.touch()
    crew.poll(lambda: len(crew.pids()) == 6, "three others")
    crew.wait_running(3)

    assert not any(map(is_there, old))
    assert sorted(crew.ended()) == [0, 1, 2]
    assert [rest.split()[1] for *_, rest in crew.notes("begin")] == ["0"] * 3


def test_a_command_that_does_not_work_leaves_the_others_as_they_are(crew):
    crew = crew("min = 3  max = 3")
    crew.wait_running(3)
    old = crew.pids()

    crew.touch("broken")
    crew.proxy.reload(house(section("min = 3  max = 3", "fail_while_broken")))
    crew.wait(lambda crew: crew["backing_off"] == 1 and crew["idle"] == 2, "one that fails")
    crew.poll(lambda: len(crew.pids()) >= 5, "one that fails again")

    assert len([pid for pid in old if is_there(pid)]) == 2
    (crew.proxy.directory / "broken").unlink()
    crew.poll(lambda: not any(map(is_there, old)), "the others' end", 15)
    crew.wait_running(3)


def test_sections_come_and_go(crew):
    crew = crew()
    crew.wait_running(1)
    other = Crew(crew.proxy, "other", "more")
    pid, = crew.pids()

    crew.proxy.reload(house(section("min = 1  max = 1", name="other", queue="more"), "queue more {}"))

    other.wait_running(1)
    crew.poll(lambda: not is_there(pid), "the end of the first")
    crew.get(expect=404)
    other.wait_ended(other.publish())


def test_many_reloads_restart_nothing_and_leave_nothing(crew):
    general = "queue more {}\n"
    crew = crew(general=general)
    crew.wait_running(1)
    before = crew.proxy.descriptors()

    for n in range(40):
        extra = 'gauge load { full = 5 }\n' + section("min = 0  max = 1  gauge = load", name="other", queue="more") if n % 2 else ""
        crew.proxy.reload(house(section(f"min = 1  max = {n % 3 + 1}") + extra, general))
    crew.proxy.reload(house(section("min = 1  max = 1"), general))

    crew.wait_running(1)
    assert len(crew.pids()) == 1
    assert [section["name"] for section in crew.admin.state()["workers"]] == ["crew"]
    crew.poll(lambda: len(crew.proxy.descriptors()) <= len(before), "as many descriptors as before")


def test_a_worker_finishes_what_it_has_when_its_section_goes(crew):
    crew = crew()
    gate = crew.proxy.directory / "gate"
    crew.publish(until=str(gate))
    crew.wait(lambda crew: crew["busy"] == 1, "a message at work")

    crew.proxy.reload(house(""))
    gate.touch()

    crew.poll(lambda: crew.ended() == [0], "its end")
    crew.poll(lambda: not is_there(crew.pids()[0]), "the end of the process")
    crew.admin.wait(lambda state: all(queue["in_flight"] == queue["ready"] == 0 for queue in state["queues"]), "an empty queue")


def test_an_upgrade_starts_workers_of_its_own(crew):
    crew = crew(drain="3s")
    crew.wait_running(1)
    old, = crew.pids()

    crew.proxy.upgrade()

    crew.poll(lambda: not is_there(old), "the end of the old one")
    crew.poll(lambda: len(crew.pids()) == 2, "another")
    crew.wait_running(1)
    crew.wait_ended(crew.publish(5))
