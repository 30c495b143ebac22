"""The commands that ask a running maitred: what they send, what they print, and their exit codes. An admin interface
without a maitred answers them."""
import json
import os
import re
import signal

import pytest

from kit import fake_admin, process
from kit.fake_admin import FakeAdmin
from kit.screen import COLOUR, ENTER, Screen
from kit.wire import answer

CLEAN = {name: value for name, value in os.environ.items() if name not in ("MAITRED_ADMIN", "MAITRED_TOKEN", "NO_COLOR")}
COMMANDS = [["status"], ["queue", "list"], ["explain", "GET http://a/"], ["server", "drain", "web", "127.0.0.1:9001"], ["reload"], ["upgrade"]]
NAMES = [command[0] for command in COMMANDS]


@pytest.fixture
def admin(stage):
    return stage.add(FakeAdmin())


@pytest.fixture
def screen(stage):
    """screen(arguments...): a command on a terminal of its own."""
    def start(*arguments, environment=None, **options):
        return stage.add(Screen(*arguments, environment={**CLEAN, "TERM": "xterm", **(environment or {})}, **options))
    return start


def ask(admin, *arguments, **environment):
    return process.run(*arguments, env={**CLEAN, "MAITRED_ADMIN": getattr(admin, "at", admin), **environment})


def assert_same(got, expected):
    assert (got.returncode, got.stdout, got.stderr) == expected


# --- where it is, and who asks

@pytest.mark.parametrize("command", COMMANDS + [["top"]], ids=NAMES + ["top"])
def test_where_to_ask_is_an_option_before_the_environment(admin, closed, command):
    nobody = closed().at
    result = ask(nobody, *command, "--admin", admin.at)
    if command == ["top"]:
        assert "terminal" in result.stderr
    else:
        assert admin.asked, result.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_nobody_there_is_said_with_what_to_do(closed, command):
    at = closed().at
    assert_same(ask(at, *command), (2, "", f"maitred {command[0]}: nobody answers at {at}: Connection refused; start it "
                                           "with an admin section in its file, or say where with --admin\n"))


def test_a_unix_socket_is_an_address_too(stage, tmp_path):
    admin = stage.add(FakeAdmin(path=str(tmp_path / "admin.sock")))
    assert admin.at.startswith("unix:")
    assert ask(admin, "status").returncode == 1
    assert ask(admin.at + "x", "status").returncode == 2


def test_a_url_is_an_address_too(admin):
    assert ask(f"http://{admin.at}", "status").returncode == 1
    assert admin.asked[0][2]["Host"] == admin.at


def test_a_name_is_looked_up(admin):
    result = ask(f"localhost:{admin.address[1]}", "status")
    assert result.returncode == 1, result.stderr
    assert admin.asked[0][2]["Host"] == f"localhost:{admin.address[1]}"


def test_a_port_alone_is_this_machine(admin):
    assert ask(f":{admin.address[1]}", "status").returncode == 1
    assert admin.asked[0][2]["Host"] == f"localhost:{admin.address[1]}"


@pytest.mark.parametrize("address", ["127.0.0.1", "a b:1", "unix:x", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_refused(address):
    result = ask("127.0.0.1:1", "status", "--admin", address)
    assert result.returncode == 2
    assert address in result.stderr


def test_a_token_comes_from_the_environment_or_a_file(stage, tmp_path):
    admin = stage.add(FakeAdmin(token="abc~123"))
    file = tmp_path / "token"
    file.write_text("abc~123\n")
    assert ask(admin, "status", "--token-file", file, MAITRED_TOKEN="wrong").returncode == 1
    assert ask(admin, "status", MAITRED_TOKEN="abc~123").stdout
    assert_same(ask(admin, "status"), (1, "", "maitred status: a token is needed; send it as Authorization: Bearer TOKEN\n"))
    assert ask(admin, "server", "drain", "web", "127.0.0.1:9001", MAITRED_TOKEN="abc~123").returncode == 0


@pytest.mark.parametrize("content", ["", "\n", "a b", "a\nHost: b", "\x01", "ü", "x" * 2000])
def test_a_token_that_cannot_be_sent_is_refused(admin, tmp_path, content):
    file = tmp_path / "token"
    file.write_text(content)
    result = ask(admin, "status", "--token-file", file)
    assert (result.returncode, admin.asked) == (2, [])
    assert str(file) in result.stderr


def test_a_token_file_that_is_not_there(admin, tmp_path):
    result = ask(admin, "status", "--token-file", tmp_path / "none")
    assert result.returncode == 2
    assert "No such file" in result.stderr


@pytest.mark.parametrize("arguments", [
    ["status", "--admin"], ["status", "--token-file"], ["status", "more"], ["status", "--jsn"], ["explain"],
    ["explain", "GET"], ["explain", "/x"], ["explain", "GET /x"], ["explain", "GET http://a/", "-H"],
    ["explain", "GET http://a/", "-H", "no colon"], ["explain", "GET http://a/", "again"], ["explain", "--from", "::1"],
    ["server"], ["server", "stop", "a", "b"], ["server", "drain", "a"], ["server", "weight", "a", "b"],
    ["server", "drain", "a", "b", "c"], ["reload", "file"], ["upgrade", "now"], ["top", "more"],
])
def test_what_is_asked_in_the_wrong_way_is_not_asked(admin, arguments):
    result = ask(admin, *arguments)
    assert (result.returncode, result.stdout, admin.asked) == (2, "", [])
    assert result.stderr.startswith(f"maitred {arguments[0]}: ")
    assert f"`maitred {arguments[0]} --help` shows how it is used" in result.stderr


# --- the conversation

@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_large_answer_comes_whole(stage, chunked):
    admin = stage.add(FakeAdmin(chunked=chunked))
    admin.state["pools"] = [fake_admin.pool(f"pool{n}", *(fake_admin.server(f"10.0.{n}.{m}:80") for m in range(100)))
                            for n in range(40)]
    result = ask(admin, "status", "--json")
    assert result.returncode == 1, result.stderr
    assert json.loads(result.stdout) == admin.state
    assert len(result.stdout) > 1_000_000


def test_an_answer_may_end_with_its_connection(scripted):
    def play(peer):
        peer.read_request()
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\n" + b'{"state": "up"}')
    assert_same(ask(scripted(play), "status", "--json"), (0, '{"state": "up"}', ""))


@pytest.mark.parametrize("raw, words", [
    (b"", "closed the connection before its answer was complete"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", "closed the connection before its answer was complete"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", "closed the connection before its answer"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n{}", "is not maitred's admin interface"),
    (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "is not maitred's admin interface"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, "is not maitred's admin interface"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "is longer than 64 MiB"),
], ids=["nothing", "short", "short chunk", "bad chunk", "no http", "endless head", "huge"])
def test_a_broken_answer_is_said(scripted, raw, words):
    def play(peer):
        peer.read_request()
        peer.send(raw)
    result = ask(scripted(play), "status")
    assert (result.returncode, result.stdout) == (2, "")
    assert words in result.stderr


@pytest.mark.parametrize("status, body", [(200, b"hello"), (200, b"[]"), (404, b"<html>"), (500, b"{}"), (200, b"")])
def test_an_answer_of_somebody_else_is_said(scripted, status, body):
    def play(peer):
        peer.read_request()
        peer.send(answer(body, status=f"{status} X"))
    result = ask(scripted(play), "reload")
    assert (result.returncode, result.stdout) == (1, "")
    assert f"answered {status} " in result.stderr and "--admin" in result.stderr


def test_the_texts_of_an_error_cannot_write_to_the_terminal(admin):
    admin.answers["POST", "/api/reload"] = 422, {"error": "a\x1b[2Jb\nc", "problems": ["x\x1b]0;y\x07"]}
    assert_same(ask(admin, "reload"), (1, "", "x ]0;y \nmaitred reload: a [2Jb c\n"))


# --- status

@pytest.mark.parametrize("state, code", [("up", 0), ("degraded", 1), ("down", 2)])
def test_status_ends_with_a_code_that_scripts_can_read(admin, state, code):
    admin.state["state"] = state
    result = ask(admin, "status")
    assert (result.returncode, result.stderr) == (code, "")
    assert result.stdout.splitlines()[0] == f"maitred is {state}"
    assert ask(admin, "status", "--json").returncode == code


def test_status_json_is_the_document_unchanged(admin):
    text = b'{ "state":\t"up",  "more": [1.50, "\\u00fc"]}\n\n'
    admin.answers["GET", "/api/state"] = 200, text
    assert_same(ask(admin, "status", "--json"), (0, text.decode(), ""))


def test_status_is_a_screen_of_80_columns(admin):
    admin.state["reasons"].append("a long reason " * 20)
    admin.state["pools"][0]["servers"][1]["reason"] = "words and " * 30 + "w" * 200
    admin.state["pools"][1]["servers"].append(fake_admin.server("a-very-long-name.in.a.far.away.example.com:8080"))
    lines = ask(admin, "status").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any(line.endswith(" ") for line in lines)
    assert re.search(r"^  a-very-.*com:8080 +up ", "\n".join(lines), re.M)


def test_status_tells_what_is_wrong_and_what_was_set_by_hand(admin):
    text = ask(admin, "status").stdout
    lines = text.splitlines()

    def row(name):
        return next(number for number, line in enumerate(lines) if line.split()[:1] == [name])
    assert "because      pool web: 1 of 3 servers down" in lines
    assert "config       /etc/maitred/maitred.conf, loaded 5 min ago; 3 reloads, 1 failed" in lines
    assert "             the one loaded 10 min ago still serves 12" in lines
    assert lines[row(":8080")].split() == [":8080", "http", "3", "12.5", "1.2", "ms", "5.1", "ms", "0"]
    assert lines[row(":5432")].split()[1] == "tcp"
    assert lines[row("127.0.0.1:9002")].split() == ["127.0.0.1:9002", "down", "5", "s", "1", "2", "0", "0", "-", "17"]
    assert lines[row("127.0.0.1:9002") + 1] == "    connection refused"
    assert lines[row("127.0.0.1:9003")].split()[4] == "5*"
    assert lines[row("127.0.0.1:9003") + 1] == "    by hand: weight 5"
    assert lines[row("unix:/run/app.sock") + 1] == "    backup"
    assert [line.split("event ")[-1] for line in lines[-5:-1]] == [f"number {n}" for n in (3, 4, 5, 6)]
    assert lines[-1] == "  5 s ago     pool web: server 127.0.0.1:9002 is down: connection refused"
    assert "\x1b" not in text


def test_status_sums_up_a_large_pool_and_shows_what_needs_a_look(admin):
    servers = [fake_admin.server(f"10.0.0.{n}:80") for n in range(40)]
    servers[7] = fake_admin.server("10.0.0.7:80", "down", "connection refused")
    servers[9]["by_hand"] = {"weight": 5}
    admin.state["pools"][:] = [fake_admin.pool("many", *servers)]
    text = ask(admin, "status").stdout
    assert "10.0.0.7:80" in text and "10.0.0.9:80" in text
    assert "10.0.0.8:80" not in text
    assert "  38 of 40 are up; `maitred top` and --json show them all\n" in text


def test_status_has_colours_on_a_terminal_unless_no_color_is_set(screen, admin):
    coloured = screen("status", "--admin", admin.at)
    assert coloured.end() == 1
    assert "\x1b[0;31mdown" in coloured.received.replace(" ", "")
    plain = screen("status", "--admin", admin.at, environment={"NO_COLOR": "1"})
    assert plain.end() == 1
    assert "\x1b" not in plain.received
    assert COLOUR.sub("", coloured.received) == plain.received


def test_a_state_with_next_to_nothing_in_it_is_shown_too(admin):
    admin.answers["GET", "/api/state"] = 200, {"state": "up"}
    result = ask(admin, "status")
    assert (result.returncode, result.stderr) == (0, "")


# --- explain

def test_explain_asks_with_method_url_fields_and_address(admin):
    ask(admin, "explain", "POST http://a/x?y=1&z", "-H", "Cookie: a=b+c", "--from", "::1", "-H", "X: ü")
    assert admin.asked[0][1] == ("/api/explain?method=POST&url=http%3A%2F%2Fa%2Fx%3Fy%3D1%26z&header=Cookie%3A%20a%3Db%2Bc"
                                 "&header=X%3A%20%C3%BC&from=%3A%3A1")


def test_explain_tells_the_route_the_key_the_servers_and_the_choice(admin):
    result = ask(admin, "explain", "GET http://a/api/videos")
    assert_same(result, (0, """\
http :8080
  route   /api/videos (maitred.conf:12): pool api
  not     / (maitred.conf:11): a longer path matches
  not     /old (maitred.conf:13): the path is not under it
  pool    api, by consistent-hash
  key     cookie user: alice
  servers 127.0.0.1:9004                 usable     up
          127.0.0.1:9005                 not usable down: connection refused
  choice  127.0.0.1:9004: the first usable server from the key's place on the
            ring on
""", ""))
    assert json.loads(ask(admin, "explain", "GET http://a/api/videos", "--json").stdout) == admin.explained


def test_explain_tells_when_no_route_and_no_server_takes_it(admin):
    admin.explained["listeners"] = [
        {"listener": ":1", "refused": {"status": 400, "why": "two Host fields"}, "route": None, "others": []},
        {"listener": ":2", "refused": None, "route": None,
         "others": [{"name": "/x", "place": "m:1", "why": "the path is not under it"}], "pool": None},
        {"listener": ":3", "refused": None, "route": {"name": "/", "place": "m:2", "action": "pool web"}, "others": [],
         "pool": "web", "balance": "random", "key": None, "candidates": [], "choice": None, "why": "no server is usable"}]
    assert_same(ask(admin, "explain", "GET http://a/"), (0, """\
http :1
  refused with 400 before any route: two Host fields

http :2
  route   none matches
  not     /x (m:1): the path is not under it

http :3
  route   / (m:2): pool web
  pool    web, by random
  choice  none: no server is usable
""", ""))


def test_explain_prints_the_words_of_an_error(admin):
    admin.answers["GET", "/api/explain"] = 400, {"error": "the URL has no host; write http://host/path"}
    assert_same(ask(admin, "explain", "GET http://"), (1, "", "maitred explain: the URL has no host; write http://host/path\n"))


# --- server, reload, upgrade

@pytest.mark.parametrize("arguments, target, text", [
    (["drain", "web", "127.0.0.1:9001"], "/api/pools/web/servers/127.0.0.1%3A9001/drain",
     "pool web: server 127.0.0.1:9001 drains; 2 requests are still on it\n"),
    (["enable", "api", "unix:/run/app.sock"], "/api/pools/api/servers/unix%3A%2Frun%2Fapp.sock/enable",
     "pool api: server unix:/run/app.sock enables; 2 requests are still on it\n"),
    (["reset", "web", "127.0.0.1:9001"], "/api/pools/web/servers/127.0.0.1%3A9001/reset",
     "pool web: server 127.0.0.1:9001 is as the file says\n"),
    (["weight", "web", "127.0.0.1:9001", "12"], "/api/pools/web/servers/127.0.0.1%3A9001/weight?weight=12",
     "pool web: server 127.0.0.1:9001 has weight 12\n"),
])
def test_server_posts_what_to_do_and_prints_what_came_of_it(admin, arguments, target, text):
    assert_same(ask(admin, "server", *arguments), (0, text, ""))
    assert admin.posts() == [target]
    assert admin.asked[0][2]["Content-Length"] == "0"


@pytest.mark.parametrize("arguments, words", [
    (["drain", "web", "../x y"], "has no server ../x y; did you mean"),
    (["weight", "web", "127.0.0.1:9001", "1&x"], "the weight 1&x is no number from 1 to 256"),
])
def test_server_prints_the_words_of_an_error(admin, arguments, words):
    result = ask(admin, "server", *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert words in result.stderr


def test_reload_prints_the_changes_a_line_each_and_warnings_apart(admin):
    admin.answers["POST", "/api/reload"] = 200, {"changes": ["pool web: server x: weight 1 -> 3", "b"],
                                                 "warnings": ["maitred.conf:3: old"]}
    assert_same(ask(admin, "reload"), (0, "pool web: server x: weight 1 -> 3\nb\n", "warning: maitred.conf:3: old\n"))


def test_reload_says_that_nothing_changed(admin):
    admin.answers["POST", "/api/reload"] = 200, {"changes": [], "warnings": []}
    assert_same(ask(admin, "reload"), (0, "no changes\n", ""))


def test_reload_prints_what_is_wrong_in_the_file(admin):
    admin.answers["POST", "/api/reload"] = 422, {"error": "the file has errors; nothing changed",
                                                 "problems": ["maitred.conf:3: a", "maitred.conf:7: b"]}
    assert_same(ask(admin, "reload"), (1, "", "maitred.conf:3: a\nmaitred.conf:7: b\n"
                                              "maitred reload: the file has errors; nothing changed\n"))


def test_upgrade_prints_who_has_taken_over(admin):
    admin.answers["POST", "/api/upgrade"] = 200, {"text": "process 124 has taken over; this one drains"}
    assert_same(ask(admin, "upgrade"), (0, "process 124 has taken over; this one drains\n", ""))
    admin.answers["POST", "/api/upgrade"] = 500, {"error": "the new process ended with code 1; nothing changed"}
    assert_same(ask(admin, "upgrade"), (1, "", "maitred upgrade: the new process ended with code 1; nothing changed\n"))


# --- top

@pytest.fixture
def top(screen, admin):
    """top(): a running top whose first frame is there."""
    def start(**options):
        shown = screen("top", "--admin", admin.at, **options)
        shown.wait("maitred is degraded")
        return shown
    return start


def row_of(lines, text):
    return next(number for number, line in enumerate(lines) if text in line)


def selected(lines):
    return [line[1:24].split()[0] for line in lines if line.startswith(">")]


def test_top_draws_a_screen_of_80x24(top):
    screen = top()
    lines = screen.lines()
    assert len(lines) == 24
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for word in ("maitred is degraded", "/api/videos", ":8080", "pool api", "tcp", "127.0.0.1:9002", "down", "1.2 ms",
                 "event number 6", "q quits"):
        assert word in text
    assert "\x1b[0;31mdown" in screen.received.replace(" ", "")
    assert "\x1b[2J" not in screen.received, "it flickers"


def test_top_uses_the_whole_of_a_larger_terminal(top):
    screen = top(columns=132, lines=50)
    assert len(screen.lines()) == 50
    assert any("event number 1" in line for line in screen.lines())


def test_top_follows_a_change_of_size(top):
    screen = top()
    screen.resize(100, 30)
    screen.wait(lambda lines: len(lines) == 30)
    screen.resize(40, 10)
    assert len(screen.wait("40x10 is too small")) == 10


def test_top_asks_again_each_second(top, admin):
    screen = top()
    admin.state["state"] = "up"
    screen.wait("maitred is up")
    admin.wait_asked(3)


def test_top_selects_with_letters_and_arrows(top):
    screen = top()
    assert selected(screen.lines()) == ["127.0.0.1:9004"]
    for keys, name in (("j", "unix:/run/app.sock"), ("\x1b[B", "127.0.0.1:9001"), ("\x1bOB", "127.0.0.1:9002"),
                       ("k", "127.0.0.1:9001"), ("\x1b[A", "unix:/run/app.sock")):
        screen.type(keys)
        screen.wait(lambda lines: selected(lines) == [name], name)


def test_top_sorts_reverses_filters_and_helps(top):
    screen = top()
    screen.type("s")
    lines = screen.wait("by rate")
    assert row_of(lines, "127.0.0.1:9003") < row_of(lines, "127.0.0.1:9001") < row_of(lines, "127.0.0.1:9002")
    screen.type("r")
    lines = screen.wait("by rate, reversed")
    assert row_of(lines, "127.0.0.1:9003") > row_of(lines, "127.0.0.1:9001") > row_of(lines, "127.0.0.1:9002")
    screen.type("/9002\r")
    lines = screen.wait("only what has 9002")
    assert not any("9001" in line for line in lines)
    screen.type("?")
    screen.wait("j/k/arrows move")


def test_top_drains_only_after_a_yes_and_enables_at_once(top, admin):
    screen = top()
    screen.type("d")
    screen.wait("drain 127.0.0.1:9004 of pool api? y/n")
    screen.type("n")
    screen.wait("q quits")
    screen.type("dy")
    screen.wait("pool api: server 127.0.0.1:9004 drains; 2 requests are still on it")
    screen.wait("draining*")
    screen.type("e")
    screen.wait("pool api: server 127.0.0.1:9004 enables")
    assert admin.posts() == ["/api/pools/api/servers/127.0.0.1%3A9004/drain", "/api/pools/api/servers/127.0.0.1%3A9004/enable"]


def test_top_prints_the_words_of_an_error(top, admin):
    admin.answers["POST", "/api/pools/api/servers/127.0.0.1%3A9004/enable"] = 409, {"error": "it drains; wait"}
    screen = top()
    screen.type("e")
    screen.wait("it drains; wait")


def test_top_says_when_the_server_goes_away_and_goes_on_when_it_is_back(top, admin):
    screen = top()
    admin.stop()
    lines = screen.wait(f"no news, trying again: nobody answers at {admin.at}")
    assert any("127.0.0.1:9002" in line for line in lines), "what was known last is gone"
    admin.start()
    screen.wait(lambda lines: lines[1] == "pool web: 1 of 3 servers down")


def test_top_takes_keys_while_an_answer_is_late(top, admin):
    screen = top()
    asked = len(admin.asked)
    admin.hold.clear()
    admin.wait_asked(asked + 1)
    screen.type("?")
    screen.wait("j/k/arrows move")
    screen.type("q")
    assert screen.end() == 0


ENDS = {"q": lambda screen: screen.type("q"), "control-c": lambda screen: screen.type("\x03"),
        "SIGTERM": lambda screen: screen.process.send_signal(signal.SIGTERM),
        "SIGINT": lambda screen: screen.process.send_signal(signal.SIGINT),
        "SIGHUP": lambda screen: screen.process.send_signal(signal.SIGHUP)}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_top_leaves_the_terminal_as_it_was(top, end):
    screen = top()
    end(screen)
    assert screen.end() == 0
    assert screen.is_restored(), repr(screen.received[-200:])


def test_top_leaves_the_terminal_as_it_was_even_when_it_aborts(top):
    screen = top()
    screen.process.send_signal(signal.SIGABRT)
    screen.end()
    assert screen.is_restored(), repr(screen.received[-200:])


def test_top_without_colours(top):
    screen = top(environment={"NO_COLOR": "1"})
    assert not COLOUR.search(screen.received)


def test_top_without_a_terminal_says_what_does_without(admin):
    result = ask(admin, "top")
    assert (result.returncode, result.stdout) == (2, "")
    assert "terminal" in result.stderr and "`maitred status`" in result.stderr


def test_top_does_not_begin_when_nobody_answers(screen, closed):
    at = closed().at
    shown = screen("top", "--admin", at)
    assert shown.end() == 2
    assert f"maitred top: nobody answers at {at}: Connection refused" in shown.received
    assert ENTER not in shown.received
