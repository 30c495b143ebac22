"""The admin interface as others meet it: state, metrics, events, actions, and who may ask. (test_explain.py has explain.)"""
import base64
import contextlib
import hashlib
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
from datetime import datetime

import pytest

from kit import process
from kit.admin import Admin, Metrics, admin_of
from kit.config import admin, listener, pool, proxying, routing, tcp, top
from kit.origin import HANG, HEAD, Told, steps
from kit.wire import DEADLINE, PeerGone, answer, connect, request

TOKEN = "s3cret-Token-of-24-chars"
CHECKS = "health { interval = 60ms  fast-interval = 60ms  fall = 1 }"


def error_of(response, status):
    """What an error says; it must be one of ours."""
    assert response.status == status, response
    assert response.get("Content-Type") == "application/json"
    return json.loads(response.body)["error"]


def said(response):
    assert response.status == 200, response
    return json.loads(response.body)["text"]


# --- what a document looks like: a type, a tuple of types, a list of one, or a dictionary; None: may be null

NUMBER = (int, float)
LATENCY = {name: (*NUMBER, None) for name in ("p50_ms", "p90_ms", "p95_ms", "p99_ms")}
STATUSES = {name: int for name in ("1xx", "2xx", "3xx", "4xx", "5xx")}
BYTES = {"in": int, "out": int}
FIGURES = {"requests": int, "rate": NUMBER, "errors": int, "error_rate": NUMBER, "latency": LATENCY}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
ROUTE = {"name": str, "place": str, "action": str, "statuses": STATUSES, **FIGURES}
LISTENER = {"name": str, "kind": str, "draining": bool, "connections": {"open": int, "accepted": int, "refused": int},
            "statuses": STATUSES, "bytes": BYTES, **FIGURES}
SERVER = {"name": str, "address": str, "state": str, "reason": str, "since": TIME, "usable": bool, "weight": int,
          "weight_now": NUMBER, "backup": bool, "by_hand": (dict, None), "active": int, "waiting": int,
          "max_connections": int, "idle": int, "requests": int, "rate": NUMBER,
          "errors": {kind: int for kind in ("refused", "connect_timeout", "response_timeout", "closed", "garbage",
                                            "broken", "status")},
          "error_rate": NUMBER, "retries": int, "ejections": int, "checks": {"ok": int, "failed": int}, "bytes": BYTES,
          "latency": LATENCY}
POOL = {"name": str, "balance": str, "state": str, "waiting": int, "max_waiting": int,
        "refused": {reason: int for reason in ("line_full", "line_timeout", "no_server", "budget")},
        "servers": [SERVER], **FIGURES}
QUEUE = {"name": str, "place": (str, None), "push": (str, None), "dead_letter": (str, None), "state": str, "reason": str,
         "ready": int, "delayed": int, "blocked": int, "in_flight": int, "bytes": int, "oldest_age": (*NUMBER, None), "workers": (str, None),
         "drains_in": (*NUMBER, None),
         "consumers": int, "resting": int, "limits": {"length": int, "bytes": int, "age": NUMBER, "overflow": str},
         "rates": {name: NUMBER for name in ("published", "delivered", "redelivered", "acked", "dead")},
         "totals": {name: int for name in ("published", "refused", "delivered", "redelivered", "retried", "acked", "expired",
                                           "maxlen", "rejected", "delivery_limit", "purged", "moved")}}
LOG = {"folder": str, "state": str, "reason": str, "bytes": int, "segments": int, "appended_bytes": int, "syncs": int,
       "checkpoints": int, "confirmed": int, "commit": {"p50_ms": (*NUMBER, None), "p99_ms": (*NUMBER, None)}}
STATE = {"version": str, "pid": int, "started": TIME, "uptime": NUMBER, "draining": bool, "state": str, "reasons": [str],
         "config": {"file": str, "loaded": TIME, "reloads": int, "reloads_failed": int},
         "generations": [{"number": int, "loaded": TIME, "current": bool, "users": (int, None)}], "threads": int,
         "connections": {"open": int, "max": int}, "memory_bytes": int, "descriptors": {"open": int, "max": int},
         "listeners": [dict], "pools": [POOL], "queues": [QUEUE], "topics": [{"name": str, "place": str, "queues": [str]}],
         "log": LOG, "workers": [dict], "gauges": [dict], "bottleneck": dict, "events": [dict]}


def check_shape(document, shape, where="state"):
    if isinstance(shape, dict):
        assert isinstance(document, dict), where
        assert sorted(document) == sorted(shape), where
        for name, inner in shape.items():
            check_shape(document[name], inner, f"{where}.{name}")
    elif isinstance(shape, list):
        assert isinstance(document, list), where
        for number, each in enumerate(document):
            check_shape(each, shape[0], f"{where}[{number}]")
    elif isinstance(shape, re.Pattern):
        assert shape.fullmatch(document), f"{where}: {document!r}"
        datetime.strptime(document, "%Y-%m-%dT%H:%M:%S.%fZ")
    else:
        kinds = shape if isinstance(shape, tuple) else (shape,)
        kinds = tuple(type(None) if kind is None else kind for kind in kinds)
        assert isinstance(document, kinds) and (bool in kinds or not isinstance(document, bool)), f"{where}: {document!r}"


# --- health

def test_health_is_open_to_all_and_needs_no_token(maitred, echo):
    proxy = maitred(proxying(echo(), general=admin(f'token = "{TOKEN}"')))
    interface = admin_of(proxy)
    for path, body in (("/healthz", b"ok\n"), ("/readyz", b"ready\n")):
        response = interface.get(path)
        assert (response.status, response.body) == (200, body)
        assert response.get("Content-Type") == "text/plain; charset=utf-8"


def test_ready_means_that_each_pool_that_is_used_has_a_server(maitred, echo, closed):
    proxy = maitred(routing('route "/" { pool = web }', general=admin(), web=closed(), spare=closed()) .replace(
        "pool web {", f"pool web {{ {CHECKS}").replace("pool spare {", f"pool spare {{ {CHECKS}"))
    interface = admin_of(proxy)
    state = interface.wait(lambda state: state["state"] == "down", "down")
    response = interface.get("/readyz")
    assert (response.status, response.body) == (503, b"down: pool web has no usable server\n")
    assert interface.get("/healthz").status == 200
    assert sorted(state["reasons"]) == ["pool spare has no usable server", "pool web has no usable server"]
    assert [each["state"] for each in state["pools"]] == ["down", "down"]
    origin = echo()
    proxy.configure(routing('route "/" { pool = web }', general=admin(), web=origin, spare=closed()))
    assert interface.reload().status == 200
    assert interface.get("/readyz").status == 200


def test_one_that_drains_is_not_ready(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin, general=admin(), drain="20s"))
    interface = admin_of(proxy)
    waiting, asking = proxy.client(), interface.connect()
    assert asking.ask(interface.request("GET", "/readyz")).status == 200
    origin.hold()
    waiting.send(request())
    origin.wait_requests(1)
    proxy.terminate()
    proxy.wait_log("draining")
    response = asking.ask(interface.request("GET", "/readyz"))
    assert (response.status, response.body) == (503, b"draining\n")
    origin.release()
    assert waiting.read_response().status == 200
    asking.close()


# --- who may ask, and how

@pytest.mark.parametrize("fields", [
    [], ["Authorization: Bearer"], ["Authorization: Bearer "], [f"Authorization: Basic {TOKEN}"], [f"Authorization: {TOKEN}"],
    [f"Authorization: Bearer {TOKEN[:-1]}z"], [f"Authorization: Bearer {TOKEN}x"], [f"Authorization: Bearer {TOKEN[:-1]}"],
    [f"Authorization: Bearer {TOKEN}{TOKEN}"],
], ids=str)
def test_without_the_token_nothing_is_told_and_nothing_happens(maitred, echo, fields):
    origin = echo()
    proxy = maitred(proxying(origin, general=admin(f'token = "{TOKEN}"')))
    interface = admin_of(proxy)
    for method, target in (("GET", "/api/state"), ("GET", "/metrics"), ("GET", "/api/events"), ("GET", "/nothing"),
                           ("POST", f"/api/pools/web/servers/{origin.at}/drain"), ("POST", "/api/reload")):
        response = interface.ask(method, target, *fields)
        assert "token is needed" in error_of(response, 401)
        assert response.get("WWW-Authenticate") == "Bearer"
    state = admin_of(proxy, TOKEN).state()
    assert (state["config"]["reloads"], state["pools"][0]["servers"][0]["state"]) == (0, "up")


@pytest.mark.parametrize("line", [f"Authorization: Bearer {TOKEN}", f"authorization: bearer  {TOKEN}"])
def test_with_the_token_everything_is(maitred, echo, line):
    proxy = maitred(proxying(echo(), general=admin(f'token = "{TOKEN}"')))
    assert admin_of(proxy).get("/api/state", line).status == 200


def test_another_token_counts_from_its_reload_on(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin, general=admin(f'token = "{TOKEN}"')))
    interface = admin_of(proxy, TOKEN)
    proxy.configure(proxying(origin, general=admin('token = "another-token-that-is-long"')))
    assert interface.reload().status == 200
    assert interface.get("/api/state").status == 401
    assert admin_of(proxy, "another-token-that-is-long").get("/api/state").status == 200


@pytest.mark.parametrize("fields, status", [
    (["Origin: http://evil.test"], 403), (["Origin: null"], 403), (["Origin: https://127.0.0.1:1"], 403),
    ([], 200),
], ids=str)
def test_a_page_of_somebody_else_cannot_act_without_a_token(maitred, echo, fields, status):
    proxy = maitred(proxying(echo(), general=admin()))
    interface = admin_of(proxy)
    assert interface.post("/api/reload", *fields).status == status
    assert interface.state()["config"]["reloads"] == (status == 200)


@pytest.mark.parametrize("target", ["/api/state", "/api/requests", "/metrics", "/api/nothing"])
def test_a_name_that_was_made_to_mean_this_machine_is_told_nothing_without_a_token(maitred, echo, target):
    proxy = maitred(proxying(echo(), general=admin()))
    for host, status in [("evil.test", 403), (f"evil.test:{proxy.port9}", 403), ("localhost.evil.test", 403), ("a", 403),
                         ("LocalHost", 200), (f"127.0.0.1:{proxy.port9}", 200), (f"[::1]:{proxy.port9}", 200)]:
        peer = admin_of(proxy).connect()
        expected = 404 if status == 200 and target == "/api/nothing" else status
        assert peer.ask(request("GET", target, host=host)).status == expected, host
        peer.close()


def test_those_with_the_token_may_use_any_name(maitred, echo):
    proxy = maitred(proxying(echo(), general=admin(f'token = "{TOKEN}"')))
    peer = admin_of(proxy).connect()
    assert peer.ask(request("GET", "/api/state", f"Authorization: Bearer {TOKEN}", host="front.test")).status == 200
    peer.close()


def test_a_name_does_not_hide_whether_it_is_healthy(maitred, echo):
    proxy = maitred(proxying(echo(), general=admin()))
    for target in ("/healthz", "/readyz", "/"):
        peer = admin_of(proxy).connect()
        assert peer.ask(request("GET", target, host="front.test")).status == 200
        peer.close()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_page_of_its_own_may_act(maitred, echo, name):
    proxy = maitred(proxying(echo(), general=admin()))
    host = f"{name}:{proxy.port9}"
    peer = admin_of(proxy).connect()
    assert peer.ask(request("POST", "/api/reload", f"Origin: http://{host}", host=host)).status == 200
    assert peer.ask(request("POST", "/api/reload", "Origin: http://evil.test", host=host)).status == 403
    peer.close()


@pytest.mark.parametrize("method, target, status, allow", [
    ("GET", "/api", 404, None), ("GET", "/api/state/", 404, None), ("GET", "/metrics/x", 404, None),
    ("GET", "/api/pools/web/servers/x/explode", 404, None), ("GET", "/api/pools//servers//drain", 405, "POST"),
    ("POST", "/api/state", 405, "GET, HEAD"), ("DELETE", "/metrics", 405, "GET, HEAD"), ("PUT", "/healthz", 405, "GET, HEAD"),
    ("GET", "/api/reload", 405, "POST"), ("HEAD", "/api/upgrade", 405, "POST"),
])
def test_wrong_paths_and_methods_are_said(maitred, echo, method, target, status, allow):
    proxy = maitred(proxying(echo(), general=admin()))
    response = admin_of(proxy).ask(method, target)
    assert response.status == status
    assert response.get("Allow") == allow
    if method != "HEAD":
        assert error_of(response, status)


def test_the_dashboard_needs_no_token_and_loads_nothing_from_elsewhere(maitred, echo):
    proxy = maitred(proxying(echo(), general=admin(f'token = "{TOKEN}"')))
    response = admin_of(proxy).get("/")
    assert response.status == 200
    assert response.get("Content-Type") == "text/html; charset=utf-8"
    policy = dict(rule.split(" ", 1) for rule in response.get("Content-Security-Policy").split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for tag, rule in ((b"script", "script-src"), (b"style", "style-src")):
        (text,) = re.findall(rb"<%s[^>]*>(.*?)</%s>" % (tag, tag), response.body, re.DOTALL)
        assert policy[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"
    assert not re.search(rb"""(src|href|action)=["']?(https?:)?//|@import|url\(""", response.body)
    assert len(response.body) <= 150 * 1024
    assert response.get("X-Content-Type-Options") == "nosniff"
    assert response.get("Referrer-Policy") == "no-referrer"
    assert admin_of(proxy).get("/api/state").status == 401


def test_head_gets_the_head_alone(maitred, echo):
    proxy = maitred(proxying(echo(), general=admin()))
    peer = admin_of(proxy).connect()
    for target in ("/", "/healthz", "/api/state", "/metrics", "/nothing", "/api/state"):
        assert peer.ask(request("HEAD", target, host="localhost")).status == (404 if target == "/nothing" else 200)
    assert peer.unread == b""
    peer.close()


def test_a_unix_socket_serves_it_too(maitred, echo):
    proxy = maitred(proxying(echo(), general=admin(address="unix:{dir}/admin.sock")))
    assert Admin(str(proxy.directory / "admin.sock")).state()["listeners"][0]["kind"] == "admin"


# --- state

def test_the_state_has_all_that_is_promised(maitred, echo, closed):
    origin = echo()
    proxy = maitred(top('state = "{dir}/state"') + admin() +
                    "queue orders { dead-letter = dead  push { pool = web } }\nqueue dead {}\ntopic all { queues = { orders, dead } }\n" +
                    listener('route "/" { pool = web }\n    route "/old" { redirect = "/new" }') +
                    tcp("stream", address="127.0.0.1:{port2}") +
                    pool("web", (origin, "weight = 3  max-connections = 7"), (closed(), "backup = yes"),
                         options="balance = least-connections  max-queue = 5") + pool("stream", origin))
    proxy.get("/old")
    proxy.get("/")
    state = admin_of(proxy).state()
    check_shape(state, STATE)
    for each in state["listeners"]:
        kind = {"http": {"routes": [ROUTE]}, "tcp": {"pool": str}, "admin": {}}[each["kind"]]
        check_shape(each, {**LISTENER, **kind}, each["name"])
    assert [each["kind"] for each in state["listeners"]] == ["admin", "http", "tcp"]
    assert (state["state"], state["reasons"], state["draining"], state["threads"]) == ("up", [], False, 1)
    assert state["pid"] == proxy.pid
    assert state["config"]["file"] == str(proxy.config)
    assert [(each["current"], each["number"]) for each in state["generations"]] == [(True, 1)]
    web, stream = state["pools"]
    assert (web["name"], web["balance"], web["max_waiting"]) == ("web", "least-connections", 5)
    first, second = web["servers"]
    assert (first["weight"], first["max_connections"], first["backup"], first["by_hand"]) == (3, 7, False, None)
    assert (second["backup"], second["usable"]) == (True, True)
    assert stream["servers"][0]["name"] == origin.at
    assert state["events"][0]["kind"] == "start"


def test_requests_are_counted_where_they_went(maitred, echo, closed):
    origin = echo()
    proxy = maitred(routing('route "/" { pool = web }\n    route "/old" { redirect = "/new" }\n'
                            '    route "/dead" { pool = dead }\n    route "/only" { pool = web  host = { "x" } }',
                            general=admin(), web=origin, dead=closed()))
    for target in ["/a"] * 5 + ["/old"] * 3 + ["/dead"] * 2:
        proxy.get(target)
    proxy.ask(b"GET / HTTP/1.1\r\n\r\n")
    state = admin_of(proxy).state()
    http = [each for each in state["listeners"] if each["kind"] == "http"][0]
    assert http["statuses"] == {"1xx": 0, "2xx": 5, "3xx": 3, "4xx": 1, "5xx": 2}
    assert (http["requests"], http["errors"]) == (11, 2)
    assert http["connections"] == {"open": 0, "accepted": 12, "refused": 0}     # the first one looked whether it listens
    assert 0 < http["rate"] <= 11 and 0 < http["error_rate"] <= 2
    assert 0 < http["latency"]["p50_ms"] <= http["latency"]["p90_ms"] <= http["latency"]["p95_ms"] <= http["latency"]["p99_ms"]
    routes = {each["name"]: each for each in http["routes"]}
    assert {name: each["requests"] for name, each in routes.items()} == {"/": 5, "/old": 3, "/dead": 2, "/only host=x": 0}
    assert routes["/dead"]["action"] == "pool dead" and routes["/old"]["action"] == "redirect 308 to /new"
    assert routes["/only host=x"]["latency"] == dict.fromkeys(LATENCY)
    pools = {each["name"]: each for each in state["pools"]}
    assert (pools["web"]["requests"], pools["web"]["errors"]) == (5, 0)
    server = pools["web"]["servers"][0]
    assert (server["requests"], server["active"], server["idle"]) == (5, 0, 1)
    assert server["bytes"]["in"] > 0 and server["bytes"]["out"] > 0
    assert pools["dead"]["servers"][0]["errors"]["refused"] == 2
    assert pools["dead"]["errors"] == 2


def test_a_request_under_way_is_active(maitred, echo):
    origin = echo()
    proxy = maitred(proxying((origin, "max-connections = 1"), general=admin()))
    origin.hold()
    peers = [proxy.client() for _ in range(3)]
    for peer in peers:
        peer.send(request())
    interface = admin_of(proxy)
    state = interface.wait(lambda state: state["pools"][0]["waiting"] == 2, "two in line")
    server = state["pools"][0]["servers"][0]
    assert (server["active"], server["waiting"]) == (1, 2)
    assert state["connections"]["open"] == 3
    metrics = interface.metrics()
    assert metrics.value("maitred_server_active_requests") == 1
    assert metrics.value("maitred_server_waiting_requests") == 2
    assert metrics.value("maitred_pool_waiting_requests", pool="web") == 2
    origin.release()
    for peer in peers:
        assert peer.read_response().status == 200


def test_a_server_that_is_down_says_why_and_since_when(maitred, echo, closed):
    dead = closed()
    proxy = maitred(proxying(echo(), dead, general=admin(), options=CHECKS))
    state = admin_of(proxy).wait(lambda state: state["state"] == "degraded", "degraded")
    up, down = state["pools"][0]["servers"]
    assert (down["state"], down["usable"], down["reason"]) == ("down", False, "Connection refused")
    assert down["checks"]["failed"] > 0
    assert (up["state"], up["usable"]) == ("up", True)
    assert state["reasons"] == ["pool web: 1 of 2 servers down"]
    assert state["pools"][0]["state"] == "degraded"
    assert down["since"] >= state["started"]


def test_a_server_that_fails_requests_is_ejected_and_counted(maitred, closed, echo):
    dead = closed()
    proxy = maitred(proxying(echo(), dead, general=admin(),
                             options="ejection { failures = 2  time = 100s }"))
    interface = admin_of(proxy)
    for _ in range(8):
        assert proxy.get().status == 200
    server = interface.server(dead.at)
    assert (server["state"], server["usable"], server["ejections"]) == ("ejected", False, 1)
    assert (server["errors"]["refused"], server["retries"]) == (2, 2)
    assert re.fullmatch(r"too many requests in a row failed; it is back in \d+ s", server["reason"])
    assert interface.state()["reasons"] == ["pool web: 1 of 2 servers ejected"]


def test_a_server_that_came_up_starts_slowly(maitred, echo):
    origin, other = echo(), echo()
    proxy = maitred(proxying(origin, (other, "weight = 10"), general=admin(),
                             options="health { interval = 60ms  fast-interval = 60ms  fall = 1  rise = 1  slow-start = 100s }"))
    interface = admin_of(proxy)
    other.stop()
    interface.wait(lambda state: state["pools"][0]["servers"][1]["state"] == "down", "down")
    other.restart()
    interface.wait(lambda state: state["pools"][0]["servers"][1]["state"] == "starting", "starting")
    server = interface.server(other.at)
    assert server["weight"] == 10 and 1 <= server["weight_now"] < 5
    assert server["usable"]


def test_rates_begin_when_a_reload_brings_the_admin_section(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin))
    peer = proxy.client()
    for _ in range(500):
        peer.get()
    proxy.reload(proxying(origin, general=admin()))
    asked, end = 0, time.monotonic() + DEADLINE
    while not (rate := (server := admin_of(proxy).server(origin.at))["rate"]):
        assert time.monotonic() < end, f"{asked} requests, and no rate"
        peer.get()
        asked += 1
    assert 0 < rate <= asked, "what nobody counted per second is in a rate"
    assert server["requests"] == 500 + asked


def test_a_server_that_left_the_file_is_shown_until_its_last_request_ends(maitred, echo):
    origin, other = echo(), echo()
    proxy = maitred(proxying(origin, general=admin()))
    interface = admin_of(proxy)
    origin.hold()
    peer = proxy.client()
    peer.send(request())
    origin.wait_requests(1)
    proxy.configure(proxying(other, general=admin()))
    assert interface.reload().status == 200
    server = interface.server(origin.at)
    assert (server["state"], server["usable"], server["active"]) == ("leaving", False, 1)
    state = interface.state()
    assert state["state"] == "up"
    assert [each["users"] for each in state["generations"] if not each["current"]] == [1]
    assert {labels["server"] for labels, _ in interface.metrics().all("maitred_server_up")} == {other.at}
    origin.release()
    assert peer.read_response().status == 200
    state = interface.wait(lambda state: len(state["pools"][0]["servers"]) == 1, "the end of the server")
    assert len(state["generations"]) == 1


def test_a_websocket_does_not_hold_the_configuration_it_began_under(maitred, scripted, echo):
    def agree(connection):
        connection.read_until(b"\r\n\r\n")
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        while data := connection.read_some(seconds=60):
            connection.send(data)
    proxy = maitred(proxying(scripted(agree), general=admin()))
    interface = admin_of(proxy)
    peer = proxy.client().send(request("GET", "/", "Connection: Upgrade", "Upgrade: x"))
    assert peer.read_response().status == 101
    proxy.configure(proxying(echo(), general=admin()))
    assert interface.reload().status == 200
    interface.wait(lambda state: len(state["generations"]) == 1, "the end of the first configuration")
    assert peer.send(b"still here").read_exactly(10) == b"still here"


# --- metrics

def test_promtool_finds_nothing_wrong(maitred, echo):
    if not shutil.which("promtool"):
        pytest.skip("promtool is not on the PATH")
    proxy = maitred(routing('route "/" { pool = web }\n    route "/x" { pool = web  header "X" { value = "a\\"b\\\\c" } }',
                            general='state = "{dir}/state"\n' + admin() + "queue jobs {}\ngauge load { full = 5 }\n"
                            "workers crew { queue = jobs  gauge = load }", web=[echo(), echo()]))
    proxy.get()
    text = admin_of(proxy).get("/metrics").body
    assert b"maitred_workers_desired" in text and b"maitred_external_full" in text
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout + checked.stderr == b""


def test_each_family_is_told_once_with_its_type_and_help(maitred, echo):
    proxy = maitred(proxying(echo(), general=admin()))
    proxy.get()
    response = admin_of(proxy).get("/metrics")
    assert response.get("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    types, current = {}, None
    for line in response.text.splitlines():
        found = re.fullmatch(r"# (HELP|TYPE) (\S+) (.*)", line)
        if found and found[1] == "HELP":
            current = found[2]
            assert current not in types
            types[current] = None
        elif found:
            assert found[2] == current and types[current] is None
            types[current] = found[3]
        else:
            name = re.match(r"\w+", line)[0]
            allowed = [current] if types[current] != "histogram" else [f"{current}_{part}" for part in ("bucket", "sum", "count")]
            assert name in allowed, line
    for name, kind in types.items():
        assert name.endswith("_total") == (kind == "counter"), name
    assert all(name.startswith(("maitred_", "process_")) for name in types)


def test_metrics_and_state_tell_the_same(maitred, echo, closed):
    origin = echo()
    proxy = maitred(routing('route "/" { pool = web }\n    route "/old" { redirect = "/new" }', general=admin(),
                            web=[origin, (closed(), "backup = yes")]))
    for target in ("/", "/", "/old", "/?x"):
        proxy.get(target)
    interface = admin_of(proxy)
    state, metrics = interface.state(), interface.metrics()
    name = f"127.0.0.1:{proxy.port}"
    server = state["pools"][0]["servers"][0]
    which = {"pool": "web", "server": origin.at}
    assert metrics.value("maitred_build_info", version=state["version"]) == 1
    assert metrics.value("maitred_connections_max") == state["connections"]["max"]
    assert metrics.value("maitred_http_requests_total", listener=name, route="/", code="2xx") == 3
    assert metrics.value("maitred_http_requests_total", listener=name, route="/old", code="3xx") == 1
    assert metrics.value("maitred_http_request_duration_seconds_count", listener=name, route="/") == 3
    assert metrics.value("maitred_server_requests_total", **which) == server["requests"] == 3
    assert metrics.value("maitred_server_sent_bytes_total", **which) == server["bytes"]["out"]
    assert metrics.value("maitred_server_received_bytes_total", **which) == server["bytes"]["in"]
    assert metrics.value("maitred_server_idle_connections", **which) == server["idle"]
    assert metrics.value("maitred_server_up", **which) == 1
    assert metrics.value("maitred_listener_connections_accepted_total", listener=name) == 5
    assert metrics.value("process_resident_memory_bytes") > 1_000_000
    assert abs(metrics.value("process_open_fds") - len(proxy.descriptors())) <= 3   # connections come and go
    assert abs(metrics.value("process_start_time_seconds") -
               datetime.fromisoformat(state["started"].replace("Z", "+00:00")).timestamp()) < 0.01


def test_histograms_grow_from_bucket_to_bucket_and_end_in_their_count(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin, general=admin()))
    interface = admin_of(proxy)
    for _ in range(5):
        proxy.get()
    origin.hold()
    peer = proxy.client()
    peer.send(request())
    origin.wait_requests(6)
    threading.Timer(0.15, origin.release).start()
    peer.read_response()
    metrics = interface.metrics()
    for family in ("maitred_server_response_duration_seconds", "maitred_http_request_duration_seconds"):
        route = {"route": "/"} if "http" in family else {}
        buckets = metrics.all(f"{family}_bucket", **route)
        assert [labels["le"] for labels, _ in buckets] == ["0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5",
                                                           "0.75", "1", "2.5", "5", "7.5", "10", "+Inf"]
        counts = [value for _, value in buckets]
        assert counts == sorted(counts)
        assert counts[-1] == metrics.value(f"{family}_count", **route) == 6
        assert counts[5] < 6, "the slow one is in none of the buckets up to 100 ms"
        assert 0.1 < metrics.value(f"{family}_sum", **route) < 30


def test_names_are_escaped_in_labels(maitred, echo):
    names = ['unix:/run/a "b" \\c é', "unix:/run/tab\there"]
    proxy = maitred(proxying(*(name.replace("\\", "\\\\").replace('"', '\\"') for name in names), general=admin()))
    response = admin_of(proxy).get("/metrics")
    up = Metrics(response.body.decode()).all("maitred_server_up")
    assert up[0] == ({"pool": "web", "server": names[0]}, 1)
    assert re.fullmatch(r"[!-~\\]+", up[1][0]["server"]), "the format has no control characters"
    assert [each["name"] for each in admin_of(proxy).state()["pools"][0]["servers"]] == names


# --- a thousand servers

@pytest.fixture(scope="module")
def crowd(shared):
    """A proxy with ten pools of a hundred servers, none of which is there."""
    pools = [f"p{number}" for number in range(10)]
    routes = "\n    ".join(f'route "/{name}" {{ pool = {name} }}' for name in pools) + '\n    route "/ok" { respond = 200 }'
    return shared.maitred(top() + admin() + listener(routes) + "".join(
        pool(name, *(f"127.1.{number}.{i + 1}:9" for i in range(100))) for number, name in enumerate(pools)))


def test_documents_about_a_thousand_servers_come_whole(crowd):
    interface = admin_of(crowd)
    state = interface.get("/api/state")
    assert state.chunked
    assert [len(each["servers"]) for each in json.loads(state.body)["pools"]] == [100] * 10
    metrics = interface.get("/metrics")
    assert metrics.chunked
    assert len(Metrics(metrics.text).all("maitred_server_up")) == 1000


def test_a_client_of_http_1_0_gets_them_until_the_end_of_the_connection(crowd):
    peer = admin_of(crowd).connect()
    peer.send(request("GET", "/api/state", version="HTTP/1.0", host="localhost"))
    assert len(json.loads(peer.read_response().body)["pools"]) == 10
    peer.close()


def test_who_reads_slowly_or_leaves_keeps_nobody_waiting(crowd):
    interface = admin_of(crowd)
    slow = [connect(("127.0.0.1", crowd.port9), receive_buffer=4096) for _ in range(5)]
    for peer in slow:
        peer.send(request("GET", "/metrics", host="localhost"))
        peer.read_head()
    for _ in range(3):
        assert crowd.get("/ok").status == 200
        assert interface.get("/healthz").status == 200
    for peer in slow[1:]:
        peer.reset()
    assert len(slow[0].read_until(b"\r\n0\r\n\r\n", seconds=30)) > 1_000_000
    slow[0].close()
    assert len(interface.state()["pools"]) == 10


def test_a_scrape_leaves_no_memory_behind(crowd):
    if process.is_sanitized():
        pytest.skip("a sanitizer keeps freed memory")
    interface = admin_of(crowd)
    for _ in range(3):
        interface.get("/metrics")
    before = crowd.memory()
    for _ in range(10):
        interface.get("/metrics")
        interface.get("/api/state")
    assert crowd.memory() < before + 2000


# --- actions

def test_a_drained_server_gets_nothing_new_and_finishes_what_it_has(maitred, echo):
    origins = [echo(f"s{number}") for number in range(3)]
    proxy = maitred(proxying(*origins, general=admin()))
    interface = admin_of(proxy)
    origins[0].hold()
    peer = proxy.client()
    peer.send(request())
    origins[0].wait_requests(1)
    assert said(interface.server_action("drain", origins[0].at)) == \
        f"pool web: server {origins[0].at} drains; 1 request is still on it"
    assert {Told(proxy.get()).server for _ in range(6)} == {"s1", "s2"}
    server = interface.server(origins[0].at)
    assert (server["state"], server["usable"], server["by_hand"], server["active"]) == ("draining", False, {"drain": True}, 1)
    state = interface.state()
    assert (state["state"], state["reasons"]) == ("up", []), "a drained server is no trouble"
    origins[0].release()
    assert Told(peer.read_response()).server == "s0"
    assert said(interface.server_action("enable", origins[0].at)) == f"pool web: server {origins[0].at} takes requests"
    assert {Told(proxy.get()).server for _ in range(6)} == {"s0", "s1", "s2"}
    assert interface.server(origins[0].at)["by_hand"] == {"drain": False}


def test_a_server_drained_by_the_file_can_be_enabled_and_reset(maitred, echo):
    origins = [echo("s0"), echo("s1")]
    proxy = maitred(proxying((origins[0], "drain = yes"), origins[1], general=admin()))
    interface = admin_of(proxy)
    assert {Told(proxy.get()).server for _ in range(4)} == {"s1"}
    said(interface.server_action("enable", origins[0].at))
    assert {Told(proxy.get()).server for _ in range(4)} == {"s0", "s1"}
    assert said(interface.server_action("reset", origins[0].at)) == \
        f"pool web: server {origins[0].at} is as the file says: weight 1, drained"
    assert {Told(proxy.get()).server for _ in range(4)} == {"s1"}
    assert interface.server(origins[0].at)["by_hand"] is None


def test_a_weight_by_hand_counts_at_once(maitred, echo):
    origins = [echo("s0"), echo("s1")]
    proxy = maitred(proxying(*origins, general=admin()))
    interface = admin_of(proxy)
    assert said(interface.server_action("weight", origins[0].at, query="?weight=3")) == \
        f"pool web: server {origins[0].at} has weight 3; the file says 1"
    peer = proxy.client()
    names = [Told(peer.get()).server for _ in range(8)]
    assert (names.count("s0"), names.count("s1")) == (6, 2)
    server = interface.server(origins[0].at)
    assert (server["weight"], server["weight_now"], server["by_hand"]) == (3, 3, {"weight": 3})
    said(interface.server_action("reset", origins[0].at))
    assert interface.server(origins[0].at)["weight"] == 1


@pytest.mark.parametrize("query", ["", "?weight=", "?weight=0", "?weight=257", "?weight=-1", "?weight=2.5", "?weight=x",
                                   "?weight=99999999999999999999", "?weight=%zz"])
def test_a_weight_that_is_none_is_refused(maitred, echo, query):
    origin = echo()
    proxy = maitred(proxying(origin, general=admin()))
    interface = admin_of(proxy)
    assert "from 1 to 256" in error_of(interface.server_action("weight", origin.at, query=query), 400)
    assert interface.server(origin.at)["by_hand"] is None


def test_unknown_names_are_said_with_the_nearest(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin, general=admin()))
    interface = admin_of(proxy)
    assert error_of(interface.server_action("drain", origin.at, "wob"), 404) == "there is no pool wob; did you mean web?"
    assert error_of(interface.server_action("drain", "nothing-like-it"), 404) == \
        "pool web has no server nothing-like-it; GET /api/state names all"
    near = origin.at[:-1] + ("1" if origin.at[-1] != "1" else "2")
    assert error_of(interface.server_action("drain", near), 404).endswith(f"did you mean {origin.at}?")
    assert "percent-encoded" in error_of(interface.post("/api/pools/web/servers/%01/drain"), 400)


def test_names_in_the_path_are_percent_encoded(maitred, echo, tmp_path):
    path = f"/tmp/{tmp_path.name[:20]}-{tmp_path.parent.name[-5:]}.sock"
    origin = echo("s0", address=path)
    proxy = maitred(proxying(origin, general=admin()))
    interface = admin_of(proxy)
    assert "drains" in said(interface.server_action("drain", f"unix:{path}"))
    assert proxy.get().status == 503
    assert urllib.parse.quote(f"unix:{path}", safe="").count("%2F") == 2


def test_a_reload_says_what_changed(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin, general=admin()))
    interface = admin_of(proxy)
    proxy.configure(proxying((origin, "weight = 3"), general=admin()))
    response = interface.reload()
    assert response.status == 200
    document = json.loads(response.body)
    assert sorted(document) == ["changes", "warnings"]
    assert document["warnings"] == []
    assert len(document["changes"]) == 1 and origin.at in document["changes"][0] and "weight" in document["changes"][0]
    config = interface.state()["config"]
    assert (config["reloads"], config["reloads_failed"]) == (1, 0)


def test_a_reload_that_fails_says_each_problem_and_degrades_until_one_works(maitred, echo):
    origin = echo()
    good = proxying(origin, general=admin())
    proxy = maitred(good)
    interface = admin_of(proxy)
    proxy.configure(good.replace("pool = web", "pool = wob  retries = x"))
    response = interface.reload()
    assert response.status == 422
    document = json.loads(response.body)
    assert sorted(document) == ["error", "problems"]
    assert len(document["problems"]) == 2
    assert all(re.match(rf"{re.escape(str(proxy.config))}:\d+: ", problem) for problem in document["problems"])
    state = interface.state()
    assert (state["state"], state["config"]["reloads_failed"]) == ("degraded", 1)
    assert state["reasons"] == ["the last reload failed: the file in force is an older one"]
    metrics = interface.metrics()
    assert metrics.value("maitred_config_reloads_total", result="failed") == 1
    assert interface.get("/readyz").status == 200
    assert proxy.get().status == 200
    proxy.configure(good)
    assert interface.reload().status == 200
    assert interface.state()["state"] == "up"
    proxy.wait_log(" reloaded ")
    proxy.reload("nonsense", fails=True)     # by signal
    interface.wait(lambda state: state["state"] == "degraded", "degraded")


# --- events

def test_events_come_as_they_happen(maitred, echo, closed):
    origin = echo()
    proxy = maitred(proxying(origin, general=admin()))
    interface = admin_of(proxy)
    with interface.events() as events:
        interface.server_action("drain", origin.at)
        event = events.next()
        assert (event["kind"], event["pool"], event["server"]) == ("server-drained", "web", origin.at)
        assert event["text"].startswith(f"pool web: server {origin.at} ")
        assert TIME.fullmatch(event["time"])
        interface.server_action("weight", origin.at, query="?weight=2")
        interface.reload()
        kinds = [events.next()["kind"] for _ in range(2)]
        assert kinds == ["server-weight", "reload"]
        assert [each["id"] for each in events.seen] == list(range(event["id"], event["id"] + 3))
        assert "pool" not in events.seen[-1]
    assert interface.state()["events"][-3:] == events.seen


def test_streams_leave_places_to_those_who_ask_once(maitred, echo):
    proxy = maitred(proxying(echo(), general=admin()))
    interface = admin_of(proxy)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(interface.events(0)) for _ in range(64)]
        for stream in streams:
            assert stream.next()["kind"] == "start"
        for target in ("/api/events", "/api/requests?follow=1"):
            assert "64 streams" in error_of(interface.get(target), 503)
        assert interface.get("/readyz").status == 200
        streams[0].close()
        end = time.monotonic() + DEADLINE
        while interface.ask("HEAD", "/api/events").status != 200:
            assert time.monotonic() < end
            interface.reload()      # an event, by which it is noticed that one has left


def test_events_are_said_from_several_threads(maitred, closed):
    proxy = maitred(routing('route "/" { pool = web }', general=admin(), web=[closed() for _ in range(6)]).replace(
        "threads = 1", "threads = 2").replace("pool web {", "pool web { ejection { failures = 1  share = 100  time = 100s }"))
    with admin_of(proxy).events(since=0) as events:
        for _ in range(12):
            proxy.get()
        for _ in range(5):
            events.wait("server-ejected")
        assert [each["id"] for each in events.seen] == sorted(each["id"] for each in events.seen)


@pytest.mark.parametrize("how", ["field", "query"])
def test_who_comes_back_gets_what_it_missed(maitred, echo, how):
    origin = echo()
    proxy = maitred(proxying(origin, general=admin()))
    interface = admin_of(proxy)
    for weight in range(1, 31):
        interface.server_action("weight", origin.at, query=f"?weight={weight}")
    last = interface.state()["events"][-1]["id"]
    fields = [f"Last-Event-ID: {last - 20}"] if how == "field" else []
    peer = interface.connect()
    peer.send(interface.request("GET", "/api/events" + (f"?since={last - 20}" if how == "query" else ""), *fields))
    assert peer.read_head().get("Content-Type") == "text/event-stream"
    text = peer.read_until(f"id: {last}\n".encode())
    assert re.findall(rb"^id: (\d+)$", text, re.M) == [b"%d" % number for number in range(last - 19, last + 1)]
    peer.close()


def test_an_event_id_that_is_none_is_refused(maitred, echo):
    proxy = maitred(proxying(echo(), general=admin()))
    interface = admin_of(proxy)
    assert "number of an event" in error_of(interface.get("/api/events?since=x"), 400)
    assert "number of an event" in error_of(interface.get("/api/events", "Last-Event-ID: -1"), 400)


def test_an_id_of_an_earlier_process_gets_all_events(maitred, echo):
    proxy = maitred(proxying(echo(), general=admin()))
    with admin_of(proxy).events(since=1 << 40) as events:
        assert events.next()["kind"] == "start"


def test_following_events_does_not_hold_up_the_end(maitred, echo):
    proxy = maitred(proxying(echo(), general=admin(), drain="60s"))
    with admin_of(proxy).events() as events:
        proxy.terminate()
        assert events.wait("drain")
        assert proxy.wait(seconds=DEADLINE) == 0
