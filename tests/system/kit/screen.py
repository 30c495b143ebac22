"""A command of the binary on a terminal of its own (a pty), its frames read back as lines."""
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time

from kit.process import BINARY
from kit.wire import DEADLINE, TimedOut

HOME = "\x1b[H"
ENTER = "\x1b[?1049h"
LEAVE = "\x1b[?1049l"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def set_size(descriptor, columns, lines):
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


class Screen:
    """Starts a command. .received is all it wrote; .lines() is its newest whole frame. The terminal is not the one its
    signals come from: that one is hung up when the command ends, and could not be looked at then."""
    name, errors = "screen", ()

    def __init__(self, *arguments, columns=80, lines=24, environment=None):
        self._master, self._slave = pty.openpty()
        set_size(self._slave, columns, lines)
        self.before = termios.tcgetattr(self._slave)
        self.received = ""
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [BINARY, *arguments], stdin=self._slave, stdout=self._slave, stderr=self._slave,
            env=environment)
        self._pump_thread = threading.Thread(target=self._pump, daemon=True)
        self._pump_thread.start()

    def _pump(self):
        data = b""
        while True:
            try:
                piece = os.read(self._master, 65536)
            except OSError:
                return
            if not piece:
                return
            data += piece
            with self._news:
                self.received = data.decode("utf-8", "replace")
                self._news.notify_all()

    def frames(self):
        """Whole frames, colours taken out, each a list of lines."""
        found = []
        for text in self.received.split(ENTER)[-1].split(LEAVE)[0].split(HOME)[1:]:
            if text.endswith("\x1b[K"):
                found.append([COLOUR.sub("", line).removesuffix("\x1b[K") for line in text.split("\r\n")])
        return found

    def lines(self):
        frames = self.frames()
        return frames[-1] if frames else []

    def wait(self, see, what="", seconds=DEADLINE):
        """Until see(lines of the newest frame) is true; see may be text to be found in a line. Returns the lines."""
        condition = see if callable(see) else lambda lines: any(see in line for line in lines)
        with self._news:
            if not self._news.wait_for(lambda: self.frames() and condition(self.lines()), seconds):
                raise TimedOut(f"did not see {what or see!r} in:\n" + "\n".join(self.lines() or [self.received]))
            return self.lines()

    def type(self, keys):
        os.write(self._master, keys.encode())

    def resize(self, columns, lines):
        set_size(self._slave, columns, lines)
        self.process.send_signal(signal.SIGWINCH)

    def end(self, seconds=DEADLINE):
        """The exit code; everything it wrote is in .received then."""
        code = self.process.wait(seconds)
        os.write(self._slave, b"<end>")
        with self._news:
            assert self._news.wait_for(lambda: self.received.endswith("<end>"), seconds)
        return code

    def is_restored(self):
        """After the end: the modes are as they were; the first page, the cursor and wrapping are back."""
        modes = {match[1]: match[2] for match in re.finditer(r"\x1b\[\?(\d+)([hl])", self.received)}
        return termios.tcgetattr(self._slave) == self.before and modes == {"1049": "l", "25": "h", "7": "h"}

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._slave)
        deadline = time.monotonic() + DEADLINE
        while self._pump_thread.is_alive() and time.monotonic() < deadline:
            self._pump_thread.join(0.1)
        os.close(self._master)
