"""Publishers and consumers of AMQP that enter in a ledger what they heard, over crashes of either side."""
import random
import struct
import threading
import time

import pika
from pika import spec

from kit import process
from kit.amqp_raw import BODY, METHOD, Raw, body_frame, content_frame, method_frame
from kit.ledger import BEHIND_MOST, Crash, body_of
from kit.wire import PeerGone, TimedOut

DURABLE = b"\x10\0\2"          # of a content header: delivery mode 2
GONE = (OSError, PeerGone, TimedOut)
UNDER_WAY = 40


def forget(raw):
    """What was read, so that a connection can live for hours."""
    del raw.peer.received[:raw.peer.taken]
    raw.peer.taken = 0


class Client(threading.Thread):
    """Has a connection as often as it can, and does on it what it does."""

    def __init__(self, ledger, proxy):
        super().__init__(daemon=True)
        self.ledger, self.proxy = ledger, proxy
        self.ending = threading.Event()
        self.raw = None

    def run(self):
        while not self.ending.is_set():
            try:
                raw = Raw(process.connect(self.proxy.address))
                try:
                    self.raw = raw.open()
                    raw.open_channel()
                    self.go_on(raw)
                finally:
                    raw.close()
                    self.raw = None
            except GONE:
                self.ending.wait(0.005)     # leaves the processor to maitred, which is starting

    def go_on(self, raw):
        raise NotImplementedError

    def end(self):
        self.ending.set()
        self.join(60)
        assert not self.is_alive()


class Publisher(Client):
    """Publishes names of its own, many under way, each once whatever it hears; enters those that were confirmed."""

    def __init__(self, ledger, proxy, exchange, prefix):
        super().__init__(ledger, proxy)
        self.exchange, self.prefix = exchange, prefix
        self.published = []
        self.errors = []        # answers that are no yes

    def waits(self):
        with self.ledger.lock:
            return len(self.ledger.confirmed) - len(self.ledger.handled) > BEHIND_MOST

    def message(self):
        name = b"%s-%d" % (self.prefix, len(self.published))
        self.published.append(name)
        body = body_of(name)
        return name, (method_frame(1, spec.Basic.Publish(exchange=self.exchange, routing_key="a")) +
                      content_frame(1, len(body), flags=DURABLE) + body_frame(1, body))

    def go_on(self, raw):
        raw.method(1, spec.Confirm.Select()).expect(spec.Confirm.SelectOk)
        under_way, tag, confirmed = {}, 0, 0
        while not self.ending.is_set() or under_way:
            if not self.ending.is_set() and len(under_way) < UNDER_WAY and not self.waits():
                tag += 1
                name, frames = self.message()
                under_way[tag] = name
                raw.send(frames)
            if under_way and (len(under_way) == UNDER_WAY or self.ending.is_set() or raw.peer.readable(0)):
                answer = raw.expect((spec.Basic.Ack, spec.Basic.Nack), 1)
                tags = range(confirmed + 1, answer.delivery_tag + 1) if answer.multiple else [answer.delivery_tag]
                names = [under_way.pop(each) for each in tags if each in under_way]
                if answer.multiple or answer.delivery_tag == confirmed + 1:
                    confirmed = max(confirmed, answer.delivery_tag)
                if isinstance(answer, spec.Basic.Ack):
                    self.ledger.confirm(names)
                else:
                    self.errors.append(answer)
                forget(raw)
            elif not under_way:
                self.ending.wait(0.005)


class TransactingPublisher(Publisher):
    """A few at a time, which are confirmed by tx.commit-ok; some are rolled back, and were never published."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.rolled_back = set()

    def go_on(self, raw):
        chance = random.Random()
        raw.method(1, spec.Tx.Select()).expect(spec.Tx.SelectOk)
        while not self.ending.is_set():
            if self.waits():
                self.ending.wait(0.005)
                continue
            names, frames = zip(*[self.message() for _ in range(chance.randrange(1, 8))])
            raw.send(*frames)
            if chance.random() < 0.2:
                self.rolled_back.update(names)
                raw.method(1, spec.Tx.Rollback()).expect(spec.Tx.RollbackOk, 1)
            else:
                raw.method(1, spec.Tx.Commit()).expect(spec.Tx.CommitOk, 1)
                self.ledger.confirm(names)
            forget(raw)


class PikaPublisher(Publisher):
    """As pika's users do: one after the other."""

    def run(self):
        while not self.ending.is_set():
            try:
                connection = pika.BlockingConnection(pika.ConnectionParameters(*self.proxy.address, heartbeat=0))
                channel = connection.channel()
                channel.confirm_delivery()
                while not self.ending.is_set():
                    if self.waits():
                        self.ending.wait(0.005)
                        continue
                    name = b"%s-%d" % (self.prefix, len(self.published))
                    self.published.append(name)
                    channel.basic_publish(self.exchange, "a", body_of(name), pika.BasicProperties(delivery_mode=2), mandatory=True)
                    self.ledger.confirm([name])
                connection.close()
            except (pika.exceptions.AMQPError, OSError):
                self.ending.wait(0.005)


class Declarer(Client):
    """Declares durable queues and binds them, and deletes some; what it heard yes to is in .there and in .gone."""

    def __init__(self, ledger, proxy, exchange):
        super().__init__(ledger, proxy)
        self.exchange = exchange
        self.tried, self.there, self.gone = 0, set(), set()

    def go_on(self, raw):
        while not self.ending.is_set():
            name = f"declared-{self.tried}"
            self.tried += 1
            raw.method(1, spec.Queue.Declare(queue=name, durable=True)).expect(spec.Queue.DeclareOk, 1)
            raw.method(1, spec.Queue.Bind(queue=name, exchange=self.exchange, routing_key=name)).expect(spec.Queue.BindOk, 1)
            self.there.add(name)
            if self.tried % 2:
                self.there.discard(name)
                raw.method(1, spec.Queue.Delete(queue=name)).expect(spec.Queue.DeleteOk, 1)
                self.gone.add(name)
            forget(raw)
            self.ending.wait(0.02)


class Consumer(Client):
    """Enters each message, works on it for work() seconds, and acknowledges it; gives some back."""

    def __init__(self, ledger, proxy, queue, work, prefetch):
        super().__init__(ledger, proxy)
        self.queue, self.work, self.prefetch = queue, work, prefetch
        self.stopped = threading.Event()    # crashed, and not back yet
        self.away = threading.Event()       # nothing is handled
        self.away.set()
        self.chance = random.Random()

    def go_on(self, raw):
        if self.stopped.is_set():
            self.ending.wait(0.01)
            return
        self.away.clear()
        try:
            raw.method(1, spec.Basic.Qos(prefetch_count=self.prefetch)).expect(spec.Basic.QosOk)
            raw.method(1, spec.Basic.Consume(queue=self.queue)).expect(spec.Basic.ConsumeOk)
            while not self.ending.is_set():
                if raw.peer.readable(0.05):
                    self._handle(raw)
        finally:
            self.away.set()

    def _handle(self, raw):
        delivered = raw.expect(spec.Basic.Deliver, 1)
        _, _, head = raw.read_frame()
        size, body = struct.unpack(">Q", head[4:12])[0], b""
        while len(body) < size:
            kind, _, piece = raw.read_frame()
            assert kind == BODY != METHOD
            body += piece
        handling = self.ledger.enter(self, body, delivered.redelivered)
        if self.stopped.wait(self.work()):
            raise PeerGone("crashed")
        if self.chance.random() < 0.03:
            handling.given_back = True
            raw.method(1, spec.Basic.Nack(delivered.delivery_tag, requeue=True))
        else:
            raw.method(1, spec.Basic.Ack(delivered.delivery_tag))
        handling.end = time.monotonic()
        forget(raw)

    def settle(self):
        """maitred is gone: until all that it had sent was read."""
        if not self.away.wait(30):
            raise TimedOut("a consumer does not notice that its connection has ended")

    def crash(self):
        crash = Crash(self, time.monotonic())
        self.stopped.set()
        self.settle()
        crash.end = time.monotonic()
        self.ledger.crashes.append(crash)

    def restart(self):
        self.stopped.clear()
