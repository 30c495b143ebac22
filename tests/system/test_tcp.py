"""Layer 4: bytes to a pool and back, whatever they are, in whatever pieces, with either side finishing first."""
import contextlib
import hashlib
import random
import socket
import threading

import pytest

from kit.config import pool, top
from kit.origin import Origin
from kit.wire import DEADLINE, PeerGone, connect

PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"


def tunnel(*origins, listener="", options="", threads=1, general="", drain="500ms"):
    """One tcp listener over one pool."""
    return (top(general, threads, drain) + f'tcp "127.0.0.1:{{port}}" {{ pool = back {listener} }}\n' +
            pool("back", *origins, options=options))


def say_name(name):
    """Tells its name at once, then returns every byte until the other side finishes."""
    def handler(connection):
        connection.send(name)
        while data := connection.read_some(seconds=60):
            connection.send(data)
    return handler


def name_of(proxy, address=None):
    peer = proxy.client(address)
    name = peer.read_exactly(1)
    peer.close()
    return name


class Digester:
    """A server of its own threads: reads to the end and answers with the hash of what came, then with as many bytes of
    its own as it was told by the first eight, and their hash is known."""

    def __init__(self, seed):
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.at = f"127.0.0.1:{self.port}"
        self.seed = seed
        self.name = "digester"
        self.errors = []
        self.connections = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            want = int.from_bytes(connection.recv(8, socket.MSG_WAITALL), "big")
            reader_hash = hashlib.sha256()
            reader = threading.Thread(target=pull, args=(connection, reader_hash))
            reader.start()
            push(connection, want, self.seed + want, hashlib.sha256())
            reader.join(60)
            connection.sendall(reader_hash.digest())
        except OSError:
            pass
        connection.close()

    def stop(self):
        self.listening.close()
        for connection in self.connections:
            connection.close()


def push(sock, n, seed, digest):
    """n bytes made from the seed, in pieces of random sizes."""
    rng = random.Random(seed)
    while n:
        piece = rng.randbytes(min(n, rng.choice((1, 7, 100, 1448, 16384, 65536, 1 << 20))))
        digest.update(piece)
        sock.sendall(piece)
        n -= len(piece)


def pull(sock, digest, stop_after=None, rng=None):
    """Reads in random steps, to the end, however it comes."""
    rng = rng or random.Random(1)
    n = 0
    while stop_after is None or n < stop_after:
        try:
            piece = sock.recv(min(rng.choice((1, 100, 4096, 1 << 18)), (stop_after or 1 << 60) - n))
        except OSError:
            return n
        if not piece:
            return n
        digest.update(piece)
        n += len(piece)
    return n


def check_transfer(port, up, down, seed):
    """Bytes both ways at once; this side finishes first, and still gets the rest and the hash."""
    sock = socket.create_connection(("127.0.0.1", port), 30)
    sock.settimeout(60)
    sock.sendall(down.to_bytes(8, "big"))
    sent, got, expected = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    pusher = threading.Thread(target=lambda: (push(sock, up, seed, sent), sock.shutdown(socket.SHUT_WR)))
    pusher.start()
    n = pull(sock, got, down, random.Random(seed))
    pusher.join(60)
    answer = sock.recv(32, socket.MSG_WAITALL)
    rest = sock.recv(1)
    sock.close()
    rng = random.Random(1009 + down)
    left = down
    while left:
        piece = rng.randbytes(min(left, rng.choice((1, 7, 100, 1448, 16384, 65536, 1 << 20))))
        expected.update(piece)
        left -= len(piece)
    assert n == down and got.digest() == expected.digest(), "the server's bytes came as they were sent"
    assert answer == sent.digest(), "the client's bytes arrived as they were sent"
    assert rest == b""


@pytest.mark.parametrize("up,down", [(0, 0), (1, 1), (100_000, 0), (0, 100_000), (5_000_000, 3_000_000),
                                     (40_000_000, 64_000_000)])
def test_bytes_arrive_as_they_were_sent_both_ways_with_half_close(maitred, stage, up, down):
    digester = stage.add(Digester(1009))
    proxy = maitred(tunnel(digester))
    check_transfer(proxy.port, up, down, up + down)


def test_many_transfers_live_through_random_kills_of_others(maitred, stage):
    digester = stage.add(Digester(1009))
    proxy = maitred(tunnel(digester, threads=2))
    rng = random.Random(7)
    failures = []

    def transfer(i):
        try:
            check_transfer(proxy.port, 200_000 + i * 7919, 150_000 + i * 104729, i)
        except Exception as error:  # a thread's failure is the test's
            failures.append(error)

    def killed(i):
        sock = socket.create_connection(("127.0.0.1", proxy.port), 30)
        sock.sendall((1 << 24).to_bytes(8, "big") + b"x" * rng.randrange(100_000))
        sock.recv(1 + i * 1000)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
    threads = [threading.Thread(target=transfer, args=(i,)) for i in range(12)]
    threads += [threading.Thread(target=killed, args=(i,)) for i in range(20)]
    rng.shuffle(threads)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert not failures, failures


def test_a_server_that_speaks_first_is_heard(maitred, scripted):
    proxy = maitred(tunnel(scripted(say_name(b"a"))))
    assert name_of(proxy) == b"a"


def test_connections_go_round_by_weight(maitred, scripted):
    proxy = maitred(tunnel((scripted(say_name(b"a")), "weight = 3"), scripted(say_name(b"b"))))
    names = b"".join(name_of(proxy) for _ in range(8))
    assert names.count(b"a") == 6 and names.count(b"b") == 2


@pytest.mark.parametrize("balance", ["round-robin", "least-connections", "ip-hash", "consistent-hash", "random-two"])
def test_every_strategy_that_needs_no_request_finds_a_server(maitred, scripted, balance):
    origins = [scripted(say_name(name)) for name in (b"a", b"b", b"c")]
    bound = "load-bound = 0" if balance == "consistent-hash" else ""
    proxy = maitred(tunnel(*origins, options=f"balance = {balance} {bound}"))
    names = {name_of(proxy) for _ in range(12)}
    assert names <= {b"a", b"b", b"c"}
    if balance in ("ip-hash", "consistent-hash"):
        assert len(names) == 1, "a client stays with its server"


def test_least_connections_counts_tunnels(maitred, scripted):
    proxy = maitred(tunnel(*[scripted(say_name(name)) for name in (b"a", b"b")],
                           options="balance = least-connections"))
    held = [proxy.client() for _ in range(6)]
    names = b"".join(peer.read_exactly(1) for peer in held)
    assert names.count(b"a") == names.count(b"b") == 3


def test_a_server_that_refuses_is_passed_over(maitred, scripted, closed):
    proxy = maitred(tunnel(closed(), scripted(say_name(b"a"))))
    assert all(name_of(proxy) == b"a" for _ in range(5))


def test_without_a_server_the_client_is_reset(maitred, closed):
    proxy = maitred(tunnel(closed()))
    sock = socket.create_connection(("127.0.0.1", proxy.port), DEADLINE)
    with pytest.raises(ConnectionResetError):
        if sock.recv(1) == b"":
            pytest.fail("an end, as if all were well")
    sock.close()


def test_a_silent_tunnel_ends_by_its_idle_timeout(maitred, scripted):
    proxy = maitred(tunnel(scripted(say_name(b"a")), listener="idle-timeout = 200ms"))
    peer = proxy.client()
    assert peer.read_exactly(1) == b"a"
    peer.send(b"x")
    assert peer.read_exactly(1) == b"x"
    with pytest.raises(PeerGone):
        peer.read_exactly(1)


def test_connections_wait_in_line_for_a_place(maitred, scripted):
    proxy = maitred(tunnel(scripted(say_name(b"a")), options="max-connections = 1 queue-timeout = 10s"))
    first = proxy.client()
    assert first.read_exactly(1) == b"a"
    second = proxy.client().send(b"hello")
    first.close()
    assert second.read_exactly(1) == b"a"
    assert second.read_exactly(5) == b"hello"


def test_a_unix_socket_is_a_server_as_any(maitred, tmp_path):
    path = tmp_path / "server.sock"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    proxy = maitred(tunnel(f"unix:{path}"))
    peer = proxy.client().send(b"hello")
    while True:
        server, _ = listening.accept()
        if data := server.recv(5, socket.MSG_WAITALL):  # else it was whoever looked whether maitred listens
            break
    assert data == b"hello"
    server.sendall(b"bye")
    server.close()
    assert peer.read_exactly(3) == b"bye"
    listening.close()


# --- health

def banner(connection):
    """Speaks a small protocol: PING gets +PONG, after any PROXY header."""
    data = b""
    while piece := connection.read_some(seconds=60):
        data += piece
        if b"PING\r\n" in data:
            connection.send(b"+PONG\r\n")
            data = b""


def mute(connection):
    while connection.read_some(seconds=60):
        connection.send(b"-ERR loading\r\n")


def test_a_check_that_sends_and_expects_tells_well_from_ill(maitred, scripted):
    well, ill = scripted(banner), scripted(mute)
    proxy = maitred(tunnel(ill, well, options=r'health { send = "PING\r\n" expect = "+PONG" interval = 50ms '
                                              r'fast-interval = 20ms timeout = 500ms }'))
    proxy.wait_log(r"is down: .*without what `expect` says|is down: no answer")
    for _ in range(4):
        assert proxy.client().send(b"PING\r\n").read_exactly(7) == b"+PONG\r\n"


# --- the PROXY protocol

def read_header(connection):
    """What came first, up to and with the first line's end."""
    connection.send(connection.read_until(b"\n"))
    while connection.read_some(seconds=60):
        pass


def test_a_server_that_asks_for_it_gets_a_v1_header(maitred, scripted):
    proxy = maitred(tunnel((scripted(read_header), "send-proxy = v1")))
    peer = proxy.client()
    host, port = peer.sock.getsockname()
    assert peer.read_until(b"\n") == f"PROXY TCP4 {host} 127.0.0.1 {port} {proxy.port}\r\n".encode()


def read_v2(connection):
    connection.send(connection.read_exactly(28))
    while connection.read_some(seconds=60):
        pass


def test_a_server_that_asks_for_it_gets_a_v2_header(maitred, scripted):
    proxy = maitred(tunnel((scripted(read_v2), "send-proxy = v2")))
    peer = proxy.client()
    port = peer.sock.getsockname()[1]
    assert peer.read_exactly(28) == (PROXY_V2 + b"\x21\x11\0\x0c" + bytes([127, 0, 0, 1, 127, 0, 0, 1]) +
                                     port.to_bytes(2, "big") + proxy.port.to_bytes(2, "big"))


def test_what_a_listed_peer_says_of_the_client_is_passed_on(maitred, scripted):
    proxy = maitred(tunnel((scripted(read_header), "send-proxy = v1"), listener="accept-proxy = { 127.0.0.1 }"))
    header = b"PROXY TCP4 192.0.2.7 198.51.100.9 4711 443\r\n"
    for pieces in ([header + b"x"], [header[i:i + 1] for i in range(len(header))]):
        peer = proxy.client()
        for piece in pieces:
            peer.send(piece)
        assert peer.read_until(b"\n") == header
        peer.close()


def test_a_listed_peer_without_a_header_is_closed(maitred, scripted):
    proxy = maitred(tunnel(scripted(say_name(b"a")), listener="accept-proxy = { 127.0.0.0/8 }"))
    peer = proxy.client().send(b"hello, no header\r\n")
    with pytest.raises(PeerGone):
        peer.read_exactly(1)
    proxy.wait_log("should begin with a PROXY header")


def test_an_unlisted_peer_needs_none(maitred, scripted):
    proxy = maitred(tunnel(scripted(say_name(b"a")), listener="accept-proxy = { 192.0.2.0/24 }"))
    assert name_of(proxy) == b"a"


def test_a_drain_lets_tunnels_live_until_its_deadline(maitred, scripted):
    proxy = maitred(tunnel(scripted(say_name(b"a")), drain="30s"))
    peer = proxy.client()
    assert peer.read_exactly(1) == b"a"
    proxy.terminate()
    proxy.wait_log("draining")
    peer.send(b"still here")
    assert peer.read_exactly(10) == b"still here"
    with pytest.raises(ConnectionRefusedError):
        while True:  # the socket closes a moment after the word, and resets who was still in its line
            with contextlib.suppress(ConnectionResetError):
                connect(proxy.address).close()
    peer.close()
    assert proxy.wait() == 0
