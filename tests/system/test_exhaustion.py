"""What maitred does when the machine has no more to give: no descriptors, no memory. Whoever asks for more may be
refused; whoever is served already is served on, nobody else is blamed, and it all ends with the shortage."""
import ctypes
import mmap
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from kit import process
from kit.admin import admin_of
from kit.config import admin, listener, pool, tcp, top
from kit.faults import CUT, GONE, FaultyStream, outcome
from kit.origin import REQUEST, Told, tell_or_echo
from kit.wire import DEADLINE, PeerGone, answer, connect, request

UPGRADE = request("GET", "/", "Connection: Upgrade", "Upgrade: bytes")
LARGE = bytes(range(256)) * 2048        # 512 KiB: more than is kept of a body, or fits in a socket


def bytes_come_back(peer, data=b"tick"):
    assert peer.send(data).read_exactly(len(data)) == data


class House:
    """maitred with a listener of each kind, and one server for each pool."""

    def __init__(self, stage, web, options="", limit=1000, **how):
        stream = stage.add(FaultyStream("stream"))
        self.web = web
        self.proxy = stage.maitred(
            top(admin() + f"max-connections = {limit}") + tcp("bytes", address="127.0.0.1:{port2}") +
            listener('route "/" { pool = web }  route "/here" { respond = 200 }', "max-requests = 0") +  # opens last
            pool("web", web, options=options) +
            pool("bytes", stream, options=options), **how)
        self.admin = admin_of(self.proxy)
        self.streamed = stream

    def wired(self):
        return self.proxy.client(("127.0.0.1", self.proxy.port2))

    def keep(self):
        """Two connections that are there from now on."""
        self.kept, self.tunnel = self.proxy.client(), self.wired()
        self.assert_kept()

    def assert_kept(self):
        assert self.kept.get().status == 200
        bytes_come_back(self.tunnel)

    def assert_nobody_is_blamed(self):
        """What maitred lacked is no fault of a server."""
        metrics = self.admin.metrics()
        assert metrics.errors(self.web.at) == {}
        assert metrics.errors(self.streamed.at, "bytes") == {}
        assert metrics.sum("maitred_server_ejections_total") == 0
        events = [event["text"] for event in self.admin.state()["events"]]
        assert not [text for text in events if "put aside" in text or "is down" in text], events

    def assert_whole(self):
        """Everything works for somebody new."""
        for _ in range(3):
            assert Told(self.proxy.ask(request("POST", "/order", body=LARGE))).length == len(LARGE)
            peer = self.wired()
            bytes_come_back(peer)
            peer.close()
        assert self.admin.get("/readyz").status == 200


# --- descriptors

def descriptors(proxy):
    return sorted(int(name) for name in os.listdir(f"/proc/{proxy.pid}/fd"))


class Shortage:
    """Within it, maitred can open only `spare` descriptors more than it has."""

    def __init__(self, proxy, spare=0):
        self.proxy, self.spare = proxy, spare

    def __enter__(self):
        # The limit is on numbers: those below it that are free are to be had, too.
        # One that a check has for a moment, however slow the machine is then, is not counted as taken.
        taken, seen, until = set(descriptors(self.proxy)), 0, time.monotonic() + 0.3
        while seen < 1500 or time.monotonic() < until:
            taken.intersection_update(descriptors(self.proxy))
            seen += 1
        free = [number for number in range(max(taken) + self.spare + 2) if number not in taken]
        self.before = resource.prlimit(self.proxy.pid, resource.RLIMIT_NOFILE)
        self.limit(free[self.spare])

    def limit(self, number):
        resource.prlimit(self.proxy.pid, resource.RLIMIT_NOFILE, (number, self.before[1]))

    def __exit__(self, *_):
        if self.proxy.process.poll() is None:
            self.limit(self.before[0])


@pytest.fixture
def held(stage, echo):
    """A house, and clients in it: some whose requests the server sits on, some whose tunnels are in use."""
    house = House(stage, echo("web"))
    house.web.hold()
    house.busy = [house.proxy.client().send(request("GET", f"/{number}")) for number in range(5)]
    house.web.wait_requests(5)
    house.tunnels = [house.wired() for _ in range(3)]
    for tunnel in house.tunnels:
        bytes_come_back(tunnel)
    return house


def assert_served(house):
    house.web.release()
    assert [Told(peer.read_response()).target for peer in house.busy] == [f"/{number}" for number in range(5)]
    for tunnel in house.tunnels:
        bytes_come_back(tunnel)


def test_without_descriptors_new_clients_wait_and_those_inside_are_served(held):
    with held.admin.events() as events, Shortage(held.proxy):
        new = held.proxy.client().send(request("GET", "/new"))
        wired = held.wired().send(b"early")
        events.wait("limit")
        assert not new.readable(0.1) and not wired.readable(0.1)
        for tunnel in held.tunnels:
            bytes_come_back(tunnel)
        assert_served(held)
        for peer in held.busy:          # they make room
            peer.close()
        assert Told(new.read_response()).target == "/new"
        assert wired.read_exactly(5) == b"early"
    held.assert_nobody_is_blamed()
    held.assert_whole()


def test_whoever_is_idle_goes_first_when_there_are_no_descriptors(held):
    idle = [held.proxy.client() for _ in range(4)]
    for peer in idle:
        assert peer.get("/here").status == 200
    with Shortage(held.proxy):
        assert held.proxy.get("/here").status == 200
        assert idle[0].is_closed(), "the one idle for longest is still there"
        assert_served(held)
    held.assert_whole()


def test_a_client_for_whom_no_connection_to_a_server_can_be_opened_is_503_and_nobody_is_blamed(held):
    peer = held.proxy.client()
    assert peer.get("/here").status == 200
    with Shortage(held.proxy):
        for _ in range(8):
            response = peer.get("/there")
            assert response.status == 503
            assert int(response.get("Retry-After")) >= 1
    with Shortage(held.proxy, spare=1):
        try:
            assert held.wired().read_to_end() == b""
        except ConnectionResetError:        # it was so fast that connect() itself tells
            pass
    assert_served(held)
    assert peer.get("/there").status == 200
    held.assert_nobody_is_blamed()
    held.assert_whole()


def test_checks_that_cannot_be_made_for_lack_of_descriptors_do_not_take_a_server_down(stage, echo):
    web = echo("web")
    house = House(stage, web, "health { interval = 30ms  fast-interval = 30ms  timeout = 1s  fall = 2  rise = 2 }"
                  "  max-requests = 0")     # else a fast machine makes connections that are no checks
    peer = house.proxy.client()

    def checks_while_served(seconds=0.4):
        begun, end = len(web.connections), time.monotonic() + seconds
        while time.monotonic() < end:
            assert peer.get().status == 200, "its server was believed to be down"
        return len(web.connections) - begun
    assert any(checks_while_served() > 4 for _ in range(10)), "no checks are made: this test shows nothing"
    for _ in range(10):     # a check that has a descriptor as the shortage begins leaves it to the next
        with Shortage(house.proxy):
            checks_while_served()   # on a busy machine the server has yet to see some that were made before
            if checks_while_served() <= 1:
                break
    else:
        pytest.fail("checks were never kept from being made")
    house.assert_nobody_is_blamed()
    house.assert_whole()


def test_the_admin_interface_answers_over_a_connection_that_is_there(held):
    watcher = held.admin.connect()
    assert watcher.ask(held.admin.request("GET", "/healthz")).status == 200
    with Shortage(held.proxy):
        for target in ("/healthz", "/readyz", "/api/state", "/metrics"):
            assert watcher.ask(held.admin.request("GET", target)).status == 200
        late = held.admin.connect().send(held.admin.request("GET", "/healthz"))
        assert_served(held)
    assert late.read_response().status == 200, "a question that had to wait was lost"
    late.close()
    watcher.close()
    held.assert_whole()


def test_much_goes_through_a_tunnel_without_a_descriptor_to_spare(held):
    """What moves bytes faster with more descriptors does without them."""
    with Shortage(held.proxy):
        for _ in range(20):
            for tunnel in held.tunnels:
                bytes_come_back(tunnel, LARGE[:65536])
        assert_served(held)
    held.assert_whole()


def test_a_reload_without_descriptors_fails_and_changes_nothing(held):
    with held.admin.events() as events, Shortage(held.proxy):
        held.proxy.signal(signal.SIGHUP)
        events.wait("reload-failed")
        assert_served(held)
    state = held.admin.state()
    assert state["config"]["reloads_failed"] == 1
    with held.admin.events() as events:
        held.proxy.signal(signal.SIGHUP)
        events.wait("reload")
    held.assert_whole()


def test_the_limit_on_connections_is_kept_told_and_over_when_somebody_leaves(stage, echo):
    house = House(stage, echo("web"), limit=8)
    house.web.hold()
    busy = [house.proxy.client().send(request("GET", f"/{number}")) for number in range(8)]
    house.web.wait_requests(8)
    new = house.proxy.client().send(request("GET", "/new"))
    house.proxy.wait_log("max-connections")
    assert not new.readable(0.1)
    assert len(house.web.requests) == 8
    busy[0].reset()
    house.web.wait_requests(9)
    house.web.release()
    assert all(peer.read_response().status == 200 for peer in [*busy[1:], new])
    for peer in [*busy, new]:
        peer.close()
    house.assert_whole()


# --- memory: kit/fail_alloc.c

class Allocations(ctypes.Structure):
    """struct control of kit/fail_alloc.c, in the page shared with maitred."""
    _fields_ = [("countdown", ctypes.c_int64), ("asked", ctypes.c_uint64), ("failed", ctypes.c_uint64),
                ("live", ctypes.c_int64), ("what", ctypes.c_uint32), ("forever", ctypes.c_uint32)]

    def arm(self, number, forever=False):
        self.failed, self.forever = 0, forever
        self.countdown = number

    def disarm(self):
        """Whether one failed since arm()."""
        self.countdown = 0
        return self.failed > 0


HEAP, MAPPINGS = 1, 2


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Built from kit/fail_alloc.c, which cannot stand before the allocator of a sanitizer."""
    if process.is_sanitized():
        pytest.skip("the binary has a sanitizer's allocator")
    compiler = shutil.which("cc")
    assert compiler, "kit/fail_alloc.c needs cc"
    built = tmp_path_factory.mktemp("library") / "fail_alloc.so"
    subprocess.run([compiler, "-std=c17", "-D_GNU_SOURCE", "-O1", "-fno-builtin", "-Wall", "-Werror", "-shared",
                    "-fPIC", "-o", built, Path(__file__).parent / "kit" / "fail_alloc.c"], check=True)
    return built


@pytest.fixture
def scarce(stage, scripted, library, tmp_path):
    """scarce(what): a house whose allocations a test can make fail; .memory is the switch."""
    def build(what=HEAP, limit=1000):
        shared = tmp_path / "allocations"
        shared.write_bytes(bytes(mmap.PAGESIZE))
        with shared.open("r+b") as file:
            page = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        # max-idle: each request opens its connection, and allocates what that takes.
        house = House(stage, scripted(tell_or_echo, name="web"), "max-idle = 0", limit=limit,
                      environment={"LD_PRELOAD": str(library), "FAIL_ALLOC_FILE": str(shared)})
        house.memory = Allocations.from_buffer(page)
        house.memory.what = what
        assert house.memory.live > 0, "the library was not loaded"
        house.keep()
        return house
    return build


# What a client may see when maitred lacks memory: the answer, 503, or the end of its connection. Not 502 or 504: no
# server did anything wrong.
FAIR = (200, 101, 500, 503, CUT, GONE)


def one_client(address, raw, then=b""):
    peer = connect(address)
    try:
        peer.send(raw)
        assert (seen := outcome(peer, raw.split(b" ", 1)[0].decode())) in FAIR
        if seen == 101 and then:
            assert then.startswith(peer.send(then).read_some())
    except PeerGone:
        pass
    finally:
        peer.close()


def ask_get(house):
    one_client(house.proxy.address, request("GET", "/" + "x" * 2000, "X-Field: " + "y" * 2000))


def ask_post(house):
    one_client(house.proxy.address, request("POST", "/order", body=LARGE))


def ask_upgrade(house):
    one_client(house.proxy.address, UPGRADE, b"hello")


def ask_wire(house):
    peer = house.wired()
    try:
        peer.send(b"hello")
        assert b"hello".startswith(peer.read_some())
    except PeerGone:
        pass
    finally:
        peer.close()


def ask_state(house):
    one_client(house.admin.address, house.admin.request("GET", "/api/state"))


def ask_metrics(house):
    one_client(house.admin.address, house.admin.request("GET", "/metrics"))


def ask_reload(house):
    """By signal. It is over when it says how it went."""
    house.proxy.log.clear()
    house.proxy.signal(signal.SIGHUP)
    house.proxy.wait_log(r"\breload|no memory")


ALL = {"get": ask_get, "large-post": ask_post, "upgrade": ask_upgrade, "tunnel": ask_wire, "admin-state": ask_state,
       "metrics": ask_metrics, "reload": ask_reload}
each_question = pytest.mark.parametrize("ask", ALL.values(), ids=ALL.keys())

MOST = 200      # allocations of one question that are made to fail, one by one; of more, as many in even steps


def numbers_for(house, ask):
    """The Nth allocations to fail: all that the question makes, once it made its first ones."""
    for _ in range(4):
        before = house.memory.asked
        ask(house)
        house.assert_kept()
        count = house.memory.asked - before
    return range(1, count + 1, (count + MOST - 1) // MOST)


def settle(house):
    """Blocks that are allocated once nothing is going on: a connection that ended, or a configuration that was
    replaced, may take a moment to be gone."""
    house.admin.wait(lambda state: len(state["generations"]) == 1, "the end of earlier configurations")
    end = time.monotonic() + DEADLINE
    least, quiet = house.memory.live, 0
    while quiet < 20:
        assert time.monotonic() < end, "it never comes to rest"
        house.assert_kept()
        live = house.memory.live
        least, quiet = (live, 0) if live < least else (least, quiet + 1)
    return least


@each_question
def test_one_allocation_that_fails_costs_at_most_the_one_who_asked(scarce, ask):
    house = scarce()
    numbers = numbers_for(house, ask)
    blocks = []
    # What is made once, a while after the start, is no loss: that is there after every round.
    while len(blocks) < 3 or (blocks[-1] > blocks[-2] and len(blocks) < 6):
        failed = 0
        for number in numbers:
            house.memory.arm(number)
            ask(house)
            failed += house.memory.disarm()
            assert house.proxy.process.poll() is None, f"it ended when allocation {number} failed"
            house.assert_kept()
        assert failed >= len(numbers) // 2, "hardly an allocation failed: this test shows nothing"
        ask(house)      # all goes well: what a failed reload had to keep is not needed any more
        blocks.append(settle(house))
    assert blocks[-1] <= blocks[-2], f"blocks of memory are lost: {blocks}"
    house.assert_nobody_is_blamed()
    house.assert_whole()


@each_question
def test_without_any_memory_it_lives_and_is_whole_once_there_is_some(scarce, ask):
    house = scarce()
    numbers = numbers_for(house, ask)
    for number in sorted({1, 2, 3, *numbers[::10]}):
        house.memory.arm(number, forever=True)
        if ask is ask_reload:       # nobody is left to say how it went
            house.proxy.signal(signal.SIGHUP)
        else:
            ask(house)
        house.memory.disarm()
        assert house.proxy.process.poll() is None, f"it ended when all from allocation {number} on failed"
        house.assert_kept()
    house.assert_nobody_is_blamed()
    house.assert_whole()


def test_a_reload_that_runs_out_of_memory_changes_all_or_nothing(scarce, echo):
    """And says which of the two."""
    house, other = scarce(), echo("other")
    text = house.proxy.config.read_text()
    texts = [text, text.replace(house.web.at, other.at).replace("respond = 200", "respond = 204")]
    expected = [(200, "web"), (204, "other")]
    now = 0

    def change(house):
        nonlocal now
        house.proxy.config.write_text(texts[1 - now])
        ask_reload(house)
        now = 1 - now if any("reloaded" in line for line in house.proxy.log) else now

    def assert_serves():
        end = time.monotonic() + 1
        while (serves := (house.proxy.get("/here").status, Told(house.proxy.get()).server)) != expected[now]:
            assert time.monotonic() < end, f"after {house.proxy.log}: {serves}, not {expected[now]}"
    for number in numbers_for(house, change):
        house.memory.arm(number)
        change(house)
        house.memory.disarm()
        assert_serves()
    if now:
        change(house)
    house.assert_nobody_is_blamed()
    house.assert_whole()


def test_a_crowd_that_needs_more_than_the_kernel_gives_is_served_in_part(scarce):
    """Stacks and blocks of bytes come from the kernel in large pieces: one of them is not to be had."""
    house = scarce(MAPPINGS)
    blocks = []
    while len(blocks) < 3 or (blocks[-1] > blocks[-2] and len(blocks) < 6):
        house.memory.arm(1, forever=len(blocks) > 0)
        crowd = []
        for _ in range(400):
            crowd.append(connect(house.proxy.address))
            crowd[-1].send(request("POST", "/order", "Content-Length: 40000") + LARGE[:20000])
        served = 0
        for peer in crowd:
            try:
                seen = outcome(peer.send(LARGE[20000:40000]), "POST")
            except PeerGone:
                seen = GONE
            assert seen in FAIR
            served += seen == 200
            peer.close()
        house.assert_kept()
        assert house.memory.disarm(), "nothing was asked of the kernel: this test shows nothing"
        assert served, "nobody was served"
        blocks.append(settle(house))
    assert blocks[-1] <= blocks[-2], f"blocks of memory are lost: {blocks}"
    house.assert_nobody_is_blamed()
    house.assert_whole()


def test_answers_that_find_no_block_to_be_read_into_are_no_fault_of_their_servers(scarce):
    """More answers at a time than there are blocks for, to clients that do not read. A thread sets 1,024 aside: those
    who have sent half of a head hold them, with those who wait for their answers."""
    house = scarce(limit=2000)
    go = threading.Event()

    def respond(connection):
        REQUEST(connection)
        go.wait(DEADLINE)
        connection.send(answer(LARGE))
    house.web.handlers = [respond]
    halves = [house.proxy.client().send(b"GET / HTTP/1.1\r\nHost:") for _ in range(700)]
    crowd = [house.proxy.client(receive_buffer=4096).send(request()) for _ in range(400)]
    house.web.wait_requests(400)
    house.memory.arm(1, forever=True)
    go.set()
    assert any([peer.readable(DEADLINE) for peer in crowd])
    seen = [outcome(peer) for peer in crowd]
    assert house.memory.disarm(), "nothing more was needed: this test shows nothing"
    assert set(seen) <= set(FAIR), seen
    assert 200 in seen, "nobody was served"
    for peer in halves:
        peer.close()
    house.web.handlers = [tell_or_echo]
    house.assert_kept()
    house.assert_nobody_is_blamed()
    house.assert_whole()
