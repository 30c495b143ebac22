#!/usr/bin/env python3
"""server.py - one server of the diner. Every answer says which server gave it.

Usage: server.py web|videos|auth|kitchen PORT [--cooks N] [--cooking MS]

A server works on as many requests at a time as it has cooks (4), and each takes a cook 3 milliseconds, or as many as
you say: fewer cooks make a smaller server. It keeps what it knows in its own memory, as many real ones do.
"""
import argparse
import http.server
import json
import secrets
import sys
import threading
import time
import urllib.parse

VIDEO_BYTES, VIDEO_SECONDS = 1_000_000, 2
BODY_BYTES_MAX = 64 * 1024


class Server(http.server.BaseHTTPRequestHandler):
    """What the three kinds have in common: one request in, one answer out, over connections that are kept."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1               # head and body leave together

    def do_GET(self):
        self.body = self.read_body()
        if self.body is None:
            return
        url = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(url.query))
        if url.path == "/healthz":
            self.answer(text="ok\n")
            return
        with self.server.cooks:
            time.sleep(self.server.cooking_seconds)
            self.serve(url.path)

    do_HEAD = do_POST = do_GET

    def read_body(self):
        """The request's body, or None when it was refused."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            self.answer(413, text="too much for a diner\n")
            return None
        return self.rfile.read(int(length)).decode("utf-8", "replace")

    def answer(self, status=200, text=None, type="text/plain; charset=utf-8", fields=(), **told):
        """Sends text, or what is told as JSON."""
        if text is None:
            text, type = json.dumps({"server": self.server.name, **told}) + "\n", "application/json"
        body = text.encode()
        self.head(status, type, len(body), fields)
        if self.command != "HEAD":
            self.wfile.write(body)

    def head(self, status, type, length, fields=()):
        self.send_response(status)
        for name, value in (("Content-Type", type), ("Content-Length", str(length)),
                            ("X-Served-By", self.server.name), *fields):
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def nothing_here(self, path):
        self.answer(404, error=f"nothing at {path}")

    def log_message(self, *_):
        """maitred keeps the access log."""


PAGE = """<!doctype html>
<title>The diner</title>
<body style="font: 1.3em sans-serif; margin: 3em; max-width: 40em">
<h1>Good evening!</h1>
<p>You are served by <b>{name}</b>. Reload the page: the next server may take you.</p>
<p>See also <a href="/menu?table=7">the menu for table 7</a>, <a href="/api/videos">the videos</a>,
<a href="/api/auth">who you are</a>.</p>
"""


class Web(Server):
    """Pages: any of the web servers will do, so they take turns. A table's menu is remembered by who made it."""

    menus = {}

    def serve(self, path):
        if path == "/" and "text/html" in self.headers.get("Accept", ""):
            self.answer(text=PAGE.format(name=self.server.name), type="text/html; charset=utf-8")
        elif path == "/":
            self.answer(text=f"Good evening! You are served by {self.server.name}.\n")
        elif path == "/menu":
            table = self.query.get("table", "0")
            remembered = table in self.menus
            if len(self.menus) < 10_000:
                self.menus.setdefault(table, "pancakes, pie, coffee")
            self.answer(table=table, menu=self.menus.get(table), remembered=remembered)
        else:
            self.nothing_here(path)


class Videos(Server):
    """Some answers take seconds, others none: the server with the fewest requests is the one to ask."""

    def serve(self, path):
        folder, _, name = path.removeprefix("/api/videos").partition("/")
        if folder:
            self.nothing_here(path)
        elif not name:
            self.answer(videos=["pancakes", "pie"], watch="/api/videos/pie")
        else:
            self.stream()

    def stream(self):
        pieces = 20
        self.head(200, "application/octet-stream", VIDEO_BYTES)
        for _ in range(pieces if self.command != "HEAD" else 0):
            self.wfile.write(bytes(VIDEO_BYTES // pieces))
            self.wfile.flush()
            time.sleep(VIDEO_SECONDS / pieces)


class Auth(Server):
    """Sessions live in this server's memory alone: a client has to come back to the same one."""

    users = {}

    def serve(self, path):
        if path != "/api/auth":
            self.nothing_here(path)
        elif self.command == "POST":
            self.log_in()
        else:
            _, _, session = self.headers.get("Cookie", "").partition("session=")
            self.answer(user=self.users.get(session.partition(";")[0], "nobody; POST user=NAME to log in"))

    def log_in(self):
        user = dict(urllib.parse.parse_qsl(self.body)).get("user", "somebody")
        session = secrets.token_hex(8)
        if len(self.users) < 10_000:
            self.users[session] = user
        self.answer(201, user=user, fields=[("Set-Cookie", f"session={session}; Path=/; HttpOnly")])


class Kitchen(Server):
    """Orders, which maitred brings one after the other, at the pace that its queue has."""

    def serve(self, path):
        if path == "/cook" and self.command == "POST":
            self.answer(cooked=self.body, attempt=self.headers.get("Maitred-Attempt"))
        else:
            self.nothing_here(path)


class Listener(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):     # a client may go whenever it likes
            super().handle_error(request, client_address)


def main():
    kinds = {"web": Web, "videos": Videos, "auth": Auth, "kitchen": Kitchen}
    parser = argparse.ArgumentParser(description="One server of the diner.")
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("port", type=int)
    parser.add_argument("--cooks", type=int, default=4, help="requests it works on at a time (4)")
    parser.add_argument("--cooking", type=float, default=3, help="milliseconds that a request takes a cook (3)")
    args = parser.parse_args()
    with Listener(("127.0.0.1", args.port), kinds[args.kind]) as listener:
        listener.name = f"{args.kind} {args.port}"
        listener.cooking_seconds = args.cooking / 1000
        listener.cooks = threading.BoundedSemaphore(args.cooks)
        listener.serve_forever()


if __name__ == "__main__":
    main()
