"""Checks of servers: what is asked, how many results count, and what a server that is down is spared."""
import threading
import time

import pytest

from kit.config import proxying
from kit.origin import HANG, REQUEST, Told, steps, tell
from kit.wire import DEADLINE, answer, request

FAST = "interval = 60ms  fast-interval = 60ms  timeout = 2s"


def health(options):
    return f"health {{ {FAST}  {options} }}"


class Checked:
    """How an EchoOrigin answers its checks; everything else it tells."""

    def __init__(self, origin, path="/healthz", status="200 OK"):
        self.origin, self.path, self.status = origin, path, status
        self.history = []           # "ok", "bad" or "visit", in order
        origin.respond = self.respond

    def respond(self, asked):
        if asked.target != self.path:
            self.history.append("visit")
            return tell(asked)
        self.history.append("ok" if self.status.startswith("2") else "bad")
        return answer(b"", status=self.status)


def until(proxy, condition, what, seconds=DEADLINE):
    """Asks for / until the last ten answers fulfil the condition; all of the answers' servers."""
    seen = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        response = proxy.get()
        seen.append(Told(response).server if response.status == 200 else response.status)
        if len(seen) >= 10 and condition(seen[-10:]):
            return seen
    raise AssertionError(f"never {what}: ...{seen[-20:]}")


def only(*names):
    return lambda seen: set(seen) == set(names)


def test_a_check_asks_for_its_path(maitred, echo):
    origin = echo()
    checked = Checked(origin)
    maitred(proxying(origin, options=health('path = "/healthz"')))
    origin.wait_requests(2)
    asked = origin.requests[0]
    assert (asked.method, asked.target) == ("GET", "/healthz")
    assert asked.get("Host")
    assert asked.body == b""
    assert checked.history[:2] == ["ok", "ok"]


def test_a_check_may_name_a_host(maitred, echo):
    origin = echo()
    Checked(origin)
    maitred(proxying(origin, options=health('path = "/healthz"  host = "shop.example"')))
    origin.wait_requests(1)
    assert origin.requests[0].get("Host") == "shop.example"


def test_a_server_goes_down_after_fall_failures_and_up_after_rise_successes(maitred, echo):
    a, b = echo("a"), echo("b")
    Checked(a)
    checked = Checked(b)
    proxy = maitred(proxying(a, b, options=health('path = "/healthz"  fall = 4  rise = 3')))
    until(proxy, only("a", "b"), "both up")
    checked.history.clear()
    checked.status = "503 Service Unavailable"
    until(proxy, only("a"), "down")
    history = checked.history[:]
    last_visit = max((at for at, what in enumerate(history) if what == "visit"), default=0)
    failed = history[:last_visit].count("bad")
    assert failed in (3, 4), f"went down after {failed} failures: {history}"
    checked.status = "200 OK"
    until(proxy, only("a", "b"), "up again")
    history = checked.history[checked.history.index("ok", len(history)):]
    passed = history[:history.index("visit")].count("ok")
    assert passed in (3, 4), f"came back after {passed} successes: {history}"


def test_one_failed_check_is_not_the_end(maitred, echo):
    a, b = echo("a"), echo("b")
    Checked(a)
    checked = Checked(b)
    proxy = maitred(proxying(a, b, options=health('path = "/healthz"  fall = 3')))
    until(proxy, only("a", "b"), "both up")
    for _ in range(3):
        bad = checked.history.count("bad")
        checked.status = "500 Internal Server Error"
        b.wait(lambda: checked.history.count("bad") > bad, "failed check")
        checked.status = "200 OK"
        good = checked.history.count("ok")
        b.wait(lambda: checked.history.count("ok") > good, "good check")
        assert {Told(proxy.get()).server for _ in range(4)} == {"a", "b"}


@pytest.mark.parametrize("expected, status, up", [
    ("", "200 OK", True), ("", "302 Found", True), ("", "404 Not Found", False), ("", "500 Oh", False),
    ('expect-status = "204"', "200 OK", False), ('expect-status = "204"', "204 No Content", True),
    ('expect-status = "200-204"', "204 No Content", True), ('expect-status = "200-204"', "205 Reset", False),
    ('expect-status = "401"', "401 Who", True),
])
def test_the_status_decides(maitred, echo, expected, status, up):
    a, b = echo("a"), echo("b")
    Checked(a, status="204 No Content" if "204" in expected else "401 Who" if "401" in expected else "200 OK")
    Checked(b, status=status)
    proxy = maitred(proxying(a, b, options=health(f'path = "/healthz"  fall = 2  rise = 2  {expected}')))
    until(proxy, only("a", "b") if up else only("a"), "both" if up else "a alone")
    if up:
        b.wait(lambda: b.targets.count("/healthz") >= 5, "five checks")
        assert {Told(proxy.get()).server for _ in range(4)} == {"a", "b"}


def test_a_check_that_hangs_is_a_failure(maitred, echo, scripted):
    hanging = scripted(steps(REQUEST, HANG), name="hanging")
    proxy = maitred(proxying(echo("a"), hanging,
                             options='health { path = "/healthz"  interval = 50ms  fast-interval = 50ms  '
                                     'timeout = 80ms  fall = 2 }  retries = 0  response-timeout = 100ms'))
    until(proxy, only("a"), "without the one that hangs")


@pytest.mark.parametrize("sent", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n"],
                         ids=["nothing", "garbage", "lengths"])
def test_a_broken_answer_to_a_check_is_a_failure(maitred, echo, scripted, sent):
    broken = scripted(steps(REQUEST, sent), name="broken")
    a = echo("a")
    Checked(a)
    proxy = maitred(proxying(a, broken, options=health('path = "/healthz"  fall = 2') + " ejection { failures = 0 }"))
    until(proxy, only("a"), "without the broken one")


def test_a_body_in_the_answer_to_a_check_does_no_harm(maitred, echo):
    a = echo("a")
    a.respond = lambda asked: answer(b"x" * 100_000) if asked.target == "/healthz" else tell(asked)
    proxy = maitred(proxying(a, options=health('path = "/healthz"')))
    a.wait(lambda: a.targets.count("/healthz") >= 3, "three checks")
    assert Told(proxy.get()).server == "a"


def test_without_a_path_a_connection_is_enough(maitred, echo):
    a, b = echo("a"), echo("b")
    proxy = maitred(proxying(a, b, options=health("fall = 2  rise = 2") + " ejection { failures = 0 }"))
    until(proxy, only("a", "b"), "both up")
    b.stop()
    until(proxy, only("a"), "down")
    b.restart()
    until(proxy, only("a", "b"), "up again")
    assert all(target == "/" for target in b.targets), "a check without a path sent a request"


def test_a_server_that_is_down_gets_no_request_at_all(maitred, echo):
    a, b = echo("a"), echo("b")
    Checked(a)
    checked = Checked(b, status="500 Oh")
    proxy = maitred(proxying(a, b, options=health('path = "/healthz"  fall = 2')))
    until(proxy, only("a"), "down")
    visits = checked.history.count("visit")
    b.wait(lambda: checked.history.count("bad") >= 5, "five checks")
    for _ in range(20):
        assert Told(proxy.get()).server == "a"
    assert checked.history.count("visit") == visits


def test_all_down_is_503_with_retry_after_until_one_is_back(maitred, echo):
    a = echo("a")
    checked = Checked(a, status="500 Oh")
    proxy = maitred(proxying(a, options=health('path = "/healthz"  fall = 2  rise = 2')))
    until(proxy, only(503), "all down")
    assert int(proxy.get().get("Retry-After")) >= 1
    checked.status = "200 OK"
    until(proxy, only("a"), "back")


def test_each_server_is_checked_once_whatever_the_number_of_threads(maitred, echo):
    a = echo("a")
    checked = Checked(a)
    maitred(proxying(a, threads=4, options='health { path = "/healthz"  interval = 200ms }'))
    a.wait(lambda: checked.history.count("ok") >= 2, "two checks")
    began, count = time.monotonic(), checked.history.count("ok")
    a.wait(lambda: checked.history.count("ok") >= count + 4, "four more")
    assert time.monotonic() - began > 0.5, "checked more often than once in an interval"


def test_a_server_going_down_and_up_is_told_in_the_log(maitred, echo):
    a, b = echo("a"), echo("b")
    Checked(a)
    checked = Checked(b, status="500 Oh")
    proxy = maitred(proxying(a, b, options=health('path = "/healthz"  fall = 2')))
    address = b.at.replace(".", r"\.")
    proxy.wait_log(rf"{address}.* down")
    checked.status = "200 OK"
    proxy.wait_log(rf"{address}.* up")


def test_a_server_that_came_up_starts_slowly(maitred, echo):
    a, b = echo("a"), echo("b")
    Checked(a)
    checked = Checked(b, status="500 Oh")
    proxy = maitred(proxying(a, b, options=health('path = "/healthz"  fall = 1  rise = 1  slow-start = 60s')))
    until(proxy, only("a"), "down")
    checked.status = "200 OK"
    until(proxy, lambda last: "b" in last, "up again")
    seen = [Told(proxy.get()).server for _ in range(60)]
    assert seen.count("b") <= 15, f"full weight at once: {seen}"


def test_a_request_in_flight_survives_its_server_going_down(maitred, echo):
    a = echo("a")
    go = threading.Event()
    checked = Checked(a)
    respond = a.respond

    def slow(asked):
        if asked.target == "/slow":
            go.wait(10)
        return respond(asked)
    a.respond = slow
    proxy = maitred(proxying(a, options=health('path = "/healthz"  fall = 1')))
    peer = proxy.client().send(request("GET", "/slow"))
    a.wait(lambda: "/slow" in a.targets, "the slow request")
    checked.status = "500 Oh"
    until(proxy, only(503), "down")
    go.set()
    assert Told(peer.read_response()).target == "/slow"
