"""Servers that go wrong in one way at a time, switched while they run, and the table of what each way may cost.

A FaultyServer (HTTP) and a FaultyStream (bytes) behave until become(fault), and again after heal(); flap(fault, every)
goes back and forth by itself. Their port stays theirs all the time, also while they refuse connections.
"""
import socket
import threading
from dataclasses import dataclass
from typing import Callable

from kit.origin import FINISH, HANG, REQUEST, RESET, Origin, steps, tell
from kit.process import free_port
from kit.wire import PeerGone, answer, chunked

# What a client may see, besides a status.
CUT = "cut"         # an answer began, and the connection ended before its end
GONE = "gone"       # the connection ended without an answer

# Timeouts of a pool that faults of silence are made for. SILENCE is longer than any of them, TICK much shorter.
TIMEOUTS = "connect-timeout = 250ms  response-timeout = 250ms"
SILENCE, TICK = 0.6, 0.05


def outcome(peer, method="GET"):
    """The status of the answer to a request that was sent, CUT, or GONE."""
    try:
        return peer.read_response(method).status
    except PeerGone:
        return CUT if b"\r\n\r\n" in peer.received[peer.received.rfind(b"HTTP/1.1"):] else GONE


@dataclass(frozen=True)
class Fault:
    """One way to go wrong. Where several outcomes are right (the kernel decides who is faster), all are named."""
    name: str
    when: str                       # "listen": nobody gets in; "accept": at once; "request": after a whole one
    script: Callable
    alone: tuple                    # outcome of a GET, with no other server
    beside: tuple                   # the same, with a healthy server to turn to
    post: tuple                     # outcome of a POST, with a healthy server to turn to
    kinds: tuple                    # what each attempt is counted as; empty: as no error
    ejects: bool = True             # enough of it in a row and the server is left out for a while
    stays: bool = False             # the connection is good for the next request

    def __repr__(self):
        return self.name


def fault(name, when, script, *outcomes, kinds=(), **more):
    alone, beside, post = (each if isinstance(each, tuple) else (each,) for each in outcomes)
    return Fault(name, when, script, alone, beside, post, (kinds,) if isinstance(kinds, str) else kinds, **more)


def slowly(data, pause):
    return lambda connection: connection.send_slowly(data, pause)


def silent(connection):
    """Until the other side leaves, or for SILENCE."""
    connection.is_closed(SILENCE)


WHOLE = answer(b"x" * 20)
HALF_A_HEAD = WHOLE[:30]
HALF_A_BODY = WHOLE[:-10]
HALF_A_CHUNK = answer(b"", "Transfer-Encoding: chunked", length=False) + chunked(b"x" * 500)[:250]
NO_CHUNK = answer(b"", "Transfer-Encoding: chunked", length=False) + b"5\r\nhello\r\nfive\r\nhello\r\n"


def status(line):
    code = int(line[:3])
    return fault(f"status-{code}", "request", steps(answer(b"sorry", status=line)), code, code, code, kinds="status",
                 stays=True)


#     name, when, what happens, then the outcome of a GET alone, of one beside a healthy server, of a POST there
FAULTS = [
    fault("refuse", "listen", None, 503, 200, 200, kinds="refused"),
    fault("hang-before-accept", "listen", None, 503, 200, 200, kinds="connect_timeout"),
    fault("hang-after-accept", "accept", HANG, 504, 200, 504, kinds="response_timeout"),
    fault("hang-after-request", "request", HANG, 504, 200, 504, kinds="response_timeout"),
    fault("hang-mid-head", "request", steps(HALF_A_HEAD, HANG), 504, 504, 504, kinds="response_timeout"),
    fault("hang-mid-body", "request", steps(HALF_A_BODY, HANG), CUT, CUT, CUT, kinds="response_timeout", ejects=False),
    # A reset that comes before the connection was looked at is a refusal: nothing was sent yet.
    fault("reset-after-accept", "accept", RESET, (502, 503), 200, (502, 200), kinds=("closed", "refused")),
    fault("reset-after-request", "request", RESET, 502, 200, 502, kinds="closed"),
    fault("reset-mid-head", "request", steps(HALF_A_HEAD, RESET), 502, 502, 502, kinds="broken"),
    fault("reset-mid-body", "request", steps(HALF_A_BODY, RESET), CUT, CUT, CUT, kinds="broken", ejects=False),
    fault("close-after-accept", "accept", steps(), 502, 200, 502, kinds="closed"),
    fault("close-after-request", "request", steps(), 502, 200, 502, kinds="closed"),
    fault("close-mid-head", "request", steps(HALF_A_HEAD), 502, 502, 502, kinds="broken"),
    fault("close-mid-body", "request", steps(HALF_A_BODY), CUT, CUT, CUT, kinds="broken", ejects=False),
    fault("close-mid-chunk", "request", steps(HALF_A_CHUNK), CUT, CUT, CUT, kinds="broken", ejects=False),
    fault("garbage-line", "request", steps(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", HANG), 502, 502, 502, kinds="garbage"),
    fault("garbage-bytes", "request", steps(bytes(range(128, 256)) * 2048, HANG), 502, 502, 502, kinds="garbage"),
    fault("garbage-field", "request", steps(answer(b"", "no colon"), HANG), 502, 502, 502, kinds="garbage"),
    fault("garbage-chunk", "request", steps(NO_CHUNK, HANG), CUT, CUT, CUT, kinds="garbage", ejects=False),
    fault("slow-head", "request", slowly(WHOLE, TICK), 504, 504, 504, kinds="response_timeout"),
    fault("slow-body", "request", steps(HALF_A_BODY, silent, WHOLE[-10:]), CUT, CUT, CUT, kinds="response_timeout",
          ejects=False),
    # Slow, but never silent for too long: no fault at all.
    fault("trickle", "request", steps(WHOLE[:-8], slowly(WHOLE[-8:], TICK)), 200, 200, 200, ejects=False,
          stays=True),
    status("502 Bad Gateway"), status("503 Service Unavailable"), status("504 Gateway Timeout"),
]
by_name = {each.name: each for each in FAULTS}


class Faulty(Origin):
    """What the two kinds share: the switch. `met` counts how often the fault happened, but for "listen" ones."""

    def __init__(self, name="faulty"):
        self.fault = None
        self.met = 0
        self._every = 0         # flapping: so many turns well, then so many not
        self._turn = 0
        self._fillers = []
        self._deaf = threading.Event()  # set while nobody accepts
        self._switch = threading.Lock()
        super().__init__(self._serve, ("127.0.0.1", free_port()), name)

    def become(self, fault, drop=True):
        """drop: connections that are there end, as when the process behind them is another one now."""
        with self._switch:
            was, self.fault, self._every = self.fault, fault, 0
            if was and was.when == "listen":
                self._open(512, accept=True)
            if fault and fault.when == "listen":
                self._shut()
            if drop:
                self.drop()
            if fault and fault.name == "hang-before-accept":
                self._fill()

    def heal(self):
        self.become(None, drop=False)

    def flap(self, fault, every):
        """Well for so many requests, then not for so many, and again."""
        self.become(fault)
        self._every, self._turn = every, 0

    def drop(self):
        for connection in self.connections:
            if not connection.done.is_set():
                try:
                    connection.sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def stop(self):
        self._unfill()
        super().stop()

    # --- what happens now

    def _meets(self, *when):
        """The fault that happens at this point of a connection, or None."""
        with self._switch:
            fault = self.fault
            if not fault or fault.when not in when:
                return None
            if self._every:
                self._turn += 1
                if (self._turn - 1) // self._every % 2 == 0:
                    return None
            self.met += 1
        self.changed()
        return fault

    # --- the listening socket: a bound one that does not listen refuses, and nobody else gets its port

    def _shut(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self._deaf.wait()

    def _accept(self, listener):
        super()._accept(listener)
        self._deaf.set()

    def _open(self, backlog, accept):
        if self._fillers:
            self._unfill()
            self._shut()
        self.socket.listen(backlog)
        if accept:
            self._deaf.clear()
            threading.Thread(target=self._accept, args=(self.socket,), daemon=True).start()

    def _fill(self):
        """A listener whose queue is full lets connects hang."""
        self._open(0, accept=False)
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self.address)
            self._fillers.append(filler)

    def _unfill(self):
        while self._fillers:
            self._fillers.pop().close()


class FaultyServer(Faulty):
    """An HTTP server that keeps connections and tells what it got."""

    def _serve(self, connection):
        if met := self._meets("accept"):
            met.script(connection)
            return
        while True:
            request = REQUEST(connection)
            met = self._meets("request", "accept")
            if not met:
                connection.send(tell(request))
                continue
            met.script(connection)
            if not met.stays:
                return


# --- bytes only

PIECE = bytes(range(256)) * 256


@dataclass(frozen=True)
class StreamFault:
    """One way for a server of bytes to go wrong, and what its client sees."""
    name: str
    when: str                       # "listen"; "accept": at once; "bytes": after the first ones
    script: Callable
    ends: tuple                     # how the client's connection may end: "eof", "reset"
    gets: tuple                     # the least and the most of PIECE that the client gets
    kinds: tuple                    # what it is counted as; empty: as no error
    moves: tuple = (False,)         # whether another server serves the client instead

    def __repr__(self):
        return self.name


# A socket that is closed for good may answer our end by a reset, where the kernel has too many that linger.
END = steps(FINISH, HANG)
ALL_OF_IT, NOTHING = (len(PIECE),) * 2, (0, 0)

STREAM_FAULTS = [
    StreamFault("refuse", "listen", None, ("eof", "reset"), NOTHING, ("refused",), moves=(True,)),
    StreamFault("hang-before-accept", "listen", None, ("eof", "reset"), NOTHING, ("connect_timeout",), moves=(True,)),
    StreamFault("hang-after-accept", "accept", HANG, ("eof", "reset"), NOTHING, ()),
    StreamFault("hang-mid-stream", "bytes", steps(PIECE, HANG), ("eof", "reset"), ALL_OF_IT, ()),
    # As in FAULTS: where the reset is seen first, nobody was connected yet.
    StreamFault("reset-after-accept", "accept", RESET, ("reset",), NOTHING, ("broken", "refused"), moves=(False, True)),
    StreamFault("reset-after-bytes", "bytes", RESET, ("reset",), NOTHING, ("broken",)),
    StreamFault("reset-mid-stream", "bytes", steps(PIECE, RESET), ("reset",), (0, len(PIECE)), ("broken",)),
    StreamFault("close-after-accept", "accept", END, ("eof",), NOTHING, ()),
    StreamFault("close-mid-stream", "bytes", steps(PIECE, END), ("eof",), ALL_OF_IT, ()),
    StreamFault("trickle", "bytes", steps(slowly(PIECE[:8], TICK), PIECE[8:], END), ("eof",), ALL_OF_IT, ()),
]
stream_by_name = {each.name: each for each in STREAM_FAULTS}


class FaultyStream(Faulty):
    """Sends back every byte, and its end."""

    def _serve(self, connection):
        if met := self._meets("accept"):
            met.script(connection)
            return
        while data := connection.read_some(seconds=60):
            if met := self._meets("bytes"):
                met.script(connection)
                return
            connection.send(data)
