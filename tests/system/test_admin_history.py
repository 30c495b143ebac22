"""The last 15 minutes, as the dashboard's lines need them."""
import threading
import time
from datetime import datetime, timezone

from kit.admin import admin_of
from kit.config import admin, listener, pool, tcp, top
from kit.queue import accepted, post, queue, stored
from kit.wire import DEADLINE, TimedOut

STEP, SAMPLES = 10, 90
FIGURES = {"listener": ["errors", "p95_ms", "rate"], "pool": ["errors", "p95_ms", "rate"],
           "queue": ["acked", "oldest_age", "published", "ready"]}


def wait_history(interface, condition, what, seconds=STEP + DEADLINE):
    pause, end = threading.Event(), time.monotonic() + seconds
    while not condition(told := interface.history()):
        if time.monotonic() > end:
            raise TimedOut(f"{what} did not happen: {told['series']}")
        pause.wait(0.1)
    return told


def last(told, series, figure):
    return told["series"].get(series, {}).get(figure, [None])[-1]


def known(told, series, figure):
    return [each for each in told["series"][series][figure] if each is not None]


def test_history_has_a_line_for_each_thing_with_gaps_where_nothing_was_known(maitred, echo):
    origin = echo()
    proxy = maitred(stored('route "/" { pool = web }\n    route "/orders" { queue = orders }', queue("orders"), pool("web", origin),
                           general=admin()))
    interface = admin_of(proxy)
    accepted(post(proxy))
    accepted(post(proxy))
    proxy.get("/")
    name = f"listener 127.0.0.1:{proxy.port}"
    told = wait_history(interface, lambda told: last(told, name, "rate") and last(told, "queue orders", "ready") == 2, "a sample")
    assert (told["step"], told["n"]) == (STEP, SAMPLES)
    began = datetime.strptime(told["from"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc).timestamp()
    newest = began + (SAMPLES - 1) * STEP
    assert newest - 1 <= time.time() <= newest + 2 * STEP + 1
    assert sorted(told["series"]) == sorted([f"listener 127.0.0.1:{proxy.port9}", name, "pool web", "queue orders"])
    for series, figures in told["series"].items():
        assert sorted(figures) == FIGURES[series.split()[0]]
        assert all(len(samples) == SAMPLES for samples in figures.values())
        assert all(samples[0] is None for samples in figures.values())
    assert 0 < last(told, "pool web", "rate") <= 1 and last(told, "pool web", "p95_ms") > 0
    assert last(told, name, "rate") > last(told, "pool web", "rate")
    assert last(told, "queue orders", "oldest_age") > 0 and last(told, "queue orders", "acked") == 0


def test_history_goes_on_over_a_reload_and_keeps_what_went(maitred, echo):
    origin = echo()

    def text(*pools, rest=""):
        return (top() + admin() + listener(f'route "/" {{ pool = {pools[0]} }}') +
                "".join(pool(name, origin) for name in pools) + rest)
    proxy = maitred(text("web", "old"))
    interface = admin_of(proxy)
    told = wait_history(interface, lambda told: last(told, "pool old", "rate") is not None, "a first sample")
    before = len(known(told, "pool web", "rate"))
    proxy.configure(text("web", "young"))
    assert interface.reload().status == 200
    told = wait_history(interface, lambda told: last(told, "pool young", "rate") is not None, "a sample after the reload")
    assert len(known(told, "pool web", "rate")) > before
    assert last(told, "pool old", "rate") is None and known(told, "pool old", "rate")
    assert len(known(told, "pool young", "rate")) == 1
