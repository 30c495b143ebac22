"""Workers that do what no worker should do."""
import re

import pytest

from kit.process import is_sanitized
from kit.workers import Crew, house, is_there, section


def start(maitred, command, options="min = 1  max = 1", **others):
    return Crew(maitred(house(f"workers crew {{ queue = jobs  command = \"{command}\"\n {options} }}", **others)))


def script(crew_or_path, text, mode=0o755):
    crew_or_path.write_text(text)
    crew_or_path.chmod(mode)
    return crew_or_path


@pytest.mark.parametrize("name, mode, text, why", [
    ("missing", None, "", "No such file or directory"),
    ("data", 0o644, "#!/bin/sh\n", "Permission denied"),
    ("broken", 0o755, "#!/no/such/interpreter\n", "No such file or directory"),
    ("folder", "folder", "", "Permission denied"),
])
def test_a_command_that_cannot_be_started_is_said_and_tried_again(maitred, tmp_path, name, mode, text, why):
    if mode == "folder":
        (tmp_path / name).mkdir()
    elif mode is not None:
        script(tmp_path / name, text, mode)
    crew = start(maitred, tmp_path / name)

    state = crew.wait(lambda crew: crew["crashes"] >= 3, "three attempts")

    assert state["state"] == "crashing"
    assert f"{tmp_path / name} cannot be started: {why}" in state["reason"]
    assert state["running"] == 0
    if name == "missing":
        script(tmp_path / name, "#!/bin/sh\necho it is there\nexec sleep 600\n")
        crew.proxy.wait_log("it is there", seconds=15)


def test_one_that_exits_at_once_is_started_again_after_a_while(maitred):
    crew = start(maitred, "true")

    state = crew.wait(lambda crew: crew["crashes"] >= 3 and crew["backing_off"] == 1, "three ends", 15)

    assert "exit code 0" in state["reason"]
    assert state["starts"] <= 5


def test_one_that_never_takes_messages_is_starting_and_can_be_stopped(maitred):
    crew = start(maitred, "sleep 600")
    pid = crew.wait(lambda crew: crew["starting"] == 1 and crew["processes"][0]["pid"], "a process")["processes"][0]["pid"]

    crew.post("/api/workers/crew/pause")
    crew.wait(lambda crew: not crew["processes"], "nobody")

    assert not is_there(pid)


def test_one_that_closes_its_output_works_on(maitred):
    crew = Crew(maitred(house(section("min = 1  max = 1", "close_output"))))

    crew.wait_ended(crew.publish(3))

    assert len(crew.pids()) == 1


def test_100_mb_of_output_are_a_few_lines_and_a_number(maitred, tmp_path):
    program = script(tmp_path / "flood", "#!/usr/bin/python3\nimport os, time\n"
                     "for n in range(1000):\n"
                     "    os.write(1, b''.join(b'line %d of many\\n' % (n * 5000 + i) for i in range(5000)))\n"
                     "time.sleep(600)\n")
    crew = start(maitred, program)

    def count():
        lines = [line for line in list(crew.proxy.log) if "workers crew/1: " in line]
        left_out = sum(int(found[1]) for line in lines if (found := re.search(r"\[(\d+) lines? left out", line)))
        return left_out + sum("of many" in line for line in lines)
    crew.poll(lambda: count() == 5_000_000, "5,000,000 lines, said or counted", 90)

    assert len(crew.proxy.log) < 3000
    assert is_sanitized() or crew.proxy.memory("VmHWM") < 100_000


def test_a_line_that_is_repeated_is_said_once_with_its_number(maitred, tmp_path):
    program = script(tmp_path / "again", "#!/bin/sh\nfor i in $(seq 500); do echo again; done; echo other; exec sleep 600\n")
    crew = start(maitred, program)

    crew.proxy.wait_log(": other$")

    lines = [line.partition("crew/1: ")[2] for line in crew.proxy.log if "workers crew/1: " in line]
    assert lines == ["again", "[the last line came 499 times more]", "other"]


def test_a_line_without_an_end_is_cut_and_strange_bytes_stay_in_it(maitred, tmp_path):
    program = script(tmp_path / "long", "#!/usr/bin/python3\nimport os\n"
                     "os.write(1, b'a\\x1b[31mb\\x00c\\xff\\r\\nx' + b'y' * 5000000)\n")
    crew = start(maitred, program)

    line = crew.proxy.wait_log(": xyyy")

    assert line.endswith("y [4999201 bytes more]")
    assert len(line) < 1024
    assert crew.proxy.wait_log(r"crew/1: a \[31mb c")


def test_a_fork_that_keeps_the_output_open_does_not_keep_the_worker(maitred, tmp_path):
    program = script(tmp_path / "fork", """#!/bin/sh
cd "$(dirname "$0")"
rm -f stray
setsid sh -c 'echo $$ > stray; exec sleep 600' &
until [ -s stray ]; do sleep 0.01; done     # it has left the group
exit 1
""")
    crew = start(maitred, program)

    crew.wait(lambda crew: crew["crashes"] >= 2, "two ends", 15)

    strays = [int((tmp_path / "stray").read_text())]
    assert is_there(strays[0])
    crew.proxy.terminate()
    assert crew.proxy.wait() == 0
    crew.wait_gone(strays)      # they ended with the keeper


def test_arguments_are_words_and_no_shell(maitred, tmp_path):
    program = script(tmp_path / "words", "#!/bin/sh\nfor word in \"$@\"; do echo \"[$word]\"; done\nexec sleep 600\n")
    crew = start(maitred, f"{program} 'one two' $HOME *".replace("$HOME ", "'$HOME' "))

    crew.proxy.wait_log(r"\[\*\]")

    lines = [line.partition("crew/1: ")[2] for line in crew.proxy.log if "workers crew/1: " in line]
    assert lines == ["[one two]", "[$HOME]", "[*]"]
