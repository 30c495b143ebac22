"""Upgraded connections: bytes both ways, from the first one that came along with the upgrade to the last half-close."""
import threading
import time

import pytest

from kit.checks import assert_lives
from kit.config import proxying, routing
from kit.origin import REQUEST, EchoOrigin, Origin, forever
from kit.wire import answer, request

WEBSOCKET = request("GET", "/chat", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
AGREED = (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
          b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")


def echo_back(connection, first=b""):
    """Agrees, then returns every byte; ends when the other side does, not before."""
    head = connection.read_until(b"\r\n\r\n")
    assert b"websocket" in head.lower() and b"upgrade" in head.lower()
    connection.send(AGREED + first)
    while data := connection.read_some(seconds=60):
        connection.send(data)
    connection.send(b"bye")


def upgraded(proxy, extra=b""):
    peer = proxy.client().send(WEBSOCKET + extra)
    response = peer.read_response()
    assert response.status == 101
    assert response.get("Upgrade").lower() == "websocket"
    assert "upgrade" in response.get("Connection").lower()
    assert response.get("Sec-WebSocket-Accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert "Content-Length" not in response and "Transfer-Encoding" not in response
    return peer


def test_bytes_go_both_ways(maitred, scripted):
    peer = upgraded(maitred(proxying(scripted(echo_back))))
    for message in (b"\x81\x05hello", bytes(range(256)), b"GET / HTTP/1.1\r\n\r\n", b"x" * 100_000):
        peer.send(message)
        assert peer.read_exactly(len(message)) == message


def test_bytes_that_come_with_the_upgrade_and_with_the_101_arrive(maitred, scripted):
    proxy = maitred(proxying(scripted(lambda connection: echo_back(connection, b"welcome"))))
    peer = upgraded(proxy, extra=b"early bird")
    assert peer.read_exactly(17) == b"welcomeearly bird"


def test_a_half_close_of_the_client_leaves_the_other_way_open(maitred, scripted):
    peer = upgraded(maitred(proxying(scripted(echo_back)))).send(b"last words")
    peer.finish()
    assert peer.read_to_end() == b"last wordsbye"
    assert peer.ended == "eof"


def test_a_half_close_of_the_origin_leaves_the_other_way_open(maitred, scripted):
    heard = []

    def serve(connection):
        connection.read_until(b"\r\n\r\n")
        connection.send(AGREED + b"that is all")
        connection.finish()
        heard.append(connection.read_to_end())
    origin = scripted(serve)
    peer = upgraded(maitred(proxying(origin)))
    assert peer.read_to_end() == b"that is all"
    peer.send(b"and so say I")
    peer.finish()
    assert origin.connections[0].done.wait(8)
    assert heard == [b"and so say I"]


@pytest.mark.parametrize("who", ["client", "origin"])
def test_a_reset_ends_both_sides(maitred, scripted, who):
    go = threading.Event()

    def serve(connection):
        connection.read_until(b"\r\n\r\n")
        connection.send(AGREED)
        if who == "origin":
            go.wait(8)
            connection.reset()
        else:
            connection.read_to_end()
    origin = scripted(serve)
    peer = upgraded(maitred(proxying(origin)))
    if who == "origin":
        go.set()
        assert peer.is_closed()
    else:
        peer.reset()
        assert origin.connections[0].done.wait(8)


def test_a_tunnel_silent_both_ways_ends_after_its_timeout(maitred, scripted):
    origin = scripted(echo_back)
    proxy = maitred(proxying(origin, http="tunnel-timeout = 400ms  idle-timeout = 100ms  body-timeout = 100ms",
                             options="response-timeout = 100ms"))
    peer = upgraded(proxy)
    end = time.monotonic() + 0.8
    while time.monotonic() < end:
        peer.send(b"tick")
        assert peer.read_exactly(4) == b"tick", "a tunnel in use was cut"
        assert not peer.readable(0.05)
    assert peer.is_closed()
    assert origin.connections[0].done.wait(8)


def test_one_way_in_use_keeps_a_tunnel_open(maitred, scripted):
    def serve(connection):
        connection.read_until(b"\r\n\r\n")
        connection.send(AGREED)
        for _ in range(20):
            connection.send(b".")
            if connection.readable(0.05):
                return
        connection.send(b"!")
    proxy = maitred(proxying(scripted(serve), http="tunnel-timeout = 400ms"))
    assert upgraded(proxy).read_until(b"!") == b"." * 20 + b"!"


def test_an_upgrade_that_is_not_taken_up_is_an_ordinary_answer(maitred, scripted):
    proxy = maitred(proxying(scripted(forever(REQUEST, answer(b"no thanks")))))
    peer = proxy.client()
    assert peer.ask(WEBSOCKET).body == b"no thanks"
    assert peer.ask(WEBSOCKET).body == b"no thanks"


def test_the_upgrade_reaches_the_origin_as_sent(maitred, scripted):
    origin = scripted(echo_back)
    upgraded(maitred(proxying(origin)))
    head = bytes(origin.connections[0].received).decode()
    assert "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==" in head
    assert "upgrade: websocket" in head.lower()
    assert "connection: upgrade" in head.lower()


def test_megabytes_both_ways_through_a_tunnel(maitred, scripted):
    peer = upgraded(maitred(proxying(scripted(echo_back))))
    data = bytes(range(256)) * 4096 * 8         # 8 MiB
    sender = threading.Thread(target=peer.sock.sendall, args=(data,), daemon=True)
    sender.start()
    assert peer.read_exactly(len(data), seconds=30) == data
    sender.join()


def test_tunnels_do_not_keep_others_out(stage):
    chat = stage.add(Origin(echo_back))
    web = stage.add(EchoOrigin("web"))
    proxy = stage.maitred(routing('route "/" { pool = web }  route "/chat" { pool = chat }', web=web, chat=chat))
    peers = [upgraded(proxy) for _ in range(50)]
    assert_lives(proxy)
    for number, peer in enumerate(peers):
        peer.send(b"%d" % number)
        assert peer.read_exactly(len(str(number))) == b"%d" % number
