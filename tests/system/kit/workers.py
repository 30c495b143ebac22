"""Workers that maitred starts, and what they did (kit/worker_program.py)."""
import json
import os
import time
from pathlib import Path

from kit.admin import admin_of
from kit.config import admin, top
from kit.wire import DEADLINE, TimedOut

PROGRAM = Path(__file__).parent / "worker_program.py"
SERVICE = Path(__file__).parent / "service_program.py"
FILTER = Path(__file__).parent / "filter_program.py"


def command(words="", program=PROGRAM):
    return f"/usr/bin/python3 {program} {{dir}}/ledger {words}"


def house(workers, general="", drain="5s", threads=2, queue=""):
    """A queue jobs, its listener, and these sections."""
    return (top('state = "{dir}/state"\nstate-segment = 1m', threads, drain) + admin() + 'amqp "127.0.0.1:{port}" { user "guest" { password = "guest" } }\n'
            f"queue jobs {{ {queue} }}\n{general}\n{workers}\n")


def section(options="", words="", name="crew", queue="jobs", program=PROGRAM):
    return f'workers {name} {{ queue = {queue}  command = "{command(words, program)}"\n    {options} }}\n'


def is_there(pid):
    """A process that has ended and was not waited for is not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def children(pid):
    """Of that process, those that have not ended."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                fields = (path / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[1] == str(pid) and fields[0] not in "ZX":
                found.append(int(path.name))
    return found


class Crew:
    """One section of workers of a maitred."""

    def __init__(self, proxy, name="crew", queue="jobs"):
        self.proxy, self.name, self.queue = proxy, name, queue
        self.admin = admin_of(proxy)
        self.ledger = Path(proxy.directory) / "ledger"
        self.ids = 0

    def post(self, target, body=b"", expect=200):
        response = self.admin.ask("POST", target, f"Content-Length: {len(body)}", body=body)
        assert response.status == expect, response
        return json.loads(response.body)

    def get(self, target="", expect=200):
        response = self.admin.get(f"/api/workers/{self.name}{target}")
        assert response.status == expect, response
        return json.loads(response.body)

    def publish(self, n=1, **message):
        """So many messages; the ids of them."""
        ids = list(range(self.ids, self.ids + n))
        self.ids += n
        for number in ids:
            self.post(f"/api/queues/{self.queue}/publish", json.dumps({"id": number, **message}).encode())
        return ids

    # --- what they did

    def notes(self, word=None):
        """[(pid, number, word, rest)]"""
        if not self.ledger.exists():
            return []
        found = [line.split(" ", 3) for line in self.ledger.read_text().splitlines()]
        return [(int(pid), int(number), *rest) for pid, number, *rest in found if word in (None, rest[0])]

    def pids(self):
        return [pid for pid, *_ in self.notes("start")]

    def ended(self):
        """The ids of the messages that were worked off."""
        return [int(rest) for *_, rest in self.notes("end")]

    def poll(self, look, what, seconds=DEADLINE):
        """Until look() is true; what it was."""
        end = time.monotonic() + seconds
        while not (seen := look()):
            if time.monotonic() > end:
                raise TimedOut(f"{what} did not happen\n{json.dumps(self.get(), indent=1)}\n{self.notes()[-20:]}\n{self.proxy.errors}")
            time.sleep(0.01)
        return seen

    def wait(self, wanted, what, seconds=DEADLINE):
        """Until the section's part of the state is as wanted says."""
        seen = []

        def look():
            seen[:] = [self.get()]
            return wanted(seen[0])
        self.poll(look, what, seconds)
        return seen[0]

    def wait_ended(self, ids, seconds=DEADLINE):
        self.poll(lambda: set(ids) <= set(self.ended()), f"the end of {len(ids)} messages", seconds)

    def wait_running(self, n, seconds=DEADLINE):
        """So many that take messages, and no others."""
        return self.wait(lambda crew: crew["idle"] + crew["busy"] == n == crew["running"] and crew["stopping"] == 0,
                         f"{n} running", seconds)

    def wait_gone(self, pids, seconds=2.0):
        """From the moment something was killed."""
        end = time.monotonic() + seconds
        while left := [pid for pid in pids if is_there(pid)]:
            if time.monotonic() > end:
                raise TimedOut(f"{left} are still there")
            time.sleep(0.005)

    def events(self, kind):
        with self.admin.events(0) as events:
            last = self.post(f"/api/queues/{self.queue}/resume")["text"]    # an event that is surely the last
            events.wait("queue-resumed", last[-20:])
            return [event for event in events.seen if event["kind"] == kind]

    def processes(self):
        return self.get()["processes"]

    def begun(self, number=None):
        """What is known of each attempt's beginning, after its message's number."""
        return [rest.split(" ", 1)[1] for *_, rest in self.notes("begin") if number in (None, int(rest.split()[0]))]

    def queue_state(self, name=None):
        state, = [queue for queue in self.admin.state()["queues"] if queue["name"] == (name or self.queue)]
        return state

    def wait_queue(self, wanted, what, name=None):
        return self.poll(lambda: wanted(state := self.queue_state(name)) and state, what)

    def touch(self, name):
        path = Path(self.proxy.directory) / name
        path.touch()
        return path

    def keeper(self):
        found = [pid for pid in children(self.proxy.pid) if b"keeper" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(found) == 1, found
        return found[0]


def tell_gauge(crew, name, value, expect=200):
    return crew.post(f"/api/gauges/{name}", json.dumps({"value": value}).encode(), expect)


def path_of(crew, name):
    return os.path.join(crew.proxy.directory, name)
