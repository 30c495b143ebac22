"""Requests that wait in line for a server with max-connections: in order, not for ever, and not too many."""
import select
import threading

import pytest

from kit.config import listener, pool, top
from kit.origin import Told, Turnstile
from kit.wire import DEADLINE, request


def limited(*origins, options, threads=1, per_server="max-connections = 1"):
    return (top(threads=threads) +
            listener('route "/" { pool = web }  route "/ping" { respond = 200  body = "pong" }') +
            pool("web", *origins, options=f"{per_server}  {options}"))


@pytest.fixture
def turnstile(stage):
    return lambda name="origin": stage.add(Turnstile(name))


def line_up(proxy, *targets):
    """A client for each, who stand in line in this order: /ping is answered after what came before it was read."""
    peers = []
    for target in targets:
        peers.append(proxy.client().send(request("GET", target)))
        assert proxy.get("/ping").body == b"pong"
    return peers


def test_first_come_first_served(maitred, turnstile):
    origin = turnstile()
    proxy = maitred(limited(origin, options="queue-timeout = 60s"))
    targets = [f"/{number}" for number in range(8)]
    peers = line_up(proxy, *targets)
    origin.wait_requests(1)
    assert origin.targets == ["/0"], "more than one at a time"
    for number, peer in enumerate(peers):
        origin.wait_requests(number + 1)
        assert origin.targets == targets[:number + 1]
        origin.admit()
        assert Told(peer.read_response()).target == targets[number]
    assert len(origin.connections) == 1


def test_the_limit_counts_over_all_threads(maitred, turnstile):
    origin = turnstile()
    proxy = maitred(limited(origin, options="queue-timeout = 60s", threads=4, per_server="max-connections = 3"))
    peers = [proxy.client().send(request("GET", f"/{number}")) for number in range(20)]
    answered = 0
    while answered < 20:
        origin.wait_requests(min(answered + 3, 20))
        assert len(origin.requests) <= answered + 3, "more than three at a time"
        origin.admit()
        readable, _, _ = select.select([peer.sock for peer in peers], [], [], DEADLINE)
        assert readable, "nobody was answered"
        for peer in [peer for peer in peers if peer.sock in readable]:
            assert peer.read_response().status == 200
            peers.remove(peer)
            answered += 1


def test_a_free_server_is_used_before_waiting(maitred, turnstile):
    a, b = turnstile("a"), turnstile("b")
    proxy = maitred(limited(a, b, options="queue-timeout = 60s"))
    peers = line_up(proxy, "/0", "/1", "/2")
    a.wait_requests(1)
    b.wait_requests(1)
    assert len(a.requests) + len(b.requests) == 2
    b.admit()
    b.wait_requests(2)
    a.admit()
    b.admit()
    assert sorted(Told(peer.read_response()).target for peer in peers) == ["/0", "/1", "/2"]


def test_waiting_too_long_is_503_with_retry_after(maitred, turnstile):
    origin = turnstile()
    proxy = maitred(limited(origin, options="queue-timeout = 200ms"))
    first, second = line_up(proxy, "/0", "/1")
    response = second.read_response()
    assert response.status == 503
    assert int(response.get("Retry-After")) >= 1
    assert origin.targets == ["/0"]
    origin.admit()
    assert first.read_response().status == 200


def test_a_full_line_is_503_at_once(maitred, turnstile):
    origin = turnstile()
    proxy = maitred(limited(origin, options="queue-timeout = 60s  max-queue = 2"))
    peers = line_up(proxy, "/0", "/1", "/2")
    response = proxy.get("/3")
    assert response.status == 503
    assert int(response.get("Retry-After")) >= 1
    assert not any(peer.readable(0) for peer in peers)
    origin.admit(3)
    assert [Told(peer.read_response()).target for peer in peers] == ["/0", "/1", "/2"]
    assert origin.targets == ["/0", "/1", "/2"]


def test_no_line_at_all_is_503_at_once(maitred, turnstile):
    origin = turnstile()
    proxy = maitred(limited(origin, options="max-queue = 0"))
    first, = line_up(proxy, "/0")
    assert proxy.get("/1").status == 503
    origin.admit()
    assert first.read_response().status == 200


def test_who_leaves_the_line_is_not_served(maitred, turnstile):
    origin = turnstile()
    proxy = maitred(limited(origin, options="queue-timeout = 60s"))
    first, second, third = line_up(proxy, "/0", "/1", "/2")
    second.reset()
    assert proxy.get("/ping").body == b"pong"
    origin.admit(2)
    assert Told(first.read_response()).target == "/0"
    assert Told(third.read_response()).target == "/2"
    assert origin.targets == ["/0", "/2"]


def test_who_leaves_while_served_makes_room(maitred, turnstile):
    origin = turnstile()
    proxy = maitred(limited(origin, options="queue-timeout = 60s"))
    first, second = line_up(proxy, "/0", "/1")
    origin.wait_requests(1)
    first.reset()
    origin.wait_requests(2)
    origin.admit(2)
    assert Told(second.read_response()).target == "/1"


def test_a_server_may_have_its_own_limit(maitred, turnstile):
    wide, narrow = turnstile("wide"), turnstile("narrow")
    proxy = maitred(limited((wide, "max-connections = 3"), narrow, options="queue-timeout = 60s"))
    peers = line_up(proxy, *[f"/{number}" for number in range(6)])
    wide.wait_requests(3)
    narrow.wait_requests(1)
    assert (len(wide.requests), len(narrow.requests)) == (3, 1)
    wide.admit(6)
    narrow.admit(6)
    assert sorted(Told(peer.read_response()).target for peer in peers) == [f"/{number}" for number in range(6)]


def test_a_slow_body_in_line_does_not_hold_a_place(maitred, turnstile):
    origin = turnstile()
    proxy = maitred(limited(origin, options="queue-timeout = 60s"))
    origin.admit(2)
    slow = proxy.client().send(request("POST", "/slow", "Content-Length: 10") + b"hello")
    assert Told(proxy.get("/quick")).target == "/quick"
    assert Told(slow.ask(b"world", method="POST")).length == 10


def test_many_in_line_all_get_through(maitred, turnstile):
    origin = turnstile()
    proxy = maitred(limited(origin, options="queue-timeout = 60s", threads=2, per_server="max-connections = 4"))
    origin.admit(1000)
    wrong = []

    def visit(number):
        peer = proxy.client()
        for count in range(20):
            if Told(peer.get(f"/{number}/{count}")).target != f"/{number}/{count}":
                wrong.append((number, count))
    threads = [threading.Thread(target=visit, args=(number,), daemon=True) for number in range(25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert len(origin.requests) == 500
    assert len(origin.connections) <= 4 * 3, "many more connections than may be used at a time"
