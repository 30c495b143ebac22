"""AMQP: how long messages and queues last, how many fit in, which come first, and who alone may consume."""
import time

import pytest

from kit.amqp import Consumer, bodies, count, get, is_there, publish, settle, wait_count


@pytest.fixture
def channel(amqp):
    return amqp.channel()


# --- how long messages last

def test_a_message_is_gone_after_its_queues_time(amqp, channel):
    queue = amqp.queue(channel, {"x-message-ttl": 300})
    publish(channel, queue, "1", "2")
    wait_count(channel, queue, 2)
    wait_count(channel, queue, 0)
    assert channel.basic_get(queue)[0] is None


def test_a_message_is_gone_after_its_own_time(amqp):
    channel = amqp.channel(confirm=True)
    queue = amqp.queue(channel)
    publish(channel, queue, "short", expiration="200")
    publish(channel, queue, "long", expiration="60000")
    publish(channel, queue, "for ever")
    wait_count(channel, queue, 2)
    assert bodies(channel, queue) == [b"long", b"for ever"]


def test_the_shorter_of_both_times_holds(amqp, channel):
    first, second = amqp.queue(channel, {"x-message-ttl": 200}), amqp.queue(channel, {"x-message-ttl": 60000})
    publish(channel, first, "x", expiration="60000")
    publish(channel, second, "x", expiration="200")
    wait_count(channel, first, 0)
    wait_count(channel, second, 0)


@pytest.mark.parametrize("how", ["queue", "message"])
def test_a_time_of_0_leaves_only_a_waiting_consumer(amqp, channel, how):
    queue = amqp.queue(channel, {"x-message-ttl": 0} if how == "queue" else {})
    expiration = {} if how == "queue" else {"expiration": "0"}
    publish(channel, queue, "lost", **expiration)
    assert channel.basic_get(queue)[0] is None
    consumer = Consumer(channel, queue)
    publish(channel, queue, "soup", **expiration)
    assert consumer.wait(1) == [b"soup"]


def test_what_is_not_acknowledged_does_not_expire(amqp, channel):
    queue = amqp.queue(channel, {"x-message-ttl": 200})
    publish(channel, queue, "1", "2")
    held = get(channel, queue, ack=False)[0]
    wait_count(channel, queue, 0)
    channel.basic_ack(held.delivery_tag)
    settle(channel)


def test_what_is_given_back_after_its_time_is_gone(amqp, channel):
    queue = amqp.queue(channel, {"x-message-ttl": 300})
    publish(channel, queue, "1", "2")
    held = get(channel, queue, ack=False)[0]
    wait_count(channel, queue, 1)
    wait_count(channel, queue, 0)
    channel.basic_nack(held.delivery_tag)
    wait_count(channel, queue, 0)
    assert channel.basic_get(queue)[0] is None


def test_a_message_behind_one_that_lasts_waits_for_its_turn_to_go(amqp, channel):
    """Time is looked at where messages leave, and nowhere else."""
    queue = amqp.queue(channel)
    publish(channel, queue, "lasts")
    publish(channel, queue, "short", expiration="1")
    wait_count(channel, queue, 2)
    channel.connection.sleep(0.2)
    assert count(channel, queue) == 2
    assert bodies(channel, queue) == [b"lasts"]


def test_an_expiration_stays_with_its_message(amqp, channel):
    queue = amqp.queue(channel, {"x-message-ttl": 50000})
    publish(channel, queue, "x", expiration="60000")
    assert get(channel, queue)[1].expiration == "60000"


# --- how long queues last

def test_a_queue_that_nobody_uses_is_gone_after_its_time(amqp, channel):
    queue = amqp.queue(channel, {"x-expires": 300})
    publish(channel, queue, "lost")
    wait_gone_quietly(amqp, queue)


def wait_gone_quietly(amqp, queue, seconds=5):
    """Looking is using: one look after a while, again and again after a longer one."""
    pause = 0.6
    while seconds > 0:
        time.sleep(pause)
        if not is_there(amqp, queue):
            return
        seconds -= pause
        pause *= 1.5
    raise AssertionError(f"{queue} is still there")


@pytest.mark.parametrize("use", ["declare", "get"])
def test_a_queue_that_is_declared_or_got_from_lives_longer(amqp, channel, use):
    queue = amqp.queue(channel, {"x-expires": 800})
    for _ in range(6):
        time.sleep(0.25)
        if use == "declare":
            channel.queue_declare(queue, arguments={"x-expires": 800})
        else:
            channel.basic_get(queue)
    assert is_there(amqp, queue)


def test_a_queue_that_has_a_consumer_does_not_expire(amqp, channel):
    queue = amqp.queue(channel, {"x-expires": 300})
    consumer = Consumer(channel, queue)
    channel.connection.sleep(1)
    assert is_there(amqp, queue)
    channel.basic_cancel(consumer.tag)
    wait_gone_quietly(amqp, queue)


# --- how many fit in

def test_the_oldest_leave_when_there_are_too_many(amqp, channel):
    queue = amqp.queue(channel, {"x-max-length": 3})
    publish(channel, queue, *map(str, range(10)))
    assert bodies(channel, queue) == [b"7", b"8", b"9"]


def test_the_oldest_leave_when_there_are_too_many_bytes(amqp, channel):
    queue = amqp.queue(channel, {"x-max-length-bytes": 10})
    publish(channel, queue, "aaaa", "bbbb", "cc", "dd", headers={"are not": "counted"})
    assert bodies(channel, queue) == [b"bbbb", b"cc", b"dd"]
    publish(channel, queue, "x" * 11)
    assert bodies(channel, queue) == []


def test_what_is_not_acknowledged_is_not_counted(amqp, channel):
    queue = amqp.queue(channel, {"x-max-length": 2})
    publish(channel, queue, "1", "2")
    held = get(channel, queue, ack=False)[0]
    get(channel, queue, ack=False)
    publish(channel, queue, "3", "4")
    wait_count(channel, queue, 2)
    channel.basic_nack(held.delivery_tag)
    wait_count(channel, queue, 2)
    assert bodies(channel, queue) == [b"3", b"4"]


def test_a_length_of_0_leaves_only_waiting_consumers(amqp, channel):
    queue = amqp.queue(channel, {"x-max-length": 0})
    publish(channel, queue, "lost")
    assert channel.basic_get(queue)[0] is None
    consumer = Consumer(channel, queue)
    publish(channel, queue, "soup")
    assert consumer.wait(1) == [b"soup"]


def test_a_dropped_message_was_confirmed_all_the_same(amqp):
    channel = amqp.channel(confirm=True)
    queue = amqp.queue(channel, {"x-max-length": 1})
    publish(channel, queue, "1", "2", "3")
    assert bodies(channel, queue) == [b"3"]


def test_a_full_queue_that_rejects_keeps_the_oldest(amqp, channel):
    queue = amqp.queue(channel, {"x-max-length": 2, "x-overflow": "reject-publish"})
    publish(channel, queue, *map(str, range(5)))
    assert bodies(channel, queue) == [b"0", b"1"]


# --- which come first

def test_the_highest_priority_comes_first_and_the_oldest_of_it(amqp, channel):
    queue = amqp.queue(channel, {"x-max-priority": 5})
    for number, priority in enumerate([0, 3, 5, 3, None, 9, 1]):
        publish(channel, queue, str(number), priority=priority)
    wait_count(channel, queue, 7)
    assert bodies(channel, queue) == [b"2", b"5", b"1", b"3", b"6", b"0", b"4"]


def test_no_priority_is_the_lowest(amqp, channel):
    queue = amqp.queue(channel, {"x-max-priority": 3})
    publish(channel, queue, "none")
    publish(channel, queue, "0", priority=0)
    publish(channel, queue, "1", priority=1)
    wait_count(channel, queue, 3)
    assert bodies(channel, queue) == [b"1", b"none", b"0"]


def test_a_priority_over_the_queues_counts_as_the_queues_and_stays_as_it_is(amqp, channel):
    queue = amqp.queue(channel, {"x-max-priority": 2})
    publish(channel, queue, "x", priority=200)
    assert get(channel, queue)[1].priority == 200


def test_what_is_given_back_goes_before_its_equals(amqp, channel):
    queue = amqp.queue(channel, {"x-max-priority": 5})
    for number, priority in enumerate([1, 2, 2, 1]):
        publish(channel, queue, str(number), priority=priority)
    wait_count(channel, queue, 4)
    held = get(channel, queue, ack=False)[0]
    channel.basic_nack(held.delivery_tag)
    assert bodies(channel, queue, 4) == [b"1", b"2", b"0", b"3"]


def test_the_head_leaves_a_full_queue_even_if_that_is_the_highest_priority(amqp, channel):
    queue = amqp.queue(channel, {"x-max-priority": 5, "x-max-length": 2})
    for number, priority in enumerate([3, 1, 2]):
        publish(channel, queue, str(number), priority=priority)
    assert bodies(channel, queue) == [b"2", b"1"]


def test_priority_means_nothing_to_a_queue_without(amqp, channel):
    queue = amqp.queue(channel)
    publish(channel, queue, "1", priority=1)
    publish(channel, queue, "2", priority=9)
    assert bodies(channel, queue) == [b"1", b"2"]


# --- one active consumer

def test_only_the_first_consumer_gets_messages_until_it_goes(amqp, channel):
    queue = amqp.queue(channel, {"x-single-active-consumer": True})
    first, second = Consumer(amqp.channel(), queue), Consumer(amqp.channel(), queue)
    publish(channel, queue, *map(str, range(4)))
    first.wait(4)
    second.wait(0)
    first.ack(1, multiple=True)
    first.channel.connection.close()
    assert second.wait(2) == [b"2", b"3"]


def test_the_active_consumer_may_be_full_and_nobody_else_gets_more(amqp, channel):
    queue = amqp.queue(channel, {"x-single-active-consumer": True})
    one = amqp.channel()
    one.basic_qos(prefetch_count=1)
    first, second = Consumer(one, queue), Consumer(amqp.channel(), queue)
    publish(channel, queue, "1", "2", "3")
    first.wait(1)
    second.wait(0)
    first.channel.basic_cancel(first.tag)
    first.nack()    # without it RabbitMQ's second waits for ever: a cancellation does not make it look
    assert second.wait(3) == [b"1", b"2", b"3"]


def test_an_exclusive_consumer_is_refused_where_one_is_active(amqp, channel):
    queue = amqp.queue(channel, {"x-single-active-consumer": True})
    with pytest.raises(Exception) as refused:
        channel.basic_consume(queue, print, exclusive=True)
    assert refused.value.args == (403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"), refused.value


# --- transient and lazy

@pytest.mark.parametrize("arguments, durable", [({}, False), ({"x-queue-mode": "lazy"}, True), ({"x-queue-version": 2}, True)],
                         ids=["transient", "lazy", "version 2"])
def test_queues_of_any_storage_behave_the_same(amqp, channel, arguments, durable):
    queue = amqp.queue(channel, arguments, durable=durable)
    publish(channel, queue, *map(str, range(100)), delivery_mode=2)
    publish(channel, queue, *map(str, range(100, 200)), delivery_mode=1)
    assert bodies(channel, queue, 200) == [b"%d" % number for number in range(200)]
