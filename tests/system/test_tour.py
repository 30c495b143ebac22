"""docs/tour.md as its reader follows it: each configuration becomes tour.conf, each command is run in one shell, in the
order of the page, and has to say what the page says it does.

A block of `conf` is the file from there on. In a block of `console` a line that begins with "$ " is a command, and what
follows it is what it says; a line "..." stands for any lines. A comment below the block, which no reader sees, lists what
may vary: regular expressions, each between `backquotes`. Whatever of the page one of them matches may be anything else
that it matches."""
import os
import random
import re
import signal
import subprocess
import threading
import time

import pytest

from kit.process import BINARY, ROOT, is_sanitized
from kit.wire import connect

TOUR = ROOT / "docs" / "tour.md"
BLOCK = re.compile(r"^```(sh|conf|console)\n(.*?)^```\n(?:<!-- varies: (.*?) -->\n)?", re.M | re.S)
PORTS = re.compile(r"\b(8080|8900|5672|90\d\d)\b")
WATCHES = re.compile(r"maitred (status|queue (list|show|peek))\b|curl -s localhost:(8900/|8080\$where)|how_many( |$)|for .*/api/photos/")   # looked at until it is so
KILLED = re.compile(r"bash: line \d+: +\d+ Killed ")       # what bash says of a job; an interactive one says it otherwise
COMMAND_SECONDS, WATCH_SECONDS = 60, 90
LINES_MAX = 25

# What may vary wherever it stands. A time under a second stays under a second, and one of seconds, seconds.
VARIES = [r"\b[a-z2-7]{26}\b", r"\b[0-9a-f]{32}\b", r"\d{4}-\d\d-\d\dT[\d:.]+Z",
          r"[1-9][\d,]* (?:sent|served|stored|errors|times|not answered yet)\b", r"\bin \d+\.\d s\b",
          r"\bp(?:50|95) \d{1,3}\.\d ms", r"\bp(?:50|95) \d,\d{3}\.\d ms", r"\(\d+ active\)"]


def blocks():
    """(kind, text, what may vary) in the order of the page."""
    return [(kind, text, re.findall(r"`(.+?)`", varies) + VARIES)
            for kind, text, varies in BLOCK.findall(TOUR.read_text())]


def commands_of(text):
    """[(command, the lines that it says)] of a block of console."""
    found = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


class Ports:
    """Those of the page, each with one that is free instead: of four digits too, so that columns stay where they are."""

    def __init__(self, text):
        pages, free = sorted({*PORTS.findall(text)}), set()
        while len(free) < len(pages):
            free.add(free_port())
        self.by_page = dict(zip(pages, sorted(free)))      # what is sorted by port keeps its order
        self.by_free = {free: port for port, free in self.by_page.items()}

    def free(self, text):
        return PORTS.sub(lambda found: self.by_page[found[0]], text)

    def page(self, text):
        return re.sub(r"\b\d{4}\b", lambda found: self.by_free.get(found[0], found[0]), text)


def free_port():
    while True:
        port = random.randrange(1100, 9900)
        try:
            connect(("127.0.0.1", port)).close()
        except OSError:
            if not PORTS.fullmatch(str(port)):
                return str(port)


class Shell:
    """One bash for the whole page, in a folder of its own; it and all that it started end together."""

    def __init__(self, folder, ports):
        self.process = subprocess.Popen(
            ["bash"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(folder), "LC_ALL": "C.UTF-8", "PORT": ports.by_page["8080"],
                 "MAITRED_ADMIN": "http://127.0.0.1:" + ports.by_page["8900"]})
        self.run("trap 'trap - TERM; kill 0' EXIT")     # also when these tests are killed

    def run(self, command):
        """What it says, line by line."""
        watchdog = threading.Timer(COMMAND_SECONDS, self.process.kill)
        watchdog.start()
        self.process.stdin.write(f"{command}\necho; echo -- done --\n")
        self.process.stdin.flush()
        lines = []
        for line in self.process.stdout:
            if line == "-- done --\n":
                break
            if not KILLED.match(line):
                lines.append(line.rstrip())
        else:
            raise AssertionError(f"the shell ended, or {command!r} took too long:\n" + "\n".join(lines))
        watchdog.cancel()
        return lines[:-1] if lines[-1] == "" else lines

    def close(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.communicate(timeout=20)
        finally:
            os.killpg(self.process.pid, signal.SIGKILL) if self.process.poll() is None else None


def pattern_of(line, varies):
    """A regular expression for a line of the page."""
    pieces, at = [], 0
    for found in re.finditer("|".join(f"({each})" for each in varies) or r"(?!)", line):
        pieces += [re.escape(line[at:found.start()]), f"(?:{varies[found.lastindex - 1]})"]
        at = found.end()
    pattern = "".join([*pieces, re.escape(line[at:])])
    return re.sub(r"(\\ )+", r"\\s+", pattern)


def matches(told, expected, varies):
    """Whether what was told is what the page says."""
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else pattern_of(line, varies) + r"\s*\n" for line in expected)
    return re.fullmatch(pattern, "".join(line + "\n" for line in told), re.M) is not None


class Tour:
    def __init__(self, folder):
        self.ports = Ports(TOUR.read_text())
        self.shell = Shell(folder, self.ports)

    def begin(self, text):
        """The first block: where the programs are, and an empty folder."""
        self.shell.run(text)
        self.shell.run(f'ln -s "{BINARY}" maitred && PATH=$PWD:$PATH')
        self.folder = self.shell.run("pwd")[0]

    def write(self, text):
        with open(f"{self.folder}/tour.conf", "w", encoding="utf-8") as file:
            file.write(self.ports.free(text))

    def run(self, command, expected, varies):
        end = time.monotonic() + (WATCH_SECONDS if WATCHES.match(command) else 0)
        while True:
            told = [self.ports.page(line) for line in self.shell.run(self.ports.free(command))]
            if matches(told, expected, varies):
                break
            assert time.monotonic() < end, f"$ {command}\n" + "\n".join(told) + "\n--- and the page says:\n" + \
                "\n".join(expected)
            time.sleep(0.1)
        if command.endswith("&") or "& " in command:
            self.wait_started(command)

    def wait_started(self, command):
        """Until what was left running takes connections: a reader types more slowly than it starts."""
        port = next(iter(PORTS.findall(command)), "8900")
        end = time.monotonic() + COMMAND_SECONDS
        while True:
            try:
                connect(("127.0.0.1", int(self.ports.by_page[port]))).close()
                return
            except OSError:
                assert time.monotonic() < end, f"{command!r} does not listen: " + "\n".join(self.shell.run("cat *.log"))
                time.sleep(0.02)


@pytest.mark.skipif(is_sanitized(), reason="the figures of the page are those of the release")
def test_every_configuration_and_command_does_what_the_page_says(tmp_path):
    tour = Tour(tmp_path)
    try:
        for kind, text, varies in blocks():
            if kind == "sh":
                tour.begin(text)
            elif kind == "conf":
                tour.write(text)
            else:
                for command, expected in commands_of(text):
                    tour.run(command, expected, varies)
    finally:
        tour.shell.close()


def test_no_configuration_is_long():
    found = [text for kind, text, _ in blocks() if kind == "conf"]
    assert len(found) >= 7
    assert not [text for text in found if len(text.splitlines()) >= LINES_MAX]
