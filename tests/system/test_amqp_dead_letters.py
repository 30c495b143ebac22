"""AMQP: where messages go that were refused, grew old, or found no room, and what is written on them."""
import datetime
import time

import pytest
from pika.exceptions import NackError

from kit.amqp import bodies, count, get, publish, settle, wait_count


@pytest.fixture
def channel(amqp):
    return amqp.channel()


class Pair:
    """A queue, and the one that its dead letters go to."""

    def __init__(self, amqp, channel, arguments=None, key=True, **options):
        self.amqp, self.channel = amqp, channel
        self.dead = amqp.queue(channel)
        self.queue = amqp.queue_name()
        arguments = {"x-dead-letter-exchange": "", **(arguments or {})}
        if key:
            arguments["x-dead-letter-routing-key"] = self.dead
        channel.queue_declare(self.queue, arguments=arguments, **options)

    def reject(self):
        method = get(self.channel, self.queue, ack=False)[0]
        self.channel.basic_reject(method.delivery_tag, requeue=False)

    def death(self, **first):
        """The headers of the next dead letter, whose newest death must have these."""
        headers = get(self.channel, self.dead)[1].headers
        newest = headers["x-death"][0]
        assert {name: newest[name] for name in first} == first
        return headers


def test_a_rejected_message_tells_of_its_death(amqp, channel):
    pair = Pair(amqp, channel)
    before = datetime.datetime.utcnow().replace(microsecond=0)
    publish(channel, pair.queue, "soup", headers={"a": 1}, message_id="7", delivery_mode=2)
    pair.reject()
    method, properties, body = get(channel, pair.dead)
    assert (method.exchange, method.routing_key, method.redelivered, body) == ("", pair.dead, False, b"soup")
    assert (properties.message_id, properties.delivery_mode, properties.headers["a"]) == ("7", 2, 1)
    death, = properties.headers["x-death"]
    died = death.pop("time")
    assert before <= died <= before + datetime.timedelta(seconds=5)
    assert death == {"count": 1, "reason": "rejected", "queue": pair.queue, "exchange": "", "routing-keys": [pair.queue]}
    assert {name: properties.headers[f"x-first-death-{name}"] for name in ("queue", "reason", "exchange")} == {
        "queue": pair.queue, "reason": "rejected", "exchange": ""}


def test_nack_without_requeue_is_a_rejection(amqp, channel):
    pair = Pair(amqp, channel)
    publish(channel, pair.queue, "1", "2")
    for _ in range(2):
        tag = get(channel, pair.queue, ack=False)[0].delivery_tag
    channel.basic_nack(tag, multiple=True, requeue=False)
    pair.death(reason="rejected", count=1)
    pair.death(reason="rejected", count=1)


def test_what_is_given_back_does_not_die(amqp, channel):
    pair = Pair(amqp, channel)
    publish(channel, pair.queue, "soup")
    channel.basic_nack(get(channel, pair.queue, ack=False)[0].delivery_tag)
    assert bodies(channel, pair.queue, 1) == [b"soup"]
    assert count(channel, pair.dead) == 0


def test_a_message_that_outlived_its_own_time_loses_it(amqp, channel):
    pair = Pair(amqp, channel)
    publish(channel, pair.queue, "soup", expiration="10")
    _, properties, _ = get(channel, pair.dead)
    assert properties.expiration is None
    death, = properties.headers["x-death"]
    assert (death["reason"], death["original-expiration"]) == ("expired", "10")


def test_a_message_that_outlived_its_queues_time_has_none_to_lose(amqp, channel):
    pair = Pair(amqp, channel, {"x-message-ttl": 10})
    publish(channel, pair.queue, "soup")
    assert "original-expiration" not in pair.death(reason="expired")["x-death"][0]


def test_a_message_dies_of_anything_with_its_expiration_taken_off(amqp, channel):
    pair = Pair(amqp, channel)
    publish(channel, pair.queue, "soup", expiration="60000")
    pair.reject()
    _, properties, _ = get(channel, pair.dead)
    assert properties.expiration is None
    assert properties.headers["x-death"][0]["original-expiration"] == "60000"


@pytest.mark.parametrize("arguments, dies", [
    ({"x-max-length": 1}, b"1"), ({"x-max-length": 1, "x-overflow": "drop-head"}, b"1"),
    ({"x-max-length-bytes": 1}, b"1"), ({"x-max-length": 1, "x-overflow": "reject-publish-dlx"}, b"2"),
    ({"x-max-length": 1, "x-overflow": "reject-publish"}, None)])
def test_what_finds_no_room_dies_of_maxlen(amqp, channel, arguments, dies):
    pair = Pair(amqp, channel, arguments)
    publish(channel, pair.queue, "1", "2")
    if dies is None:
        settle(channel)
        assert bodies(channel, pair.queue) == [b"1"] and bodies(channel, pair.dead) == []
        return
    _, properties, body = get(channel, pair.dead)
    assert (body, properties.headers["x-death"][0]["reason"]) == (dies, "maxlen")
    assert properties.headers["x-first-death-reason"] == "maxlen"
    wait_count(channel, pair.queue, 1)


def test_a_rejected_publish_is_a_nack_even_if_it_becomes_a_dead_letter(amqp):
    channel = amqp.channel(confirm=True)
    pair = Pair(amqp, channel, {"x-max-length": 0, "x-overflow": "reject-publish-dlx"})
    with pytest.raises(NackError):
        publish(channel, pair.queue, "soup")
    pair.death(reason="maxlen")


def test_dead_letters_of_a_queue_without_a_key_keep_theirs(amqp, channel):
    dead, exchange = amqp.queue(channel), amqp.exchange(channel, "topic")
    channel.queue_bind(dead, exchange, "a.*")
    source, queue = amqp.exchange(channel, "topic"), amqp.queue(channel, {"x-dead-letter-exchange": exchange})
    channel.queue_bind(queue, source, "#")
    publish(channel, "a.b", "soup", exchange=source)
    channel.basic_reject(get(channel, queue, ack=False)[0].delivery_tag, requeue=False)
    method, properties, _ = get(channel, dead)
    assert (method.exchange, method.routing_key) == (exchange, "a.b")
    assert properties.headers["x-death"][0]["exchange"] == source
    assert properties.headers["x-death"][0]["routing-keys"] == ["a.b"]
    assert properties.headers["x-first-death-exchange"] == source


def test_copies_are_told_of_and_lost_when_the_queue_has_a_key(amqp, channel):
    pair = Pair(amqp, channel)
    publish(channel, pair.queue, "soup", headers={"CC": ["cc"], "BCC": ["bcc"]})
    pair.reject()
    headers = pair.death()
    assert headers["x-death"][0]["routing-keys"] == [pair.queue, "cc"]
    assert "CC" not in headers and "BCC" not in headers


def test_copies_go_along_when_the_queue_has_no_key(amqp, channel):
    dead, copies, exchange = amqp.queue(channel), amqp.queue(channel), amqp.exchange(channel)
    queue = amqp.queue(channel, {"x-dead-letter-exchange": exchange})
    channel.queue_bind(dead, exchange, queue)
    channel.queue_bind(copies, exchange, "cc")
    publish(channel, queue, "soup", headers={"CC": ["cc"], "BCC": ["bcc"]})
    channel.basic_reject(get(channel, queue, ack=False)[0].delivery_tag, requeue=False)
    for name in (dead, copies):
        headers = get(channel, name)[1].headers
        assert headers["CC"] == ["cc"] and headers["x-death"][0]["routing-keys"] == [queue, "cc"]


def test_deaths_are_counted_by_queue_and_reason_newest_first(amqp, channel):
    first, second = amqp.queue_name(), amqp.queue_name()
    channel.queue_declare(first, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": second})
    channel.queue_declare(second, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": first, "x-message-ttl": 10})
    publish(channel, first, "soup")
    for turn in range(4):
        method, properties, _ = get(channel, first, ack=False)
        if turn:
            assert [(each["queue"], each["reason"], each["count"]) for each in properties.headers["x-death"]] == [
                (second, "expired", turn), (first, "rejected", turn)]
            assert properties.headers["x-first-death-queue"] == first
        channel.basic_reject(method.delivery_tag, requeue=False)


def test_two_reasons_of_one_queue_are_two_deaths(amqp, channel):
    pair = Pair(amqp, channel)
    publish(channel, pair.queue, "soup")
    pair.reject()
    headers = pair.death()
    publish(channel, pair.queue, "soup", headers=headers, expiration="1")
    headers = pair.death(reason="expired", count=1)
    assert [(each["reason"], each["count"]) for each in headers["x-death"]] == [("expired", 1), ("rejected", 1)]
    assert headers["x-first-death-reason"] == "rejected"
    publish(channel, pair.queue, "soup", headers=headers)
    pair.reject()
    headers = pair.death(reason="rejected", count=2)
    assert [(each["reason"], each["count"]) for each in headers["x-death"]] == [("rejected", 2), ("expired", 1)]


def test_a_circle_that_nobody_rejects_in_is_cut(amqp, channel):
    queue = amqp.queue_name()
    channel.queue_declare(queue, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue, "x-message-ttl": 100})
    publish(channel, queue, "soup")
    wait_count(channel, queue, 1)
    wait_count(channel, queue, 0)
    time.sleep(0.2)
    assert count(channel, queue) == 0


def test_a_circle_with_a_rejection_in_it_goes_on(amqp, channel):
    queue = amqp.queue_name()
    channel.queue_declare(queue, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue})
    publish(channel, queue, "soup")
    for turn in range(5):
        method, properties, _ = get(channel, queue, ack=False)
        assert turn == 0 or properties.headers["x-death"][0]["count"] == turn
        channel.basic_reject(method.delivery_tag, requeue=False)


def test_an_exchange_that_is_not_there_takes_dead_letters_and_says_nothing(amqp, channel):
    queue = amqp.queue(channel, {"x-dead-letter-exchange": amqp.name()})
    publish(channel, queue, "lost", "soup")
    channel.basic_reject(get(channel, queue, ack=False)[0].delivery_tag, requeue=False)
    assert bodies(channel, queue, 1) == [b"soup"]


def test_purged_and_deleted_messages_do_not_die(amqp, channel):
    pair = Pair(amqp, channel)
    publish(channel, pair.queue, "1", "2")
    wait_count(channel, pair.queue, 2)
    channel.queue_purge(pair.queue)
    publish(channel, pair.queue, "3")
    wait_count(channel, pair.queue, 1)
    channel.queue_delete(pair.queue)
    time.sleep(0.1)
    assert count(channel, pair.dead) == 0


def test_what_was_expired_comes_in_order(amqp, channel):
    pair = Pair(amqp, channel, {"x-message-ttl": 50})
    publish(channel, pair.queue, *map(str, range(50)))
    assert bodies(channel, pair.dead, 50) == [b"%d" % number for number in range(50)]


def test_headers_that_a_client_made_up_are_kept(amqp, channel):
    pair = Pair(amqp, channel)
    publish(channel, pair.queue, "soup", headers={"x-death": [{"queue": "made-up", "reason": "rejected", "count": 7}]})
    pair.reject()
    headers = pair.death(queue=pair.queue, count=1)
    assert [(each["queue"], each["count"]) for each in headers["x-death"]] == [(pair.queue, 1), ("made-up", 7)]
    assert "x-first-death-queue" not in headers     # it was not the first


@pytest.mark.parametrize("value", ["text", [], 5, None], ids=["text", "empty", "number", "void"])
def test_a_made_up_death_that_is_none_is_replaced(amqp, channel, value):
    pair = Pair(amqp, channel)
    publish(channel, pair.queue, "soup", headers={"x-death": value})
    pair.reject()
    death, = pair.death()["x-death"]
    assert death["queue"] == pair.queue


def test_a_retry_after_a_pause_as_people_build_it(amqp, channel):
    """A work queue whose refused go to one that nobody consumes from, whose expired come back."""
    work, pause = amqp.queue_name("work"), amqp.queue_name("pause")
    channel.queue_declare(work, durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": pause})
    channel.queue_declare(pause, durable=True, arguments={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work, "x-message-ttl": 100})
    publish(channel, work, "soup", delivery_mode=2)
    for attempt in range(3):
        method, properties, body = get(channel, work, ack=False)
        deaths = (properties.headers or {}).get("x-death", [])
        assert sum(each["count"] for each in deaths if each["queue"] == work) == attempt
        channel.basic_nack(method.delivery_tag, requeue=False)
