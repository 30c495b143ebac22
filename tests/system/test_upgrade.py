"""Upgrade: another process takes over the sockets, and nobody who knocks is lost; the old one finishes what it has.
When the new one cannot start, nothing has changed."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kit import process
from kit.admin import admin_of
from kit.checks import assert_closes
from kit.config import admin, listener, pool, proxying, tcp, top
from kit.load import Servers, Wrk, needs_wrk
from kit.origin import Told
from kit.wire import DEADLINE, connect, request
from test_health import Checked, health, only, until
from test_tunnels import echo_back, upgraded


def ended(old, seconds=DEADLINE):
    """The exit code of a process that is to end by itself."""
    return old.wait(seconds)


@needs_wrk
@pytest.mark.parametrize("fields", [[], ["Connection: close"]], ids=["kept", "closed"])
def test_upgrades_under_load_cost_no_request(stage, fields):
    servers = stage.add(Servers(2))
    proxy = stage.maitred(proxying(*servers.at, threads=2, drain="10s"))
    with Wrk(f"http://127.0.0.1:{proxy.port}/", 2, *fields) as wrk:
        while wrk.runs() and len(proxy.past) < 10:
            time.sleep(0.1)
            proxy.upgrade()
            assert ended(proxy.past[-1]) == 0
        requests, failures = wrk.count()
    assert failures == {} and requests > 1000, (requests, failures)
    assert proxy.get().status == 200


def test_connections_that_are_open_are_answered_once_more_and_told_to_close(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin, threads=2, drain="10s"))
    peers = [proxy.client() for _ in range(4)]
    for peer in peers:
        assert "close" not in peer.get().get("Connection", "")
    origin.hold()
    for peer in peers[:2]:
        peer.send(request())
    origin.wait_requests(6)
    proxy.upgrade()
    origin.release()
    for peer in peers[2:]:
        peer.send(request())
    for peer in peers:
        response = peer.read_response()
        assert Told(response).server == "origin"
        assert_closes(peer, response)
    assert ended(proxy.past[0]) == 0
    assert proxy.get().status == 200


def test_a_websocket_lives_on_in_the_old_process_and_ends_it(maitred, scripted):
    proxy = maitred(proxying(scripted(echo_back), drain="30s"))
    before, idle = upgraded(proxy), proxy.client()
    proxy.upgrade()
    after = upgraded(proxy)
    assert idle.is_closed(3)
    old = proxy.past[0]
    for peer in before, after:
        peer.send(b"hello")
        assert peer.read_exactly(5) == b"hello"
    assert old.poll() is None
    before.finish()
    assert before.read_to_end() == b"bye"
    assert ended(old) == 0
    after.send(b"again")
    assert after.read_exactly(5) == b"again"


def test_drain_timeout_ends_the_old_process_with_what_it_still_has(maitred, scripted):
    proxy = maitred(proxying(scripted(echo_back), drain="400ms"))
    peer = upgraded(proxy)
    began = time.monotonic()
    proxy.upgrade()
    assert peer.is_closed()
    assert 0.3 < time.monotonic() - began < 4
    assert ended(proxy.past[0]) == 0
    assert upgraded(proxy).send(b"hello").read_exactly(5) == b"hello"


def test_upgrades_may_follow_one_another_while_those_before_still_drain(maitred, scripted):
    proxy = maitred(proxying(scripted(echo_back), drain="30s"))
    peers = []
    for _ in range(3):
        peers.append(upgraded(proxy))
        proxy.upgrade()
    assert len({old.pid for old in [*proxy.past, proxy.process]}) == 4
    for number, peer in enumerate(peers):
        peer.send(b"hello")
        assert peer.read_exactly(5) == b"hello"
    peers[1].close()
    assert ended(proxy.past[1]) == 0
    assert proxy.past[0].poll() is None and proxy.past[2].poll() is None


def test_the_file_is_read_again(maitred, echo):
    """With what a reload cannot do, and with other listeners."""
    a, b = echo("a"), echo("b")
    old = listener('route "/" { respond = 200 }', address="127.0.0.1:{port2}")
    new = listener('route "/" { respond = 201 }', address="127.0.0.1:{port3}")
    proxy = maitred(proxying(a) + old)
    proxy.configure(proxying(b, threads=3) + new)
    proxy.upgrade()
    proxy.wait_log(f"ready: http on 127.0.0.1:{proxy.port}, 3 threads")
    assert Told(proxy.get()).server == "b"
    assert proxy.client(("127.0.0.1", proxy.port3)).get().status == 201
    assert proxy.wait_log(f"closing the inherited socket 127.0.0.1:{proxy.port2}: no listener")
    assert ended(proxy.past[0]) == 0
    with pytest.raises(ConnectionRefusedError):
        connect(("127.0.0.1", proxy.port2))


def test_sockets_of_every_kind_survive(maitred, echo, short_directory):
    path = f"{short_directory}/front.sock"
    origin = echo()
    proxy = maitred(top() + listener('route "/" { pool = web }', address="[::1]:{port}") +
                    listener('route "/" { pool = web }', address=f"unix:{path}") +
                    listener('route "/" { pool = web }', address=":{port2}") +
                    tcp("web", address="127.0.0.1:{port3}") + pool("web", origin), address=("::1", None))
    addresses = [("::1", proxy.port), path, ("127.0.0.1", proxy.port2), ("::1", proxy.port2),
                 ("127.0.0.1", proxy.port3)]
    file = os.stat(path)
    proxy.upgrade()
    assert ended(proxy.past[0]) == 0
    for address in addresses:
        peer = proxy.client(address)
        assert Told(peer.get()).server == "origin"
    assert os.stat(path).st_ino == file.st_ino
    proxy.terminate()
    assert proxy.wait() == 0
    assert not os.path.exists(path), "the last one left the socket behind"


def test_who_is_down_stays_so_without_a_request(maitred, echo):
    a, b = echo("a"), echo("b")
    Checked(a)
    down = Checked(b, status="500 Oh")
    proxy = maitred(proxying(a, b, options=health('path = "/healthz"  fall = 2  rise = 2')))
    until(proxy, only("a"), "down")
    visits = down.history.count("visit")
    proxy.upgrade()
    assert {Told(proxy.get()).server for _ in range(10)} == {"a"}
    assert down.history.count("visit") == visits
    down.status = "200 OK"
    until(proxy, only("a", "b"), "up again")


# --- what cannot start

def test_what_was_done_by_hand_stands_in_the_new_process(maitred, echo):
    a, b, c = (echo(name) for name in "abc")
    proxy = maitred(proxying(a, (b, "drain = yes"), c, general=admin()))
    interface = admin_of(proxy)
    assert interface.server_action("drain", a.at).status == 200
    assert interface.server_action("enable", b.at).status == 200
    assert interface.server_action("weight", c.at, query="?weight=3").status == 200
    proxy.upgrade()
    interface = admin_of(proxy)
    assert [interface.server(origin.at)["by_hand"] for origin in (a, b, c)] == [
        {"drain": True}, {"drain": False}, {"weight": 3}]
    served = [Told(proxy.get()).server for _ in range(8)]
    assert (served.count("a"), served.count("b"), served.count("c")) == (0, 2, 6)


def test_a_bad_file_leaves_the_old_process_serving(maitred, echo):
    proxy = maitred(proxying(echo()))
    pid = proxy.pid
    proxy.configure("threads = 1\nnonsense {}\n")
    lines = proxy.upgrade(fails=True)
    assert f"{proxy.config}:2: " in proxy.errors and "ended before it served" in lines[-1]
    assert (proxy.pid, proxy.process.poll()) == (pid, None)
    assert proxy.get().status == 200
    proxy.reload(proxying(echo("other")))
    assert Told(proxy.get()).server == "other"
    proxy.upgrade()
    assert ended(proxy.past[0]) == 0
    assert Told(proxy.get()).server == "other"


def test_an_address_that_is_taken_leaves_the_old_process_serving(maitred):
    here = top() + listener('route "/" { respond = 200 }')
    proxy = maitred(here)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        proxy.configure(here + listener('route "/" { respond = 200 }', address=taken))
        proxy.upgrade(fails=True)
    assert f"cannot listen on {taken}: Address already in use" in proxy.errors
    assert proxy.get().status == 200


def test_a_unix_socket_stays_where_it_is_when_the_new_process_cannot_start(maitred, short_directory):
    path = f"{short_directory}/front.sock"
    here = top() + listener('route "/" { respond = 200 }', address=f"unix:{path}")
    proxy = maitred(here, address=path)
    file = os.stat(path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        proxy.configure(here + listener('route "/" { respond = 200 }', address=taken))
        proxy.upgrade(fails=True)
    assert f"cannot listen on {taken}: Address already in use" in proxy.errors
    assert os.stat(path).st_ino == file.st_ino
    assert proxy.get().status == 200
    proxy.terminate()
    assert proxy.wait() == 0
    assert not os.path.exists(path), "the socket was left behind"


@pytest.fixture
def installed(stage):
    """A binary that a test may replace, and a maitred that was started from it."""
    binary, script = stage.directory / "maitred", stage.directory / "installed"
    shutil.copy(process.BINARY, binary)
    script.write_text(f'#!/bin/sh\nshift\nexec "{binary}" "$@"\n')
    script.chmod(0o755)
    proxy = stage.maitred(top() + listener('route "/" { respond = 200 }'), wrapper=[str(script)])
    proxy.binary = binary
    return proxy


def replace(binary, text):
    """As a package does: another file with the same name."""
    new = binary.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o755)
    new.rename(binary)


def test_what_is_installed_now_is_what_takes_over(installed):
    seen = installed.directory / "seen"
    replace(installed.binary, f'#!/bin/sh\nenv >"{seen}"\nexec "{process.BINARY}" "$@"\n')
    installed.upgrade()
    assert f"LISTEN_PID={installed.pid}\n" in seen.read_text()
    assert os.readlink(f"/proc/{installed.pid}/exe") == str(process.BINARY)
    assert installed.get().status == 200


@pytest.mark.parametrize("text", ["", "#!/bin/sh\nexit 1\n", "#!/bin/sh\nkill -9 $$\n", "not a program", None],
                         ids=["empty", "fails", "killed", "text", "gone"])
def test_a_binary_that_cannot_start_leaves_the_old_process_serving(installed, text):
    if text is None:
        installed.binary.unlink()
    else:
        replace(installed.binary, text)
    for _ in range(2):
        assert "ended before it served" in installed.upgrade(fails=True)[-1]
    assert installed.get().status == 200
    shutil.copy(process.BINARY, installed.binary.with_suffix(".new"))
    installed.binary.with_suffix(".new").rename(installed.binary)
    installed.upgrade()
    assert ended(installed.past[0]) == 0
    assert installed.get().status == 200


def test_descriptors_of_upgrades_that_failed_are_closed(maitred, echo):
    proxy = maitred(proxying(echo()))
    before = proxy.descriptors()
    proxy.configure("nonsense {}\n")
    for _ in range(5):
        proxy.upgrade(fails=True)
    assert len(proxy.descriptors()) == len(before)


# --- at the same time

def test_what_takes_over_is_under_way_so_nothing_else_begins(installed):
    go = installed.directory / "go"
    os.mkfifo(go)
    replace(installed.binary, f'#!/bin/sh\nread line <"{go}"\nexec "{process.BINARY}" "$@"\n')

    def begin():
        installed.signal(signal.SIGUSR2)
        with go.open("w") as gate:          # opens once the new process is there
            installed.signal(signal.SIGUSR2)
            installed.wait_log("warning .*under way")
            assert installed.get().status == 200
            gate.write("go\n")
    installed.upgrade(begin=begin)
    assert ended(installed.past[0]) == 0
    assert installed.get().status == 200


def test_an_upgrade_while_it_drains_is_refused(maitred, echo):
    origin = echo()
    origin.hold()
    proxy = maitred(proxying(origin, drain="30s"))
    peer = proxy.client().send(request())
    origin.wait_requests(1)
    proxy.terminate()
    proxy.wait_log("draining")
    proxy.signal(signal.SIGUSR2)
    proxy.wait_log("warning .*on its way out")
    origin.release()
    assert peer.read_response().status == 200
    assert proxy.wait() == 0


# --- sockets of a service manager

PASS_SOCKETS = """
import os, socket, sys
addresses, pid, command = sys.argv[1].split(","), sys.argv[2], sys.argv[3:]
sockets = []
for address in addresses:
    host, _, port = address.rpartition(":")
    sockets.append(socket.create_server((host, int(port))) if host else socket.socket(socket.AF_UNIX))
    if not host:
        sockets[-1].bind(address)
        sockets[-1].listen()
for number, each in enumerate(sockets):
    fd = os.dup(each.fileno())
    assert fd >= 3 + len(sockets)
for number in range(len(sockets)):
    os.dup2(3 + len(sockets) + number, 3 + number)
os.closerange(3 + len(sockets), 64)
os.environ.update(LISTEN_FDS=str(len(sockets)), LISTEN_PID=pid or str(os.getpid()), LISTEN_FDNAMES="a:b")
os.execv(command[0], command)
"""


def passing(*addresses, pid=""):
    """A wrapper that starts a maitred with listening sockets as systemd does."""
    return [sys.executable, "-c", PASS_SOCKETS, ",".join(addresses), pid]


def test_sockets_that_were_passed_are_used_and_the_rest_is_closed(maitred, short_directory):
    path, (wanted, unwanted) = f"{short_directory}/front.sock", (process.free_port(), process.free_port())
    proxy = maitred(top() + listener('route "/" { respond = 200 }', address=f"127.0.0.1:{wanted}") +
                    listener('route "/" { respond = 201 }', address=f"unix:{path}"),
                    address=("127.0.0.1", wanted),
                    wrapper=passing(f"127.0.0.1:{wanted}", f"127.0.0.1:{unwanted}", path))
    assert proxy.get().status == 200            # it could not have been opened twice
    assert proxy.client(path).get().status == 201
    proxy.wait_log(f"closing the inherited socket 127.0.0.1:{unwanted}: no listener")
    with pytest.raises(ConnectionRefusedError):
        connect(("127.0.0.1", unwanted))
    environment = Path(f"/proc/{proxy.pid}/environ").read_bytes()
    assert b"LISTEN_FDS" in environment
    proxy.upgrade()
    assert ended(proxy.past[0]) == 0
    assert proxy.get().status == 200
    assert proxy.client(path).get().status == 201


@pytest.mark.parametrize("changes", ["none", "kind", "upgrades"])
def test_the_file_of_a_socket_that_was_passed_stays_the_service_manager_s(maitred, echo, short_directory, changes):
    path, own = f"{short_directory}/front.sock", f"{short_directory}/own.sock"
    common = top() + listener('route "/" { respond = 200 }', address=f"unix:{own}") + pool("web", echo())
    proxy = maitred(common + listener('route "/" { pool = web }', address=f"unix:{path}"), address=path,
                    wrapper=passing(path))
    assert proxy.get().status == 200            # by now it takes signals
    if changes == "kind":
        proxy.reload(common + tcp("web", address=f"unix:{path}"))
    for _ in range(2 if changes == "upgrades" else 0):
        proxy.upgrade()
        assert ended(proxy.past[-1]) == 0
    for address in path, own:
        assert proxy.client(address).get().status == 200
    proxy.terminate()
    assert proxy.wait() == 0
    assert os.path.exists(path), "somebody else's file is gone"
    assert not os.path.exists(own), "the socket was left behind"


def test_a_start_that_fails_leaves_the_file_of_a_socket_that_was_passed(stage, short_directory):
    path, config = f"{short_directory}/front.sock", stage.directory / "maitred.conf"
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        config.write_text(top() + listener('route "/" { respond = 200 }', address=f"unix:{path}") +
                          listener('route "/" { respond = 200 }', address=taken))
        result = subprocess.run([*passing(path), process.BINARY, "run", config], capture_output=True, text=True,
                                timeout=20)
    assert result.returncode == 1
    assert f"cannot listen on {taken}" in result.stderr
    assert os.path.exists(path)


def test_sockets_that_were_passed_to_somebody_else_are_left_alone(maitred):
    port = process.free_port()
    proxy = maitred(top() + listener('route "/" { respond = 200 }'), wrapper=passing(f"127.0.0.1:{port}", pid="1"))
    assert proxy.get().status == 200
    assert "inherited" not in proxy.errors
    connect(("127.0.0.1", port)).close()


def test_the_service_manager_is_told_who_serves(maitred, short_directory):
    path = f"{short_directory}/notify"
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(path)
    told.settimeout(DEADLINE)

    def wait(*lines):
        seen = []
        while not all(line in seen for line in lines):
            seen += told.recv(4096).decode().split("\n")
        return seen
    proxy = maitred(top() + listener('route "/" { respond = 200 }'), environment={"NOTIFY_SOCKET": path})
    wait("READY=1", f"MAINPID={proxy.pid}")
    proxy.reload()
    wait("RELOADING=1")
    wait("READY=1")
    proxy.upgrade()
    assert "STOPPING=1" not in wait("READY=1", f"MAINPID={proxy.pid}")
    assert ended(proxy.past[0]) == 0
    proxy.terminate()
    wait("STOPPING=1")
    assert proxy.wait() == 0
    told.close()


# --- by the admin interface

def test_what_was_set_by_hand_is_passed_on(maitred, echo):
    a, b = echo("a"), echo("b")
    proxy = maitred(proxying(a, b) + admin())
    assert admin_of(proxy).server_action("drain", b.at).status == 200
    assert admin_of(proxy).server_action("weight", a.at, query="?weight=7").status == 200
    proxy.upgrade()
    assert {Told(proxy.get()).server for _ in range(6)} == {"a"}
    assert admin_of(proxy).server(a.at)["by_hand"] == {"weight": 7}
    assert admin_of(proxy).server(b.at)["by_hand"] == {"drain": True}
    assert admin_of(proxy).server_action("reset", b.at).status == 200
    assert {Told(proxy.get()).server for _ in range(20)} == {"a", "b"}


def test_the_admin_interface_upgrades(maitred, echo):
    proxy = maitred(proxying(echo(), drain="30s") + admin())
    answers = []
    proxy.upgrade(begin=lambda: answers.append(admin_of(proxy).post("/api/upgrade")))
    assert answers[0].status == 200
    assert json.loads(answers[0].body)["text"] == f"process {proxy.pid} has taken over; this one drains"
    assert admin_of(proxy).state()["pid"] == proxy.pid
    assert ended(proxy.past[0]) == 0
    proxy.configure("nonsense {}\n")
    response = admin_of(proxy).post("/api/upgrade")
    assert response.status == 500
    assert "goes on as before" in json.loads(response.body)["error"]
    assert admin_of(proxy).state()["pid"] == proxy.pid
