"""The PROXY protocol before HTTP: who the client is when a relay says so, and who says so to servers that ask."""
import pytest

from kit.config import proxying
from kit.origin import REQUEST
from kit.wire import answer, request

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.9 4711 443\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n" + b"\x21\x11\0\x0c" + bytes([192, 0, 2, 7, 198, 51, 100, 9]) + b"\x12\x67\x01\xbb"
V2_LOCAL = b"\r\n\r\n\0\r\nQUIT\n" + b"\x20\x00\0\0"
LISTED = "accept-proxy = { 127.0.0.0/8 }"


def client_of(proxy, echo, raw):
    """Whom the server is told the request is from."""
    response = proxy.ask(raw, method="GET")
    assert response.status == 200
    return echo.requests[-1].get("X-Forwarded-For")


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_what_a_listed_peer_says_is_who_the_client_is(maitred, echo, header):
    origin = echo()
    proxy = maitred(proxying(origin, http=LISTED))
    assert client_of(proxy, origin, header + request()) == "192.0.2.7"


def test_a_local_header_leaves_the_peer_as_it_is(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin, http=LISTED))
    assert client_of(proxy, origin, V2_LOCAL + request()) == "127.0.0.1"


def test_a_header_may_come_byte_by_byte(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin, http=LISTED))
    peer = proxy.client().send(*[V2[i:i + 1] for i in range(len(V2))])
    assert peer.ask(request()).status == 200
    assert peer.ask(request()).status == 200, "only the first request has a header before it"


@pytest.mark.parametrize("raw", [request(), b"PROXY TCP9 1.2.3.4 5.6.7.8 1 2\r\n" + request(),
                                 V2[:12] + b"\x31" + V2[13:] + request()],
                         ids=["none", "bad-v1", "bad-v2"])
def test_a_listed_peer_without_a_good_header_is_closed_unheard(maitred, echo, raw):
    origin = echo()
    proxy = maitred(proxying(origin, http=LISTED))
    peer = proxy.client().send(raw)
    assert peer.read_to_end() == b""
    proxy.wait_log("should begin with a PROXY header")
    assert not origin.requests


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_an_unlisted_peer_is_not_believed(maitred, echo, header):
    origin = echo()
    proxy = maitred(proxying(origin, http="accept-proxy = { 192.0.2.0/24 }"))
    peer = proxy.client().send(header + request())
    assert peer.read_response().status == 400
    assert peer.is_closed()
    assert not origin.requests


def test_a_header_that_never_ends_is_cut_at_the_head_timeout(maitred, echo):
    proxy = maitred(proxying(echo(), http=LISTED + " head-timeout = 200ms"))
    peer = proxy.client().send(V2[:20])
    assert peer.read_to_end() == b""


def told(version):
    """Reads the PROXY header, then answers requests with it."""
    def handler(connection):
        header = connection.read_until(b"\n") if version == 1 else connection.read_exactly(28)
        connection.origin.headers.append(header)
        while True:
            REQUEST(connection)
            connection.send(answer(b"x"))
    return handler


@pytest.mark.parametrize("version", [1, 2])
def test_each_request_to_a_server_that_asks_has_a_connection_that_says_whose_it_is(maitred, scripted, version):
    origin = scripted(told(version))
    origin.headers = []
    proxy = maitred(proxying((origin, f"send-proxy = v{version}")))
    peers = [proxy.client() for _ in range(2)]
    for peer in peers + peers:
        assert peer.ask(request()).status == 200
    ports = [peer.sock.getsockname()[1] for peer in peers]
    if version == 1:
        wanted = [f"PROXY TCP4 127.0.0.1 127.0.0.1 {port} {proxy.port}\r\n".encode() for port in ports]
    else:
        wanted = [V2[:16] + bytes([127, 0, 0, 1] * 2) + port.to_bytes(2, "big") + proxy.port.to_bytes(2, "big")
                  for port in ports]
    assert origin.headers == wanted + wanted


def test_a_header_is_passed_on_through_both_sides(maitred, scripted):
    origin = scripted(told(1))
    origin.headers = []
    proxy = maitred(proxying((origin, "send-proxy = v1"), http=LISTED))
    assert proxy.ask(V1 + request(), method="GET").status == 200
    assert origin.headers == [V1]


@pytest.mark.parametrize("version,header", [("v1", b"PROXY UNKNOWN\r\n"), ("v2", V2_LOCAL)])
def test_checks_speak_for_nobody(maitred, scripted, version, header):
    def handler(connection):
        assert connection.read_exactly(len(header)) == header
        REQUEST(connection)
        connection.send(answer(b"ok", "Connection: close"))
    origin = scripted(handler)
    maitred(proxying((origin, f"send-proxy = {version}"), options="health { path = /healthz interval = 50ms }"))
    origin.wait_requests(2)
    assert origin.targets[0] == "/healthz"
