"""Servers given by name: the name's addresses are looked up again and again, and the pool follows them."""
import itertools
import subprocess
import time

import pytest

from kit.origin import Told
from kit.wire import DEADLINE, request

NAME = "backend.test"


def may_unshare():
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not may_unshare(), reason="needs a mount namespace of its own, which takes root")


class Hosts:
    """A hosts file that one process sees in place of the machine's."""

    def __init__(self, directory):
        self.file = directory / "hosts"
        script = directory / "with-hosts"
        script.write_text(f'#!/bin/sh\nmount --bind "{self.file}" /etc/hosts && exec "$@"\n')
        script.chmod(0o755)
        self.wrapper = ["unshare", "--mount", str(script)]

    def say(self, *addresses):
        self.file.write_text("127.0.0.1 localhost\n" + "".join(f"{a} {NAME}\n" for a in addresses))


@pytest.fixture
def hosts(tmp_path):
    return Hosts(tmp_path)


def pair(echo):
    """Two servers on the same port of two addresses."""
    first = echo("first", address=("127.0.0.1", 0))
    second = echo("second", address=("127.0.0.2", first.address[1]))
    return first, second


def config(port):
    return f'''threads = 1
http "127.0.0.1:{{port}}" {{ route "/" {{ pool = web }} }}
pool web {{ resolve-interval = 100ms  server "{NAME}:{port}" {{}} }}
'''


def ask_until(proxy, wanted):
    """Asks until the answers of the last few requests come from just the wanted servers."""
    end = time.monotonic() + DEADLINE
    for number in itertools.count():
        seen = {Told(proxy.get(f"/{number}")).server for _ in range(4)}
        if seen == wanted:
            return
        assert time.monotonic() < end, f"still answered by {seen}, not {wanted}"


def test_a_name_that_moves_is_followed_and_its_old_server_finishes(maitred, echo, hosts):
    first, second = pair(echo)
    hosts.say("127.0.0.1")
    proxy = maitred(config(first.address[1]), wrapper=hosts.wrapper)
    ask_until(proxy, {"first"})
    first.hold()
    waiting = proxy.client().send(request("GET", "/held"))
    first.wait(lambda: any(r.target == "/held" for r in first.requests), "the held request", DEADLINE)
    hosts.say("127.0.0.2")
    proxy.wait_log("is at 127.0.0.2")
    ask_until(proxy, {"second"})
    first.release()
    assert Told(waiting.read_response()).server == "first"


def test_every_address_of_a_name_is_a_server(maitred, echo, hosts):
    first, _ = pair(echo)
    hosts.say("127.0.0.1", "127.0.0.2")
    proxy = maitred(config(first.address[1]), wrapper=hosts.wrapper)
    ask_until(proxy, {"first", "second"})
    hosts.say("127.0.0.2")
    ask_until(proxy, {"second"})


def test_a_name_that_is_unknown_at_first_is_served_once_it_is_known(maitred, echo, hosts):
    first, _ = pair(echo)
    hosts.say()
    proxy = maitred(config(first.address[1]), wrapper=hosts.wrapper)
    assert proxy.get().status == 503
    proxy.wait_log("cannot be resolved")
    hosts.say("127.0.0.1")
    end = time.monotonic() + DEADLINE
    while proxy.get().status != 200:
        assert time.monotonic() < end


def test_a_name_that_is_forgotten_keeps_its_servers(maitred, echo, hosts):
    first, _ = pair(echo)
    hosts.say("127.0.0.1")
    proxy = maitred(config(first.address[1]), wrapper=hosts.wrapper)
    ask_until(proxy, {"first"})
    hosts.say()
    proxy.wait_log("cannot be resolved")
    assert Told(proxy.get()).server == "first"
