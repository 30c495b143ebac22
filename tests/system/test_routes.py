"""Which route a request takes, and what the routes that need no server answer."""
import pytest

from kit.checks import passed_on
from kit.config import listener, routing, top
from kit.origin import EchoOrigin
from kit.wire import request

ROUTES = """
    route "/" { pool = web }
    route "/api" { pool = api }
    route "/api/search" { pool = search }
    route "/" { host = { "beta.example", "b.example" }  pool = beta }
    route "/api" { host = { "*.wild.example" }  pool = wild }
    route "/" { methods = { PUT, DELETE }  pool = writes }
    route "/" { header "X-Preview" { value = "yes" }  pool = preview }
    route "/" { header "X-Any" { }  pool = any }
    route "/" { cookie "canary" { }  pool = canary }
    route "/" { query "v" { value = "2" }  pool = second }
    route "/" { header "X-Preview" { value = "yes" }  cookie "canary" { }  pool = both }
"""
POOLS = ["web", "api", "search", "beta", "wild", "writes", "preview", "any", "canary", "second", "both"]


@pytest.fixture(scope="module")
def proxy(shared):
    return shared.maitred(routing(ROUTES, **{name: shared.add(EchoOrigin(name)) for name in POOLS}))


def taken(proxy, *arguments, **options):
    return passed_on(proxy, request(*arguments, **options)).server


@pytest.mark.parametrize("target, name", [
    ("/", "web"), ("/x", "web"), ("/apis", "web"), ("/ap", "web"), ("/API", "web"), ("/?/api", "web"),
    ("/api", "api"), ("/api/", "api"), ("/api?x", "api"), ("/api/x", "api"), ("/api/searching", "api"),
    ("/api/search", "search"), ("/api/search/x/y?z", "search"), ("/api//search", "search"),
])
def test_the_longest_prefix_of_whole_segments_wins(proxy, target, name):
    assert taken(proxy, "GET", target) == name


@pytest.mark.parametrize("host, name", [
    ("beta.example", "beta"), ("b.example", "beta"), ("beta.example:8080", "beta"), ("BETA.Example", "beta"),
    ("beta.example.", "beta"),
    ("x.beta.example", "web"), ("a", "web"), ("beta.example.evil", "web"),
])
def test_a_host_is_compared_without_port_and_case(proxy, host, name):
    assert taken(proxy, "GET", "/", host=host) == name


@pytest.mark.parametrize("host, name", [("x.wild.example", "wild"), ("x.y.wild.example:80", "wild"),
                                        ("X.WILD.example", "wild"),
                                        ("wild.example", "api"), ("xwild.example", "api")])
def test_a_star_stands_for_every_name_that_ends_so(proxy, host, name):
    assert taken(proxy, "GET", "/api", host=host) == name


def test_a_host_goes_before_a_longer_prefix(proxy):
    assert taken(proxy, "GET", "/api/search", host="beta.example") == "beta"


@pytest.mark.parametrize("method, name", [("PUT", "writes"), ("DELETE", "writes"), ("GET", "web"), ("put", "web")])
def test_a_route_may_be_for_some_methods_only(proxy, method, name):
    assert taken(proxy, method, "/") == name


@pytest.mark.parametrize("fields, name", [
    (["X-Preview: yes"], "preview"), (["x-preview:yes"], "preview"), (["X-Preview: YES"], "web"),
    (["X-Preview: yes!"], "web"),
    (["X-Preview: no"], "web"), (["X-Any:"], "any"), (["X-Any: thing"], "any"), (["X-Any2: thing"], "web"),
])
def test_a_header_may_decide(proxy, fields, name):
    assert taken(proxy, "GET", "/", *fields) == name


@pytest.mark.parametrize("fields, name", [
    (["Cookie: canary=1"], "canary"), (["Cookie: a=b; canary=; c=d"], "canary"),
    (["Cookie: a=b", "Cookie: canary=x"], "canary"),
    (["Cookie: a=canary"], "web"), (["Cookie: xcanary=1"], "web"), (["Cookie: canary2=1"], "web"),
])
def test_a_cookie_may_decide(proxy, fields, name):
    assert taken(proxy, "GET", "/", *fields) == name


@pytest.mark.parametrize("target, name", [("/?v=2", "second"), ("/x?a=b&v=2", "second"), ("/?v=22", "web"),
                                          ("/?w=v=2", "web"),
                                          ("/?v", "web"), ("/?xv=2", "web"), ("/v=2", "web")])
def test_a_query_may_decide(proxy, target, name):
    assert taken(proxy, "GET", target) == name


def test_more_conditions_win(proxy):
    assert taken(proxy, "GET", "/", "X-Preview: yes", "Cookie: canary=1") == "both"


def test_no_route_is_404(maitred, echo):
    proxy = maitred(routing('route "/api" { pool = web }  route "/put" { methods = { PUT }  pool = web }', web=echo()))
    peer = proxy.client()
    for target in ("/", "/ap", "/apis", "/put"):
        response = peer.get(target)
        assert response.status == 404, target
        assert int(response.get("Content-Length")) == len(response.body)
    assert peer.get("/api").status == 200, "the connection did not live on"


def test_options_of_the_whole_server_needs_a_route_for_everything(maitred, echo):
    proxy = maitred(routing('route "/api" { pool = web }', web=echo()))
    assert proxy.ask(request("OPTIONS", "*")).status == 404


@pytest.fixture(scope="module")
def stripping(shared):
    return shared.maitred(routing('route "/api/search" { pool = web  strip-prefix = yes }  route "/" { pool = web }',
                                  web=shared.add(EchoOrigin("stripped"))))


@pytest.mark.parametrize("target, passed", [
    ("/api/search/x/y?z=1", "/x/y?z=1"), ("/api/search", "/"), ("/api/search/", "/"), ("/api/search?q", "/?q"),
    ("/api/search/?q", "/?q"),
    ("/api/search/%78", "/%78"), ("/%61pi/search/x", "/x"), ("//api/search/x", "/x"),
    ("/api/searching", "/api/searching"),
])
def test_a_prefix_may_be_stripped(stripping, target, passed):
    told = passed_on(stripping, request("GET", target))
    assert told.target == passed


def test_what_is_left_after_stripping_never_names_another_host(stripping):
    """//x would be a host and no path in a redirect that an origin builds of it."""
    assert passed_on(stripping, request("GET", "/api/search//x")).target == "/x"


@pytest.fixture(scope="module")
def own(shared):
    return shared.maitred(top() + listener('''
        route "/old"     { redirect = "/new" }
        route "/moved"   { redirect = "https://new.example{uri}"  status = 301 }
        route "/rest"    { redirect = "/other{rest}"  status = 302 }
        route "/secure"  { redirect = "https://{host}{uri}"  status = 307 }
        route "/see"     { redirect = "/seen"  status = 303 }
        route "/healthz" { respond = 200  body = "ok\\n" }
        route "/gone"    { respond = 410 }
        route "/empty"   { respond = 204 }'''))


@pytest.mark.parametrize("target, status, location", [
    ("/old", 308, "/new"), ("/old/x", 308, "/new"), ("/moved/x?y=1", 301, "https://new.example/moved/x?y=1"),
    ("/secure/x?y", 307, "https://shop.example:8080/secure/x?y"), ("/see", 303, "/seen"),
    ("/rest/x/y", 302, "/other/x/y"), ("/rest", 302, "/other"),
])
def test_a_redirect_tells_where_to_go(own, target, status, location):
    peer = own.client()
    response = peer.get(target, host="shop.example:8080")
    assert (response.status, response.get("Location")) in ((status, location), (status, location.replace(":8080", "")))
    assert peer.ask(request("HEAD", target)).status == status
    assert peer.ask(request("POST", target, body=b"hello")).status == status


def test_a_redirect_keeps_the_query_of_what_it_redirects(own):
    assert own.get("/rest/x?y=1").get("Location") in ("/other/x?y=1", "/other/x")


def test_a_route_may_answer_by_itself(own):
    peer = own.client()
    response = peer.get("/healthz")
    assert (response.status, response.body) == (200, b"ok\n")
    assert (peer.get("/gone").status, peer.get("/gone").body) == (410, b"")
    assert peer.get("/empty").status == 204
    head = peer.ask(request("HEAD", "/healthz"))
    assert (head.status, head.get("Content-Length"), head.body) == (200, "3", b"")
    assert peer.get("/healthz").body == b"ok\n"


def test_each_listener_has_its_own_routes(maitred):
    proxy = maitred(top() + listener('route "/" { respond = 200  body = "one" }') +
                    listener('route "/" { respond = 200  body = "two" }', address="127.0.0.1:{port2}"))
    assert proxy.get().body == b"one"
    assert proxy.client(("127.0.0.1", proxy.port2)).get().body == b"two"
