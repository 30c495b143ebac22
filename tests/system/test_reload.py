"""Reload: what the file says takes effect without anybody noticing; what is not good changes nothing; what runs goes on
as it began, and what stays stays as it is."""
import collections
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from kit import process
from kit.admin import admin_of
from kit.checks import assert_closes
from kit.config import admin, listener, pool, proxying, routing, tcp, top
from kit.origin import Told
from kit.wire import DEADLINE, connect, request
from test_health import Checked, health, only, until
from test_tunnels import echo_back, upgraded


def shares(proxy, count, target="/"):
    """How many of count requests, one after the other on a connection, each server answered."""
    peer = proxy.client()
    seen = collections.Counter(Told(peer.get(target)).server for _ in range(count))
    peer.close()
    return dict(seen)


def refuses(address):
    """Whether nobody listens there, now or soon."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        try:
            connect(address).close()
        except (ConnectionError, FileNotFoundError):
            return True
    return False


def goes(path):
    """Whether the file is not there any more, or soon."""
    end = time.monotonic() + DEADLINE
    while os.path.exists(path):
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def said(lines):
    return "\n".join(lines)


def answers(routes, http=""):
    """A listener that answers by itself."""
    return top() + listener(routes, http)


# --- what a reload changes

def test_routes_that_come_change_and_go_do_so_on_connections_that_are_open(maitred):
    proxy = maitred(answers('route "/a" { respond = 200  body = "1" }  route "/b" { respond = 200 }'))
    peer = proxy.client()
    assert [peer.get(target).status for target in ("/a", "/b", "/c")] == [200, 200, 404]
    lines = proxy.reload(answers('route "/a" { respond = 200  body = "2" }  route "/c" { redirect = "/a" }'))
    assert [peer.get(target).status for target in ("/a", "/b", "/c")] == [200, 404, 308]
    assert peer.get("/a").text == "2"
    for change in ('route "/a": body', 'route "/b" removed', 'route "/c" added', ": 3 changes"):
        assert change in said(lines)


def test_a_file_without_a_change_is_no_change(maitred, echo):
    proxy = maitred(proxying(echo()))
    assert proxy.reload()[-1].endswith(": 0 changes")
    assert proxy.get().status == 200


def test_weights_change(maitred, echo):
    a, b = echo("a"), echo("b")
    proxy = maitred(proxying(a, b))
    assert shares(proxy, 20) == {"a": 10, "b": 10}
    lines = proxy.reload(proxying((a, "weight = 4"), b))
    assert f"pool web: server {a.at}: weight 1 -> 4" in said(lines)
    assert lines[-1].endswith(": 1 change")
    assert shares(proxy, 20) == {"a": 16, "b": 4}


def test_servers_come_and_go_and_drain(maitred, echo):
    a, b, c = echo("a"), echo("b"), echo("c")
    proxy = maitred(proxying(a, b))
    assert shares(proxy, 10) == {"a": 5, "b": 5}
    proxy.reload(proxying(b, c))
    assert shares(proxy, 10) == {"b": 5, "c": 5}
    proxy.reload(proxying((b, "drain = yes"), c))
    assert shares(proxy, 10) == {"c": 10}
    proxy.reload(proxying(b, c))
    assert shares(proxy, 10) == {"b": 5, "c": 5}
    a.wait(lambda: all(connection.done.is_set() for connection in a.connections), "the end of kept connections")
    proxy.reload(proxying(a))
    assert shares(proxy, 10) == {"a": 10}


def test_the_way_servers_are_picked_changes(maitred, echo):
    a, b = echo("a"), echo("b")
    proxy = maitred(proxying(a, b))
    assert shares(proxy, 20) == {"a": 10, "b": 10}
    proxy.reload(proxying(a, b, options="balance = consistent-hash  hash-key = path  load-bound = 0"))
    assert len(shares(proxy, 20, "/here")) == 1
    assert {server for number in range(40) for server in shares(proxy, 1, f"/{number}")} == {"a", "b"}
    proxy.reload(proxying(a, b))
    assert shares(proxy, 20) == {"a": 10, "b": 10}


def test_pools_come_and_go(maitred, echo):
    a, b = echo("a"), echo("b")
    proxy = maitred(routing('route "/" { pool = one }', one=a))
    assert Told(proxy.get()).server == "a"
    proxy.reload(routing('route "/" { pool = one }  route "/b" { pool = two }', one=a, two=b))
    assert Told(proxy.get("/b")).server == "b"
    proxy.reload(routing('route "/" { pool = two }', two=b))
    assert Told(proxy.get()).server == "b"
    proxy.reload(routing('route "/" { pool = one }', one=a))
    assert Told(proxy.get()).server == "a"


def test_timeouts_change(maitred, echo):
    origin = echo()
    origin.hold()
    proxy = maitred(proxying(origin))
    peer = proxy.client()
    proxy.reload(proxying(origin, http="head-timeout = 50ms", options="response-timeout = 50ms  retries = 0"))
    assert peer.get().status == 504
    assert proxy.client().send(b"GET / HT").read_response().status == 408


def test_health_checks_begin_change_and_end(maitred, echo):
    a, b = echo("a"), echo("b")
    Checked(a)
    bad = Checked(b, status="500 Oh")
    proxy = maitred(proxying(a, b))
    assert shares(proxy, 4) == {"a": 2, "b": 2}
    proxy.reload(proxying(a, b, options=health('path = "/healthz"  fall = 2')))
    until(proxy, only("a"), "down")
    bad.path = "/other"     # where it was checked, it is well again; where it will be, it is not
    until(proxy, only("a", "b"), "up")
    proxy.reload(proxying(a, b, options=health('path = "/other"  fall = 2')))
    Checked(a, path="/other")
    until(proxy, only("a"), "down by the other path")
    proxy.reload(proxying(a, b))
    assert shares(proxy, 4) == {"a": 2, "b": 2}
    checks = b.targets.count("/other")
    b.respond = bad.respond
    time.sleep(0.2)         # three intervals
    assert b.targets.count("/other") == checks


def test_a_higher_limit_on_connections_lets_those_in_who_wait(maitred, echo):
    proxy = maitred(proxying(echo(), general="max-connections = 1"))
    first = proxy.client()
    assert first.get().status == 200
    first.send(b"GET / HTTP/1.1\r\n")   # not idle, or it would go for the next one
    second = proxy.client().send(request())
    assert not second.readable(0.1)
    proxy.reload(proxying(echo(), general="max-connections = 10"))
    assert second.read_response().status == 200
    assert first.send(b"Host: a\r\n\r\n").read_response().status == 200


def test_a_higher_limit_of_a_pool_lets_those_through_who_are_in_line(maitred, echo):
    origin = echo()
    origin.hold()
    proxy = maitred(proxying(origin, options="max-connections = 1"))
    peers = [proxy.client().send(request()) for _ in range(3)]
    origin.wait_requests(1)
    proxy.reload(proxying(origin, options="max-connections = 3"))
    origin.wait_requests(3)
    origin.release()
    assert [peer.read_response().status for peer in peers] == [200] * 3


def test_a_listener_that_is_added_answers(maitred):
    here = 'route "/" { respond = 200  body = "here" }'
    there = listener('route "/" { respond = 200  body = "there" }', address="127.0.0.1:{port2}")
    proxy = maitred(answers(here))
    proxy.reload(answers(here) + there)
    assert proxy.get().text == "here"
    assert proxy.client(("127.0.0.1", proxy.port2)).get().text == "there"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_listener_that_is_removed_refuses_and_finishes_what_it_has(maitred, echo, threads):
    origin = echo()
    origin.hold()
    stays = listener('route "/" { respond = 200 }', address="127.0.0.1:{port2}")
    proxy = maitred(proxying(origin, threads=threads) + stays)
    busy = [proxy.client().send(request()) for _ in range(4)]
    idle = [proxy.client() for _ in range(4)]
    origin.wait_requests(4)
    proxy.reload(top(threads=threads) + stays)
    assert refuses(proxy.address)
    for peer in idle:
        assert_closes(peer)
    origin.release()
    for peer in busy:
        response = peer.read_response()
        assert Told(response).server == "origin"
        assert_closes(peer, response)
    assert proxy.client(("127.0.0.1", proxy.port2)).get().status == 200


def test_a_client_that_is_about_to_ask_a_removed_listener_is_answered(maitred):
    stays = listener('route "/" { respond = 200 }', address="127.0.0.1:{port2}")
    proxy = maitred(answers('route "/" { respond = 200 }') + stays)
    peer = proxy.client()
    assert peer.get().status == 200
    proxy.reload(top() + stays)
    response = peer.get()
    assert response.status == 200
    assert_closes(peer, response)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_port_that_changes_its_kind_of_listener_refuses_nobody(maitred, echo, threads):
    """The answers are the same, for the bytes go to a server of HTTP."""
    origin = echo()
    kinds = [top(threads=threads) + listener('route "/" { pool = web }') + pool("web", origin),
             top(threads=threads) + tcp("web") + pool("web", origin)]
    proxy = maitred(kinds[0])
    done, failures, asked = threading.Event(), [], []

    def ask():
        while not done.is_set():
            try:
                asked.append(proxy.get().status)
            except (OSError, AssertionError) as failure:
                failures.append(failure)
    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    for number in range(1, 11):
        before = len(asked)
        proxy.reload(kinds[number % 2])
        origin.wait(lambda: len(asked) >= before + 5, "five more answers")
    done.set()
    for asker in askers:
        asker.join()
    assert not failures
    assert set(asked) == {200}


def test_another_access_log_gets_the_lines_from_now_on(maitred):
    def logging(name):
        return answers('route "/" { respond = 200 }', f'access-log = "{{dir}}/{name}"' if name else "")
    proxy = maitred(logging("old.log"))
    peer = proxy.client()

    def paths(name, count):
        file = proxy.directory / name
        end = time.monotonic() + DEADLINE
        while len(lines := file.read_text().splitlines()) < count and time.monotonic() < end:
            time.sleep(0.01)
        return [json.loads(line)["path"] for line in lines]
    peer.get("/1")
    proxy.reload(logging("new.log"))
    peer.get("/2")
    proxy.reload(logging(""))
    peer.get("/3")
    proxy.reload(logging("old.log"))
    peer.get("/4")
    assert paths("new.log", 1) == ["/2"]
    assert paths("old.log", 2) == ["/1", "/4"]


def test_a_unix_socket_comes_and_goes_with_its_file(maitred, short_directory):
    path = f"{short_directory}/front.sock"
    without = answers('route "/" { respond = 200 }')
    proxy = maitred(without)
    for _ in range(3):
        proxy.reload(without + listener('route "/" { respond = 201 }', address=f"unix:{path}"))
        peer = proxy.client(path)
        assert peer.get().status == 201
        peer.close()
        proxy.reload(without)
        assert goes(path), "the socket was left behind"


def test_a_unix_socket_that_comes_back_while_its_old_clients_finish_keeps_its_file(maitred, echo, short_directory):
    path = f"{short_directory}/front.sock"
    origin = echo()
    origin.hold()
    without = answers('route "/" { respond = 200 }') + pool("web", origin)
    both = without + listener('route "/" { pool = web }', address=f"unix:{path}")
    proxy = maitred(both)
    peer = proxy.client(path).send(request())
    origin.wait_requests(1)
    proxy.reload(without)
    assert refuses(path)
    proxy.reload(both)
    origin.release()
    response = peer.read_response()
    assert response.status == 200
    assert_closes(peer, response)
    assert proxy.get().status == 200            # by now the old one has closed
    assert Told(proxy.client(path).get()).server == "origin"


def test_a_unix_socket_that_changes_its_kind_goes_with_the_last_one(maitred, echo, short_directory):
    path = f"{short_directory}/front.sock"
    origin = echo()
    without = answers('route "/" { respond = 200 }') + pool("web", origin)
    kinds = [without + listener('route "/" { pool = web }', address=f"unix:{path}"),
             without + tcp("web", address=f"unix:{path}")]
    proxy = maitred(kinds[0])
    assert proxy.get().status == 200            # by now every listener is open
    file = os.stat(path)
    for kind in kinds[1], kinds[0], kinds[1]:
        proxy.reload(kind)
        assert Told(proxy.client(path).get()).server == "origin"
        assert os.stat(path).st_ino == file.st_ino
    proxy.reload(without)
    assert goes(path), "the last one left the socket behind"


@pytest.mark.parametrize("fault, problem", [
    (listener('route "/" { respond = 200 }', address="{taken}"), "cannot listen on"),
    (listener('route "/" { respond = 200 }', 'access-log = "{dir}/nowhere/access.log"', "127.0.0.1:{port2}"),
     "cannot be opened"),
], ids=["address", "log"])
def test_a_unix_socket_whose_kind_changes_in_a_file_that_fails_keeps_its_file(maitred, echo, short_directory, fault,
                                                                             problem):
    path = f"{short_directory}/front.sock"
    both = answers('route "/" { respond = 200 }') + pool("web", echo())
    proxy = maitred(both + listener('route "/" { pool = web }', address=f"unix:{path}"))
    assert proxy.get().status == 200            # by now every listener is open
    file = os.stat(path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        fault = fault.replace("{taken}", f"127.0.0.1:{other.getsockname()[1]}")
        for _ in range(2):                      # the second begins when nothing is left of the first
            assert problem in said(proxy.reload(both + tcp("web", address=f"unix:{path}") + fault, fails=True))
    assert os.stat(path).st_ino == file.st_ino
    assert Told(proxy.client(path).get()).server == "origin"
    proxy.reload(both)
    assert goes(path), "the socket was left behind"


def test_a_server_may_come_by_name(maitred, echo):
    a, b = echo("a"), echo("b")
    proxy = maitred(proxying(a))
    lines = proxy.reload(proxying(a, f"localhost:{b.address[1]}", "nowhere.invalid:80"))
    assert "server nowhere.invalid:80 cannot be resolved" in said(lines)
    assert shares(proxy, 10) == {"a": 5, "b": 5}
    proxy.reload(proxying(f"localhost:{b.address[1]}"))
    assert shares(proxy, 4) == {"b": 4}


# --- what is not good changes nothing

@pytest.mark.parametrize("broken, problem", [
    ('http "127.0.0.1:{port}" {\n  route "/new" { respond = 201 }\n  no-such-option = 1\n}\n', ":3: "),
    ('http "127.0.0.1:{port}" {\n  route "/new" { pool = nowhere }\n}\n', ":2: "),
    ('http "127.0.0.1:{port}" {\n  route "/new" { respond = 201 }\n', "maitred.conf:"),
    ("", "listener"),
], ids=["option", "pool", "torn", "empty"])
def test_a_bad_file_changes_nothing_and_says_where(maitred, broken, problem):
    proxy = maitred(answers('route "/old" { respond = 200 }'))
    lines = proxy.reload(broken, fails=True)
    assert problem in said(lines) and "the file has errors" in lines[-1]
    peer = proxy.client()
    assert [peer.get(target).status for target in ("/old", "/new")] == [200, 404]


def test_a_file_that_vanished_changes_nothing(maitred):
    proxy = maitred(answers('route "/" { respond = 200 }'))
    proxy.config.unlink()
    lines = proxy.reload(fails=True)
    assert f"error {proxy.config}: " in said(lines) and "No such file" in said(lines)
    assert proxy.get().status == 200
    proxy.reload(answers('route "/" { respond = 201 }'))
    assert proxy.get().status == 201


def test_an_address_that_is_taken_changes_nothing(maitred):
    before = answers('route "/old" { respond = 200 }')
    proxy = maitred(before)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        lines = proxy.reload(answers('route "/new" { respond = 201 }') +
                             listener('route "/" { respond = 200 }', address="127.0.0.1:{port2}") +
                             listener('route "/" { respond = 200 }', address=taken), fails=True)
    assert f"cannot listen on {taken}: Address already in use" in said(lines)
    assert refuses(("127.0.0.1", proxy.port2))
    peer = proxy.client()
    assert [peer.get(target).status for target in ("/old", "/new")] == [200, 404]
    assert proxy.reload(before)[-1].endswith(": 0 changes")


def test_an_access_log_that_cannot_be_opened_changes_nothing(maitred, short_directory):
    path = f"{short_directory}/front.sock"
    proxy = maitred(answers('route "/old" { respond = 200 }'))
    lines = proxy.reload(answers('route "/new" { respond = 201 }', 'access-log = "{dir}/nowhere/access.log"') +
                         listener('route "/" { respond = 200 }', address=f"unix:{path}"), fails=True)
    assert f"access-log {proxy.directory}/nowhere/access.log cannot be opened" in said(lines)
    assert goes(path)
    peer = proxy.client()
    assert [peer.get(target).status for target in ("/old", "/new")] == [200, 404]


def test_threads_and_user_are_left_for_an_upgrade_with_a_warning(maitred, echo):
    proxy = maitred(proxying(echo()))
    uid = re.search(r"^Uid:.*", Path(f"/proc/{proxy.pid}/status").read_text(), re.M)[0]
    lines = proxy.reload(proxying(echo("other"), threads=3, general="user = nobody"))
    warnings = [line for line in lines if "takes effect with `maitred upgrade`" in line]
    assert len(warnings) == 2 and all(" warning " in line for line in warnings)
    assert "threads 1 -> 3" in warnings[0] and "nobody" in warnings[1]
    assert Told(proxy.get()).server == "other"
    end = time.monotonic() + DEADLINE           # who read the file is a thread, too, for a moment
    while len(os.listdir(f"/proc/{proxy.pid}/task")) >= 3:
        assert time.monotonic() < end, "there are more threads"
        time.sleep(0.005)
    assert re.search(r"^Uid:.*", Path(f"/proc/{proxy.pid}/status").read_text(), re.M)[0] == uid


# --- what stays as it is

def test_a_server_that_is_down_stays_down_without_a_request(maitred, echo):
    a, b, c = echo("a"), echo("b"), echo("c")
    Checked(a), Checked(c)
    down = Checked(b, status="500 Oh")
    options = health('path = "/healthz"  fall = 2  rise = 2')
    proxy = maitred(proxying(a, b, options=options))
    until(proxy, only("a"), "down")
    visits = down.history.count("visit")
    proxy.reload(proxying(a, (b, "weight = 9"), c, options=options + " retries = 2"))
    assert shares(proxy, 20) == {"a": 10, "c": 10}
    proxy.reload(proxying(a, (b, "weight = 9"), options=health('path = "/healthz"  fall = 3  rise = 2')))
    assert shares(proxy, 20) == {"a": 20}
    assert down.history.count("visit") == visits
    down.status = "200 OK"
    until(proxy, only("a", "b"), "up again")


def test_connections_to_servers_that_stay_are_kept(maitred, echo):
    a, b = echo("a"), echo("b")
    proxy = maitred(proxying(a))
    peer = proxy.client()
    peer.get()
    for number in range(5):
        proxy.reload(proxying((a, f"weight = {number + 2}"), b, options=f"retries = {number % 2}",
                              route=f"retries = {number % 2}"))
        seen = {Told(peer.get()).server for _ in range(12)}
        assert seen == {"a", "b"}
    assert (len(a.connections), len(b.connections)) == (1, 1)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_websocket_lives_on_without_its_listener_route_pool_and_server(maitred, scripted, echo, threads):
    proxy = maitred(proxying(scripted(echo_back), threads=threads))
    peers = [upgraded(proxy) for _ in range(4)]

    def all_echo(text):
        for peer in peers:
            peer.send(text)
            assert peer.read_exactly(len(text)) == text
    other = echo("other")
    for text in (proxying(other, threads=threads),
                 top(threads=threads) + listener('route "/other" { pool = two }') + pool("two", other),
                 top(threads=threads) + listener('route "/" { respond = 200 }', address="127.0.0.1:{port2}"),
                 top(threads=threads) + listener('route "/" { pool = two }') + pool("two", other)):
        proxy.reload(text)
        all_echo(b"still here")
    assert Told(proxy.get()).server == "other"
    all_echo(b"to the end")
    for peer in peers:
        peer.finish()
        assert peer.read_to_end() == b"bye"


def test_a_tunnel_of_a_tcp_listener_lives_on_without_it(maitred, scripted, echo):
    def back(connection):
        while data := connection.read_some(seconds=60):
            connection.send(data)
    proxy = maitred(top() + tcp("one") + pool("one", scripted(back)))
    peer = proxy.client().send(b"hello")
    assert peer.read_exactly(5) == b"hello"
    for text in (top() + tcp("two") + pool("two", echo()), answers('route "/" { respond = 200 }'),
                 top() + listener('route "/" { respond = 200 }', address="127.0.0.1:{port2}")):
        proxy.reload(text)
        peer.send(b"again")
        assert peer.read_exactly(5) == b"again"
    peer.finish()
    assert peer.read_to_end() == b""


GONE = {
    "server": lambda other: proxying(other),
    "pool": lambda other: routing('route "/" { pool = two }', two=other),
    "route": lambda other: routing('route "/elsewhere" { pool = two }', two=other),
    "listener": lambda other: top() + listener('route "/" { respond = 200 }', address="127.0.0.1:{port2}"),
}


@pytest.mark.parametrize("what", GONE)
def test_a_request_in_flight_finishes_without_its(maitred, echo, what):
    origin = echo()
    origin.hold()
    proxy = maitred(proxying(origin))
    waiting = proxy.client().send(request("GET", "/waiting"))
    origin.wait_requests(1)
    half = proxy.client().send(request("POST", "/half", "Content-Length: 300000") + b"x" * 150_000)
    origin.wait_connections(2)
    proxy.reload(GONE[what](echo("other")))
    half.send(b"x" * 150_000)
    origin.wait_requests(2)
    origin.release()
    for peer, target in (waiting, "/waiting"), (half, "/half"):
        told = Told(peer.read_response(seconds=DEADLINE))
        assert (told.server, told.target) == ("origin", target)
    origin.wait(lambda: all(connection.done.is_set() for connection in origin.connections), "the end of both")


@pytest.mark.parametrize("what", GONE)
def test_a_request_whose_head_is_half_read_is_served_by_what_it_came_to_without_its(maitred, echo, what):
    origin, other = echo(), echo("other")
    proxy = maitred(proxying(origin))
    peer = proxy.client()
    peer.get()
    peer.send(b"GET /half HTTP/1.1\r\n")
    proxy.reload(proxying(origin, options="retries = 0"))   # by the time that it is done, the half was read
    proxy.reload(GONE[what](other))
    assert peer.send(b"Host: a\r\n\r\n").read_response().status == 200


@pytest.mark.parametrize("what", GONE)
def test_requests_in_line_are_served_without_their(maitred, echo, what):
    origin = echo()
    origin.hold()
    proxy = maitred(proxying(origin, options="max-connections = 1  queue-timeout = 20s"))
    peers = [proxy.client().send(request()) for _ in range(3)]
    origin.wait_requests(1)
    proxy.reload(proxying(origin, options="max-connections = 1  queue-timeout = 20s  retries = 0"))
    proxy.reload(GONE[what](echo("other")))
    origin.release()
    assert [peer.read_response().status for peer in peers] == [200] * 3


# --- at the same time

def test_the_file_of_the_last_signal_is_in_force_however_many_come_at_once(maitred):
    proxy = maitred(answers('route "/" { respond = 200 }'))
    for status in range(201, 221):
        proxy.configure(answers(f'route "/" {{ respond = {status} }}'))
        proxy.signal(signal.SIGHUP)
        proxy.signal(signal.SIGHUP)
        end = time.monotonic() + DEADLINE
        while proxy.get().status != status:
            assert time.monotonic() < end, f"the file that says {status} is not in force"


def test_a_reload_while_it_drains_is_refused(maitred, echo):
    origin = echo()
    origin.hold()
    proxy = maitred(proxying(origin, drain="30s"))
    peer = proxy.client().send(request())
    origin.wait_requests(1)
    proxy.terminate()
    proxy.wait_log("draining")
    proxy.signal(signal.SIGHUP)
    proxy.wait_log("warning .*on its way out")
    origin.release()
    assert peer.read_response().status == 200
    assert proxy.wait() == 0
    assert not any(process.RELOADED.search(line) for line in proxy.log)


class DeafNames:
    """A name server that is asked and does not answer, for a maitred that is started by its wrapper."""

    def __init__(self, directory):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        address = f"127.{53 + os.getpid() // 62500 % 200}.{os.getpid() // 250 % 250}.{1 + os.getpid() % 250}"
        self.socket.bind((address, 53))     # the port is what resolvers ask, so the address is what is its own
        resolv = directory / "resolv.conf"
        resolv.write_text(f"nameserver {address}\noptions timeout:5 attempts:1\n")
        script = directory / "with-deaf-names"
        script.write_text(f'#!/bin/sh\nmount --bind "{resolv}" /etc/resolv.conf && exec "$@"\n')
        script.chmod(0o755)
        self.wrapper = ["unshare", "--mount", str(script)]

    def wait_question(self):
        self.socket.settimeout(DEADLINE)
        self.socket.recv(512)


@pytest.fixture
def deaf_names(tmp_path):
    try:
        names = DeafNames(tmp_path)
    except PermissionError:
        pytest.skip("only root can be a name server")
    yield names
    names.socket.close()


def test_a_reload_that_waits_for_a_name_keeps_nobody_waiting(maitred, echo, deaf_names):
    origin = echo()
    proxy = maitred(proxying(origin), wrapper=deaf_names.wrapper)
    peer = proxy.client()
    peer.get()
    proxy.configure(proxying(origin, "deaf.test:80", route="strip-prefix = yes"))
    proxy.signal(signal.SIGHUP)
    deaf_names.wait_question()
    began = time.monotonic()
    for _ in range(20):
        assert Told(peer.get()).server == "origin"
    assert time.monotonic() - began < 1
    proxy.wait_log(r" reloaded .*: 2 changes")
    assert "deaf.test:80 cannot be resolved" in proxy.errors
    assert shares(proxy, 4) == {"origin": 4}


def test_a_signal_that_comes_during_a_reload_is_not_lost(maitred, echo, deaf_names):
    """The file may have been read before it was changed."""
    origin = echo()
    proxy = maitred(proxying(origin), wrapper=deaf_names.wrapper)
    proxy.configure(proxying(origin, "deaf.test:80"))
    proxy.signal(signal.SIGHUP)
    deaf_names.wait_question()
    proxy.configure(proxying(echo("other")))
    proxy.signal(signal.SIGHUP)
    proxy.wait_log(r" reloaded .*: 3 changes", since=proxy.log.index(proxy.wait_log(r" reloaded .*: 1 change$")))
    assert shares(proxy, 4) == {"other": 4}


def test_sigterm_ends_it_while_a_reload_waits_for_a_name(maitred, echo, deaf_names):
    origin = echo()
    proxy = maitred(proxying(origin), wrapper=deaf_names.wrapper)
    proxy.get()
    proxy.configure(proxying("deaf.test:80"))
    proxy.signal(signal.SIGHUP)
    deaf_names.wait_question()
    proxy.terminate()
    assert proxy.wait(6) == 0
    assert not any(" reloaded " in line for line in proxy.log)


# --- nothing is left

# Without huge pages, of which the kernel makes one out of small ones whenever it likes: 2 MiB more, then.
SMALL_PAGES = [sys.executable, "-c", "import ctypes, os, sys\n"
               "assert ctypes.CDLL(None).prctl(41, 1, 0, 0, 0) == 0\n"     # PR_SET_THP_DISABLE
               "os.execvp(sys.argv[1], sys.argv[1:])"]


def test_hundreds_of_reloads_leave_nothing_behind(maitred, echo, short_directory):
    a, b, c = echo("a"), echo("b"), echo("c")
    extras = ["", tcp("two", address="127.0.0.1:{port2}"),
              listener('route "/" { pool = two }', address="127.0.0.1:{port2}"),
              listener('route "/" { pool = web }', address=f"unix:{short_directory}/front.sock")]

    def variant(n):
        web = pool("web", (a, f"weight = {n % 5 + 1}"), b if n % 2 else c,
                   options="idle-timeout = 50ms " + (health('path = "/healthz"') if n % 3 == 0 else ""))
        return (top(threads=2) + extras[n % 4] + web + pool(f"unused-{n % 7}", b) +
                pool("two", *[a, b, c][n % 3:], options="idle-timeout = 50ms") +
                listener(f'route "/" {{ pool = web }}  route "/{n}" {{ pool = two }}',
                         f'access-log = "{{dir}}/{n % 3}.log"'))
    proxy = maitred(variant(0), environment={"MALLOC_ARENA_MAX": "1"}, wrapper=SMALL_PAGES)

    def reload_often(count):
        peer = proxy.client()
        for number in range(1, count + 1):
            proxy.reload(variant(number % 100))
            assert peer.get().status == 200 and peer.get(f"/{number % 100}").status == 200
        peer.close()
        return proxy.memory()
    proxy.wait_log(" serves ")
    at_start = proxy.descriptors()
    memory = reload_often(200)
    grown = reload_often(200) - memory
    end = time.monotonic() + DEADLINE
    while len(proxy.descriptors()) > len(at_start):     # logs and kept connections go once a second
        assert time.monotonic() < end, f"{at_start} became {proxy.descriptors()}"
        time.sleep(0.02)
    assert process.is_sanitized() or grown <= 1024, f"{memory} KiB, {grown} more"


# --- by the admin interface

def test_the_admin_interface_reloads_and_says_what_changed(maitred, echo):
    a, b = echo("a"), echo("b")
    proxy = maitred(proxying(a) + admin())
    told = admin_of(proxy)
    proxy.configure(proxying((a, "weight = 3"), b, threads=2) + admin())
    response = told.reload()
    assert response.status == 200
    answer = json.loads(response.body)
    assert [f"server {a.at}: weight 1 -> 3" in answer["changes"][0], len(answer["changes"])] == [True, 2]
    assert len(answer["warnings"]) == 1 and "threads" in answer["warnings"][0]
    assert shares(proxy, 8) == {"a": 6, "b": 2}
    proxy.configure("nonsense {}\n")
    response = told.reload()
    assert response.status == 422
    answer = json.loads(response.body)
    assert re.search(r"maitred\.conf:1: ", answer["problems"][0]) and answer["error"]
    assert told.state()["config"]["reloads"] == 1 and told.state()["config"]["reloads_failed"] == 1


def test_counters_and_what_was_set_by_hand_stay(maitred, echo):
    a, b = echo("a"), echo("b")
    proxy = maitred(proxying(a, b) + admin())
    told = admin_of(proxy)
    shares(proxy, 10)
    assert told.server_action("drain", b.at).status == 200
    before = told.state()
    proxy.reload(proxying((a, "weight = 3"), b, options="retries = 0") + admin())
    state = told.state()
    assert told.server(a.at)["requests"] == 5 and told.server(b.at)["requests"] == 5
    assert told.server(b.at)["by_hand"] == {"drain": True}
    for key in ("requests", "statuses"):
        assert state["listeners"][0][key] == before["listeners"][0][key]
        assert state["listeners"][0]["routes"][0][key] == before["listeners"][0]["routes"][0][key]
    assert shares(proxy, 4) == {"a": 4}


def test_the_admin_listener_moves_while_it_is_asked_to(maitred, echo):
    origin = echo()
    proxy = maitred(proxying(origin) + admin())
    proxy.configure(proxying(origin) + admin(address="127.0.0.1:{port8}"))
    response = admin_of(proxy).reload()
    assert response.status == 200
    assert refuses(("127.0.0.1", proxy.port9))
    proxy.port9 = proxy.port8
    assert admin_of(proxy).get("/readyz").status == 200
