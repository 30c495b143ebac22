"""Servers behind maitred, under a test's control: one that plays a script per connection, one that tells what it got.

Each keeps every byte it received, per connection, and never closes a connection by itself unless told to.
"""
import hashlib
import json
import os
import queue
import socket
import threading

from kit.wire import DEADLINE, Peer, PeerGone, TimedOut, answer


IDLE_SECONDS = 50       # as servers do, it closes a connection that is kept and not used for so long


class Origin:
    """Listens at once; each connection runs handler(connection) in a thread of its own and is closed after it.

    handler may be a list: the first connection runs the first one, and so on; the last one serves all later ones.
    What a handler raises is kept in `errors`, apart from PeerGone: a proxy may leave whenever it wants.
    """

    def __init__(self, handler, address=("127.0.0.1", 0), name="origin"):
        self.name = name
        self.handlers = handler if isinstance(handler, list) else [handler]
        self.connections = []
        self.errors = []
        self.requests = []              # whole requests, as far as handlers read them with read_request
        self.stopped = threading.Event()
        self._changed = threading.Condition()
        self._listen(address)

    def _listen(self, address):
        family = socket.AF_UNIX if isinstance(address, str) else \
            socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(address)
        self.socket.listen(512)
        self.address = self.socket.getsockname()
        threading.Thread(target=self._accept, args=(self.socket,), daemon=True).start()

    @property
    def at(self):
        """The address as a configuration writes it."""
        if isinstance(self.address, str):
            return f"unix:{self.address}"
        host, port = self.address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            connection = Peer(sock)
            connection.origin = self
            connection.done = threading.Event()
            with self._changed:
                handler = self.handlers[min(len(self.connections), len(self.handlers) - 1)]
                self.connections.append(connection)
                self._changed.notify_all()
            threading.Thread(target=self._run, args=(handler, connection), daemon=True).start()

    def _run(self, handler, connection):
        try:
            handler(connection)
        except PeerGone:
            pass
        except OSError as error:
            if not self.stopped.is_set():
                self.errors.append(error)
        except Exception as error:
            self.errors.append(error)
        finally:
            connection.close()
            connection.done.set()
            self.changed()

    def mark(self):
        """Where everything received stands now, for since()."""
        return [len(connection.received) for connection in self.connections]

    def since(self, mark):
        """What came after the mark, a piece per connection that got something."""
        starts = mark + [0] * (len(self.connections) - len(mark))
        pieces = [bytes(connection.received[start:]) for connection, start in zip(self.connections, starts)]
        return [piece for piece in pieces if piece]

    # --- for handlers

    def took(self, request):
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()

    def changed(self):
        with self._changed:
            self._changed.notify_all()

    # --- for tests

    @property
    def received(self):
        return b"".join(bytes(connection.received) for connection in self.connections)

    @property
    def targets(self):
        return [request.target for request in self.requests]

    def wait(self, condition, what, seconds=DEADLINE):
        """Until condition() holds; looked at whenever a connection, a request or an end comes."""
        with self._changed:
            if not self._changed.wait_for(condition, seconds):
                raise TimedOut(f"{self.name}: {what} did not happen; {len(self.connections)} connections, "
                               f"requests {self.targets}, errors {self.errors}")

    def wait_requests(self, count, seconds=DEADLINE):
        self.wait(lambda: len(self.requests) >= count, f"request {count}", seconds)

    def wait_connections(self, count, seconds=DEADLINE):
        self.wait(lambda: len(self.connections) >= count, f"connection {count}", seconds)

    def stop(self):
        """As if the process was killed: refuses new connections, resets those it has."""
        self.stopped.set()
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
        if isinstance(self.address, str) and os.path.exists(self.address):
            os.unlink(self.address)
        for connection in self.connections:
            if not connection.done.is_set():
                try:
                    connection.sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def restart(self):
        """Comes back on the same address."""
        self.stopped = threading.Event()
        self._listen(self.address)


class Closed:
    """An address that refuses connections, and that nobody else can take meanwhile: bound, but not listening."""

    name, errors = "closed", ()

    def __init__(self):
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.at = "127.0.0.1:%d" % self.socket.getsockname()[1]

    def stop(self):
        self.socket.close()


# --- scripts: functions of a connection, put together by steps()

def steps(*actions):
    def run(connection):
        for action in actions:
            if isinstance(action, bytes):
                connection.send(action)
            else:
                action(connection)
    return run


def forever(*actions):
    run = steps(*actions)

    def loop(connection):
        while True:
            run(connection)
    return loop


def REQUEST(connection):
    """Reads one whole request, and keeps it in the origin's list."""
    request = connection.read_request(seconds=60)
    request.connection = connection
    connection.origin.took(request)
    return request


def HEAD(connection):
    """Reads one request's head alone."""
    connection.read_until(b"\r\n\r\n", seconds=60)
    connection.origin.changed()


def HANG(connection):
    """Takes whatever comes until the other side closes."""
    while connection.read_some(seconds=60):
        connection.origin.changed()


def RESET(connection):
    connection.reset()


def FINISH(connection):
    """Says that no more bytes will come, and goes on reading."""
    connection.finish()


def expect(data):
    def run(connection):
        got = connection.read_exactly(len(data))
        assert got == data, f"expected {data!r}, got {got!r}"
    return run


def wait_for(event, seconds=30):
    def run(_):
        assert event.wait(seconds), "the test never let this script go on"
    return run


# --- origins that behave

def tell(request):
    """What came, as JSON."""
    return answer(json.dumps({
        "server": request.connection.origin.name,
        "method": request.method,
        "target": request.target,
        "version": request.version,
        "fields": request.fields,
        "length": len(request.body),
        "sha256": hashlib.sha256(request.body).hexdigest(),
        "trailers": request.trailers,
    }).encode(), "Content-Type: application/json")


class Told:
    """What an origin told about the request it got."""

    def __init__(self, response):
        assert response.status == 200, response
        self.__dict__.update(json.loads(response.body))
        self.fields = [tuple(field) for field in self.fields]
        self.trailers = [tuple(field) for field in self.trailers]

    def all(self, name):
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def get(self, name):
        values = self.all(name)
        assert len(values) < 2, f"{name} was forwarded {len(values)} times: {values}"
        return values[0] if values else None

    def __contains__(self, name):
        return bool(self.all(name))


AGREED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: bytes\r\n\r\n"


def tell_or_echo(connection):
    """A script: tells what it got, or sends every byte back once a request asked for an upgrade to that."""
    while True:
        asked = REQUEST(connection)
        if "Upgrade" not in asked:
            connection.send(tell(asked))
            continue
        connection.send(AGREED)
        while data := connection.read_some(seconds=60):
            connection.send(data)
        return


class EchoOrigin(Origin):
    """A keep-alive server: answers with respond(request), which is tell() until a test changes it.
    hold() makes it sit on requests until release()."""

    def __init__(self, name="origin", respond=tell, address=("127.0.0.1", 0), close_after_each=False):
        self.respond = respond
        self.close_after_each = close_after_each
        self._gate = threading.Event()
        self._gate.set()
        super().__init__(self._serve, address, name)

    def _serve(self, connection):
        while connection.readable(IDLE_SECONDS):
            request = REQUEST(connection)
            while not self._gate.wait(0.2):
                if self.stopped.is_set():
                    return
            connection.send(self.respond(request))
            if self.close_after_each:
                return

    def hold(self):
        self._gate.clear()

    def release(self):
        self._gate.set()

    def stop(self):
        super().stop()
        self._gate.set()


class Turnstile(EchoOrigin):
    """Like EchoOrigin, but each request waits for its own ticket: admit() lets the next one in line through."""

    def __init__(self, name="origin"):
        self._tickets = queue.SimpleQueue()
        super().__init__(name, respond=self._wait_then_tell)

    def _wait_then_tell(self, request):
        self._tickets.get(timeout=30)
        return tell(request)

    def admit(self, count=1):
        for _ in range(count):
            self._tickets.put(None)
