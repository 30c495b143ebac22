"""`maitred passwd`: a password becomes the line of the file that says who knows it."""
import base64
import hashlib
import re
import signal
import subprocess
import termios

import pytest

from kit import process
from kit.screen import Screen

LINE = re.compile(r'password-hash = "\$pbkdf2-sha256\$i=(\d+)\$([A-Za-z0-9+/]{22})\$([A-Za-z0-9+/]{43})"\r?\n')


def unpadded(text):
    return base64.b64decode(text + "=" * (-len(text) % 4))


def is_of(line, password):
    """Whether the line is one for the file, and its hash what Python makes of the password."""
    match = LINE.fullmatch(line)
    if not match:
        return False
    assert int(match[1]) >= 600000
    return hashlib.pbkdf2_hmac("sha256", password.encode(), unpadded(match[2]), int(match[1])) == unpadded(match[3])


def passwd(text, *arguments):
    return process.run("passwd", *arguments, input=text)


class Terminal(Screen):
    """The command on a terminal; what it writes is text, no frames."""
    def wait_text(self, text):
        with self._news:
            assert self._news.wait_for(lambda: text in self.received, 20), self.received

    def hides(self):
        return not termios.tcgetattr(self._slave)[3] & termios.ECHO

    def is_as_before(self):
        return termios.tcgetattr(self._slave) == self.before


@pytest.fixture
def terminal(stage):
    return stage.add(Terminal("passwd"))


@pytest.mark.parametrize("text, password", [
    ("secret\n", "secret"), ("secret", "secret"), ("secret\r\n", "secret"), (" a b \n", " a b "), ("pässwörd\n", "pässwörd"),
    ("x" * 1024 + "\n", "x" * 1024),
], ids=["line", "no end of line", "CRLF", "spaces", "UTF-8", "longest"])
def test_standard_input_becomes_a_line_for_the_file(text, password):
    result = passwd(text)
    assert (result.returncode, result.stderr) == (0, "")
    assert is_of(result.stdout, password), result.stdout


@pytest.mark.parametrize("text, why", [
    ("", "is empty"), ("\n", "is empty"), ("a\nb\n", "more than one line"), ("a\0b\n", "NUL"),
    ("x" * 1025, "longer than 1024 bytes"), ("x" * 1000000, "longer than 1024 bytes"),
], ids=["nothing", "empty line", "two lines", "NUL", "long", "very long"])
def test_what_is_no_password_is_refused(text, why):
    result = passwd(text)
    assert (result.returncode, result.stdout) == (1, "")
    assert why in result.stderr and result.stderr.startswith("maitred passwd: ")


def test_a_password_on_the_command_line_is_refused_and_not_repeated():
    result = passwd("", "secret")
    assert (result.returncode, result.stdout) == (2, "")
    assert "everybody" in result.stderr and "secret" not in result.stderr


def test_two_hashes_of_one_password_differ():
    assert passwd("secret\n").stdout != passwd("secret\n").stdout


def test_the_line_is_what_the_file_takes(tmp_path):
    file = tmp_path / "maitred.conf"
    file.write_text(f'amqp "127.0.0.1:1" {{ user "a" {{\n{passwd("secret").stdout}}} }}\n')
    result = process.run("check", file)
    assert (result.returncode, result.stderr) == (0, "")


def test_on_a_terminal_it_asks_twice_and_shows_nothing_of_it(terminal):
    terminal.wait_text("Password: ")
    assert terminal.hides()
    terminal.type("secret\n")
    terminal.wait_text("Once more: ")
    terminal.type("secret\n")
    assert terminal.end() == 0
    assert "secret" not in terminal.received
    assert is_of(terminal.received.removesuffix("<end>").split("\r\n")[-2] + "\n", "secret"), terminal.received
    assert terminal.is_as_before()


def test_two_that_differ_make_nothing(terminal):
    terminal.wait_text("Password: ")
    terminal.type("secret\n")
    terminal.wait_text("Once more: ")
    terminal.type("Secret\n")
    assert terminal.end() == 1
    assert "the two are not the same" in terminal.received and "password-hash" not in terminal.received
    assert terminal.is_as_before()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_leaves_the_terminal_as_it_was(terminal, number):
    terminal.wait_text("Password: ")
    terminal.process.send_signal(number)
    assert terminal.end() == -number
    assert terminal.is_as_before()


def test_only_standard_output_has_the_line(tmp_path):
    out = tmp_path / "out"
    with out.open("wb") as file:
        subprocess.run([process.BINARY, "passwd"], input=b"secret\n", stdout=file, check=True, timeout=20)
    assert is_of(out.read_text(), "secret")
