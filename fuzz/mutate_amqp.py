#!/usr/bin/env python3
"""mutate_amqp.py - conversations of AMQP clients, made from a seed and then mutated, against a real server.

A conversation is all that a client sends, ahead of what it is answered: handshake, declares, publishes in several frames,
consumers, acknowledgements, transactions, gets, cancels, closes. Mutations change bytes, lengths, channels and the order of frames,
leave out, repeat, cut off, and mix in what another client says. Many are under way at a time, on the same queues. After each
batch a client that behaves is served, and after some the server ends, or is killed, and starts again on its log.

MAITRED_BINARY says which binary, otherwise build/asan/maitred. Ends with 1 when something was wrong, and says the seed; the
conversations of that batch are in --keep. The same --seed makes the same conversations; what they meet is a matter of time."""
import argparse
import os
import random
import selectors
import shutil
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("MAITRED_BINARY", str(ROOT / "build" / "asan" / "maitred"))
sys.path.insert(0, str(ROOT / "tests" / "system"))

from pika import BasicProperties, spec  # noqa: E402

from kit.amqp_raw import BODY, CLIENT, CONTENT, HEADER, HEARTBEAT, METHOD, Raw, frame, method_frame  # noqa: E402
from kit.config import top  # noqa: E402
from kit.process import SANITIZER, Maitred  # noqa: E402
from kit.wire import connect  # noqa: E402

CONFIGURATION = (
    top('state = "{dir}/state"\nstate-segment = 1m\nstate-max = 64m', threads=2, drain="1s") +
    'amqp "127.0.0.1:{port}" {\n    handshake-timeout = 500ms\n    max-message = 512k\n'
    '    user "guest" { password = "guest"  virtual-hosts = { /, other } }\n}\n')
BATCH, AT_A_TIME = 240, 64      # conversations
PATIENCE = 0.25                 # seconds that a client waits for more
LAST = 3                        # seconds that it takes part
QUEUES, EXCHANGES = [f"q{n}" for n in range(5)], [f"e{n}" for n in range(4)]
INTERESTING = [0, 1, 2, 7, 8, 127, 128, 254, 255, 256, 4088, 4096, 32767, 65535, 131072, (1 << 31) - 1, 1 << 31, (1 << 32) - 9,
               (1 << 32) - 1, 1 << 62, 1 << 63, (1 << 64) - 1]


class Talk:
    """A valid conversation, frame by frame."""

    def __init__(self, chance):
        self.chance = chance
        self.frames = []
        self.channels, self.opened = [], 0
        self.tags = 0

    def say(self, channel, *methods):
        self.frames += [method_frame(channel, each) for each in methods]

    def maybe(self, percent=50):
        return self.chance.randrange(100) < percent

    def queue(self):
        return self.chance.choice(QUEUES)

    def begin(self):
        chance = self.chance
        self.say(0, spec.Connection.StartOk(client_properties=CLIENT if self.maybe(90) else {}, mechanism="PLAIN",
                                            response="\0guest\0guest", locale="en_US"),
                 spec.Connection.TuneOk(channel_max=2047, frame_max=chance.choice([4096, 8192, 131072]),
                                         heartbeat=chance.choice([0, 0, 1])),
                 spec.Connection.Open(virtual_host=chance.choice(["/", "/", "/", "other"])))
        for _ in range(chance.choice([1, 1, 2, 3])):
            self.open()
        return len(self.frames)

    def open(self):
        """Under a new number: what was said before may have closed the ones it has."""
        self.opened += 1
        number = self.opened if self.maybe(95) else 2047 - self.opened
        self.channels = [*self.channels[-2:], number]
        self.say(number, spec.Channel.Open())
        if self.maybe(40):
            self.say(number, spec.Confirm.Select(nowait=self.maybe()))
        elif self.maybe(30):
            self.say(number, spec.Tx.Select())

    def usual(self):
        """As most declare it, so that what comes after finds it."""
        n = self.chance.randrange(len(QUEUES))
        return spec.Queue.Declare(queue=QUEUES[n], durable=n < 3, nowait=self.maybe(), arguments=[
            None, {"x-max-length": 20, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q0"}, {"x-queue-type": "quorum"},
            {"x-max-priority": 5, "x-message-ttl": 300}, {"x-single-active-consumer": True}][n])

    def arguments(self):
        chance = self.chance
        every = {"x-message-ttl": chance.choice([0, 1, 100, 60000]), "x-expires": chance.choice([1, 200, 60000]),
                 "x-max-length": chance.choice([0, 1, 3, 1000]), "x-max-length-bytes": chance.choice([0, 100, 100000]),
                 "x-max-priority": chance.choice([0, 1, 10, 255]),
                 "x-dead-letter-exchange": chance.choice(["", *EXCHANGES, "amq.fanout"]), "x-dead-letter-routing-key": self.queue(),
                 "x-overflow": chance.choice(["drop-head", "reject-publish", "reject-publish-dlx"]),
                 "x-queue-type": chance.choice(["classic", "quorum"]), "x-single-active-consumer": self.maybe(),
                 "x-delivery-limit": chance.choice([0, 1, 5]), "x-consumer-timeout": chance.choice([1, 50, 100000])}
        return dict(chance.sample(sorted(every.items()), chance.choice([0, 0, 1, 2, 3])))

    def declare(self, channel):
        chance, kind = self.chance, self.chance.choice(["direct", "fanout", "topic", "headers"])
        self.say(channel, chance.choice([
            self.usual(), self.usual(), self.usual(),
            spec.Queue.Declare(queue=chance.choice([self.queue(), self.queue(), ""]), durable=self.maybe(),
                               exclusive=self.maybe(15),
                               auto_delete=self.maybe(15), passive=self.maybe(10), nowait=self.maybe(), arguments=self.arguments()),
            spec.Queue.Bind(queue=self.queue(), exchange=chance.choice([*EXCHANGES, "amq.topic", "amq.match"]), nowait=self.maybe(),
                            routing_key=chance.choice(["", "a", "a.*", "#", "a.#.b", self.queue()]),
                            arguments=chance.choice([None, {"x-match": "any", "h": 1}, {"x-match": "all", "h": "x", "i": None}])),
            spec.Queue.Unbind(queue=self.queue(), exchange=chance.choice(EXCHANGES), routing_key="a"),
            spec.Queue.Purge(queue=self.queue(), nowait=self.maybe()),
            spec.Queue.Delete(queue=self.queue(), if_unused=self.maybe(20), if_empty=self.maybe(20), nowait=self.maybe()),
            spec.Exchange.Declare(exchange=chance.choice(EXCHANGES), type=kind, durable=self.maybe(), auto_delete=self.maybe(20),
                                  internal=self.maybe(10), nowait=self.maybe(),
                                  arguments=chance.choice([None, {"alternate-exchange": chance.choice(EXCHANGES)}])),
            spec.Exchange.Bind(destination=chance.choice(EXCHANGES), source=chance.choice(EXCHANGES), routing_key="a", nowait=True),
            spec.Exchange.Delete(exchange=chance.choice(EXCHANGES), if_unused=self.maybe(), nowait=self.maybe())]))

    def publish(self, channel):
        chance = self.chance
        size = chance.choice([0, 1, 10, 100, 100, 1000, 4088, 5000, 20000, 60000, 300000])
        headers = chance.choice([None, {}, {"h": 1}, {"CC": [self.queue(), "a.b"]}, {"BCC": [self.queue()]},
                                 {"t": {"a": [1, {"b": "c"}, None, -3]}, "h": "x" * chance.choice([1, 300])},
                                 {"x-death": [{"queue": "q0", "reason": "rejected", "count": 7}]}])
        properties = BasicProperties(headers=headers, delivery_mode=chance.choice([None, 1, 2]),
                                     priority=chance.choice([None, 0, 9, 255]),
                                     expiration=chance.choice([None, None, "0", "50", "99999"]),
                                     reply_to=chance.choice([None, None, "amq.rabbitmq.reply-to", "q1"]),
                                     message_id=chance.choice([None, "m" * 255]), user_id=chance.choice([None, None, "guest"]))
        self.say(channel, spec.Basic.Publish(exchange=chance.choice(["", "", *EXCHANGES, "amq.topic"]), mandatory=self.maybe(30),
                                             routing_key=chance.choice([self.queue(), self.queue(), "a", "a.x.b", "nowhere", ""])))
        self.frames.append(frame(CONTENT, channel, struct.pack(">HHQ", 60, 0, size) + b"".join(properties.encode())))
        most = chance.choice([4088, 4088, 1000, 100]) if size < 10000 else 4088
        for at in range(0, size, most):
            self.frames.append(frame(BODY, channel, b"b" * min(most, size - at)))

    def take(self, channel):
        chance, tag = self.chance, self.chance.choice(["t0", "t1", "t2"])
        self.say(channel, *chance.choice([
            [spec.Basic.Consume(queue=chance.choice([self.queue(), self.queue(), "amq.rabbitmq.reply-to"]), consumer_tag=tag,
                                no_ack=self.maybe(), exclusive=self.maybe(10), nowait=self.maybe(),
                                arguments=chance.choice([None, {"x-priority": 5}]))],
            [spec.Basic.Cancel(consumer_tag=tag, nowait=self.maybe())],
            [spec.Basic.Get(queue=self.queue(), no_ack=self.maybe())] * chance.choice([1, 3, 30]),
            [spec.Basic.Qos(prefetch_count=chance.choice([0, 1, 2, 100]), global_qos=self.maybe())]]))

    def settle(self, channel):
        chance = self.chance
        self.tags += 1
        tag = chance.choice([self.tags, self.tags, 0, 1, 1000])
        if self.maybe(60):
            self.say(channel, chance.choice([spec.Basic.Ack(0, True), spec.Basic.Nack(0, True, True),
                                             spec.Basic.Recover(requeue=True),
                                             spec.Basic.Nack(0, True, False), spec.Channel.Flow(active=True)]))
            return
        self.say(channel, chance.choice([
            spec.Basic.Ack(tag, self.maybe(30)), spec.Basic.Nack(tag, self.maybe(30), self.maybe()),
            spec.Basic.Reject(tag, self.maybe()),
            spec.Basic.Ack(0, True), spec.Basic.Nack(0, True, True), spec.Basic.Recover(requeue=True),
            spec.Tx.Commit(), spec.Tx.Rollback(), spec.Tx.Commit(), spec.Channel.Flow(active=True)]))

    def leave(self, channel):
        self.say(channel, spec.Channel.Close(200, "", 0, 0))
        self.channels.remove(channel)
        if not self.channels or self.maybe():
            self.open()

    def go_on(self, steps):
        for _ in range(steps):
            if self.maybe(20):
                self.open()
            if self.maybe(20):
                self.say(self.channels[-1], self.usual())
            step = self.chance.choices([self.publish, self.declare, self.take, self.settle, self.leave], [30, 20, 20, 25, 5])[0]
            step(self.chance.choice(self.channels))
            if self.maybe(3):
                self.frames.append(frame(HEARTBEAT, 0, b""))

    def interleave(self, start):
        """Frames of different channels may come in any order."""
        lines = {}
        for each in self.frames[start:]:
            lines.setdefault(each[1:3], []).append(each)
        mixed = []
        while lines:
            number = self.chance.choice(sorted(lines))
            mixed.append(lines[number].pop(0))
            if not lines[number]:
                del lines[number]
        self.frames[start:] = mixed


# --- mutations: of a list of frames, from start on

def put_number(chance, data):
    width = chance.choice([1, 2, 4, 8])
    if len(data) > width:
        at = chance.randrange(len(data) - width)
        data[at:at + width] = (chance.choice(INTERESTING) % (1 << 8 * width)).to_bytes(width, "big")


def flip(chance, data):
    for _ in range(chance.choice([1, 1, 2, 8])):
        if data:
            data[chance.randrange(min(len(data), chance.choice([8, 30, 100000])))] ^= 1 << chance.randrange(8)


def insert(chance, data):
    at = chance.randrange(len(data) + 1)
    data[at:at] = chance.randbytes(chance.choice([1, 2, 4, 100]))


def delete(chance, data):
    at = chance.randrange(len(data) or 1)
    del data[at:at + chance.choice([1, 2, 4, 100])]


def fit(data):
    """The frame's size is what it has, and it ends as it should."""
    if len(data) >= 8:
        data[3:7] = struct.pack(">I", len(data) - 8)
        data[-1] = 0xce


def change_bytes(chance, frames, start):
    at = chance.randrange(start, len(frames))
    data = bytearray(frames[at])
    chance.choice([put_number, put_number, flip, insert, delete])(chance, data)
    if chance.randrange(4):
        fit(data)
    frames[at] = bytes(data)


def change_size(chance, frames, start):
    at = chance.randrange(start, len(frames))
    frames[at] = frames[at][:3] + struct.pack(">I", chance.choice(INTERESTING) & 0xffffffff) + frames[at][7:]


def change_channel(chance, frames, start):
    at = chance.randrange(start, len(frames))
    frames[at] = frames[at][:1] + struct.pack(">H", chance.choice([0, 1, 2, 3, 2047, 2048, 65535])) + frames[at][3:]


def change_type(chance, frames, start):
    at = chance.randrange(start, len(frames))
    frames[at] = bytes([chance.choice([METHOD, CONTENT, BODY, HEARTBEAT, 0, 4, 255])]) + frames[at][1:]


def change_method(chance, frames, start):
    at = chance.randrange(start, len(frames))
    if frames[at][0] == METHOD:
        index = chance.choice(sorted(spec.methods)) if chance.randrange(4) else chance.randrange(1 << 32)
        frames[at] = frames[at][:7] + struct.pack(">I", index) + frames[at][11:]


def change_body_size(chance, frames, start):
    for at in range(start, len(frames)):
        if frames[at][0] == CONTENT and chance.randrange(2):
            frames[at] = frames[at][:11] + struct.pack(">Q", chance.choice([*INTERESTING, 10, 100, 100000])) + frames[at][19:]
            return


def repeat(chance, frames, start):
    at = chance.randrange(start, len(frames))
    part = frames[at:at + chance.choice([1, 1, 3, 10])]
    frames[at:at] = part * chance.choice([1, 1, 2, 50])


def leave_out(chance, frames, start):
    at = chance.randrange(start, len(frames))
    if len(frames) > start + 5:
        del frames[at:at + chance.choice([1, 1, 3])]


def move(chance, frames, start):
    piece = frames.pop(chance.randrange(start, len(frames)))
    frames.insert(chance.randrange(start, len(frames) + 1), piece)


def cut(chance, frames, start):
    at = chance.randrange(start, len(frames))
    frames[at:] = [frames[at][:chance.randrange(len(frames[at]) + 1)]]


def garbage(chance, frames, start):
    frames.insert(chance.randrange(start, len(frames) + 1), chance.randbytes(chance.choice([1, 8, 100, 10000])))


def splice(chance, frames, start):
    other = Talk(chance)
    begun = other.begin()
    other.go_on(6)
    at = chance.randrange(start, len(frames))
    frames[at:at] = other.frames[begun if chance.randrange(4) else 0:]


MUTATIONS = [change_bytes] * 6 + [change_size, change_channel, change_channel, change_type, change_method, change_method,
                                  change_body_size, repeat, repeat, leave_out, leave_out, move, move, cut, garbage, splice]


class Conversation:
    """What a client sends, in which pieces, whether it reads, and how it ends; all from its name."""

    def __init__(self, name):
        chance = random.Random(name)
        talk = Talk(chance)
        begun = talk.begin()
        talk.go_on(chance.choice([1, 3, 10, 30]))
        if chance.randrange(3) == 0:
            talk.interleave(begun)
        frames = talk.frames
        for _ in range(chance.choice([0, 1, 1, 1, 2, 3, 6])):
            start = begun if chance.randrange(12) else 0
            if len(frames) > start:
                chance.choice(MUTATIONS)(chance, frames, start)
                frames[:] = [each for each in frames if each]
        if chance.randrange(3) == 0:
            frames.append(method_frame(0, spec.Connection.Close(200, "", 0, 0)))
        header = HEADER if chance.randrange(50) else chance.randbytes(chance.choice([1, 8, 20]))
        self.data = header + b"".join(frames)
        self.piece = chance.choice([1 << 20, 1 << 20, 4096, 100, 7]) if len(self.data) < 20000 else 1 << 20
        self.reads = chance.randrange(12) != 0
        self.end = chance.choice(["close", "close", "reset", "finish"])
        self.at = 0
        self.sock = None
        self.told = 0
        self.closed = False
        self.deadline = self.last = 0

    def begin(self, address, selector):
        self.sock = socket.socket()
        if not self.reads:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.connect(address)
        self.sock.setblocking(False)
        self.deadline = time.monotonic() + PATIENCE
        self.last = time.monotonic() + LAST
        selector.register(self.sock, self.events(), self)

    def events(self):
        return (selectors.EVENT_READ if self.reads else 0) | (selectors.EVENT_WRITE if self.at < len(self.data) else 0)

    def go_on(self, events, now):
        try:
            if events & selectors.EVENT_WRITE:
                self.at += self.sock.send(self.data[self.at:self.at + self.piece])
            if events & selectors.EVENT_READ:
                got = self.sock.recv(1 << 18)
                self.told += len(got)
                self.closed = not got
            self.deadline = max(self.deadline, min(now + PATIENCE, self.last))
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True

    def leave(self):
        if self.end == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif self.end == "finish":
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        self.sock.close()


def run_batch(address, batch):
    """Some at a time, until all are over."""
    with selectors.DefaultSelector() as selector:
        waiting, under_way = list(batch), set()
        while waiting or under_way:
            while waiting and len(under_way) < AT_A_TIME:
                each = waiting.pop()
                each.begin(address, selector)
                under_way.add(each)
            now = time.monotonic()
            for key, events in selector.select(0.02):
                each = key.data
                each.go_on(events, now)
                if each.closed or not each.events():
                    selector.unregister(each.sock)
                elif each.events() != key.events:
                    selector.modify(each.sock, each.events(), each)
            for each in [each for each in under_way if each.closed or now > each.deadline]:
                if each.sock in selector.get_map():
                    selector.unregister(each.sock)
                each.leave()
                under_way.discard(each)


def check_served(proxy):
    """A client that behaves is served, and finds its own message. All that the others declared is deleted."""
    raw = Raw(connect(proxy.address))
    try:
        raw.open().open_channel()
        raw.method(1, spec.Confirm.Select()).expect(spec.Confirm.SelectOk, seconds=20)
        raw.method(1, spec.Queue.Declare(queue="served", exclusive=True)).expect(spec.Queue.DeclareOk, seconds=20)
        raw.method(1, spec.Basic.Publish(routing_key="served", mandatory=True))
        raw.send(frame(CONTENT, 1, struct.pack(">HHQH", 60, 0, 5000, 0)), frame(BODY, 1, b"x" * 4000), frame(BODY, 1, b"x" * 1000))
        raw.expect(spec.Basic.Ack, seconds=20)
        raw.method(1, spec.Basic.Get(queue="served", no_ack=True)).expect(spec.Basic.GetOk, seconds=20)
        assert raw.read_frame()[0] == CONTENT and raw.read_frame()[2] == b"x" * 5000
        for number, method in enumerate([*[spec.Queue.Delete(queue=name) for name in QUEUES],
                                         *[spec.Exchange.Delete(exchange=name) for name in EXCHANGES]], 2):
            raw.method(number, spec.Channel.Open()).expect(spec.Channel.OpenOk)
            raw.method(number, method)
            answer = raw.read_method(20)[1]     # one may be exclusive, of a client whose end is not noticed yet
            assert isinstance(answer, (spec.Queue.DeleteOk, spec.Exchange.DeleteOk, spec.Channel.Close)), answer
        raw.method(0, spec.Connection.Close(200, "", 0, 0)).expect(spec.Connection.CloseOk)
    finally:
        raw.close()


def check_alive(proxy):
    assert proxy.process.poll() is None, f"the server has ended: {proxy.process.returncode}"
    assert not SANITIZER.search(proxy.errors), "a sanitizer complained"


def start_anew(proxy, how):
    if how == "kill":
        proxy.kill()
    else:
        proxy.terminate()
        assert proxy.wait(60) == 0, "the server did not end well"
    assert not SANITIZER.search(proxy.errors), "a sanitizer complained"
    del proxy.log[:]
    proxy.start_again()


def run(options, directory):
    proxy = Maitred(CONFIGURATION, directory)
    end, number, batches, batch, told = time.monotonic() + options.seconds, options.first, 0, [], 0
    try:
        while time.monotonic() < end:
            batch = [Conversation(f"{options.seed}-{number + n}") for n in range(BATCH)]
            run_batch(proxy.address, batch)
            told += sum(each.told for each in batch)
            check_alive(proxy)
            check_served(proxy)
            number += BATCH
            batches += 1
            if batches % 8 == 0:
                start_anew(proxy, "kill" if batches % 16 else "end")
        wrong = proxy.stop()
        assert not wrong, wrong
    except Exception as error:
        keep = Path(options.keep)
        keep.mkdir(parents=True, exist_ok=True)
        for n, each in enumerate(batch):
            (keep / f"amqp-{options.seed}-{number + n}").write_bytes(each.data)
        print("\n".join(line for line in proxy.log if "amqp: " not in line)[-20000:])
        print(f"{type(error).__name__}: {str(error)[-3000:]}\n"
              f"seed {options.seed}, conversations {number} to {number + len(batch) - 1}: they are in {keep}\n"
              f"again: {sys.argv[0]} --seed {options.seed} --first {number}", flush=True)
        proxy.process.kill()
        return 1
    print(f"seed {options.seed}: {number - options.first} conversations in {options.seconds} s, "
          f"{told >> 20} MiB of answers; the server lives")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--first", type=int, default=0, help="the number of the first conversation")
    parser.add_argument("--keep", default=str(ROOT / "build" / "fuzz"), help="where those go that did harm")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="maitred-mutate-"))
    print(f"seed {options.seed}", flush=True)
    try:
        return run(options, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
