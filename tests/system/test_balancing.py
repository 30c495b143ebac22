"""Which server a request goes to, as seen from outside."""
import collections
import itertools
import time

import pytest

from kit.config import listener, pool, proxying, top
from kit.origin import Told
from kit.wire import DEADLINE, request


@pytest.fixture
def trio(echo):
    return [echo(name) for name in "abc"]


def visits(proxy, requests):
    """The names of the servers that answered, in order, all over one connection."""
    peer = proxy.client()
    return [Told(peer.ask(raw)).server for raw in requests]


def plain(count):
    return [request("GET", f"/{number}") for number in range(count)]


def test_round_robin_goes_round(maitred, trio):
    proxy = maitred(proxying(*trio))
    seen = visits(proxy, plain(12))
    assert sorted(seen[:3]) == ["a", "b", "c"]
    assert seen == seen[:3] * 4


def test_round_robin_goes_on_over_all_connections_of_a_thread(maitred, trio):
    proxy = maitred(proxying(*trio))
    seen = [Told(proxy.get()).server for _ in range(9)]
    assert seen == seen[:3] * 3


def test_round_robin_is_even_over_all_threads(maitred, trio):
    proxy = maitred(proxying(*trio, threads=4))
    seen = collections.Counter(Told(proxy.get()).server for _ in range(120))
    assert sorted(seen) == ["a", "b", "c"]
    assert max(seen.values()) - min(seen.values()) <= 8, seen


def test_weights_are_kept_and_spread(maitred, trio):
    proxy = maitred(proxying((trio[0], "weight = 5"), trio[1], trio[2]))
    seen = visits(proxy, plain(21))
    for start in range(0, 21, 7):
        assert collections.Counter(seen[start:start + 7]) == {"a": 5, "b": 1, "c": 1}, seen
    longest = max(len(list(run)) for name, run in itertools.groupby(seen) if name == "a")
    assert longest <= 4, f"the heavy one gets its share in one go: {seen}"


def test_least_connections_goes_to_the_least_busy(maitred, trio):
    proxy = maitred(proxying(*trio, options="balance = least-connections"))
    for origin in trio:
        origin.hold()
    for count in range(9):
        proxy.client().send(request("GET", f"/{count}"))
        wait_total(trio, count + 1)
    assert [len(origin.requests) for origin in trio] == [3, 3, 3]
    for origin in trio:
        origin.release()


def wait_total(origins, count):
    """Until the origins together have that many requests."""
    end = time.monotonic() + DEADLINE
    while sum(len(origin.requests) for origin in origins) < count:
        assert time.monotonic() < end, f"{count} requests did not arrive"
        origins[0].stopped.wait(0.002)


def from_address(number):
    return request("GET", "/", f"X-Forwarded-For: 10.0.{number // 250}.{number % 250 + 1}")


def test_ip_hash_keeps_a_client_at_its_server(maitred, trio):
    proxy = maitred(proxying(*trio, http="trusted-proxies = { 127.0.0.1 }", options="balance = ip-hash"))
    first = visits(proxy, [from_address(number) for number in range(120)])
    assert visits(proxy, [from_address(number) for number in range(120)]) == first
    share = collections.Counter(first)
    assert len(share) == 3 and min(share.values()) > 10, share


def test_ip_hash_believes_only_a_trusted_proxy(maitred, trio):
    proxy = maitred(proxying(*trio, options="balance = ip-hash"))
    assert len(set(visits(proxy, [from_address(number) for number in range(30)]))) == 1


def test_ip_hash_takes_the_last_address_that_no_trusted_proxy_has(maitred, trio):
    proxy = maitred(proxying(*trio, http="trusted-proxies = { 127.0.0.1, 10.0.0.0/8 }", options="balance = ip-hash"))
    lies = [request("GET", "/", f"X-Forwarded-For: 1.2.3.{number}, 5.6.7.8, 10.1.1.1") for number in range(30)]
    assert len(set(visits(proxy, lies))) == 1


KEYS = {
    "query:user": lambda key: request("GET", f"/?x=1&user={key}"),
    "path": lambda key: request("GET", f"/{key}?x=1"),
    "uri": lambda key: request("GET", f"/?{key}"),
    "host": lambda key: request(host=f"{key}.example"),
    "header:X-User": lambda key: request("GET", "/", f"X-User: {key}"),
    "cookie:user": lambda key: request("GET", "/", f"Cookie: a=b; user={key}; c=d"),
}
PEOPLE = [f"user{number}" for number in range(120)]


@pytest.mark.parametrize("key", KEYS)
def test_consistent_hash_keeps_a_key_at_its_server(maitred, trio, key):
    proxy = maitred(proxying(*trio, options=f'balance = consistent-hash  hash-key = "{key}"'))
    first = visits(proxy, map(KEYS[key], PEOPLE))
    assert visits(proxy, map(KEYS[key], reversed(PEOPLE))) == first[::-1]
    share = collections.Counter(first)
    assert len(share) == 3 and min(share.values()) > 15, share


CONSISTENT = 'balance = consistent-hash  hash-key = "query:user"'


def test_consistent_hash_does_not_depend_on_the_order_in_the_file(maitred, trio):
    asked = list(map(KEYS["query:user"], PEOPLE))
    one = visits(maitred(proxying(*trio, options=CONSISTENT)), asked)
    assert visits(maitred(proxying(*reversed(trio), options=CONSISTENT)), asked) == one


def test_a_dead_server_moves_only_its_own_keys(maitred, trio):
    asked = list(map(KEYS["query:user"], PEOPLE))
    proxy = maitred(proxying(*trio, options=CONSISTENT + " ejection { failures = 1  time = 60s }"))
    before = visits(proxy, asked)
    trio[1].stop()
    after = visits(proxy, asked)
    assert "b" not in after
    assert [new for old, new in zip(before, after) if old != "b"] == [old for old in before if old != "b"]
    assert {new for old, new in zip(before, after) if old == "b"} == {"a", "c"}


def test_one_hot_key_does_not_drown_its_server(maitred, trio):
    proxy = maitred(proxying(*trio, options=CONSISTENT + " load-bound = 1.25"))
    for origin in trio:
        origin.hold()
    for count in range(12):
        proxy.client().send(request("GET", "/?user=star"))
        wait_total(trio, count + 1)
    busy = sorted(len(origin.requests) for origin in trio)
    assert busy[-1] <= 5, f"over 1.25 times the mean of 4: {busy}"
    for origin in trio:
        origin.release()


def test_without_a_load_bound_a_hot_key_stays_home(maitred, trio):
    proxy = maitred(proxying(*trio, options=CONSISTENT + " load-bound = 0"))
    for origin in trio:
        origin.hold()
    for count in range(6):
        proxy.client().send(request("GET", "/?user=star"))
        wait_total(trio, count + 1)
    assert sorted(len(origin.requests) for origin in trio) == [0, 0, 6]
    for origin in trio:
        origin.release()


@pytest.mark.parametrize("strategy", ["random-two", "least-latency", "least-connections", "round-robin"])
def test_every_server_gets_something(maitred, trio, strategy):
    proxy = maitred(proxying(*trio, options=f"balance = {strategy}"))
    for origin in trio:
        origin.hold()
    peers = []
    for count in range(30):
        peers.append(proxy.client().send(request("GET", f"/{count}")))
        wait_total(trio, count + 1)
    for origin in trio:
        origin.release()
    assert all(len(origin.requests) >= 3 for origin in trio), [len(origin.requests) for origin in trio]
    for peer in peers:
        assert peer.read_response().status == 200


def test_a_backup_gets_nothing_while_another_server_is_up(maitred, trio):
    proxy = maitred(proxying(trio[0], (trio[1], "backup = yes")))
    assert set(visits(proxy, plain(20))) == {"a"}
    assert trio[1].connections == []


def test_a_backup_stands_in_when_the_others_are_down_and_steps_back(maitred, trio):
    proxy = maitred(proxying(trio[0], (trio[1], "backup = yes"),
                             options="health { interval = 50ms  fast-interval = 20ms }  ejection { failures = 0 }"))
    trio[0].stop()
    until_only(proxy, {"b"})
    assert set(visits(proxy, plain(20))) == {"b"}
    trio[0].restart()
    until_only(proxy, {"a"})


def until_only(proxy, names, seconds=DEADLINE):
    """Asks until ten requests in a row were answered by exactly these servers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        seen = [proxy.get() for _ in range(10)]
        if all(response.status == 200 for response in seen) and {Told(response).server for response in seen} == names:
            return
    raise AssertionError(f"requests do not go to {names} alone: {seen}")


def test_a_draining_server_gets_no_new_requests(maitred, trio):
    proxy = maitred(proxying(trio[0], (trio[1], "drain = yes"), trio[2]))
    assert set(visits(proxy, plain(20))) == {"a", "c"}
    assert trio[1].connections == []


def test_all_servers_draining_is_no_server(maitred, trio):
    proxy = maitred(proxying((trio[0], "drain = yes")))
    assert proxy.get().status == 503


def test_the_same_server_in_two_pools_counts_in_each(maitred, trio):
    proxy = maitred(top() + listener('route "/" { pool = one }  route "/two" { pool = two }') +
                    pool("one", *trio) + pool("two", *reversed(trio)))
    assert len(set(visits(proxy, plain(3)))) == 3
    assert len(set(visits(proxy, [request("GET", "/two")] * 3))) == 3
