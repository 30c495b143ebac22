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
