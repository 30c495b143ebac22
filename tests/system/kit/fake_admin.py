"""An admin interface without a maitred behind it: answers as docs/admin.md says, keeps what it was asked, and lets a
test say what it answers."""
import copy
import http.server
import json
import os
import re
import socket
import socketserver
import threading
import urllib.parse

STARTED = "2026-01-31T12:00:00.000Z"
ACTIONS = re.compile(r"/api/pools/([^/]+)/servers/([^/]+)/(drain|enable|reset|weight)")


def at(seconds):
    """The time so many seconds after the start, which is below an hour."""
    return f"2026-01-31T12:{seconds // 60:02}:{seconds % 60:02}.000Z"


def latency(p50=1.2, p99=5.1):
    return {"p50_ms": p50, "p90_ms": p50, "p95_ms": p99, "p99_ms": p99}


def server(name, state="up", reason="", since=60, rate=1.0, p99=5.1, error_rate=0.0, errors=0, **more):
    return {"name": name, "address": name, "state": state, "reason": reason, "since": at(since),
            "usable": state == "up", "weight": 1, "weight_now": 1.0, "backup": False, "by_hand": None, "active": 2,
            "waiting": 0, "max_connections": 0, "idle": 4, "requests": 10, "rate": rate,
            "errors": {"refused": errors, "connect_timeout": 0, "response_timeout": 0, "closed": 0, "garbage": 0,
                       "broken": 0, "status": 0},
            "error_rate": error_rate, "retries": 0, "ejections": 0, "checks": {"ok": 10, "failed": 0},
            "bytes": {"in": 1, "out": 2}, "latency": latency(p99=p99), **more}


def pool(name, *servers, state="up", **more):
    return {"name": name, "balance": "round-robin", "state": state, "waiting": 0, "max_waiting": 1024,
            "refused": {"line_full": 2, "line_timeout": 1, "no_server": 0, "budget": 0}, "requests": 10, "rate": 1.0,
            "errors": 0, "error_rate": 0.0, "latency": latency(), "servers": list(servers), **more}


def route(name, action, rate=0.5, error_rate=0.0, place="maitred.conf:12"):
    return {"name": name, "place": place, "action": action, "requests": 5, "rate": rate, "errors": 0,
            "error_rate": error_rate, "statuses": {}, "latency": latency()}


def listener(name, kind="http", routes=(), **more):
    return {"name": name, "kind": kind, "connections": {"open": 3, "accepted": 100, "refused": 0}, "requests": 1234,
            "rate": 12.5, "errors": 2, "error_rate": 0.0,
            "statuses": {"1xx": 0, "2xx": 1200, "3xx": 0, "4xx": 32, "5xx": 2}, "bytes": {"in": 1, "out": 2},
            "latency": latency(), **({"routes": list(routes)} if kind == "http" else {}), **more}


def event(number, seconds, kind, text):
    return {"id": number, "time": at(seconds), "kind": kind, "text": text}


def small_state():
    """Two pools, of which one has a server that is down. It was written 600 s after the start."""
    return {
        "version": "0.1.0", "pid": 4711, "started": STARTED, "uptime": 600.0, "draining": False, "state": "degraded",
        "reasons": ["pool web: 1 of 3 servers down"],
        "config": {"file": "/etc/maitred/maitred.conf", "loaded": at(300), "reloads": 3, "reloads_failed": 1},
        "generations": [{"number": 3, "loaded": at(0), "current": False, "users": 12},
                        {"number": 4, "loaded": at(300), "current": True, "users": 3}],
        "threads": 2, "connections": {"open": 12, "max": 10000}, "memory_bytes": 12345678,
        "descriptors": {"open": 40, "max": 20256},
        "listeners": [
            listener(":8080", routes=[route("/", "pool web", rate=12.0), route("/api/videos", "pool api")]),
            listener(":5432", kind="tcp", pool="api"), listener("127.0.0.1:8900", kind="admin")],
        "pools": [
            pool("web", server("127.0.0.1:9001", rate=3.0, p99=7.0),
                 server("127.0.0.1:9002", "down", "connection refused", since=595, rate=0.0, p99=None, errors=17,
                        error_rate=1.5),
                 server("127.0.0.1:9003", rate=9.0, by_hand={"weight": 5}, weight=5, weight_now=5.0),
                 state="degraded"),
            pool("api", server("127.0.0.1:9004"), server("unix:/run/app.sock", backup=True))],
        "events": [event(n, 60 * n, "reload", f"event number {n}") for n in range(1, 7)] +
                  [event(7, 595, "server-down", "pool web: server 127.0.0.1:9002 is down: connection refused")],
    }


EXPLAINED = {"listeners": [{
    "listener": ":8080", "refused": None, "route": {"name": "/api/videos", "place": "maitred.conf:12",
                                                    "action": "pool api"},
    "others": [{"name": "/", "place": "maitred.conf:11", "why": "a longer path matches"},
               {"name": "/old", "place": "maitred.conf:13", "why": "the path is not under it"}],
    "pool": "api", "balance": "consistent-hash", "key": "cookie user: alice",
    "candidates": [{"server": "127.0.0.1:9004", "usable": True, "why": "up"},
                   {"server": "127.0.0.1:9005", "usable": False, "why": "down: connection refused"}],
    "choice": "127.0.0.1:9004", "why": "the first usable server from the key's place on the ring on"}]}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def address_string(self):
        return "somebody"

    def do_GET(self):
        self.server.admin.answer(self)

    do_POST = do_GET


class TcpServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64


class UnixServer(TcpServer):
    address_family = socket.AF_UNIX


class FakeAdmin:
    """Runs from the start. .state is what /api/state tells and drain, enable and weight change; .answers maps (method,
    path) to (status, document or bytes). .hold, when cleared, keeps every answer back."""
    name = "fake admin"

    def __init__(self, path=None, token=None, chunked=False):
        self.state = small_state()
        self.explained = copy.deepcopy(EXPLAINED)
        self.answers = {}
        self.token = token
        self.chunked = chunked
        self.asked = []         # (method, target, fields)
        self.errors = []
        self.hold = threading.Event()
        self.hold.set()
        self._changed = threading.Condition()
        self._path = path
        self.address = path or ("127.0.0.1", 0)
        self.start()

    @property
    def at(self):
        return f"unix:{self.address}" if isinstance(self.address, str) else "%s:%d" % self.address

    def start(self):
        if self._path and os.path.exists(self._path):
            os.unlink(self._path)
        self._server = (UnixServer if self._path else TcpServer)(self.address, Handler)
        self._server.admin = self
        self.address = self._server.server_address
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self):
        """Nobody answers any more; start() starts again at the same address."""
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_asked(self, number, seconds=8.0):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked) >= number, seconds), self.asked

    def posts(self):
        return [target for method, target, _ in self.asked if method == "POST"]

    def answer(self, request):
        with self._changed:
            self.asked.append((request.command, request.path, request.headers))
            self._changed.notify_all()
        self.hold.wait()
        status, document = self._decide(request)
        body = document if isinstance(document, bytes) else json.dumps(document, ensure_ascii=False).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        if self.chunked:
            request.send_header("Transfer-Encoding", "chunked")
            size = 1 + len(body) // 7
            body = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + size]), body[i:i + size])
                            for i in range(0, len(body), size)) + b"0\r\n\r\n"
        else:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        try:
            request.wfile.write(body)
        except OSError:
            pass

    def _decide(self, request):
        path, _, query = request.path.partition("?")
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return 401, {"error": "a token is needed; send it as Authorization: Bearer TOKEN"}
        if (request.command, path) in self.answers:
            return self.answers[request.command, path]
        if (request.command, path) == ("GET", "/api/state"):
            return 200, self.state
        if (request.command, path) == ("GET", "/api/explain"):
            return 200, self.explained
        match = ACTIONS.fullmatch(path)
        if match and request.command == "POST":
            return self._act(urllib.parse.unquote(match[1]), urllib.parse.unquote(match[2]), match[3],
                             urllib.parse.parse_qs(query))
        return 404, {"error": f"there is no {path}; see docs/admin.md"}

    def _act(self, pool_name, server_name, action, query):
        for one in self.state["pools"]:
            for other in one["servers"]:
                if (one["name"], other["name"]) == (pool_name, server_name):
                    return self._change(pool_name, other, action, query)
        return 404, {"error": f"pool {pool_name} has no server {server_name}; did you mean 127.0.0.1:9001?"}

    def _change(self, pool_name, found, action, query):
        if action == "weight":
            weight = query.get("weight", [""])[0]
            if not weight.isdigit() or not 1 <= int(weight) <= 256:
                return 400, {"error": f"the weight {weight} is no number from 1 to 256"}
            found["weight"] = int(weight)
            found["by_hand"] = {"weight": int(weight)}
            return 200, {"text": f"pool {pool_name}: server {found['name']} has weight {weight}"}
        if action == "reset":
            found["by_hand"] = None
            return 200, {"text": f"pool {pool_name}: server {found['name']} is as the file says"}
        found["state"] = "draining" if action == "drain" else "up"
        found["by_hand"] = {"drain": action == "drain"}
        return 200, {"text": f"pool {pool_name}: server {found['name']} {action}s; 2 requests are still on it"}
