"""What a proxy may not be talked into: rows H20, H29, H36, H37 and H39 of the checklist of attacks. Paths that try to walk
past a route, fields that only a trusted proxy may set, and addresses that would end up in a redirect."""
import re

import pytest

from kit.checks import assert_refused, passed_on
from kit.config import listener, proxying, routing, top
from kit.origin import EchoOrigin
from kit.wire import request


@pytest.fixture(scope="module")
def origin(shared):
    return shared.add(EchoOrigin("web"))


@pytest.fixture(scope="module")
def proxy(shared, origin):
    return shared.maitred(proxying(origin))


@pytest.fixture(scope="module")
def guarded(shared):
    web, admin = shared.add(EchoOrigin("web")), shared.add(EchoOrigin("admin"))
    return shared.maitred(routing('route "/" { pool = web }  route "/admin" { pool = admin }', web=web, admin=admin))


PROTECTED = ["Host", "Content-Length", "Transfer-Encoding", "Cookie", "Authorization", "Forwarded", "X-Forwarded-For",
             "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Request-Id"]


@pytest.mark.parametrize("name", PROTECTED)
@pytest.mark.parametrize("form", ["{}", "close, {}", "{}, close", "keep-alive,{},x", "X-Other , {}"])
def test_h29_connection_may_not_name_a_protected_field(proxy, origin, name, form):
    assert_refused(proxy, origin, request("GET", "/", f"Connection: {form.format(name)}"), 400)
    assert_refused(proxy, origin, request("GET", "/", f"Connection: {form.format(name.lower())}", "X: y"), 400)


def test_h29_a_protected_field_named_on_a_second_line_is_found_too(proxy, origin):
    assert_refused(proxy, origin, request("GET", "/", "Connection: keep-alive", "Connection: host"), 400)


def test_h29_other_named_fields_end_here(proxy):
    told = passed_on(proxy, request("GET", "/", "Connection: X-Secret, x-other", "X-Secret: 1", "X-Other: 2",
                                    "X-OTHER: 3", "X-Kept: 4"))
    assert told.get("X-Kept") == "4"
    assert "X-Secret" not in told and "X-Other" not in told


@pytest.mark.parametrize("target", [
    "/a%00b", "/%00", "/admin%00", "/%c0%ae%c0%ae/", "/%C0%AE", "/%c0%af", "/%e0%80%ae", "/%f0%80%80%ae", "/%c1%9c",
])
def test_h36_a_coded_nul_and_overlong_utf_8_are_refused(guarded, target):
    response = guarded.get(target)
    assert response.status == 400, f"{target} got {response!r}"


@pytest.mark.parametrize("target", [b"/\xc0\xae\xc0\xae/", b"/\xc3\xa9", b"/\xff"], ids=repr)
def test_h36_raw_bytes_over_127_are_refused(guarded, target):
    assert guarded.ask(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n").status == 400


@pytest.mark.parametrize("target", [
    "/../", "/..", "/a/../admin", "/a/..", "/./admin", "/.", "/a/.", "/%2e%2e/", "/%2E%2E/admin", "/.%2E/", "/%2e./",
    "/%2e/admin", "/a/%2e",
    "/a/%2e%2e", "/a/..%2fadmin", "/a%2f..%2fadmin", "/a%2F%2e%2e%2Fadmin", "/a/../../etc/passwd", "/admin/../",
    "//../", "/..?x=y",
    "/a/..?x", "/%2e%2e%2f",
])
def test_h36_a_dot_segment_in_any_spelling_is_refused(guarded, target):
    response = guarded.get(target)
    assert response.status == 400, f"{target} got {response!r}"


@pytest.mark.parametrize("target", ["/a\\b", "/\\", "/..\\admin", "\\admin", "/admin\\..\\"])
def test_h36_a_backslash_is_refused(guarded, target):
    assert guarded.get(target).status == 400


@pytest.mark.parametrize("target", ["/a%", "/a%2", "/a%zz", "/%g1", "/%"])
def test_h36_a_broken_escape_never_reaches_another_route(guarded, target):
    response = guarded.get(target)
    assert response.status == 400 or passed_on(guarded, request("GET", target)).target == target


@pytest.mark.parametrize("target", [
    "/admin", "/admin/", "/admin/x", "/%61dmin", "/%61%64%6d%69%6e", "/%61%64%6D%69%6E/x", "//admin", "///admin",
    "//admin//x", "/admin%2fx",
    "/admin%2Fx", "/%2fadmin", "/admin//", "/admin?x=../..", "//%61dmin%2f%2fx", "/admin/%252e%252e/", "/admin/...",
    "/admin/.hidden",
    "/admin/a..b", "/admin/x%20y",
])
def test_h36_a_spelling_does_not_walk_past_a_route_and_is_forwarded_as_sent(guarded, target):
    told = passed_on(guarded, request("GET", target))
    assert (told.server, told.target) == ("admin", target)


@pytest.mark.parametrize("target", [
    "/", "//", "/x", "/administrator", "/Admin", "/x/admin", "/%2561dmin", "/x?/admin", "/?%00", "/?a=/../b",
    "/a%20b", "/a%0d%0ab", "/a;b=c",
    "/caf%c3%a9", "/x%2fadmin", "/%7euser", "/a..b/...", "/.well-known/x", "/?x=\\", "/x//y",
])
def test_h36_other_paths_are_forwarded_as_sent(guarded, target):
    told = passed_on(guarded, request("GET", target))
    assert (told.server, told.target) == ("web", target)


def test_h36_an_absolute_target_takes_the_same_route(guarded):
    assert passed_on(guarded, request("GET", "http://a/%61dmin")).server == "admin"
    assert guarded.ask(request("GET", "http://a/x/../admin")).status == 400


FORGED = ["X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example",
          "X-Forwarded-Port: 666",
          "X-Forwarded-Prefix: /evil", "X-Forwarded-Server: evil",
          "Forwarded: for=1.2.3.4;host=evil.example;proto=https",
          "X-Real-IP: 1.2.3.4", "X-Request-Id: evil"]
HEX32 = re.compile(r"[0-9a-f]{32}")


def assert_tells_the_truth(told):
    assert told.all("X-Forwarded-For") == ["127.0.0.1"]
    assert told.all("X-Forwarded-Proto") == ["http"]
    assert told.all("X-Forwarded-Host") == ["shop.example"]
    forwarded = told.get("Forwarded")
    assert forwarded is None or forwarded.replace('"', "").lower() == "for=127.0.0.1;host=shop.example;proto=http"
    assert "X-Real-IP" not in told
    assert "666" not in told.all("X-Forwarded-Port")
    assert HEX32.fullmatch(told.get("X-Request-Id"))
    assert "evil" not in str(told.fields)
    assert "1.2.3.4" not in str(told.fields)


def test_h37_a_stranger_cannot_set_forwarding_fields(proxy):
    told = passed_on(proxy, request("GET", "/", *FORGED, host="shop.example"))
    assert_tells_the_truth(told)
    assert told.get("Forwarded").replace('"', "").lower() == "for=127.0.0.1;host=shop.example;proto=http"


def test_h37_a_stranger_cannot_set_them_twice_or_in_other_cases(proxy):
    told = passed_on(proxy, request("GET", "/", *FORGED, *[field.upper().replace("EVIL", "evil") for field in FORGED],
                                    *[field.lower() for field in FORGED], host="shop.example"))
    assert_tells_the_truth(told)


def test_h37_the_forwarding_fields_are_there_without_being_asked_for(proxy):
    assert_tells_the_truth(passed_on(proxy, request("GET", "/", host="shop.example")))


def test_h37_each_request_has_an_id_of_its_own(proxy):
    ids = [passed_on(proxy, request()).get("X-Request-Id") for _ in range(20)]
    assert len(set(ids)) == 20


@pytest.fixture(scope="module")
def trusting(shared, origin):
    return shared.maitred(proxying(origin, http="trusted-proxies = { 10.0.0.0/8, 127.0.0.0/8 }"))


def test_h37_a_trusted_proxy_is_believed_and_added_to(trusting):
    told = passed_on(trusting, request("GET", "/", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https",
                                       "X-Forwarded-Host: b.example",
                                       "X-Forwarded-Port: 8443", "Forwarded: for=1.2.3.4;proto=https",
                                       "X-Request-Id: from-the-edge"))
    assert ", ".join(told.all("X-Forwarded-For")) == "1.2.3.4, 127.0.0.1"
    assert told.get("X-Forwarded-Proto") == "https"
    assert told.get("X-Forwarded-Host") == "b.example"
    assert told.get("X-Forwarded-Port") == "8443"
    assert told.get("X-Request-Id") == "from-the-edge"
    forwarded = ", ".join(told.all("Forwarded")).replace('"', "")
    assert forwarded.startswith("for=1.2.3.4;proto=https, for=127.0.0.1")


def test_h37_a_chain_of_addresses_keeps_its_order(trusting):
    told = passed_on(trusting, request("GET", "/", "X-Forwarded-For: 9.9.9.9, 1.2.3.4", "X-Forwarded-For: 10.0.0.7"))
    assert ", ".join(told.all("X-Forwarded-For")).replace(" ", "") == "9.9.9.9,1.2.3.4,10.0.0.7,127.0.0.1"


def test_h37_what_a_trusted_proxy_leaves_out_is_filled_in(trusting):
    assert_tells_the_truth(passed_on(trusting, request("GET", "/", host="shop.example")))


def test_h37_an_odd_request_id_from_a_trusted_proxy_does_no_harm(trusting):
    told = passed_on(trusting, request("GET", "/", "X-Request-Id: " + "x" * 1000))
    assert len(told.get("X-Request-Id")) <= 1000


@pytest.fixture(scope="module")
def redirecting(shared):
    return shared.maitred(top() + listener('''
        route "/"    { redirect = "https://{host}{uri}"  status = 301 }
        route "/old" { redirect = "/new{rest}" }'''))


@pytest.mark.parametrize("target", ["/a%0d%0aX-Evil:%20yes", "/a%0aX-Evil:yes", "/a%0d", "/?a%0d%0aX-Evil:yes",
                                    "/old/%0d%0aX-Evil:yes",
                                    "/%0D%0A%0D%0Abody"])
def test_h39_a_redirect_holds_no_line_break(redirecting, target):
    peer = redirecting.client()
    response = peer.get(target, host="shop.example")
    assert response.status in (301, 308, 400)
    if response.status != 400:
        location = response.get("Location")
        assert "\r" not in location and "\n" not in location
        assert "0a" in location.lower() or "0d" in location.lower()
    assert "X-Evil" not in response
    assert peer.get("/x", host="shop.example").get("Location") == "https://shop.example/x"


@pytest.mark.parametrize("host", ["a\x00b", "a\rb", "a b", 'a"b', "a<b>"])
def test_h39_a_host_cannot_break_out_of_a_redirect(redirecting, host):
    response = redirecting.get("/x", host=host)
    assert response.status == 400
    assert "Location" not in response
