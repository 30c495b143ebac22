"""The keeper of the workers: when it is slow, mute, or killed, and what is left then of the processes that it had."""
import os
import signal
import threading
import time

import pytest

from kit.workers import Crew, house, section


@pytest.fixture
def crew(maitred):
    def start(options="min = 1  max = 1", words="", **others):
        return Crew(maitred(house(section(options, words), **others)))
    return start


def slow_down(pid, seconds):
    """It runs for a hundredth of that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.005)


def test_a_keeper_that_is_slow_to_start_many_is_not_taken_for_mute(maitred):
    crew = Crew(maitred(house('workers crew { queue = jobs  command = "sleep 600"  min = 1  max = 200 }\n')))
    crew.wait(lambda state: state["starts"] == 1, "one")
    keeper = crew.keeper()
    slow = threading.Thread(target=slow_down, args=(keeper, 14))
    slow.start()
    crew.post("/api/workers/crew/set?count=200")
    slow.join()

    crew.wait(lambda state: state["starts"] == 200, "200 starts", 40)

    assert crew.keeper() == keeper
    assert crew.get()["crashes"] == 0 and not crew.events("keeper-lost")


def test_a_start_that_is_lost_with_the_keeper_is_no_crash(crew):
    crew = crew("min = 0  max = 8")
    crew.post("/api/workers/crew/set?count=1")
    crew.wait_running(1)
    os.kill(crew.keeper(), signal.SIGSTOP)
    crew.post("/api/workers/crew/set?count=8")
    time.sleep(0.3)     # they are asked for

    os.kill(crew.keeper(), signal.SIGKILL)

    crew.wait_running(8, 30)
    state = crew.get()
    assert state["crashes"] == 1    # of the one that ran
    assert len(crew.events("keeper-lost")) == 1 and len(crew.events("worker-failed")) == 1


def test_one_that_waits_for_its_start_is_not_started_when_it_is_not_wanted_any_more(crew):
    crew = crew("min = 0  max = 20")
    crew.post("/api/workers/crew/set?count=1")
    crew.wait_running(1)
    keeper = crew.keeper()
    os.kill(keeper, signal.SIGSTOP)
    crew.post("/api/workers/crew/set?count=20")
    time.sleep(0.3)
    crew.post("/api/workers/crew/set?count=1")
    time.sleep(0.3)
    os.kill(keeper, signal.SIGCONT)

    state = crew.wait(lambda state: state["running"] == 1 and not state["stopping"], "one", 30)

    assert state["starts"] <= 6 and state["crashes"] == 0
