"""Debian's PostgreSQL: a cluster of the test's own, in a folder of its own, reached by a socket there and by nothing else.
It refuses to run as root: then it runs as the user `postgres`. Nothing of it is left when it is stopped."""
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from kit.process import free_port
from kit.rabbitmq import die_with_us
from kit.wire import TimedOut

try:
    import psycopg2
except ImportError:
    psycopg2 = None

START_SECONDS = 60
READY = "database system is ready to accept connections"


def programs():
    """Where Debian has those of the newest version; None: nowhere."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def why_not():
    """Why it cannot be started here; nothing when it can."""
    if not psycopg2:
        return "python3-psycopg2 is not installed"
    return "" if programs() else "postgresql is not installed"


class PostgreSQL:
    """One running server. Whoever makes one calls stop(); from the thread that made it, as everything here."""

    def __init__(self):
        # Not below pytest's folder, which nobody else may enter. A socket's path may have 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="maitred-postgresql-"))
        self.user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        if self.user:
            shutil.chown(self.directory, "postgres", "postgres")
        self.socket_number = free_port()
        self.process, self.databases = None, 0
        try:
            subprocess.run([programs() / "initdb", "-D", self.directory / "data", "-U", "diner", "-A", "trust", "-E", "UTF8",
                            "--locale", "C.UTF-8", "--no-sync"],
                           cwd=self.directory, check=True, capture_output=True, text=True, timeout=120, **self.user)
            self.start_again()
        except BaseException:
            self.stop()
            raise

    def url(self, database="postgres"):
        return f"postgresql://diner@/{database}?host={self.directory}&port={self.socket_number}"

    def new_database(self):
        """The URL of an empty one."""
        self.databases += 1
        name = f"diner{self.databases}"
        with contextlib.closing(psycopg2.connect(self.url())) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"CREATE DATABASE {name}")
        return self.url(name)

    # --- its processes

    def _begin(self):
        # Its processes are killed, never the machine: what they have written the system has, synced or not.
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [programs() / "postgres", "-D", self.directory / "data", "-k", self.directory, "-p", str(self.socket_number),
                 "-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=32MB"],
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_us, **self.user)

    def start_again(self):
        """After kill(), or stop_serving(). It refuses to start while those that the one before left are still there."""
        end = time.monotonic() + START_SECONDS
        self._begin()
        while not self.answers():
            if time.monotonic() > end:
                raise TimedOut("PostgreSQL does not answer:\n" + self.log()[-3000:])
            if self.process.poll() is not None:
                self._begin()
            time.sleep(0.02)

    def answers(self):
        try:
            psycopg2.connect(self.url(), connect_timeout=5).close()
            return True
        except psycopg2.OperationalError:
            return False

    def backends(self):
        """The pids of those that have a client, or had one when we looked."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                if int(parent) == self.process.pid and (entry / "cmdline").read_bytes().startswith(b"postgres: diner "):
                    found.append(int(entry.name))
        return sorted(found)

    def kill(self):
        """All of it at once, as a crash does it."""
        self.process.kill()
        self.process.wait()

    def kill_backend(self, pid):
        """One of them dies, and PostgreSQL ends all others and begins anew, by itself."""
        before = self.log().count(READY)
        with contextlib.suppress(ProcessLookupError):       # its client has just left
            os.kill(pid, signal.SIGKILL)
            end = time.monotonic() + START_SECONDS
            while self.log().count(READY) == before or not self.answers():
                if time.monotonic() > end:
                    raise TimedOut("PostgreSQL has not begun anew:\n" + self.log()[-3000:])
                time.sleep(0.02)

    def stop_serving(self):
        """In order; clients are sent away."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(START_SECONDS)

    def log(self):
        return (self.directory / "log").read_text(errors="replace")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.stop_serving()
        shutil.rmtree(self.directory, ignore_errors=True)


__all__ = ["PostgreSQL", "why_not"]
