"""Queues: configurations with them, a worker whose answers are scripted, and what a client asks of a route that stores."""
import json
import re
import selectors
import threading

from kit.config import listener, pool, servers, top
from kit.origin import EchoOrigin
from kit.wire import DEADLINE, PeerGone, TimedOut, answer, request


def stored(routes, *sections, general="", threads=1, drain="5s", http=""):
    """A listener with these routes, and a state folder of the test's own."""
    return (top(f'state = "{{dir}}/state"\nstate-segment = 1m\n{general}', threads, drain) +
            listener(routes, http) + "\n".join(sections) + "\n")


def queue(name, *options):
    return f"queue {name} {{ {'  '.join(options)} }}\n"


def pushed(name, worker, push="", *options):
    """A queue whose messages go to the worker, and the pool for that."""
    return (pool(f"{name}-workers", worker, options="connect-timeout = 1s") +
            queue(name, f"push {{ pool = {name}-workers  {push} }}", *options))


def status(code, *fields, body=b""):
    return answer(body, *fields, status=f"{code} Said")


class Worker(EchoOrigin):
    """Answers 200 to each message, or what `say` says: a function of the request, or a list of answers that are used up."""

    def __init__(self, name="worker"):
        self.say = []
        super().__init__(name, respond=self._answer)

    def _answer(self, asked):
        if callable(self.say):
            return self.say(asked)
        with self._changed:
            return self.say.pop(0) if self.say else answer(b"done\n")

    @property
    def bodies(self):
        return [each.body for each in self.requests]

    def wait_bodies(self, *bodies, seconds=DEADLINE):
        """Each of them has come at least once."""
        self.wait(lambda: set(bodies) <= set(self.bodies), f"{bodies}", seconds)


def post(proxy, target="/orders", body=b"x", *fields):
    return proxy.ask(request("POST", target, f"Content-Length: {len(body)}", *fields, body=body))


def accepted(response):
    """The status resource of a message that was stored."""
    assert response.status == 202, response
    told = json.loads(response.body)
    assert re.fullmatch(r"[a-z2-7]{26}", told["id"])
    assert response.get("Location") == told["status"] == f"/.maitred/messages/{told['id']}"
    return told["status"]


def fill(proxy, target, count, size=1024, streams=128):
    """Publishes count messages of that size, over so many connections at a time, each of which pipelines its own. The body
    begins with its stream and its number there. Returns the streams. Every message must be accepted."""
    with selectors.DefaultSelector() as selector:
        for number in range(streams):
            peer = proxy.client()
            peer.sock.setblocking(False)
            selector.register(peer.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, Stream(
                peer.sock, target, number, count // streams + (number < count % streams), size))
        while selector.get_map():
            ready = selector.select(DEADLINE)
            if not ready:
                raise TimedOut(f"{sum(each.data.owed for each in selector.get_map().values())} messages are not answered")
            for key, events in ready:
                wanted = key.data.go_on(events)
                if not wanted:
                    selector.unregister(key.fileobj)
                elif wanted != key.events:
                    selector.modify(key.fileobj, wanted, key.data)
    return streams


class Stream:
    """One of the connections that fill() has; owed: answers that are to come."""
    IN_A_ROW = 64

    def __init__(self, sock, target, number, count, size):
        self.sock, self.target, self.number, self.size = sock, target, number, size
        self.owed, self.unsent, self.sent = count, count, 0
        self.out, self.rest = b"", b""

    def go_on(self, events):
        """Which events it waits for; 0: all is answered."""
        if events & selectors.EVENT_READ:
            self._read()
        if events & selectors.EVENT_WRITE:
            self._write()
        if not self.owed:
            return 0
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self.out or self.unsent else 0)

    def _write(self):
        if not self.out:
            pieces = []
            for _ in range(min(self.unsent, self.IN_A_ROW)):
                body = (b"%d %d " % (self.number, self.sent)).ljust(self.size, b".")
                pieces.append(request("POST", self.target, body=body))
                self.sent += 1
            self.unsent -= len(pieces)
            self.out = b"".join(pieces)
        self.out = self.out[self.sock.send(self.out):]

    def _read(self):
        data = self.sock.recv(65536)
        if not data:
            raise PeerGone(f"closed with {self.owed} answers to come")
        data = self.rest + data
        statuses = re.findall(rb"HTTP/1\.1 (\d{3})", data)
        assert set(statuses) <= {b"202"}, data
        self.owed -= len(statuses)
        self.rest = data[data.rfind(b"HTTP/1.1 ") + len(b"HTTP/1.1 202"):][-len(b"HTTP/1.1 20"):]


def state_of(proxy, location):
    """What became of it: the JSON of the resource."""
    response = proxy.get(location)
    assert response.status == 200, response
    return json.loads(response.body)


def wait_state(proxy, location, wanted, seconds=DEADLINE):
    """Until the (only) queue says that state."""
    pause = threading.Event()
    for _ in range(int(seconds * 100)):
        told = state_of(proxy, location)
        if told["queues"] and told["queues"][0]["state"] == wanted:
            return told
        pause.wait(0.01)
    raise TimedOut(f"{location} is {told}, and not {wanted}")


__all__ = ["Worker", "accepted", "fill", "post", "pushed", "queue", "servers", "state_of", "status", "stored", "wait_state"]
