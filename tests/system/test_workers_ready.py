"""Workers that live and take no messages: whether that is noticed, and what becomes of them."""
import os
import signal

import pytest

from kit.workers import PROGRAM, SERVICE, Crew, house, is_there, section

SOON = "min = 1  max = 1  start-timeout = 3s"


@pytest.fixture
def consumers(maitred):
    def start(options=SOON, words="", **others):
        return Crew(maitred(house(section(options, words), **others)))
    return start


@pytest.fixture
def services(maitred):
    def start(options=SOON, words="", **others):
        return Crew(maitred(house(section(f"kind = http  {options}", words, program=SERVICE), **others)))
    return start


def wait_other(crew, pid):
    """It was killed, and another process has taken its place."""
    crew.poll(lambda: crew.pids()[-1] != pid, "another process", 20)
    assert not is_there(pid)


# --- consumers


def test_a_consumer_that_lost_its_connection_is_not_ready_and_another_takes_its_place(consumers):
    crew = consumers()
    crew.publish(then="leave")
    crew.poll(lambda: crew.notes("hangs"), "a worker without a connection")
    pid, = crew.pids()

    ids = crew.publish(3)
    crew.wait(lambda crew: crew["starting"] == 1 and crew["idle"] == 0, "a worker that is not ready")
    wait_other(crew, pid)

    crew.wait_ended(ids)
    event, = crew.events("worker-killed")
    assert "had no consumer of queue jobs" in event["text"] and "AMQP_URL" in event["text"]
    state = crew.get()
    assert state["kills"] == state["crashes"] == 1 and "signal 9" in state["processes"][0]["reason"]


def test_a_consumer_that_never_consumes_is_killed_and_another_takes_its_place(consumers):
    crew = consumers(words="hang_once")
    ids = crew.publish(2)
    crew.poll(lambda: crew.notes("hangs"), "a worker that does not connect")
    assert crew.get()["starting"] == 1

    wait_other(crew, crew.pids()[0])

    crew.wait_ended(ids)
    assert crew.get()["crashes"] == 1


def test_a_stopped_consumer_loses_its_channel_by_ack_timeout_and_then_its_place(consumers):
    crew = consumers(queue="ack-timeout = 1s  retry { first = 10ms  most = 10ms }")
    crew.wait_running(1)
    pid, = crew.pids()

    os.kill(pid, signal.SIGSTOP)
    ids = crew.publish(3)
    wait_other(crew, pid)

    crew.wait_ended(ids)
    assert crew.get()["kills"] == 1


def test_one_that_consumes_or_has_a_message_is_left_alone_for_ever(consumers):
    crew = consumers("min = 2  max = 2  start-timeout = 3s")
    crew.wait_running(2)
    crew.publish(seconds=6)
    crew.wait_ended([0])

    state = crew.get()
    assert state["starts"] == 2 and state["kills"] == state["crashes"] == 0


def test_one_that_asks_for_each_message_is_ready_while_it_asks(consumers):
    crew = consumers(words="ask")
    crew.wait(lambda crew: crew["idle"] == 1, "a worker that has asked")
    asked = len(crew.notes("nothing"))
    crew.poll(lambda: len(crew.notes("nothing")) > asked + 100, "100 questions, in more than five seconds", 30)
    crew.wait_ended(crew.publish(3))

    assert crew.get()["kills"] == 0
    pid, = crew.pids()

    crew.publish(then="leave")
    crew.poll(lambda: crew.notes("hangs"), "a worker without a connection")
    wait_other(crew, pid)
    crew.wait_ended(crew.publish())


# --- services without a health path


def test_a_service_that_closed_its_port_is_not_well_and_another_takes_its_place(services):
    crew = services()
    crew.publish(then="deaf")
    crew.poll(lambda: crew.notes("hangs"), "a service without a port")
    pid, = crew.pids()

    crew.wait(lambda crew: crew["starting"] == 1 and crew["idle"] == 0, "a service that is not well")
    ids = crew.publish(3)
    wait_other(crew, pid)

    crew.wait_ended(ids)
    assert "not ready at port" in crew.events("worker-killed")[0]["text"]
    state = crew.get()
    assert state["kills"] == state["crashes"] == 1


def test_a_stopped_service_is_found_by_requests_without_an_answer(services):
    crew = services(queue="ack-timeout = 1s  retry { attempts = 0  first = 10ms  most = 10ms }")
    crew.wait_running(1)
    pid, = crew.pids()

    os.kill(pid, signal.SIGSTOP)
    ids = crew.publish(2)
    wait_other(crew, pid)

    crew.wait_ended(ids)
    assert "requests in a row had no answer in time" in crew.events("worker-killed")[0]["text"]


def test_a_service_at_work_that_accepts_nothing_meanwhile_is_left_alone(services):
    crew = services(words="single")

    ids = crew.publish(2, seconds=9)
    crew.wait_ended(ids, 40)

    assert crew.begun() == ["1 false /"] * 2
    state = crew.get()
    assert state["starts"] == 1 and state["kills"] == state["crashes"] == 0
    assert "is not well" not in crew.proxy.errors


# --- those that maitred ends in the middle of a message

LAST = "retry { attempts = 1 }  dead-letter = dead"
KINDS = pytest.mark.parametrize("kind, program", [("consumer", PROGRAM), ("http", SERVICE)])


@pytest.fixture
def at_work(maitred):
    """A worker that does not end by itself, in the middle of a message that has one attempt."""
    def start(kind, program, options="stop-timeout = 300ms", **others):
        words = section(f"kind = {kind}  min = 1  max = 1  {options}", "ignore_sigterm", program=program)
        crew = Crew(maitred(house(words, "queue dead {}", queue=LAST, **others)))
        crew.publish(until=str(crew.proxy.directory / "gate"))
        crew.poll(lambda: crew.notes("begin"), "a message at work")
        return crew
    return start


def wait_done(crew):
    """Its last attempt was not used up."""
    crew.touch("gate")
    crew.wait_ended([0], 20)
    assert crew.queue_state("dead")["ready"] == 0


@KINDS
def test_one_that_is_killed_at_the_end_of_stop_timeout_has_made_no_attempt(at_work, kind, program):
    crew = at_work(kind, program)

    crew.post("/api/workers/crew/pause")
    crew.wait(lambda crew: not crew["processes"], "no process")
    crew.wait_queue(lambda queue: queue["ready"] == 1, "a message that waits again")
    assert crew.get()["kills"] == 1

    crew.post("/api/workers/crew/resume")
    wait_done(crew)


@KINDS
def test_one_that_is_replaced_by_a_reload_has_made_no_attempt(at_work, kind, program):
    crew = at_work(kind, program)

    changed = section(f"kind = {kind}  min = 1  max = 1  slots = 2  stop-timeout = 300ms", program=program)
    crew.proxy.reload(house(changed, "queue dead {}", queue=LAST))
    crew.poll(lambda: len(crew.notes("begin")) == 2, "another delivery")

    wait_done(crew)


@KINDS
def test_one_that_a_drain_cut_off_has_made_no_attempt(at_work, kind, program):
    crew = at_work(kind, program, drain="1s")

    crew.proxy.terminate()
    assert crew.proxy.wait() == 0
    crew.touch("gate")
    crew.proxy.start_again()

    wait_done(crew)


@KINDS
def test_one_that_an_upgrade_cut_off_has_made_no_attempt(at_work, kind, program):
    crew = at_work(kind, program, drain="1s")

    crew.proxy.upgrade()
    crew.poll(lambda: len(crew.notes("begin")) == 2, "another delivery", 20)

    wait_done(crew)


@KINDS
def test_one_that_crashes_has_made_an_attempt(at_work, kind, program):
    crew = at_work(kind, program)

    os.kill(crew.pids()[0], signal.SIGKILL)

    crew.wait_queue(lambda queue: queue["ready"] == 1, "a dead letter", "dead")
    assert len(crew.notes("begin")) == 1
