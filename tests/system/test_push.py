"""Deliveries to a pool: what acknowledges, what is tried again, what dies; rate, concurrency, order."""
import json
import signal
import time

import pytest

from kit.origin import REQUEST, RESET, forever, steps
from kit.queue import Worker, accepted, post, pushed, queue, status, stored, wait_state
from kit.wire import answer

ORDERS = 'route "/orders" { queue = orders }'
QUICK = "retry { first = 20ms  most = 100ms  attempts = 3 }"


@pytest.fixture
def worker(stage):
    return stage.add(Worker())


def house(maitred, worker, push="", *options, more="", **general):
    return maitred(stored(ORDERS, pushed("orders", worker, push, *options), more, **general))


def test_what_fails_is_tried_again(maitred, worker):
    worker.say = [status(500), status(404)]
    proxy = house(maitred, worker, "", QUICK)
    location = accepted(post(proxy))
    told = wait_state(proxy, location, "done")
    assert told["queues"][0]["attempts"] == 3
    assert [each.get("Maitred-Attempt") for each in worker.requests] == ["1", "2", "3"]
    assert [each.get("Maitred-Redelivered") for each in worker.requests] == ["false", "true", "true"]


def test_the_last_attempt_leads_to_the_dead_letters(maitred, worker, stage):
    grave = stage.add(Worker("grave"))
    worker.say = lambda asked: status(500)
    proxy = house(maitred, worker, "", QUICK, "dead-letter = dead", more=pushed("dead", grave))
    location = accepted(post(proxy, body=b"late"))
    grave.wait_bodies(b"late")
    assert len(worker.requests) == 3
    death = json.loads(grave.requests[0].get("X-Death"))
    assert [(each["queue"], each["reason"], each["count"], each["routing-keys"]) for each in death] == \
        [("orders", "delivery_limit", 1, ["orders"])]
    assert grave.requests[0].get("Maitred-Message-Id") == worker.requests[0].get("Maitred-Message-Id")
    told = wait_state(proxy, location, "dead")
    assert told["queues"][0]["reason"] == "delivery_limit" and told["queues"][0]["attempts"] == 3


def test_a_deadly_answer_kills_at_once(maitred, worker):
    worker.say = [status(422)]
    proxy = house(maitred, worker, "dead-on = { 400, 410-451 }", QUICK, "dead-letter = dead", more=queue("dead"))
    told = wait_state(proxy, accepted(post(proxy)), "dead")
    assert told["queues"][0]["reason"] == "rejected" and len(worker.requests) == 1


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_heeded_and_costs_no_attempt(maitred, worker, code):
    worker.say = [status(code, "Retry-After: 1")] * 4
    proxy = house(maitred, worker, "concurrency = 1", QUICK, "dead-letter = dead", more=queue("dead"))
    start = time.monotonic()
    told = wait_state(proxy, accepted(post(proxy)), "done", seconds=12)
    assert told["queues"][0]["attempts"] == 1
    assert time.monotonic() - start >= 3.9
    assert len(worker.requests) == 5


def test_a_pool_that_is_down_costs_no_attempt(maitred, worker):
    worker.stop()
    proxy = house(maitred, worker, "", QUICK, "dead-letter = dead", more=queue("dead"))
    location = accepted(post(proxy))
    wait_state(proxy, location, "queued")
    worker.restart()
    told = wait_state(proxy, location, "done", seconds=12)
    assert told["queues"][0]["attempts"] == 1


def test_a_delivery_that_takes_too_long_is_tried_again(maitred, worker):
    worker.hold()
    proxy = house(maitred, worker, "timeout = 100ms", QUICK)
    location = accepted(post(proxy))
    worker.wait_requests(2)
    worker.release()
    assert wait_state(proxy, location, "done")["queues"][0]["attempts"] >= 2


def test_a_delivery_that_breaks_off_is_tried_again(maitred, scripted):
    clumsy = scripted([steps(REQUEST, RESET), steps(REQUEST, b"HTTP/1.1 200 OK\r\nContent-Le"),
                       forever(REQUEST, answer(b"done"))])
    proxy = house(maitred, clumsy, "", QUICK)
    told = wait_state(proxy, accepted(post(proxy, body=b"soup")), "done")
    assert told["queues"][0]["attempts"] == 3
    assert [(each.body, each.get("Maitred-Attempt")) for each in clumsy.requests] == \
        [(b"soup", "1"), (b"soup", "2"), (b"soup", "3")]


def test_no_more_than_concurrency_are_on_their_way(maitred, worker):
    worker.hold()
    proxy = house(maitred, worker, "concurrency = 3")
    locations = [accepted(post(proxy, body=b"%d" % number)) for number in range(9)]
    worker.wait_requests(3)
    states = [wait_state(proxy, each, "in flight" if i < 3 else "queued") for i, each in enumerate(locations)]
    assert len(states) == 9 and len(worker.requests) == 3
    worker.release()
    for location in locations:
        wait_state(proxy, location, "done")


def test_the_rate_is_kept(maitred, worker):
    proxy = house(maitred, worker, "rate = 50/s  concurrency = 50")
    for number in range(60):
        accepted(post(proxy, body=b"%d" % number))
    start = time.monotonic()
    worker.wait_requests(60)
    assert time.monotonic() - start <= 2.0
    first = len(worker.requests)
    for number in range(51):
        accepted(post(proxy, body=b"m%d" % number))
    start = time.monotonic()
    worker.wait_requests(first + 51)
    assert time.monotonic() - start >= 0.4


def test_messages_of_a_key_come_one_after_the_other(maitred, worker):
    worker.hold()
    proxy = house(maitred, worker, 'order-by = "header:X-Customer"  concurrency = 10')
    for number in range(6):
        accepted(post(proxy, "/orders", b"%d" % number, f"X-Customer: {number % 2}"))
    worker.wait_requests(2)
    assert sorted(worker.bodies) == [b"0", b"1"]
    worker.release()
    worker.wait_requests(6)
    for customer in 0, 1:
        assert [each for each in worker.bodies if int(each) % 2 == customer] == \
            [b"%d" % number for number in range(customer, 6, 2)]


def test_a_path_of_the_push_takes_the_place_of_the_requests(maitred, worker):
    proxy = house(maitred, worker, 'path = "/cook?hot=1"')
    accepted(post(proxy, "/orders/5"))
    worker.wait_requests(1)
    assert worker.targets == ["/cook?hot=1"]


def test_a_reload_changes_the_push_while_messages_are_on_their_way(maitred, worker, stage):
    other = stage.add(Worker("other"))
    worker.hold()
    proxy = house(maitred, worker, "concurrency = 1")
    for number in range(4):
        accepted(post(proxy, body=b"%d" % number))
    worker.wait_requests(1)
    lines = proxy.reload(stored(ORDERS, pushed("orders", other, "concurrency = 2")))
    assert any("queue orders: push: concurrency 1 -> 2" in line for line in lines)
    other.wait_bodies(b"1", b"2", b"3")
    worker.release()
    assert worker.bodies == [b"0"] and b"0" not in other.bodies


def test_an_end_waits_for_what_is_on_its_way_and_loses_nothing(maitred, worker):
    worker.hold()
    proxy = house(maitred, worker, "concurrency = 1", drain="20s")
    accepted(post(proxy, body=b"first"))
    accepted(post(proxy, body=b"second"))
    worker.wait_requests(1)
    proxy.signal(signal.SIGTERM)
    proxy.wait_log("draining")
    worker.release()
    assert proxy.wait() == 0
    proxy.start_again()
    worker.wait_bodies(b"second")
    assert worker.bodies == [b"first", b"second"]


def test_an_end_gives_up_what_is_on_its_way_for_too_long(maitred, worker):
    worker.hold()
    proxy = house(maitred, worker, drain="200ms")
    accepted(post(proxy, body=b"held"))
    worker.wait_requests(1)
    proxy.signal(signal.SIGTERM)
    assert proxy.wait(8) == 0
    worker.release()
    proxy.start_again()
    worker.wait_requests(2)
    assert worker.bodies == [b"held", b"held"]
    assert worker.requests[1].get("Maitred-Redelivered") == "true"


def test_two_signals_end_it_with_a_message_on_its_way(maitred, worker):
    worker.hold()
    proxy = house(maitred, worker, drain="60s")
    accepted(post(proxy, body=b"held"))
    worker.wait_requests(1)
    proxy.signal(signal.SIGTERM)
    proxy.wait_log("draining")
    proxy.signal(signal.SIGTERM)
    assert proxy.wait(8) == 0
    worker.release()
    proxy.start_again()
    worker.wait_requests(2)
    assert worker.requests[1].get("Maitred-Redelivered") == "true"


def test_an_upgrade_hands_the_queue_over(maitred, worker):
    proxy = house(maitred, worker, threads=2)
    accepted(post(proxy, body=b"before"))
    worker.wait_bodies(b"before")
    proxy.upgrade()
    location = accepted(post(proxy, body=b"after"))
    worker.wait_bodies(b"after")
    wait_state(proxy, location, "done")
    assert worker.bodies == [b"before", b"after"]
