"""Situations that last: clients that ask again and again, servers that take one request at a time, consumers with a pace of
their own; and what the state says of the bottleneck meanwhile."""
import contextlib
import json
import threading
import time

import pika

from kit.origin import EchoOrigin
from kit.wire import PeerGone, TimedOut, answer

PAUSE = 0.2
LIMIT = 60      # seconds until something is told, or not any more


class Cook(EchoOrigin):
    """A server with one pair of hands: each request takes `seconds`, one after the other, and is answered with `status`."""

    def __init__(self, name="cook", seconds=0.005, status="200 OK"):
        self.seconds, self.status = seconds, status
        self.hands = threading.Lock()
        super().__init__(name, respond=self._cook)

    def _cook(self, _):
        with self.hands:
            self.stopped.wait(self.seconds)
        return answer(b"", status=self.status)


@contextlib.contextmanager
def repeating(action, times=1, pause=0.0):
    """So many threads call action() again and again, with a pause after each, until the end."""
    over = threading.Event()

    def run():
        while not over.wait(pause):
            with contextlib.suppress(PeerGone, TimedOut, OSError):
                action()
    threads = [threading.Thread(target=run, daemon=True) for _ in range(times)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(LIMIT)


@contextlib.contextmanager
def consuming(port, queue, seconds):
    """A consumer that takes one message at a time, and `seconds` for each; Pace.seconds may change."""
    pace = Pace(seconds)

    def run():
        connection = pika.BlockingConnection(pika.ConnectionParameters(
            "127.0.0.1", port, credentials=pika.PlainCredentials("guest", "guest")))
        channel = connection.channel()
        channel.basic_qos(prefetch_count=1)

        def take(_, method, *__):
            connection.sleep(pace.seconds)
            channel.basic_ack(method.delivery_tag)
        channel.basic_consume(queue, take)
        while not pace.over.is_set():
            connection.process_data_events(0.05)
        connection.close()
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield pace
    finally:
        pace.over.set()
        thread.join(LIMIT)


class Pace:
    def __init__(self, seconds):
        self.seconds = seconds
        self.over = threading.Event()


class Teller:
    """What the state tells of the bottleneck, as (layer, name); `seen` has each change."""

    def __init__(self, admin):
        self.admin = admin
        self.seen = []

    def look(self):
        told = self.admin.state()["bottleneck"]
        what = told["layer"], told["name"]
        if what != (self.seen or [None])[-1]:
            self.seen.append(what)
        return told

    def wait(self, layer, name=None, seconds=LIMIT):
        """Until that is told; nothing else may be on the way."""
        pause, end, first = threading.Event(), time.monotonic() + seconds, self.look()
        told = first
        while (told["layer"], told["name"]) != (layer, name):
            assert (told["layer"], told["name"]) == (first["layer"], first["name"]), self.seen
            if time.monotonic() > end:
                raise TimedOut(f"{layer} {name} was not told: {json.dumps(told, indent=1)}")
            pause.wait(PAUSE)
            told = self.look()
        return told

    def stays(self, seconds):
        """Nothing changes for so long."""
        pause, end = threading.Event(), time.monotonic() + seconds
        self.look()
        before = len(self.seen)
        while time.monotonic() < end:
            self.look()
            assert len(self.seen) == before, self.seen
            pause.wait(PAUSE)


def has(lines, *words):
    """Each of the words is in one of the lines."""
    assert all(any(word in line for line in lines) for word in words), (words, lines)
