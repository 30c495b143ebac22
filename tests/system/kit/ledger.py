"""A ledger outside of maitred: what publishers heard, what workers handled and when, and when who crashed. From it follows
what may not have happened: a confirmed message that nobody handled, a second handling that no crash explains."""
import threading
import time
import zlib
from dataclasses import dataclass

from kit import process
from kit.origin import Origin
from kit.wire import PeerGone, TimedOut, answer, request

# How old an answer to maitred may be and still be forgotten in a crash. It waits until the queue thread's turn that is under
# way is over, and the next one hands it to the system first of all; a turn is about as long as a sync, which on a busy disk
# may take some hundreds of milliseconds. Whatever is forgotten later was not written when it should have been.
ACKNOWLEDGED = 1.0
FILLER_MOST = 3000
BEHIND_MOST = 2000              # messages that wait; more would only make the end long


def body_of(name):
    """Of many lengths, so that messages end anywhere in a segment, and different for each name."""
    return name + b" " + name[-1:] * (zlib.crc32(name) % FILLER_MOST)


def name_of(body):
    """The body's name; it must have come whole."""
    name = body.split(b" ", 1)[0]
    assert body == body_of(name), f"another body than was published: {body[:100]!r}, {len(body)} bytes"
    return name


@dataclass
class Handling:
    worker: object
    start: float                # when the worker had read the request
    redelivered: bool
    end: float = None           # when its answer was written; None: it never was
    given_back: bool = False    # the answer asked for it to come again


@dataclass
class Crash:
    """It happened between begin and end, and whatever was under way had been read, or never will be, by end."""
    worker: object              # None: maitred crashed
    begin: float
    end: float = None

    def explains(self, first, second):
        """The acknowledgement of the first handling may have been lost in it."""
        return (self.worker in (None, first.worker) and first.start <= self.end and self.begin <= second.start and
                (first.end is None or self.begin - first.end <= ACKNOWLEDGED))


class Ledger:
    def __init__(self):
        self.lock = threading.Lock()
        self.handled = {}       # name: its handlings
        self.confirmed = set()
        self.crashes = []

    def begin(self, worker, asked):
        return self.enter(worker, asked.body, asked.get("Maitred-Redelivered") == "true")

    def enter(self, worker, body, redelivered):
        handling = Handling(worker, time.monotonic(), redelivered)
        with self.lock:
            self.handled.setdefault(name_of(body), []).append(handling)
        return handling

    def confirm(self, names):
        with self.lock:
            self.confirmed.update(names)

    def repeats(self):
        """(name, handling, the next one, the crashes that explain it) for each that was not the first."""
        for name, handlings in self.handled.items():
            in_order = sorted(handlings, key=lambda each: each.start)
            for first, second in zip(in_order, in_order[1:]):
                yield name, first, second, [each for each in self.crashes if each.explains(first, second)]


class LedgerWorker(Origin):
    """Enters each message in the ledger, works on it for work() seconds, and answers. Keeps nothing else, so that it can
    go on for hours."""

    def __init__(self, ledger, work, name="worker"):
        self.ledger, self.work = ledger, work
        super().__init__(self._serve, ("127.0.0.1", process.free_port()), name)     # which nobody takes while it is down

    def _serve(self, connection):
        crashed = self.stopped
        while True:
            asked = connection.read_request(seconds=600)
            del connection.received[:connection.taken]
            connection.taken = 0
            if asked.method == "GET":
                connection.send(answer(b"here"))
                continue
            handling = self.ledger.begin(self, asked)
            if crashed.wait(self.work()):
                return
            connection.send(answer(b"done"))
            handling.end = time.monotonic()

    def crash(self):
        """Refuses and resets all there is; once it returns nothing is handled any more."""
        crash = Crash(self, time.monotonic())
        connections = list(self.connections)
        self.stop()
        self._await_end(connections)
        crash.end = time.monotonic()
        self.ledger.crashes.append(crash)

    def settle(self):
        """maitred is gone: until all that it had sent was read."""
        if self.stopped.is_set():
            return
        peer = process.connect(self.address)
        peer.get()              # connections are accepted in order: all that maitred made are known now
        peer.close()
        self._await_end(list(self.connections))

    def _await_end(self, connections):
        self.wait(lambda: all(each.done.is_set() for each in connections), "the end of its connections", seconds=30)
        with self._changed:
            self.connections[:] = [each for each in self.connections if not each.done.is_set()]


class Publisher(threading.Thread):
    """Publishes names of its own until it is told to end, each once whatever it hears; enters those that were confirmed."""

    def __init__(self, ledger, proxy, target, prefix):
        super().__init__(daemon=True)
        self.ledger, self.proxy, self.target, self.prefix = ledger, proxy, target, prefix
        self.published = []
        self.errors = []        # answers that are no yes
        self.ending = threading.Event()

    def run(self):
        peer = None
        while not self.ending.is_set():
            if len(self.ledger.confirmed) - len(self.ledger.handled) > BEHIND_MOST:
                self.ending.wait(0.005)
                continue
            try:
                peer = peer or process.connect(self.proxy.address)
                self._publish(peer)
            except (OSError, PeerGone, TimedOut):
                if peer:
                    peer.close()
                peer = None
                self.ending.wait(0.005)     # leaves the processor to maitred, which is starting
        if peer:
            peer.close()

    def _publish(self, peer):
        name = b"%s-%d" % (self.prefix, len(self.published))
        body = body_of(name)
        self.published.append(name)
        answered = peer.ask(request("POST", self.target, f"Content-Length: {len(body)}", body=body))
        del peer.received[:peer.taken]
        peer.taken = 0
        if answered.status == 202:
            with self.ledger.lock:
                self.ledger.confirmed.add(name)
        else:
            self.errors.append(answered)

    def end(self):
        self.ending.set()
        self.join()


def is_empty(state):
    """Whether nothing is left in any queue."""
    return all(each[kind] == 0 for each in state["queues"] for kind in ("ready", "delayed", "blocked", "in_flight"))


__all__ = ["ACKNOWLEDGED", "Crash", "Ledger", "LedgerWorker", "Publisher", "is_empty"]
