"""The example of a user, examples/diner, with ports and a folder of the test's own."""
import os
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path

from kit.process import BINARY, ROOT, free_port

RUN = ROOT / "examples" / "diner" / "run"
ENDS = ("01", "02", "03", "11", "12", "21", "22", "31", "32")      # of the servers' ports


def is_free(port):
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def free_prefix():
    """What the free ports of the servers and the listeners for the admin and AMQP begin with."""
    return next(prefix for prefix in iter(lambda: free_port() // 100, None)
                if all(is_free(int(f"{prefix}{end}")) for end in ("00", "72", *ENDS)))


def left_running(folder):
    """Every process that was started with this folder for its logs: the pid and what it is."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"LOGS={folder}\0".encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            pass
    return found


class Diner:
    """examples/diner/run (or another command) with free ports, from a folder that is not the tree, and with its standard
    input closed, unless stdin is one."""

    def __init__(self, folder, *command, stdin=None, seconds=60):
        self.logs, self.port, self.servers = folder / "logs", free_port(), free_prefix()
        self.process = subprocess.Popen(
            command or [RUN], cwd=folder, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=None if stdin else lambda: os.close(0),
            env={**os.environ, "PORT": str(self.port), "SERVERS": str(self.servers), "LOGS": str(self.logs),
                 "MAITRED": str(BINARY)})
        self.lines = []
        self.watchdog = threading.Timer(seconds, self.process.kill)
        self.watchdog.start()

    def wait_open(self):
        """Until it has told everything there is to try."""
        self.wait_line("^Ctrl-C closes it")

    def wait_line(self, pattern):
        """The next line that has it."""
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if re.search(pattern, line):
                return self.lines[-1]
        raise AssertionError(f"it ended, and did not say {pattern!r}:\n" + "\n".join(self.lines))

    @property
    def pids(self):
        """By name, as it told them."""
        found = (re.match(r"  pid (\d+) +(maitred|\w+ \d+)", line) for line in self.lines)
        return {match[2]: int(match[1]) for match in found if match}

    def close(self, number):
        """Its exit code; everything that it said is in lines."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        if not self.process.stdout.closed:
            self.lines += self.process.communicate()[0].splitlines()
        self.watchdog.cancel()
        return self.process.returncode
