#!/usr/bin/python3
"""server.py - one server of the diner. Every answer says which server gave it.

Usage: server.py web|videos|auth|kitchen [PORT] [--cooks N] [--cooking MS] [--secret TEXT]

A server works on as many requests at a time as it has cooks (4), and each takes a cook 3 milliseconds, or as many as
you say: fewer cooks make a smaller server. It keeps what it knows in its own memory, as many real ones do; what was
ordered is in the database, so that any of them knows it. Told to end (SIGTERM) it answers what it was asked, and goes.
"""
import argparse
import contextlib
import errno
import hmac
import http.server
import json
import os
import secrets
import signal
import sys
import threading
import time
import urllib.parse

import database

VIDEO_BYTES, VIDEO_SECONDS = 1_000_000, 2
BODY_BYTES_MAX = 64 * 1024


class Server(http.server.BaseHTTPRequestHandler):
    """What the three kinds have in common: one request in, one answer out, over connections that are kept."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1               # head and body leave together

    def do_GET(self):
        with self.server.at_work():
            self.take()

    do_HEAD = do_POST = do_GET

    def take(self):
        self.received = time.time()
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
        self.close_connection |= self.server.ending
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

# What became of a message, under which path: the queues that it may have been handled from.
HANDLED = {"orders": ["orders"], "photos": ["thumbnails"], "signups": ["billing", "analytics", "thumbnails"]}


class Web(Server):
    """Pages: any of the web servers will do, so they take turns. A table's menu is remembered by who made it; an order,
    a photo, a sign-up (by the id that its 202 told) is asked of the database."""

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
            self.tell_handled(path)

    def tell_handled(self, path):
        folder, _, message_id = path.removeprefix("/api/").partition("/")
        if folder not in HANDLED or not message_id:
            self.nothing_here(path)
            return
        try:
            handled = database.find(message_id, *HANDLED[folder])
        except database.Trouble as trouble:
            self.answer(503, error=f"the database: {trouble}", fields=[("Retry-After", "1")])
            return
        if handled:
            self.answer(id=message_id, handled=handled)
        else:
            self.answer(404, id=message_id, error="not handled, or not yet")


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
    """Sessions live in this server's memory alone: a client has to come back to the same one. With a secret (--secret)
    the cookie says who it is, signed with that, and any server that has the secret will do."""

    users = {}

    def serve(self, path):
        if path != "/api/auth":
            self.nothing_here(path)
        elif self.command == "POST":
            self.log_in()
        else:
            _, _, session = self.headers.get("Cookie", "").partition("session=")
            self.answer(user=self.user_of(session.partition(";")[0]) or "nobody; POST user=NAME to log in")

    def log_in(self):
        user = dict(urllib.parse.parse_qsl(self.body)).get("user", "somebody")
        session = self.signed(user) if self.server.secret else secrets.token_hex(8)
        if not self.server.secret and len(self.users) < 10_000:
            self.users[session] = user
        self.answer(201, user=user, fields=[("Set-Cookie", f"session={session}; Path=/; HttpOnly")])


    def signed(self, user):
        name = urllib.parse.quote(user)
        return f"{name}.{hmac.digest(self.server.secret, name.encode(), 'sha256').hex()}"

    def user_of(self, session):
        user = urllib.parse.unquote(session.rpartition(".")[0])
        if self.server.secret and hmac.compare_digest(session.encode(), self.signed(user).encode()):
            return user
        return self.users.get(session)


class Kitchen(Server):
    """Orders, which maitred brings at the pace that their queue has, and the bills of those who signed up. While the
    database is in trouble maitred is asked to wait: that costs no attempt. /slow: see database.py."""

    WORK = {"/cook": "cooked {}", "/bill": "a bill for {}"}

    def serve(self, path):
        if path in self.WORK and self.command == "POST":
            self.handle_message(lambda: self.WORK[path].format(self.body))
        elif path == "/slow":
            if "ms" in self.query and self.command == "POST":
                database.set_delay_ms(self.query["ms"])
            self.answer(ms=database.delay_ms())
        else:
            self.nothing_here(path)

    def handle_message(self, work):
        delivery = self.delivery()
        try:
            result = database.handle(delivery, self.server.name, work)
        except database.Trouble as trouble:
            print(f"{self.server.name}: {delivery.queue} {delivery.message_id}: {trouble}", file=sys.stderr, flush=True)
            self.answer(503, error=f"the database: {trouble}", fields=[("Retry-After", "1")])
            return
        self.answer(cooked=self.body, result=result, attempt=delivery.attempt)

    def delivery(self):
        """What maitred says of the message; one that came by AMQP has the name that its publisher gave it, and
        what came straight from a guest has none."""
        queue, message_id, attempt, redelivered = (
            self.headers.get(f"Maitred-{name}", "") for name in ("Queue", "Message-Id", "Attempt", "Redelivered"))
        name = self.headers.get("Amqp-Message-Id") or message_id or secrets.token_hex(8)
        return database.Delivery(queue, name, self.body,
                                 int(attempt) if attempt.isdecimal() else None, redelivered == "true", self.received)


class Listener(http.server.ThreadingHTTPServer):
    """Knows how many requests are being worked on, so that it can end between two."""

    request_queue_size = 128

    def __init__(self, *arguments):
        self.ending = False
        self.working, self.changed = 0, threading.Condition()
        super().__init__(*arguments)

    @contextlib.contextmanager
    def at_work(self):
        with self.changed:
            self.working += 1
        try:
            yield
        finally:
            with self.changed:
                self.working -= 1
                self.changed.notify_all()

    def end(self, *_):
        """Returns at once; serve_forever() a moment later."""
        self.ending = True
        threading.Thread(target=self.shutdown).start()

    def wait_idle(self):
        with self.changed:
            self.changed.wait_for(lambda: not self.working)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):     # a client may go whenever it likes
            super().handle_error(request, client_address)


def main():
    kinds = {"web": Web, "videos": Videos, "auth": Auth, "kitchen": Kitchen}
    parser = argparse.ArgumentParser(description="One server of the diner.")
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("port", type=int, nargs="?", default=os.environ.get("PORT"), help="(that of the environment)")
    parser.add_argument("--cooks", type=int, default=4, help="requests it works on at a time (4)")
    parser.add_argument("--cooking", type=float, default=3, help="milliseconds that a request takes a cook (3)")
    parser.add_argument("--secret", default="", help="of auth: signs sessions, which any server that has it then knows")
    args = parser.parse_args()
    name = f"{args.kind} {args.port}"
    try:
        database.open_folder()
        if args.kind == "kitchen":
            database.check()
        listener = Listener(("127.0.0.1", args.port), kinds[args.kind])
    except OSError as error:
        sys.exit(f"{name}: " + (f"port {args.port} is taken" if error.errno == errno.EADDRINUSE else str(error)))
    except database.Trouble as trouble:
        sys.exit(f"{name}: the database: {trouble}")
    with listener:
        listener.name = name
        listener.cooking_seconds = args.cooking / 1000
        listener.secret = args.secret.encode()
        listener.cooks = threading.BoundedSemaphore(args.cooks)
        signal.signal(signal.SIGTERM, listener.end)
        if args.kind == "kitchen":
            database.start_telling()
        listener.serve_forever(poll_interval=0.05)
    listener.wait_idle()


if __name__ == "__main__":
    main()
