"""AMQP: queues of type quorum: what one broker alone makes of them."""
import pytest
from pika.exceptions import NackError

from kit.amqp import Consumer, bodies, channel_closed, connection_closed, get, publish, wait_count

QUORUM = {"x-queue-type": "quorum"}


@pytest.fixture
def channel(amqp):
    return amqp.channel(confirm=True)


def declared(amqp, channel, **arguments):
    return amqp.queue(channel, {**QUORUM, **{f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}}, durable=True)


def give_back(channel, queue):
    """(redelivered, headers) of the next message, which goes back."""
    method, properties, _ = get(channel, queue, ack=False)
    channel.basic_nack(method.delivery_tag)
    return method.redelivered, properties.headers


def test_messages_come_in_order(amqp, channel):
    queue = declared(amqp, channel)
    publish(channel, queue, *map(str, range(20)))
    assert bodies(channel, queue, 20) == [b"%d" % number for number in range(20)]


def test_a_message_counts_how_often_it_was_given_back(amqp, channel):
    queue = declared(amqp, channel)
    publish(channel, queue, "soup", headers={"a": 1})
    assert [give_back(channel, queue) for _ in range(3)] == [
        (number > 0, {"a": 1, "x-delivery-count": number}) for number in range(3)]


def test_a_message_that_was_given_back_too_often_is_gone(amqp, channel):
    queue = declared(amqp, channel, delivery_limit=2)
    publish(channel, queue, "soup")
    for _ in range(3):
        give_back(channel, queue)
    wait_count(channel, queue, 0)
    assert channel.basic_get(queue)[0] is None


def test_a_message_that_was_given_back_too_often_is_a_dead_letter(amqp, channel):
    dead = amqp.queue(channel)
    queue = declared(amqp, channel, delivery_limit=1, dead_letter_exchange="", dead_letter_routing_key=dead)
    publish(channel, queue, "soup", headers={"a": 1})
    for _ in range(2):
        give_back(channel, queue)
    headers = get(channel, dead)[1].headers
    death, = headers.pop("x-death")
    assert (death["reason"], death["count"], death["queue"]) == ("delivery_limit", 1, queue)
    assert headers == {"a": 1, "x-first-death-reason": "delivery_limit", "x-first-death-queue": queue,
                       "x-first-death-exchange": ""}


def test_a_lost_connection_counts_as_giving_back(amqp, channel):
    queue = declared(amqp, channel, delivery_limit=3)
    publish(channel, queue, "soup")
    for number in range(4):
        other = amqp.channel()
        method, properties, _ = get(other, queue, ack=False)
        assert properties.headers == {"x-delivery-count": number}
        other.connection.close()
    wait_count(channel, queue, 0)


def test_a_length_holds(amqp, channel):
    queue = declared(amqp, channel, max_length=2)
    publish(channel, queue, "1", "2", "3")
    assert bodies(channel, queue, 2) == [b"2", b"3"]


def test_a_full_queue_that_rejects_answers_nack_sooner_or_later(amqp, channel):
    """RabbitMQ takes a few more than the length."""
    queue = declared(amqp, channel, max_length=2, overflow="reject-publish")
    with pytest.raises(NackError):
        publish(channel, queue, *map(str, range(50)))
    assert bodies(channel, queue, 2)[:2] == [b"0", b"1"]


def test_prefetch_holds(amqp, channel):
    queue = declared(amqp, channel)
    publish(channel, queue, *map(str, range(5)))
    other = amqp.channel()
    other.basic_qos(prefetch_count=2)
    consumer = Consumer(other, queue)
    consumer.wait(2)
    consumer.ack()
    consumer.wait(3)


def test_a_global_prefetch_and_quorum_queues_do_not_go_together(amqp, channel):
    """A broker whose quorum queues can do it may."""
    queue = declared(amqp, channel)
    channel.basic_qos(prefetch_count=2, global_qos=True)
    if amqp.broker.name == "rabbitmq":
        with connection_closed(channel, 540, "NOT_IMPLEMENTED - queue 'x' in vhost '/' does not support global qos".replace("x", queue)):
            channel.basic_consume(queue, print)
    else:
        channel.basic_consume(queue, print)


def test_a_single_active_consumer_is_one(amqp, channel):
    queue = declared(amqp, channel, single_active_consumer=True)
    first, second = Consumer(amqp.channel(), queue), Consumer(amqp.channel(), queue)
    publish(channel, queue, "1", "2")
    first.wait(2)
    second.wait(0)
    first.channel.connection.close()
    second.wait(2)


def test_purging_and_deleting_tell_how_many(amqp, channel):
    queue = declared(amqp, channel)
    publish(channel, queue, "1", "2", "3")
    wait_count(channel, queue, 3)
    assert channel.queue_purge(queue).method.message_count == 3
    publish(channel, queue, "4")
    wait_count(channel, queue, 1)
    assert channel.queue_delete(queue).method.message_count == 1


def test_nothing_is_got_by_hand_where_one_consumer_is_active(amqp, channel):
    queue = declared(amqp, channel, single_active_consumer=True)
    with channel_closed(channel, 405, f"RESOURCE_LOCKED - cannot obtain access to locked queue '{queue}' in vhost '/'. basic.get "
                                      "operations are not supported by quorum queues with single active consumer"):
        channel.basic_get(queue)
