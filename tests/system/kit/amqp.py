"""Brokers that speak AMQP 0-9-1, and short ways to use one as pika's users do.

AMQP_PEERS=rabbitmq,maitred says which brokers the tests run against; without it only maitred. rabbitmq is the one that
says what is right: a test that it does not pass is wrong.
"""
import contextlib
import itertools
import os
import random
import signal
import time
from pathlib import Path

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from kit import rabbitmq
from kit.amqp_raw import Raw
from kit.config import admin, top
from kit.process import Maitred
from kit.wire import DEADLINE, TimedOut

PEERS = [name for name in os.environ.get("AMQP_PEERS", "maitred").split(",") if name]
SECONDS = 60        # what a test may take
CONFIGURATION = (
    top('state = "{dir}/state"\nstate-segment = 1m', threads=2) + admin() +
    'amqp "127.0.0.1:{port}" {\n'
    '    user "guest" { password = "guest"  administrator = true }\n'
    '    user "limited" { password = "limited"  configure = "^mine"  write = "^mine"  read = "^mine" }\n'
    '    user "other" { password = "other"  virtual-hosts = {"closed"} }\n'
    '}\n')


def differs(reason):
    """A test of what RabbitMQ does and maitred does not mean to: docs/rabbitmq-compatibility.md has the reason too."""
    return pytest.mark.amqp_peer("rabbitmq", reason)


def ours(reason):
    """A test of what maitred does instead."""
    return pytest.mark.amqp_peer("maitred", reason)


class MaitredBroker:
    """The binary under test, with a listener for AMQP."""
    name = "maitred"

    def __init__(self, directory, text=CONFIGURATION, wrapper=()):
        self.proxy = Maitred(text, Path(directory), wrapper=wrapper)

    @property
    def port(self):
        return self.proxy.port

    @property
    def management_port(self):
        return self.proxy.port9

    def restart(self):
        self.proxy.terminate()
        assert self.proxy.wait() == 0, self.proxy.errors
        self.proxy.start_again()

    def kill(self):
        """At once, as a power cut does; start_again() brings it back."""
        self.proxy.kill()

    def start_again(self):
        self.proxy.start_again()

    def client(self):
        return self.proxy.client()

    def stop(self):
        wrong = self.proxy.stop()
        assert not wrong, wrong


@contextlib.contextmanager
def started(name, directory):
    """A running broker, by the name of its kind."""
    if name == "rabbitmq":
        if why := rabbitmq.why_not():
            pytest.skip(why)
        broker = rabbitmq.RabbitMQ(directory)
    else:
        broker = MaitredBroker(directory)
    try:
        yield broker
    finally:
        broker.stop()


@contextlib.contextmanager
def bounded(seconds=SECONDS):
    """What is done within fails when it takes longer. pika waits for answers for ever."""
    def late(*_):
        raise TimedOut(f"took longer than {seconds} s")
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Amqp:
    """What one test does with a broker. Its connections end with it; its queues and exchanges are deleted."""
    _names = itertools.count(random.randrange(1 << 30))

    def __init__(self, broker):
        self.broker = broker
        self.connections, self.raws, self.queues, self.exchanges = [], [], [], []

    # --- connections

    def parameters(self, user="guest", password=None, **options):
        credentials = pika.PlainCredentials(user, password or user)
        return pika.ConnectionParameters(host="127.0.0.1", port=self.broker.port, **{
            "credentials": credentials, "heartbeat": 0, "socket_timeout": DEADLINE, "stack_timeout": DEADLINE,
            "blocked_connection_timeout": DEADLINE, **options})

    def connect(self, **options):
        connection = pika.BlockingConnection(self.parameters(**options))
        self.connections.append(connection)
        return connection

    def channel(self, confirm=False, **options):
        """A channel over a connection of its own."""
        channel = self.connect(**options).channel()
        if confirm:
            channel.confirm_delivery()
        return channel

    def raw(self):
        """A peer that has said nothing yet."""
        raw = Raw(self.broker.client(), self.broker.name == "rabbitmq")
        self.raws.append(raw)
        return raw

    # --- names

    def name(self, hint="amqp"):
        return f"{hint}-{next(self._names)}"

    def queue_name(self, hint="queue"):
        """For a queue that the test itself declares."""
        self.queues.append(self.name(hint))
        return self.queues[-1]

    def exchange_name(self, hint="exchange"):
        self.exchanges.append(self.name(hint))
        return self.exchanges[-1]

    def queue(self, channel, arguments=None, **options):
        """Declares a queue with a name of its own."""
        name = self.queue_name()
        channel.queue_declare(name, arguments=arguments, **options)
        return name

    def exchange(self, channel, kind="direct", **options):
        name = self.exchange_name()
        channel.exchange_declare(name, kind, **options)
        return name

    # --- the end

    def close(self):
        with bounded():
            for raw in self.raws:
                raw.close()
            for connection in self.connections:
                with contextlib.suppress(pika.exceptions.AMQPError, AttributeError, AssertionError):
                    connection.close()
            if self.queues or self.exchanges:
                self._delete()

    def _delete(self):
        connection = pika.BlockingConnection(self.parameters())
        channel = connection.channel()
        for name in self.queues:
            channel.queue_delete(name)
        for name in self.exchanges:
            channel.exchange_delete(name)
        connection.close()


# --- what is asked of a channel

def publish(channel, queue, *bodies, exchange="", **properties):
    """Each body to the queue of that name, or with that routing key."""
    for body in bodies:
        channel.basic_publish(exchange, queue, body.encode() if isinstance(body, str) else body,
                              pika.BasicProperties(**properties))


def get(channel, queue, ack=True, seconds=DEADLINE):
    """(method, properties, body) of the next message, waiting until there is one."""
    end = time.monotonic() + seconds
    while True:
        method, properties, body = channel.basic_get(queue, auto_ack=ack)
        if method:
            return method, properties, body
        if time.monotonic() > end:
            raise TimedOut(f"no message came to {queue}")
        channel.connection.sleep(0.01)


def bodies(channel, queue, count=None):
    """The bodies of all that are ready; with a count, waits until so many came. They are acknowledged."""
    found = []
    while count is not None and len(found) < count:
        found.append(get(channel, queue)[2])
    while (got := channel.basic_get(queue, auto_ack=True))[0]:
        found.append(got[2])
    return found


def count(channel, queue):
    """How many are ready."""
    return channel.queue_declare(queue, passive=True).method.message_count


def wait_count(channel, queue, wanted, seconds=DEADLINE):
    end = time.monotonic() + seconds
    while (found := count(channel, queue)) != wanted:
        if time.monotonic() > end:
            raise TimedOut(f"{queue} has {found} messages, not {wanted}")
        channel.connection.sleep(0.01)


def is_there(amqp, queue):
    """Whether a queue of that name exists."""
    channel = amqp.channel()
    try:
        channel.queue_declare(queue, passive=True)
        return True
    except ChannelClosedByBroker as closed:
        assert closed.reply_code == 404, closed
        return False


def wait_gone(amqp, queue, seconds=DEADLINE):
    end = time.monotonic() + seconds
    while is_there(amqp, queue):
        if time.monotonic() > end:
            raise TimedOut(f"{queue} is still there")


def settle(channel):
    """All that was sent over the channel before has been worked on, and what was sent because of it has come."""
    channel.flow(True)
    channel.connection.process_data_events(0)


@contextlib.contextmanager
def channel_closed(channel, code, text):
    """What is done within, or the next thing after it, closes the channel with this code and this text."""
    with pytest.raises(ChannelClosedByBroker) as closed:
        yield
        settle(channel)
    assert (closed.value.reply_code, closed.value.reply_text) == (code, text)


@contextlib.contextmanager
def connection_closed(channel, code, text):
    with pytest.raises(ConnectionClosedByBroker) as closed:
        yield
        settle(channel)
    assert (closed.value.reply_code, closed.value.reply_text) == (code, text)


class Consumer:
    """Takes from a queue; what came is kept in .deliveries as (method, properties, body)."""

    def __init__(self, channel, queue, auto_ack=False, **options):
        self.channel = channel
        self.deliveries = []
        self.cancelled = []
        channel.add_on_cancel_callback(self.cancelled.append)
        self.tag = channel.basic_consume(queue, self._came, auto_ack=auto_ack, **options)

    def _came(self, _channel, *delivery):
        self.deliveries.append(delivery)

    @property
    def bodies(self):
        return [body for _, _, body in self.deliveries]

    def wait(self, wanted, seconds=DEADLINE):
        """Until so many have come; then no more may have. Returns their bodies."""
        end = time.monotonic() + seconds
        while len(self.deliveries) < wanted:
            if time.monotonic() > end:
                raise TimedOut(f"{len(self.deliveries)} messages came, not {wanted}")
            self.channel.connection.process_data_events(0.05)
        settle(self.channel)
        assert len(self.deliveries) == wanted, self.bodies
        return self.bodies

    def wait_cancelled(self, seconds=DEADLINE):
        end = time.monotonic() + seconds
        while not self.cancelled:
            if time.monotonic() > end:
                raise TimedOut("the consumer was not cancelled")
            self.channel.connection.process_data_events(0.05)

    def ack(self, index=-1, **options):
        self.channel.basic_ack(self.deliveries[index][0].delivery_tag, **options)

    def nack(self, index=-1, **options):
        self.channel.basic_nack(self.deliveries[index][0].delivery_tag, **options)
