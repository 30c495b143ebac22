"""`maitred demo` as somebody sees it: while it tells a step, the admin address says that it is so. Nothing of it stays."""
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import zlib

import pytest

from kit.admin import Admin
from kit.diner import Diner, free_prefix, left_running
from kit.process import BINARY, ROOT, free_port, run
from kit.wire import connect, request

STEP_SECONDS = 5
END_SECONDS, SETTLE_SECONDS = 20, 60
SERVERS = ("01", "02", "03")


class Demo(Diner):
    def __init__(self, folder, *options, program=(BINARY, "demo"), **settings):
        super().__init__(folder, *program, "--seconds", str(STEP_SECONDS), *options, seconds=400, **settings)
        self.admin = Admin(("127.0.0.1", int(f"{self.servers}00")))

    def begin(self, title):
        """Waits for that step, and returns the errors of the listener until then."""
        self.wait_line(rf"^\d+/\d+  {title}")
        return self.errors()

    def result(self):
        """How the step went, as one line."""
        lines = [self.wait_line("^   =>")]
        while line := self.wait_line(""):
            lines.append(line.strip())
        return " ".join(lines)

    def server(self, end, pool="web"):
        return self.admin.server(f"127.0.0.1:{self.servers}{end}", pool)

    def listener(self, state=None):
        return next(each for each in (state or self.admin.state())["listeners"] if each["kind"] == "http")

    def errors(self):
        return self.listener()["errors"]

    def queue(self, name, state=None):
        return next(each for each in (state or self.admin.state())["queues"] if each["name"] == name)

    def wait(self, condition, what, seconds=2 * STEP_SECONDS):
        """Looks now and then: maitred has one thread, and a demo to serve."""
        def look(state):
            time.sleep(0.1)
            return condition(state)
        return self.admin.wait(look, what, seconds)


@pytest.fixture
def opened(tmp_path):
    demos = []

    def open_(*options, **settings):
        """Once more where somebody else was faster to take a port."""
        for _ in range(3):
            demos.append(Demo(tmp_path, *options, **settings))
            if not re.match(r"demo: port \d+ is taken", demos[-1].wait_line("")):
                break
        return demos[-1]
    yield open_
    for demo in demos:
        demo.close(signal.SIGTERM)
        print("\n".join(demo.lines))
        left = left_running(demo.logs)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, f"left running: {left}"


def figure(pattern, line):
    found = re.search(pattern, line)
    assert found, f"{pattern!r} is not in: {line}"
    return int(found[1].replace(",", ""))


def test_every_step_is_as_it_says(opened):
    demo = opened()
    assert demo.lines[0] == f"The page:  http://127.0.0.1:{demo.servers}00/"
    a_quiet_evening(demo)
    one_server_drowns(demo)
    three_servers(demo)
    a_server_dies(demo)
    who_keeps_the_table(demo)
    published = a_flood_without_a_queue(demo)
    a_flood_into_a_queue(demo, published)
    workers_are_called_in(demo)
    a_slow_database(demo)
    demo.wait_line("^That was the story")
    assert demo.admin.state()["state"] == "up"
    assert demo.close(signal.SIGINT) == 0
    assert not left_running(demo.logs)


def a_quiet_evening(demo):
    errors = demo.begin("A quiet evening")
    assert demo.admin.state()["state"] == "up"
    assert "; 0 errors; " in demo.result()
    assert demo.errors() == errors


def one_server_drowns(demo):
    demo.begin("One server drowns")
    demo.wait(lambda state: demo.listener(state)["latency"]["p50_ms"] > 500, "latency of half a second")
    assert [demo.server(end)["state"] for end in SERVERS] == ["up", "draining", "draining"]
    assert demo.server("01")["active"] > 100
    assert figure(r"half within ([\d,]+) ms", demo.result()) > 500


def three_servers(demo):
    errors = demo.begin("Three servers")
    before = [demo.server(end)["requests"] for end in SERVERS]
    line = demo.result()
    shares = [demo.server(end)["requests"] - old for end, old in zip(SERVERS, before)]
    assert figure(r"half within ([\d,]+) ms", line) < 250
    assert shares[0] > shares[1] > shares[2] > figure(r"([\d,]+) came", line) / 10
    assert demo.errors() == errors


def a_server_dies(demo):
    errors = demo.begin("A server dies")
    demo.wait_line("is killed: kill -9")
    demo.wait(lambda _: demo.server("02")["state"] in ("down", "ejected"), "a server that is down")
    demo.wait_line("is started again")
    line = demo.result()
    assert "; 0 errors; " in line and line.endswith(" is back")
    assert demo.server("02")["state"] == "up"
    assert demo.errors() == errors


def who_keeps_the_table(demo):
    demo.begin("Who keeps the table")
    demo.wait(lambda _: demo.server("02", "menus")["state"] == "draining", "a server that leaves")
    line = demo.result()
    moved, modulo = figure(r"tables (\d+) have another", line), figure(r"would have moved (\d+)", line)
    assert 0 < moved < modulo
    assert ", 0 of them without need; " in line and "; and 0 when it is back" in line
    assert demo.server("02", "menus")["state"] == "up"


def a_flood_without_a_queue(demo):
    errors = demo.begin("A flood without a queue")
    demo.wait(lambda state: demo.errors() > errors + 100, "errors")
    published = demo.queue("orders")["totals"]["published"]
    assert figure(r"([\d,]+) errors", demo.result()) > 100
    return published


def a_flood_into_a_queue(demo, published):
    errors = demo.begin("The same flood into a queue")
    demo.wait(lambda state: demo.queue("orders", state)["ready"] > 100, "a backlog")
    line = demo.result()
    sent = figure(r"([\d,]+) came", line)
    assert f"{sent:,} were told yes (202); 0 errors; " in line
    assert demo.queue("orders")["totals"]["published"] - published == sent
    assert demo.errors() == errors
    demo.wait(lambda state: demo.queue("orders", state)["ready"] == 0, "the end of the backlog")


def crew(state):
    return next(each for each in state["workers"] if each["name"] == "thumbnailer")


def workers_are_called_in(demo):
    errors = demo.begin("Workers are called in")
    grown = crew(demo.wait(lambda state: crew(state)["running"] >= 3, "growth"))["running"]
    demo.wait_line("No more photos")
    demo.wait(lambda state: demo.queue("thumbnails", state)["ready"] == 0, "the end of the backlog", SETTLE_SECONDS)
    line = demo.result()
    first, most, last = (int(each) for each in re.search(r"went from (\d+) to (\d+), then to (\d+),", line).groups())
    assert first < grown <= most > last
    assert "; 0 errors; " in line and demo.errors() == errors


def a_slow_database(demo):
    errors = demo.begin("The database is slow")
    demo.wait(lambda state: state["gauges"][0]["state"] == "full", "a full gauge", SETTLE_SECONDS)
    held = crew(demo.wait(lambda state: crew(state)["state"] == "held", "workers that are held", SETTLE_SECONDS))
    assert held["running"] < held["max"]
    demo.wait(lambda state: state["bottleneck"]["layer"] == "database", "a bottleneck that is the database", SETTLE_SECONDS)
    line = demo.result()
    assert figure(r"; (\d+) of 20 connections", line) >= 18 and "workers are held at " in line
    assert "bottleneck is the database" in line
    assert "; 0 errors; " in line and line.endswith(" photos waited, now 0")
    assert demo.errors() == errors


def test_nothing_stays_of_it_when_it_is_killed(opened):
    demo = opened("--step", "8")
    demo.begin("Workers are called in")
    demo.wait(lambda state: crew(state)["busy"] >= 2, "workers at work")
    assert len(left_running(demo.logs)) > 14
    demo.process.kill()
    end = time.monotonic() + END_SECONDS
    while left := left_running(demo.logs):
        assert time.monotonic() < end, f"left running: {left}"
        time.sleep(0.05)


def test_it_can_be_interrupted_within_a_step(opened):
    demo = opened("--step", "2")
    demo.begin("One server drowns")
    demo.wait(lambda state: demo.server("01")["active"] > 10, "guests")
    assert demo.close(signal.SIGINT) == 0


def test_at_a_terminal_enter_goes_on_and_nothing_else(opened):
    master, slave = pty.openpty()
    demo = opened("--step", "4", stdin=slave)
    os.close(slave)
    demo.begin("A server dies")
    demo.wait_line("Enter goes on")
    heard = threading.Thread(target=demo.result)
    heard.start()
    heard.join(2 * STEP_SECONDS)
    assert heard.is_alive(), "it went on by itself"
    os.write(master, b"\n")
    heard.join(END_SECONDS)
    assert not heard.is_alive()
    demo.begin("Who keeps the table")
    demo.wait_line("Enter goes on")
    os.write(master, b"b\n")
    demo.begin("A server dies")
    demo.wait_line("Enter goes on")
    os.write(master, b"q\n")
    assert demo.process.wait(END_SECONDS) == 0
    os.close(master)


def test_before_the_first_step_there_is_none(opened):
    master, slave = pty.openpty()
    demo = opened(stdin=slave)
    os.close(slave)
    demo.begin("A quiet evening")
    demo.wait_line("Enter goes on")
    os.write(master, b"b\n")
    demo.result()
    assert demo.wait_line(r"^\d+/\d+  ").endswith("A quiet evening")
    demo.wait_line("Enter goes on")
    os.write(master, b"q\n")
    assert demo.process.wait(END_SECONDS) == 0
    os.close(master)


def test_the_tables_that_readme_counts_are_those_of_the_default_ports():
    """Which they are follows from the servers' names, so those of a test's own ports are others."""
    environment = {name: value for name, value in os.environ.items() if name != "SERVERS"}
    tables = [str(table) for table in range(300)]
    ring = subprocess.run([BINARY, "ring", "examples/diner/maitred.conf", "menus", *tables], cwd=ROOT, env=environment,
                          capture_output=True, text=True, timeout=20, check=True).stdout
    owners = dict(re.findall(r"^(\d+) +127.0.0.1:(\d+)$", ring, re.MULTILINE))
    assert list(owners) == tables
    hashes = [zlib.crc32(table.encode()) for table in tables]
    modulo = sum(each % 3 != (0, 2)[each % 2] for each in hashes)     # of three servers the second leaves
    assert (f"of 300 tables {list(owners.values()).count('9002')} have another server with the hash ring, "
            f"{modulo} with a hash modulo N") in (ROOT / "README.md").read_text()


def script_in(folder, is_tree):
    """The command for a copy of it, as in a source tree or as installed, with no LOGS: the folder is its own choice."""
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    if is_tree:
        (folder / "meson.build").touch()
    return "env", "-u", "LOGS", folder / "examples" / "diner" / "demo"


def again(demo, program, **environment):
    """Another one with the ports of demo, unless environment says otherwise."""
    return subprocess.run(program, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, env={
        **os.environ, "PORT": str(demo.port), "SERVERS": str(demo.servers), "MAITRED": str(BINARY), **environment})


def answered(demo, method, target, body=b""):
    peer = connect(("127.0.0.1", demo.port))
    try:
        return peer.ask(request(method, target, body=body), method)
    finally:
        peer.close()


def test_a_second_one_leaves_the_first_alone(opened, tmp_path):
    program = script_in(tmp_path, is_tree=True)
    (tmp_path / "build" / "demo" / "state").mkdir(parents=True)
    (tmp_path / "build" / "demo" / "state" / "old").touch()
    demo = opened("--seconds", "60", program=program)
    demo.begin("A quiet evening")
    assert not (tmp_path / "build" / "demo" / "state" / "old").exists()

    second = again(demo, program)
    assert second.returncode == 1 and f"demo: port {demo.port} is taken" in second.stderr
    prefix = free_prefix()
    third = again(demo, program, PORT=str(free_port()), SERVERS=str(prefix))
    assert third.returncode == 1, third
    assert third.stderr.startswith("demo: another diner, which is open, has its queue and its database in build/demo; ")
    assert "for another folder: LOGS=FOLDER " in third.stderr

    order = json.loads(answered(demo, "POST", "/orders", b"2=pies").body)["id"]
    end = time.monotonic() + END_SECONDS
    while answered(demo, "GET", f"/api/orders/{order}").status != 200:
        assert time.monotonic() < end, "the order is not cooked"
        time.sleep(0.1)


def test_where_it_is_installed_nothing_stays_on_disk(opened, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    program = script_in(tmp_path, is_tree=False)
    demo = opened(program=program)
    demo.begin("A quiet evening")
    folder, = (tmp_path / "tmp").iterdir()
    assert (folder / "maitred.log").exists()
    assert again(demo, program).returncode == 1
    assert list((tmp_path / "tmp").iterdir()) == [folder]
    assert demo.close(signal.SIGINT) == 0
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_port_of_another_part_is_refused():
    prefix = free_prefix()
    for settings, part in ((dict(PORT=f"{prefix}01"), f"PORT={prefix}01: a server of the diner"),
                           (dict(AMQP=f"{prefix}00", PORT=""), f"AMQP={prefix}00: ADMIN"),
                           (dict(PORT="80808"), "PORT=80808: it is a number from 1 to 65535")):
        wrong = subprocess.run([BINARY, "demo"], capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, env={
            **os.environ, "PORT": str(free_port()), "SERVERS": str(prefix), **settings})
        assert wrong.returncode == 1 and wrong.stderr.startswith(f"demo: {part}"), wrong


def test_a_port_is_taken_also_where_only_ipv6_has_it():
    try:
        sock = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"no IPv6: {error}")
    with sock:
        port = sock.getsockname()[1]
        wrong = subprocess.run([BINARY, "demo"], capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, env={
            **os.environ, "PORT": str(port), "SERVERS": str(free_prefix())})
    assert wrong.returncode == 1 and wrong.stderr.startswith(f"demo: port {port} is taken"), wrong


@pytest.mark.parametrize("command, status, told", [
    ("head -1", 0, ""), (None, 1, "demo: cannot write to standard output: No space left on device\n")])
def test_it_ends_when_nobody_can_read_it(tmp_path, command, status, told):
    """As a story into a pipe that is closed, or onto a full disk."""
    demo = f"'{BINARY}' demo --seconds 1 " + (f"| {command}" if command else "> /dev/full")
    ended = subprocess.run(["bash", "-o", "pipefail", "-c", demo], capture_output=True, text=True, timeout=60,
                           stdin=subprocess.DEVNULL, env={
                               **os.environ, "PORT": str(free_port()), "SERVERS": str(free_prefix()),
                               "LOGS": str(tmp_path / "logs"), "MAITRED": str(BINARY)})
    assert (ended.returncode, ended.stderr) == (status, told)
    assert not left_running(tmp_path / "logs")


PIKA_FOR_SOME = """import sys
if sys.argv[0].endswith("thumbnailer.py"):
    raise ImportError("not for you")
"""


def test_without_pika_it_does_not_open(tmp_path, monkeypatch):
    (tmp_path / "pika.py").write_text("raise ImportError('there is none')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    wrong = subprocess.run([BINARY, "demo"], capture_output=True, text=True, timeout=20)
    assert wrong.returncode == 1
    assert wrong.stderr == ("demo: the workers need pika, a module of Python (there is none); "
                            "on Debian: apt-get install python3-pika\n")


def test_workers_that_crash_are_told_with_the_reason(opened, tmp_path, monkeypatch):
    (tmp_path / "pika.py").write_text(PIKA_FOR_SOME)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    demo = opened("--step", "8")
    demo.begin("Workers are called in")
    assert re.search("photos waited; workers thumbnailer crash: .*exit", demo.result())


def test_what_it_does_not_know_is_an_error():
    for options in (["--step", "0"], ["--step", "99"], ["--seconds", "0"], ["--nothing"]):
        wrong = run("demo", *options)
        assert wrong.returncode == 2 and "usage: maitred demo" in wrong.stderr


def test_it_is_found_where_it_was_installed(tmp_path):
    (tmp_path / "bin").mkdir()
    copy = tmp_path / "bin" / "maitred"
    copy.write_bytes(BINARY.read_bytes())
    copy.chmod(0o755)
    missing = subprocess.run([copy, "demo", "--list"], capture_output=True, text=True, timeout=20)
    assert missing.returncode == 1
    assert f"{tmp_path}/bin/../share/maitred/examples/diner" in missing.stderr
    (tmp_path / "share" / "maitred").mkdir(parents=True)
    (tmp_path / "share" / "maitred" / "examples").symlink_to(ROOT / "examples")
    listed = subprocess.run([copy, "demo", "--list"], capture_output=True, text=True, timeout=20)
    assert listed.returncode == 0 and listed.stdout.startswith("1  A quiet evening\n")
