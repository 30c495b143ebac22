"""Queues as people look at them and change them by hand: the admin interface, and `maitred queue`."""
import json
import os
import re
import resource
import threading

import pytest

from kit import process
from kit.admin import admin_of
from kit.config import admin
from kit.queue import Worker, accepted, post, pushed, queue, status, stored, wait_state
from kit.wire import DEADLINE, TimedOut, request

ORDERS = 'route "/orders" { queue = orders }'
CLEAN = {name: value for name, value in os.environ.items() if name not in ("MAITRED_ADMIN", "MAITRED_TOKEN", "NO_COLOR")}


class Desk:
    """The admin interface of a maitred, as curl and as the command line see it."""

    def __init__(self, house):
        self.house = house
        self.admin = admin_of(house)
        self.at = f"127.0.0.1:{house.port9}"

    def call(self, method, target, body=b"", expect=200):
        response = self.admin.ask(method, target, f"Content-Length: {len(body)}", body=body)
        assert response.status == expect, response
        return json.loads(response.body)

    def get(self, target, expect=200):
        return self.call("GET", target, expect=expect)

    def post(self, target, body=b"", expect=200):
        return self.call("POST", target, body, expect)

    def queue(self, name):
        return self.get(f"/api/queues/{name}")

    def wait(self, name, wanted):
        """Until the queue is as wanted says."""
        pause = threading.Event()
        for _ in range(int(DEADLINE * 100)):
            told = self.queue(name)
            if wanted(told):
                return told
            pause.wait(0.01)
        raise TimedOut(f"queue {name} is {told}")

    def run(self, *arguments, **options):
        return process.run("queue", *arguments, env={**CLEAN, "MAITRED_ADMIN": self.at}, **options)


@pytest.fixture
def worker(stage):
    return stage.add(Worker())


@pytest.fixture
def house(maitred):
    """maitred with a queue that nobody reads, one of which messages die, and one for the dead."""
    def start(*sections, routes=ORDERS, **options):
        return maitred(stored(routes, *(sections or (queue("orders"), queue("dead"))), general=admin(), **options))
    return start


@pytest.fixture
def desk(house):
    return Desk(house())


def fill(desk, *bodies):
    return [accepted(post(desk.house, body=body)) for body in bodies]


# --- looking

def test_a_queue_says_what_is_in_it_and_where_it_is_declared(desk):
    fill(desk, b"soup", b"steak")
    told = desk.queue("orders")
    assert (told["name"], told["state"], told["ready"], told["in_flight"]) == ("orders", "unread", 2, 0)
    assert re.fullmatch(r".*maitred.conf:\d+", told["place"])
    assert (told["push"], told["dead_letter"], told["consumers"]) == (None, None, 0)
    assert 0 <= told["oldest_age"] < DEADLINE and told["bytes"] > 0
    assert told["drains_in"] is None
    assert told["totals"]["published"] == 2 and told["rates"]["published"] >= 0
    assert [each["name"] for each in desk.get("/api/queues")["queues"]] == ["orders", "dead"]
    state = desk.get("/api/state")
    assert [each["name"] for each in state["queues"]] == ["orders", "dead"]
    assert state["log"]["state"] == "ok" and state["log"]["confirmed"] == 2
    assert state["log"]["commit"]["p50_ms"] > 0


def test_topics_are_part_of_the_state(house):
    desk = Desk(house(queue("a"), queue("b"), "topic signed { queues = { a, b } }", routes='route "/" { topic = signed }'))
    accepted(post(desk.house))
    state = desk.get("/api/state")
    assert [(each["name"], each["queues"]) for each in state["topics"]] == [("signed", ["a", "b"])]
    assert [each["ready"] for each in state["queues"]] == [1, 1]


def test_without_a_queue_there_is_none_to_look_at(maitred):
    desk = Desk(maitred(stored('route "/" { respond = 204 }', general=admin())))
    state = desk.get("/api/state")
    assert (state["queues"], state["topics"], state["log"]) == ([], [], None)
    assert desk.get("/api/queues") == {"queues": []}
    assert "there is no queue here" in desk.get("/api/queues/orders", expect=409)["error"]
    text = desk.admin.get("/metrics").text
    assert "maitred_queue" not in text and "maitred_log" not in text


def test_a_queue_that_is_pushed_is_running_and_counts_what_went(house, worker):
    desk = Desk(house(pushed("orders", worker)))
    for location in fill(desk, b"1", b"2", b"3"):
        wait_state(desk.house, location, "done")
    told = desk.queue("orders")
    assert (told["state"], told["push"], told["consumers"]) == ("running", "orders-workers", 1)
    assert (told["totals"]["delivered"], told["totals"]["acked"], told["ready"]) == (3, 3, 0)
    assert (told["oldest_age"], told["drains_in"]) == (None, 0)


def test_a_push_whose_workers_are_not_there_rests(house, closed):
    desk = Desk(house(pushed("orders", closed())))
    fill(desk, b"1")
    told = desk.wait("orders", lambda each: each["state"] == "resting")
    assert told["resting"] == 1 and "usable" in told["reason"]


def test_a_queue_at_its_limit_is_full(house):
    desk = Desk(house(queue("orders", "max-length = 2")))
    fill(desk, b"1", b"2")
    assert post(desk.house).status == 503
    told = desk.queue("orders")
    assert (told["state"], told["limits"]["length"], told["totals"]["refused"]) == ("full", 2, 1)


def test_a_queue_that_left_the_file_is_shown_until_it_is_empty(desk):
    fill(desk, b"1")
    desk.house.config.write_text(desk.house.config.read_text().replace("queue orders {", "queue others {")
                                 .replace("queue = orders", "queue = others"))
    desk.post("/api/reload")
    assert (desk.queue("orders")["state"], desk.queue("orders")["place"]) == ("left", None)
    desk.post("/api/queues/orders/move?to=others")
    desk.post("/api/reload")
    desk.get("/api/queues/orders", expect=404)


def test_messages_are_shown_as_they_came_and_stay(desk):
    locations = [accepted(post(desk.house, "/orders/1?a=b", b"soup", "X-Table: 7"))] + fill(desk, b"\xff\x00", b"z" * 5000)
    shown = desk.get("/api/queues/orders/messages")["messages"]
    first, second, third = shown
    assert [f"/.maitred/messages/{each['id']}" for each in shown] == locations
    assert (first["method"], first["target"], first["body"], first["body_bytes"]) == ("POST", "/orders/1?a=b", "soup", 4)
    assert {"name": "X-Table", "value": "7"} in first["fields"]
    assert (first["attempts"], first["redelivered"], first["due"], first["deaths"]) == (0, False, None, [])
    assert (second["body"], second["body_bytes"]) == ("�\x00", 2)
    assert (len(third["body"]), third["body_bytes"]) == (4096, 5000)
    assert desk.queue("orders")["ready"] == 3
    again = desk.get(f"/api/queues/orders/messages?max=1&from={second['number']}")["messages"]
    assert [each["id"] for each in again] == [second["id"]]


def test_a_dead_message_says_how_it_died(house, worker):
    worker.say = [status(400)]
    desk = Desk(house(pushed("orders", worker, "dead-on = 400", "dead-letter = dead"), queue("dead")))
    fill(desk, b"soup")
    desk.wait("dead", lambda each: each["ready"] == 1)
    (shown,) = desk.get("/api/queues/dead/messages")["messages"]
    (death,) = shown["deaths"]
    assert (death["reason"], death["count"], death["queue"]) == ("rejected", 1, "orders")


def test_metrics_tell_of_queues_and_the_log(desk):
    fill(desk, b"1", b"2")
    metrics = desk.admin.metrics()
    assert metrics.value("maitred_queue_ready_messages", queue="orders") == 2
    assert metrics.value("maitred_queue_published_total", queue="orders") == 2
    assert metrics.value("maitred_queue_ended_total", queue="orders", reason="acked") == 0
    assert metrics.value("maitred_queue_oldest_age_seconds", queue="orders") > 0
    assert metrics.value("maitred_log_up") == 1 and metrics.value("maitred_log_confirmed_total") == 2
    assert metrics.value("maitred_log_appended_bytes_total") > 0 and metrics.value("maitred_log_segments") >= 1
    buckets = sorted((float(labels["le"]), value) for labels, value in metrics.all("maitred_log_commit_duration_seconds_bucket"))
    assert len(buckets) == 15 and [value for _, value in buckets] == sorted(value for _, value in buckets)
    assert buckets[-1][1] == metrics.value("maitred_log_commit_duration_seconds_count") > 0


# --- by hand

def test_a_message_is_published_by_hand_as_if_it_had_come(house, worker):
    desk = Desk(house(pushed("orders", worker)))
    told = desk.post("/api/queues/orders/publish?method=PUT&target=/orders/7%3Fa&field=X-Table:%207&field=X-Table:8", b"soup")
    assert re.fullmatch(r"published to queue orders as message [a-z2-7]{26}", told["text"])
    worker.wait_requests(1)
    got = worker.requests[0]
    assert (got.method, got.target, got.body, got.all("X-Table")) == ("PUT", "/orders/7?a", b"soup", ["7", "8"])
    wait_state(desk.house, "/.maitred/messages/" + told["text"].rsplit(" ", 1)[1], "done")


def test_a_message_published_by_hand_may_be_delayed(desk):
    desk.post("/api/queues/orders/publish?delay=3600")
    (shown,) = desk.get("/api/queues/orders/messages")["messages"]
    assert shown["due"] > shown["queued"]
    assert desk.queue("orders")["delayed"] == 1


@pytest.mark.parametrize("query, why", [
    ("method=a%20b", "method is one word"), ("target=x", "begins with a slash"), ("target=/a%20b", "visible ASCII"),
    ("target=/caf%C3%A9", "visible ASCII"),
    ("delay=soon", "whole number of seconds"), ("field=nothing", "Name: value"), ("field=a%20b:c", "Name: value"),
])
def test_what_cannot_be_published_is_said(desk, query, why):
    assert why in desk.post(f"/api/queues/orders/publish?{query}", expect=400)["error"]
    assert desk.queue("orders")["ready"] == 0


def test_publishing_to_a_full_queue_is_refused(house):
    desk = Desk(house(queue("orders", "max-length = 1")))
    desk.post("/api/queues/orders/publish")
    assert "full" in desk.post("/api/queues/orders/publish", expect=409)["error"]


def test_a_message_over_max_message_is_refused_by_hand_too(house):
    desk = Desk(house(queue("orders", "max-message = 1k")))
    assert "max-message" in desk.post("/api/queues/orders/publish", b"x" * 2000, expect=413)["error"]
    desk.post("/api/queues/orders/publish", b"x" * 500)


def test_a_paused_queue_takes_messages_and_delivers_none_also_after_a_restart(house, worker):
    desk = Desk(house(pushed("orders", worker)))
    assert desk.post("/api/queues/orders/pause")["text"].startswith("queue orders paused by hand")
    location, = fill(desk, b"1")
    assert desk.queue("orders")["state"] == "paused"
    desk.house.kill()
    desk.house.start_again()
    told = desk.queue("orders")
    assert (told["state"], told["ready"], worker.bodies) == ("paused", 1, [])
    desk.post("/api/queues/orders/resume")
    wait_state(desk.house, location, "done")
    assert desk.queue("orders")["state"] == "running"
    kinds = [each["kind"] for each in desk.get("/api/state")["events"]]
    assert "queue-resumed" in kinds


def test_a_purge_drops_what_waits_and_leaves_what_is_in_flight(house, worker):
    worker.hold()
    desk = Desk(house(pushed("orders", worker, "concurrency = 1")))
    first, second, third = fill(desk, b"1", b"2", b"3")
    worker.wait_requests(1)
    desk.wait("orders", lambda each: each["in_flight"] == 1)
    assert desk.post("/api/queues/orders/purge")["text"] == \
        "queue orders purged by hand: 2 messages dropped; 1 in flight stays"
    worker.release()
    wait_state(desk.house, first, "done")
    assert worker.bodies == [b"1"]
    assert desk.queue("orders")["totals"]["purged"] == 2
    assert "queue-purged" in [each["kind"] for each in desk.get("/api/state")["events"]]


def test_messages_are_moved_oldest_first_and_keep_their_name(desk):
    locations = fill(desk, b"1", b"2", b"3")
    assert desk.post("/api/queues/orders/move?to=dead&max=2")["text"] == "moved 2 messages by hand from queue orders to dead"
    shown = desk.get("/api/queues/dead/messages")["messages"]
    assert [each["body"] for each in shown] == ["1", "2"]
    assert [f"/.maitred/messages/{each['id']}" for each in shown] == locations[:2]
    assert desk.post("/api/queues/dead/move?to=orders")["text"] == "moved 2 messages by hand from queue dead to orders"
    assert [each["body"] for each in desk.get("/api/queues/orders/messages")["messages"]] == ["3", "1", "2"]


def test_more_than_a_turns_worth_is_moved(desk):
    peer = desk.house.client()
    for _ in range(2500):
        assert peer.ask(request("POST", "/orders", "Content-Length: 1", body=b"x")).status == 202
    assert desk.post("/api/queues/orders/move?to=dead")["text"].startswith("moved 2500 messages")
    assert (desk.queue("orders")["ready"], desk.queue("dead")["ready"]) == (0, 2500)


def test_a_move_to_a_full_queue_stops_and_says_how_far_it_came(house):
    desk = Desk(house(queue("orders"), queue("dead", "max-length = 1")))
    fill(desk, b"1", b"2")
    assert desk.post("/api/queues/orders/move?to=dead", expect=409)["error"] == \
        "queue dead is full; moved 1 message by hand from queue orders to dead"


@pytest.mark.parametrize("target, code, why", [
    ("/api/queues/order/pause", 404, "did you mean orders?"), ("/api/queues/zzzzzz/purge", 404, "GET /api/queues names all"),
    ("/api/queues/orders/move", 400, "?to="), ("/api/queues/orders/move?to=orders", 400, "to itself"),
    ("/api/queues/orders/move?to=deed", 404, "no queue deed; did you mean dead?"),
    ("/api/queues/order/move?to=dead", 404, "no queue order; did you mean orders?"),
    ("/api/queues/orders/move?to=dead&max=0", 400, "max"), ("/api/queues/order/publish", 404, "did you mean orders?"),
])
def test_a_wrong_call_says_what_is_wrong(desk, target, code, why):
    assert why in desk.post(target, expect=code)["error"]


@pytest.mark.parametrize("query, why", [("max=0", "1 to 100"), ("max=101", "1 to 100"), ("from=x", "number")])
def test_a_wrong_range_is_said(desk, query, why):
    assert why in desk.get(f"/api/queues/orders/messages?{query}", expect=400)["error"]


# --- the command

def test_list_and_show_print_what_there_is(desk):
    fill(desk, b"1")
    listed = desk.run("list")
    assert listed.returncode == 0 and re.search(r"^ orders +unread +1 +0 +0", listed.stdout, re.MULTILINE)
    assert [each["name"] for each in json.loads(desk.run("list", "--json").stdout)["queues"]] == ["orders", "dead"]
    shown = desk.run("show", "orders")
    assert "queue orders is unread: nobody takes its messages" in shown.stdout
    assert re.search(r"^messages +1 ready, 0 delayed", shown.stdout, re.MULTILINE)
    assert json.loads(desk.run("show", "orders", "--json").stdout)["ready"] == 1


def test_status_has_the_queues(desk):
    fill(desk, b"1")
    result = process.run("status", env={**CLEAN, "MAITRED_ADMIN": desk.at})
    assert re.search(r"^ orders +unread +1", result.stdout, re.MULTILINE) and "their log is ok" in result.stdout


def test_publish_peek_move_pause_resume_and_purge_from_the_command_line(desk, tmp_path):
    file = tmp_path / "body"
    file.write_bytes(b"steak")
    assert desk.run("publish", "orders", "--body", "soup", "--field", "X-Table: 7", "--target", "/orders/1").returncode == 0
    assert desk.run("publish", "orders", "--file", str(file), "--method", "PUT").returncode == 0
    assert desk.run("publish", "orders", "--delay", "3600").returncode == 0
    peeked = desk.run("peek", "orders", "--max", "2").stdout
    assert "POST /orders/1" in peeked and "X-Table: 7" in peeked and "soup" in peeked and "steak" in peeked
    assert len(json.loads(desk.run("peek", "orders", "--json").stdout)["messages"]) == 3
    assert desk.run("move", "orders", "dead", "--max", "1").stdout == "moved 1 message by hand from queue orders to dead\n"
    assert desk.run("pause", "orders").stdout.startswith("queue orders paused")
    assert desk.run("resume", "orders").stdout.startswith("queue orders resumed")
    assert desk.run("purge", "orders").stdout == "queue orders purged by hand: 2 messages dropped; 0 in flight stay\n"


@pytest.mark.parametrize("arguments, why", [
    ([], "say what"), (["lists"], "say what"), (["show"], "show takes"), (["list", "x"], "list takes"),
    (["peek", "orders", "--max"], "peek takes"), (["publish", "orders", "--body", "a", "--file", "b"], "publish takes"),
    (["publish", "orders", "--field"], "publish takes"), (["purge", "orders", "--max", "3"], "purge takes"), (["move", "orders"], "move takes"),
])
def test_wrong_arguments_are_said(desk, arguments, why):
    result = desk.run(*arguments)
    assert result.returncode == 2 and why in result.stderr


def test_a_queue_that_is_not_there_is_said_with_the_nearest(desk):
    result = desk.run("show", "order")
    assert (result.returncode, result.stderr) == (1, "maitred queue: there is no queue order; did you mean orders?\n")


def test_a_file_that_cannot_be_read_is_said(desk, tmp_path):
    result = desk.run("publish", "orders", "--file", str(tmp_path / "nothing"))
    assert result.returncode == 1 and "No such file" in result.stderr


# --- a log that failed

def test_a_log_that_failed_makes_readiness_red_and_says_why(desk):
    """Files may not be written any more: the disk fails under the log."""
    location, = fill(desk, b"1")
    resource.prlimit(desk.house.pid, resource.RLIMIT_FSIZE, (1, 1))
    refused = post(desk.house, body=b"2")
    assert refused.status == 503
    state = desk.admin.wait(lambda each: each["log"]["state"] == "failed", "the log fails")
    assert "File too large" in state["log"]["reason"] and state["state"] == "down"
    assert any(each.startswith("queue log: ") for each in state["reasons"])
    ready = desk.admin.get("/readyz")
    assert ready.status == 503 and b"down: queue log: " in ready.body and b"File too large" in ready.body
    assert desk.admin.metrics().value("maitred_log_up") == 0
    assert "log-failed" in [each["kind"] for each in state["events"]]
    assert "File too large" in desk.post("/api/queues/orders/pause", expect=503)["error"]
    assert desk.post("/api/queues/orders/publish", expect=503)["error"].startswith("the queue's log is closed")
    desk.house.kill()
    desk.house.start_again()
    wait_state(desk.house, location, "queued")
