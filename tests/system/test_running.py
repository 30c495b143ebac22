"""Starting, stopping and the addresses it listens at and asks."""
import os
import pwd
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from kit import process
from kit.checks import assert_closes
from kit.config import listener, pool, proxying, top
from kit.origin import EchoOrigin, Told
from kit.wire import DEADLINE, connect, request


def until_refused(proxy):
    """Until nobody can connect any more."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        try:
            peer = connect(proxy.address)
        except ConnectionError:
            return
        peer.is_closed(0.05)
        peer.close()
    raise AssertionError("new connections are still taken")


def test_it_says_on_stderr_when_it_is_ready(maitred, echo):
    proxy = maitred(proxying(echo()))
    proxy.wait_log(f"{proxy.port}")


def test_sigterm_lets_an_exchange_finish_and_takes_no_new_connection(maitred, echo):
    origin = echo()
    origin.hold()
    proxy = maitred(proxying(origin, drain="30s"))
    peer = proxy.client().send(request("GET", "/slow"))
    origin.wait_requests(1)
    proxy.terminate()
    until_refused(proxy)
    assert proxy.process.poll() is None, "it did not wait for the exchange"
    origin.release()
    response = peer.read_response()
    assert Told(response).target == "/slow"
    assert_closes(peer, response)
    assert proxy.wait() == 0


def test_sigterm_closes_idle_connections_at_once(maitred, echo):
    proxy = maitred(proxying(echo(), drain="30s", threads=2))
    peers = [proxy.client() for _ in range(10)]
    for peer in peers[:5]:
        assert peer.get().status == 200
    began = time.monotonic()
    proxy.terminate()
    for peer in peers:
        assert_closes(peer)
    assert proxy.wait() == 0
    assert time.monotonic() - began < 10


def test_sigint_is_taken_like_sigterm(maitred, echo):
    proxy = maitred(proxying(echo()))
    proxy.signal(signal.SIGINT)
    assert proxy.wait() == 0


def test_drain_timeout_cuts_what_takes_too_long(maitred, echo):
    origin = echo()
    origin.hold()
    proxy = maitred(proxying(origin, drain="300ms"))
    peer = proxy.client().send(request())
    origin.wait_requests(1)
    began = time.monotonic()
    proxy.terminate()
    assert proxy.wait() == 0
    assert 0.25 < time.monotonic() - began < 5
    assert b"200" not in peer.read_to_end()


def test_a_second_sigterm_hurries(maitred, echo):
    origin = echo()
    origin.hold()
    proxy = maitred(proxying(origin, drain="60s"))
    peer = proxy.client().send(request())
    origin.wait_requests(1)
    proxy.terminate()
    until_refused(proxy)
    assert proxy.process.poll() is None
    proxy.terminate()
    assert proxy.wait(8) == 0
    assert b"200" not in peer.read_to_end()


@pytest.mark.parametrize("threads", [1, 2])
def test_two_signals_that_come_at_once_hurry(maitred, echo, threads):
    origin = echo()
    origin.hold()
    proxy = maitred(proxying(origin, drain="60s", threads=threads))
    peers = [proxy.client().send(request()) for _ in range(4)]
    origin.wait_requests(4)
    proxy.signal(signal.SIGSTOP)
    os.waitid(os.P_PID, proxy.pid, os.WSTOPPED)
    for number in signal.SIGTERM, signal.SIGINT, signal.SIGCONT:
        proxy.signal(number)
    assert proxy.wait(8) == 0
    for peer in peers:
        assert b"200" not in peer.read_to_end()


def test_a_request_in_line_while_draining_is_still_served(maitred, echo):
    origin = echo()
    origin.hold()
    proxy = maitred(proxying(origin, drain="30s", options="max-connections = 1  queue-timeout = 30s"))
    first = proxy.client().send(request("GET", "/1"))
    origin.wait_requests(1)
    second = proxy.client().send(request("GET", "/2"))
    assert proxy.client().ask(b"BAD\r\n\r\n", method="GET").status == 400      # by now the second one was read
    proxy.terminate()
    until_refused(proxy)
    origin.release()
    assert Told(first.read_response()).target == "/1"
    assert second.read_response().status in (200, 503)
    assert proxy.wait() == 0


def written(stage, text):
    path = stage.directory / "maitred.conf"
    path.write_text(text)
    return path


def test_a_port_that_is_taken_is_a_clear_error(stage):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        config = written(stage, top() + listener('route "/" { respond = 200 }', address=f"127.0.0.1:{port}"))
        result = process.run("run", config)
    assert result.returncode == 1
    assert f"127.0.0.1:{port}" in result.stderr and "in use" in result.stderr
    assert not process.SANITIZER.search(result.stderr)


def test_a_port_that_another_maitred_has_is_a_clear_error_too(stage, maitred):
    proxy = maitred(top() + listener('route "/" { respond = 200 }'))
    result = process.run("run", proxy.config)
    assert result.returncode == 1
    assert f"127.0.0.1:{proxy.port}" in result.stderr
    assert proxy.get().status == 200


def test_an_address_that_is_not_ours_is_a_clear_error(stage):
    config = written(stage, top() + listener('route "/" { respond = 200 }', address="192.0.2.1:8080"))
    result = process.run("run", config)
    assert result.returncode == 1
    assert "192.0.2.1:8080" in result.stderr


def test_a_server_name_that_cannot_be_resolved_does_not_keep_it_from_starting(maitred, echo):
    proxy = maitred(top() + listener('route "/" { pool = lost }  route "/web" { pool = web }') +
                    pool("lost", "nowhere.invalid:80") + pool("web", echo()))
    response = proxy.get()
    assert response.status == 503
    assert int(response.get("Retry-After")) >= 1
    assert proxy.get("/web").status == 200


def test_a_server_may_be_given_by_name(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(f"localhost:{origin.address[1]}"))
    end = time.monotonic() + DEADLINE
    while (response := proxy.get()).status == 503:
        assert time.monotonic() < end, "localhost is never resolved"
    assert Told(response).target == "/"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_started_as_root_it_becomes_the_user_it_is_told(maitred, echo):
    proxy = maitred(proxying(echo(), general="user = nobody", threads=2))
    nobody = pwd.getpwnam("nobody")
    assert proxy.get().status == 200
    for task in Path(f"/proc/{proxy.pid}/task").iterdir():
        status = (task / "status").read_text()
        ids = {line.split()[0]: line.split()[1:] for line in status.splitlines() if line.strip()}
        assert ids["Uid:"] == [str(nobody.pw_uid)] * 4
        assert ids["Gid:"] == [str(nobody.pw_gid)] * 4
        assert "0" not in ids.get("Groups:", [])
        assert int(ids["CapEff:"][0], 16) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_user_that_does_not_exist_is_a_clear_error(stage):
    config = written(stage, top("user = nobody-of-that-name") +
                     listener('route "/" { respond = 200 }', address=f"127.0.0.1:{process.free_port()}"))
    result = process.run("run", config)
    assert result.returncode == 1
    assert "nobody-of-that-name" in result.stderr


def test_it_listens_at_a_unix_socket(maitred, echo, short_directory):
    path = f"{short_directory}/front.sock"
    proxy = maitred(top() + listener('route "/" { pool = web }', address=f"unix:{path}") + pool("web", echo()),
                    address=path)
    peer = proxy.client()
    told = Told(peer.get())
    assert told.target == "/"
    assert "X-Request-Id" in told
    proxy.terminate()
    assert proxy.wait() == 0
    assert not os.path.exists(path), "the socket was left behind"


def test_it_asks_servers_at_a_unix_socket(maitred, echo, short_directory):
    origin = echo(address=f"{short_directory}/back.sock")
    proxy = maitred(proxying(origin))
    for number in range(5):
        assert Told(proxy.get(f"/{number}")).target == f"/{number}"
    assert len(origin.connections) == 1


def test_it_listens_at_an_ipv6_address(maitred, stage):
    origin = stage.add(EchoOrigin(address=("::1", 0)))
    proxy = maitred(top() + listener('route "/" { pool = web }', address="[::1]:{port}") + pool("web", origin),
                    address=("::1", None))
    told = Told(proxy.get(host="[::1]:80"))
    assert told.get("X-Forwarded-For") == "::1"
    assert '"[::1]"' in told.get("Forwarded")


def test_a_port_alone_means_every_address(maitred, echo):
    proxy = maitred(top() + listener('route "/" { pool = web }', address=":{port}") + pool("web", echo()))
    assert Told(proxy.get()).get("X-Forwarded-For") == "127.0.0.1"
    assert Told(proxy.client(("::1", proxy.port)).get()).get("X-Forwarded-For") == "::1"


def test_it_survives_a_storm_of_connections(maitred, echo):
    proxy = maitred(proxying(echo(), threads=2))

    def storm():
        for number in range(200):
            peer = connect(proxy.address)
            if number % 4 == 1:
                peer.send(b"GET / HT")
            elif number % 4 == 2:
                peer.send(request())
            elif number % 4 == 3:
                peer.send(request())
                peer.reset()
            peer.close()
    threads = [threading.Thread(target=storm, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert proxy.get().status == 200


def test_descriptors_do_not_leak(maitred, echo):
    origin = echo(close_after_each=True)
    proxy = maitred(proxying(origin))
    count = lambda: len(list(Path(f"/proc/{proxy.pid}/fd").iterdir()))  # noqa: E731
    proxy.get()
    before = count()
    for number in range(100):
        proxy.get()
        proxy.ask(b"BAD\r\n\r\n", method="GET")
    end = time.monotonic() + DEADLINE
    while count() > before + 4:
        assert time.monotonic() < end, f"{before} descriptors became {count()}"
        proxy.get()


def test_it_does_not_need_its_directory_or_a_terminal(stage, echo):
    proxy = stage.maitred(proxying(echo()), wrapper=["setsid"])
    assert proxy.get().status == 200


def test_running_out_of_descriptors_is_no_crash(stage, echo):
    origin = echo()
    proxy = stage.maitred(proxying(origin), wrapper=["prlimit", "--nofile=64:64"])
    peers = []
    for _ in range(100):
        peers.append(proxy.client())
    for peer in peers:
        peer.close()
    end = time.monotonic() + DEADLINE
    while True:
        try:
            if proxy.get(seconds=2).status == 200:
                break
        except (AssertionError, OSError):
            pass
        assert time.monotonic() < end, "it does not recover"
    assert proxy.process.poll() is None


def test_a_client_that_disappears_is_no_broken_pipe(maitred, echo):
    origin = echo()
    origin.respond = lambda asked: b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 10_000_000
    proxy = maitred(proxying(origin))
    for _ in range(5):
        peer = proxy.client().send(request())
        assert peer.read_head().status == 200
        peer.reset()
    origin.respond = lambda asked: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert proxy.get().body == b"ok"


def test_output_to_a_closed_pipe_is_no_crash(stage, echo):
    """As in `maitred run FILE | head`."""
    port = process.free_port()
    config = written(stage, proxying(echo(), http='access-log = "-"').replace("{port}", str(port)))
    running = subprocess.Popen([process.BINARY, "run", config], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    running.stdout.close()
    try:
        end = time.monotonic() + DEADLINE
        served = 0
        while served < 3:
            assert time.monotonic() < end and running.poll() is None, running.poll()
            try:
                peer = connect(("127.0.0.1", port))
            except ConnectionError:
                continue
            served += peer.get().status == 200
            peer.close()
        running.send_signal(signal.SIGTERM)
        _, errors = running.communicate(timeout=15)
        assert running.returncode == 0, errors
        assert not process.SANITIZER.search(errors.decode())
    finally:
        running.kill()
        running.wait()
