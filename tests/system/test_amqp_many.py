"""AMQP: many clients at once, some of which are lost."""
import threading

import pytest
from pika import spec

from kit.amqp import Consumer, bodies, publish, wait_count

PUBLISHERS, CONSUMERS, MANY = 4, 4, 300


def in_threads(functions):
    """Runs each in a thread of its own; what one raised is raised."""
    wrong = []

    def guarded(function):
        try:
            function()
        except Exception as error:  # pylint: disable=broad-except
            wrong.append(error)
    threads = [threading.Thread(target=guarded, args=(function,), daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
        assert not thread.is_alive(), "a client hangs"
    if wrong:
        raise wrong[0]


@pytest.mark.parametrize("arguments", [{}, {"x-queue-type": "quorum"}], ids=["classic", "quorum"])
def test_every_message_is_handled_once_when_nothing_goes_wrong(amqp, arguments):
    channel = amqp.channel()
    queue = amqp.queue(channel, arguments, durable=True)
    handled, enough = [], threading.Event()

    def publisher(number):
        channel = amqp.channel(confirm=True)
        publish(channel, queue, *[f"{number} {each}" for each in range(MANY)], delivery_mode=2)

    def consumer():
        channel = amqp.channel()
        channel.basic_qos(prefetch_count=10)
        consumer = Consumer(channel, queue)
        acknowledged = 0
        while not enough.is_set():
            channel.connection.process_data_events(0.05)
            for method, _, body in consumer.deliveries[acknowledged:]:
                channel.basic_ack(method.delivery_tag)
                handled.append(body)
                acknowledged += 1
            if len(handled) >= PUBLISHERS * MANY:
                enough.set()
        channel.connection.close()
    in_threads([*[lambda number=number: publisher(number) for number in range(PUBLISHERS)], *[consumer] * CONSUMERS])
    assert sorted(handled) == sorted(f"{number} {each}".encode() for number in range(PUBLISHERS) for each in range(MANY))
    for number in range(PUBLISHERS):
        assert len({body for body in handled if body.startswith(b"%d " % number)}) == MANY
    assert bodies(channel, queue) == []


def test_nothing_is_lost_with_clients_that_are(amqp):
    """Consumers that take much and are cut; at the end everything is there, once each."""
    channel = amqp.channel(confirm=True)
    queue = amqp.queue(channel, durable=True)
    publish(channel, queue, *map(str, range(200)), delivery_mode=2)
    for _ in range(10):
        raw = amqp.raw().open().open_channel()
        raw.method(1, spec.Basic.Consume(queue=queue))
        raw.expect(spec.Basic.ConsumeOk)
        for _ in range(20):
            raw.expect(spec.Basic.Deliver)
            raw.read_frame()
            raw.read_frame()
        raw.peer.reset()
    wait_count(channel, queue, 200)
    assert bodies(channel, queue) == [b"%d" % number for number in range(200)]


def test_a_client_that_does_not_read_holds_up_nobody(amqp):
    channel = amqp.channel(confirm=True)
    queue, other = amqp.queue(channel), amqp.queue(channel)
    raw = amqp.raw().open().open_channel()
    raw.method(1, spec.Basic.Consume(queue=queue, no_ack=True))
    raw.expect(spec.Basic.ConsumeOk)
    for _ in range(200):
        publish(channel, queue, b"x" * 100000)
    publish(channel, other, "soup")
    assert bodies(channel, other, 1) == [b"soup"]
    for _ in range(200):
        raw.expect(spec.Basic.Deliver)
        raw.read_frame()
        assert len(raw.read_frame()[2]) == 100000


def test_channels_of_one_connection_are_served_fairly(amqp):
    """A channel with much to take does not starve its neighbour."""
    connection = amqp.connect()
    busy, quiet = connection.channel(), connection.channel()
    queue, other = amqp.queue(busy), amqp.queue(quiet)
    publish(busy, queue, *[b"x" * 10000] * 500)
    first = Consumer(busy, queue, auto_ack=True)
    publish(quiet, other, "soup")
    assert Consumer(quiet, other).wait(1) == [b"soup"]
    first.wait(500)
