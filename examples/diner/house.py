"""house.py - what it takes to keep the diner: its environment, its ports, its processes. examples/diner/run is the
simplest keeper; others build on the same.

Environment: PORT          where maitred listens (8080)
             ADMIN         where maitred is asked how it is (8900; with SERVERS=91, 9100)
             AMQP          where maitred speaks AMQP (5672; with SERVERS=91, 9172)
             SERVERS       what the ports of the servers begin with (90: 9001, 9002, ...)
             LOGS          folder of the logs, the queue, the database (build/diner)
             MAITRED       the program (build/maitred)
             DATABASE_URL  a PostgreSQL, such as postgresql://ann:secret@localhost/diner; without it a file in LOGS
"""
import ctypes
import errno
import fcntl
import http.client
import os
import pathlib
import signal
import socket
import subprocess
import sys

import database

HERE = pathlib.Path(__file__).resolve().parent
TREE = HERE.parent.parent
CONFIG = "examples/diner/maitred.conf"

START_SECONDS, END_SECONDS = 30, 10
SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}

# The end of each server's port, its kind, and how many requests it works on at a time.
SERVERS = [("01", "web", 6), ("02", "web", 4), ("03", "web", 2),
           ("11", "videos", 8), ("12", "videos", 8),
           ("21", "auth", 4), ("22", "auth", 4),
           ("31", "kitchen", 8), ("32", "kitchen", 8)]


class Trouble(Exception):
    """Why the diner cannot open, or had to close."""


class Closed(Exception):
    """Somebody wants it to end."""


# --- the environment, which maitred.conf and all processes read too -------------------------------

def number(name, default, least, most):
    text = os.environ[name] = os.environ.get(name) or default
    if not text.isdecimal() or not least <= int(text) <= most:
        raise Trouble(f"{name}={text}: it is a number from {least} to {most}")
    return int(text)


def path(name, default):
    """One that was given is meant from where we were called; the default is in the tree."""
    os.environ[name] = os.path.abspath(os.environ[name]) if os.environ.get(name) else default
    return os.environ[name]


def is_taken(host, port):
    """host "": any address, of either family."""
    for family in (socket.AF_INET,) if host else (socket.AF_INET, socket.AF_INET6):
        try:
            with socket.socket(family) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((host, port))
        except OSError as error:        # others: there may be no IPv6
            if error.errno == errno.EADDRINUSE:
                return True
    return False


def say(*lines):
    """Closed: nobody reads it any more."""
    try:
        print(*lines, sep="\n", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)        # what was not written is written at the end once more
        if isinstance(error, BrokenPipeError):
            raise Closed from None
        raise Trouble(f"cannot write to standard output: {error.strerror}") from None


# --- processes ------------------------------------------------------------------------------------

def before_start():
    """In a child: it ends when this script dies, however that happens, and takes signals as usual."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


class Process:
    """A program in a session of its own, so that Ctrl-C reaches this script alone, which ends all in order."""

    def __init__(self, name, what, *command, stdin=subprocess.DEVNULL, **streams):
        self.name, self.what = name, what
        self.process = subprocess.Popen(command, stdin=stdin, start_new_session=True, preexec_fn=before_start, **streams)
        self.pid = self.process.pid

    def has_ended(self):
        return self.process.poll() is not None

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def take_signals():
    """From now on they come to wait_for_signal() alone."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def wait_for_signal(seconds=None):
    """Until a child ends, or for so long. Closed: we were told to end."""
    info = signal.sigwaitinfo(SIGNALS) if seconds is None else signal.sigtimedwait(SIGNALS, seconds)
    if info and info.si_signo != signal.SIGCHLD:
        raise Closed


def answers(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_until_ready(process, port, log):
    for _ in range(START_SECONDS * 20):
        if process.has_ended():
            raise Trouble(f"{process.name} did not start; {log} says why")
        if answers(port):
            return
        wait_for_signal(0.05)
    raise Trouble(f"{process.name} does not answer after {START_SECONDS} s")


# --- the diner ------------------------------------------------------------------------------------

class House:
    """The servers and maitred, which is the last of .processes once it is open. Whoever makes one closes it. Before
    that he calls take_signals(): waiting for a process is waiting for signals."""

    told = "what it wrote above"    # where maitred's log is
    folder = "build/diner"          # LOGS, where that is not given
    cooking = {}    # by kind: the milliseconds that a request takes a cook, where that is not what server.py says

    def __init__(self):
        self.processes = []
        self.maitred, self.logs = path("MAITRED", "build/maitred"), path("LOGS", self.folder)
        os.chdir(TREE)
        self.port = number("PORT", "8080", 1, 65535)
        prefix = number("SERVERS", "90", 11, 654)
        self.admin = number("ADMIN", "8900" if prefix == 90 else f"{prefix}00", 1, 65535)
        self.amqp = number("AMQP", "5672" if prefix == 90 else f"{prefix}72", 1, 65535)
        self.ports = [int(f"{prefix}{end}") for end, _, _ in SERVERS]
        os.environ["MAITRED_ADMIN"] = f"http://127.0.0.1:{self.admin}"
        if not os.access(self.maitred, os.X_OK):
            raise Trouble(f"{self.maitred} is not there; `make build` makes it")

    def check_ports(self):
        listeners = ("PORT", "", self.port), ("ADMIN", "127.0.0.1", self.admin), ("AMQP", "127.0.0.1", self.amqp)
        owners = {port: "a server of the diner" for port in self.ports}
        for name, _, wanted in listeners:
            if wanted in owners:
                raise Trouble(f"{name}={wanted}: {owners[wanted]} has that port; {name} needs one of its own")
            owners[wanted] = name
        for name, host, wanted in listeners:
            if is_taken(host, wanted):
                raise Trouble(f"port {wanted} is taken (`ss -ltnp` shows by whom); for another: "
                              f"{name}={wanted + 1} {sys.argv[0]}")
        for wanted in self.ports:
            if is_taken("127.0.0.1", wanted):
                raise Trouble(f"port {wanted} is taken, and a server of the diner wants it; for 9101, 9102 and so on: "
                              f"SERVERS=91 {sys.argv[0]}")

    def open_folder(self):
        """Makes it, and keeps out whoever has the same one in mind: what is in it is one diner's."""
        os.makedirs(self.logs, exist_ok=True)
        self.lock = os.open(self.logs, os.O_RDONLY | os.O_DIRECTORY)    # until this process ends
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Trouble(f"another diner, which is open, has its queue and its database in {self.logs}; for another "
                          f"folder: LOGS=FOLDER {sys.argv[0]}") from None

    def check_pika(self):
        """Workers that speak AMQP would end at once without it, again and again."""
        try:
            import pika  # noqa: F401
        except ImportError as error:
            raise Trouble(f"the workers need pika, a module of Python ({error}); on Debian: "
                          "apt-get install python3-pika") from None

    def check_database(self):
        try:
            database.open_folder()
            database.check()
        except database.Trouble as error:
            raise Trouble(f"the database cannot be used: {error}") from None

    def start_server(self, number):
        """The one with that number in SERVERS. Its log is appended to."""
        _, kind, cooks = SERVERS[number]
        port = self.ports[number]
        with open(f"{self.logs}/servers.log", "a") as log:
            return Process(f"{kind} {port}", f"{cooks} cooks", sys.executable, str(HERE / "server.py"), kind, str(port),
                           "--cooks", str(cooks), *self.slowness(kind), stderr=log)

    def slowness(self, kind):
        return ["--cooking", str(self.cooking[kind])] if kind in self.cooking else []

    def start_maitred(self, **streams):
        return Process("maitred", f"the front door, port {self.port}", self.maitred, "run", CONFIG, **streams)

    def open(self):
        self.check_pika()
        self.check_ports()
        try:
            self.open_folder()
            self.check_database()
            open(f"{self.logs}/servers.log", "w").close()
        except OSError as error:
            raise Trouble(f"cannot write there: {error}; for another folder: LOGS=FOLDER {sys.argv[0]}") from None
        for number in range(len(SERVERS)):
            self.processes.append(self.start_server(number))
        for process, port in zip(self.processes, self.ports):
            wait_until_ready(process, port, f"{self.logs}/servers.log")
        self.processes.append(self.start_maitred())
        wait_until_ready(self.processes[-1], self.port, self.told)

    def watch(self):
        """Until we are told to end; says who went before that."""
        here = list(self.processes)
        while True:
            for process in [process for process in here if process.has_ended()]:
                here.remove(process)
                say(f"{process.name} (pid {process.pid}) has ended")
            if self.processes[-1] not in here:
                raise Trouble("without maitred there is no diner")
            wait_for_signal()

    def close(self):
        for process in reversed(self.processes):     # maitred first: it lets requests finish
            process.stop()
