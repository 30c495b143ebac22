"""The example as a user runs it: opened by its own script, visited, robbed of a server, closed."""
import collections
import os
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from kit.process import BINARY, ROOT, SANITIZER, free_port, run
from kit.wire import connect, request

RUN = ROOT / "examples" / "diner" / "run"
ENDS = ("01", "02", "03", "11", "12", "21", "22", "31")      # of the servers' ports


def is_free(port):
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def free_prefix():
    """What the free ports of the servers and the admin listener begin with."""
    return next(prefix for prefix in iter(lambda: free_port() // 100, None)
                if all(is_free(int(f"{prefix}{end}")) for end in ("00", *ENDS)))


def left_running(folder):
    """Every process that was started with this folder for its logs: the pid and what it is."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"LOGS={folder}\0".encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            pass
    return found


class Diner:
    """examples/diner/run with free ports, from a folder that is not the tree, and with its standard input closed."""

    def __init__(self, folder):
        self.logs, self.port, self.servers = folder / "logs", free_port(), free_prefix()
        self.process = subprocess.Popen(
            [RUN], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=lambda: os.close(0),
            env={**os.environ, "PORT": str(self.port), "SERVERS": str(self.servers), "LOGS": str(self.logs),
                 "MAITRED": str(BINARY)})
        self.lines = []
        self.watchdog = threading.Timer(60, self.process.kill)
        self.watchdog.start()

    def wait_open(self):
        """Until it has told everything there is to try."""
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if line.startswith("Ctrl-C closes it"):
                return
        raise AssertionError("it did not open:\n" + "\n".join(self.lines))

    @property
    def pids(self):
        """By name, as it told them."""
        found = (re.match(r"  pid (\d+) +(maitred|\w+ \d+)", line) for line in self.lines)
        return {match[2]: int(match[1]) for match in found if match}

    def close(self, number):
        """Its exit code; everything that it said is in lines."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        if not self.process.stdout.closed:
            self.lines += self.process.communicate()[0].splitlines()
        self.watchdog.cancel()
        return self.process.returncode


@pytest.fixture
def diner(tmp_path):
    diner = Diner(tmp_path)
    yield diner
    diner.close(signal.SIGTERM)
    print("\n".join(diner.lines))
    left = left_running(diner.logs)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"left running: {left}"
    assert not any(SANITIZER.search(line) for line in diner.lines)


def visit(diner, *targets):
    """The names of the servers that answered, each over a connection of its own; a failure is an error."""
    names = []
    for target in targets:
        peer = connect(("127.0.0.1", diner.port))
        response = peer.get(target)
        assert response.status == 200, (target, response)
        names.append(response.get("X-Served-By"))
        peer.close()
    return names


def test_the_diner_serves_loses_a_server_unnoticed_and_closes_without_a_trace(diner):
    diner.wait_open()
    web = [f"web {diner.servers}{end}" for end in ENDS[:3]]
    assert list(diner.pids) == [*web, *(f"videos {diner.servers}{end}" for end in ENDS[3:5]),
                                *(f"auth {diner.servers}{end}" for end in ENDS[5:7]), f"kitchen {diner.servers}31", "maitred"]
    assert left_running(diner.logs).keys() == {diner.process.pid, *diner.pids.values()}

    assert collections.Counter(visit(diner, *["/"] * 12)) == dict(zip(web, (6, 4, 2))), "the turns are not 3 : 2 : 1"
    assert len(set(visit(diner, *["/menu?table=7"] * 5))) == 1
    assert set(visit(diner, *["/api/videos"] * 4)) == {f"videos {diner.servers}{end}" for end in ENDS[3:5]}
    assert len(set(visit(diner, *["/api/auth"] * 5))) == 1

    os.kill(diner.pids[web[0]], signal.SIGKILL)
    kept = connect(("127.0.0.1", diner.port))
    counts = collections.Counter()
    for number in range(250):
        counts.update(visit(diner, "/"))
        response = kept.get("/")
        assert response.status == 200, response
        counts[response.get("X-Served-By")] += 1
    kept.close()
    assert counts.total() == 500
    assert set(counts) == set(web[1:]), counts

    assert diner.close(signal.SIGTERM) == 0
    assert f"{web[0]} (pid {diner.pids[web[0]]}) has ended" in diner.lines
    assert not left_running(diner.logs)
    assert len((diner.logs / "access.log").read_text().splitlines()) >= 526
    assert (diner.logs / "servers.log").read_text() == ""


def test_an_order_is_stored_and_cooked_a_moment_later(diner):
    diner.wait_open()
    peer = connect(("127.0.0.1", diner.port))
    stored = peer.ask(request("POST", "/orders", body=b"2=pies"))
    assert stored.status == 202
    told = peer.ask(request("POST", "/orders", "Prefer: wait=10", body=b"3=pies"))
    assert told.status == 200 and '"cooked": "3=pies"' in told.text
    assert told.get("X-Served-By") == f"kitchen {diner.servers}31"
    assert '"state":"done"' in peer.get(stored.get("Location")).text
    peer.close()


def test_a_session_is_found_again(diner):
    diner.wait_open()
    peer = connect(("127.0.0.1", diner.port))
    response = peer.ask(request("POST", "/api/auth", body=b"user=ann"))
    assert response.status == 201
    session = response.get("Set-Cookie").partition(";")[0]
    peer.close()
    peer = connect(("127.0.0.1", diner.port))
    assert '"user": "ann"' in peer.get("/api/auth", f"Cookie: {session}").text
    peer.close()


def test_a_taken_port_is_a_clear_error_and_nothing_stays(diner):
    diner.wait_open()
    second = subprocess.run([RUN], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL,
                            env={**os.environ, "PORT": str(diner.port), "MAITRED": str(BINARY)})
    assert second.returncode == 1
    assert second.stderr.startswith(f"diner: port {diner.port} is taken"), second.stderr
    assert f"PORT={diner.port + 1} " in second.stderr
    assert second.stdout == ""


def test_it_can_be_interrupted_while_it_opens(diner):
    while not any("server.py" in command for command in left_running(diner.logs).values()):
        assert diner.process.poll() is None
    assert diner.close(signal.SIGINT) == 0
    assert not left_running(diner.logs)


def test_when_maitred_dies_everything_closes(diner):
    diner.wait_open()
    os.kill(diner.pids["maitred"], signal.SIGKILL)
    diner.process.wait(20)
    assert diner.close(signal.SIGTERM) == 1
    assert diner.lines[-1] == "diner: without maitred there is no diner"


def test_the_configurations_that_are_shown_are_good(tmp_path):
    shown = re.search(r"^## A configuration\n+```\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)[1]
    (tmp_path / "readme.conf").write_text(shown)
    for file in (tmp_path / "readme.conf", ROOT / "examples" / "diner" / "maitred.conf"):
        checked = run("check", file)
        assert (checked.returncode, checked.stderr) == (0, "")
        assert checked.stdout.startswith(f"{file}: ok: 2 listeners")
