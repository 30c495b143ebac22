"""A client in a program of its own, which goes on while its server does not."""
import re
import subprocess
import threading

from kit.wire import TimedOut

SECONDS = 30


class Looping:
    """A program that publishes and consumes until its input ends; .lines is what it says."""

    def __init__(self, *command, cwd=None):
        self.process = subprocess.Popen(command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True)
        self.lines, self.errors = [], []
        self._news = threading.Condition()
        self._pumps = [threading.Thread(target=self._pump, args=pair, daemon=True) for pair in
                       ((self.process.stdout, self.lines), (self.process.stderr, self.errors))]
        for pump in self._pumps:
            pump.start()

    def _pump(self, stream, lines):
        for line in stream:
            with self._news:
                lines.append(line.rstrip("\n"))
                self._news.notify_all()

    def count(self, pattern):
        return sum(bool(re.fullmatch(pattern, line)) for line in list(self.lines))

    def wait(self, pattern, wanted, seconds=SECONDS):
        """Until so many lines are like that."""
        with self._news:
            if not self._news.wait_for(lambda: self.count(pattern) >= wanted, seconds):
                raise TimedOut(f"{self.count(pattern)} lines are {pattern!r}, not {wanted}:\n{self.errors}\n{self.lines[-50:]}")

    def numbers(self, what):
        return {int(line.split()[1]) for line in self.lines if line.startswith(what)}

    def finish(self):
        self.process.stdin.close()
        assert self.process.wait(SECONDS) == 0, self.errors
        for pump in self._pumps:
            pump.join(SECONDS)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
