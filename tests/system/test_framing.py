"""How messages are framed on their way through: lengths, chunks, ends, interim answers, and bodies bigger than memory."""
import hashlib
import threading

import pytest

from kit import process
from kit.checks import assert_closes, passed_on
from kit.config import proxying
from kit.origin import HANG, REQUEST, EchoOrigin, Told, forever, steps
from kit.wire import answer, chunked, request


@pytest.fixture(scope="module")
def origin(shared):
    return shared.add(EchoOrigin())


@pytest.fixture(scope="module")
def proxy(shared, origin):
    return shared.maitred(proxying(origin))


def serving(maitred, scripted, *actions):
    """A proxy before an origin that reads a request and does this, on every connection and for every request."""
    return maitred(proxying(scripted(forever(REQUEST, *actions))))


def serving_once(maitred, scripted, *actions):
    """The same, but then the origin ends the connection."""
    return maitred(proxying(scripted(steps(REQUEST, *actions))))


def test_a_length_stays_a_length_both_ways(proxy):
    peer = proxy.client()
    response = peer.ask(request("POST", "/", body=b"hello"))
    told = Told(response)
    assert told.get("Content-Length") == "5" and "Transfer-Encoding" not in told
    assert "Content-Length" in response and not response.chunked


def test_a_chunked_request_stays_chunked(proxy):
    told = passed_on(proxy, request("POST", "/", "Transfer-Encoding: chunked") + chunked(b"hel", b"lo"), "POST")
    assert told.get("Transfer-Encoding").lower() == "chunked" and "Content-Length" not in told
    assert told.sha256 == hashlib.sha256(b"hello").hexdigest()


def test_an_empty_body_stays_an_empty_body(proxy):
    assert passed_on(proxy, request("POST", "/", "Content-Length: 0")).get("Content-Length") == "0"
    assert passed_on(proxy, request("POST", "/", "Transfer-Encoding: chunked") + b"0\r\n\r\n").length == 0


def test_a_request_without_a_body_gets_no_framing(proxy):
    told = passed_on(proxy, request("GET", "/"))
    assert "Content-Length" not in told and "Transfer-Encoding" not in told


def test_request_trailers_are_passed_on(proxy):
    told = passed_on(proxy, request("POST", "/", "Transfer-Encoding: chunked", "Trailer: X-Sum") +
                     chunked(b"hello", trailers=["X-Sum: 7", "X-Sum: 8"]), "POST")
    assert told.trailers == [("X-Sum", "7"), ("X-Sum", "8")]


def test_a_chunked_answer_stays_chunked_with_its_trailers(maitred, scripted):
    proxy = serving(maitred, scripted, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n",
                    chunked(b"hel", b"lo", trailers=["X-Sum: 7", "Content-Length: 3", "Set-Cookie: x"]))
    peer = proxy.client()
    response = peer.get("/", "TE: trailers", "Connection: TE")
    assert (response.chunked, response.body) == (True, b"hello")
    assert ("X-Sum", "7") in response.trailers
    assert "content-length" not in [name.lower() for name, _ in response.trailers]
    assert peer.get().body == b"hello"


def test_pieces_of_a_chunked_answer_are_not_held_back(maitred, scripted):
    more = threading.Event()

    def serve(connection):
        REQUEST(connection)
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        assert more.wait(10)
        connection.send(b"6\r\nsecond\r\n0\r\n\r\n")
    peer = maitred(proxying(scripted(serve))).client().send(request())
    peer.read_until(b"first\r\n")
    more.set()
    assert peer.read_until(b"0\r\n\r\n").replace(b"\r\n", b"").endswith(b"second0")


def test_pieces_of_a_request_body_are_not_held_back(maitred, scripted):
    got = threading.Event()

    def serve(connection):
        connection.read_until(b"first")
        got.set()
        connection.read_until(b"second")
        connection.send(answer(b"both"))
    proxy = maitred(proxying(scripted(serve)))
    peer = proxy.client().send(request("POST", "/", "Transfer-Encoding: chunked") + b"5\r\nfirst\r\n")
    assert got.wait(8), "the origin does not see the first half of the body"
    assert peer.ask(b"6\r\nsecond\r\n0\r\n\r\n", method="POST").body == b"both"


UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello world"


def test_an_answer_that_ends_by_close_becomes_chunked_for_a_1_1_client(maitred, scripted):
    proxy = serving_once(maitred, scripted, UNTIL_CLOSE)
    peer = proxy.client()
    response = peer.get()
    assert (response.chunked, response.body) == (True, b"hello world")
    assert peer.get().body == b"hello world", "the client's connection did not live on"


@pytest.mark.parametrize("sent", [UNTIL_CLOSE,
                                  b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
                                  chunked(b"hello", b" world")],
                         ids=["until close", "chunked"])
def test_an_answer_without_length_ends_by_close_for_a_1_0_client(maitred, scripted, sent):
    proxy = serving_once(maitred, scripted, sent)
    peer = proxy.client()
    response = peer.ask(request(version="HTTP/1.0"))
    assert response.body == b"hello world"
    assert "Transfer-Encoding" not in response and "Content-Length" not in response
    assert_closes(peer)


def test_an_answer_that_ends_by_reset_is_cut(maitred, scripted):
    def serve(connection):
        REQUEST(connection)
        connection.send(UNTIL_CLOSE)
        read.wait(8)
        connection.reset()
    read = threading.Event()
    peer = maitred(proxying(scripted(serve))).client().send(request())
    peer.read_until(b"hello world")
    read.set()
    assert not peer.read_to_end().endswith(b"0\r\n\r\n"), "a reset looks like a proper end"


def test_a_1_0_origin_is_asked_in_1_1_and_its_answer_is_given_in_1_1(maitred, scripted):
    origin = scripted(steps(REQUEST, answer(b"old", version="HTTP/1.0")))
    proxy = maitred(proxying(origin))
    peer = proxy.client()
    response = peer.get()
    assert (response.version, response.body) == ("HTTP/1.1", b"old")
    assert origin.requests[0].version == "HTTP/1.1"
    assert peer.get().body == b"old"


def test_a_1_0_client_is_closed_after_its_answer(proxy):
    peer = proxy.client()
    assert peer.ask(request(version="HTTP/1.0")).status == 200
    assert_closes(peer)


def test_a_1_0_client_may_ask_to_be_kept(proxy):
    peer = proxy.client()
    response = peer.ask(request("GET", "/", "Connection: keep-alive", version="HTTP/1.0"))
    if (response.get("Connection") or "").lower() == "keep-alive":
        assert peer.ask(request(version="HTTP/1.0")).status == 200
    assert_closes(peer)


def test_a_client_that_says_close_is_closed(proxy):
    peer = proxy.client()
    response = peer.get("/", "Connection: close")
    assert response.status == 200
    assert_closes(peer, response)


def test_requests_in_front_of_a_half_close_are_answered_as_long_as_others_stand_behind_them(maitred, echo):
    origin = echo()
    origin.hold()
    peer = maitred(proxying(origin)).client().send(request("GET", "/1") + request("GET", "/2"))
    peer.finish()
    origin.wait_requests(1)
    origin.release()
    assert Told(peer.read_response()).target == "/1"
    assert peer.is_closed()


@pytest.mark.parametrize("head", [answer(b"x" * 1234)[:-1234], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                                  b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n"], ids=["length", "chunked", "neither"])
def test_an_answer_to_head_has_no_body(maitred, scripted, head):
    proxy = serving(maitred, scripted, head)
    peer = proxy.client()
    for _ in range(3):
        response = peer.ask(request("HEAD"))
        assert response.status == 200
        assert response.get("Content-Length") == ("1234" if b"1234" in head else None)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_204_and_304_have_no_body(maitred, scripted, status):
    proxy = serving(maitred, scripted, f'HTTP/1.1 {status}\r\nETag: "x"\r\n\r\n'.encode())
    peer = proxy.client()
    for _ in range(3):
        response = peer.get()
        assert response.status == int(status[:3])
        assert "Transfer-Encoding" not in response
        assert response.get("ETag") == '"x"'


def test_304_may_tell_the_length_that_200_would_have(maitred, scripted):
    proxy = serving(maitred, scripted, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\n\r\n")
    peer = proxy.client()
    assert peer.get().status == 304
    assert peer.get().status == 304


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"


def test_early_hints_are_passed_on(maitred, scripted):
    proxy = serving(maitred, scripted, HINTS, HINTS, answer(b"hello"))
    peer = proxy.client()
    for _ in range(2):
        interim = []
        response = peer.send(request()).read_response(interim=interim)
        assert [hint.status for hint in interim] == [103, 103]
        assert interim[0].get("Link") == "</style.css>; rel=preload"
        assert response.body == b"hello"
        assert "Link" not in response


def test_early_hints_come_early(maitred, scripted):
    more = threading.Event()

    def serve(connection):
        REQUEST(connection)
        connection.send(HINTS)
        assert more.wait(10)
        connection.send(answer(b"hello"))
    peer = maitred(proxying(scripted(serve))).client().send(request())
    assert peer.read_head().status == 103
    more.set()
    assert peer.read_response().body == b"hello"


def test_a_1_0_client_gets_no_interim_answer(maitred, scripted):
    proxy = serving(maitred, scripted, b"HTTP/1.1 100 Continue\r\n\r\n", HINTS, answer(b"hello"))
    peer = proxy.client().send(request(version="HTTP/1.0"))
    response = peer.read_head()
    assert response.status == 200


def test_an_answer_before_the_whole_body_is_passed_on_at_once(maitred, scripted):
    def serve(connection):
        connection.read_until(b"\r\n\r\n")
        connection.send(answer(b"too big", status="413 Content Too Large"))
        HANG(connection)
    proxy = maitred(proxying(scripted(serve)))
    peer = proxy.client().send(request("POST", "/", "Content-Length: 1000000") + b"x" * 1000)
    assert peer.read_response().status == 413


def test_a_small_body_is_gathered_before_a_server_is_asked(maitred, echo):
    """So that a slow client holds no server."""
    origin = echo()
    proxy = maitred(proxying(origin))
    peer = proxy.client().send(request("POST", "/slow", "Content-Length: 10") + b"hello")
    assert proxy.get("/between").status == 200
    assert origin.targets == ["/between"]
    assert Told(peer.ask(b"world", method="POST")).length == 10


MIB = 1 << 20
SIZE = 50 * MIB
PIECE = bytes(range(256)) * 1024            # 256 KiB
DIGEST = hashlib.sha256(PIECE * (SIZE // len(PIECE))).hexdigest()


def send_all(peer, form):
    for _ in range(SIZE // len(PIECE)):
        peer.sock.sendall(PIECE if form == "length" else b"%x\r\n%s\r\n" % (len(PIECE), PIECE))
    if form == "chunked":
        peer.sock.sendall(b"0\r\n\r\n")


FRAMING = {"length": f"Content-Length: {SIZE}", "chunked": "Transfer-Encoding: chunked"}


def take_all(peer, form, seconds=60):
    """Reads SIZE bytes of a body in that form without keeping them; its hash."""
    digest = hashlib.sha256()
    if form == "length":
        peer.discard(SIZE, seconds, each=digest.update)
    else:
        while size := int(peer.read_until(b"\r\n", seconds), 16):
            peer.discard(size, seconds, each=digest.update)
            peer.read_exactly(2)
        peer.read_exactly(2)
    return digest.hexdigest()


def assert_little_memory(proxy, before):
    if not process.is_sanitized():
        grown = proxy.memory("VmHWM") - before
        assert grown < 4096, f"a body of 50 MiB took {grown} KiB"


@pytest.fixture
def measured(maitred):
    """A proxy that has served, and how much memory it had by then."""
    def start(origin):
        proxy = maitred(proxying(origin, http="max-body = 100m"))
        proxy.client()
        proxy.forget_peak()
        return proxy, proxy.memory("VmHWM")
    return start


@pytest.mark.parametrize("form", FRAMING)
def test_a_big_request_body_streams_through(measured, scripted, form):
    digests = []

    def serve(connection):
        connection.read_until(b"\r\n\r\n")
        digests.append(take_all(connection, form))
        connection.send(answer(b"got it"))
        HANG(connection)
    proxy, before = measured(scripted(serve))
    peer = proxy.client().send(request("POST", "/", FRAMING[form]))
    send_all(peer, form)
    assert peer.read_response(seconds=30).body == b"got it"
    assert digests == [DIGEST]
    assert_little_memory(proxy, before)


@pytest.mark.parametrize("form", FRAMING)
def test_a_big_answer_streams_through(measured, scripted, form):
    def serve(connection):
        REQUEST(connection)
        connection.send(f"HTTP/1.1 200 OK\r\n{FRAMING[form]}\r\n\r\n".encode())
        send_all(connection, form)
        HANG(connection)
    proxy, before = measured(scripted(serve))
    peer = proxy.client().send(request())
    assert peer.read_head().status == 200
    assert take_all(peer, form) == DIGEST
    assert_little_memory(proxy, before)
    assert not peer.readable(0)


def test_a_reader_that_stops_stops_the_origin_and_costs_little_memory(measured, scripted):
    sent = []

    def serve(connection):
        REQUEST(connection)
        connection.send(f"HTTP/1.1 200 OK\r\n{FRAMING['length']}\r\n\r\n".encode())
        for _ in range(SIZE // len(PIECE)):
            connection.send(PIECE)
            sent.append(len(PIECE))
        HANG(connection)
    proxy, before = measured(scripted(serve))
    peer = proxy.client(receive_buffer=16384).send(request())
    assert peer.read_head().status == 200
    peer.discard(MIB)
    assert sum(sent) < SIZE, "the origin sent all of it to a client that does not read"
    peer.discard(SIZE - MIB)
    assert_little_memory(proxy, before)


def test_both_ways_at_once(maitred, scripted):
    """An origin that answers while it reads, byte for byte."""
    def serve(connection):
        connection.read_until(b"\r\n\r\n")
        connection.send(f"HTTP/1.1 200 OK\r\n{FRAMING['length']}\r\n\r\n".encode())
        connection.discard(SIZE, each=lambda piece: connection.send(piece))
        HANG(connection)
    proxy = maitred(proxying(scripted(serve)))
    peer = proxy.client().send(request("POST", "/", FRAMING["length"]))
    sender = threading.Thread(target=send_all, args=(peer, "length"), daemon=True)
    sender.start()
    assert peer.read_head().status == 200
    assert take_all(peer, "length") == DIGEST
    sender.join()


def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_no_whole_request_behind(maitred, scripted):
    half = threading.Event()

    def serve(connection):
        connection.read_until(b"half")
        half.set()
        HANG(connection)
    origin = scripted([serve, forever(REQUEST, answer(b"fine"))])
    proxy = maitred(proxying(origin))
    peer = proxy.client().send(request("POST", "/", "Transfer-Encoding: chunked") + b"4\r\nhalf\r\n")
    assert half.wait(8)
    peer.reset()
    assert origin.connections[0].done.wait(8), "half a request was left standing at the origin"
    assert proxy.get().body == b"fine"
    assert origin.connections[0].received.rstrip(b"\r\n").endswith(b"half"), "half a request was made a whole one"


@pytest.mark.parametrize("how", ["close", "reset", "finish"])
def test_a_client_that_leaves_while_waiting_frees_the_origin(maitred, scripted, how):
    """A client that closes cannot be told from one that only half-closes: both count as gone."""
    origin = scripted([steps(REQUEST, HANG), forever(REQUEST, answer(b"fine"))])
    proxy = maitred(proxying(origin))
    peer = proxy.client().send(request())
    origin.wait_requests(1)
    getattr(peer, how)()
    assert origin.connections[0].done.wait(8), "an exchange nobody waits for is kept"
    assert proxy.get().body == b"fine"
