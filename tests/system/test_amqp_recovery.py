"""AMQP: others' clients, while the server is killed and started again. Each opens a connection again as its users have it do,
declares again what is gone, and goes on; nothing that was confirmed is lost. rabbitmq-c is in test_amqp_c.py, Node in
test_amqp_node.py."""
import asyncio
import itertools
import threading
import time

import pika
import pytest
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.select_connection import IOLoop

from kit.amqp import bounded
from kit.wire import TimedOut

SECONDS = 30
UNDER_WAY = 20
PAUSE = 0.05        # before a connection is tried again
ACK, REQUEUE, REJECT, HOLD = "ack", "requeue", "reject", "hold"


class Client(threading.Thread):
    """Publishes numbers and consumes them. Its exchange does not outlive the server, its queues do. What becomes of a number
    goes by its last digit: 3 finds no queue and is returned, 5 is given back once, 7 is a dead letter."""

    def __init__(self, amqp):
        super().__init__(daemon=True)
        self.amqp = amqp
        self.exchange, self.queue, self.dead_queue = amqp.exchange_name(), amqp.queue_name(), amqp.queue_name("dead")
        self.arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self.dead_queue}
        self.connected = 0
        self.count = 0
        self.confirmed, self.returned, self.handled, self.dead, self.excused = set(), set(), set(), set(), set()
        self.wrong = []
        self.ending = threading.Event()
        self.holding = threading.Event()    # nothing that comes is answered: it has to come again

    # --- what the clients do in common

    def run(self):
        try:
            self.go()
        except BaseException as error:
            self.wrong.append(error)
            raise

    def go(self):
        raise NotImplementedError

    def next(self):
        self.count += 1
        return self.count - 1

    def key(self, number):
        return "nowhere" if number % 10 == 3 else "a"

    def fate(self, number, redelivered):
        """What is to be done with what came."""
        if self.holding.is_set():
            return HOLD
        if number % 10 == 7:
            return REJECT
        if number % 10 == 5 and not redelivered:
            return REQUEUE
        self.handled.add(number)
        return ACK

    def died(self, number, headers):
        death = headers["x-death"][0]
        if (death["queue"], death["reason"], death["routing-keys"]) != (self.queue, "rejected", ["a"]):
            self.wrong.append(death)
        self.dead.add(number)

    def settled(self, number):
        return number in {3: self.returned, 7: self.dead}.get(number % 10, self.handled) or number in self.excused

    def missing(self):
        """Confirmed, and not where it should be."""
        return {number for number in self.confirmed.copy() if not self.settled(number)}

    def is_done(self):
        return self.ending.is_set() and len(self.confirmed) == self.count and not self.missing()

    # --- what a test asks

    def wait(self, condition, what):
        end = time.monotonic() + SECONDS
        while not condition():
            if self.wrong or time.monotonic() > end:
                raise TimedOut(f"not {what}: connected {self.connected} times, {self.count} published, "
                               f"{len(self.confirmed)} confirmed, missing {sorted(self.missing())[:10]}, wrong {self.wrong}")
            time.sleep(0.01)

    def wait_confirmed(self, more):
        before = len(self.confirmed)
        self.wait(lambda: len(self.confirmed) >= before + more, "confirmed")

    def check(self):
        assert not self.wrong
        for what in (self.returned, self.handled, self.dead):
            assert what
        assert len(self.confirmed) == self.count and not self.missing()


def kill_under(amqp, client):
    """Until it has lost its server a few times, and ended well."""
    kills = 2 if amqp.broker.name == "maitred" else 1
    with bounded(120):
        client.start()
        for kill in range(1, kills + 2):
            client.wait(lambda: client.connected >= kill, "connected again")
            client.wait_confirmed(60)
            if kill <= kills:
                client.holding.set()
                client.wait_confirmed(2 * UNDER_WAY)        # more than a consumer may hold
                amqp.broker.kill()
                if amqp.broker.name == "rabbitmq":      # publishes dead letters without confirms, it says
                    client.excused |= {number for number in client.confirmed.copy() if number % 10 == 7}
                time.sleep(0.1)
                client.holding.clear()
                amqp.broker.start_again()
        client.ending.set()
        client.wait(lambda: not client.is_alive(), "ended")
        client.check()


# --- pika

class Blocking(Client):
    """pika's BlockingConnection, in the loop that its documentation has for recovery."""

    def go(self):
        while not self.is_done():
            try:
                connection = pika.BlockingConnection(self.amqp.parameters())
                self.work(connection)
                connection.close()
            except (pika.exceptions.AMQPConnectionError, pika.exceptions.ChannelWrongStateError):
                time.sleep(PAUSE)

    def work(self, connection):
        channel = connection.channel()
        channel.exchange_declare(self.exchange, "direct")
        channel.queue_declare(self.dead_queue, durable=True)
        channel.queue_declare(self.queue, durable=True, arguments=self.arguments)
        channel.queue_bind(self.queue, self.exchange, "a")
        channel.basic_qos(prefetch_count=UNDER_WAY)
        channel.basic_consume(self.queue, self.came)
        channel.basic_consume(self.dead_queue, self.came_dead)
        channel.confirm_delivery()
        self.connected += 1
        for number in sorted(set(range(self.count)) - self.confirmed):
            self.publish(channel, number)
        while not self.is_done():
            if self.ending.is_set():
                connection.process_data_events(0.05)
            else:
                self.publish(channel, self.next())
                connection.process_data_events(0)

    def send_to(self, channel, number):
        properties = pika.BasicProperties(delivery_mode=2)
        channel.basic_publish(self.exchange, self.key(number), b"%d" % number, properties, mandatory=True)

    def publish(self, channel, number):
        try:
            self.send_to(channel, number)
        except pika.exceptions.UnroutableError as error:
            self.returned.update(int(message.body) for message in error.messages)
        self.confirmed.add(number)

    def came(self, channel, method, _, body):
        what = self.fate(int(body), method.redelivered)
        if what == ACK:
            channel.basic_ack(method.delivery_tag)
        elif what != HOLD:
            channel.basic_nack(method.delivery_tag, requeue=what == REQUEUE)

    def came_dead(self, channel, method, properties, body):
        self.died(int(body), properties.headers)
        channel.basic_ack(method.delivery_tag)


class Selecting(Blocking):
    """pika's adapters that do not wait: a connection that was closed, or could not be opened, is followed by another."""

    def go(self):
        self.ioloop = self.make_loop()
        self.open()
        self.run_loop()

    def make_loop(self):
        return IOLoop()

    def run_loop(self):
        self.ioloop.start()

    def make(self, **options):
        return pika.SelectConnection(self.amqp.parameters(), custom_ioloop=self.ioloop, **options)

    def open(self):
        self.make(on_open_callback=lambda connection: connection.channel(on_open_callback=self.opened),
                  on_open_error_callback=self.closed, on_close_callback=self.closed)

    def closed(self, *_):
        if self.is_done():
            self.ioloop.stop()
        else:
            self.ioloop.call_later(PAUSE, self.open)

    def opened(self, channel):
        """One step after the other."""
        self.under_way, self.tags = {}, itertools.count(1)
        channel.add_on_return_callback(lambda _channel, _method, _properties, body: self.returned.add(int(body)))
        steps = iter([
            lambda then: channel.exchange_declare(self.exchange, "direct", callback=then),
            lambda then: channel.queue_declare(self.dead_queue, durable=True, callback=then),
            lambda then: channel.queue_declare(self.queue, durable=True, arguments=self.arguments, callback=then),
            lambda then: channel.queue_bind(self.queue, self.exchange, "a", callback=then),
            lambda then: channel.basic_qos(prefetch_count=UNDER_WAY, callback=then),
            lambda then: channel.confirm_delivery(lambda frame: self.answered(channel, frame), callback=then),
            lambda then: channel.basic_consume(self.queue, self.came, callback=then),
            lambda then: channel.basic_consume(self.dead_queue, self.came_dead, callback=then),
            lambda _: self.ready(channel)])

        def step(*_):
            next(steps)(step)
        step()

    def ready(self, channel):
        self.connected += 1
        for number in sorted(set(range(self.count)) - self.confirmed):
            self.send(channel, number)
        self.tick(channel)

    def send(self, channel, number):
        self.under_way[next(self.tags)] = number
        self.send_to(channel, number)

    def tick(self, channel):
        """Publishes what there is room for; again soon."""
        if not channel.is_open:
            return
        if self.is_done():
            channel.connection.close()
            return
        while not self.ending.is_set() and len(self.under_way) < UNDER_WAY:
            self.send(channel, self.next())
        self.ioloop.call_later(0.005, lambda: self.tick(channel))

    def answered(self, _channel, frame):
        if not isinstance(frame.method, pika.spec.Basic.Ack):
            self.wrong.append(frame)
        tag = frame.method.delivery_tag
        for each in [each for each in self.under_way if each == tag or frame.method.multiple and each < tag]:
            self.confirmed.add(self.under_way.pop(each))


class Asyncio(Selecting):
    def make_loop(self):
        return asyncio.new_event_loop()

    def run_loop(self):
        self.ioloop.run_forever()
        self.ioloop.close()

    def make(self, **options):
        return AsyncioConnection(self.amqp.parameters(), custom_ioloop=self.ioloop, **options)


@pytest.mark.parametrize("kind", [Blocking, Selecting, Asyncio])
def test_pika_goes_on_after_a_kill_and_nothing_confirmed_is_lost(amqp, kind):
    kill_under(amqp, kind(amqp))


# --- kombu

class Kombu(Client):
    """kombu: what fails is tried again by Connection.ensure, with what it declares; a ConsumerMixin consumes."""
    RETRY = {"interval_start": PAUSE, "interval_step": 0, "interval_max": PAUSE}

    def __init__(self, amqp):
        super().__init__(amqp)
        import kombu
        from kombu.mixins import ConsumerMixin
        url = f"amqp://guest:guest@127.0.0.1:{amqp.broker.port}//"
        exchange = kombu.Exchange(self.exchange, "direct", durable=False)
        self.target = kombu.Queue(self.queue, exchange, routing_key="a", queue_arguments=self.arguments)
        self.dead_target = kombu.Queue(self.dead_queue)
        self.publishing = kombu.Connection(url, transport_options={"confirm_publish": True})
        story = self

        class Taker(ConsumerMixin):
            connection = kombu.Connection(url)

            def get_consumers(self, consumer, channel):
                story.connected += 1
                return [consumer([story.target], callbacks=[story.came], prefetch_count=UNDER_WAY),
                        consumer([story.dead_target], callbacks=[story.came_dead])]
        self.taker = Taker()

    def go(self):
        taking = threading.Thread(target=self.taker.run, daemon=True)
        taking.start()
        with self.publishing as connection:
            producer = connection.Producer(on_return=lambda _error, _exchange, _key, message: self.returned.add(int(message.body)))
            publish = connection.ensure(producer, producer.publish, max_retries=1000, **self.RETRY)
            while not self.ending.is_set():
                number = self.next()
                publish(str(number), exchange=self.target.exchange, routing_key=self.key(number), mandatory=True,
                        declare=[self.dead_target, self.target])
                self.confirmed.add(number)
        self.wait(self.is_done, "all there")
        self.taker.should_stop = True
        taking.join(SECONDS)
        self.taker.connection.release()

    def came(self, body, message):
        what = self.fate(int(body), message.delivery_info["redelivered"])
        if what == ACK:
            message.ack()
        elif what == REQUEUE:
            message.requeue()
        elif what == REJECT:
            message.reject()

    def came_dead(self, body, message):
        self.died(int(body), message.headers)
        message.ack()


def test_kombu_goes_on_after_a_kill_and_nothing_confirmed_is_lost(amqp):
    pytest.importorskip("kombu")
    kill_under(amqp, Kombu(amqp))


# --- Celery

@pytest.fixture
def worker(amqp, tmp_path):
    """A running one that acknowledges late: what it was doing when it lost the server is done again. Its application waits
    for confirms, and tries for long to send."""
    pytest.importorskip("celery")
    from kit.celery_worker import QUICK, Worker
    with bounded(120):
        worker = Worker(amqp, tmp_path, *QUICK, "-c", "2", backend="disabled://", conf={
            "task_acks_late": True, "task_ignore_result": True, "broker_transport_options": {"confirm_publish": True},
            "task_publish_retry_policy": {"max_retries": 1000, **Kombu.RETRY}})
        yield worker
        worker.stop()


def test_celery_does_all_that_was_sent_before_during_and_after_a_kill(amqp, worker):
    sent, ending, wrong = [], threading.Event(), []

    def send():
        try:
            while not ending.wait(0.005):       # the worker is to keep up
                worker.tasks.say.delay(len(sent))
                sent.append(f"said {len(sent)}")
        except Exception as error:
            wrong.append(error)
    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    for _ in range(2 if amqp.broker.name == "maitred" else 1):
        target = len(sent) + 30
        while len(sent) < target and not wrong:
            time.sleep(0.01)
        worker.wait_log(*sent[:10])
        since = len(worker.output)
        amqp.broker.kill()
        time.sleep(0.2)
        assert sending.is_alive() and not wrong, wrong
        amqp.broker.start_again()
        target = len(sent) + 30
        while len(sent) < target and not wrong:
            time.sleep(0.01)
        worker.wait_log(*sent[:target])         # it is back
        assert any("onnection to broker lost" in line for line in worker.output[since:]), worker.output
    ending.set()
    sending.join(SECONDS)
    assert not wrong and not sending.is_alive()
    worker.wait_log(*sent)
    assert set(worker.log) == set(sent)
    print(f"{len(sent)} tasks sent, {len(worker.log)} done")
