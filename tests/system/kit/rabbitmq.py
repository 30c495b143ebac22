"""Debian's rabbitmq-server, the broker that others' clients were written for: one of the test's own, in a folder of the
test's own, with its own epmd. Nothing of it is left when it is stopped."""
import base64
import ctypes
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from kit.process import free_port
from kit.wire import TimedOut, connect

SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"    # /usr/sbin has a wrapper that changes the user
READY = re.compile(r"Server startup complete")
START_SECONDS = 90


def why_not():
    """Why it cannot be started here; nothing when it can."""
    if not Path(SERVER).exists():
        return "rabbitmq-server is not installed"
    return "" if shutil.which("epmd") else "epmd is not installed"


def die_with_us():
    """In a child: it is killed when the tests are, however that comes about."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)


def hashed(password):
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def user(name, configure=".*", write=".*", read=".*", tags=(), vhost="/"):
    login = {"name": name, "password_hash": hashed(name), "tags": list(tags),
             "hashing_algorithm": "rabbit_password_hashing_sha256"}
    may = {"user": name, "vhost": vhost, "configure": configure, "write": write, "read": read}
    return login, may


def definitions():
    people = [user("guest", tags=["administrator"]), user("limited", "^mine", "^mine", "^mine", ["management"]),
              user("other", tags=["management"], vhost="closed")]
    return {"rabbit_version": "3.10.8", "vhosts": [{"name": "/"}, {"name": "closed"}],
            "users": [login for login, _ in people], "permissions": [may for _, may in people]}


class RabbitMQ:
    """One running server. restart() keeps its messages and its ports."""
    name = "rabbitmq"

    def __init__(self, directory):
        self.directory = Path(directory)
        self.port, self.management_port, self.epmd_port, self.dist_port = (free_port() for _ in range(4))
        self.log = []
        self._news = threading.Condition()
        self._write_files()
        self._start_epmd()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    # --- files

    def _write_files(self):
        for folder in ("home", "mnesia", "log"):
            (self.directory / folder).mkdir()
        cookie = self.directory / "home" / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(20))
        cookie.chmod(0o400)
        (self.directory / "plugins").write_text("[rabbitmq_management].\n")
        (self.directory / "definitions.json").write_text(json.dumps(definitions()))
        (self.directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = 127.0.0.1:{self.port}\n"
            f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {self.management_port}\n"
            f"load_definitions = {self.directory}/definitions.json\n"
            "disk_free_limit.absolute = 1MB\ncollect_statistics_interval = 250\n"
            "log.console = true\nlog.console.level = info\nlog.file = false\n")

    def environment(self):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        return {**kept, "HOME": str(self.directory / "home"), "RUNNING_UNDER_SYSTEMD": "true",  # no shell in between
                "ERL_EPMD_PORT": str(self.epmd_port), "ERL_EPMD_ADDRESS": "127.0.0.1",
                "RABBITMQ_NODENAME": f"test{self.port}@localhost",
                "RABBITMQ_DIST_PORT": str(self.dist_port),
                "RABBITMQ_CONF_ENV_FILE": str(self.directory / "none"),
                "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
                "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "none"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
                "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
                "RABBITMQ_LOG_BASE": str(self.directory / "log"),
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS":
                    "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"}

    # --- processes

    def _start_epmd(self):
        self.epmd = subprocess.Popen(["epmd", "-address", "127.0.0.1", "-port", str(self.epmd_port)],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                     env=self.environment(), preexec_fn=die_with_us)
        end = time.monotonic() + 10
        while self.epmd.poll() is None and time.monotonic() < end:
            try:
                return socket.create_connection(("127.0.0.1", self.epmd_port)).close()
            except OSError:
                time.sleep(0.005)
        raise TimedOut("epmd does not listen")

    def _start(self):
        since = len(self.log)
        self.process = subprocess.Popen([SERVER], env=self.environment(), cwd=self.directory, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=die_with_us)
        self._pump_thread = threading.Thread(target=self._pump, args=(self.process.stdout,), daemon=True)
        self._pump_thread.start()
        with self._news:
            self._news.wait_for(lambda: any(READY.search(line) for line in self.log[since:]) or
                                self.process.poll() is not None or not self._pump_thread.is_alive(), START_SECONDS)
            if not any(READY.search(line) for line in self.log[since:]):
                raise TimedOut("rabbitmq-server did not start:\n" + "\n".join(self.log[since:][-60:]))

    def _pump(self, stream):
        for line in stream:
            with self._news:
                self.log.append(line.decode("utf-8", "backslashreplace").rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def _end(self):
        process = getattr(self, "process", None)
        if process and process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def restart(self):
        self._end()
        self._start()

    def kill(self):
        """At once, as a power cut does; start_again() brings it back."""
        self.process.kill()
        self.process.wait()

    def start_again(self):
        self._start()

    def stop(self):
        self._end()
        self.epmd.kill()
        self.epmd.wait()

    def client(self):
        return connect(("127.0.0.1", self.port))
