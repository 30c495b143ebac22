"""The bottleneck in the state: servers, one server, or nothing, each staged for real and ended again."""
import contextlib

import pytest

from kit.admin import admin_of
from kit.config import admin, listener, pool, top
from kit.staging import Cook, Teller, has, repeating

STEADY = 8      # seconds in which nothing may change


@pytest.fixture
def kitchen(stage):
    """kitchen(...): two servers, and a maitred with a pool of them."""
    def start(options="", seconds=(0.005, 0.005), status="200 OK"):
        cooks = [stage.add(Cook(f"cook{number}", each, status if number else "200 OK")) for number, each in enumerate(seconds)]
        proxy = stage.maitred(top(admin()) + listener('route "/" { pool = web }') + pool("web", *cooks, options=options))
        return proxy, cooks
    return start


def test_where_all_keep_up_there_is_none(kitchen):
    proxy, _ = kitchen("max-connections = 4")
    teller = Teller(admin_of(proxy))
    with repeating(proxy.get, 2, pause=0.02):
        told = teller.look()
        assert told == {"layer": "none", "name": None, "pool": None, "text": "nothing holds anything up", "figures": [],
                        "ended_s": None, "relief": [], "others": []}
        teller.stays(25)


@pytest.mark.parametrize("options, figures, relief", [
    ("max-connections = 1", ["which take 2 at a time", "wait in line"], ["higher max-connections", "more servers in pool web"]),
    ("max-connections = 1  max-queue = 0", ["are refused"], ["more servers in pool web", "a queue"]),
])
def test_busy_servers_are_told_while_requests_wait_or_are_refused(kitchen, options, figures, relief):
    proxy, _ = kitchen(options, seconds=(0.05, 0.05))
    teller = Teller(admin_of(proxy))
    teller.wait("none")
    with repeating(proxy.get, 10, pause=0.01):
        told = teller.wait("servers", "web")
        assert "busy" in told["text"]
        has(told["figures"], *figures)
        has(told["relief"], *relief)
        teller.stays(STEADY)
    teller.wait("none")


def test_without_a_limit_busy_servers_are_told_by_how_long_they_take(kitchen):
    proxy, _ = kitchen(seconds=(0.02, 0.02))
    teller = Teller(admin_of(proxy))
    with repeating(proxy.get, 1, pause=0.05):
        admin_of(proxy).wait(lambda state: state["pools"][0]["rate"] > 5, "a calm time")
        teller.stays(STEADY)
        with repeating(proxy.get, 30):
            told = teller.wait("servers", "web")
            assert "times as long as at best" in told["text"]
            has(told["figures"], "requests at 2 servers", "p95", "at its best")
            teller.stays(STEADY)
        teller.wait("none")


def crash(cook):
    cook.stop()
    yield
    cook.restart()


def slow(cook):
    cook.seconds, before = 0.2, cook.seconds
    yield
    cook.seconds = before


def failing(cook):
    cook.status, before = "503 Busy", cook.status
    yield
    cook.status = before


NO_EJECTION = "ejection { failures = 0 }  retries = 0"


@pytest.mark.parametrize("cause, options, text, figures", [
    (crash, "health { interval = 200ms  fast-interval = 100ms }", "is down", ["1 of 2 servers"]),
    (crash, "ejection { failures = 2  time = 2s }", "was put aside", ["put aside"]),
    (failing, NO_EJECTION, "fails, and the others do not", ["requests fail", "at the others 0.0/s"]),
    (slow, NO_EJECTION, "is slow", ["p95 ", "at 1 other "]),
], ids=["down", "ejected", "failing", "slow"])
def test_one_sick_server_is_told_among_healthy_ones(kitchen, cause, options, text, figures):
    proxy, (_, sick) = kitchen(options)
    teller = Teller(admin_of(proxy))
    with repeating(proxy.get, 4, pause=0.02):
        teller.wait("none")
        with contextlib.contextmanager(cause)(sick):
            told = teller.wait("server", sick.at)
            assert text in told["text"] and told["pool"] == "web"
            has(told["figures"], *figures)
            has(told["relief"], "look at its log")
            teller.stays(STEADY)
        teller.wait("none")


def test_servers_that_all_fail_are_told(kitchen):
    proxy, cooks = kitchen(NO_EJECTION)
    teller = Teller(admin_of(proxy))
    with repeating(proxy.get, 4, pause=0.02):
        teller.wait("none")
        with contextlib.ExitStack() as stack:
            for cook in cooks:
                stack.enter_context(contextlib.contextmanager(failing)(cook))
            told = teller.wait("servers", "web")
            assert told["text"].startswith("pool web fails")
            has(told["figures"], "requests fail", "at 2 of 2 servers")
            teller.stays(STEADY)
        teller.wait("none")
