"""AMQP: clients that do harm, while a well-behaved one beside them publishes with confirms, consumes, and must not notice.
Only maitred is asked: how much memory what takes is its own matter. HOSTILE_MORE=1 makes the crowds as large as they are to be
for measuring; limits on memory do not hold under a sanitizer, which keeps what was freed."""
import contextlib
import os
import random
import select
import socket
import struct
import threading
import time

import pika
import pytest
from pika import spec

from kit import process
from kit.amqp import Amqp, MaitredBroker, bodies, bounded, channel_closed, count, is_there, publish, settle, wait_count
from kit.amqp_raw import BODY, CONTENT, HEADER, HEARTBEAT, METHOD, Raw, body_frame, content_frame, frame, method_frame, publishing
from kit.config import admin, top
from kit.wire import DEADLINE, PeerGone, TimedOut, connect

MORE = bool(os.environ.get("HOSTILE_MORE"))
SLOW = 3 if process.is_sanitized() else 1
NOTICED = 4.0           # seconds; what a neighbour calls long: some syncs of a disk that others use too
KIB, MIB = 1024, 1 << 20
CONFIGURATION = (
    top('state = "{dir}/state"\n{more}', threads="{threads}") + admin() +
    'amqp "127.0.0.1:{port}" {\n'
    '    handshake-timeout = 1s\n'
    '    user "guest" { password = "guest"  virtual-hosts = { /, other } }\n'
    '}\n')


@pytest.fixture
def serve(tmp_path):
    """serve(more): a server, with more at the top of its configuration, and what the test does with it."""
    with contextlib.ExitStack() as stack:
        def start(more="", threads=2):
            broker = MaitredBroker(tmp_path, CONFIGURATION.replace("{more}", more).replace("{threads}", str(threads)))
            stack.callback(broker.stop)
            client = Amqp(broker)
            stack.callback(client.close)
            return client
        with bounded(300 * SLOW):
            yield start


@pytest.fixture
def amqp(serve):
    return serve()


class Neighbour(threading.Thread):
    """Publishes, waits for the confirm, and waits for the delivery, again and again."""

    def __init__(self, amqp, size):
        super().__init__(daemon=True)
        self.amqp, self.size = amqp, size
        self.ending = threading.Event()
        self.times, self.error = [], None

    def run(self):
        try:
            connection = pika.BlockingConnection(self.amqp.parameters())
            channel = connection.channel()
            channel.confirm_delivery()
            queue = channel.queue_declare("", exclusive=True).method.queue
            came = []
            channel.basic_consume(queue, lambda _channel, method, _properties, body: (
                came.append(body), channel.basic_ack(method.delivery_tag)))
            while not self.ending.is_set():
                begun = time.monotonic()
                body = (b"%d " % len(self.times)).ljust(self.size, b"n")
                channel.basic_publish("", queue, body, mandatory=True)
                while not came:
                    connection.process_data_events(1)
                    assert time.monotonic() - begun < 30, "nothing is delivered"
                assert came == [body]
                came.clear()
                self.times.append(time.monotonic() - begun)
                self.ending.wait(0.002)
            connection.close()
        except Exception as error:
            self.error = error


@contextlib.contextmanager
def beside(amqp, size=100, noticed=NOTICED):
    """A neighbour to what is done within, which must not notice."""
    neighbour = Neighbour(amqp, size)
    neighbour.start()
    try:
        while not neighbour.times and neighbour.is_alive():
            time.sleep(0.01)
        begun = time.monotonic()
        yield neighbour
        done = len(neighbour.times)
        end = time.monotonic() + 30
        while neighbour.is_alive() and len(neighbour.times) < done + 3 and time.monotonic() < end:
            time.sleep(0.01)
        seconds = time.monotonic() - begun
    finally:
        neighbour.ending.set()
        neighbour.join(40)
    assert not neighbour.error, repr(neighbour.error)
    assert len(neighbour.times) >= done + 3, "the neighbour waits"
    print(f"the neighbour had {len(neighbour.times)} turns in {seconds:.1f} s, the longest {max(neighbour.times):.2f} s")
    assert max(neighbour.times) < noticed * SLOW


class Memory:
    """What a server has more than at first, in KiB."""

    def __init__(self, amqp):
        self.proxy = amqp.broker.proxy
        self.proxy.forget_peak()
        self.before = self.proxy.memory()

    def grown(self):
        return self.proxy.memory() - self.before

    def peak(self):
        return self.proxy.memory("VmHWM") - self.before

    def check(self, what, grown, most):
        print(f"{what}: {grown} KiB more")
        assert process.is_sanitized() or grown <= most


def opened(amqp, receive_buffer=None, channels=1, **tuned):
    raw = Raw(amqp.broker.proxy.client(receive_buffer=receive_buffer))
    amqp.raws.append(raw)
    raw.open(**tuned)
    for number in range(1, channels + 1):
        raw.open_channel(number)
    return raw


def push(raw, data, seconds, until_answered=False):
    """As much of data as goes out, again and again, in that time. Returns the bytes; ends where the server closes. Once for each
    connection: it may stop in the middle of a frame."""
    end, sent = time.monotonic() + seconds, 0
    raw.peer.sock.setblocking(False)
    rest = data
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while (left := end - time.monotonic()) > 0:
            readable, writable, _ = select.select([raw.peer.sock] if until_answered else [], [raw.peer.sock], [], left)
            if readable or not writable:
                break
            n = raw.peer.sock.send(rest)
            sent, rest = sent + n, rest[n:] or data
    raw.peer.sock.settimeout(DEADLINE)
    return sent


def message(key, size, mandatory=False):
    """The frames of one, in as many of body as it takes."""
    most = 120 * KIB
    return (method_frame(1, spec.Basic.Publish(routing_key=key, mandatory=mandatory)) + content_frame(1, size) +
            b"".join(body_frame(1, b"x" * min(size - at, most)) for at in range(0, size, most)))


def fill(amqp, queue, count, size):
    """So many messages into the queue, pipelined; confirmed."""
    raw = opened(amqp)
    raw.method(1, spec.Confirm.Select()).expect(spec.Confirm.SelectOk)
    one, most = message(queue, size), max(1, min(1000, 4 * MIB // (size + 100)))
    for start in range(0, count, most):
        raw.send(one * min(most, count - start))
        while raw.expect(spec.Basic.Ack, seconds=60).delivery_tag < min(start + most, count):
            pass
    raw.close()


def nothing_is_left(amqp, connections=1):
    """Descriptors of the server go back to what it has without clients, but for that many."""
    end = time.monotonic() + 15 * SLOW
    proxy = amqp.broker.proxy
    while True:
        sockets = sum(each.startswith("socket:") for each in proxy.descriptors())
        if sockets <= 6 + connections:
            return
        if time.monotonic() > end:
            raise TimedOut(f"{sockets} sockets are open")
        time.sleep(0.05)


# --- who does not read

def test_consumers_that_do_not_read_hold_their_transit_and_no_more(amqp):
    channel = amqp.channel()
    queue = amqp.queue(channel)
    fill(amqp, queue, 4000, 16 * KIB)
    with beside(amqp):
        memory = Memory(amqp)
        for _ in range(20):
            opened(amqp, 4096).method(1, spec.Basic.Consume(queue=queue, no_ack=False))
        time.sleep(1.5)
        memory.check("20 consumers that do not read", memory.grown(), 20 * 512)


def test_many_consumers_of_one_connection_that_does_not_read(amqp):
    channel = amqp.channel()
    queue = amqp.queue(channel)
    fill(amqp, queue, 4000, 16 * KIB)
    with beside(amqp):
        memory = Memory(amqp)
        raw = opened(amqp, 4096)
        raw.send(*[method_frame(1, spec.Basic.Consume(queue=queue, no_ack=True, nowait=True, consumer_tag=f"c{number}"))
                   for number in range(100)])
        time.sleep(1.5)
        memory.check("100 consumers of a connection", memory.grown(), 100 * 160 + 2048)
        raw.peer.reset()
        wait_count_stays(channel, queue)


def wait_count_stays(channel, queue):
    """The queue answers, and rests."""
    end = time.monotonic() + DEADLINE * SLOW
    before = None
    while (now := count(channel, queue)) != before:
        assert time.monotonic() < end
        before = now
        channel.connection.sleep(0.2)


@pytest.mark.parametrize("size", [100, 60 * KIB, MIB])
def test_returns_that_nobody_reads_stop_their_publisher(amqp, size):
    with beside(amqp):
        memory = Memory(amqp)
        raw = opened(amqp, 4096)
        data = message("nowhere", size, mandatory=True)
        sent = push(raw, data * max(1, 64 * KIB // len(data)), 1.5)
        print(f"{sent} bytes were taken")
        memory.check("returns", memory.peak(), 24 * KIB)


@pytest.mark.parametrize("no_ack", [True, False])
def test_answers_to_get_that_nobody_reads_are_not_made(amqp, no_ack):
    channel = amqp.channel()
    queue = amqp.queue(channel)
    fill(amqp, queue, 200, 500 * KIB)
    with beside(amqp):
        memory = Memory(amqp)
        raw = opened(amqp, 4096)
        raw.send(method_frame(1, spec.Basic.Get(queue=queue, no_ack=no_ack)) * 200)
        time.sleep(2)
        memory.check("200 gets", memory.peak(), 16 * KIB)


def test_who_asks_and_does_not_read_is_not_listened_to(amqp):
    with beside(amqp):
        memory = Memory(amqp)
        raw = opened(amqp, 4096)
        sent = push(raw, method_frame(1, spec.Channel.Flow(active=True)) * 4000, 2)
        print(f"{sent} bytes were taken")
        memory.check("answers", memory.peak(), 4 * KIB)


# --- who asks for much

def test_ten_thousand_queues_come_and_go(amqp):
    """The second time they find the memory that the first time took."""
    n = 10_000
    with beside(amqp):
        grown = []
        memory = Memory(amqp)
        raw = opened(amqp)
        for durable in (False, True, False):
            begun = time.monotonic()
            for what in ([spec.Queue.Declare(queue=f"flood-{number}", durable=durable, nowait=True) for number in range(n)],
                         [spec.Queue.Delete(queue=f"flood-{number}", nowait=True) for number in range(n)]):
                if durable:
                    what = what[:n // 10]       # each waits for the disk
                for start in range(0, len(what), 500):
                    raw.send(*[method_frame(1, each) for each in what[start:start + 500]])
                raw.method(1, spec.Channel.Flow(active=True)).expect(spec.Channel.FlowOk, seconds=120 * SLOW)
                grown.append(memory.grown())
            print(f"{len(what)} queues, durable: {durable}, in {time.monotonic() - begun:.1f} s")
        print(f"after declaring and deleting: {grown} KiB more")
        memory.check("after all", grown[-1], grown[0] + 4 * KIB)


def test_as_many_channels_as_there_may_be(amqp):
    with beside(amqp):
        memory = Memory(amqp)
        raw = opened(amqp, channels=0)
        raw.send(*[method_frame(number, spec.Channel.Open()) for number in range(1, 2048)])
        for number in range(1, 2048):
            raw.expect(spec.Channel.OpenOk, number)
        memory.check("2,047 channels", memory.grown(), 4 * KIB)
        raw.method(2048, spec.Channel.Open())
        raw.expect_end(530)


def test_consuming_and_cancelling_five_thousand_times(amqp):
    channel = amqp.channel()
    queue = amqp.queue(channel)
    publish(channel, queue, *map(str, range(100)))
    with beside(amqp):
        raw = opened(amqp)
        pair = (method_frame(1, spec.Basic.Consume(queue=queue, consumer_tag="c", nowait=True)) +
                method_frame(1, spec.Basic.Cancel(consumer_tag="c", nowait=True)))
        for _ in range(50):
            raw.send(pair * 100)
            raw.method(1, spec.Channel.Flow(active=True))
            while True:
                kind, _, payload = raw.read_frame(60 * SLOW)
                if kind == METHOD and payload[:4] == struct.pack(">I", spec.Channel.FlowOk.INDEX):
                    break
        raw.close()
        wait_count(channel, queue, 100, DEADLINE * SLOW)
        assert sorted(map(int, bodies(channel, queue))) == list(range(100))


def test_queues_that_are_got_from_and_deleted_leave_nothing_at_their_channel(amqp):
    channel = amqp.channel()

    def turn(n):
        for _ in range(n):
            name = channel.queue_declare("passing").method.queue
            channel.basic_get(name)
            channel.queue_delete(name)
    with beside(amqp):
        turn(300)
        memory = Memory(amqp)
        turn(1000)
        memory.check("1,000 queues that were got from", memory.grown(), 400)


def test_a_queue_that_is_deleted_and_made_again_is_got_from(amqp):
    channel = amqp.channel()
    queue = amqp.queue_name()
    for number in range(5):
        channel.queue_declare(queue)
        publish(channel, queue, str(number), str(number))
        method, _, body = channel.basic_get(queue)
        assert body == b"%d" % number
        if number % 2:
            channel.basic_ack(method.delivery_tag)
        channel.queue_delete(queue)


def test_five_thousand_connections_one_after_the_other(amqp):
    n = 5000 if MORE or not process.is_sanitized() else 1000
    with beside(amqp):
        memory = None
        for number in range(n):
            raw = Raw(connect(amqp.broker.proxy.address))
            raw.open().open_channel()
            if number % 3 == 0:
                raw.method(0, spec.Connection.Close(reply_code=200, reply_text="", class_id=0, method_id=0))
                raw.expect(spec.Connection.CloseOk)
            elif number % 3 == 1:
                raw.peer.reset()
            raw.close()
            if number == n // 2:
                memory = Memory(amqp)
        nothing_is_left(amqp)
        memory.check(f"{n // 2} connections that are gone", memory.grown(), 2 * KIB)


def test_a_thousand_idle_connections(amqp):
    n = 1000
    with beside(amqp):
        memory = Memory(amqp)
        for number in range(n):
            opened(amqp)
        each = memory.grown() / n
        print(f"an idle connection with a channel takes {each:.1f} KiB")
        memory.check("1,000 connections", memory.grown(), 48 * n)


# --- who never comes to an end

@pytest.mark.parametrize("sent", [b"", b"A", b"AMQP\0\0", HEADER, HEADER + b"\1\0\0\0\0"],
                         ids=["nothing", "A", "AMQP", "header", "half"])
def test_who_does_not_finish_the_handshake_is_sent_away(amqp, sent):
    with beside(amqp):
        raws = [amqp.raw().send(sent) for _ in range(20)]
        begun = time.monotonic()
        for raw in raws:
            assert raw.peer.is_closed(DEADLINE * SLOW)
        assert time.monotonic() - begun < 3 * SLOW


@pytest.mark.parametrize("last", ["start-ok", "tune-ok"])
def test_who_stops_in_the_middle_of_the_handshake_is_sent_away(amqp, last):
    with beside(amqp):
        raw = amqp.raw()
        raw.start()
        if last == "tune-ok":
            raw.tune()
        assert raw.peer.is_closed(3 * SLOW)


@pytest.mark.parametrize("sent", [b"\1", b"\1\0\1\0\0\0", method_frame(1, spec.Channel.Flow(active=True))[:-1],
                                  publishing(1, "q", b"x" * 50000)[:-20000]], ids=["type", "head", "end", "body"])
def test_half_a_frame_and_silence_is_ended_by_heartbeats(amqp, sent):
    with beside(amqp):
        raw = opened(amqp, heartbeat=1)
        begun = time.monotonic()
        raw.send(sent)
        assert raw.peer.is_closed(6 * SLOW)
        assert time.monotonic() - begun > 1.5


@pytest.mark.parametrize("heartbeat", [0, 1])
def test_bodies_that_never_end_keep_no_other_publisher_waiting(serve, heartbeat):
    """Each says 30 MiB, and comes to nine tenths; what others publish meanwhile is large too, and soon finds room."""
    amqp = serve(threads=1)
    with beside(amqp, size=5 * MIB, noticed=25) as neighbour:
        memory = Memory(amqp)
        raws = [opened(amqp, heartbeat=heartbeat) for _ in range(4)]
        for raw in raws:
            push(raw, method_frame(1, spec.Basic.Publish(routing_key="nowhere")) + content_frame(1, 30 * MIB) +
                 body_frame(1, b"x" * 131000) * 216, 0.3)
        done = len(neighbour.times)
        end = time.monotonic() + 40 * SLOW
        while len(neighbour.times) < done + 10 and neighbour.is_alive():
            assert time.monotonic() < end, "the neighbour finds no room"
            time.sleep(0.01)
        memory.check("4 bodies that do not end", memory.peak(), 160 * KIB)
        for raw in raws:
            raw.peer.reset()


def test_large_bodies_on_many_channels_of_a_connection_come_interleaved(amqp):
    """More than may be under way at a time, and none can end before the others go on."""
    channel = amqp.channel()
    queue = amqp.queue(channel)
    size, n = 15 * MIB, 6
    raw = opened(amqp, channels=n)
    for number in range(1, n + 1):
        raw.method(number, spec.Confirm.Select()).expect(spec.Confirm.SelectOk)
        raw.method(number, spec.Basic.Publish(routing_key=queue)).send(content_frame(number, size))
    for _ in range(0, size, 120 * KIB):
        for number in range(1, n + 1):
            raw.send(body_frame(number, b"x" * (120 * KIB)))
    for _ in range(n):
        raw.expect(spec.Basic.Ack, seconds=30 * SLOW)
    assert count(channel, queue) == n


# --- who lies

@pytest.mark.parametrize("size", [1 << 63, (1 << 64) - 1, (128 << 20) + 1])
def test_a_body_that_is_said_to_be_endless_closes_the_channel(amqp, size):
    with beside(amqp):
        raw = opened(amqp)
        raw.method(1, spec.Basic.Publish(routing_key="q")).send(content_frame(1, size))
        close = raw.expect(spec.Channel.Close, 1)
        assert close.reply_code == 406 and f"message size {size} is larger than" in close.reply_text
        raw.method(1, spec.Channel.CloseOk()).open_channel()


@pytest.mark.parametrize("parts", [[11], [5, 6], [5, 5, 1]])
def test_a_body_that_is_longer_than_its_header_says_ends_the_connection(amqp, parts):
    with beside(amqp):
        raw = opened(amqp)
        raw.method(1, spec.Basic.Publish(routing_key="q")).send(content_frame(1, 10))
        for n in parts[:-1] if sum(parts[:-1]) == 10 else parts:
            raw.send(body_frame(1, b"x" * n))
        if sum(parts[:-1]) == 10:
            raw.send(body_frame(1, b"x"))
        raw.expect_end(501, 505)


def test_a_body_that_is_shorter_than_its_header_says_is_never_published(amqp):
    channel = amqp.channel()
    queue = amqp.queue(channel)
    with beside(amqp):
        raw = opened(amqp)
        raw.method(1, spec.Basic.Publish(routing_key=queue)).send(content_frame(1, 10), body_frame(1, b"x" * 9))
        raw.method(1, spec.Channel.Flow(active=True))
        raw.expect_end(505)
        assert count(channel, queue) == 0


@pytest.mark.parametrize("kind", [METHOD, CONTENT, BODY, HEARTBEAT])
def test_a_frame_that_is_too_large_ends_the_connection_at_its_head(amqp, kind):
    for size in (131073, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 9, (1 << 32) - 8, (1 << 32) - 1):
        raw = opened(amqp)
        raw.send(frame(kind, 1, b"x" * 100, size=size))
        raw.expect_end(501)
    amqp.channel()


@pytest.mark.parametrize("seed", range(40 if MORE else 2))
def test_garbage_after_a_handshake_ends_the_connection(amqp, seed):
    chance = random.Random(seed)
    with beside(amqp):
        raws = [opened(amqp) for _ in range(20)]
        for raw in raws:
            push(raw, chance.randbytes(chance.choice([10, 100, 10000])) + b"\0" * 200000, 0.05)
        for raw in raws:        # who does not answer connection.close is waited for
            assert raw.peer.is_closed(DEADLINE * SLOW)


# --- who leaves

def test_sockets_that_close_in_the_middle_of_a_large_publish_leave_nothing(amqp):
    channel = amqp.channel(confirm=True)
    queue = amqp.queue(channel)
    data = (method_frame(1, spec.Basic.Publish(routing_key=queue)) + content_frame(1, 4 * MIB) + body_frame(1, b"x" * 120000) * 30)
    with beside(amqp):
        memory = Memory(amqp)
        for number in range(60):
            raw = opened(amqp)
            push(raw, data, 0.02)
            raw.peer.reset()
        nothing_is_left(amqp, 2)
        assert count(channel, queue) == 0
        publish(channel, queue, *[b"x" * (20 * MIB)] * 4)
        assert count(channel, queue) == 4
        memory.check("what was left", memory.grown(), 100 * KIB)


def test_a_hundred_thousand_that_were_not_acknowledged_come_again(amqp):
    channel = amqp.channel()
    queue = amqp.queue(channel)
    n = 100_000
    fill(amqp, queue, n, 10)
    with beside(amqp):
        memory = Memory(amqp)
        for again in (False, True):
            raw = opened(amqp)
            begun = time.monotonic()
            raw.method(1, spec.Basic.Consume(queue=queue, consumer_tag="c")).expect(spec.Basic.ConsumeOk)
            marks = deliveries(raw, n)
            assert marks == [again] * n
            print(f"{n} messages came in {time.monotonic() - begun:.1f} s")
            memory.check(f"{n} that are not acknowledged", memory.grown(), 60 * KIB)
            raw.peer.reset()
        begun = time.monotonic()
        wait_count(channel, queue, n, 30 * SLOW)
        print(f"and were back within {time.monotonic() - begun:.1f} s")


def deliveries(raw, n):
    """The marks of so many deliveries to a consumer named c."""
    marks, at = [], 0
    data = bytearray(raw.peer.unread)
    while len(marks) < n:
        while len(data) - at >= 7:
            kind, _, size = struct.unpack_from(">BHI", data, at)
            if len(data) - at < size + 8:
                break
            if kind == METHOD:
                assert data[at + 7:at + 13] == struct.pack(">I", spec.Basic.Deliver.INDEX) + b"\1c"
                marks.append(bool(data[at + 21]))
            at += size + 8
        del data[:at]
        at = 0
        if len(marks) < n:
            data += raw.peer.sock.recv(1 << 18)
    return marks


@pytest.mark.parametrize("size", [60 * KIB, 700 * KIB])
def test_who_leaves_while_it_is_being_answered_and_does_not_read_does_no_harm(amqp, size):
    """What it published comes back durable when its channels are gone, while the last that it could have read is still tried."""
    channel = amqp.channel()
    queue = amqp.queue(channel)
    fill(amqp, queue, 20, size)
    close = spec.Connection.Close(reply_code=200, reply_text="", class_id=0, method_id=0)
    with beside(amqp):
        for _ in range(10):
            raw = opened(amqp, 4096)
            raw.method(1, spec.Confirm.Select())
            raw.method(1, spec.Basic.Consume(queue=queue, no_ack=False))
            time.sleep(0.05)
            raw.send(publishing(1, queue, b"x" * 100) * 50, method_frame(0, close))
        time.sleep(0.5)
        for raw in amqp.raws[1:]:
            raw.peer.reset()


def test_channels_close_while_others_get(amqp):
    """What a channel had at the queue thread ends there in the order it takes, whatever else that thread is at."""
    channel = amqp.channel()
    queue = amqp.queue(channel)
    stopping = threading.Event()

    def get():
        raw = Raw(connect(amqp.broker.proxy.address)).open()
        raw.open_channel()
        while not stopping.is_set():
            raw.send(method_frame(1, spec.Basic.Get(queue=queue)) * 20)
            for _ in range(20):
                raw.expect(spec.Basic.GetEmpty)
        raw.close()
    threads = [threading.Thread(target=get, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    raw = opened(amqp, channels=0)
    for _ in range(300):
        raw.method(1, spec.Channel.Open()).expect(spec.Channel.OpenOk)
        raw.method(1, spec.Basic.Consume(queue=queue)).expect(spec.Basic.ConsumeOk)
        raw.method(1, spec.Channel.Close(0, "", 0, 0)).expect(spec.Channel.CloseOk)
    stopping.set()
    for thread in threads:
        thread.join(DEADLINE)


# --- who publishes more than can be held

@pytest.mark.parametrize("size", [1, 1024, 100_000, 3 * MIB])
def test_publishing_faster_than_the_disk_waits_at_the_sockets(amqp, size):
    channel = amqp.channel()
    queue = amqp.queue(channel, {"x-max-length": 10})
    one = message(queue, size)
    data = one * max(1, MIB // len(one))
    with beside(amqp):
        memory = Memory(amqp)
        raws = [opened(amqp) for _ in range(8)]
        sent = []
        threads = [threading.Thread(target=lambda raw=raw: sent.append(push(raw, data, 2))) for raw in raws]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(f"{sum(sent) / MIB:.0f} MiB in messages of {size}")
        memory.check("what is under way", memory.peak(), 230 * KIB)


def test_a_transaction_may_hold_so_much_and_no_more(amqp):
    with beside(amqp):
        memory = Memory(amqp)
        for size in (1000, 100_000, 10 * MIB):
            raw = opened(amqp)
            raw.method(1, spec.Tx.Select()).expect(spec.Tx.SelectOk)
            one = message("nowhere", size)
            push(raw, one * max(1, MIB // len(one)), 60 * SLOW, until_answered=True)
            assert raw.expect(spec.Channel.Close, 1).reply_code == 406
            raw.close()
        memory.check("transactions", memory.peak(), 250 * KIB)


def test_transactions_that_are_rolled_back_hold_nothing(amqp):
    channel = amqp.channel()
    queue = amqp.queue(channel)
    channel.tx_select()
    for _ in range(6):
        publish(channel, queue, b"x" * (20 * MIB))
        channel.tx_rollback()
    other = amqp.channel(confirm=True)
    publish(other, queue, b"x" * (50 * MIB))
    assert count(channel, queue) == 1


# --- who asks for what is not his

def test_a_copy_list_that_is_none_publishes_nothing(amqp):
    channel = amqp.channel()
    queue = amqp.queue(channel)
    for headers, what in (({"CC": "text"}, '"CC",longstr'), ({"BCC": 7}, '"BCC",signedint')):
        closing = amqp.channel()
        with channel_closed(closing, 406, f"PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,{what}}}"):
            publish(closing, queue, "lost", headers=headers)
    closing = amqp.channel()
    with channel_closed(closing, 406, "PRECONDITION_FAILED - fast reply consumer does not exist"):
        publish(closing, queue, "lost", reply_to="amq.rabbitmq.reply-to")
    assert count(channel, queue) == 0


def test_a_virtual_host_is_not_reached_from_another(amqp):
    """Neither by a name that is put together as maitred does it, nor by a list of copies, nor by dead letters."""
    other, root = amqp.channel(virtual_host="other"), amqp.channel()
    secret = amqp.queue_name("secret")
    root.queue_declare(secret)
    other.queue_declare("mine")
    for headers in ({"CC": [secret]}, {"BCC": [secret]}):
        publish(other, "mine", "copied", headers=headers)
    assert bodies(other, "mine", 2) == [b"copied"] * 2
    mine = amqp.queue(root, {"x-dead-letter-exchange": "", "x-message-ttl": 0})
    root.queue_bind(mine, "amq.fanout")
    publish(root, mine, "copied", headers={"CC": ["other\0mine"]})
    publish(root, "other\0mine", "dead", exchange="amq.fanout")
    publish(root, "a", "dead", exchange="amq.fanout", headers={"CC": ["other\0mine"]})
    closing = amqp.channel()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        closing.queue_declare("", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "other\0mine"})
    settle(root)
    assert bodies(other, "mine") == []
    for arguments in ({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": secret, "x-message-ttl": 0},
                      {"x-dead-letter-exchange": "", "x-message-ttl": 0}):
        dying = other.queue_declare("", exclusive=True, arguments=arguments).method.queue
        other.queue_bind(dying, "amq.fanout")
        publish(other, secret, "dead", exchange="amq.fanout")
        settle(other)
        other.queue_delete(dying)
    assert count(root, secret) == 0
    for name in ("other\0mine", "\0", "a\0"):
        closing = amqp.channel()
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
            closing.queue_declare(name)
        assert closed.value.reply_code == 406
        closing = amqp.channel()
        with pytest.raises(pika.exceptions.ChannelClosedByBroker):
            publish(closing, name, "x")
            settle(closing)
    assert count(other, "mine") == 0 and not is_there(amqp, "mine")
    other.queue_delete("mine")


# --- what mutated conversations found

def test_a_large_delivery_follows_a_large_answer(amqp):
    """The output was let go of, being large, and is empty."""
    channel = amqp.channel(confirm=True)
    got, consumed = amqp.queue(channel), amqp.queue(channel)
    publish(channel, got, b"x" * 300_000)
    taker = amqp.channel()
    came = []
    taker.basic_consume(consumed, lambda *delivery: came.append(delivery[3]), auto_ack=True)
    assert len(taker.basic_get(got, auto_ack=True)[2]) == 300_000
    publish(channel, consumed, b"y" * 100_000)
    while not came:
        taker.connection.process_data_events(1)
    assert came == [b"y" * 100_000]
