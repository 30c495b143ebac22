"""The diner's processes, which a test kills and starts again: web servers, kitchens and maitred, with the example's own
configuration, in a folder of the test's own. Everything here is called from the thread that made it: the processes die with
that."""
import contextlib
import os
import signal
import subprocess
import sys
import time

from kit import diner
from kit.admin import Admin
from kit.process import BINARY, ROOT, free_port
from kit.rabbitmq import die_with_us
from kit.wire import PeerGone, TimedOut, connect, request

sys.path.append(str(ROOT / "examples" / "diner"))

from house import SERVERS  # noqa: E402

FOLDER = ROOT / "examples" / "diner"
CONFIG = FOLDER / "maitred.conf"
PYTHON = "/usr/bin/python3"
START_SECONDS, END_SECONDS = 60, 30


class Part:
    """One process, which can come and go. What it says on its standard error is in a file."""

    def __init__(self, name, port, command, environment, log):
        self.name, self.port, self.command, self.environment, self.log = name, port, command, environment, log
        self.process = None

    @property
    def pid(self):
        return self.process.pid

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([str(word) for word in self.command], cwd=ROOT, env=self.environment,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_us)

    def answers(self):
        try:
            peer = connect(("127.0.0.1", self.port))
        except OSError:
            return False
        try:
            return peer.get("/healthz").status == 200
        except (OSError, PeerGone, TimedOut):
            return False
        finally:
            peer.close()

    def wait_answers(self):
        end = time.monotonic() + START_SECONDS
        while not self.answers():
            assert self.runs(), f"{self.name} ended with exit code {self.process.returncode}: {self.told()}"
            assert time.monotonic() < end, f"{self.name} does not answer: {self.told()}"
            time.sleep(0.01)

    def told(self):
        return self.log.read_text(errors="replace")[-3000:]

    def kill(self):
        """At once, as a crash does it."""
        self.process.kill()
        self.process.wait(END_SECONDS)

    def end(self):
        """Its exit code, after SIGTERM."""
        self.process.terminate()
        return self.process.wait(END_SECONDS)


def crew(state, name):
    return next(each for each in state["workers"] if each["name"] == name)


class Staff:
    """open() starts everything but videos and auth, which have no part in what is stored; close() ends it, and is to be
    called however the test ends."""

    def __init__(self, folder, environment=None):
        self.logs, prefix = folder / "logs", diner.free_prefix()
        self.port, self.admin_port, self.amqp_port = free_port(), int(f"{prefix}00"), int(f"{prefix}72")
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "THUMBNAIL_CPU")},
            "PORT": str(self.port), "ADMIN": str(self.admin_port), "AMQP": str(self.amqp_port), "SERVERS": str(prefix),
            "LOGS": str(self.logs), "MAITRED_ADMIN": f"http://127.0.0.1:{self.admin_port}", **(environment or {})}
        self.servers = [self.server(kind, int(f"{prefix}{end}"), cooks) for end, kind, cooks in SERVERS
                        if kind in ("web", "kitchen")]
        self.maitred = self.part("maitred", self.port, BINARY, "run", CONFIG)
        self.by_hand = []       # workers that maitred knows nothing of
        self.admin = Admin(("127.0.0.1", self.admin_port))
        self.logs.mkdir()

    def part(self, name, port, *command, **environment):
        return Part(name, port, command, {**self.environment, **environment}, self.logs / f"{name.replace(' ', '-')}.log")

    def server(self, kind, port, cooks):
        return self.part(f"{kind} {port}", port, PYTHON, FOLDER / "server.py", kind, port, "--cooks", cooks)

    def of_kind(self, kind):
        return [each for each in self.servers if each.name.startswith(kind)]

    def open(self):
        subprocess.run([PYTHON, "-c", "import database; database.open_folder(); database.check()"], cwd=FOLDER, check=True,
                       env=self.environment, timeout=START_SECONDS)
        for part in self.servers:
            part.start()
        for part in self.servers:
            part.wait_answers()
        self.maitred.start()
        self.maitred.wait_answers()
        return self

    # --- workers

    def hire(self, script, queue):
        """One by hand, as examples/diner/consumer.py says."""
        worker = self.part("by hand", None, PYTHON, FOLDER / script, MAITRED_QUEUE=queue,
                           AMQP_URL=f"amqp://guest:guest@127.0.0.1:{self.amqp_port}/%2F")
        worker.start()
        self.by_hand.append(worker)
        return worker

    def hired(self):
        """{pid: name} of those that maitred has started; waits until there is one."""
        found = {}

        def look(state):
            found.update({process["pid"]: f"{workers['name']} {process['number']}" for workers in state["workers"]
                          for process in workers["processes"] if process["pid"]})
            return found
        self.admin.wait(look, "there are workers", seconds=START_SECONDS)
        return found

    def keeper(self):
        """The pid of the process that has them, which is there as soon as they are."""
        self.hired()
        return next(pid for pid, command in diner.left_running(self.logs).items() if command.startswith("maitred keeper"))

    def set(self, name, count):
        """There are so many of them; those that were more have finished what they had."""
        assert self.admin.post(f"/api/workers/{name}/set?count={count}").status == 200
        self.admin.wait(lambda state: len(crew(state, name)["processes"]) == count and crew(state, name)["running"] == count,
                        f"there are {count} of workers {name}", seconds=END_SECONDS)

    # --- guests

    def client(self):
        return connect(("127.0.0.1", self.port))

    def ask(self, method, target, *fields, body=b""):
        with contextlib.closing(self.client()) as peer:
            return peer.ask(request(method, target, *fields, body=body))

    # --- the end

    def close(self):
        """Exit codes by name, of those that ran: the servers last, which maitred needs until its requests are finished."""
        codes = {}
        try:
            for part in [*self.by_hand, self.maitred, *self.servers]:
                if part.runs():
                    codes[part.name] = part.end()
        finally:
            left = diner.left_running(self.logs)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        assert not left, f"left running: {left}"
        return codes


__all__ = ["FOLDER", "PYTHON", "Part", "Staff", "crew"]
