"""AMQP 0-9-1 by hand: frames as a test wants them, right or wrong, over a peer of kit.wire. Methods are coded by pika's
tables, everything around them is not."""
import struct

from pika import spec

from kit.wire import DEADLINE, PeerGone

HEADER = b"AMQP\0\0\x09\x01"
METHOD, CONTENT, BODY, HEARTBEAT = 1, 2, 3, 8
CLIENT = {"product": "raw", "capabilities": {
    "authentication_failure_close": True, "consumer_cancel_notify": True, "basic.nack": True,
    "connection.blocked": True, "publisher_confirms": True}}


def frame(kind, channel, payload, end=b"\xce", size=None):
    return struct.pack(">BHI", kind, channel, len(payload) if size is None else size) + payload + end


def method_frame(channel, method):
    return frame(METHOD, channel, struct.pack(">I", method.INDEX) + b"".join(method.encode()))


def numbered(channel, class_id, method_id, arguments=b""):
    """A method by its numbers, which need not exist."""
    return frame(METHOD, channel, struct.pack(">HH", class_id, method_id) + arguments)


def content_frame(channel, size, class_id=60, weight=0, flags=b"\0\0"):
    return frame(CONTENT, channel, struct.pack(">HHQ", class_id, weight, size) + flags)


def body_frame(channel, data):
    return frame(BODY, channel, data)


def publishing(channel, key, body, exchange=""):
    """The frames of one message in one frame of body."""
    return (method_frame(channel, spec.Basic.Publish(exchange=exchange, routing_key=key)) +
            content_frame(channel, len(body)) + (body_frame(channel, body) if body else b""))


class Raw:
    """A connection. Heartbeats that come are counted in .heartbeats and not told otherwise."""

    def __init__(self, peer, is_rabbitmq=False):
        self.peer = peer
        self.is_rabbitmq = is_rabbitmq
        self.heartbeats = 0

    def close(self):
        self.peer.close()

    def send(self, *pieces):
        self.peer.send(b"".join(pieces))
        return self

    def method(self, channel, method):
        return self.send(method_frame(channel, method))

    def read_frame(self, seconds=DEADLINE):
        """(type, channel, payload) of the next one that is no heartbeat."""
        while True:
            head = self.peer.read_exactly(7, seconds)
            kind, channel, size = struct.unpack(">BHI", head)
            payload = self.peer.read_exactly(size + 1, seconds)
            assert payload[-1:] == b"\xce", f"a frame ends in {payload[-1:]!r}"
            if kind != HEARTBEAT:
                return kind, channel, payload[:-1]
            assert (channel, size) == (0, 0), head
            self.heartbeats += 1

    def read_method(self, seconds=DEADLINE):
        """(channel, method) of the next frame, which must be a method's."""
        kind, channel, payload = self.read_frame(seconds)
        assert kind == METHOD, f"a frame of type {kind} came: {payload[:200]!r}"
        index = struct.unpack(">I", payload[:4])[0]
        method = spec.methods[index]()
        method.decode(payload, 4)
        return channel, method

    def expect(self, wanted, channel=None, seconds=DEADLINE):
        """The next method, which must be of this class."""
        at, method = self.read_method(seconds)
        assert isinstance(method, wanted), f"{method!r} came"
        assert channel is None or channel == at
        return method

    # --- the beginning

    def start(self, client=None, user="guest", password=None, mechanism="PLAIN", response=None):
        """Until the server has answered who we are: returns what it said in connection.start."""
        self.send(HEADER)
        start = self.expect(spec.Connection.Start, 0)
        if response is None:
            response = f"\0{user}\0{password or user}"
        self.method(0, spec.Connection.StartOk(client_properties=CLIENT if client is None else client,
                                               mechanism=mechanism, response=response, locale="en_US"))
        return start

    def tune(self, heartbeat=0, frame_max=131072, channel_max=2047):
        """Answers connection.tune; returns what the server offered."""
        offered = self.expect(spec.Connection.Tune, 0)
        self.method(0, spec.Connection.TuneOk(channel_max=channel_max, frame_max=frame_max, heartbeat=heartbeat))
        return offered

    def open(self, vhost="/", client=None, **tuned):
        """Everything up to an open connection."""
        self.start(client)
        self.tune(**tuned)
        self.method(0, spec.Connection.Open(virtual_host=vhost))
        self.expect(spec.Connection.OpenOk, 0)
        return self

    def open_channel(self, channel=1):
        self.method(channel, spec.Channel.Open())
        self.expect(spec.Channel.OpenOk, channel)
        return self

    # --- the end

    def expect_connection_closed(self, code, text, class_id=0, method_id=0):
        """connection.close with exactly this; answers it, and the server then closes the socket."""
        close = self.expect(spec.Connection.Close, 0)
        assert (close.reply_code, close.reply_text) == (code, text)
        assert (close.class_id, close.method_id) == (class_id, method_id)
        self.method(0, spec.Connection.CloseOk())
        assert self.peer.is_closed(), "the socket was left open after connection.close-ok"

    def expect_channel_closed(self, channel, code, text, class_id=0, method_id=0):
        close = self.expect(spec.Channel.Close, channel)
        assert (close.reply_code, close.reply_text) == (code, text)
        assert (close.class_id, close.method_id) == (class_id, method_id)
        self.method(channel, spec.Channel.CloseOk())

    def expect_end(self, *codes):
        """connection.close with one of the codes, or a socket that is gone."""
        try:
            close = self.expect(spec.Connection.Close, 0)
        except PeerGone:
            return
        assert close.reply_code in codes, close

    def expect_dropped(self, seconds=DEADLINE):
        """The socket ends without a word."""
        try:
            kind, _, payload = self.read_frame(seconds)
        except PeerGone:
            return
        raise AssertionError(f"a frame of type {kind} came: {payload[:200]!r}")
