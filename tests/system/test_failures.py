"""Servers that die, refuse, stall or stop half-way: what it costs the client, and what is never done twice."""
import socket
import threading
import time

import pytest

from kit.config import proxying, routing
from kit.origin import HANG, REQUEST, RESET, Told, forever, steps
from kit.wire import PeerGone, answer, chunked, request


CLIENTS, EACH = 8, 25


def test_a_server_killed_in_flight_costs_no_idempotent_request(maitred, echo):
    a, b = echo("a"), echo("b")
    proxy = maitred(proxying(a, b, options="retry-budget = 100"))
    failed = []

    def visit(number):
        peer = proxy.client()
        for count in range(EACH):
            method = ("GET", "PUT", "DELETE", "HEAD")[count % 4]
            response = peer.ask(request(method, f"/{number}/{count}", body=b"hello" if method == "PUT" else b""))
            if response.status != 200:
                failed.append((method, number, count, response))
    b.hold()
    threads = [threading.Thread(target=visit, args=(number,), daemon=True) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    b.wait_requests(2)
    b.stop()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a client still waits for its answer"
    assert not failed, f"{len(failed)} of {CLIENTS * EACH} failed: {failed[:3]}"


def test_a_post_that_a_server_took_is_never_repeated(maitred, scripted):
    one, two = (scripted(steps(REQUEST)) for _ in "12")
    proxy = maitred(proxying(one, two, options="retries = 5  retry-budget = 100"))
    response = proxy.ask(request("POST", "/order", body=b"one pizza"))
    assert response.status == 502
    assert len(one.requests) + len(two.requests) == 1


@pytest.mark.parametrize("method", ["POST", "PATCH", "BREW"])
def test_what_is_not_idempotent_is_never_repeated_even_with_a_key_unless_the_route_says_so(maitred, scripted, method):
    one, two = (scripted(steps(REQUEST)) for _ in "12")
    proxy = maitred(proxying(one, two, options="retries = 5  retry-budget = 100"))
    assert proxy.ask(request(method, "/order", "Idempotency-Key: 7", body=b"one pizza")).status == 502
    assert len(one.requests) + len(two.requests) == 1


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_post_with_a_key_is_repeated_where_the_route_says_so(maitred, scripted, echo, method):
    dying, alive = scripted(steps(REQUEST)), echo("alive")
    proxy = maitred(proxying(dying, alive, route="retry-with-key = yes", options="retry-budget = 100"))
    for number in range(4):
        told = Told(proxy.ask(request(method, "/order", f"Idempotency-Key: {number}", body=b"one pizza")))
        assert (told.server, told.length) == ("alive", 9)
    assert dying.requests, "the dying server was never asked"


def test_a_post_without_a_key_is_not_repeated_where_keys_are_trusted(maitred, scripted):
    one, two = (scripted(steps(REQUEST)) for _ in "12")
    proxy = maitred(proxying(one, two, route="retry-with-key = yes", options="retry-budget = 100"))
    assert proxy.ask(request("POST", "/order", body=b"one pizza")).status == 502
    assert len(one.requests) + len(two.requests) == 1


@pytest.mark.parametrize("how", [(), (RESET,)], ids=["closes", "resets"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_an_idempotent_request_is_repeated_on_another_server(maitred, scripted, echo, method, how):
    dying, alive = scripted(steps(REQUEST, *how)), echo("alive")
    proxy = maitred(proxying(dying, alive, options="retry-budget = 100"))
    for _ in range(2):
        assert proxy.ask(request(method, "/", body=b"hello" if method == "PUT" else b"")).status == 200
    assert dying.requests
    assert all(r.body == (b"hello" if method == "PUT" else b"") for r in alive.requests)


def test_nothing_is_repeated_when_retries_are_off(maitred, scripted):
    one, two = (scripted(steps(REQUEST)) for _ in "12")
    proxy = maitred(proxying(one, two, options="retries = 0"))
    assert proxy.get().status == 502
    assert len(one.requests) + len(two.requests) == 1


def test_a_route_may_turn_retries_off(maitred, scripted):
    one, two = (scripted(steps(REQUEST)) for _ in "12")
    proxy = maitred(proxying(one, two, route="retries = 0", options="retries = 5"))
    assert proxy.get().status == 502
    assert len(one.requests) + len(two.requests) == 1


def test_retries_end_after_the_number_that_was_given(maitred, scripted):
    dying = [scripted(steps(REQUEST)) for _ in range(5)]
    proxy = maitred(proxying(*dying, options="retries = 2  retry-budget = 100"))
    assert proxy.get().status == 502
    assert sorted(len(origin.requests) for origin in dying) == [0, 0, 1, 1, 1]


def test_a_budget_of_nothing_allows_no_retry(maitred, scripted):
    one, two = (scripted(steps(REQUEST)) for _ in "12")
    proxy = maitred(proxying(one, two, options="retries = 5  retry-budget = 0"))
    assert proxy.get().status == 502
    assert len(one.requests) + len(two.requests) == 1


def test_a_server_that_refuses_connections_is_passed_over_for_any_method(maitred, closed, echo):
    alive = echo("alive")
    proxy = maitred(proxying(closed(), closed(), alive, options="retries = 0"))
    for _ in range(12):
        told = Told(proxy.ask(request("POST", "/order", body=b"one pizza")))
        assert (told.server, told.length) == ("alive", 9)


def test_when_all_servers_refuse_it_is_503_with_retry_after(maitred, closed):
    proxy = maitred(proxying(closed(), closed()))
    for method in ("GET", "POST"):
        response = proxy.ask(request(method, "/", body=b"hello" if method == "POST" else b""))
        assert response.status == 503
        assert int(response.get("Retry-After")) >= 1


def test_a_server_that_does_not_take_connections_is_given_up_after_connect_timeout(maitred, echo):
    """A listener whose queue is full lets a connect hang."""

    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    held = []
    for _ in range(4):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(full.getsockname())
        held.append(sock)
    alive = echo("alive")
    proxy = maitred(proxying("127.0.0.1:%d" % full.getsockname()[1], alive, options="connect-timeout = 200ms"))
    assert all(Told(proxy.get()).server == "alive" for _ in range(4))
    for sock in held + [full]:
        sock.close()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_server_that_does_not_answer_in_time_is_504(maitred, scripted, method):
    origin = scripted(steps(REQUEST, HANG))
    proxy = maitred(proxying(origin, options="response-timeout = 200ms"))
    response = proxy.ask(request(method, "/", body=b"hello" if method == "POST" else b""))
    assert response.status == 504
    assert origin.connections[0].done.wait(5), "the connection was kept"


def test_a_timeout_is_of_silence_not_of_the_whole_answer(maitred, scripted):
    def serve(connection):
        REQUEST(connection)
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        for _ in range(10):
            assert not connection.readable(0.08)
            connection.send(b"x")
    proxy = maitred(proxying(scripted(serve), options="response-timeout = 400ms"))
    assert proxy.get().body == b"x" * 10


CUT = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500,),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"x" * 500)[:-5],),
}


@pytest.mark.parametrize("end", ["close", "reset", "silence"])
@pytest.mark.parametrize("sent", CUT.values(), ids=CUT.keys())
def test_an_answer_cut_in_the_middle_never_looks_whole(maitred, scripted, sent, end):
    arrived = threading.Event()

    def serve(connection):
        REQUEST(connection)
        connection.send(*sent)
        arrived.wait(8)
        if end == "reset":
            connection.reset()
        elif end == "silence":
            HANG(connection)
    origin = scripted(serve)
    proxy = maitred(proxying(origin, options="response-timeout = 300ms  retries = 3"))
    peer = proxy.client().send(request())
    peer.read_until(b"xxxxx")
    arrived.set()
    rest = peer.read_to_end()
    assert not rest.endswith(b"0\r\n\r\n")
    assert b"HTTP/1.1" not in rest, "a second answer within the first"
    assert len(origin.requests) == 1, "repeated after the answer had begun"


def test_a_chunked_answer_cut_for_a_1_0_client_ends_by_reset(maitred, scripted):
    """A clean close would look like the end."""
    arrived = threading.Event()

    def serve(connection):
        REQUEST(connection)
        connection.send(*CUT["chunked"])
        arrived.wait(8)
    peer = maitred(proxying(scripted(serve))).client().send(request(version="HTTP/1.0"))
    peer.read_until(b"xxxxx")
    arrived.set()
    peer.read_to_end()
    assert peer.ended == "reset"


def test_kept_connections_that_died_never_cost_a_request(maitred, echo):
    """The origin says nothing and closes after each answer; a POST must neither fail nor be taken twice."""
    origin = echo(close_after_each=True)
    proxy = maitred(proxying(origin, options="retries = 0"))
    peer = proxy.client()
    for number in range(300):
        method = "POST" if number % 3 == 0 else "GET"
        told = Told(peer.ask(request(method, f"/{number}", body=b"hello" if method == "POST" else b"")))
        assert told.target == f"/{number}"
    assert origin.targets == [f"/{number}" for number in range(300)]


def test_a_server_that_closed_along_with_its_answer_is_not_asked_what_cannot_be_repeated_on_a_kept_connection(maitred, scripted):
    """It says nothing of it; the next one that it closes may be one that a POST was just sent on."""
    def serve_and_close(connection):
        REQUEST(connection)
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)      # the answer and the end come together
        connection.send(answer(b"first"))
        connection.sock.shutdown(socket.SHUT_WR)
        connection.read_to_end()

    def serve_one(connection):
        REQUEST(connection)
        connection.send(answer(b"second"))
        connection.read_some()      # and closes, whatever it was

    def serve(connection):
        REQUEST(connection)
        connection.send(answer(b"third"))
    peer = maitred(proxying(scripted([serve_and_close, serve_one, serve]), options="retries = 0")).client()
    assert peer.ask(request()).body == b"first"
    assert peer.ask(request()).body == b"second"
    assert peer.ask(request("POST", body=b"once")).body == b"third"


def test_connections_to_a_server_are_used_again(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin))
    for _ in range(50):
        assert proxy.get().status == 200
    assert len(origin.connections) == 1


def test_a_connection_to_a_server_serves_as_many_requests_as_it_may(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin, options="max-requests = 10"))
    for _ in range(50):
        assert proxy.get().status == 200
    assert len(origin.connections) == 5


def test_idle_connections_to_a_server_are_closed_after_their_time(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin, options="idle-timeout = 200ms"))
    assert proxy.get().status == 200
    assert origin.connections[0].done.wait(8)
    assert proxy.get().status == 200


def test_no_idle_connection_is_kept_when_none_may_be(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin, options="max-idle = 0"))
    for _ in range(3):
        assert proxy.get().status == 200
    assert len(origin.connections) == 3
    assert all(connection.done.wait(5) for connection in origin.connections)


def test_one_sick_pool_does_not_hurt_another(maitred, scripted, echo):
    proxy = maitred(routing('route "/" { pool = well }  route "/sick" { pool = sick }',
                            well=echo("well"), sick=scripted(steps(REQUEST, HANG))))
    stuck = [proxy.client().send(request("GET", "/sick")) for _ in range(50)]
    for _ in range(50):
        assert proxy.get().status == 200
    assert not any(peer.readable(0) for peer in stuck)


def test_a_big_body_is_not_held_for_a_retry(maitred, scripted):
    """Streamed bodies are gone once sent: the client hears 502, and no server gets half of it as a whole."""
    dying = scripted(lambda connection: connection.read_exactly(100_000))
    proxy = maitred(proxying(dying, options="retries = 3  retry-budget = 100"))
    peer = proxy.client()
    try:
        peer.send(request("PUT", "/", body=b"x" * 1_000_000))
        status = peer.read_response().status
    except PeerGone:
        status = None
    assert status in (502, None)
    assert proxy.process.poll() is None


def test_a_failing_server_is_ejected_and_comes_back(maitred, scripted, echo):
    dying = scripted([steps(REQUEST)] * 3 + [forever(REQUEST, answer(b"well again"))], name="dying")
    alive = echo("alive")
    proxy = maitred(proxying(dying, alive,
                             options="retry-budget = 100  ejection { failures = 3  time = 700ms  share = 100 }"))
    began = time.monotonic()
    for _ in range(10):
        assert proxy.get().status == 200
    assert len(dying.requests) == 3
    seen = 0
    while len(dying.requests) == 3 and time.monotonic() - began < 8:
        assert proxy.get().status == 200
        seen += 1
    assert len(dying.requests) > 3, "it never came back"
    assert time.monotonic() - began >= 0.65, "it came back before its time"
    assert seen > 5


def test_the_last_server_is_never_ejected(maitred, scripted):
    dying = scripted([steps(REQUEST)] * 10 + [forever(REQUEST, answer(b"well again"))])
    proxy = maitred(proxying(dying, options="retries = 0  ejection { failures = 1  time = 60s  share = 100 }"))
    for _ in range(10):
        assert proxy.get().status == 502
    assert proxy.get().body == b"well again"


def test_of_two_failing_servers_one_is_never_ejected(maitred, scripted):
    dying = [scripted([steps(REQUEST)] * 4 + [forever(REQUEST, answer(b"well again"))]) for _ in "12"]
    proxy = maitred(proxying(*dying, options="retries = 0  ejection { failures = 1  time = 60s  share = 100 }"))
    for _ in range(12):
        response = proxy.get()
        assert response.status in (200, 502)
    assert proxy.get().body == b"well again"


@pytest.mark.parametrize("status, counts", [("502 Bad Gateway", True), ("503 Service Unavailable", True),
                                            ("504 Gateway Timeout", True),
                                            ("500 Internal Server Error", False), ("404 Not Found", False)])
def test_answers_that_say_the_server_is_not_well_count_as_failures(maitred, scripted, echo, status, counts):
    sick = scripted(forever(REQUEST, answer(b"oh", status=status)))
    proxy = maitred(proxying(sick, echo("alive"), options="ejection { failures = 3  time = 60s  share = 100 }"))
    statuses = [proxy.get().status for _ in range(20)]
    assert statuses.count(int(status[:3])) == (3 if counts else 10), statuses
