"""Bodies of requests that an attacker may bend: rows H14 to H18, H26 to H28, H30 to H32 of the checklist of attacks."""
import threading

import pytest

from kit.checks import SMUGGLED, assert_body_refused, assert_closes, assert_lives, assert_refused, passed_on
from kit.config import proxying, routing
from kit.origin import HANG, HEAD, REQUEST, EchoOrigin, Told, forever, steps
from kit.wire import answer, chunked, request


@pytest.fixture(scope="module")
def origin(shared):
    return shared.add(EchoOrigin())


@pytest.fixture(scope="module")
def proxy(shared, origin):
    return shared.maitred(proxying(origin))


def post_chunked(body, *fields):
    return request("POST", "/", "Transfer-Encoding: chunked", *fields) + body


@pytest.mark.parametrize("body", [
    b"5\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"5;a=b\nhello\r\n0\r\n\r\n",
    b"5;a\nb=c\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\n\r\n",
    b"5\r\nhello\r\n0\r\n\n",
    b"5\r\nhello\r\n0\r\nX: y\n\r\n",
    b"5\r\nhello\r\n0\r\nX: y\r\n\n",
    b"0\n\n",
], ids=repr)
def test_h14_a_bare_lf_in_chunked_framing_is_refused(proxy, origin, body):
    assert_body_refused(proxy, origin, post_chunked(body), 400)


@pytest.mark.parametrize("size", [b"0x5", b"+5", b"-1", b" 5", b"5 ", b"\t5", b"5\t", b"1_0", b"", b"g", b"5h",
                                  b"00000000000000005",
                                  b"10000000000000000", b"ffffffffffffffffff", b"ffffffffffffffff",
                                  b"8000000000000000", b"\xb5",
                                  b"5\x00", b"5,5", b"5.0", b"\x005"], ids=repr)
def test_h15_a_chunk_size_that_is_not_plain_hex_is_refused(proxy, origin, size):
    assert_body_refused(proxy, origin, post_chunked(size + b"\r\nhello\r\n0\r\n\r\n"), 400)


@pytest.mark.parametrize("size", [b"5", b"05", b"0000000000000005"])
def test_h15_zeros_before_a_chunk_size_are_fine(proxy, size):
    assert passed_on(proxy, post_chunked(size + b"\r\nhello\r\n0\r\n\r\n")).length == 5


@pytest.mark.parametrize("extension", [b";a=b", b';a="b c"', b";a", b";a=b;c=d", b';a="\\""', b';a=""'], ids=repr)
def test_h16_a_chunk_extension_is_dropped(proxy, origin, extension):
    mark = origin.mark()
    told = passed_on(proxy, post_chunked(b"5" + extension + b"\r\nhello\r\n0" + extension + b"\r\n\r\n"))
    assert told.length == 5
    assert b";" not in b"".join(origin.since(mark)).split(b"\r\n\r\n", 1)[1]


@pytest.mark.parametrize("extension", [b";a=\x00", b";a=b\x00c", b";a=\rb", b"\r;a=b", b';a="b', b';a="b\r\n"', b";",
                                       b";;a=b", b";a=b;",
                                       b";=b", b";a=", b";a=\x7f", b";a=b\x01", b";a b", b" ;a=b"], ids=repr)
def test_h16_a_broken_chunk_extension_is_refused(proxy, origin, extension):
    assert_body_refused(proxy, origin, post_chunked(b"5" + extension + b"\r\nhello\r\n0\r\n\r\n"), 400)


@pytest.mark.parametrize("body", [
    b"5;a=" + b"x" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
    b"".join(b"1;a=" + b"x" * 100 + b"\r\ny\r\n" for _ in range(50)) + b"0\r\n\r\n",
    b"5\r\nhello\r\n0;a=" + b"x" * 5000 + b"\r\n\r\n",
], ids=["one", "sum", "last"])
def test_h16_many_bytes_of_chunk_extensions_are_refused(proxy, origin, body):
    assert_body_refused(proxy, origin, post_chunked(body), 400)


@pytest.mark.parametrize("body", [
    b"5\r\nhello world\r\n0\r\n\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5\r\nhello\r0\r\n\r\n",
    b"5\r\nhello\r\r\n0\r\n\r\n",
    b"5\r\nhello\n\r0\r\n\r\n",
    b"5\r\nhell\r\n0\r\n\r\n",
    b"3\r\nhello\r\n0\r\n\r\n",
], ids=repr)
def test_h17_chunk_data_that_does_not_end_where_it_should_is_refused(proxy, origin, body):
    assert_body_refused(proxy, origin, post_chunked(body), 400)


@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding", "Host", "Authorization", "Cache-Control",
                                  "Cookie",
                                  "Connection", "Content-Encoding", "Content-Type", "Content-Range", "Trailer", "TE",
                                  "Expect",
                                  "X-Forwarded-For", "Upgrade"])
def test_h18_a_trailer_that_must_not_be_one_is_dropped(proxy, name):
    told = passed_on(proxy, post_chunked(chunked(b"hello", trailers=["X-Before: 1", f"{name}: 7", "X-After: 2"]),
                                         "Trailer: X-Before, X-After"))
    assert told.trailers == [("X-Before", "1"), ("X-After", "2")]
    assert told.length == 5
    assert "7" not in told.all(name)


@pytest.mark.parametrize("trailers", [["X: " + "x" * 9000], [f"X-{n}: " + "x" * 100 for n in range(100)]],
                         ids=["one", "sum"])
def test_h18_many_bytes_of_trailers_are_refused(proxy, origin, trailers):
    assert_body_refused(proxy, origin, post_chunked(chunked(b"hello", trailers=trailers)), 400, 413, 431)


@pytest.mark.parametrize("line", [b"X", b": y", b"X : y", b" X: y", b"X: a\x00", b"X: a\r\n b", b"X\x80: y",
                                  b"X: a\rb"], ids=repr)
def test_h18_a_broken_trailer_is_refused(proxy, origin, line):
    assert_body_refused(proxy, origin, post_chunked(b"5\r\nhello\r\n0\r\n" + line + b"\r\n\r\n"), 400)


@pytest.fixture(scope="module")
def answering(shared, origin):
    """Answers /closed itself; everything else goes to the origin."""
    return shared.maitred(routing('route "/closed" { respond = 403  body = "no\\n" }  route "/" { pool = web }',
                                  web=origin))


@pytest.mark.parametrize("body", [
    (["Content-Length: %d" % len(SMUGGLED)], SMUGGLED),
    (["Transfer-Encoding: chunked"], chunked(SMUGGLED)),
    (["Content-Length: 3000"], SMUGGLED * 60 + b"x" * (3000 - 60 * len(SMUGGLED))),
], ids=["length", "chunked", "longer"])
def test_h26_a_small_unread_body_is_drained_before_the_next_request(answering, origin, body):
    fields, data = body
    before = len(origin.requests)
    peer = answering.client().send(request("POST", "/closed", *fields) + data + request("GET", "/next"))
    response = peer.read_response()
    assert (response.status, response.body) == (403, b"no\n")
    assert Told(peer.read_response()).target == "/next"
    assert origin.targets[before:] == ["/next"]


def test_h26_a_small_body_that_comes_after_the_answer_is_not_a_request(answering, origin):
    before = len(origin.requests)
    peer = answering.client().send(request("POST", "/closed", f"Content-Length: {len(SMUGGLED)}"))
    assert peer.read_response().status == 403
    try:
        peer.send(SMUGGLED, request("GET", "/next"))
        Told(peer.read_response())
    except AssertionError:
        assert peer.ended, "neither drained nor closed"
    assert "/smuggled" not in origin.targets[before:]


def test_h26_a_big_unread_body_closes_the_connection(answering, origin):
    before = len(origin.requests)
    peer = answering.client().send(request("POST", "/closed", "Content-Length: 90000000"))
    assert peer.read_response().status == 403
    sent = 0
    try:
        while not peer.ended and sent < 90_000_000:
            peer.send(SMUGGLED * 2000)
            sent += len(SMUGGLED) * 2000
            if peer.readable(0):
                peer.take_bytes()
    except (AssertionError, OSError):
        pass
    assert sent < 80_000_000, "the whole body was taken in"
    assert_lives(answering)
    assert origin.targets[before:][:-1] == []


def test_h26_a_body_over_the_limit_is_refused_before_it_comes(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin, http="max-body = 1k"))
    assert_refused(proxy, origin, request("POST", "/", "Content-Length: 1025"), 413)
    assert proxy.ask(request("POST", "/", body=b"x" * 1024)).status == 200


def test_h26_a_chunked_body_is_cut_when_it_grows_over_the_limit(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin, http="max-body = 1k"))
    assert_body_refused(proxy, origin, post_chunked(chunked(b"x" * 1000, b"y" * 25)), 413)
    assert proxy.ask(post_chunked(chunked(b"x" * 1000, b"y" * 24)), method="POST").status == 200


UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")


def refusing_upgrades(early):
    """Answers every request with its own target; early gets whether bytes came before the answer went out."""
    def serve(connection):
        while True:
            asked = REQUEST(connection)
            early.append(connection.readable(0.2))
            connection.send(answer(asked.target.encode()))
    return serve


def test_h27_bytes_behind_an_upgrade_are_the_next_request_when_the_origin_does_not_agree(maitred, scripted):
    early = []
    origin = scripted(refusing_upgrades(early))
    proxy = maitred(proxying(origin))
    peer = proxy.client().send(request("GET", "/chat", *UPGRADE) + request("GET", "/next"))
    assert peer.read_response().text == "/chat"
    assert peer.read_response().text == "/next"
    assert early == [False, False], "bytes went through before 101"
    assert origin.targets == ["/chat", "/next"]


def test_h27_bytes_behind_a_refused_upgrade_must_be_a_request(maitred, scripted):
    origin = scripted(refusing_upgrades([]))
    proxy = maitred(proxying(origin))
    peer = proxy.client().send(request("GET", "/chat", *UPGRADE) + b"\x81\x05hello\r\n\r\n")
    assert peer.read_response().text == "/chat"
    response = peer.read_response()
    assert response.status == 400
    assert_closes(peer, response)
    assert b"hello" not in origin.received


def test_h27_an_origin_may_not_switch_protocols_unasked(maitred, scripted):
    origin = scripted([steps(REQUEST, answer(status="101 Switching Protocols", length=False), HANG),
                       forever(REQUEST, answer(b"plain"))])
    proxy = maitred(proxying(origin))
    assert proxy.get().status == 502
    assert proxy.get().body == b"plain"


@pytest.mark.parametrize("fields, body", [
    (["Content-Length: 5"], b"hello"),
    (["Transfer-Encoding: chunked"], chunked(b"hello")),
])
def test_h28_an_upgrade_with_a_body_is_refused(proxy, origin, fields, body):
    assert_refused(proxy, origin, request("GET", "/", *UPGRADE, *fields) + body, 400)


@pytest.mark.parametrize("asked, passed", [("h2c", None), ("H2C", None), ("websocket, h2c", "websocket"),
                                           ("h2c, websocket", "websocket"),
                                           ("h2c,h2c", None)])
def test_h28_an_upgrade_to_h2c_is_stripped(proxy, asked, passed):
    told = passed_on(proxy, request("GET", "/", "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {asked}",
                                    "HTTP2-Settings: AAMAAABk"))
    assert told.get("Upgrade") == passed
    assert "HTTP2-Settings" not in told
    assert "http2" not in (told.get("Connection") or "").lower()


def test_h28_upgrade_without_connection_is_hop_by_hop_noise(proxy):
    assert "Upgrade" not in passed_on(proxy, request("GET", "/", "Upgrade: websocket"))


EXPECT = "Expect: 100-continue"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def test_h30_expect_100_continue_passes_through(maitred, scripted):
    def serve(connection):
        head = connection.read_until(b"\r\n\r\n")
        assert b"100-continue" in head
        assert not connection.readable(0.1), "the body came before 100 Continue"
        connection.send(CONTINUE)
        connection.read_exactly(5)
        connection.send(answer(b"thanks"))
        HANG(connection)
    proxy = maitred(proxying(scripted(serve)))
    peer = proxy.client().send(request("POST", "/", EXPECT, "Content-Length: 5"))
    assert peer.read_head().status == 100
    assert peer.ask(b"hello").body == b"thanks"


def test_h30_a_body_that_does_not_wait_for_100_continue_is_passed_on(proxy):
    told = passed_on(proxy, request("POST", "/", EXPECT, body=b"hello"))
    assert told.length == 5


@pytest.mark.parametrize("status", ["403 Forbidden", "417 Expectation Failed", "200 OK"])
def test_h30_after_an_early_answer_the_body_that_is_owed_is_no_request(maitred, scripted, status):
    origin = scripted([steps(HEAD, answer(b"early", status=status), HANG), forever(REQUEST, answer(b"fine"))])
    proxy = maitred(proxying(origin))
    peer = proxy.client().send(request("POST", "/", EXPECT, f"Content-Length: {len(SMUGGLED)}"))
    response = peer.read_response()
    assert response.status == int(status[:3])
    try:
        peer.send(SMUGGLED, request("GET", "/next"))
        assert peer.read_response().body == b"fine"
    except AssertionError:
        assert peer.ended, "neither drained nor closed"
    assert proxy.get("/other").body == b"fine", "the next client got an answer from a connection with a body owed"
    assert len(origin.connections) == 2
    assert "/smuggled" not in origin.targets
    assert origin.connections[0].done.wait(5), "a connection with a body owed was kept"


def test_h30_an_early_answer_to_a_body_under_way_ends_that_origin_connection(maitred, scripted):
    """0.CL: the origin does not take the body it was promised."""
    origin = scripted([steps(HEAD, answer(b"early"), HANG), forever(REQUEST, answer(b"fine"))])
    proxy = maitred(proxying(origin))
    peer = proxy.client().send(request("POST", "/", "Content-Length: 100000") + SMUGGLED)
    assert peer.read_response().body == b"early"
    peer.close()
    assert proxy.get("/other").body == b"fine"
    assert origin.connections[0].done.wait(5)
    assert b"/other" not in origin.connections[0].received


@pytest.mark.parametrize("value", ["something", "100-continue, other", "200-ok", "100-continued"])
def test_h30_another_expectation_fails(proxy, origin, value):
    assert_refused(proxy, origin, request("POST", "/", f"Expect: {value}", body=b"hello"), 417)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("fields, body", [
    (["Content-Length: 5"], b"hello"),
    (["Transfer-Encoding: chunked"], chunked(b"hel", b"lo")),
    (["Content-Length: %d" % len(SMUGGLED)], SMUGGLED),
], ids=["length", "chunked", "smuggled"])
def test_h31_any_method_may_have_a_body_and_it_goes_along(proxy, origin, method, fields, body):
    before = len(origin.requests)
    peer = proxy.client().send(request(method, "/body", *fields) + body)
    assert peer.read_response(method).status == 200
    assert Told(peer.get("/next")).target == "/next"
    assert [r.target for r in origin.requests[before:]] == ["/body", "/next"]
    got = origin.requests[before]
    assert (got.method, got.body) == (method, b"hello" if body != SMUGGLED else SMUGGLED)


def test_h32_pipelined_requests_are_answered_in_order(maitred, echo):
    slow, fast = echo("slow"), echo("fast")
    proxy = maitred(routing('route "/" { pool = fast }  route "/slow" { pool = slow }'
                            '  route "/own" { respond = 200  body = "own" }', slow=slow, fast=fast))
    slow.hold()
    targets = ["/slow/1", "/2", "/own", "/4", "/slow/5"] + [f"/{number}" for number in range(6, 30)]
    peer = proxy.client().send(b"".join(request("GET", target) for target in targets))
    slow.wait_requests(1)
    assert not peer.readable(0.1), "a later answer overtook an earlier one"
    slow.release()
    for target in targets:
        response = peer.read_response()
        if target == "/own":
            assert response.body == b"own"
        else:
            told = Told(response)
            assert (told.target, told.server) == (target, "slow" if "slow" in target else "fast")


def test_h32_a_bad_request_in_a_pipeline_ends_it_after_the_good_ones(proxy, origin):
    before = len(origin.requests)
    peer = proxy.client().send(request("POST", "/1", body=b"hello") + request("GET", "/2") + b"BAD\r\n\r\n" + SMUGGLED)
    assert Told(peer.read_response()).target == "/1"
    assert Told(peer.read_response()).target == "/2"
    response = peer.read_response()
    assert response.status == 400
    assert_closes(peer, response)
    assert origin.targets[before:] == ["/1", "/2"]


def test_h32_one_byte_at_a_time_changes_nothing(proxy):
    peer = proxy.client()
    peer.send_slowly(post_chunked(b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n"))
    told = Told(peer.read_response())
    assert (told.length, told.trailers) == (5, [("X", "y")])


def test_h32_many_clients_at_once_each_get_their_own_answer(proxy):
    wrong = []

    def visit(number):
        peer = proxy.client()
        for count in range(30):
            target = f"/{number}/{count}"
            told = Told(peer.ask(request("POST", target, body=target.encode())))
            if told.target != target or told.length != len(target):
                wrong.append((target, told.target))
    threads = [threading.Thread(target=visit, args=(number,), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
