"""The keeper of the workers: when it is slow, mute, or killed, and what is left then of the processes that it had."""
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from kit.process import Stage
from kit.workers import Crew, children, command, house, is_there, section


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


AS_NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


@pytest.fixture
def open_stage():
    """One whose folder others than root can enter."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        stage = Stage(folder)
        yield stage
        stage.close()


def set_uid_python(folder):
    """Who starts it can become root, and then is not to be signalled by whom he was."""
    program = shutil.copy("/usr/bin/python3", folder / "python")
    os.chmod(program, 0o4755)
    return program


def test_one_that_may_not_be_killed_keeps_nobody_else_from_running(open_stage):
    become_root = f"{set_uid_python(open_stage.directory)} -c 'import os, time; os.setuid(0); print(os.getpid(), flush=True); time.sleep(600)'"
    proxy = open_stage.maitred(house(f'workers stuck {{ queue = jobs  command = "{become_root}"  min = 1  max = 1  stop-timeout = 500ms }}\n'
                                     'workers others { queue = more  command = "sleep 600"  min = 2  max = 2 }\n', "queue more {}"),
                               wrapper=AS_NOBODY)
    stuck, others = Crew(proxy, "stuck"), Crew(proxy, "others")
    first = int(proxy.wait_log(r"stuck/1: \d+$").rpartition(" ")[2])
    others.wait(lambda state: state["starts"] == 2, "two")
    keeper = others.keeper()
    seen = [first]
    try:
        stuck.post("/api/workers/stuck/restart")
        seen.append(int(proxy.wait_log(rf"stuck/1: (?!{first}$)\d+$").rpartition(" ")[2]))

        event, = stuck.events("worker-stuck")
        assert f"stuck/1: process {first} " in event["text"] and "another user" in event["text"]
        assert is_there(first) and others.keeper() == keeper
        assert others.get()["starts"] == 2 and others.get()["crashes"] == 0
        proxy.terminate()
        assert proxy.wait(30) == 0
    finally:
        for pid in seen:
            if is_there(pid):
                os.kill(pid, signal.SIGKILL)


def test_who_kills_by_the_name_of_maitred_does_not_kill_the_keeper(crew):
    crew = crew()
    crew.wait_running(1)

    process = Path(f"/proc/{crew.keeper()}")

    assert (process / "comm").read_text() == "workers-keeper\n"
    assert b"maitred" not in (process / "cmdline").read_bytes()


def test_what_maitred_had_as_a_child_before_outlives_a_keeper(maitred):
    begin = 'sleep 600 >/dev/null 2>&1 & exec "$@"'      # as the entrypoint of a container does
    crew = Crew(maitred(house(section("min = 1  max = 1", "have_children")), wrapper=["sh", "-c", begin, "sh"]))
    crew.wait_running(1)
    keeper = crew.keeper()
    others = [pid for pid in children(crew.proxy.pid) if pid != keeper]
    strays = [int(rest) for *_, rest in crew.notes("child")]
    try:
        os.kill(keeper, signal.SIGKILL)

        crew.wait_gone(strays)
        crew.wait_running(1, 30)
        assert len(others) == 1 and is_there(others[0])
    finally:
        for pid in others:
            os.kill(pid, signal.SIGKILL)


def test_who_takes_over_is_not_a_child_of_the_one_before_and_outlives_its_keeper(crew):
    crew = crew("min = 1  max = 1  stop-timeout = 5s", "have_children ignore_sigterm")
    crew.wait_running(1)
    before, keeper = crew.proxy.pid, crew.keeper()
    crew.proxy.upgrade()
    status = Path(f"/proc/{crew.proxy.pid}/status").read_text()

    os.kill(keeper, signal.SIGKILL)

    assert f"PPid:\t{before}\n" not in status
    crew.wait_running(1, 30)
    assert crew.proxy.past[-1].wait(20) == 0
    assert crew.keeper() != keeper


# A daemon that nobody may look at, as ssh-agent is one.
HIDDEN = """
import ctypes, os, time
pid = os.fork()
if pid == 0:
    os.setsid()
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        os._exit(0)
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)      # PR_SET_DUMPABLE
    time.sleep(600)
time.sleep(600)
"""
HIDE = 'mount -t proc -o hidepid=invisible proc /proc && exec "$@"'


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_what_cannot_be_seen_in_proc_ends_too(open_stage, end):
    wrapper = ["unshare", "-m", "sh", "-c", HIDE, "sh"]
    if subprocess.run([*wrapper, "true"], capture_output=True).returncode:
        pytest.skip("no mounts here")
    program = open_stage.directory / "hidden.py"
    program.write_text(HIDDEN)
    proxy = open_stage.maitred(house(f'workers crew {{ queue = jobs  command = "/usr/bin/python3 {program}"  min = 1  max = 1 }}\n', drain="1s"),
                               wrapper=[*wrapper, *AS_NOBODY])
    hidden = int(proxy.wait_log(r"crew/1: \d+$").rpartition(" ")[2])
    crew = Crew(proxy)
    keeper = crew.keeper()

    getattr(proxy, end)()

    try:
        crew.wait_gone([hidden, keeper])
    finally:
        if is_there(hidden):
            os.kill(hidden, signal.SIGKILL)
    if end == "kill":
        proxy.start_again()     # everyone ends with exit code 0


def behind_a_shell(words, options):
    inner = command(words)
    return f'workers crew {{ queue = jobs  command = "sh -c \'{inner}; true\'"  min = 1  max = 1  {options} }}\n'


def test_the_program_behind_a_shell_may_finish_its_own_end(maitred):
    crew = Crew(maitred(house(behind_a_shell("end_slowly", "stop-timeout = 20s"))))
    crew.wait_running(1)

    crew.post("/api/workers/crew/pause")

    crew.poll(lambda: crew.notes("cleans"), "its cleaning up")
    crew.wait(lambda state: state["stopping"] == 1, "one that stops")
    time.sleep(0.3)
    assert crew.get()["stopping"] == 1
    crew.touch("may-end")
    crew.wait(lambda state: not state["processes"], "none")
    assert crew.notes("clean") and crew.get()["kills"] == 0


def test_the_program_behind_a_shell_is_killed_after_stop_timeout(maitred):
    crew = Crew(maitred(house(behind_a_shell("ignore_sigterm", "stop-timeout = 500ms"))))
    crew.wait_running(1)

    crew.post("/api/workers/crew/pause")

    crew.wait_gone(crew.pids())
    crew.wait(lambda state: not state["processes"], "none")
    assert crew.get()["kills"] == 1


def test_the_program_behind_a_shell_that_is_killed_goes_at_once(maitred):
    crew = Crew(maitred(house(behind_a_shell("ignore_sigterm", "stop-timeout = 60s"))))
    crew.wait_running(1)
    program, = crew.pids()
    shell = int(Path(f"/proc/{program}/stat").read_text().rpartition(")")[2].split()[1])

    os.kill(shell, signal.SIGKILL)

    crew.wait_gone([program], 3)
