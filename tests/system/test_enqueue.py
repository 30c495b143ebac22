"""Routes that store requests: what is answered, what travels with the message, what becomes of it."""
import json
import re
import threading
import time

import pytest

from kit import process
from kit.admin import admin_of
from kit.config import admin, pool, servers
from kit.queue import Worker, accepted, post, pushed, queue, state_of, status, stored, wait_state
from kit.wire import DEADLINE, PeerGone, request

ORDERS = 'route "/orders" { queue = orders }'


@pytest.fixture
def worker(stage):
    return stage.add(Worker())


@pytest.fixture
def house(maitred, worker):
    """A queue that is pushed to the worker."""
    return maitred(stored(ORDERS, pushed("orders", worker)))


def test_a_request_is_answered_202_and_its_life_can_be_followed(maitred, worker):
    worker.hold()
    proxy = maitred(stored(ORDERS, pushed("orders", worker)))
    location = accepted(post(proxy, body=b"soup"))
    worker.wait_requests(1)
    told = wait_state(proxy, location, "in flight")
    assert told["state"] == "going" and told["queues"][0]["queue"] == "orders"
    worker.release()
    told = wait_state(proxy, location, "done")
    assert told["state"] == "done" and told["queues"][0]["attempts"] == 1
    assert told["queues"][0]["queued"] <= told["queues"][0]["ended"]


def test_method_target_fields_and_body_travel_with_the_message(house, worker):
    response = house.ask(request("PUT", "/orders/7?a=b&c", "Content-Length: 5", "X-Customer: 7", "X-Customer: 8",
                                 "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                                 "Connection: X-Hop", "X-Hop: gone", "X-Forwarded-For: 6.6.6.6", host="shop.test",
                                 body=b"he\0lo"))
    accepted(response)
    worker.wait_requests(1)
    got = worker.requests[0]
    assert (got.method, got.target, got.body) == ("PUT", "/orders/7?a=b&c", b"he\0lo")
    assert got.all("X-Customer") == ["7", "8"]
    assert got.get("traceparent") == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert got.get("Host") == "shop.test" and "X-Hop" not in got
    assert got.get("X-Forwarded-For") == "127.0.0.1"
    assert len(got.get("X-Request-Id")) == 32
    assert got.get("Maitred-Queue") == "orders" and got.get("Maitred-Attempt") == "1"
    assert got.get("Maitred-Message-Id") == json.loads(response.body)["id"]
    assert got.get("Maitred-Enqueued").endswith("Z") and got.get("Maitred-Redelivered") == "false"


@pytest.mark.parametrize("body", [b"", b"1", bytes(range(256)) * 2048], ids=["empty", "one", "large"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_bodies_come_whole(house, worker, body, chunked):
    if chunked:
        pieces = b"".join(b"%x\r\n%s\r\n" % (len(body[at:at + 5000]), body[at:at + 5000])
                          for at in range(0, len(body), 5000)) + b"0\r\n\r\n"
        accepted(house.ask(request("POST", "/orders", "Transfer-Encoding: chunked", body=pieces)))
    else:
        accepted(post(house, body=body))
    worker.wait_requests(1)
    assert worker.requests[0].body == body


def test_a_body_over_max_message_is_refused(maitred):
    proxy = maitred(stored(ORDERS, queue("orders", "max-message = 1k")))
    assert post(proxy, body=b"x" * 1025).status == 413
    pieces = b"400\r\n%s\r\n1\r\nx\r\n0\r\n\r\n" % (b"x" * 1024)
    assert proxy.ask(request("POST", "/orders", "Transfer-Encoding: chunked", body=pieces)).status == 413
    accepted(post(proxy, body=b"x" * 1024))


def test_the_status_of_what_never_was_is_404(house):
    assert house.get("/.maitred/messages/" + "a" * 26).status == 404
    assert house.get("/.maitred/messages/short").status == 404
    assert house.ask(request("DELETE", "/.maitred/messages/" + "a" * 26)).status == 405


def test_a_client_that_waits_gets_the_workers_answer(house, worker):
    worker.say = [status(201, "X-Dish: soup", "Content-Type: text/x-dish", body=b"hot")]
    response = post(house, "/orders", b"soup", "Prefer: wait=5")
    assert response.status == 200 and response.body == b"hot"
    assert response.get("X-Dish") == "soup" and response.get("Content-Type") == "text/x-dish"
    assert response.get("Preference-Applied") == "wait"


def test_a_client_that_waits_too_long_gets_202(house, worker):
    worker.hold()
    location = accepted(post(house, "/orders", b"soup", "Prefer: wait=1"))
    worker.release()
    wait_state(house, location, "done")


def test_nobody_waits_longer_than_max_wait(maitred, worker):
    worker.hold()
    proxy = maitred(stored('route "/orders" { queue = orders  max-wait = 10ms }', pushed("orders", worker)))
    accepted(post(proxy, "/orders", b"soup", "Prefer: wait=600"))


def test_a_client_that_waits_and_leaves_does_no_harm(house, worker):
    worker.hold()
    peer = house.client().send(request("POST", "/orders", "Content-Length: 4", "Prefer: wait=60", body=b"soup"))
    worker.wait_requests(1)
    peer.close()
    worker.release()
    wait_state(house, accepted(post(house)), "done")
    assert worker.bodies == [b"soup", b"x"]


def test_the_same_key_is_stored_once(house, worker):
    first = post(house, "/orders", b"one", "Idempotency-Key: k1")
    again = post(house, "/orders", b"two", "Idempotency-Key: k1")
    other = post(house, "/orders", b"three", "Idempotency-Key: k2")
    assert accepted(first) == accepted(again) != accepted(other)
    worker.wait_bodies(b"one", b"three")
    assert b"two" not in worker.bodies


def test_twins_with_a_key_are_stored_once(maitred):
    proxy = maitred(stored(ORDERS, queue("orders"), threads=2))
    answers = []
    twins = [threading.Thread(target=lambda: answers.append(post(proxy, "/orders", b"x", "Idempotency-Key: twin")))
             for _ in range(16)]
    for twin in twins:
        twin.start()
    for twin in twins:
        twin.join()
    assert len({accepted(each) for each in answers}) == 1


def test_a_key_is_remembered_over_a_crash(maitred):
    proxy = maitred(stored(ORDERS, queue("orders")))
    location = accepted(post(proxy, "/orders", b"x", "Idempotency-Key: k"))
    proxy.kill()
    proxy.start_again()
    assert accepted(post(proxy, "/orders", b"x", "Idempotency-Key: k")) == location


def test_what_was_not_answered_in_a_crash_is_stored_once_when_it_is_asked_again(maitred):
    proxy = maitred(stored(ORDERS, queue("orders"), general=admin(), threads=2))
    unanswered = 0
    for crash in range(5):
        keys = [f"{crash}-{number}" for number in range(40)]
        asked = [request("POST", "/orders", f"Idempotency-Key: {key}", body=key.encode()) for key in keys]
        peers = [proxy.client() for _ in keys]
        for peer, raw in zip(peers, asked):
            peer.send(raw)
        peers[crash * 5].read_response()
        proxy.kill()
        first = [answer_or_none(peer) if number != crash * 5 else "answered" for number, peer in enumerate(peers)]
        unanswered += first.count(None)
        proxy.start_again()
        again = [accepted(proxy.ask(raw)) for raw in asked]
        assert all(each in (None, "answered", location) for each, location in zip(first, again))
    print(f"{unanswered} of {5 * 40} were not answered")
    told = json.loads(admin_of(proxy).get("/api/queues/orders").body)
    assert told["ready"] == 5 * 40


def answer_or_none(peer):
    try:
        return accepted(peer.read_response())
    except PeerGone:
        return None


def test_a_full_queue_refuses_with_503(maitred):
    proxy = maitred(stored(ORDERS, queue("orders", "max-length = 2")))
    accepted(post(proxy))
    accepted(post(proxy))
    response = post(proxy)
    assert response.status == 503 and response.get("Retry-After") == "1"


def test_a_full_queue_drops_its_oldest(maitred):
    proxy = maitred(stored(ORDERS, queue("orders", "max-length = 2", "overflow = drop-oldest")))
    locations = [accepted(post(proxy)) for _ in range(3)]
    told = state_of(proxy, locations[0])
    assert told["state"] == "dead" and told["queues"][0]["reason"] == "maxlen"
    assert [state_of(proxy, each)["state"] for each in locations[1:]] == ["going", "going"]


def test_a_full_queue_buries_its_oldest(maitred, worker):
    proxy = maitred(stored(ORDERS, queue("orders", "max-length = 1", "overflow = dead-letter", "dead-letter = dead"),
                           pushed("dead", worker)))
    accepted(post(proxy, body=b"old"))
    accepted(post(proxy, body=b"new"))
    worker.wait_bodies(b"old")
    death = json.loads(worker.requests[0].get("X-Death"))
    assert [(each["queue"], each["reason"], each["count"]) for each in death] == [("orders", "maxlen", 1)]


def test_a_delayed_message_comes_later(maitred, worker):
    proxy = maitred(stored('route "/orders" { queue = orders }  route "/later" { queue = orders  delay = 300ms }',
                           pushed("orders", worker)))
    location = accepted(post(proxy, "/later", b"later"))
    assert state_of(proxy, location)["queues"][0]["state"] == "delayed"
    accepted(post(proxy, "/orders", b"now"))
    worker.wait_requests(2)
    assert worker.bodies == [b"now", b"later"]


def test_a_delay_is_kept_over_a_crash(maitred, worker):
    proxy = maitred(stored('route "/later" { queue = orders  delay = 2s }', pushed("orders", worker)))
    begun = time.monotonic()
    location = accepted(post(proxy, "/later", b"later"))
    proxy.kill()
    proxy.start_again()
    assert state_of(proxy, location)["queues"][0]["state"] == "delayed"
    worker.wait_requests(1)
    assert time.monotonic() - begun >= 2
    wait_state(proxy, location, "done")


def test_one_event_reaches_every_reader_and_readers_come_and_go(maitred, stage):
    first, second = stage.add(Worker("first")), stage.add(Worker("second"))
    route = 'route "/signup" { topic = signup }'
    both = pushed("a", first) + pushed("b", second)
    proxy = maitred(stored(route, both, "topic signup { queues = { a } }"))
    location = accepted(post(proxy, "/signup", b"1"))
    first.wait_bodies(b"1")
    proxy.reload(stored(route, both, "topic signup { queues = { a, b } }"))
    location = accepted(post(proxy, "/signup", b"2"))
    first.wait_bodies(b"2")
    second.wait_bodies(b"2")
    assert [each["queue"] for each in state_of(proxy, location)["queues"]] == ["a", "b"]
    proxy.reload(stored(route, both, "topic signup { queues = { b } }"))
    accepted(post(proxy, "/signup", b"3"))
    second.wait_bodies(b"3")
    assert b"1" not in second.bodies and b"3" not in first.bodies


def fan(*readers):
    """A topic with these queues, which are given as text."""
    names = re.findall(r"^queue (\w+)", "".join(readers), re.MULTILINE)
    return (*readers, f"topic signup {{ queues = {{ {', '.join(names)} }} }}")


SIGNUP = 'route "/signup" { topic = signup }'


def test_fifty_readers_share_one_copy_of_a_body(maitred, worker):
    """An event costs the log its bytes and a little for each reader; each of them has it whole, also after a crash."""
    readers = [queue(f"reader{number}") for number in range(50)]
    proxy = maitred(stored(SIGNUP, *fan(*readers), general=admin()))
    desk = admin_of(proxy)
    bodies = [b"%d " % number + bytes([97 + number % 26]) * 20_000 for number in range(100)]
    before = desk.metrics().value("maitred_log_appended_bytes_total")
    for body in bodies:
        accepted(post(proxy, "/signup", body))
    appended = desk.metrics().value("maitred_log_appended_bytes_total") - before
    # Records end at a segment's end: up to one of them is room that is left there, in 1 MiB.
    assert sum(map(len, bodies)) <= appended <= len(bodies) * (20_000 + 50 * 16 + 500) + 3 * 21_000
    proxy.kill()
    proxy.configure(stored(SIGNUP, *fan(*readers[:-1], pushed("reader49", worker)), general=admin()))
    proxy.start_again()
    worker.wait_bodies(*bodies)
    desk.wait(lambda state: [each["ready"] for each in state["queues"]] == [100] * 49 + [0], "all but the last one wait")
    for number in (0, 25, 48):
        shown = json.loads(desk.get(f"/api/queues/reader{number}/messages?max=100").body)["messages"]
        assert [(each["body"], each["body_bytes"]) for each in shown] == [(body[:4096].decode(), len(body)) for body in bodies]


class Producer(threading.Thread):
    """Publishes one event after the other over a connection that it keeps, from 0 on, until its end. Its first failure is
    its last."""

    def __init__(self, peer):
        super().__init__(daemon=True)
        self.peer, self.answers, self.ending = peer, [], False
        self.failure = None
        self.news = threading.Condition()

    def run(self):
        try:
            while not self.ending:
                answered = self.peer.ask(request("POST", "/signup", body=b"%d" % len(self.answers)))
                with self.news:
                    self.answers.append(answered)
                    self.news.notify_all()
        except AssertionError as error:
            self.failure = error

    def wait_more(self, count):
        """Until so many more were answered. Returns how many were by then."""
        with self.news:
            wanted = len(self.answers) + count
            assert self.news.wait_for(lambda: len(self.answers) >= wanted, DEADLINE), self.failure
            return len(self.answers)

    def end(self):
        self.ending = True
        self.join()


def test_a_producer_does_not_notice_a_reader_that_a_reload_adds(maitred, stage):
    """The new one gets everything from a moment within the reload on; those that were there miss nothing."""
    old, new = stage.add(Worker("old")), stage.add(Worker("new"))
    waiting = [queue(f"reader{number}") for number in range(49)]
    proxy = maitred(stored(SIGNUP, *fan(*waiting, pushed("old", old, "concurrency = 1")), threads=2, general=admin()))
    producer = Producer(proxy.client())
    producer.start()
    before = producer.wait_more(100)
    proxy.reload(stored(SIGNUP, *fan(*waiting, pushed("old", old, "concurrency = 1"), pushed("new", new, "concurrency = 1")),
                        threads=2, general=admin()))
    after = producer.wait_more(1)
    producer.wait_more(100)
    producer.end()
    assert producer.failure is None
    assert all(each.status == 202 and (each.get("Connection") or "") != "close" for each in producer.answers)
    count = len(producer.answers)
    old.wait_requests(count)
    assert old.bodies == [b"%d" % number for number in range(count)]
    new.wait(lambda: new.bodies and new.bodies[-1] == b"%d" % (count - 1), "the last event")
    first = int(new.bodies[0])
    assert before <= first <= after
    assert new.bodies == [b"%d" % number for number in range(first, count)]
    state = admin_of(proxy).state()
    assert {each["name"]: each["ready"] for each in state["queues"]} == \
        {**{f"reader{number}": count for number in range(49)}, "old": 0, "new": 0}


def test_a_queue_that_left_the_file_keeps_its_messages(maitred, worker):
    proxy = maitred(stored(ORDERS, queue("orders"), queue("other")))
    accepted(post(proxy, body=b"kept"))
    proxy.reload(stored('route "/" { respond = 200 }', queue("other")))
    proxy.reload(stored(ORDERS, pushed("orders", worker), queue("other")))
    worker.wait_bodies(b"kept")


SPILLING = 'route "/orders" {{ pool = web  queue = orders  spill = {} }}'


@pytest.mark.parametrize("body", [b"small", b"x" * 200_000], ids=["small", "large"])
@pytest.mark.parametrize("rule", ["down", "saturated"])
def test_what_a_pool_that_is_down_cannot_take_is_stored(maitred, scripted, worker, rule, body):
    from kit.origin import Closed
    closed = Closed()
    proxy = maitred(stored(SPILLING.format(rule), pool("web", closed, options="queue-timeout = 100ms"),
                           pushed("orders", worker)))
    accepted(post(proxy, body=body))
    worker.wait_bodies(body)
    closed.stop()


def test_what_a_full_pool_cannot_take_is_stored_by_saturated_alone(maitred, echo, worker):
    origin = echo()
    origin.hold()
    web = f"pool web {{\n{servers(origin)}\n max-connections = 1  max-queue = 0 }}\n"
    routes = (SPILLING.format("saturated") +
              '  route "/strict" { pool = web  queue = orders  spill = down }')
    proxy = maitred(stored(routes, web, pushed("orders", worker)))
    held = proxy.client().send(request("POST", "/orders", "Content-Length: 1", body=b"h"))
    origin.wait_requests(1)
    accepted(post(proxy, body=b"spilled"))
    assert post(proxy, "/strict").status == 503
    worker.wait_bodies(b"spilled")
    origin.release()
    assert held.read_response().status == 200


def test_a_client_may_choose_the_queue(maitred, echo, worker):
    origin = echo()
    proxy = maitred(stored('route "/orders" { pool = web  queue = orders }', pool("web", origin),
                           pushed("orders", worker)))
    assert post(proxy).status == 200
    response = post(proxy, "/orders", b"x", "Prefer: respond-async")
    accepted(response)
    assert response.get("Preference-Applied") == "respond-async"
    worker.wait_requests(1)
    assert len(origin.requests) == 1


def test_more_than_is_held_at_a_time_waits_at_the_sockets(maitred):
    """Bodies of 300 MB come at once; a thread holds 64 MiB of them, and the rest waits with its clients."""
    proxy = maitred(stored(ORDERS, queue("orders", "max-message = 2m"), general=admin())
                    .replace("state-segment = 1m", "state-segment = 16m"))
    body = b"x" * 1_000_000
    raw = request("POST", "/orders", f"Content-Length: {len(body)}", body=body)
    peers = [proxy.client() for _ in range(300)]
    senders = [threading.Thread(target=peer.send, args=(raw,)) for peer in peers]
    for sender in senders:
        sender.start()
    for peer in peers:
        accepted(peer.read_response(seconds=60))
    for sender in senders:
        sender.join()
    told = json.loads(admin_of(proxy).get("/api/queues/orders").body)
    assert told["ready"] == len(peers)
    if not process.is_sanitized():
        assert proxy.memory("VmHWM") < 160 << 10
