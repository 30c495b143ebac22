"""Every way in which a server can go wrong (kit/faults.py): what it costs the client it happens to, what it is counted
as, that it costs nobody else anything, and that the server is used again once it is over."""
import time

import pytest

from kit.admin import admin_of
from kit.config import admin, listener, pool, tcp, top
from kit.faults import (CUT, FAULTS, PIECE, STREAM_FAULTS, TIMEOUTS, FaultyServer, FaultyStream, by_name, outcome,
                        stream_by_name)
from kit.origin import Told, tell_or_echo
from kit.wire import DEADLINE, request

GET = request()
POST = request("POST", "/order", body=b"one pizza")
UPGRADE = request("GET", "/other", "Connection: Upgrade", "Upgrade: bytes")

each_fault = pytest.mark.parametrize("fault", FAULTS, ids=repr)
each_stream_fault = pytest.mark.parametrize("fault", STREAM_FAULTS, ids=repr)


class Bystanders:
    """Clients who were there before, over a connection that is kept and one that was upgraded."""

    def __init__(self, proxy):
        self.kept, self.tunnel = proxy.client(), proxy.client().send(UPGRADE)
        assert self.tunnel.read_head().status == 101
        self.are_served()

    def are_served(self):
        assert self.kept.get("/other").status == 200
        assert self.tunnel.send(b"tick").read_exactly(4) == b"tick"


@pytest.fixture
def faulty(stage):
    return stage.add(FaultyServer())


@pytest.fixture
def house(maitred, scripted):
    """house(*servers): maitred with these in pool web, asked in this order in turn, and bystanders of another pool.
    Nobody is left out for failing, and no connection to a server is kept, unless options say so."""
    def build(*servers, options="max-idle = 0  ejection { failures = 0 }"):
        proxy = maitred(top(admin()) +
                        listener('route "/" { pool = web }  route "/other" { pool = other }') +
                        pool("web", *servers, options=f"{TIMEOUTS}  retry-budget = 100  {options}") +
                        pool("other", scripted(tell_or_echo, name="other")))
        proxy.admin = admin_of(proxy)
        proxy.bystanders = Bystanders(proxy)
        return proxy
    return build


def visit(proxy, raw):
    """What a client who sends raw sees; bystanders are served while it waits, and after it."""
    method = raw.split(b" ", 1)[0].decode()
    peer = proxy.client().send(raw)
    proxy.bystanders.are_served()
    seen = outcome(peer, method)
    proxy.bystanders.are_served()
    if seen == CUT:
        assert b"HTTP/1.1" not in peer.received[8:], "a second answer within the first"
    return seen


def assert_counted(proxy, fault, faulty, *healthy, times=1):
    """So many errors of a right kind at the faulty server, and none at the others."""
    metrics = proxy.admin.metrics()
    errors = metrics.errors(faulty.at)
    assert sum(errors.values()) == (times if fault.kinds else 0) and set(errors) <= set(fault.kinds), errors
    assert all(metrics.errors(server.at) == {} for server in healthy)
    assert proxy.admin.server(faulty.at)["errors"].items() >= errors.items()


# --- HTTP

@each_fault
def test_a_fault_beside_a_healthy_server_costs_a_get_what_the_table_says(house, faulty, echo, fault):
    healthy = echo("healthy")
    proxy = house(faulty, healthy)
    faulty.become(fault)
    seen = visit(proxy, GET)
    assert seen in fault.beside
    assert fault.when == "listen" or faulty.met == 1
    moved = seen == 200 and fault.kinds != ()
    assert len(healthy.requests) == moved
    assert proxy.admin.metrics().value("maitred_server_retries_total", pool="web", server=faulty.at) == moved
    assert_counted(proxy, fault, faulty, healthy)
    assert visit(proxy, GET) == 200, "its turn, and nothing is wrong with it"


@each_fault
def test_a_fault_never_makes_a_post_happen_twice(house, faulty, echo, fault):
    healthy = echo("healthy")
    proxy = house(faulty, healthy)
    faulty.become(fault)
    seen = visit(proxy, POST)
    assert seen in fault.post
    taken = [asked for asked in faulty.requests + healthy.requests if asked.method == "POST"]
    assert len(taken) <= 1, "taken twice"
    if seen == 200:
        assert [asked.body for asked in taken] == [b"one pizza"]
    assert_counted(proxy, fault, faulty, healthy)


@each_fault
def test_a_fault_of_the_only_server_is_told_by_the_status(house, faulty, fault):
    proxy = house(faulty)
    faulty.become(fault)
    assert visit(proxy, GET) in fault.alone
    assert faulty.met <= 1, "tried again where nothing else was there to try"
    assert_counted(proxy, fault, faulty)
    faulty.heal()
    assert visit(proxy, GET) == 200


@pytest.mark.parametrize("fault", [each for each in FAULTS if each.when == "request"], ids=repr)
def test_a_fault_on_a_kept_connection_costs_the_same(house, faulty, fault):
    """There a server that closes is believed to have left before the request came: a GET is sent to it once more."""
    proxy = house(faulty, options="ejection { failures = 0 }")
    assert visit(proxy, GET) == 200
    faulty.become(fault, drop=False)
    assert visit(proxy, GET) in fault.alone
    faulty.heal()
    assert visit(proxy, GET) == 200
    faulty.become(fault, drop=False)
    requests = len(faulty.requests)
    assert visit(proxy, POST) in fault.post
    assert len(faulty.requests) == requests + 1, "a POST was taken twice"


@each_fault
def test_the_end_of_a_fault_brings_the_server_back(house, faulty, echo, fault):
    healthy = echo("healthy")
    proxy = house(faulty, healthy, options="max-idle = 0  ejection { failures = 2  time = 100ms  share = 100 }")
    faulty.become(fault)
    for _ in range(4):
        assert visit(proxy, GET) in (*fault.beside, 200)
    if fault.ejects:
        proxy.admin.wait_event("server-ejected", faulty.at)
    assert proxy.admin.metrics().value("maitred_server_ejections_total", pool="web", server=faulty.at) == fault.ejects
    faulty.heal()
    faulty.requests.clear()
    end = time.monotonic() + DEADLINE
    while not faulty.requests:
        assert time.monotonic() < end, f"it is never asked again: {proxy.admin.server(faulty.at)}"
        assert visit(proxy, GET) == 200
    state = proxy.admin.wait(lambda state: state["state"] == "up", "a state without a reason to complain")
    assert state["reasons"] == []
    assert proxy.admin.server(faulty.at)["state"] == "up"
    assert proxy.admin.metrics().value("maitred_server_up", pool="web", server=faulty.at) == 1


@pytest.mark.parametrize("fault", ["refuse", "hang-before-accept", "hang-after-accept", "hang-mid-head",
                                   "reset-after-accept", "close-after-request", "close-mid-head", "garbage-line",
                                   "status-503"])
def test_checks_find_a_fault_and_its_end(house, faulty, echo, fault):
    healthy = echo("healthy")
    proxy = house(faulty, healthy, options="""max-idle = 0  ejection { failures = 0 }
        health { path = /well  interval = 50ms  fast-interval = 50ms  timeout = 150ms  rise = 2  fall = 2 }""")
    with proxy.admin.events() as events:
        faulty.become(by_name[fault])
        events.wait("server-down", faulty.at)
        state = proxy.admin.state()
        assert state["state"] == "degraded" and state["reasons"]
        assert proxy.admin.server(faulty.at)["reason"]
        assert [visit(proxy, POST) for _ in range(4)] == [200] * 4, "a server that is down was asked"
        faulty.heal()
        events.wait("server-up", faulty.at)
    faulty.requests.clear()
    assert [visit(proxy, GET) for _ in range(2)] == [200] * 2
    assert "/" in faulty.targets, "it is up, and not asked in its turn"
    assert proxy.admin.state()["state"] == "up"


@pytest.mark.parametrize("fault", ["refuse", "close-after-request", "reset-after-request", "reset-after-accept"])
def test_a_server_that_flaps_costs_nobody_a_get(house, faulty, echo, fault):
    healthy = echo("healthy")
    proxy = house(faulty, healthy, options="ejection { failures = 3  time = 20ms  share = 100 }")
    for number in range(60):
        if number % 5 == 0:
            faulty.become(by_name[fault] if number // 5 % 2 else None)
        assert visit(proxy, GET) == 200
    assert faulty.requests and healthy.requests


def test_a_server_that_flaps_alone_is_as_good_as_it_is_at_that_moment(house, faulty):
    proxy = house(faulty, options="max-idle = 0")
    faulty.flap(by_name["close-after-request"], every=3)
    assert [visit(proxy, GET) for _ in range(12)] == ([200] * 3 + [502] * 3) * 2
    assert_counted(proxy, by_name["close-after-request"], faulty, times=6)


def test_a_server_that_goes_wrong_in_another_way_each_time_spoils_no_connection(house, faulty):
    """Whatever was left of one answer is never taken for the next."""
    proxy = house(faulty, options="ejection { failures = 0 }")
    for fault in [each for each in FAULTS if each.when == "request" and "response_timeout" not in each.kinds] * 2:
        faulty.become(fault, drop=False)
        assert visit(proxy, GET) in fault.alone, fault
        faulty.become(None, drop=False)
        told = Told(proxy.get(f"/after-{fault}"))
        assert (told.server, told.target) == ("faulty", f"/after-{fault}")


# --- bytes

@pytest.fixture
def stream(stage):
    return lambda name: stage.add(FaultyStream(name))


@pytest.fixture
def wire(maitred):
    """wire(*servers): maitred with a TCP listener; wire.client() connects to it."""
    def build(*servers, options="ejection { failures = 0 }"):
        proxy = maitred(top(admin()) + tcp("web", "idle-timeout = 250ms", "127.0.0.1:{port2}") +
                        listener('route "/" { respond = 200 }') +      # it opens last: then all are open
                        pool("web", *servers, options=f"{TIMEOUTS}  {options}"))
        proxy.admin = admin_of(proxy)
        proxy.wired = lambda: proxy.client(("127.0.0.1", proxy.port2))
        return proxy
    return build


def assert_echoes(peer, data=b"tick"):
    assert peer.send(data).read_exactly(len(data)) == data


def meet(proxy, fault, beside=None):
    """A client whose server goes wrong: everything that came until the end, and how it ended. The connection beside it
    is in use meanwhile."""
    try:
        peer = proxy.wired()
    except ConnectionResetError:        # it was so fast that connect() itself tells
        return b"", "reset"
    if fault.when == "bytes":
        peer.send(b"hello")
    end = time.monotonic() + DEADLINE
    while not peer.is_closed(0.05):
        assert time.monotonic() < end, "the connection never ended"
        if beside:
            assert_echoes(beside)
    got = peer.read_to_end()
    peer.close()
    return got, peer.ended


@each_stream_fault
def test_a_fault_of_the_only_server_ends_its_tunnel(wire, stream, fault):
    faulty = stream("faulty")
    proxy = wire(faulty)
    faulty.become(fault)
    got, ended = meet(proxy, fault)
    assert fault.gets[0] <= len(got) <= fault.gets[1]
    assert got == PIECE[:len(got)], "bytes were changed"
    assert ended in fault.ends
    assert_counted(proxy, fault, faulty)
    faulty.heal()
    assert_echoes(proxy.wired())


@each_stream_fault
def test_a_fault_leaves_the_tunnels_of_others_alone(wire, stream, fault):
    """The tunnel to the faulty server ends, or is one to the healthy server; the one that was there goes on."""
    healthy, faulty = stream("healthy"), stream("faulty")
    proxy = wire(healthy, faulty)
    before = proxy.wired()
    assert_echoes(before)
    faulty.become(fault)
    if fault.moves == (True,):
        peer = proxy.wired().send(PIECE)
        end = time.monotonic() + DEADLINE
        while not peer.readable(0.05):
            assert time.monotonic() < end, "it never got another server"
            assert_echoes(before)
        assert peer.read_exactly(len(PIECE)) == PIECE
    else:
        got, ended = meet(proxy, fault, before)
        assert got == PIECE[:len(got)]
        assert ended in fault.ends
    assert len(healthy.connections) - 1 in fault.moves, "a tunnel moved after its server had it"
    assert_echoes(before)
    assert_counted(proxy, fault, faulty, healthy)


def test_what_came_before_a_reset_arrives_and_the_reset_too(wire, stream):
    """A clean end would make half a stream look like all of it."""
    faulty = stream("faulty")
    proxy = wire(faulty)
    peer = proxy.wired()
    assert_echoes(peer, PIECE)
    faulty.become(stream_by_name["reset-after-bytes"], drop=False)
    assert peer.send(b"!").read_to_end() == b""
    assert peer.ended == "reset"


def test_a_reset_of_the_client_reaches_the_server(wire, stream):
    server = stream("server")
    peer = wire(server).wired()
    assert_echoes(peer, PIECE)
    peer.reset()
    assert server.connections[0].done.wait(DEADLINE)
    assert server.connections[0].ended == "reset"


def test_a_server_of_bytes_that_flaps_costs_nobody_a_connection(wire, stream):
    faulty, healthy = stream("faulty"), stream("healthy")
    proxy = wire(faulty, healthy, options="ejection { failures = 3  time = 20ms  share = 100 }")
    for number in range(60):
        if number % 5 == 0:
            faulty.become(stream_by_name["refuse"] if number // 5 % 2 else None)
        peer = proxy.wired()
        assert_echoes(peer)
        peer.close()
    assert faulty.connections and healthy.connections
