"""Explain tells the truth: whatever the configuration and the request, what it says is what then happens."""
import contextlib
import json
import random
import socket
import urllib.parse

import pytest

from kit.admin import admin_of
from kit.config import admin, listener, pool, proxying, routing, top
from kit.origin import EchoOrigin
from kit.wire import Peer, request

MAITREDS, CONFIGS, REQUESTS = 20, 5, 10     # 1,000 pairs of a configuration and a request
SERVERS = 6
HOSTS = ["a.test", "b.a.test", "*.test", "*.a.test"]
ASKED_HOSTS = ["a.test", "A.Test:80", "b.a.test", "c.a.test", "other", "x.test."]
PATHS = ["/", "/a", "/a/b", "/ab", "/c"]
ASKED_PATHS = ["/", "/a", "/a/", "/a/b/c", "/ab", "/abc", "/a%20b/x", "//a//b", "/x/../a", "/%61/b", "/c/d"]
METHODS = ["GET", "PUT", "POST", "DELETE"]
FIELDS = ["X-One: 1", "X-One: 2", "x-two: yes", "Cookie: c=1; user=u1", "Cookie: user=u2", "X-Forwarded-For: 10.1.2.3"]
STRATEGIES = ["round-robin", "least-connections", "ip-hash", "consistent-hash", "random-two", "least-latency"]
HASH_KEYS = ["ip", "host", "path", "uri", "header:X-One", "cookie:user", "query:user"]
BAD = ["Bad Name: 1", "X-One : 1", "Content-Length: x", "Transfer-Encoding: gzip"]


@pytest.fixture(scope="module")
def servers(shared):
    return [shared.add(EchoOrigin(f"s{number}")) for number in range(SERVERS)]


def explain(interface, raw_target, host="a", method="GET", fields=(), **more):
    """What it says of each listener."""
    query = [("method", method), ("url", f"http://{host}{raw_target}"), *(("header", line) for line in fields),
             *more.items()]
    response = interface.get("/api/explain?" + urllib.parse.urlencode(query, quote_via=urllib.parse.quote))
    assert response.status == 200, response
    return json.loads(response.body)["listeners"]


def explain_one(interface, *arguments, **options):
    said = explain(interface, *arguments, **options)
    assert len(said) == 1
    return said[0]


# --- anything at all

def some(dice, choices, most):
    return dice.sample(choices, dice.randrange(most + 1))


def random_pool(dice, name, servers):
    lines = []
    for number, server in enumerate(dice.sample(servers, dice.randint(1, SERVERS))):
        options = f"weight = {dice.randint(1, 5)}"
        options += "  backup = yes" if number and dice.random() < 0.3 else ""
        options += "  drain = yes" if dice.random() < 0.15 else ""
        lines.append((server, options))
    strategy = dice.choice(STRATEGIES)
    options = f"balance = {strategy}"
    if strategy == "consistent-hash":
        options += f'\n    hash-key = "{dice.choice(HASH_KEYS)}"'
        options += f"\n    load-bound = {dice.choice([0, 1, 1.25])}"
    return pool(name, *lines, options=options)


def random_route(dice, pools):
    """Its text, and what must be different from every other route's."""
    path, conditions = dice.choice(PATHS), []
    hosts = some(dice, HOSTS, 2) if dice.random() < 0.5 else []
    methods = some(dice, METHODS, 2) if dice.random() < 0.4 else []
    if dice.random() < 0.3:
        value = dice.choice(["1", "2", None])
        conditions.append('header "X-One" { %s }' % (f'value = "{value}"' if value else ""))
    if dice.random() < 0.3:
        conditions.append('cookie "user" { %s }' % dice.choice(['value = "u1"', ""]))
    if dice.random() < 0.2:
        conditions.append('query "user" {}')
    action = f"pool = {dice.choice(pools)}"
    if dice.random() < 0.15:
        action = dice.choice(['respond = 418', 'redirect = "/elsewhere"'])
    options = [f"{name} = {{ {', '.join(json.dumps(item) for item in items)} }}"
               for name, items in (("host", hosts), ("methods", methods)) if items]
    text = f'route "{path}" {{ {"  ".join(options + conditions + [action])} }}'
    return text, (path, frozenset(hosts), frozenset(methods), frozenset(conditions))


def random_config(dice, servers):
    pools = [f"pool{number}" for number in range(dice.randint(1, 3))]
    routes = dict(reversed(random_route(dice, pools)) for _ in range(dice.randint(1, 10)))
    if dice.random() < 0.8:
        routes["last"] = f'route "/" {{ header "Host" {{}}  pool = {dice.choice(pools)} }}'
    http = dice.choice(["", "trusted-proxies = { 127.0.0.0/30 }", "max-line = 256"])
    return (top() + admin() + listener("\n    ".join(routes.values()), http) +
            "".join(random_pool(dice, name, servers) for name in pools))


def change_by_hand(dice, interface):
    state = interface.state()
    for each in state["pools"]:
        for server in each["servers"]:
            if dice.random() < 0.1:
                action, query = dice.choice([("drain", ""), ("enable", ""), ("weight", f"?weight={dice.randint(1, 9)}")])
                assert interface.server_action(action, server["name"], each["name"], query).status == 200


def ask_from(address, source, raw):
    """The answer to one request from an address of this machine."""
    sock = socket.create_connection(address, 8, (source, 0))
    peer = Peer(sock)
    try:
        return peer.ask(raw)
    finally:
        peer.close()


def expected_status(said):
    """Of an answer that no server gives."""
    if said["refused"]:
        return said["refused"]["status"]
    if not said["route"]:
        return 404
    if said["pool"]:
        assert not any(candidate["usable"] for candidate in said["candidates"]), said
        return 503
    return {"answer": 418, "redirect": 308}[said["route"]["action"].split(" ", 1)[0]]


def check_pair(dice, proxy, interface, servers):
    host, path, method = dice.choice(ASKED_HOSTS), dice.choice(ASKED_PATHS), dice.choice(METHODS)
    path += dice.choice(["", "", "?user=7", "?user=8&x", "?x=1", "?" + "y" * 300])
    fields = some(dice, FIELDS, 3) + (some(dice, BAD, 1) if dice.random() < 0.1 else [])
    source = f"127.0.0.{dice.randint(1, 9)}"
    said = explain_one(interface, path, host, method, fields, **{"from": source})
    response = ask_from(proxy.address, source, request(method, path, *fields, host=host))
    if said["choice"]:
        names = {server.at: server.name for server in servers}
        assert response.status == 200, said
        assert json.loads(response.body)["server"] == names[said["choice"]], said
        assert any(each == {"server": said["choice"], "usable": True, "why": "up"} for each in said["candidates"]), said
    else:
        assert response.status == expected_status(said), said
    return said


@pytest.mark.parametrize("seed", range(MAITREDS))
def test_what_is_explained_is_what_happens(maitred, servers, seed):
    dice = random.Random(seed)
    proxy = maitred(random_config(dice, servers))
    interface = admin_of(proxy)
    for _ in range(CONFIGS):
        proxy.configure(random_config(dice, servers))
        response = interface.reload()
        assert response.status == 200, response.text
        change_by_hand(dice, interface)
        for _ in range(REQUESTS):
            check_pair(dice, proxy, interface, servers)


# --- what it says

@contextlib.contextmanager
def holding(server, proxy):
    """The server sits on one request, which is answered afterwards."""
    seen = len(server.requests)
    server.hold()
    try:
        peer = proxy.client().send(request())
        server.wait_requests(seen + 1)
        yield
    finally:
        server.release()
    peer.read_response()


def test_every_other_route_has_a_reason(maitred, servers):
    proxy = maitred(routing('route "/" { pool = web }\n    route "/a" { pool = web  methods = { PUT } }\n'
                            '    route "/a" { pool = web }\n    route "/b" { redirect = "/c" }',
                            general=admin(), web=servers[:2]))
    said = explain_one(admin_of(proxy), "/a/x")
    assert said["listener"] == f"127.0.0.1:{proxy.port}"
    assert said["refused"] is None
    place = f"{proxy.config}:"
    assert said["route"].pop("place").startswith(place)
    assert said["route"] == {"name": "/a", "action": "pool web"}
    assert all(other.pop("place").startswith(place) for other in said["others"])
    assert said["others"] == [{"name": "/", "why": "matches, but its path is shorter"},
                              {"name": "/a methods=PUT", "why": "the method is not PUT"},
                              {"name": "/b", "why": "the path is not under it"}]
    assert (said["pool"], said["balance"], said["key"]) == ("web", "round-robin", None)
    assert said["why"] == "its turn (smooth weighted round robin)"


def test_each_candidate_says_why_it_is_usable_or_not(maitred, servers, closed):
    proxy = maitred(proxying((servers[0], "max-connections = 1"), (servers[1], "drain = yes"), (closed(), ""),
                             (servers[2], "backup = yes"), servers[3], general=admin(),
                             options='health { interval = 60ms  fast-interval = 60ms }'))
    interface = admin_of(proxy)
    interface.wait(lambda state: "down" in [each["state"] for each in state["pools"][0]["servers"]], "the server down")
    with holding(servers[0], proxy):
        said = explain_one(interface, "/")
    assert [each["why"] for each in said["candidates"]] == [
        "full: 1 of 1 requests", "draining: drained by the file: no new requests", "down: Connection refused",
        "backup: others are usable", "up"]
    assert [each["usable"] for each in said["candidates"]] == [False, False, False, False, True]
    assert said["choice"] == servers[3].at


def test_a_request_that_would_wait_in_line_says_so(maitred, servers):
    proxy = maitred(proxying((servers[0], "max-connections = 1"), general=admin(), options="queue-timeout = 10s"))
    with holding(servers[0], proxy):
        said = explain_one(admin_of(proxy), "/")
    assert said["choice"] == servers[0].at
    assert said["why"].startswith("full, as are all that would do: the request waits in line")


def test_a_full_line_is_the_end(maitred, servers):
    proxy = maitred(proxying((servers[0], "max-connections = 1"), general=admin(), options="max-queue = 0"))
    with holding(servers[0], proxy):
        said = explain_one(admin_of(proxy), "/")
        assert said["choice"] is None
        assert "503" in said["why"]
        assert proxy.get().status == 503


def test_several_threads_have_turns_of_their_own_and_it_says_so(maitred, servers):
    proxy = maitred(proxying(*servers[:2], general=admin(), threads=2))
    assert "each of the 2 threads has its own turns" in explain_one(admin_of(proxy), "/")["why"]


def test_each_http_listener_is_asked_or_the_one_that_is_named(maitred, servers):
    proxy = maitred(top() + admin() + listener('route "/" { pool = web }') +
                    listener('route "/a" { respond = 200 }', address="127.0.0.1:{port2}") +
                    'tcp "127.0.0.1:{port3}" { pool = web }\n' + pool("web", *servers[:2]))
    interface = admin_of(proxy)
    names = [f"127.0.0.1:{proxy.port}", f"127.0.0.1:{proxy.port2}"]
    assert [each["listener"] for each in explain(interface, "/")] == names
    only = explain_one(interface, "/", listener=names[1])
    assert (only["listener"], only["route"], only["pool"], only["candidates"]) == (names[1], None, None, [])
    response = interface.get(f"/api/explain?url=http://a/&listener=127.0.0.1:{proxy.port2}9")
    assert response.status == 404
    assert names[1] in json.loads(response.body)["error"]


@pytest.mark.parametrize("query, words", [
    ("", "which request?"),
    ("?url=nonsense", "which request?"),
    ("?url=http://a/%0d%0aX:1", "percent-encoded"),
    ("?url=http://a/&from=here", "from takes the address"),
])
def test_a_question_that_is_none_is_refused(maitred, servers, query, words):
    proxy = maitred(proxying(servers[0], general=admin()))
    response = admin_of(proxy).get("/api/explain" + query)
    assert response.status == 400
    assert words in json.loads(response.body)["error"]
