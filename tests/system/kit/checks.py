"""Questions that many tests ask."""
import itertools

from kit.origin import Told

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: smuggled\r\n\r\n"
_barrier = itertools.count()


def assert_lives(proxy):
    """The server still answers others."""
    target = f"/barrier-{next(_barrier)}"
    response = proxy.get(target)
    assert response.status == 200, f"after it, {target} got {response!r}"
    return target


def assert_closes(peer, response=None):
    """The connection ends, with nothing more on it."""
    assert peer.is_closed(), "the connection was not closed"
    assert peer.unread == b"", f"bytes after the answer: {peer.unread[:300]!r}"
    if response is not None:
        assert "close" in (response.get("Connection") or "").lower(), \
            f"closed without saying so: {response.fields}"


def assert_refused(proxy, origin, raw, *statuses):
    """raw gets one of the statuses, then the connection closes; not a byte of it reached the origin, and a request
    hidden behind it was not looked at. origin must be an EchoOrigin that all of the proxy's requests go to."""
    mark, requests = origin.mark(), len(origin.requests)
    peer = proxy.client()
    peer.send(raw + SMUGGLED)
    response = peer.read_response()
    assert response.status in statuses, f"{raw[:200]!r} got {response!r}"
    assert_closes(peer, response)
    barrier = assert_lives(proxy)
    assert origin.targets[requests:] == [barrier]
    assert origin.since(mark) == [origin.requests[-1].raw_head], "bytes of a refused request reached the origin"
    return response


def assert_body_refused(proxy, origin, raw, *statuses):
    """The same for what is wrong in a body: its head may have been passed on by then, but the origin must never see
    a whole request of it, and the connection that it saw a part on must end."""
    mark, requests = origin.mark(), len(origin.requests)
    peer = proxy.client()
    peer.send(raw + SMUGGLED)
    response = peer.read_response()
    assert response.status in statuses, f"{raw[:200]!r} got {response!r}"
    assert_closes(peer, response)
    barrier = assert_lives(proxy)
    assert origin.targets[requests:] == [barrier], "the origin took a request whose body was refused"
    assert b"smuggled" not in b"".join(origin.since(mark))
    for connection, start in zip(origin.connections, mark + [0] * len(origin.connections)):
        if len(connection.received) > start and connection is not origin.requests[-1].connection:
            assert connection.done.wait(5), "the connection to the origin of half a request was kept"
    return response


def passed_on(proxy, raw, method=None):
    """Sends raw over a connection of its own; what the origin tells about it."""
    return Told(proxy.ask(raw, method=method))
