"""programs - starting the programs of a measurement on their cores, waiting until they listen, ending them."""
import contextlib
import ctypes
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import time

TREE = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = pathlib.Path(os.environ.get("BENCH_PROGRAMS", TREE / "build/release/bench"))
MAITRED = os.environ.get("MAITRED", str(TREE / "build/maitred"))

PROXY_CORE, FAR_CORE = 0, 1
START_SECONDS = 10      # until a program listens
END_SECONDS = 5         # until a program that was told to end is killed
READY_SECONDS = 40      # until the generator has its first answers


class Trouble(Exception):
    """A measurement that could not be made, with the reason."""


def die_with_parent():
    """In a child, before it executes: ends it when this script dies, however that happens."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@contextlib.contextmanager
def running(argv, cores, log, **pipes):
    """A program in a process group of its own, on these cores; the whole group is ended on the way out."""
    def prepare():
        die_with_parent()
        os.sched_setaffinity(0, cores)

    process = subprocess.Popen(argv, stderr=log, start_new_session=True, preexec_fn=prepare, **pipes)
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
                break
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()


class Generator:
    """bench/load or bench/amqp_load, and the talk with it."""

    def __init__(self, process, log):
        self.process, self.log = process, log

    def read_line(self, seconds):
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            raise Trouble(f"the generator is silent for {seconds} s")
        line = self.process.stdout.readline()
        if not line:
            raise Trouble(f"the generator gave up: {last_line(self.log)}")
        return line

    def wait_ready(self, seconds=READY_SECONDS):
        self.read_line(seconds)

    def start(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def result(self, seconds):
        return json.loads(self.read_line(seconds + 20))

    def run(self, seconds):
        self.start()
        return self.result(seconds)

    def finish(self, seconds=END_SECONDS):
        self.process.stdin.close()
        self.process.wait(seconds)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def last_line(path):
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def wait_until_listening(process, port, log):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Trouble(f"ended at once with status {process.returncode}: {last_line(log)}")
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise Trouble(f"does not listen after {START_SECONDS} s: {last_line(log)}")


def first_line_of(*argv):
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=5)
        return (done.stdout.strip().splitlines() or ["unknown"])[0] if done.returncode == 0 else "unknown"
    except (OSError, subprocess.TimeoutExpired):
        return "not there"


def ask(port, path, seconds=5):
    """GET over a connection of its own: the status and the body, or (0, reason) when there was no answer."""
    received = b""
    try:
        with socket.create_connection(("127.0.0.1", port), seconds) as s:
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: bench.test\r\nConnection: close\r\n\r\n".encode())
            while more := s.recv(1 << 20):
                received += more
    except OSError as error:
        return 0, str(error).encode()
    head, _, body = received.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    return (int(words[1]) if len(words) > 1 else 0), body
