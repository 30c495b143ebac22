"""AMQP: large bodies, which have files of their own: memory, crashes, who shares one, and when it goes."""
import contextlib
import hashlib
import json
import os
import random
import re
import threading
import time
from functools import lru_cache

import pika
import pytest
from pika import spec

from kit import process
from kit.admin import admin_of
from kit.amqp import Amqp, Consumer, MaitredBroker, bodies, bounded, channel_closed, count, get, publish, wait_count
from kit.amqp_raw import Raw, body_frame, content_frame, method_frame
from kit.config import admin, top
from kit.process import is_sanitized
from kit.wire import DEADLINE, PeerGone, TimedOut

MIB = 1 << 20
LARGEST = 128 * MIB
ROUNDS = int(os.environ.get("KILL_ROUNDS", "5"))
SLOW = 5 if is_sanitized() else 1
CONFIGURATION = (top('state = "{dir}/state"\n{more}', threads=2) + admin() +
                 'amqp "127.0.0.1:{port}" { user "guest" { password = "guest"  administrator = true } }\n')


@pytest.fixture
def serve(tmp_path):
    """serve(more, wrapper): a server, and what the test does with it."""
    opened = []

    def start(more="state-segment = 4m", wrapper=()):
        opened.append(Amqp(MaitredBroker(tmp_path, CONFIGURATION.replace("{more}", more), wrapper)))
        return opened[-1]
    with bounded((60 + 2 * ROUNDS) * SLOW):
        yield start
        for amqp in opened:
            amqp.close()
            amqp.broker.stop()


@lru_cache(maxsize=4)
def content(size, seed=1):
    return random.Random(seed).randbytes(size)


def same(got, wanted):
    return len(got) == len(wanted) and hashlib.sha256(got).digest() == hashlib.sha256(wanted).digest()


def files(amqp):
    """The files of bodies that are there, with their sizes."""
    found = {}
    for path in (amqp.broker.proxy.directory / "state").glob("body-*"):
        try:
            found[path.name] = path.stat().st_size
        except FileNotFoundError:
            pass
    return found


def until(holds, what, seconds=DEADLINE * SLOW):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimedOut(what)
        time.sleep(0.01)


def wait_files(amqp, n):
    until(lambda: len(files(amqp)) == n, f"there are never {n} files of bodies")


class Peak:
    """Of the server's memory, in MiB, over what it was."""

    def __init__(self, amqp):
        self.of = f"/proc/{amqp.broker.proxy.process.pid}"
        with open(f"{self.of}/clear_refs", "w", encoding="ascii") as refs:
            refs.write("5")
        self.before = self._read("VmRSS")

    def _read(self, name):
        with open(f"{self.of}/status", encoding="ascii") as status:
            return int(re.search(name + r":\s+(\d+) kB", status.read()).group(1)) / 1024

    def grown(self):
        return self._read("VmHWM") - self.before


def crash(amqp):
    amqp.broker.kill()
    amqp.broker.start_again()


def test_128_mib_go_through_with_the_memory_of_a_piece(serve):
    amqp = serve("")
    channel = amqp.channel(confirm=True)
    queue = amqp.queue(channel, durable=True)
    publish(channel, queue, b"x")
    get(channel, queue)
    peak = Peak(amqp)
    publish(channel, queue, content(LARGEST), delivery_mode=2)
    published = peak.grown()
    assert list(files(amqp).values()) == [LARGEST + -(-LARGEST // 262128) * 16]
    consumer = Consumer(channel, queue)
    assert same(consumer.wait(1)[0], content(LARGEST))
    consumer.ack()
    wait_files(amqp, 0)
    print(f"the server grew by {published:.1f} MiB when it was published, {peak.grown():.1f} MiB in all")
    if not is_sanitized():
        assert peak.grown() < 16


def test_who_reads_slowly_holds_a_piece(serve):
    amqp = serve()
    channel = amqp.channel(confirm=True)
    queue = amqp.queue(channel, durable=True)
    publish(channel, queue, *[content(32 * MIB)] * 3)
    raw = Raw(amqp.broker.client())
    amqp.raws.append(raw)
    raw.open().open_channel()
    peak = Peak(amqp)
    raw.method(1, spec.Basic.Consume(queue=queue, consumer_tag="slow"))
    raw.expect(spec.Basic.ConsumeOk)
    raw.expect(spec.Basic.Deliver)
    time.sleep(0.3)       # it reads nothing; whatever came meanwhile would show
    if not is_sanitized():
        assert peak.grown() < 8
    for number in range(3):
        if number:
            raw.expect(spec.Basic.Deliver)
        _, _, head = raw.read_frame()
        assert int.from_bytes(head[4:12], "big") == 32 * MIB
        got = bytearray()
        while len(got) < 32 * MIB:
            got += raw.read_frame()[2]
        assert same(got, content(32 * MIB))


@pytest.mark.parametrize("size", [2 * MIB - 1, 262128 * 5, 262128 * 5 + 1, MIB + 1])
def test_bodies_of_any_size_come_as_they_went(serve, size):
    amqp = serve()
    for frame_max in (131072, 4096, 65536):
        channel = amqp.channel(confirm=True, frame_max=frame_max)
        queue = amqp.queue(channel, durable=True)
        publish(channel, queue, content(size), content_type="text/plain", headers={"a": "b"})
        assert len(files(amqp)) == 1
        _, properties, body = get(channel, queue)
        assert same(body, content(size)) and (properties.content_type, properties.headers) == ("text/plain", {"a": "b"})
        wait_files(amqp, 0)


def test_what_is_confirmed_is_there_after_a_kill(serve):
    amqp = serve()
    channel = amqp.channel(confirm=True)
    queue = amqp.queue(channel, durable=True)
    publish(channel, queue, content(20 * MIB), delivery_mode=2)
    for _ in range(2):
        crash(amqp)
        channel = amqp.channel()
        assert len(files(amqp)) == 1
        method, _, body = channel.basic_get(queue)
        assert same(body, content(20 * MIB))
        channel.connection.close()
    channel = amqp.channel()
    method, _, body = get(channel, queue)
    assert same(body, content(20 * MIB)) and method.redelivered
    wait_files(amqp, 0)


def test_a_restart_keeps_bodies_by_its_checkpoint(serve):
    amqp = serve()
    channel = amqp.channel(confirm=True)
    queue = amqp.queue(channel, durable=True)
    publish(channel, queue, content(2 * MIB), content(3 * MIB, 2), delivery_mode=2)
    for _ in range(2):
        amqp.broker.restart()
        assert sorted(files(amqp).values()) == [2 * MIB + 9 * 16, 3 * MIB + 13 * 16]
    channel = amqp.channel()
    assert [hashlib.sha256(body).digest() for body in bodies(channel, queue, 2)] == [
        hashlib.sha256(body).digest() for body in (content(2 * MIB), content(3 * MIB, 2))]
    wait_files(amqp, 0)


def begin(amqp, queue, size, part, channel=1):
    """A connection by hand that has sent a part of a message; its file is there."""
    raw = Raw(amqp.broker.client())
    amqp.raws.append(raw)
    raw.open().open_channel(channel)
    before = len(files(amqp))
    raw.method(channel, spec.Basic.Publish(routing_key=queue)).send(content_frame(channel, size))
    for at in range(0, part, 131064):
        raw.send(body_frame(channel, content(size)[at:min(at + 131064, part)]))
    wait_files(amqp, before + 1)
    return raw


def test_a_kill_within_a_publish_leaves_neither_a_message_nor_a_file(serve):
    amqp = serve()
    channel = amqp.channel(confirm=True)
    queue = amqp.queue(channel, durable=True)
    publish(channel, queue, content(2 * MIB), delivery_mode=2)
    begin(amqp, queue, 32 * MIB, 20 * MIB)
    crash(amqp)
    wait_files(amqp, 1)
    channel = amqp.channel(confirm=True)
    publish(channel, queue, content(MIB + 7), delivery_mode=2)
    assert [len(body) for body in bodies(channel, queue, 2)] == [2 * MIB, MIB + 7]
    wait_files(amqp, 0)


class Publisher(threading.Thread):
    """Publishes large bodies, each with its number in it, and begins anew when the server has gone."""

    def __init__(self, amqp, queue, first):
        super().__init__(daemon=True)
        self.amqp, self.queue, self.number = amqp, queue, first
        self.confirmed, self.stopping = set(), threading.Event()

    @staticmethod
    def body(number):
        return b"%8d" % number + content(MIB + number % 7 * 500_000, number % 3)

    def run(self):
        while not self.stopping.is_set():
            with contextlib.suppress(pika.exceptions.AMQPError, OSError):
                with pika.BlockingConnection(self.amqp.parameters()) as connection:
                    self._publish(connection.channel())

    def _publish(self, channel):
        channel.confirm_delivery()
        while not self.stopping.is_set():
            self.number += 1
            publish(channel, self.queue, self.body(self.number), delivery_mode=2)
            self.confirmed.add(self.number)


def test_no_confirmed_body_is_lost_whenever_the_server_is_killed(serve):
    """And none that is acknowledged, or was not whole, leaves a file."""
    amqp, chance, acknowledged = serve(), random.Random(), set()
    queue = amqp.queue(amqp.channel(), durable=True)
    publishers = [Publisher(amqp, queue, first) for first in (0, 10000)]
    for publisher in publishers:
        publisher.start()
    for _ in range(ROUNDS):
        end = time.monotonic() + chance.uniform(0.05, 1)
        channel = amqp.channel()
        while time.monotonic() < end:
            method, _, body = channel.basic_get(queue)
            if method and chance.random() < 0.5:
                channel.basic_ack(method.delivery_tag)
                acknowledged.add(int(body[:8]))
        crash(amqp)
    for publisher in publishers:
        publisher.stopping.set()
    for publisher in publishers:
        publisher.join(DEADLINE * SLOW)
    channel, found = amqp.channel(), {}
    while (got := channel.basic_get(queue, auto_ack=True))[0]:
        found[int(got[2][:8])] = got[2]
    confirmed = set.union(*(publisher.confirmed for publisher in publishers))
    print(f"{len(confirmed)} were confirmed, {len(acknowledged)} acknowledged, {len(found)} are there")
    assert confirmed - acknowledged <= set(found)
    assert all(same(body, Publisher.body(number)) for number, body in found.items())
    wait_files(amqp, 0)


@pytest.mark.parametrize("how", ["connection", "reset", "shorter", "longer"])
def test_what_ends_in_the_middle_leaves_no_file(serve, how):
    amqp = serve()
    channel = amqp.channel()
    queue = amqp.queue(channel, durable=True)
    raw = begin(amqp, queue, 8 * MIB, 5 * MIB)
    if how == "connection":
        raw.method(0, spec.Connection.Close(200, "", 0, 0)).expect(spec.Connection.CloseOk)
    elif how == "reset":
        raw.peer.reset()
    elif how == "shorter":
        raw.method(1, spec.Channel.Flow(active=True)).expect_end(505)
    else:
        for _ in range(40):
            raw.send(body_frame(1, bytes(131064)))
        raw.expect_end(501, 505)
    wait_files(amqp, 0)
    assert count(channel, queue) == 0


def test_a_channel_that_is_closed_by_the_server_in_mid_body_leaves_no_file(serve):
    """Its consumer holds a message for too long."""
    amqp = serve()
    channel = amqp.channel()
    queue = amqp.queue_name()
    channel.queue_declare(queue, durable=True, arguments={"x-consumer-timeout": 1000})
    publish(channel, queue, b"held")
    raw = Raw(amqp.broker.client())
    amqp.raws.append(raw)
    raw.open().open_channel()
    raw.method(1, spec.Basic.Consume(queue=queue, consumer_tag="c")).expect(spec.Basic.ConsumeOk)
    raw.expect(spec.Basic.Deliver)
    raw.read_frame()
    raw.read_frame()
    raw.method(1, spec.Basic.Publish(routing_key=queue)).send(content_frame(1, 8 * MIB))
    for _ in range(20):
        raw.send(body_frame(1, bytes(131064)))
    wait_files(amqp, 1)
    close = raw.expect(spec.Channel.Close)
    assert close.reply_code == 406 and "timed out" in close.reply_text
    wait_files(amqp, 0)
    for _ in range(20):             # what is still on its way is of no use
        raw.send(body_frame(1, bytes(131064)))
    raw.method(1, spec.Channel.CloseOk()).open_channel()


def test_three_queues_share_a_file(serve):
    amqp = serve()
    channel = amqp.channel(confirm=True)
    exchange = amqp.exchange(channel, "fanout")
    queues = [amqp.queue(channel, durable=True) for _ in range(3)]
    for queue in queues:
        channel.queue_bind(queue, exchange)
    publish(channel, "", content(5 * MIB), exchange=exchange, delivery_mode=2)
    assert len(files(amqp)) == 1
    for number, queue in enumerate(queues):
        if number == 1:
            amqp.broker.restart()
            channel = amqp.channel()
        if number == 2:
            crash(amqp)
            channel = amqp.channel()
        assert len(files(amqp)) == 1
        assert same(get(channel, queue)[2], content(5 * MIB))
    wait_files(amqp, 0)


def test_purging_and_deleting_queues_remove_files(serve):
    amqp = serve()
    channel = amqp.channel(confirm=True)
    queues = [amqp.queue(channel, durable=True) for _ in range(2)]
    for queue in queues:
        publish(channel, queue, *[content(2 * MIB)] * 3, delivery_mode=2)
    assert len(files(amqp)) == 6
    channel.queue_purge(queues[0])
    wait_files(amqp, 3)
    channel.queue_delete(queues[1])
    wait_files(amqp, 0)


@pytest.mark.parametrize("why", ["rejected", "expired", "maxlen"])
def test_a_dead_letter_takes_the_file_along(serve, why):
    amqp = serve()
    channel = amqp.channel(confirm=True)
    grave = amqp.queue(channel, durable=True)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave}
    if why == "expired":
        arguments["x-message-ttl"] = 50
    if why == "maxlen":
        arguments["x-max-length"] = 1
    queue = amqp.queue(channel, arguments, durable=True)
    publish(channel, queue, content(3 * MIB), delivery_mode=2)
    if why == "rejected":
        method, _, _ = get(channel, queue, ack=False)
        channel.basic_reject(method.delivery_tag, requeue=False)
    if why == "maxlen":
        publish(channel, queue, b"one more", delivery_mode=2)
    wait_count(channel, grave, 1)
    assert len(files(amqp)) == 1
    crash(amqp)
    channel = amqp.channel()
    assert len(files(amqp)) == 1
    _, properties, body = get(channel, grave)
    assert same(body, content(3 * MIB)) and properties.headers["x-death"][0]["reason"] == why
    wait_files(amqp, 0)


def test_what_expires_without_dead_letters_goes_with_its_file(serve):
    amqp = serve()
    channel = amqp.channel(confirm=True)
    queue = amqp.queue(channel, durable=True)
    publish(channel, queue, content(3 * MIB), expiration="50")
    wait_files(amqp, 0)
    assert count(channel, queue) == 0


def test_requeued_bodies_come_again(serve):
    amqp = serve()
    channel = amqp.channel(confirm=True)
    queue = amqp.queue(channel, durable=True)
    publish(channel, queue, content(3 * MIB))
    consumer = Consumer(channel, queue)
    consumer.wait(1)
    consumer.nack(requeue=True)
    assert [same(body, content(3 * MIB)) for body in consumer.wait(2)] == [True, True]
    assert [method.redelivered for method, _, _ in consumer.deliveries] == [False, True]
    channel.connection.close()
    channel = amqp.channel()
    assert same(get(channel, queue)[2], content(3 * MIB))
    wait_files(amqp, 0)


def test_without_acknowledgements_the_file_goes_when_it_is_delivered(serve):
    """What is on its way goes on."""
    amqp = serve()
    channel = amqp.channel(confirm=True)
    queue = amqp.queue(channel, durable=True)
    publish(channel, queue, *[content(16 * MIB)] * 4)
    raw = Raw(amqp.broker.client())
    amqp.raws.append(raw)
    raw.open().open_channel()
    raw.method(1, spec.Basic.Consume(queue=queue, consumer_tag="c", no_ack=True)).expect(spec.Basic.ConsumeOk)
    raw.expect(spec.Basic.Deliver)
    until(lambda: len(files(amqp)) < 4, "no file goes")
    for number in range(4):
        if number:
            raw.expect(spec.Basic.Deliver)
        raw.read_frame()
        got = bytearray()
        while len(got) < 16 * MIB:
            got += raw.read_frame()[2]
        assert same(got, content(16 * MIB))
    wait_files(amqp, 0)


def test_transactions_keep_or_leave_bodies(serve):
    amqp = serve()
    channel = amqp.channel()
    channel.tx_select()
    queue = amqp.queue(channel, durable=True)
    publish(channel, queue, content(2 * MIB), content(3 * MIB, 2))
    until(lambda: len(files(amqp)) == 2, "they are not written")
    other = amqp.channel()
    assert count(other, queue) == 0
    channel.tx_rollback()
    wait_files(amqp, 0)
    publish(channel, queue, content(2 * MIB), content(3 * MIB, 2))
    channel.tx_commit()
    assert len(files(amqp)) == 2
    crash(amqp)
    channel = amqp.channel()
    assert [len(body) for body in bodies(channel, queue, 2)] == [2 * MIB, 3 * MIB]
    wait_files(amqp, 0)


def test_a_body_without_a_queue_comes_back_and_leaves_no_file(serve):
    amqp = serve()
    channel = amqp.channel(confirm=True)
    peak = Peak(amqp)
    with pytest.raises(pika.exceptions.UnroutableError) as returned:
        channel.basic_publish("", "nowhere", content(64 * MIB), mandatory=True)
    assert same(returned.value.messages[0].body, content(64 * MIB))
    channel.basic_publish("", "nowhere", content(2 * MIB))
    wait_files(amqp, 0)
    if not is_sanitized():
        assert peak.grown() < 16


def test_an_exchange_that_is_not_there_leaves_no_file(serve):
    amqp = serve()
    channel = amqp.channel()
    with channel_closed(channel, 404, "NOT_FOUND - no exchange 'none' in vhost '/'"):
        channel.basic_publish("none", "", content(2 * MIB))
    wait_files(amqp, 0)


def until_told(connection, holds):
    for _ in range(int(DEADLINE * SLOW * 50)):
        if holds():
            return
        connection.process_data_events(0.02)
    raise AssertionError("it did not happen")


def test_a_publisher_waits_while_there_is_no_room_for_a_body(serve):
    """As for a small one: it is told, nothing is read from it any more, and nothing of what it sent is lost."""
    amqp = serve("state-segment = 1m\nstate-max = 16m")
    publisher, told, sent = amqp.connect(), [], 0
    publisher.add_on_connection_blocked_callback(lambda *_: told.append("blocked"))
    publisher.add_on_connection_unblocked_callback(lambda *_: told.append("unblocked"))
    channel, reader = publisher.channel(), amqp.channel()
    queue = amqp.queue(reader, durable=True)
    while not told:
        assert sent < 20
        publish(channel, queue, content(2 * MIB, sent))
        sent += 1
        for _ in range(10):
            publisher.process_data_events(0.02)
    assert told == ["blocked"] and sum(files(amqp).values()) < 16 * MIB
    for number in range(sent):
        assert same(get(reader, queue)[2], content(2 * MIB, number))
    until_told(publisher, lambda: told == ["blocked", "unblocked"])
    wait_files(amqp, 0)


def test_an_end_does_not_wait_for_room(serve):
    amqp = serve("state-segment = 1m\nstate-max = 16m")
    channel = amqp.channel()
    queue = amqp.queue(channel, durable=True)
    publish(channel, queue, content(12 * MIB))
    wait_count(channel, queue, 1)
    raw = Raw(amqp.broker.client())
    amqp.raws.append(raw)
    raw.open().open_channel()
    raw.method(1, spec.Basic.Publish(routing_key=queue)).send(content_frame(1, 5 * MIB), body_frame(1, bytes(131064)))
    raw.expect(spec.Connection.Blocked)
    amqp.broker.restart()
    assert len(files(amqp)) == 1 and count(amqp.channel(), queue) == 1


def test_a_body_that_state_max_can_never_hold_is_refused_by_its_size(serve):
    """Before it comes."""
    amqp = serve("state-segment = 1m\nstate-max = 16m")
    channel = amqp.channel()
    queue = amqp.queue(channel, durable=True)
    publish(channel, queue, content(12 * MIB))
    wait_count(channel, queue, 1)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        publish(channel, queue, content(14 * MIB))
        channel.queue_declare(queue, passive=True)
    assert closed.value.reply_text.startswith("PRECONDITION_FAILED - message size 14680064 is larger than configured max size 13")
    assert len(files(amqp)) == 1


def test_large_bodies_come_interleaved_on_many_channels(serve):
    amqp = serve()
    channel = amqp.channel()
    queue = amqp.queue(channel, durable=True)
    raw = Raw(amqp.broker.client())
    amqp.raws.append(raw)
    raw.open()
    size, n = 6 * MIB, 12
    for number in range(1, n + 1):
        raw.open_channel(number).method(number, spec.Confirm.Select()).expect(spec.Confirm.SelectOk)
        raw.method(number, spec.Basic.Publish(routing_key=queue)).send(content_frame(number, size))
    for at in range(0, size, 128 * 1000):
        for number in range(1, n + 1):
            raw.send(body_frame(number, content(size, number % 3)[at:at + 128 * 1000]))
    for _ in range(n):
        raw.expect(spec.Basic.Ack, seconds=DEADLINE * SLOW)
    assert len(files(amqp)) == n
    found = sorted(hashlib.sha256(body).hexdigest() for body in bodies(channel, queue, n))
    assert found == sorted(hashlib.sha256(content(size, number % 3)).hexdigest() for number in range(n))
    wait_files(amqp, 0)


def log(amqp, command, *more):
    return process.run("log", command, amqp.broker.proxy.directory / "state", *more)


def test_a_log_with_bodies_is_checked_and_salvaged(serve):
    amqp = serve()
    channel = amqp.channel(confirm=True)
    queues = [amqp.queue_name() for _ in range(2)]
    for queue in queues:
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, "amq.fanout")
    publish(channel, "", content(3 * MIB), exchange="amq.fanout", delivery_mode=2)
    publish(channel, queues[0], content(2 * MIB, 2), delivery_mode=2)
    proxy = amqp.broker.proxy
    proxy.kill()
    result = log(amqp, "check")
    assert result.returncode == 0 and "2 bodies in files of their own, 5242880 bytes\n" in result.stdout, result
    with (proxy.directory / "state" / "body-0000000000000002").open("r+b") as file:
        file.seek(1 * MIB)
        file.write(b"damaged")
    result = log(amqp, "check")
    assert result.returncode == 1 and "damage: body-0000000000000002: the body in it does not verify\n" in result.stdout
    assert f"queue {queues[0]}: 2 messages wait, 1 of them cannot be read\n" in result.stdout
    assert f"lost: message 2 of queue {queues[0]}\n" in result.stdout and "a start works\n" in result.stdout
    (proxy.directory / "state" / "body-0000000000000002").unlink()
    result = log(amqp, "check")
    assert result.returncode == 1 and "body-0000000000000002, the body of messages that wait, is gone" in result.stdout
    proxy.begin_again()
    until(lambda: "body-0000000000000002" in proxy.errors, "it does not say what is missing")
    proxy.kill()
    result = log(amqp, "salvage", proxy.directory / "new")
    assert result.returncode == 0 and "2 messages are in" in result.stdout, result
    (proxy.directory / "state").rename(proxy.directory / "old")
    (proxy.directory / "new").rename(proxy.directory / "state")
    proxy.start_again()
    channel = amqp.channel()
    for queue in queues:
        assert same(get(channel, queue)[2], content(3 * MIB)) and count(channel, queue) == 0
    wait_files(amqp, 0)


def test_a_body_that_does_not_verify_is_not_delivered(serve):
    """Its connection ends, because a part of it is out; the others go on."""
    amqp = serve()
    channel = amqp.channel(confirm=True)
    queue = amqp.queue(channel, durable=True)
    publish(channel, queue, content(3 * MIB), content(2 * MIB, 2))
    with (amqp.broker.proxy.directory / "state" / "body-0000000000000001").open("r+b") as file:
        file.seek(1 * MIB)
        file.write(b"damaged")
    raw = Raw(amqp.broker.client())
    amqp.raws.append(raw)
    raw.open().open_channel()
    raw.method(1, spec.Basic.Consume(queue=queue, consumer_tag="c")).expect(spec.Basic.ConsumeOk)
    raw.expect(spec.Basic.Deliver)
    raw.read_frame()
    got = bytearray()
    with pytest.raises(PeerGone):
        while True:
            got += raw.read_frame()[2]
    assert same(got, content(3 * MIB)[:len(got)]) and len(got) == 262128 * 4
    until(lambda: "body (file 1) cannot be read" in amqp.broker.proxy.errors, "it is not said")
    wait_count(channel, queue, 2)


def limited(limit):
    """A wrapper for a server to which a limit of the shell's ulimit applies."""
    return ("/bin/sh", "-c", f'trap "" XFSZ; ulimit {limit}; exec "$@"', "sh")


def test_a_body_that_cannot_be_written_ends_its_connection_and_leaves_no_file(serve):
    """No file may be larger than 8 MiB."""
    amqp = serve(wrapper=limited("-f 16384"))
    channel, other = amqp.channel(), amqp.channel(confirm=True)
    queue = amqp.queue(other, durable=True)
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as closed:
        publish(channel, queue, content(20 * MIB))
        channel.queue_declare(queue, passive=True)
    assert closed.value.reply_code == 541
    assert closed.value.reply_text == "INTERNAL_ERROR - the message's body cannot be written: File too large"
    wait_files(amqp, 0)
    publish(other, queue, content(6 * MIB))
    assert same(get(other, queue)[2], content(6 * MIB)) and count(other, queue) == 0


def test_bodies_that_find_no_descriptor_come_again(serve):
    """More consumers than there are descriptors, on one connection, which ends."""
    amqp = serve(wrapper=limited("-n 64"))
    channel = amqp.channel(confirm=True)
    queue = amqp.queue(channel, durable=True)
    for number in range(80):
        publish(channel, queue, content(MIB + 1 + number))
    raw = Raw(amqp.broker.client())
    amqp.raws.append(raw)
    raw.open()
    for number in range(1, 71):
        raw.open_channel(number)
    for number in range(1, 71):
        raw.method(number, spec.Basic.Consume(queue=queue, consumer_tag="c", nowait=True))
    until(lambda: "cannot be opened" in amqp.broker.proxy.errors, "all found a descriptor")     # it reads nothing so far
    with pytest.raises(PeerGone):
        while True:
            raw.read_frame()
    wait_count(channel, queue, 80)
    assert sorted(len(body) for body in bodies(channel, queue, 80)) == [MIB + 1 + number for number in range(80)]
    wait_files(amqp, 0)


def test_a_peek_shows_the_beginning(serve):
    amqp = serve()
    channel = amqp.channel(confirm=True)
    queue = amqp.queue(channel, durable=True)
    body = (b"ab\xc3\xa9" * MIB)[:3 * MIB]
    publish(channel, queue, body)
    shown, = json.loads(admin_of(amqp.broker.proxy).get(f"/api/queues/{queue}/messages").body)["messages"]
    assert shown["body_bytes"] == len(body) and shown["body"].startswith("ab\u00e9ab\u00e9") and len(shown["body"]) <= 4096
    assert same(get(channel, queue)[2], body)


def test_a_queue_moves_its_large_bodies(serve):
    amqp = serve()
    channel = amqp.channel(confirm=True)
    queues = [amqp.queue(channel, durable=True) for _ in range(2)]
    publish(channel, queues[0], *[content(2 * MIB)] * 2, delivery_mode=2)
    admin_of(amqp.broker.proxy).post(f"/api/queues/{queues[0]}/move?to={queues[1]}")
    wait_count(channel, queues[1], 2)
    assert len(files(amqp)) == 2
    crash(amqp)
    channel = amqp.channel()
    assert all(same(body, content(2 * MIB)) for body in bodies(channel, queues[1], 2))
    wait_files(amqp, 0)
