"""Answers that an origin gets wrong, by accident or malice: rows H10, H33 and H34 of the checklist of attacks.
The client gets 502, or a message that is visibly cut; no byte of it may ever reach another client."""
import threading

import pytest

from kit.checks import assert_closes
from kit.config import proxying
from kit.origin import HANG, REQUEST, forever, steps, wait_for
from kit.wire import PeerGone, answer, chunked, request

EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
GOOD = forever(REQUEST, answer(b"good"))


def once(*actions):
    """The first connection plays this; all later ones behave."""
    return [steps(*actions), GOOD]


def serving(maitred, scripted, handler, **options):
    origin = scripted(handler)
    return maitred(proxying(origin, options="retries = 0  response-timeout = 2s", **options)), origin


def raw(*lines, body=b""):
    return b"".join((line if isinstance(line, bytes) else line.encode()) + b"\r\n" for line in lines) + b"\r\n" + body


OK = "HTTP/1.1 200 OK"
BAD_HEADS = {
    "length and chunked": raw(OK, "Content-Length: 5", "Transfer-Encoding: chunked", body=chunked(b"hello")),
    "two lengths": raw(OK, "Content-Length: 5", "Content-Length: 6", body=b"hello!"),
    "list of lengths": raw(OK, "Content-Length: 5, 6", body=b"hello!"),
    "length +5": raw(OK, "Content-Length: +5", body=b"hello"),
    "length -1": raw(OK, "Content-Length: -1", body=b"hello"),
    "length 0x5": raw(OK, "Content-Length: 0x5", body=b"hello"),
    "length empty": raw(OK, "Content-Length:", body=b"hello"),
    "length huge": raw(OK, "Content-Length: 99999999999999999999", body=b"hello"),
    "unknown coding": raw(OK, "Transfer-Encoding: gzip", body=b"hello"),
    "coding list": raw(OK, "Transfer-Encoding: chunked, chunked", body=chunked(b"hello")),
    "coding behind a VT": raw(OK, b"Transfer-Encoding: \x0bchunked", body=chunked(b"hello")),
    "coding in 1.0": raw("HTTP/1.0 200 OK", "Transfer-Encoding: chunked", body=chunked(b"hello")),
    "folded": raw(OK, "X: a", " b", "Content-Length: 0"),
    "folded by a tab": raw(OK, "X: a", "\tb", "Content-Length: 0"),
    "space before the first field": raw(OK, " X: a", "Content-Length: 0"),
    "space before the colon": raw(OK, "Content-Length : 0"),
    "no colon": raw(OK, "X", "Content-Length: 0"),
    "empty name": raw(OK, ": a", "Content-Length: 0"),
    "odd name": raw(OK, "X(: a", "Content-Length: 0"),
    "NUL in a value": raw(OK, b"X: a\x00b", "Content-Length: 0"),
    "CR in a value": raw(OK, b"X: a\rb", "Content-Length: 0"),
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "garbage": b"hello, world\r\n\r\n",
    "a request": request(),
    "HTTP/2": raw("HTTP/2.0 200 OK", "Content-Length: 0"),
    "http/1.1": raw("http/1.1 200 OK", "Content-Length: 0"),
    "status 99": raw("HTTP/1.1 99 Low", "Content-Length: 0"),
    "status 1000": raw("HTTP/1.1 1000 High", "Content-Length: 0"),
    "status 2x0": raw("HTTP/1.1 2x0 Odd", "Content-Length: 0"),
    "no status": raw("HTTP/1.1", "Content-Length: 0"),
    "two spaces": raw("HTTP/1.1  200 OK", "Content-Length: 0"),
    "bytes before": b"x" + answer(b"hello"),
    "ICY": raw("ICY 200 OK"),
    "head without end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    "endless status line": b"HTTP/1.1 200 " + b"x" * 200_000,
    "endless fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 40_000,
}


@pytest.mark.parametrize("bad", BAD_HEADS.values(), ids=BAD_HEADS.keys())
def test_h33_a_bad_head_of_an_answer_is_502_and_ends_that_connection(maitred, scripted, bad):
    proxy, origin = serving(maitred, scripted, once(REQUEST, bad, HANG))
    peer = proxy.client()
    response = peer.get()
    assert response.status == 502
    assert "X" not in response
    assert proxy.get().body == b"good", "the next client got something else"
    assert origin.connections[0].done.wait(5), "the connection was kept"


@pytest.mark.parametrize("bad", ["X: a\r\n b", "X: a\r\n\tb", "X:\r\n b"])
def test_h10_a_folded_line_in_an_answer_is_502(maitred, scripted, bad):
    proxy, _ = serving(maitred, scripted, once(REQUEST, raw(OK, bad, "Content-Length: 0"), HANG))
    assert proxy.get().status == 502
    assert proxy.get().body == b"good"


@pytest.mark.parametrize("end", [(), (b"HTTP/1.1 2",), (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",)],
                         ids=["nothing", "line", "fields"])
def test_h33_an_end_before_the_head_is_complete_is_502(maitred, scripted, end):
    proxy, _ = serving(maitred, scripted, once(REQUEST, *end))
    assert proxy.ask(request("POST", "/", body=b"hello")).status == 502
    assert proxy.get().body == b"good"


BAD_BODIES = {
    "short": (raw(OK, "Content-Length: 10", body=b"hello"),),
    "chunk size": (raw(OK, "Transfer-Encoding: chunked"), b"5\r\nhello\r\nxyz\r\n"),
    "chunk data too long": (raw(OK, "Transfer-Encoding: chunked"), b"5\r\nhello\r\n", b"3\r\nhello\r\n0\r\n\r\n"),
    "bare LF": (raw(OK, "Transfer-Encoding: chunked"), b"5\r\nhello\r\n", b"5\nhello\r\n0\r\n\r\n"),
    "size over 16 digits": (raw(OK, "Transfer-Encoding: chunked"), b"5\r\nhello\r\n",
                            b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    "no last chunk": (raw(OK, "Transfer-Encoding: chunked"), b"5\r\nhello\r\n"),
    "cut in a chunk": (raw(OK, "Transfer-Encoding: chunked"), b"5\r\nhello\r\n5\r\nhe"),
    "cut in the last chunk": (raw(OK, "Transfer-Encoding: chunked"), b"5\r\nhello\r\n0\r\n"),
    "broken trailer": (raw(OK, "Transfer-Encoding: chunked"), b"5\r\nhello\r\n0\r\n: x\r\n\r\n"),
}


@pytest.mark.parametrize("bad", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_h33_a_body_that_breaks_is_never_ended_properly(maitred, scripted, bad):
    proxy, _ = serving(maitred, scripted, once(REQUEST, *bad))
    peer = proxy.client().send(request())
    try:
        response = peer.read_response()
    except PeerGone:
        pass
    else:
        assert response.status == 502, f"it looks complete: {response!r}"
    assert proxy.get().body == b"good"


SURPLUS = {
    "204": ("GET", raw("HTTP/1.1 204 No Content") + EVIL),
    "204 with a length": ("GET", raw("HTTP/1.1 204 No Content", "Content-Length: 63") + EVIL),
    "304": ("GET", raw("HTTP/1.1 304 Not Modified") + EVIL),
    "304 with a length": ("GET", raw("HTTP/1.1 304 Not Modified", "Content-Length: 42") + EVIL),
    "HEAD": ("HEAD", raw(OK, "Content-Length: 42") + EVIL),
    "HEAD chunked": ("HEAD", raw(OK, "Transfer-Encoding: chunked") + chunked(EVIL)),
    "after a length": ("GET", answer(b"fine") + EVIL),
    "after no body": ("GET", answer() + EVIL),
    "after the last chunk": ("GET", raw(OK, "Transfer-Encoding: chunked") + chunked(b"fine") + EVIL),
    "a CRLF": ("GET", answer(b"fine") + b"\r\n"),
}


@pytest.mark.parametrize("method, sent", SURPLUS.values(), ids=SURPLUS.keys())
def test_h33_bytes_after_an_answer_never_reach_the_next_client(maitred, scripted, method, sent):
    proxy, origin = serving(maitred, scripted, once(REQUEST, sent, HANG))
    peer = proxy.client().send(request(method))
    try:
        response = peer.read_response(method)
        assert response.status in (200, 204, 304, 502), response
        assert b"EVIL" not in response.body
        second = peer.get("/second")
        assert second.body == b"good"
    except PeerGone:
        pass
    assert b"EVIL" not in peer.received
    assert proxy.get().body == b"good"
    assert origin.connections[0].done.wait(5), "the connection was kept"
    assert len(origin.connections[0].received.split(b"\r\n\r\n")) == 2, "the connection was used again"


def test_h34_bytes_on_an_idle_connection_are_discarded_with_it(maitred, scripted):
    proxy, origin = serving(maitred, scripted, once(REQUEST, answer(b"first"), EVIL, HANG))
    assert proxy.get().body == b"first"
    assert origin.connections[0].done.wait(5), "a connection that spoke unasked was kept"
    assert proxy.get().body == b"good"


def test_h34_bytes_that_come_later_on_an_idle_connection_are_discarded_too(maitred, scripted):
    later = threading.Event()
    proxy, origin = serving(maitred, scripted, once(REQUEST, answer(b"first"), wait_for(later), EVIL, HANG))
    peer = proxy.client()
    assert peer.get().body == b"first"
    later.set()
    assert origin.connections[0].done.wait(5), "a connection that spoke unasked was kept"
    assert peer.get().body == b"good"


def test_h34_an_origin_that_speaks_first_is_never_heard(maitred, scripted):
    """Whether its greeting comes before or after the request went out to it."""
    proxy, origin = serving(maitred, scripted, [steps(b"220 smtp.example ready\r\n", HANG), GOOD])
    response = proxy.get()
    assert response.status in (502, 504) or response.body == b"good"
    assert b"smtp" not in response.raw_head + response.body
    assert proxy.get().body == b"good"


def test_h33_interim_answers_without_end_are_cut(maitred, scripted):
    def babble(connection):
        REQUEST(connection)
        while True:
            connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
    proxy, origin = serving(maitred, scripted, [babble, GOOD])
    peer = proxy.client().send(request())
    while peer.read_some() and len(peer.received) < 1_000_000:
        if b"HTTP/1.1 502" in peer.received:
            break
    assert len(peer.received) < 1_000_000, "interim answers are passed on for ever"
    assert origin.connections[0].done.wait(5)
    assert proxy.get().body == b"good"


def test_h33_a_refused_answer_says_close_or_leaves_the_client_connection_usable(maitred, scripted):
    proxy, _ = serving(maitred, scripted, once(REQUEST, b"garbage\r\n\r\n", HANG))
    peer = proxy.client()
    response = peer.get()
    assert response.status == 502
    if "close" in (response.get("Connection") or "").lower():
        assert_closes(peer)
    else:
        assert peer.get().body == b"good"
