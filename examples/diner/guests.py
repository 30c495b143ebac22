#!/usr/bin/env python3
"""guests.py - visitors of the diner: as many requests a second as you say, however long the answers take.

Usage: guests.py [--port N] [--seconds S] [--connections N] [--json] [--listen] [WISH...]
       A wish is "RATE METHOD TARGET [BODY]"; # in target or body is a number that counts up.
Example: guests.py --seconds 10 "300 GET /" "100 GET /menu?table=#" "50 POST /orders order=#"

It ends after S seconds, or at Ctrl-C, and tells how they went. With --listen a line of standard input has other wishes,
with ";" between them (an empty one: the same), from then on; at each such line it tells how those went that were sent
before, and at the end of its input it ends, too.

A request leaves when its time has come, not when the one before is answered (an open loop), as people do who know
nothing of each other; what it waited for a free connection counts as its time.
"""
import argparse
import collections
import json
import math
import os
import re
import select
import signal
import socket
import sys
import time

TICK_SECONDS = 0.002            # what is due within so long leaves together
LATE_SECONDS = 5                # who finds no free connection for so long has gone away
LAST_SECONDS = 3                # how long the answers to what was sent before are waited for
READ_BYTES = 64 * 1024
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)
CLOSES = re.compile(rb"\r\nconnection: *close", re.I)
STEPS_PER_OCTAVE = 16           # of the histogram of times: each step is 4.4 % above the one before


class Wish:
    """RATE times a second the same request, but for its number."""

    def __init__(self, text):
        fields = text.split(None, 3)
        if len(fields) < 3 or not re.fullmatch(r"\d+(\.\d+)?", fields[0]) or not fields[2].startswith("/"):
            raise ValueError(f"{text!r} is no wish: RATE METHOD TARGET [BODY]")
        self.rate, self.method, self.target = float(fields[0]), fields[1], fields[2]
        self.body = fields[3] if len(fields) == 4 else ""
        self.number = 0
        self.due = time.monotonic()

    def request(self, host):
        self.number += 1
        target, body = (text.replace("#", str(self.number)) for text in (self.target, self.body))
        length = f"Content-Length: {len(body.encode())}\r\n" if body or self.method == "POST" else ""
        return f"{self.method} {target} HTTP/1.1\r\nHost: {host}\r\n{length}\r\n{body}".encode()

    def take_due(self, now):
        """When each was due that is by now."""
        while self.rate and self.due <= now:
            yield self.due
            self.due += 1 / self.rate


def wishes_of(line):
    return [Wish(text) for text in line.split(";") if text.strip()]


class Figures:
    """How the requests went that were sent under the same wishes."""

    def __init__(self):
        self.sent = self.answered = 0
        self.statuses = collections.Counter()       # of the answers; 0: none came
        self.times = collections.Counter()          # of the good ones, by step
        self.began = time.monotonic()

    def answer(self, status, seconds):
        self.answered += 1
        self.statuses[status] += 1
        if 200 <= status < 400:
            self.times[max(round(math.log2(max(seconds, 1e-6) * 1000) * STEPS_PER_OCTAVE), -64)] += 1

    def percentile_ms(self, percent):
        """None: nothing was answered well."""
        left = math.ceil(self.times.total() * percent / 100)
        for step in sorted(self.times):
            left -= self.times[step]
            if left <= 0:
                return round(2 ** (step / STEPS_PER_OCTAVE), 1)
        return None

    def table(self):
        good = sum(n for status, n in self.statuses.items() if 200 <= status < 400)
        return {"seconds": round(time.monotonic() - self.began, 1), "sent": self.sent,
                "ok": good - self.statuses[202], "stored": self.statuses[202], "errors": self.answered - good,
                "error_statuses": {str(status): n for status, n in sorted(self.statuses.items())
                                   if not 200 <= status < 400},
                "unanswered": self.sent - self.answered,
                "p50_ms": self.percentile_ms(50), "p95_ms": self.percentile_ms(95)}


def sentence(table):
    """The same for people."""
    parts = [f"{table['sent']:,} sent in {table['seconds']} s"]
    parts += [f"{table[key]:,} {what}" for key, what in (("ok", "served"), ("stored", "stored (202)")) if table[key]]
    kinds = ", ".join(f"{n:,} times {'no answer' if status == '0' else status}"
                      for status, n in table["error_statuses"].items())
    parts.append(f"{table['errors']:,} errors" + (f" ({kinds})" if kinds else ""))
    if table["unanswered"]:
        parts.append(f"{table['unanswered']:,} not answered yet")
    if table["p50_ms"] is not None:
        parts.append(f"p50 {table['p50_ms']:,} ms, p95 {table['p95_ms']:,} ms")
    return ", ".join(parts)


class Connection:
    """One kept connection; it has one request on its way, or is free."""

    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=1)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.received = bytearray()
        self.unsent, self.waits = b"", False        # what of its request has not left; whether for lack of room
        self.request = None                         # (its figures, when it was due)

    def write(self):
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent):]
        except BlockingIOError:
            pass
        self.waits = bool(self.unsent)

    def read(self):
        """The status of the answer once all of it is here, None before; ConnectionError: it will not come."""
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return None
        if not data:
            raise ConnectionResetError
        self.received += data
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return None
        length = LENGTH.search(self.received, 0, end)
        size = end + 4 + (int(length[1]) if length else 0)
        if len(self.received) < size:
            return None
        self.is_last = CLOSES.search(self.received, 0, end) is not None
        status = int(self.received[9:12])
        del self.received[:size]
        return status


class Guests:
    def __init__(self, port, most):
        self.address, self.host, self.most = ("127.0.0.1", port), f"localhost:{port}", most
        self.epoll = select.epoll()
        self.connections = {}                       # by descriptor
        self.free = []
        self.waiting = collections.deque()          # (wish, figures, when it was due)
        self.past = []                              # figures that still miss answers, and until when
        self.figures = Figures()
        self.wishes = []

    def change(self, wishes):
        """Other wishes from now on; without any, the same again."""
        self.past.append((self.figures, time.monotonic() + LAST_SECONDS))
        self.figures = Figures()
        self.wishes = self.wishes if wishes is None else wishes

    def done(self):
        """The tables of what is past and complete, or has waited long enough."""
        now = time.monotonic()
        while self.past and (self.past[0][0].answered == self.past[0][0].sent or now > self.past[0][1]):
            yield self.past.pop(0)[0].table()

    def step(self):
        """What is due leaves, and what has come is counted."""
        now = time.monotonic()
        for wish in self.wishes:
            for due in wish.take_due(now):
                self.figures.sent += 1
                self.waiting.append((wish, self.figures, due))
        self.send_waiting(now)
        for descriptor, _ in self.epoll.poll(TICK_SECONDS):
            if descriptor in self.connections:
                self.serve(self.connections[descriptor])

    def send_waiting(self, now):
        while self.waiting and (self.free or len(self.connections) < self.most):
            wish, figures, due = self.waiting.popleft()
            try:
                connection = self.free.pop() if self.free else self.open()
            except OSError:
                figures.answer(0, 0)
                continue
            connection.request, connection.unsent = (figures, due), wish.request(self.host)
            self.serve(connection, reads=False)
        while self.waiting and now - self.waiting[0][2] > LATE_SECONDS:
            self.waiting.popleft()[1].answer(0, 0)

    def open(self):
        connection = Connection(self.address)
        descriptor = connection.socket.fileno()
        self.connections[descriptor] = connection
        self.epoll.register(descriptor, select.EPOLLIN)
        return connection

    def serve(self, connection, reads=True):
        try:
            if connection.unsent:
                self.write(connection)
            status = connection.read() if reads else None
        except (ConnectionError, ValueError):
            self.close(connection)
            return
        if status is not None and connection.request:
            figures, due = connection.request
            connection.request = None
            figures.answer(status, time.monotonic() - due)
            if connection.is_last:
                self.close(connection)
            else:
                self.free.append(connection)

    def write(self, connection):
        waits = connection.waits
        connection.write()
        if connection.waits != waits:
            self.epoll.modify(connection.socket, select.EPOLLIN | (select.EPOLLOUT if connection.waits else 0))

    def close(self, connection):
        if connection.request:
            connection.request[0].answer(0, 0)
        elif connection in self.free:
            self.free.remove(connection)
        del self.connections[connection.socket.fileno()]
        connection.socket.close()


class Input:
    """The lines of standard input, as they come."""

    def __init__(self):
        self.text = b""
        self.has_ended = False

    def lines(self):
        if select.select([0], [], [], 0)[0]:
            data = os.read(0, READ_BYTES)
            self.has_ended = not data
            self.text += data
        *lines, self.text = self.text.split(b"\n")
        return [line.decode("utf-8", "replace") for line in lines]


def tell(tables, as_json):
    for table in tables:
        print(json.dumps(table) if as_json else sentence(table), flush=True)


def listen(guests, told):
    for line in told.lines():
        try:
            guests.change(wishes_of(line) if line.strip() else None)
        except ValueError as error:
            print(f"guests.py: {error}", file=sys.stderr, flush=True)


def visit(guests, seconds, told, as_json):
    """Until the time is over, or nobody is there to tell us more, or somebody has us end."""
    ended = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.append(True))
    end = time.monotonic() + seconds
    while time.monotonic() < end and not ended and not (told and told.has_ended):
        if told:
            listen(guests, told)
        guests.step()
        tell(guests.done(), as_json)
    guests.change([])
    while guests.past:
        guests.step()
        tell(guests.done(), as_json)


def main():
    parser = argparse.ArgumentParser(description="Visitors of the diner.", epilog="A wish: RATE METHOD TARGET [BODY]")
    parser.add_argument("wishes", nargs="*", type=Wish, metavar="WISH")
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", 8080)))
    parser.add_argument("--seconds", type=float, default=math.inf, help="how long they come (until Ctrl-C)")
    parser.add_argument("--connections", type=int, default=256, help="at a time, at the most (256)")
    parser.add_argument("--json", action="store_true", help="figures for programs")
    parser.add_argument("--listen", action="store_true", help="take other wishes from standard input, a line each time")
    args = parser.parse_args()
    guests = Guests(args.port, args.connections)
    guests.wishes = args.wishes
    visit(guests, args.seconds, Input() if args.listen else None, args.json)


if __name__ == "__main__":
    main()
