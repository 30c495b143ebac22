"""The binary under test: started on a free port, watched, and stopped; its log is kept line by line."""
import ctypes
import functools
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from kit.wire import DEADLINE, TimedOut, connect

ROOT = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("MAITRED_BINARY", ROOT / "build" / "maitred")).absolute()
SANITIZER = re.compile(r"(Address|Leak|Thread|Memory|UndefinedBehavior)Sanitizer|runtime error:")
RELOADED = re.compile(r" reloaded .*: \d+ changes?$| reload of .* failed: ")
UPGRADED = re.compile(r" process (\d+) has taken over| the new process .* goes on as before$")
PORT_TAKEN = re.compile(r"in use|EADDRINUSE", re.I)


@functools.cache
def is_sanitized():
    """A sanitizer keeps freed memory for a while: limits on memory do not hold there."""
    data = BINARY.read_bytes()
    return b"__asan_init" in data or b"__tsan_init" in data


_given = set()


def free_port(host="127.0.0.1"):
    """A port nobody has, below the range that outgoing connections take theirs from; never the same one twice."""
    while True:
        port = random.randrange(10000, 32000)
        if port in _given:
            continue
        _given.add(port)
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
            try:
                sock.bind((host, port))
                return port
            except OSError:
                continue


def run(*arguments, seconds=20, **options):
    """Runs a command of the binary to its end. The result has .returncode, .stdout and .stderr as text."""
    return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=seconds, **options)


def descriptors(pid):
    """What each that is open is, sorted: "socket:[123]", a path."""
    found = []
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            found.append(os.readlink(link))
    except FileNotFoundError:   # closed meanwhile
        return descriptors(pid) if Path(f"/proc/{pid}").exists() else []
    return sorted(found)


class Successor:
    """A process that took over from another: nobody's child, and so ours once adopt_orphans() was called. Waited for
    and signalled as a subprocess.Popen is."""

    def __init__(self, pid):
        self.pid = pid
        self.returncode = None
        self._end = os.pidfd_open(pid)

    def wait(self, seconds=None):
        if self.returncode is None:
            if not select.select([self._end], [], [], seconds)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", seconds)
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self._end)
        return self.returncode

    def poll(self):
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def adopt_orphans():
    """From now on a process whose parent is gone, below us, is our child."""
    pr_set_child_subreaper = 36
    assert ctypes.CDLL(None, use_errno=True).prctl(pr_set_child_subreaper, 1, 0, 0, 0) == 0


class Maitred:
    """One running server. config_text may hold {port} (and {port2}...), which become free ports, and {dir}, a directory
    of its own. address: where to connect when that is not 127.0.0.1 and {port}. After an upgrade it is the process that
    took over; those before it are .past, the latest last."""

    def __init__(self, config_text, directory, address=None, wrapper=(), environment=None):
        self.directory = directory
        self.clients = []
        self.past = []
        for attempt in range(5):
            self._start(config_text, address, wrapper, environment)
            if self._listens():
                return
            self.process.wait(DEADLINE)
            self._join_pumps()
            if not PORT_TAKEN.search(self.errors):
                break
        raise AssertionError(f"maitred did not start: exit code {self.process.returncode}\n{self.errors}\n"
                             f"{self.config.read_text()}")

    def _start(self, text, address, wrapper, environment):
        self.ports = {}
        text = self.fill(text)
        self.address = address or ("127.0.0.1", self.port)
        if isinstance(self.address, str):
            self.address = self.address.replace("{dir}", str(self.directory))
        elif self.address[1] is None:
            self.address = (self.address[0], self.port)
        self.config = self.directory / "maitred.conf"
        self.config.write_text(text)
        self.log, self.output = [], []
        self._news = threading.Condition()
        self._spawn(wrapper, environment)

    def _spawn(self, wrapper=(), environment=None):
        self.process = subprocess.Popen(
            [*wrapper, str(BINARY), "run", str(self.config)], cwd=self.directory, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **(environment or {})})
        self._pumps = [threading.Thread(target=self._pump, args=pair, daemon=True) for pair in
                       ((self.process.stdout, self.output), (self.process.stderr, self.log))]
        for pump in self._pumps:
            pump.start()

    def fill(self, text):
        """text with its ports and its directory; a port with a new name becomes a free one."""
        for name in sorted(set(re.findall(r"\{(port\d*)\}", text)) - self.ports.keys()):
            self.ports[name] = free_port()
            setattr(self, name, self.ports[name])
        for name, port in self.ports.items():
            text = text.replace("{%s}" % name, str(port))
        return text.replace("{dir}", str(self.directory))

    def _pump(self, stream, lines):
        for line in stream:
            with self._news:
                lines.append(line.decode("utf-8", "backslashreplace").rstrip("\n"))
                self._news.notify_all()

    def _join_pumps(self):
        for pump in self._pumps:
            pump.join(DEADLINE)

    def _listens(self):
        deadline = time.monotonic() + 20
        while self.process.poll() is None:
            try:
                connect(self.address).close()
                return True
            except OSError:
                if time.monotonic() > deadline:
                    self.process.kill()
                    raise TimedOut(f"maitred does not listen:\n{self.errors}") from None
                try:
                    self.process.wait(0.005)
                except subprocess.TimeoutExpired:
                    pass
        return False

    @property
    def pid(self):
        return self.process.pid

    @property
    def errors(self):
        return "\n".join(self.log)

    def wait_log(self, pattern, lines=None, seconds=DEADLINE, since=0):
        """The first line of stderr (or of another list, such as .output) that the pattern is found in, leaving out so
        many lines at its start."""
        lines = self.log if lines is None else lines
        found = []

        def look():
            found[:] = [line for line in lines[since:] if re.search(pattern, line)]
            return found
        with self._news:
            if not self._news.wait_for(look, seconds):
                raise TimedOut(f"no line with {pattern!r} in:\n" + "\n".join(lines))
        return found[0]

    def kill(self):
        """As a crash does it: at once, and nothing is put in order."""
        self.process.kill()
        self.process.wait(DEADLINE)
        self._join_pumps()

    def start_again(self):
        """After kill(), or an end: the same file, ports and directory."""
        self.begin_again()
        self.wait_listens()

    def wait_listens(self):
        assert self._listens(), self.errors

    def begin_again(self):
        """The same, and does not wait until it listens."""
        self._spawn()

    # --- clients

    def client(self, address=None, receive_buffer=None):
        peer = connect(address or self.address, receive_buffer)
        self.clients.append(peer)
        return peer

    def ask(self, raw, **options):
        """One request over a connection of its own."""
        peer = self.client()
        try:
            return peer.ask(raw, **options)
        finally:
            peer.close()

    def get(self, target="/", *fields, host="a", seconds=DEADLINE):
        peer = self.client()
        try:
            return peer.get(target, *fields, host=host, seconds=seconds)
        finally:
            peer.close()

    # --- another configuration, another process

    def configure(self, text):
        """Writes the file, which nobody reads yet."""
        self.config.write_text(self.fill(text))

    def reload(self, text=None, fails=False):
        """Writes the file (or leaves it as it is), and has it read again. The lines that were logged about it."""
        if text is not None:
            self.configure(text)
        since = len(self.log)
        self.signal(signal.SIGHUP)
        line = self.wait_log(RELOADED, since=since)
        assert (" failed: " in line) == fails, self.errors
        return self.log[since:self.log.index(line, since) + 1]

    def upgrade(self, fails=False, begin=None):
        """Has the binary take over from itself, by a signal or by begin(). The lines that were logged about it; the one
        before accepts nobody any more, and drains as the last of .past."""
        adopt_orphans()
        since = len(self.log)
        if begin:
            begin()
        else:
            self.signal(signal.SIGUSR2)
        line = self.wait_log(UPGRADED, since=since, seconds=30)
        found = re.search(UPGRADED, line)
        assert (found[1] is None) == fails, self.errors
        if found[1]:
            self.past.append(self.process)
            self.process = Successor(int(found[1]))
            self._await_handover()
        return self.log[since:self.log.index(line, since) + 1]

    def _await_handover(self):
        """What two processes both have open is what they both listen at."""
        end = time.monotonic() + DEADLINE
        while any(each.startswith("socket:") for each in {*self.descriptors()} & {*descriptors(self.past[-1].pid)}):
            if time.monotonic() > end:
                raise TimedOut(f"process {self.past[-1].pid} still listens:\n{self.errors}")
            time.sleep(0.001)

    # --- the process

    def descriptors(self):
        return descriptors(self.pid)

    def memory(self, what="VmRSS"):
        """In KiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"^{what}:\s+(\d+) kB", status, re.M)[1])

    def forget_peak(self):
        """Makes VmHWM count from now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def signal(self, number):
        self.process.send_signal(number)

    def terminate(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds=15):
        """The exit code."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimedOut(f"maitred still runs {seconds} s later:\n{self.errors}") from None
        if all(process.poll() is not None for process in self.past):
            self._join_pumps()
        return code

    def stop(self):
        """Ends the process, and those before it, and says what was wrong with how they ended: nothing, or text."""
        for peer in self.clients:
            peer.close()
        wrong = ""
        for process in [*self.past, self.process]:
            try:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                code = process.wait(15)
                wrong += "" if code == 0 else f"maitred ended with exit code {code} "
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                wrong += "maitred did not end on SIGTERM "
        self._join_pumps()
        if SANITIZER.search(self.errors):
            wrong += "a sanitizer complained"
        return wrong and f"{wrong}\n{self.errors}"


class Stage:
    """Everything one test (or one file of tests) has running."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.proxies = []
        self.origins = []

    def maitred(self, config_text, **options):
        directory = self.directory / f"maitred{len(self.proxies)}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        directory.chmod(0o777)
        proxy = Maitred(config_text, directory, **options)
        self.proxies.append(proxy)
        return proxy

    def add(self, origin):
        self.origins.append(origin)
        return origin

    def close(self):
        """Origins first, so that nothing keeps a drain waiting."""
        for origin in self.origins:
            origin.stop()
        wrong = [text for proxy in self.proxies if (text := proxy.stop())]
        for proxy in self.proxies:
            print(f"--- {proxy.config}:\n{proxy.config.read_text()}--- stderr:\n{proxy.errors}\n")
        errors = [f"{origin.name}: {error!r}" for origin in self.origins for error in origin.errors]
        assert not wrong, "\n".join(wrong)
        assert not errors, "an origin's script failed: " + "; ".join(errors)
