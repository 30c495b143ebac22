"""A Celery worker in a process of its own, with the application of celery_app.py."""
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from kit.wire import TimedOut

HERE = Path(__file__).parents[1]
SECONDS = 30
QUICK = ("--without-mingle", "--without-gossip")     # what a worker does to find others takes it a second


class Worker:
    """`celery worker`, and the application here that asks it."""

    def __init__(self, amqp, directory, *options, backend="rpc://", conf=None):
        self.amqp = amqp
        self.queue = amqp.queue_name("celery")
        amqp.exchanges.append(self.queue)
        self.log_file = directory / "tasks.log"
        self.log_file.touch()
        self.settings = json.dumps({
            "broker": f"amqp://guest:guest@127.0.0.1:{amqp.broker.port}//", "backend": backend, "queue": self.queue,
            "log": str(self.log_file), "conf": conf or {}})
        os.environ["CELERY_TEST"] = self.settings
        sys.modules.pop("kit.celery_app", None)
        self.tasks = importlib.import_module("kit.celery_app")
        self.app = self.tasks.app
        self.name = f"worker@{self.queue}"
        self.command = ["/usr/bin/python3", "-B", "-m", "celery", "-A", "kit.celery_app", "worker", "-n", self.name, "-l", "INFO",
                        "-E", *options]
        self.directory = directory
        self._news = threading.Condition()
        self.start()

    def start(self):
        self.output = []
        self.process = subprocess.Popen(
            self.command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(HERE), "C_FORCE_ROOT": "1", "CELERY_TEST": self.settings}, start_new_session=True)
        self._pump_thread = threading.Thread(target=self._pump, daemon=True)
        self._pump_thread.start()
        self.wait_output("ready.")

    def kill(self):
        """It and the processes of its pool, as a power cut does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._pump_thread.join(5)

    def _pump(self):
        for line in self.process.stdout:
            with self._news:
                self.output.append(line.decode("utf-8", "backslashreplace").rstrip())
                self._news.notify_all()

    def wait_output(self, text, seconds=SECONDS):
        with self._news:
            if not self._news.wait_for(lambda: any(text in line for line in self.output), seconds):
                raise TimedOut(f"no {text!r} in:\n" + "\n".join(self.output))

    @property
    def log(self):
        return self.log_file.read_text().splitlines()

    def wait_log(self, *lines, seconds=SECONDS):
        end = time.monotonic() + seconds
        while not set(lines) <= set(self.log):
            if time.monotonic() > end:
                raise TimedOut(f"{self.log} without {lines}:\n" + "\n".join(self.output))
            time.sleep(0.02)

    def stop(self):
        """Not gently: it takes its time to leave."""
        if self.process.poll() is None:
            self.kill()
        self.app.close()
        print("\n".join(self.output))
