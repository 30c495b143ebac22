"""The example as a user runs it: opened by its own script, visited, robbed of a server, closed."""
import collections
import os
import re
import signal
import subprocess

import pytest

from kit.diner import ENDS, RUN, Diner, left_running
from kit.process import BINARY, ROOT, SANITIZER, run
from kit.queue import wait_state
from kit.wire import connect, request


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
                                *(f"auth {diner.servers}{end}" for end in ENDS[5:7]),
                                *(f"kitchen {diner.servers}{end}" for end in ENDS[7:]), "maitred"]
    assert left_running(diner.logs).keys() >= {diner.process.pid, *diner.pids.values()}

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
    assert told.get("X-Served-By") in {f"kitchen {diner.servers}{end}" for end in ENDS[7:]}
    wait_state(peer, stored.get("Location"), "done")
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
        assert re.match(rf"{file}: ok: [2-4] listeners", checked.stdout)
