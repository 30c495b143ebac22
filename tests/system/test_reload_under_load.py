"""Reloads while wrk drives 64 connections through maitred: not one request may fail, and nothing is left behind.

RELOADS=100 RELOAD_SECONDS=60 make more of it (20 in 5 s).
"""
import os
import random
import time

import pytest

from kit import process
from kit.config import listener, pool, tcp, top
from kit.load import Servers, Wrk, needs_wrk
from kit.wire import DEADLINE
from test_tunnels import echo_back, upgraded

RELOADS = int(os.environ.get("RELOADS", "20"))
SECONDS = float(os.environ.get("RELOAD_SECONDS", "5"))
STRATEGIES = ["round-robin", "least-connections", "ip-hash", "consistent-hash", "random-two", "least-latency"]
GROWTH_KIB = 4096


def config(chat, routes, servers, name="web", options="", more=""):
    return (top(threads=2) +
            listener(f'route "/" {{ pool = {name} }}  route "/chat" {{ pool = chat }}  {routes}') + more +
            pool(name, *servers, options="idle-timeout = 500ms  " + options) + pool("chat", chat))


def at_random(chat, servers, chance):
    """Other servers, weights, routes, and now and then another pool, strategy, health checks or listener."""
    chosen = chance.sample(servers.at, chance.randint(1, len(servers.at)))
    weighted = [(server, f"weight = {chance.randint(1, 9)}") for server in chosen]
    routes = "".join(f'route "/{chance.randint(0, 99)}/{n}" {{ respond = 200 }}  ' for n in range(chance.randint(0, 5)))
    more = listener('route "/" { respond = 200 }', address="127.0.0.1:{port2}") if chance.random() < 0.5 else ""
    options = f"balance = {chance.choice(STRATEGIES)}  "
    options += f"max-connections = {chance.choice([0, 0, 8, 20])}  queue-timeout = 10s  "
    if chance.random() < 0.3:
        options += f'health {{ path = "/"  interval = {chance.randint(100, 300)}ms  timeout = 5s }}'
    return config(chat, routes, weighted, chance.choice(["web", "net"]), options, more)


def settle(proxy, most):
    """Waits until no more than so many descriptors are open. What is kept or swept goes once a second."""
    end = time.monotonic() + DEADLINE
    while len(proxy.descriptors()) > most and time.monotonic() < end:
        time.sleep(0.02)
    return proxy.descriptors()


@needs_wrk
@pytest.mark.parametrize("seed", [int(os.environ.get("RELOAD_SEED", "7"))])
def test_reloads_under_load_cost_no_request_and_leave_nothing(stage, scripted, seed):
    chance = random.Random(seed)
    servers, chat = stage.add(Servers(4)), scripted(echo_back)
    plain = config(chat, "", servers.at)
    proxy = stage.maitred(plain)
    url = f"http://127.0.0.1:{proxy.port}/"
    proxy.wait_log(" serves ")
    talks = [upgraded(proxy) for _ in range(4)]
    at_start = proxy.descriptors()
    with Wrk(url, 1) as wrk:            # warms every cache there is
        for _ in range(4):
            proxy.reload(at_random(chat, servers, chance))
        assert wrk.count()[1] == {}
    proxy.reload(plain)
    settle(proxy, len(at_start))
    memory = proxy.memory()
    with Wrk(url, round(SECONDS + 1)) as wrk:
        began = time.monotonic()
        for number in range(RELOADS):
            time.sleep(max(0, began + number * SECONDS / RELOADS - time.monotonic()))
            proxy.reload(at_random(chat, servers, chance))
            for talk in talks:
                talk.send(b"still here")
                assert talk.read_exactly(10) == b"still here"
        assert wrk.runs()
        requests, failures = wrk.count()
    assert failures == {} and requests > 1000 * SECONDS, (requests, failures)
    proxy.reload(plain)
    left = settle(proxy, len(at_start))
    assert len(left) <= len(at_start), f"{at_start} became {left}"
    assert process.is_sanitized() or proxy.memory() <= memory + GROWTH_KIB


@needs_wrk
def test_a_port_that_changes_its_kind_of_listener_under_load_refuses_nobody(stage):
    """A connection for each request: so there is always one on its way to a thread that stops."""
    servers = stage.add(Servers(2))
    kinds = [top(threads=4) + kind + pool("web", *servers.at) for kind in
             (listener('route "/" { pool = web }'), tcp("web"))]
    proxy = stage.maitred(kinds[0])
    reloads = 0
    with Wrk(f"http://127.0.0.1:{proxy.port}/", 2, "Connection: close") as wrk:
        while wrk.runs():
            reloads += 1
            proxy.reload(kinds[reloads % 2])
            time.sleep(0.01)
        requests, failures = wrk.count()
    assert failures == {} and requests > 1000 and reloads > 10, (requests, failures, reloads)
