"""What slows clients down or sends them away: a log without room, and messages that are held for too long."""
import hashlib
import random

import pika
import pytest

from kit.config import top
from kit.wire import DEADLINE

AMQP = 'amqp "127.0.0.1:{port}" { user "guest" { password = "guest" } }\n'


def house(maitred, options="", segment="1m"):
    return maitred(top(f'state = "{{dir}}/state"\nstate-segment = {segment}\n{options}') + AMQP)


def connect(proxy, **options):
    return pika.BlockingConnection(pika.ConnectionParameters(
        "127.0.0.1", proxy.port, heartbeat=0, socket_timeout=DEADLINE, **options))


def until(connection, holds):
    """What is true sooner or later, while the connection does its work."""
    for _ in range(int(DEADLINE * 50)):
        if holds():
            return
        connection.process_data_events(0.02)
    raise AssertionError("it did not happen")


def test_a_publisher_waits_while_the_log_has_no_room(maitred):
    """It is told, nothing is read from it any more, and nothing of what it sent is lost."""
    proxy = house(maitred, "state-max = 16m")
    publisher, consumer, told, sent, got = connect(proxy), connect(proxy), [], [], []
    publisher.add_on_connection_blocked_callback(lambda *_: told.append("blocked"))
    publisher.add_on_connection_unblocked_callback(lambda *_: told.append("unblocked"))
    channel, reader = publisher.channel(), consumer.channel()
    reader.queue_declare("q", durable=True)
    while not told:
        sent.append(b"%03d" % len(sent))
        channel.basic_publish("", "q", sent[-1] + bytes(100000))
        publisher.process_data_events(0.02)
    assert told == ["blocked"] and len(sent) < 400
    reader.basic_consume("q", lambda *come: (got.append(come[3][:3]), reader.basic_ack(come[1].delivery_tag)))
    until(consumer, lambda: len(got) == len(sent))
    assert got == sent
    until(publisher, lambda: told == ["blocked", "unblocked"])
    publisher.close()
    consumer.close()


def test_who_holds_a_message_for_too_long_loses_his_channel(maitred):
    proxy = house(maitred)
    holder, other = connect(proxy), connect(proxy)
    channel = holder.channel()
    channel.queue_declare("q", durable=True, arguments={"x-consumer-timeout": 300})
    channel.basic_publish("", "q", b"soup")
    channel.basic_consume("q", lambda *_: None)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.start_consuming()
    assert closed.value.reply_code == 406 and "timed out" in closed.value.reply_text
    reader = other.channel()
    until(other, lambda: reader.queue_declare("q", passive=True).method.message_count == 1)
    method, _, body = reader.basic_get("q", auto_ack=True)
    assert (method.redelivered, body) == (True, b"soup")
    holder.close()
    other.close()


def test_a_body_over_max_message_is_refused_by_its_size(maitred):
    """What is too large is known before its body has come."""
    proxy = maitred(top('state = "{dir}/state"\nstate-segment = 1m') + AMQP.replace("{ user", "{ max-message = 1m  user"))
    connection = connect(proxy)
    channel = connection.channel()
    channel.queue_declare("q", durable=True)
    channel.basic_publish("", "q", bytes(1 << 20))
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.basic_publish("", "q", bytes((1 << 20) + 1))
        channel.queue_declare("q", passive=True)
    assert closed.value.reply_code == 406
    assert closed.value.reply_text == "PRECONDITION_FAILED - message size 1048577 is larger than configured max size 1048576"
    assert connection.channel().queue_declare("q", passive=True).method.message_count == 1
    connection.close()


def test_a_body_of_128_mib_goes_through(maitred):
    """However small the segments are."""
    proxy = house(maitred)
    connection = connect(proxy)
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("q", durable=True)
    body = random.Random(1).randbytes(1 << 20) * 128
    channel.basic_publish("", "q", body)
    _, _, got = channel.basic_get("q", auto_ack=True)
    assert len(got) == len(body) and hashlib.sha256(got).digest() == hashlib.sha256(body).digest()
    connection.close()
