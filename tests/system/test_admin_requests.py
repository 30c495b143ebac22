"""The requests that were answered lately, as a list and as a stream: what is told of each, and which of them."""
import json
import signal
import threading
import time
from datetime import datetime, timezone

import pytest

from kit.admin import admin_of
from kit.config import admin, listener, pool, top
from kit.origin import EchoOrigin
from kit.queue import accepted, post, queue, stored
from kit.wire import DEADLINE, TimedOut, answer, request

MEMBERS = ["bytes", "client", "duration_ms", "host", "id", "listener", "method", "path", "pool", "queue", "route", "server",
           "status", "time"]
ROUTES = 'route "/" { pool = web }\n    route "/orders" { queue = orders }\n    route "/hello" { respond = 200  body = "hello" }'


class Watcher:
    """GET /api/requests, over one connection."""

    def __init__(self, proxy):
        self.admin = admin_of(proxy)
        self.get()      # from now on they are kept

    def get(self, query=""):
        response = self.admin.get("/api/requests" + query)
        assert response.status == 200, response
        return json.loads(response.body)

    def requests(self, query=""):
        return self.get(query)["requests"]

    def paths(self, query=""):
        return [each["path"] for each in self.requests(query)]

    def wait(self, query, count):
        """Until there are so many. A request is told once its client has the answer, or a moment later."""
        pause, end = threading.Event(), time.monotonic() + DEADLINE
        while len(told := self.requests(query)) < count:
            if time.monotonic() > end:
                raise TimedOut(f"{query}: {told}")
            pause.wait(0.01)
        return told


@pytest.fixture
def house(maitred, echo):
    return maitred(stored(ROUTES, queue("orders"), pool("web", echo("web")), general=admin()))


def test_requests_are_told_newest_first_with_where_they_went(house):
    watcher = Watcher(house)
    house.get("/soup?table=7")
    accepted(post(house))
    house.get("/hello")
    hello, order, soup = watcher.wait("", 3)
    for each in (hello, order, soup):
        assert sorted(each) == MEMBERS
        assert (each["listener"], each["client"], each["host"]) == (f"127.0.0.1:{house.port}", "127.0.0.1", soup["host"])
        assert 0 <= each["duration_ms"] < DEADLINE * 1000
        told = datetime.strptime(each["time"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc).timestamp()
        assert abs(time.time() - told) < DEADLINE
    server = admin_of(house).state()["pools"][0]["servers"][0]["name"]
    assert hello["id"] > order["id"] > soup["id"]
    assert [soup[name] for name in ("method", "path", "status", "route", "pool", "server", "queue")] == \
        ["GET", "/soup", 200, "/", "web", server, None]
    assert [order[name] for name in ("method", "path", "status", "route", "pool", "server", "queue")] == \
        ["POST", "/orders", 202, "/orders", None, None, "orders"]
    assert [hello[name] for name in ("path", "status", "route", "pool", "server", "queue", "bytes")] == \
        ["/hello", 200, "/hello", None, None, None, 5]


def test_what_nobody_watched_is_not_there(house):
    house.get("/before")
    watcher = Watcher(house)
    house.get("/after")
    watcher.wait("", 1)
    assert watcher.paths() == ["/after"]


def test_one_that_no_route_took_or_that_was_refused_is_told_too(maitred):
    proxy = maitred(top() + admin() + listener('route "/only" { respond = 200 }'))
    watcher = Watcher(proxy)
    proxy.get("/elsewhere")
    proxy.ask(b"GET / HTTP/1.1\r\n\r\n")
    refused, elsewhere = watcher.wait("", 2)
    assert (elsewhere["path"], elsewhere["status"], elsewhere["route"]) == ("/elsewhere", 404, None)
    assert (refused["status"], refused["route"]) == (400, None)


def test_filters_choose_by_route_status_path_pool_time_and_number(maitred, stage):
    def respond(asked):
        if asked.target == "/slow":
            threading.Event().wait(0.15)
        return answer(b"", status="503 Busy" if asked.target == "/bad" else "200 OK")
    web, other = (stage.add(EchoOrigin(name, respond=respond)) for name in ("web", "other"))
    proxy = maitred(top() + admin() + listener('route "/" { pool = web }\n    route "/other" { pool = other }\n'
                                               '    route "/none" { respond = 404 }') +
                    pool("web", web, options="retries = 0") + pool("other", other))
    watcher = Watcher(proxy)
    for target in ("/good", "/bad", "/slow", "/other/good", "/none"):
        proxy.get(target)
    everything = watcher.wait("", 5)
    assert watcher.paths("?max=2") == ["/none", "/other/good"]
    assert watcher.paths("?status=5xx") == ["/bad"]
    assert watcher.paths("?status=404") == ["/none"]
    assert watcher.paths("?status=2XX&pool=web") == ["/slow", "/good"]
    assert watcher.paths("?route=/other") == ["/other/good"]
    assert watcher.paths("?path=goo") == ["/other/good", "/good"]
    assert watcher.paths("?slower=100") == ["/slow"]
    assert watcher.paths(f"?since={everything[2]['id']}") == ["/none", "/other/good"]
    assert watcher.paths("?since=99999999&max=1") == ["/none"]
    assert watcher.paths("?pool=nobody") == []


@pytest.mark.parametrize("query, what", [
    ("status=6xx", "a class"), ("status=20", "a class"), ("status=ok", "a class"), ("slower=fast", "milliseconds"),
    ("max=0", "from 1 to 1000"), ("max=1001", "from 1 to 1000"), ("since=-1", "the id"), ("path=%0", "percent"),
])
def test_a_filter_that_is_none_is_refused(house, query, what):
    response = admin_of(house).get(f"/api/requests?{query}")
    assert response.status == 400 and what in json.loads(response.body)["error"]


def test_what_is_long_is_cut(house):
    watcher = Watcher(house)
    house.get("/" + "x" * 1000)
    assert watcher.wait("", 1)[0]["path"] == "/" + "x" * 127


def test_the_last_thousand_are_kept_and_tell_for_how_many_they_stand(house):
    watcher, sent, kept = Watcher(house), 0, 0
    end = time.monotonic() + 3 * DEADLINE
    while kept < 1100:      # pipelined, so that of some blocks a share is kept
        assert time.monotonic() < end, kept
        peer = house.client()
        peer.send(b"".join(request("GET", "/hello") for _ in range(100)))
        for _ in range(100):
            assert peer.read_response().status == 200
        peer.close()
        sent += 100
        kept = max((each["id"] for each in watcher.requests("?max=1")), default=0)
    told = watcher.get("?max=1000")
    newest = told["requests"][0]["id"]
    assert len(told["requests"]) == 1000 and told["kept"] == 1000
    assert [each["id"] for each in told["requests"]] == list(range(newest, newest - 1000, -1))
    assert 1000 <= told["of"] <= sent


def stream(watcher, query, *fields):
    peer = watcher.admin.connect()
    peer.send(watcher.admin.request("GET", f"/api/requests{query}", *fields))
    head = peer.read_head()
    assert head.status == 200 and head.get("Content-Type") == "text/event-stream", head
    return peer


def next_request(peer):
    """The next event of a chunked stream, each of which is a chunk or several."""
    text = b""
    while not text.endswith(b"\n\n"):
        text += peer.read_exactly(int(peer.read_until(b"\r\n", DEADLINE), 16), DEADLINE)
        peer.read_exactly(2, DEADLINE)
    fields = dict(line.split(": ", 1) for line in text.decode().strip().split("\n"))
    told = json.loads(fields["data"])
    assert (fields["id"], fields["event"]) == (str(told["id"]), "request")
    return told


@pytest.mark.parametrize("query, fields", [("", ["Accept: text/event-stream"]), ("?follow=1", [])])
def test_a_stream_follows(house, query, fields):
    watcher = Watcher(house)
    house.get("/before")
    watcher.wait("", 1)
    peer = stream(watcher, query, *fields)
    for target in ("/one", "/two"):
        house.get(target)
        assert next_request(peer)["path"] == target
    peer.close()


def test_a_stream_goes_on_where_its_reader_was_and_obeys_its_filter(house):
    watcher = Watcher(house)
    for target in ("/one", "/hello", "/two"):
        house.get(target)
    first = watcher.wait("", 3)[-1]["id"]
    peer = stream(watcher, "?route=/", "Accept: text/event-stream", f"Last-Event-ID: {first}")
    assert next_request(peer)["path"] == "/two"
    house.get("/hello")
    house.get("/three")
    assert next_request(peer)["path"] == "/three"
    peer.close()
    peer = stream(watcher, "?route=/&follow=1&since=0")
    assert [next_request(peer)["path"] for _ in range(3)] == ["/one", "/two", "/three"]
    peer.close()


def test_a_stream_ends_with_the_process(maitred):
    proxy = maitred(top(drain="60s") + admin() + listener('route "/" { respond = 200 }'))
    peer = stream(Watcher(proxy), "?follow=1")
    proxy.signal(signal.SIGTERM)
    assert peer.read_until(b"0\r\n\r\n", DEADLINE) == b"0\r\n\r\n"
    peer.close()


def test_those_of_all_threads_are_there(maitred):
    proxy = maitred(top(threads=4) + admin() + listener('route "/" { respond = 200 }'))
    watcher = Watcher(proxy)
    peers = [proxy.client() for _ in range(16)]
    for number, peer in enumerate(peers):
        peer.send(request("GET", f"/{number}"))
    for peer in peers:
        assert peer.read_response().status == 200
    watcher.wait("", 16)
    assert sorted(watcher.paths()) == sorted(f"/{number}" for number in range(16))
    for peer in peers:
        peer.close()
