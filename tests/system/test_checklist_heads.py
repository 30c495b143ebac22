"""Heads that must be refused, or be passed on in one exact form: rows H01 to H13, H19 to H25 and H38 of the checklist
of attacks. What is refused gets its status, the connection closes, and no byte of it reaches an origin."""
import pytest

from kit.checks import assert_lives, assert_refused, passed_on
from kit.config import proxying
from kit.origin import EchoOrigin, Told
from kit.wire import request


@pytest.fixture(scope="module")
def origin(shared):
    return shared.add(EchoOrigin())


@pytest.fixture(scope="module")
def proxy(shared, origin):
    return shared.maitred(proxying(origin))


def post(*fields, body=b"hello"):
    """A POST whose framing is exactly what fields say."""
    head = b"".join((f if isinstance(f, bytes) else f.encode("latin-1")) + b"\r\n" for f in fields)
    return b"POST / HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n" + body


CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize("fields", [
    ("Content-Length: 5", "Transfer-Encoding: chunked"),
    ("Transfer-Encoding: chunked", "Content-Length: 5"),
    ("Content-Length: 0", "Transfer-Encoding: chunked"),
    ("content-length: 15", "TRANSFER-ENCODING: CHUNKED"),
], ids=repr)
def test_h01_length_and_chunked_together_are_refused(proxy, origin, fields):
    assert_refused(proxy, origin, post(*fields, body=CHUNKED), 400)


@pytest.mark.parametrize("fields", [
    ("Content-Length: 5", "Content-Length: 6"),
    ("Content-Length: 5, 6",),
    ("Content-Length: 0", "Content-Length: 5"),
    ("Content-Length: 5,6",),
], ids=repr)
def test_h02_two_different_lengths_are_refused(proxy, origin, fields):
    assert_refused(proxy, origin, post(*fields), 400)


@pytest.mark.parametrize("fields", [
    ("Content-Length: 5, 5",),
    ("Content-Length: 5,5",),
    ("Content-Length: 5", "Content-Length: 5"),
    ("Content-Length: 5", "X: y", "content-length: 5"),
], ids=repr)
def test_h03_the_same_length_twice_is_refused(proxy, origin, fields):
    assert_refused(proxy, origin, post(*fields), 400)


@pytest.mark.parametrize("length", [
    "+5", "-1", "-0", "0x5", "1_0", "1 0", "", " ", "5,", ",5", "5;", "5.0", "5e0", "٥", "\xb5", "\x0b5", "5\x0c",
    "five",
    "9223372036854775808", "18446744073709551616", "18446744073709551621", "99999999999999999999999999",
])
def test_h04_a_length_that_is_not_a_plain_number_is_refused(proxy, origin, length):
    field = b"Content-Length: " + length.encode("utf-8" if ord(max(length or "0")) > 255 else "latin-1")
    assert_refused(proxy, origin, post(field), 400)


@pytest.mark.parametrize("length", ["010", "0000000010", "10"])
def test_h05_a_length_is_decimal_and_sent_on_in_plain_form(proxy, length):
    told = passed_on(proxy, post(f"Content-Length: {length}", body=b"0123456789"))
    assert told.get("Content-Length") == "10"
    assert told.length == 10


@pytest.mark.parametrize("coding", ["gzip", "identity", "xchunked", "chunked2", "deflate", "gzip, chunked", "chunke"])
def test_h06_an_unknown_coding_is_not_implemented(proxy, origin, coding):
    assert_refused(proxy, origin, post(f"Transfer-Encoding: {coding}", body=CHUNKED), 501)


@pytest.mark.parametrize("coding", ["chunked, gzip", "chunked, identity", "identity\r\nTransfer-Encoding: chunked"])
def test_h06_chunked_beside_an_unknown_coding_is_refused(proxy, origin, coding):
    assert_refused(proxy, origin, post(f"Transfer-Encoding: {coding}", body=CHUNKED), 400, 501)


@pytest.mark.parametrize("fields", [
    (b"Transfer-Encoding: ,chunked",),
    (b"Transfer-Encoding: chunked,",),
    (b"Transfer-Encoding: chunked, chunked",),
    (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    (b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
    (b"Transfer-Encoding:",),
    (b"Transfer-Encoding: \x0bchunked",),
    (b"Transfer-Encoding: chunked\x0b",),
    (b"Transfer-Encoding: \x0cchunked",),
    (b"Transfer-Encoding: chunked\x0c",),
    (b"Transfer-Encoding: \x00chunked",),
    (b"Transfer-Encoding: chunked\x00",),
    (b"Transfer-Encoding: \xa0chunked",),
    (b"Transfer-Encoding: chunked\xa0",),
    (b'Transfer-Encoding: "chunked"',),
    (b"Transfer-Encoding: chunked;x=y",),
    (b"Transfer-Encoding: chun ked",),
], ids=repr)
def test_h07_chunked_written_oddly_is_refused(proxy, origin, fields):
    assert_refused(proxy, origin, post(*fields, body=CHUNKED), 400)


@pytest.mark.parametrize("field", [
    "Transfer-Encoding : chunked", "Host : a", "Content-Length : 5", "X : y", "X\t: y", "Transfer-Encoding\t: chunked",
])
def test_h08_a_space_before_the_colon_is_refused(proxy, origin, field):
    assert_refused(proxy, origin, post(field), 400)


@pytest.mark.parametrize("fields", [("Transfer-Encoding: chunked",),
                                    ("Connection: keep-alive", "Transfer-Encoding: chunked")], ids=repr)
def test_h09_chunked_in_http_1_0_is_refused(proxy, origin, fields):
    assert_refused(proxy, origin, request("POST", "/", *fields, version="HTTP/1.0") + CHUNKED, 400)


@pytest.mark.parametrize("field", [b"X: a\r\n b", b"X: a\r\n\tb", b"X:\r\n a", b"Host: a\r\n b",
                                   b"Transfer-Encoding:\r\n chunked", b"Content-Length: 5\r\n "])
def test_h10_a_folded_line_is_refused(proxy, origin, field):
    assert_refused(proxy, origin, b"GET / HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n", 400)


@pytest.mark.parametrize("space", [b" ", b"\t", b"  \t"])
@pytest.mark.parametrize("line", [b"Host: a", b"X: y", b"\r\nHost: a"])
def test_h11_space_before_the_first_field_is_refused(proxy, origin, space, line):
    assert_refused(proxy, origin, b"GET / HTTP/1.1\r\n" + space + line + b"\r\nHost: a\r\n\r\n", 400)


@pytest.mark.parametrize("raw", [
    b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\rX: y\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rY: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX\r: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX:\ra\r\n\r\n",
    b"G\rET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n",
])
def test_h12_a_bare_cr_is_refused(proxy, origin, raw):
    assert_refused(proxy, origin, raw, 400)


@pytest.mark.parametrize("raw", [
    b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nX: y\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: y\n\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
])
def test_h13_a_bare_lf_is_refused(proxy, origin, raw):
    assert_refused(proxy, origin, raw, 400)


BAD_NAMES = [b"", b"X Y", b"X\xe9", b"\x80", b"\xff", b"X(", b"X)", b"X<", b"X@", b"X,", b"X;", b"X\\", b'X"', b"X/",
             b"X[",
             b"X]", b"X?", b"X=", b"X{", b"X}", b"X\x00", b"X\x01", b"X\x1f", b"X\x7f", b"Host\x00",
             b"Content-Length\x0b"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_h19_a_name_that_is_no_token_is_refused(proxy, origin, name):
    assert_refused(proxy, origin, b"GET / HTTP/1.1\r\nHost: a\r\n" + name + b": y\r\n\r\n", 400)


@pytest.mark.parametrize("octet", [b"\x00", b"\x01", b"\x08", b"\x0b", b"\x0c", b"\x1b", b"\x1f", b"\x7f"], ids=repr)
@pytest.mark.parametrize("value", [b"%s", b"a%sb", b"a%s", b"%sa"])
def test_h19_a_control_character_in_a_value_is_refused(proxy, origin, octet, value):
    assert_refused(proxy, origin, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + value % octet + b"\r\n\r\n", 400)


@pytest.mark.parametrize("line", [b"X", b"Host", b"no colon here", b"GET /other HTTP/1.1"])
def test_h19_a_line_without_colon_is_refused(proxy, origin, line):
    assert_refused(proxy, origin, b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n", 400)


@pytest.mark.parametrize("value", ["", "a\tb", "caf\xe9", "\x80\xff", "a:b", '"'])
def test_h19_tabs_and_bytes_over_127_in_a_value_pass(proxy, value):
    assert passed_on(proxy, request("GET", "/", f"X-Odd: {value}")).get("X-Odd") == value


@pytest.mark.parametrize("field", ["Content_Length: 5", "Transfer_Encoding: chunked", "X_Real_IP: 1.2.3.4", "_: x",
                                   "Ho_st: b",
                                   "X_Forwarded_For: 1.2.3.4"])
def test_h20_a_name_with_an_underscore_is_dropped(proxy, field):
    told = passed_on(proxy, request("GET", "/", field, "X-Kept: yes"))
    assert not [name for name, _ in told.fields if "_" in name]
    assert told.get("X-Kept") == "yes"


@pytest.mark.parametrize("hosts", [
    (), ("a", "a"), ("a", "b"), ("a,b",), ("a/b",), ("user@a",), ("a b",), ("a\tb",), ("a, a",), ("/",),
    ("http://a",), ("a?b",),
    ("a#b",), ("a\\b",), ("a:80:80",), ("a:port",), ("[::1",), ("a%00",),
], ids=repr)
def test_h21_no_host_two_hosts_or_a_strange_one_are_refused(proxy, origin, hosts):
    raw = "GET / HTTP/1.1\r\nX: y\r\n" + "".join(f"Host: {host}\r\n" for host in hosts) + "\r\n"
    assert_refused(proxy, origin, raw.encode(), 400)


@pytest.mark.parametrize("host", ["a", "a:80", "a.b-c.example", "127.0.0.1:1", "[::1]", "[::1]:8080", "A.EXAMPLE"])
def test_h21_a_proper_host_passes(proxy, host):
    assert passed_on(proxy, request(host=host)).get("Host") == host


def test_h21_http_1_0_needs_no_host(proxy):
    assert proxy.ask(request(version="HTTP/1.0", host=None)).status == 200


@pytest.mark.parametrize("target, host, path", [
    ("http://b.example/x?y=1", "b.example", "/x?y=1"),
    ("http://b.example", "b.example", "/"),
    ("http://b.example:8080/", "b.example:8080", "/"),
    ("http://b.example?y=1", "b.example", "/?y=1"),
    ("HTTP://b.example/X", "b.example", "/X"),
])
def test_h22_the_host_of_an_absolute_target_is_the_one_that_counts(proxy, target, host, path):
    told = passed_on(proxy, request("GET", target, host="a.example"))
    assert (told.get("Host"), told.target) == (host, path)


@pytest.mark.parametrize("target", ["http://user@b/", "http:///x", "http://", "http://a b/", "ftp://b/", "http:/x"])
def test_h22_a_broken_absolute_target_is_refused(proxy, origin, target):
    assert_refused(proxy, origin, request("GET", target), 400)


@pytest.mark.parametrize("line", [
    b"GET * HTTP/1.1", b"POST * HTTP/1.1", b"GET a:80 HTTP/1.1", b"GET a HTTP/1.1", b"OPTIONS a:80 HTTP/1.1",
    b"GET /a#b HTTP/1.1",
    b"GET #b HTTP/1.1", b"GET /a b HTTP/1.1", b"GET /\x00 HTTP/1.1", b"GET /\x01 HTTP/1.1", b"GET /\x0b HTTP/1.1",
    b"GET /\x7f HTTP/1.1", b"GET /\x80 HTTP/1.1", b"GET /caf\xc3\xa9 HTTP/1.1", b"GET /?\xff HTTP/1.1",
    b"GET  / HTTP/1.1",
    b"GET /  HTTP/1.1", b"GET / HTTP/1.1 ", b" GET / HTTP/1.1", b"GET\t/ HTTP/1.1", b"GET /\tHTTP/1.1", b"GET /",
    b"GET HTTP/1.1",
    b"GET ?x HTTP/1.1", b"/ HTTP/1.1", b"GE\x00T / HTTP/1.1", b"G(ET / HTTP/1.1", b"G\xe9T / HTTP/1.1",
    b"GET /\t HTTP/1.1",
], ids=repr)
def test_h23_a_broken_request_line_is_refused(proxy, origin, line):
    assert_refused(proxy, origin, line + b"\r\nHost: a\r\n\r\n", 400)


@pytest.mark.parametrize("target", ["a:80", "a.example:443", "[::1]:80"])
def test_h23_connect_is_not_allowed(proxy, origin, target):
    assert_refused(proxy, origin, request("CONNECT", target, host=target), 405)


def test_h23_options_of_the_whole_server_is_passed_on(proxy):
    told = passed_on(proxy, request("OPTIONS", "*"))
    assert (told.method, told.target) == ("OPTIONS", "*")


@pytest.mark.parametrize("method", ["get", "Get", "BREW", "M-SEARCH", "PROPFIND", "X!#$%&'*+.^_`|~9"])
def test_h23_any_token_is_a_method(proxy, method):
    assert passed_on(proxy, request(method)).method == method


@pytest.mark.parametrize("version", ["HTTP/1.2", "HTTP/1.9"])
def test_h24_a_later_minor_version_is_taken_as_1_1(proxy, version):
    peer = proxy.client()
    assert Told(peer.ask(request(version=version))).version == "HTTP/1.1"
    assert peer.get().status == 200, "its connection was not kept alive"


@pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/9.9", "HTTP/3.0", "HTTP/0.9"])
def test_h24_another_major_version_is_not_supported(proxy, origin, version):
    assert_refused(proxy, origin, request(version=version), 505)


@pytest.mark.parametrize("version", ["HTTP/1", "http/1.1", "HTTP/01.1", "HTTP/1.01", "HTTP/1.", "HTTP/.1",
                                     "HTTP/1.1.1", "HTTP/1,1",
                                     "HTTP/+1.1", "HTTP/11", "HTP/1.1", "HTTP 1.1", "Http/1.1", "HTTPS/1.1", "1.1",
                                     "HTTP/1.a"])
def test_h24_a_broken_version_is_refused(proxy, origin, version):
    assert_refused(proxy, origin, request(version=version), 400)


@pytest.mark.parametrize("raw", [b"GET /\r\n\r\n", b"GET /\r\n", b"GET\r\n\r\n"], ids=repr)
def test_h24_http_0_9_is_refused(proxy, origin, raw):
    assert_refused(proxy, origin, raw, 400)


def test_h24_an_http_2_preface_is_refused(proxy, origin):
    assert_refused(proxy, origin, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 400, 505)


def test_h24_an_empty_line_before_the_request_is_ignored(proxy):
    assert proxy.ask(b"\r\n" + request(), method="GET").status == 200


def fields_of(count, size=10):
    return [f"X-{number}: " + "x" * size for number in range(count)]


@pytest.mark.parametrize("raw", [
    request("GET", "/" + "x" * 9000),
    request("GET", "/?" + "x" * 9000),
    request("GET", "/" + "x" * 30000),
    b"GET /" + b"x" * 20000,
    b"X" * 9000 + b" / HTTP/1.1\r\nHost: a\r\n\r\n",
], ids=["path", "query", "far", "endless", "method"])
def test_h25_a_long_request_line_is_refused(proxy, origin, raw):
    assert_refused(proxy, origin, raw, 414)


@pytest.mark.parametrize("raw", [
    request("GET", "/", *fields_of(9, 4000)),
    request("GET", "/", "X: " + "x" * 33000),
    b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40000,
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x" * 40000 + b": y\r\n\r\n",
], ids=["many", "one", "endless", "name"])
def test_h25_a_long_head_is_refused(proxy, origin, raw):
    assert_refused(proxy, origin, raw, 431)


@pytest.mark.parametrize("count", [128, 200, 1000])
def test_h25_too_many_fields_are_refused(proxy, origin, count):
    assert_refused(proxy, origin, request("GET", "/", *fields_of(count)), 431)   # and Host


def test_h25_as_much_as_the_limits_allow_passes(proxy):
    assert len(passed_on(proxy, request("GET", "/", *fields_of(127))).all("X-126")) == 1
    assert passed_on(proxy, request("GET", "/" + "x" * 8000)).target == "/" + "x" * 8000
    told = passed_on(proxy, request("GET", "/", *fields_of(31, 1000)))
    assert told.get("X-30") == "x" * 1000


def test_h25_limits_are_options(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin, http="max-line = 1k  max-head = 2k  max-fields = 16"))
    assert_refused(proxy, origin, request("GET", "/" + "x" * 1100), 414)
    assert_refused(proxy, origin, request("GET", "/", "X: " + "x" * 2100), 431)
    assert_refused(proxy, origin, request("GET", "/", *fields_of(16)), 431)
    assert proxy.ask(request("GET", "/", *fields_of(15))).status == 200


V2 = b"\r\n\r\n\x00\r\nQUIT\n"


@pytest.mark.parametrize("preface", [
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\r\n",
    b"PROXY TCP6 ::1 ::2 1000 80\r\n",
    b"PROXY UNKNOWN\r\n",
    b"PROXY \r\n",
    b"PROXY TCP4 " + b"1" * 200 + b"\r\n",
    V2 + b"\x21\x11\x00\x0c" + bytes(12),
    V2 + b"\x20\x00\x00\x00",
    V2 + b"\x21\x11\xff\xff" + bytes(65535),
    V2 + b"\x21\x11\x00\x13" + bytes(12) + b"\x04\xff\xff\x00\x00\x00\x00",
    V2 + b"\xff\xff\xff\xff",
], ids=lambda raw: repr(raw[:20]))
def test_h38_a_proxy_header_nobody_asked_for_is_refused(proxy, origin, preface):
    assert_refused(proxy, origin, preface + request(), 400)


@pytest.mark.parametrize("cut", [1, 4, 8, 13, 15, 20])
def test_h38_a_cut_proxy_header_ends_the_connection_alone(proxy, cut):
    peer = proxy.client().send((V2 + b"\x21\x11\x00\x0c" + bytes(12))[:cut])
    peer.finish()
    peer.read_to_end()
    assert_lives(proxy)


def test_a_head_may_come_in_any_pieces(proxy):
    raw = request("POST", "/pieces", "X: y", body=b"hello")
    for cut in range(1, len(raw)):
        told = Told(proxy.client().send(raw[:cut], raw[cut:]).read_response())
        assert (told.target, told.length) == ("/pieces", 5), f"cut at {cut}"


def test_a_head_cut_short_is_not_answered_as_a_request(proxy, origin):
    before = len(origin.requests)
    peer = proxy.client().send(request()[:-2])
    peer.finish()
    assert not peer.read_to_end().startswith(b"HTTP/1.1 2")
    assert_lives(proxy)
    assert len(origin.requests) == before + 1
