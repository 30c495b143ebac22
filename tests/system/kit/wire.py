"""One end of a TCP or unix connection that speaks HTTP/1 by hand.

Nothing here corrects or completes what a test sends, and what comes back is kept byte for byte in `received`.
Every wait has a bound: TimedOut says what was waited for and what had come by then.
"""
import select
import socket
import struct
import time

DEADLINE = 8.0  # seconds; a wait that lasts this long is a failure


def has_come(sock, seconds):
    """Whether there is something to read within that time; of any descriptor, also one above those that select takes."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


class PeerGone(AssertionError):
    """The other side closed (or reset) the connection before the awaited bytes came."""


class TimedOut(AssertionError):
    """The awaited bytes did not come in time."""


class Message:
    """An HTTP message as it came: start line, fields in order, body and trailers."""

    def __init__(self, head):
        lines = head.decode("latin-1").split("\r\n")
        self.raw_head = head
        self.start = lines[0]
        self.fields = [split_field(line) for line in lines[1:] if line]
        self.body = b""
        self.trailers = []
        self.chunked = False

    def all(self, name):
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def get(self, name, default=None):
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else default

    def __contains__(self, name):
        return bool(self.all(name))

    @property
    def text(self):
        return self.body.decode("latin-1")


class Request(Message):
    def __init__(self, head):
        super().__init__(head)
        self.method, self.target, self.version = self.start.split(" ", 2)


class Response(Message):
    def __init__(self, head):
        super().__init__(head)
        self.version, status, *reason = self.start.split(" ", 2)
        self.status = int(status)
        self.reason = reason[0] if reason else ""

    def __repr__(self):
        return f"<{self.start!r} {self.fields} {self.body[:200]!r}>"


def split_field(line):
    name, _, value = line.partition(":")
    return name, value.strip(" \t")


class Peer:
    """A connected socket with a buffer. Its owner closes it; it may be closed twice."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(DEADLINE)
        self.received = bytearray()  # everything that ever came
        self.taken = 0          # how much of it has been read by the calls below
        self.ended = None       # "eof" or "reset" once the other side is gone

    # --- sending

    def send(self, *pieces):
        """Sends each piece by itself, so that they tend to arrive apart."""
        for piece in pieces:
            try:
                self.sock.sendall(piece)
            except (BrokenPipeError, ConnectionResetError) as error:
                raise PeerGone(f"could not send {piece[:80]!r}: {error}") from error
        return self

    def send_slowly(self, data, pause=0.0):
        """One byte at a time. Stops early, without an error, when the other side answers or goes away.
        Returns how many bytes went out."""
        for sent in range(len(data)):
            if self.readable(pause):
                return sent
            try:
                self.sock.sendall(data[sent:sent + 1])
            except OSError:
                return sent
        return len(data)

    def finish(self):
        """Half-close: nothing more will be sent."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise PeerGone(f"could not half-close: {error}") from error

    def close(self):
        self.sock.close()

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # --- receiving

    @property
    def unread(self):
        return bytes(self.received[self.taken:])

    def readable(self, seconds):
        """Whether bytes, an end or a reset are there within that time."""
        if self.taken < len(self.received) or self.ended:
            return True
        return has_come(self.sock, seconds)

    def fill(self, deadline, wanted):
        """Takes what the socket has, waiting until the deadline for something."""
        left = deadline - time.monotonic()
        if self.ended:
            raise PeerGone(f"{self.ended} while waiting for {wanted}; unread: {self.unread[-500:]!r}")
        if left <= 0 or not has_come(self.sock, left):
            raise TimedOut(f"no {wanted} in time; unread: {self.unread[-500:]!r}")
        self.take_bytes()
        if self.ended:
            raise PeerGone(f"{self.ended} while waiting for {wanted}; unread: {self.unread[-500:]!r}")

    def take_bytes(self, most=65536):
        try:
            data = self.sock.recv(most)
        except (ConnectionResetError, BrokenPipeError):
            self.ended = "reset"
        else:
            self.received += data
            self.ended = None if data else "eof"

    def read_until(self, mark, seconds=DEADLINE):
        """Everything up to and including mark."""
        deadline = time.monotonic() + seconds
        while (at := self.received.find(mark, self.taken)) < 0:
            self.fill(deadline, repr(mark))
        return self._take(at + len(mark))

    def read_exactly(self, count, seconds=DEADLINE):
        deadline = time.monotonic() + seconds
        while len(self.received) - self.taken < count:
            self.fill(deadline, f"{count} bytes")
        return self._take(self.taken + count)

    def read_some(self, seconds=DEADLINE):
        """At least one byte; b'' at an end or reset."""
        try:
            if self.taken == len(self.received):
                self.fill(time.monotonic() + seconds, "bytes")
        except PeerGone:
            return b""
        return self._take(len(self.received))

    def read_to_end(self, seconds=DEADLINE):
        """Everything until the other side closes. `ended` says how it did."""
        deadline = time.monotonic() + seconds
        while not self.ended:
            try:
                self.fill(deadline, "end of the connection")
            except PeerGone:
                break
        return self._take(len(self.received))

    def is_closed(self, seconds=DEADLINE):
        """Whether the other side closes within that time; bytes that come before are kept unread."""
        deadline = time.monotonic() + seconds
        try:
            while not self.ended:
                self.fill(deadline, "end")
        except PeerGone:
            pass
        except TimedOut:
            return False
        return True

    def discard(self, count, seconds=60, each=None):
        """Reads count bytes without keeping them: for bodies too big to hold. each(bytes) sees every piece."""
        deadline = time.monotonic() + seconds
        while count > 0:
            data = self.unread[:count]
            self.taken += len(data)
            if not data:
                assert time.monotonic() < deadline, f"{count} bytes still missing"
                data = self.sock.recv(min(count, 1 << 18))
                if not data:
                    raise PeerGone(f"closed with {count} bytes still missing")
            if each:
                each(data)
            count -= len(data)

    def _take(self, end):
        data = bytes(self.received[self.taken:end])
        self.taken = end
        return data

    # --- HTTP

    def read_request(self, seconds=DEADLINE):
        request = Request(self.read_until(b"\r\n\r\n", seconds))
        if request.all("Content-Length") or request.all("Transfer-Encoding"):
            self._read_framed(request, seconds)
        return request

    def read_head(self, seconds=DEADLINE):
        """The next answer's head alone, interim ones too."""
        return Response(self.read_until(b"\r\n\r\n", seconds))

    def read_response(self, method="GET", seconds=DEADLINE, interim=None):
        """One whole final answer, its body taken off by its framing. Interim ones go to the list `interim`."""
        response = self.read_head(seconds)
        while 100 <= response.status < 200 and response.status != 101:
            if interim is not None:
                interim.append(response)
            response = self.read_head(seconds)
        if method == "HEAD" or response.status in (101, 204, 304):
            return response
        if response.all("Content-Length") or response.all("Transfer-Encoding"):
            self._read_framed(response, seconds)
        else:
            response.body = self.read_to_end(seconds)
        return response

    def _read_framed(self, message, seconds):
        coding = message.get("Transfer-Encoding")
        if coding is None:
            message.body = self.read_exactly(int(message.get("Content-Length")), seconds)
            return
        assert coding.lower() == "chunked", f"Transfer-Encoding: {coding}"
        assert "Content-Length" not in message, f"two framings: {message.fields}"
        message.chunked = True
        while size := int(self.read_until(b"\r\n", seconds)[:-2], 16):
            message.body += self.read_exactly(size, seconds)
            assert self.read_exactly(2, seconds) == b"\r\n", "no CRLF after a chunk"
        while line := self.read_until(b"\r\n", seconds)[:-2]:
            message.trailers.append(split_field(line.decode("latin-1")))

    def ask(self, raw, method=None, seconds=DEADLINE):
        """Sends one request and reads its answer."""
        self.send(raw)
        return self.read_response(method or raw.split(b" ", 1)[0].decode(), seconds)

    def get(self, target="/", *fields, host="a", seconds=DEADLINE):
        return self.ask(request("GET", target, *fields, host=host), seconds=seconds)


def connect(address, receive_buffer=None):
    """address: (host, port), or a path of a unix socket."""
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
    else:
        sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(DEADLINE)
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return Peer(sock)


def request(method="GET", target="/", *fields, host="a", version="HTTP/1.1", body=b""):
    """The bytes of a request. fields are whole lines without CRLF, as str or bytes."""
    lines = [f"{method} {target} {version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    if body and not any(str(line).lower().startswith(("content-length", "transfer-encoding")) for line in fields):
        lines.append(f"Content-Length: {len(body)}")
    encoded = [line if isinstance(line, bytes) else line.encode("latin-1") for line in (*lines, *fields)]
    return b"\r\n".join(encoded) + b"\r\n\r\n" + body


def answer(body=b"", *fields, status="200 OK", version="HTTP/1.1", length=True):
    """The bytes of an answer, with its Content-Length unless length is False."""
    lines = [f"{version} {status}", *fields]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(*pieces, trailers=()):
    """The bytes of a chunked body."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return body + b"0\r\n" + b"".join(line.encode() + b"\r\n" for line in trailers) + b"\r\n"
