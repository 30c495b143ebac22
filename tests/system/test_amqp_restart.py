"""AMQP: what outlives a restart of the broker."""
import threading

import pytest
from pika import spec
from pika.exceptions import AMQPConnectionError

from kit.amqp import bodies, channel_closed, get, is_there, publish


def test_clients_are_told_of_an_end(amqp):
    told = []
    raw = amqp.raw().open().open_channel()

    def listen():
        told.append(raw.expect(spec.Connection.Close, 0, seconds=40))
        raw.close()
    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    amqp.broker.restart()
    listener.join(10)
    assert [(close.reply_code, close.reply_text) for close in told] == [
        (320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'")]


def test_what_is_durable_outlives_a_restart(amqp):
    """Many promises share a restart, which takes RabbitMQ long. What a durable queue has taken maitred keeps, whatever its
    delivery mode."""
    keeps_all = amqp.broker.name == "maitred"
    channel = amqp.channel(confirm=True)
    durable, passing = amqp.queue(channel, durable=True), amqp.queue(channel)
    publish(channel, durable, "kept", delivery_mode=2, headers={"a": 1}, message_id="7")
    publish(channel, durable, "lost", delivery_mode=1)
    publish(channel, durable, "lost too")
    publish(channel, durable, "held", "kept too", delivery_mode=2)
    publish(channel, passing, "lost", delivery_mode=2)

    exchange, other = amqp.exchange(channel, "topic", durable=True), amqp.exchange(channel, "direct")
    bound = amqp.queue(channel, {"x-max-length": 5, "x-message-ttl": 600000}, durable=True)
    channel.queue_bind(bound, exchange, "a.*")
    channel.queue_bind(bound, other, "a")
    last = amqp.exchange(channel, "fanout", durable=True)
    channel.exchange_bind(last, exchange, "b.*")
    channel.queue_bind(bound, last)

    exclusive = amqp.queue(amqp.connect().channel(), durable=True, exclusive=True)
    prioritised = amqp.queue(channel, {"x-max-priority": 5}, durable=True)
    publish(channel, prioritised, "low", priority=1, delivery_mode=2)
    publish(channel, prioritised, "high", priority=5, delivery_mode=2)
    quorum = amqp.queue(channel, {"x-queue-type": "quorum"}, durable=True)
    publish(channel, quorum, "kept, for it is a quorum queue", delivery_mode=1)
    acked = amqp.queue(channel, durable=True)
    publish(channel, acked, "1", "2", delivery_mode=2)
    get(channel, acked)
    big = amqp.queue(channel, durable=True)
    publish(channel, big, b"x" * 500000, delivery_mode=2)

    consumer = amqp.channel()
    get(consumer, durable, ack=False)
    tag = get(consumer, acked, ack=False)[0].delivery_tag
    consumer.basic_ack(tag)
    consumer.connection.close()

    amqp.broker.restart()
    with pytest.raises(AMQPConnectionError):
        channel.queue_declare(durable, passive=True)
    channel = amqp.channel()

    found = get(channel, durable)
    assert (found[2], found[1].headers, found[1].message_id, found[1].delivery_mode) == (b"kept", {"a": 1}, "7", 2)
    assert bodies(channel, durable, 2) == [b"lost", b"lost too"] * keeps_all + [b"held", b"kept too"]
    for queue in (passing, exclusive):
        assert not is_there(amqp, queue)
    probe = amqp.channel()
    with channel_closed(probe, 404, f"NOT_FOUND - no exchange '{other}' in vhost '/'"):
        probe.exchange_declare(other, passive=True)
    channel.queue_declare(bound, durable=True, arguments={"x-max-length": 5, "x-message-ttl": 600000})
    publish(channel, "a.b", "soup", exchange=exchange)
    publish(channel, "b.b", "tea", exchange=exchange)
    assert bodies(channel, bound, 2) == [b"soup", b"tea"]
    assert bodies(channel, prioritised, 2) == [b"high", b"low"]
    assert bodies(channel, quorum, 1) == [b"kept, for it is a quorum queue"]
    assert bodies(channel, acked) == []
    assert bodies(channel, big, 1) == [b"x" * 500000]
