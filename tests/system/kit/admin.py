"""A client of the admin interface: its state, its metrics as a dictionary, its actions and its stream of events."""
import json
import re
import time
import urllib.parse

from kit.wire import DEADLINE, PeerGone, TimedOut, connect, request

SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([-+0-9.eE]+|NaN|[-+]Inf)')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|$)')


class Metrics(dict):
    """{(name, frozenset of (label, value)): number}, from text that must be well formed."""

    def __init__(self, text):
        super().__init__()
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            found = SAMPLE.fullmatch(line)
            assert found, f"no sample: {line!r}"
            name, labels, value = found.groups()
            key = name, frozenset(labels_of(labels or "", line))
            assert key not in self, f"told twice: {line!r}"
            self[key] = float(value)

    def all(self, name, **labels):
        """[(labels as a dictionary, value)] of the samples that have at least these labels."""
        wanted = labels.items()
        return [(dict(theirs), value) for (their_name, theirs), value in self.items()
                if their_name == name and wanted <= dict(theirs).items()]

    def value(self, name, **labels):
        """The one sample that has at least these labels."""
        found = self.all(name, **labels)
        assert len(found) == 1, f"{len(found)} samples of {name} with {labels}"
        return found[0][1]

    def sum(self, name, **labels):
        return sum(value for _, value in self.all(name, **labels))

    def errors(self, server, pool="web"):
        """{kind: how many} of what the server did wrong, without those that are 0."""
        found = self.all("maitred_server_errors_total", pool=pool, server=server)
        assert found, f"no errors are told of {server} in pool {pool}"
        return {labels["kind"]: int(value) for labels, value in found if value}


def labels_of(text, line):
    at = 0
    while at < len(text):
        found = LABEL.match(text, at)
        assert found, f"bad labels: {line!r}"
        at = found.end()
        yield found[1], re.sub(r"\\(.)", lambda escape: {"n": "\n"}.get(escape[1], escape[1]), found[2])


class Admin:
    """address: (host, port), or a path of a unix socket. Each question has a connection of its own, so that none is
    held open; connect() gives one that stays."""

    def __init__(self, address, token=None):
        self.address = address
        self.fields = [f"Authorization: Bearer {token}"] if token else []

    def connect(self):
        return connect(self.address)

    def request(self, method, target, *fields, body=b"", host="localhost"):
        return request(method, target, *self.fields, *fields, body=body, host=host)

    def ask(self, method, target, *fields, body=b"", seconds=DEADLINE):
        peer = self.connect()
        try:
            return peer.ask(self.request(method, target, *fields, body=body), seconds=seconds)
        finally:
            peer.close()

    def get(self, target, *fields):
        return self.ask("GET", target, *fields)

    def post(self, target, *fields, body=b""):
        return self.ask("POST", target, *fields, body=body)

    # --- what it knows

    def state(self):
        response = self.get("/api/state")
        assert response.status == 200, response
        return json.loads(response.body)

    def history(self):
        response = self.get("/api/history")
        assert response.status == 200, response
        return json.loads(response.body)

    def server(self, server, pool="web"):
        """A server's part of the state."""
        found = [each for pools in self.state()["pools"] if pools["name"] == pool
                 for each in pools["servers"] if each["name"] == server]
        assert len(found) == 1, f"{len(found)} servers {server} in pool {pool}"
        return found[0]

    def metrics(self):
        response = self.get("/metrics")
        assert response.status == 200, response
        return Metrics(response.text)

    def errors(self, server, pool="web"):
        return self.metrics().errors(server, pool)

    def wait(self, condition, what, seconds=DEADLINE):
        """Asks until condition(state) holds."""
        end = time.monotonic() + seconds
        while not condition(state := self.state()):
            if time.monotonic() > end:
                raise TimedOut(f"{what} did not happen; state: {json.dumps(state, indent=1)}")
        return state

    # --- what it does

    def server_action(self, action, server, pool="web", query=""):
        names = [urllib.parse.quote(name, safe="") for name in (pool, server)]
        return self.post(f"/api/pools/{names[0]}/servers/{names[1]}/{action}{query}")

    def reload(self):
        return self.post("/api/reload")

    # --- events

    def events(self, since=None):
        """A stream of those that come from now on, or after the one with this id."""
        return Events(self, since)

    def wait_event(self, kind, pattern="", since=0, seconds=DEADLINE):
        with self.events(since) as events:
            return events.wait(kind, pattern, seconds)


class Events:
    """The open stream. `seen` are those that came, as dictionaries. Its owner closes it, or uses it with `with`."""

    def __init__(self, admin, since):
        self.seen = []
        self.text = b""
        self.peer = admin.connect()
        self.peer.send(admin.request("GET", "/api/events" + ("" if since is None else f"?since={since}")))
        self.head = self.peer.read_head()
        assert self.head.status == 200, self.head
        assert self.head.get("Content-Type", "").startswith("text/event-stream"), self.head
        self.chunked = self.head.get("Transfer-Encoding") == "chunked"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.peer.close()

    def _more(self, seconds):
        if not self.chunked:
            data = self.peer.read_some(seconds)
        else:
            data = self.peer.read_exactly(int(self.peer.read_until(b"\r\n", seconds), 16), seconds)
            self.peer.read_exactly(2, seconds)
        if not data:
            raise PeerGone(f"the stream of events ended after {self.seen}")
        self.text += data

    def next(self, seconds=DEADLINE):
        """The next event. Comments are passed over."""
        end = time.monotonic() + seconds
        while True:
            while b"\n\n" not in self.text:
                if time.monotonic() > end:
                    raise TimedOut(f"no event came; seen: {self.seen}")
                self._more(max(end - time.monotonic(), 0))
            block, _, self.text = self.text.partition(b"\n\n")
            fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if not line.startswith(":"))
            if fields:
                event = json.loads(fields["data"])
                assert (fields["id"], fields["event"]) == (str(event["id"]), event["kind"]), block
                self.seen.append(event)
                return event

    def wait(self, kind, pattern="", seconds=DEADLINE):
        """The first event of that kind, from here on, whose text the pattern is found in."""
        end = time.monotonic() + seconds
        while True:
            event = self.next(max(end - time.monotonic(), 0))
            if event["kind"] == kind and re.search(pattern, event["text"]):
                return event


def admin_of(proxy, token=None):
    """For a configuration with kit.config.admin()."""
    return Admin(("127.0.0.1", proxy.port9), token)
