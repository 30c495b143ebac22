"""How many workers there are, and who goes when there are fewer."""
import os
import signal
import threading
import time
from datetime import datetime

import pytest

from kit.workers import Crew, house, is_there, path_of, section, tell_gauge


@pytest.fixture
def crew(maitred):
    def start(options, words="", general="", **others):
        return Crew(maitred(house(section(options, words), general, **others)))
    return start


FAST = "drain-target = 1s  cooldown = 2s  backlog-per-worker = 2"


def test_a_flood_makes_them_more_and_its_end_fewer(crew):
    crew = crew(f"min = 1  max = 4  {FAST}")
    crew.wait_running(1)

    ids = crew.publish(150, seconds=0.05)
    crew.wait(lambda crew: crew["running"] == 4, "growth", 20)
    crew.wait_ended(ids, 60)
    crew.wait_running(1, 90)

    begun = [rest for *_, rest in crew.notes("begin")]
    assert sorted(begun) == sorted(f"{number} 0" for number in ids)     # each once: nobody was ended in the middle of one
    assert sorted(crew.ended()) == ids
    assert [process["number"] for process in crew.processes()] == [1]   # the newest went first
    decisions = crew.get("/decisions")["decisions"]
    assert decisions[-1]["from"] == 1 and decisions[-1]["to"] > 1 and decisions[-1]["why"] == "grow"
    assert decisions[0]["to"] == 1 and decisions[0]["why"] == "shrink"
    assert all(before["from"] == after["to"] for before, after in zip(decisions, decisions[1:]))
    assert all(decision["inputs"]["ready"] >= 0 and decision["text"] for decision in decisions)
    told = [event["text"] for event in crew.events("workers-scaled")]
    assert told[0].startswith(f"workers crew: 1 -> {decisions[-1]['to']}: ") and " = " in told[0]


def test_a_backlog_is_gone_within_twice_the_ideal_time_and_they_do_not_flap(crew):
    """The ideal: as many as there may be from the first message on, once they have started. What scale_sim says of thousands of
    traces, with processes."""
    begin = time.monotonic()
    crew = crew(f"min = 1  max = 4  {FAST}")
    crew.wait_running(1)
    start = time.monotonic() - begin

    begin = time.monotonic()
    ids = crew.publish(300, seconds=0.05)
    published = time.monotonic() - begin
    crew.wait_ended(ids, 60)
    taken = time.monotonic() - begin
    others = crew.publish(100, seconds=0.05)        # while they may still be more than are needed
    crew.wait_ended(others, 60)
    crew.wait_running(1, 90)

    assert taken <= 2 * (max(published, 300 * 0.05 / 4) + start)
    assert sorted(crew.ended()) == ids + others     # each once
    decisions = [each for each in crew.get("/decisions")["decisions"][::-1] if each["to"] != each["from"]]
    turns = [after["time"] for before, after in zip(decisions, decisions[1:])
             if (before["to"] > before["from"]) != (after["to"] > after["from"])]
    times = [datetime.fromisoformat(turn).timestamp() for turn in turns]
    assert turns and all(after - before >= 2 for before, after in zip(times, times[1:])), turns


def test_one_with_a_message_stays_and_an_idle_one_goes(crew):
    crew = crew(f"min = 1  max = 3  {FAST}")
    gate = path_of(crew, "gate")
    long_one, = crew.publish(1, until=gate)
    crew.poll(lambda: crew.notes("begin"), "a message at work")
    crew.publish(60, seconds=0.02)
    crew.wait(lambda crew: crew["running"] == 3, "growth", 20)

    crew.wait(lambda crew: crew["running"] < 3 and crew["stopping"] == 0, "fewer", 60)
    busy, = [process for process in crew.processes() if process["in_flight"]]

    assert long_one not in crew.ended()
    assert busy["pid"] == crew.notes("begin")[0][0]
    open(gate, "w").close()
    crew.wait_ended([long_one])
    assert [rest for *_, rest in crew.notes("begin")].count(f"{long_one} 0") == 1


def test_the_last_goes_where_min_is_none_and_one_comes_for_a_message(crew):
    crew = crew(f"min = 0  max = 2  {FAST}")
    crew.wait(lambda crew: crew["desired"] == 0 and not crew["processes"], "nobody")

    crew.wait_ended(crew.publish(1), 15)
    crew.wait(lambda crew: not crew["processes"], "nobody again", 40)

    assert len(crew.pids()) == 1


def test_those_that_crash_are_not_made_more(crew):
    crew = crew(f"min = 1  max = 8  {FAST}", "fail_while_broken")
    crew.wait_running(1)
    crew.touch("broken")
    os.kill(crew.pids()[0], signal.SIGKILL)
    crew.wait(lambda crew: crew["crashes"] >= 3, "crashes")

    crew.publish(100)
    state = crew.wait(lambda crew: crew["decision"] and crew["decision"]["from"] == crew["decision"]["to"], "a decision")

    assert state["desired"] == 1 and state["state"] == "crashing"
    assert "crashed" in state["decision"]["text"]
    assert crew.events("workers-held")
    os.unlink(path_of(crew, "broken"))
    crew.wait_running(1, 40)


def test_a_full_gauge_holds_them_and_an_old_value_does_not(crew):
    crew = crew(f"min = 1  max = 4  gauge = connections  {FAST}",
                general='gauge connections { full = 20  unit = "connections"  expires = 4s }')
    crew.wait_running(1)
    stop = threading.Event()

    def keep_telling():
        while not stop.wait(0.5):
            tell_gauge(crew, "connections", 25)
    tell_gauge(crew, "connections", 25)
    teller = threading.Thread(target=keep_telling)
    teller.start()
    try:
        crew.publish(100, seconds=0.1)
        state = crew.wait(lambda crew: crew["decision"] is not None, "a decision")
        gauge, = crew.admin.state()["gauges"]
    finally:
        stop.set()
        teller.join()

    assert state["desired"] == 1 and state["state"] == "held"
    assert "gauge is full" in state["decision"]["text"]
    assert (gauge["name"], gauge["value"], gauge["full"], gauge["state"], gauge["reason"]) == \
        ("connections", 25, 20, "full", "25 of 20 connections")
    crew.wait(lambda crew: crew["desired"] > 1, "growth once the value is old", 15)
    gauge, = crew.admin.state()["gauges"]
    assert gauge["state"] == "unknown" and gauge["value"] is None
    assert crew.events("gauge-full") and crew.events("gauge-ok")


def test_a_gauge_takes_a_number_and_nothing_else(crew):
    crew = crew("min = 0  max = 1  gauge = load", general="gauge load { full = 0.75 }")

    assert tell_gauge(crew, "load", 0.5)["text"] == "gauge load: ok: 0.5 of 0.75"
    assert tell_gauge(crew, "load", -3)["text"] == "gauge load: ok: -3 of 0.75"
    assert tell_gauge(crew, "load", 0.75)["text"] == "gauge load: full: 0.75 of 0.75"
    for wrong in [b"", b"7", b'{"value": "7"}', b'{"value": 1e999}', b'{"value": null}', b"[" * 1000, b'{"value": 1} x']:
        assert "as in" in crew.post("/api/gauges/load", wrong, 400)["error"]
    assert "1024" in crew.post("/api/gauges/load", b" " * 3000, 413)["error"]
    assert "did you mean load" in tell_gauge(crew, "lod", 1, 404)["error"]
    gauge, = crew.admin.state()["gauges"]
    assert gauge["value"] == 0.75


def test_they_are_as_many_as_somebody_says_until_they_are_resumed(crew):
    crew = crew(f"min = 1  max = 3  {FAST}")
    crew.wait_running(1)

    crew.post("/api/workers/crew/set?count=3")
    state = crew.wait_running(3)
    assert state["state"] == "held" and "by hand" in state["reason"]
    assert crew.get("/desired")["desired"] == 3
    assert crew.get("/decisions")["decisions"][0]["why"] == "by-hand"
    crew.post("/api/workers/crew/set?count=2")
    crew.wait_running(2)
    crew.post("/api/workers/crew/pause")
    state = crew.wait(lambda crew: not crew["processes"], "nobody")
    assert state["state"] == "paused"
    ids = crew.publish(2)
    crew.post("/api/workers/crew/resume")
    crew.wait_ended(ids)

    assert "max, which is 3" in crew.post("/api/workers/crew/set?count=4", expect=400)["error"]
    assert "max" in crew.post("/api/workers/crew/set", expect=400)["error"]
    assert "did you mean crew" in crew.post("/api/workers/crw/pause", expect=404)["error"]
    assert [event["kind"] for event in crew.events("workers-paused") + crew.events("workers-resumed")] == \
        ["workers-paused", "workers-resumed"]


def test_a_pause_lets_them_finish_what_they_have(crew):
    crew = crew("min = 1  max = 1")
    gate = path_of(crew, "gate")
    crew.publish(1, until=gate)
    crew.publish(1)
    crew.poll(lambda: crew.notes("begin"), "a message at work")

    crew.post("/api/workers/crew/pause")
    crew.wait(lambda crew: crew["stopping"] == 1, "one that stops")
    open(gate, "w").close()
    crew.wait(lambda crew: not crew["processes"], "nobody")

    assert crew.ended() == [0]
    assert len(crew.notes("begin")) == 1


def test_a_restart_replaces_each(crew):
    crew = crew("min = 2  max = 3")
    crew.wait_running(2)
    before = crew.pids()

    crew.post("/api/workers/crew/restart")
    crew.poll(lambda: len(crew.pids()) == 4, "two others")
    crew.wait_running(2)

    assert not any(map(is_there, before))
    assert {process["pid"] for process in crew.processes()} == set(crew.pids()[2:])


def test_where_nothing_is_started_it_is_worked_out_all_the_same(maitred):
    crew = Crew(maitred(house("workers crew { queue = jobs  min = 0  max = 5  backlog-per-worker = 10  cooldown = 1s }")))
    crew.publish(30)

    desired = crew.poll(lambda: (told := crew.get("/desired"))["desired"] == 3 and told, "three")

    assert desired["max"] == 5 and "30" in desired["reason"]
    assert crew.get()["processes"] == []


def test_the_state_has_all_that_is_promised_of_workers(crew):
    crew = crew("min = 1  max = 2  gauge = load", general="gauge load { full = 5 }")
    crew.wait_running(1)
    crew.post("/api/workers/crew/set?count=2")
    crew.wait_running(2)

    state = crew.admin.state()

    section, = state["workers"]
    assert set(section) == {"name", "queue", "kind", "place", "state", "reason", "desired", "running", "busy", "idle", "starting", "stopping",
                            "backing_off", "min", "max", "slots", "in_flight", "service_time_ms", "arrival_rate", "handled_rate", "handled",
                            "starts", "crashes", "kills", "by_hand", "decision", "processes"}
    assert set(section["decision"]) == {"time", "from", "to", "text"}
    assert section["place"] == f"{crew.proxy.config}:9" and section["service_time_ms"] is None
    for number, process in enumerate(section["processes"], 1):
        assert set(process) == {"number", "pid", "state", "since", "in_flight", "handled", "restarts", "port", "reason"}
        assert (process["number"], process["port"], process["restarts"], process["reason"]) == (number, None, 0, "")
        assert process["pid"] in crew.pids()
    gauge, = state["gauges"]
    assert gauge == {"name": "load", "value": None, "full": 5, "unit": "", "state": "unknown", "age": None,
                     "reason": "nothing was told yet; POST /api/gauges/load"}
    assert set(crew.get("/desired")) == {"desired", "running", "min", "max", "reason"}


def test_what_is_told_of_workers_is_in_the_metrics(crew):
    crew = crew("min = 2  max = 3  gauge = load", general="gauge load { full = 5 }")
    crew.wait_running(2)
    crew.wait_ended(crew.publish(4))
    crew.wait(lambda crew: crew["handled"] == 4, "four handled")
    tell_gauge(crew, "load", 6)

    metrics = crew.admin.metrics()

    assert metrics.value("maitred_workers", workers="crew", state="idle") == 2
    assert metrics.sum("maitred_workers", workers="crew") == 2
    assert [metrics.value(f"maitred_workers_{name}", workers="crew") for name in ("desired", "min", "max")] == [2, 2, 3]
    assert metrics.value("maitred_workers_handled_total", workers="crew") == 4
    assert metrics.value("maitred_workers_starts_total", workers="crew") == 2
    assert metrics.value("maitred_workers_busy_seconds_total", workers="crew") > 0
    assert metrics.value("maitred_external_full", gauge="load") == 1


def test_workers_are_not_shown_without_the_token(maitred):
    proxy = maitred(house(section("min = 0")).replace("{  }", '{ token = "a-secret-of-somebody" }', 1))
    crew = Crew(proxy)

    crew.get(expect=401)
    crew.get("/desired", 401)
    crew.post("/api/workers/crew/pause", expect=401)
    crew.post("/api/gauges/load", b'{"value": 1}', 401)


def test_a_lower_max_holds_also_for_those_that_are_busy_once_they_have_finished(crew):
    crew = crew("min = 3  max = 3  stop-timeout = 60s")
    gate = path_of(crew, "gate")
    ids = crew.publish(20, until=gate)
    crew.wait(lambda crew: crew["busy"] == 3, "three at work")

    crew.proxy.reload(house(section("min = 1  max = 1  stop-timeout = 60s")))
    crew.wait(lambda crew: crew["stopping"] == 2, "two that stop, while more waits than they can do")
    crew.touch("gate")

    crew.wait_ended(ids)
    crew.wait_running(1)
    assert sorted(rest for *_, rest in crew.notes("begin")) == sorted(f"{number} 0" for number in ids)


def seen_to_arrive(crew, n=1, **message):
    """Publishes so many, every half a second, until a look has seen some arrive (the first may come before the first look)."""
    for _ in range(40):
        crew.publish(n, **message)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            if (state := crew.get())["arrival_rate"] > 0:
                return state
    raise AssertionError(f"nothing arrives: {state}")


def test_what_another_queue_had_before_is_not_taken_for_what_comes(crew):
    crew = crew("min = 1  max = 8", general="queue others {}")
    for _ in range(300):
        crew.post("/api/queues/others/publish", b"{}")
    crew.post("/api/queues/others/purge")

    crew.proxy.reload(house(section("min = 1  max = 8", queue="others"), "queue others {}"))
    crew.wait(lambda crew: crew["queue"] == "others", "the reload")
    crew.queue = "others"

    state = seen_to_arrive(crew)
    assert state["arrival_rate"] < 1 and state["desired"] == 1


def test_a_paused_queue_calls_nobody_in(crew):
    crew = crew(f"min = 1  max = 4  {FAST}")
    crew.wait_running(1)
    crew.post("/api/queues/jobs/pause")

    state = seen_to_arrive(crew, 25, until=path_of(crew, "gate"))
    assert state["desired"] == 1
    assert state["state"] == "held" and "queue jobs is paused" in state["reason"]
    crew.post("/api/queues/jobs/resume")

    crew.wait(lambda crew: crew["desired"] > 1, "growth", 20)
    crew.touch("gate")
    crew.wait_ended(range(25), 60)


def test_an_upgrade_brings_along_how_many_there_are_and_what_was_told(crew):
    crew = crew("min = 1  max = 4  gauge = load", general="gauge load { full = 10  expires = 1h }")
    crew.wait_running(1)
    tell_gauge(crew, "load", 12.5)
    crew.post("/api/workers/crew/set?count=3")
    crew.wait_running(3)

    crew.proxy.upgrade()
    state = crew.wait_running(3)
    gauge, = crew.admin.state()["gauges"]
    assert state["by_hand"] == "set" and state["desired"] == 3
    assert (gauge["value"], gauge["state"]) == (12.5, "full")
    crew.post("/api/workers/crew/resume")
    crew.proxy.upgrade()
    assert crew.wait_running(3)["by_hand"] is None
    crew.post("/api/workers/crew/pause")
    crew.proxy.upgrade()
    assert crew.get()["state"] == "paused" and not crew.get()["processes"]


def test_what_is_started_elsewhere_is_restarted_there(maitred):
    crew = Crew(maitred(house("workers crew { queue = jobs  max = 4 }")))

    assert "have no command" in crew.post("/api/workers/crew/restart", expect=409)["error"]
    assert "whoever starts them is told" in crew.post("/api/workers/crew/pause")["text"]
    assert crew.get("/desired")["desired"] == 0
