"""AMQP: pika's adapters that do not wait: SelectConnection and asyncio, from the first byte to the last."""
import asyncio

import pika
import pytest
from pika.adapters.asyncio_connection import AsyncioConnection


class Flow:
    """Opens, declares, confirms, publishes so many, consumes and acknowledges them, cancels, closes; every step is taken
    when the answer to the one before has come."""
    MANY = 300

    def __init__(self, queue, exchange):
        self.queue, self.exchange = queue, exchange
        self.steps, self.confirmed, self.got = [], set(), []
        self.channel = self.connection = None

    def opened(self, connection):
        self.connection = connection
        connection.channel(on_open_callback=self.channel_open)

    def channel_open(self, channel):
        self.channel = channel
        channel.add_on_close_callback(lambda *_: self.steps.append("channel closed"))
        channel.confirm_delivery(self.answered, callback=self.confirming)

    def confirming(self, _):
        self.steps.append("confirming")
        self.channel.exchange_declare(self.exchange, "topic", callback=self.exchange_there)

    def exchange_there(self, _):
        self.steps.append("exchange")
        self.channel.queue_declare(self.queue, callback=self.queue_there)

    def queue_there(self, _):
        self.steps.append("queue")
        self.channel.queue_bind(self.queue, self.exchange, "a.*", callback=self.bound)

    def bound(self, _):
        self.steps.append("bound")
        self.channel.basic_qos(prefetch_count=10, callback=self.limited)

    def limited(self, _):
        self.steps.append("limited")
        self.tag = self.channel.basic_consume(self.queue, self.came, callback=self.consuming)

    def consuming(self, _):
        self.steps.append("consuming")
        for number in range(self.MANY):
            self.channel.basic_publish(self.exchange, "a.b", b"%d" % number)

    def answered(self, frame):
        assert isinstance(frame.method, pika.spec.Basic.Ack), frame
        tag = frame.method.delivery_tag
        self.confirmed |= set(range(1, tag + 1)) if frame.method.multiple else {tag}
        self.end()

    def came(self, channel, method, _, body):
        self.got.append(body)
        channel.basic_ack(method.delivery_tag)
        self.end()

    def end(self):
        if len(self.got) == self.MANY == len(self.confirmed):
            self.channel.basic_cancel(self.tag, callback=self.cancelled)

    def cancelled(self, _):
        self.steps.append("cancelled")
        self.channel.close()
        self.connection.close()

    def check(self):
        assert self.steps == ["confirming", "exchange", "queue", "bound", "limited", "consuming", "cancelled", "channel closed"]
        assert self.got == [b"%d" % number for number in range(self.MANY)]


@pytest.fixture
def flow(amqp):
    return Flow(amqp.queue_name(), amqp.exchange_name())


def test_select_connection_goes_through_it_all(amqp, flow):
    connection = pika.SelectConnection(amqp.parameters(), on_open_callback=flow.opened,
                                       on_close_callback=lambda closed, _: closed.ioloop.stop())
    connection.ioloop.start()
    flow.check()


def test_asyncio_connection_goes_through_it_all(amqp, flow):
    loop = asyncio.new_event_loop()
    AsyncioConnection(amqp.parameters(), on_open_callback=flow.opened, on_close_callback=lambda *_: loop.stop(), custom_ioloop=loop)
    loop.run_forever()
    loop.close()
    flow.check()


@pytest.mark.parametrize("kind", [pika.SelectConnection, AsyncioConnection])
def test_what_a_full_queue_refuses_is_nacked(amqp, kind):
    heard, queue, arguments = [], amqp.queue_name(), {"x-max-length": 1, "x-overflow": "reject-publish"}

    def opened(channel):
        channel.confirm_delivery(lambda frame: answered(channel, frame.method))
        channel.queue_declare(queue, arguments=arguments, callback=lambda _: publish(channel))

    def publish(channel):
        channel.basic_publish("", queue, b"x")

    def answered(channel, method):
        heard.append((type(method), method.delivery_tag))
        if len(heard) == 3:
            channel.connection.close()
        else:
            publish(channel)

    loop = pika.adapters.select_connection.IOLoop() if kind is pika.SelectConnection else asyncio.new_event_loop()
    kind(amqp.parameters(), custom_ioloop=loop, on_open_callback=lambda connection: connection.channel(on_open_callback=opened),
         on_close_callback=lambda *_: loop.stop())
    loop.start() if kind is pika.SelectConnection else loop.run_forever()
    loop.close()
    assert heard == [(pika.spec.Basic.Ack, 1), (pika.spec.Basic.Nack, 2), (pika.spec.Basic.Nack, 3)]
