"""The diner's processes, which a test kills and starts again: web servers, kitchens and maitred. They are those of a copy of
the example, and of the program, in a folder of the test's own: it may go on for hours while the tree changes. Everything here
is called from the thread that made it: the processes die with that."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from kit import diner
from kit.admin import Admin
from kit.process import BINARY, ROOT, free_port
from kit.rabbitmq import die_with_us
from kit.wire import PeerGone, TimedOut, connect, request

EXAMPLE = Path("examples", "diner")

sys.path.append(str(ROOT / EXAMPLE))

from house import SERVERS  # noqa: E402

PYTHON = "/usr/bin/python3"
START_SECONDS, END_SECONDS = 60, 30


class Part:
    """One process, which can come and go. What it says on its standard error is in a file."""

    def __init__(self, name, port, command, folder, environment, log):
        self.name, self.port, self.command = name, port, command
        self.folder, self.environment, self.log = folder, environment, log
        self.process = None

    @property
    def pid(self):
        return self.process.pid

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([str(word) for word in self.command], cwd=self.folder, env=self.environment,
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


def is_there(pid):
    """As a process that runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(pid):
    """Returns when it has gone, whoever its parent is; it may have gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + END_SECONDS
    while is_there(pid):
        assert time.monotonic() < end, f"process {pid} does not go"
        time.sleep(0.005)


def crew(state, name):
    return next(each for each in state["workers"] if each["name"] == name)


class Staff:
    """open() starts everything but videos and auth, which have no part in what is stored; close() ends it, and is to be
    called however the test ends."""

    def __init__(self, folder, environment=None):
        self.folder, self.logs, prefix = folder, folder / "logs", diner.free_prefix()
        shutil.copytree(ROOT / EXAMPLE, folder / EXAMPLE)
        shutil.copy2(BINARY, folder / "maitred")
        self.port, self.admin_port, self.amqp_port = free_port(), int(f"{prefix}00"), int(f"{prefix}72")
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "THUMBNAIL_CPU")},
            "PORT": str(self.port), "ADMIN": str(self.admin_port), "AMQP": str(self.amqp_port), "SERVERS": str(prefix),
            "LOGS": str(self.logs), "MAITRED_ADMIN": f"http://127.0.0.1:{self.admin_port}", **(environment or {})}
        self.servers = [self.server(kind, int(f"{prefix}{end}"), cooks) for end, kind, cooks in SERVERS
                        if kind in ("web", "kitchen")]
        self.maitred = self.part("maitred", self.port, folder / "maitred", "run", EXAMPLE / "maitred.conf")
        self.by_hand = []       # workers that maitred knows nothing of
        self.admin = Admin(("127.0.0.1", self.admin_port))
        self.logs.mkdir()

    def part(self, name, port, *command, **environment):
        return Part(name, port, command, self.folder, {**self.environment, **environment},
                    self.logs / f"{name.replace(' ', '-')}.log")

    def server(self, kind, port, cooks):
        return self.part(f"{kind} {port}", port, PYTHON, EXAMPLE / "server.py", kind, port, "--cooks", cooks)

    def of_kind(self, kind):
        return [each for each in self.servers if each.name.startswith(kind)]

    def open(self):
        subprocess.run([PYTHON, "-c", "import database; database.open_folder(); database.check()"],
                       cwd=self.folder / EXAMPLE, env=self.environment, check=True, timeout=START_SECONDS)
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
        worker = self.part("by hand", None, PYTHON, EXAMPLE / script, MAITRED_QUEUE=queue,
                           AMQP_URL=f"amqp://guest:guest@127.0.0.1:{self.amqp_port}/%2F")
        worker.start()
        self.by_hand.append(worker)
        return worker

    def wait(self, condition, what, seconds=START_SECONDS):
        """Until condition(state) holds. An answer that does not come, on a machine that has much else to do, is asked for
        again."""
        end = time.monotonic() + seconds
        while True:
            state = {}
            with contextlib.suppress(OSError, PeerGone, TimedOut):
                if condition(state := self.admin.state()):
                    return state
            if time.monotonic() > end:
                raise TimedOut(f"{what} did not happen; state: {json.dumps(state, indent=1)}")
            time.sleep(0.05)

    def hired(self):
        """{pid: name} of those that maitred has started; waits until there is one."""
        def pids(state):
            return {process["pid"]: f"{workers['name']} {process['number']}" for workers in state["workers"]
                    for process in workers["processes"] if process["pid"]}
        return pids(self.wait(pids, "there are workers"))

    def keeper(self):
        """The pid of the process that has them, which is there as soon as they are."""
        self.hired()
        return next(pid for pid, command in diner.left_running(self.logs).items() if command.startswith("workers-keeper"))

    def set(self, name, count):
        """There are so many of them; those that were more have finished what they had."""
        assert self.admin.post(f"/api/workers/{name}/set?count={count}").status == 200
        self.wait(lambda state: len(crew(state, name)["processes"]) == crew(state, name)["running"] == count,
                  f"there are {count} of workers {name}")

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


__all__ = ["EXAMPLE", "PYTHON", "Part", "Staff", "crew", "kill"]
