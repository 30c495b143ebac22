"""Clients that take their time, on purpose: row H35 of the checklist of attacks. Each kind is cut at its deadline, costs
bounded memory, and delays nobody else. The deadlines are made short here; what counts is that they are total ones."""
import contextlib
import os
import threading
import time
from pathlib import Path

import pytest

from kit import process
from kit.checks import assert_closes
from kit.config import proxying, routing
from kit.origin import REQUEST, EchoOrigin, Origin
from kit.wire import DEADLINE, PeerGone, request


def drip(peer, data, pause=0.03, seconds=DEADLINE):
    """Sends data over and over, a byte at a time, until the other side says or does something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if peer.send_slowly(data, pause) < len(data):
            return
    raise AssertionError(f"dripping {data[:20]!r} for {seconds} s was never stopped")


def test_h35_a_head_that_comes_slowly_is_cut_at_a_total_deadline(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin, http="head-timeout = 300ms  idle-timeout = 60s"))
    peer = proxy.client()
    began = time.monotonic()
    peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
    drip(peer, b"X-Slow: and steady\r\n")
    response = peer.read_response()
    assert response.status == 408
    assert_closes(peer, response)
    assert time.monotonic() - began >= 0.29, "cut before its deadline"
    assert origin.requests == []


def test_h35_the_deadline_of_a_head_starts_anew_with_each_request(maitred, echo):
    proxy = maitred(proxying(echo(), http="head-timeout = 300ms  idle-timeout = 60s"))
    peer = proxy.client()
    end = time.monotonic() + 0.7
    while time.monotonic() < end:
        assert peer.get().status == 200
    peer.send(b"GET / HTTP/1.1\r\n")
    assert peer.read_response().status == 408


def test_h35_the_first_request_has_a_deadline_too_when_nothing_comes(maitred, echo):
    proxy = maitred(proxying(echo(), http="head-timeout = 200ms  idle-timeout = 400ms"))
    peer = proxy.client()
    assert peer.is_closed()


def test_h35_a_connection_idle_between_requests_is_closed_without_a_word(maitred, echo):
    proxy = maitred(proxying(echo(), http="idle-timeout = 300ms"))
    peer = proxy.client()
    assert peer.get().status == 200
    assert_closes(peer)
    assert peer.ended == "eof"


def test_h35_a_body_that_stops_is_cut(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin, http="body-timeout = 300ms"))
    peer = proxy.client().send(request("POST", "/", "Content-Length: 100") + b"hello")
    response = peer.read_response()
    assert response.status == 408
    assert_closes(peer, response)
    assert origin.requests == []


def test_h35_a_body_under_the_least_rate_is_cut(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin, http="body-timeout = 60s  min-rate = 10k  rate-grace = 300ms"))
    peer = proxy.client().send(request("POST", "/", "Content-Length: 100000"))
    drip(peer, b"x" * 100)
    response = peer.read_response()
    assert response.status == 408
    assert_closes(peer, response)
    assert origin.requests == []


def test_h35_a_chunked_body_under_the_least_rate_is_cut(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin, http="body-timeout = 60s  min-rate = 10k  rate-grace = 300ms"))
    peer = proxy.client().send(request("POST", "/", "Transfer-Encoding: chunked"))
    drip(peer, b"1\r\nx\r\n")
    assert peer.read_response().status == 408
    assert peer.is_closed()
    assert origin.requests == []


def test_h35_a_body_within_the_rate_passes_though_it_takes_longer_than_the_grace(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin, http="body-timeout = 1s  min-rate = 1k  rate-grace = 100ms"))
    peer = proxy.client().send(request("POST", "/", "Content-Length: 20000"))
    for _ in range(9):
        peer.send(b"x" * 2000)
        assert not peer.readable(0.04), "a body that came fast enough was cut"
    assert peer.send(b"x" * 2000).read_response().status == 200


def endless(connection):
    """Answers with as much as the other side takes."""
    REQUEST(connection)
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    try:
        for _ in range(1000):
            connection.send(b"x" * 1_000_000)
    except PeerGone:
        pass


@pytest.mark.parametrize("limits, reads", [
    ("body-timeout = 400ms  min-rate = 0", False),
    ("body-timeout = 60s  min-rate = 100m  rate-grace = 400ms", True),
], ids=["silence", "rate"])
def test_h35_a_client_that_hardly_reads_is_cut_and_costs_little_memory(maitred, scripted, limits, reads):
    origin = scripted(endless)
    proxy = maitred(proxying(origin, http=limits))
    proxy.client()
    before = proxy.memory()
    peers = [proxy.client(receive_buffer=4096).send(request("GET", "/")) for _ in range(10)]
    most = 0
    end = time.monotonic() + DEADLINE
    while not (len(origin.connections) == 10 and all(c.done.is_set() for c in origin.connections)):
        assert time.monotonic() < end, "clients that do not read are never cut"
        for peer in peers:
            if reads and peer.readable(0.001):
                peer.take_bytes(most=1)
        most = max(most, proxy.memory())
        peers[0].readable(0.01)
    if not process.is_sanitized():
        assert most - before < 4096, f"10 such clients took {most - before} KiB"
    for peer in peers:
        assert peer.read_head().status == 200
        with pytest.raises((PeerGone, ConnectionError)):
            peer.discard(999_999_999)


def test_h35_at_the_limit_of_connections_the_longest_idle_one_makes_room(maitred, echo):
    proxy = maitred(proxying(echo(), general="max-connections = 10"))
    peers = [proxy.client() for _ in range(10)]
    for peer in peers:
        assert peer.get().status == 200
    assert peers[0].get("/again").status == 200        # so that the second one is idle for the longest
    newcomer = proxy.client()
    assert newcomer.get().status == 200
    assert_closes(peers[1])
    for peer in [peers[0]] + peers[2:]:
        assert peer.get().status == 200, "one that was idle for less was closed"


def test_h35_at_the_limit_of_connections_busy_ones_are_not_touched(maitred, echo):
    origin = echo()
    origin.hold()
    proxy = maitred(proxying(origin, general="max-connections = 4"))
    peers = [proxy.client().send(request("GET", f"/{n}")) for n in range(4)]
    origin.wait_requests(4)
    newcomer = proxy.client()
    newcomer.send(request("GET", "/new"))
    assert not any(peer.readable(0.05) for peer in peers)
    origin.release()
    for peer in peers:
        assert peer.read_response().status == 200
    newcomer.close()


# --- two hundred of a kind, beside people who just want to eat

ATTACKERS = 200
NORMAL = 100


def slow_heads(proxy):
    return [proxy.client().send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ") for _ in range(ATTACKERS)], b"x"


def slow_bodies(proxy):
    return [proxy.client().send(request("POST", "/", "Content-Length: 100000")) for _ in range(ATTACKERS)], b"x"


def slow_readers(proxy):
    return [proxy.client(receive_buffer=4096).send(request("GET", "/big")) for _ in range(ATTACKERS)], b""


def count_sockets(proxy):
    count = 0
    for descriptor in Path(f"/proc/{proxy.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(descriptor).startswith("socket:")
    return count


@contextlib.contextmanager
def dripping(peers, data):
    """Meanwhile each of them sends a little every 100 ms."""
    stop = threading.Event()

    def drip_all():
        while data and not stop.wait(0.1):
            for peer in peers:
                try:
                    peer.sock.send(data)
                except OSError:
                    pass
    thread = threading.Thread(target=drip_all, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("attack", [slow_heads, slow_bodies, slow_readers])
def test_h35_two_hundred_slow_connections_delay_nobody_and_are_gone_after_their_deadline(stage, attack):
    small = stage.add(EchoOrigin("small"))
    big = stage.add(Origin(endless, name="big"))
    proxy = stage.maitred(routing(
        'route "/" { pool = small }  route "/big" { pool = big }',
        http="head-timeout = 1500ms  body-timeout = 1500ms  min-rate = 10k  rate-grace = 1500ms",
        small=small, big=big))
    before = count_sockets(proxy)
    attackers, data = attack(proxy)
    took = []
    with dripping(attackers, data):
        regular = proxy.client()
        for number in range(NORMAL):
            began = time.monotonic()
            visitor = regular if number % 2 else proxy.client()
            assert visitor.get(f"/{number}").status == 200
            took.append(time.monotonic() - began)
            if visitor is not regular:
                visitor.close()
        regular.close()
        end = time.monotonic() + 15
        while (left := count_sockets(proxy)) > before + 8:
            assert time.monotonic() < end, f"{left - before} connections are still open after the deadline"
            attackers[0].readable(0.02)
    if not process.is_sanitized():
        # a busy machine delays some; who is in the way of requests delays all, until the deadline
        assert sorted(took)[NORMAL * 9 // 10] < 1.0, took
    for attacker in attackers if data else attackers[:5]:
        with pytest.raises((PeerGone, ConnectionError)):
            attacker.discard(1_000_000_000)
    assert proxy.get("/after").status == 200
