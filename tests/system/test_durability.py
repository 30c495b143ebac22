"""What is confirmed is not lost: crashes at any moment, damage, a full disk. KILL_ROUNDS: how many crashes, 5 by default."""
import os
import random
import threading
import time
from pathlib import Path

import pytest

from kit import process
from kit.queue import Worker, accepted, post, pushed, queue, stored, wait_state
from kit.wire import PeerGone, TimedOut, request

ORDERS = 'route "/orders" { queue = orders }'
ROUNDS = int(os.environ.get("KILL_ROUNDS", "5"))


@pytest.fixture
def worker(stage):
    return stage.add(Worker())


def state_folder(proxy):
    return proxy.directory / "state"


class Publisher(threading.Thread):
    """Publishes numbers of its own until it is told to end; knows which of them were confirmed."""

    def __init__(self, proxy, name):
        super().__init__(daemon=True)
        self.proxy, self.prefix, self.confirmed, self.ending = proxy, name, [], False

    def run(self):
        number = 0
        peer = None
        while not self.ending:
            body = b"%s-%d" % (self.prefix, number)
            number += 1
            try:
                peer = peer or process.connect(self.proxy.address)
                peer.send(request("POST", "/orders", f"Content-Length: {len(body)}", body=body))
                if peer.read_response().status == 202:
                    self.confirmed.append(body)
            except (OSError, PeerGone, TimedOut):
                if peer:
                    peer.close()
                peer = None


def test_no_confirmed_message_is_lost_whenever_it_is_killed(maitred, worker):
    proxy = maitred(stored(ORDERS, pushed("orders", worker, "concurrency = 16", "retry { first = 10ms  most = 50ms }"),
                           threads=2))
    chance = random.Random(7)
    publishers = [Publisher(proxy, b"p%d" % number) for number in range(8)]
    for publisher in publishers:
        publisher.start()
    for _ in range(ROUNDS):
        seen = len(worker.requests)
        worker.wait_requests(seen + chance.randrange(1, 200), seconds=30)
        if chance.random() < 0.3:
            worker.stop()
            proxy.kill()
            worker.restart()
        else:
            proxy.kill()
        proxy.start_again()
    for publisher in publishers:
        publisher.ending = True
    for publisher in publishers:
        publisher.join()
    confirmed = {body for publisher in publishers for body in publisher.confirmed}
    assert confirmed
    worker.wait(lambda: confirmed <= set(worker.bodies), "every confirmed message", seconds=60)
    handled = len(worker.bodies)
    twice = handled - len(set(worker.bodies))
    assert twice <= ROUNDS * 16 * 2, f"{twice} of {handled} were handled more than once"


def test_what_waits_is_there_after_a_crash_in_order(maitred, worker):
    worker.hold()
    proxy = maitred(stored(ORDERS, queue("orders")))
    bodies = [b"%d" % number for number in range(300)]
    for body in bodies:
        accepted(post(proxy, body=body))
    proxy.kill()
    proxy.configure(stored(ORDERS, pushed("orders", worker, "concurrency = 1")))
    proxy.start_again()
    worker.release()
    worker.wait_requests(300)
    assert worker.bodies == bodies


def test_a_second_process_on_the_folder_is_refused(maitred, stage):
    proxy = maitred(stored(ORDERS, queue("orders")))
    other = stage.directory / "other.conf"
    other.write_text(f'state = "{state_folder(proxy)}"\nhttp "127.0.0.1:{process.free_port()}" {{ {ORDERS} }}\n'
                     "queue orders {}\n")
    result = process.run("run", other)
    assert result.returncode == 1
    assert f"state folder {state_folder(proxy)}: another process has it open" in result.stderr


def newest_segment(proxy):
    """The file that was written last, and how far it is used."""
    path = max((each for each in state_folder(proxy).glob("segment-*") if each.read_bytes()[:7] == b"MAITRED"),
               key=lambda each: each.stat().st_mtime_ns)
    data = path.read_bytes()
    return path, len(data.rstrip(b"\0"))


def test_a_torn_tail_is_cut_off_and_said(maitred):
    proxy = maitred(stored(ORDERS, queue("orders")))
    location = accepted(post(proxy, body=b"whole"))
    accepted(post(proxy, body=b"x" * 5000))
    proxy.kill()
    path, used = newest_segment(proxy)
    with path.open("r+b") as file:      # the last write never came whole
        file.seek(used - 2000)
        file.write(bytes(4000))
    proxy.start_again()
    proxy.wait_log(r"were not written whole; they were cut off")
    wait_state(proxy, location, "queued")
    accepted(post(proxy))


def test_damage_stops_the_start_with_its_place(maitred):
    proxy = maitred(stored(ORDERS, queue("orders")))
    for _ in range(20):
        accepted(post(proxy, body=b"x" * 500))
    proxy.kill()
    path, used = newest_segment(proxy)
    with path.open("r+b") as file:
        file.seek(used // 2)
        byte = file.read(1)
        file.seek(used // 2)
        file.write(bytes([byte[0] ^ 4]))
    result = process.run("run", proxy.config)
    assert result.returncode == 1
    assert f"({path.name}), offset " in result.stderr and "maitred log salvage" in result.stderr
    with path.open("r+b") as file:
        file.seek(used // 2)
        file.write(byte)
    proxy.start_again()


def test_a_full_log_refuses_and_goes_on_delivering(maitred, worker):
    worker.hold()
    proxy = maitred(stored(ORDERS, pushed("orders", worker, "concurrency = 32"),
                           general="state-max = 16m"))
    location, number = None, 0
    while True:
        response = post(proxy, body=b"x" * 500_000)
        if response.status != 202:
            break
        location = accepted(response)
        number += 1
        assert number < 64
    assert response.status == 503 and response.get("Retry-After") == "1"
    assert sum(each.stat().st_size for each in state_folder(proxy).glob("segment-*")) <= 16 << 20
    worker.release()
    wait_state(proxy, location, "done", seconds=20)
    end = time.monotonic() + 10
    while post(proxy, body=b"x" * 500_000).status != 202:
        assert time.monotonic() < end, "there is no room again"


@pytest.mark.parametrize("folder, why", [("/proc/nowhere", "No such file"), ("{dir}/a/b/c", "No such file"),
                                         ("{dir}/maitred.conf", "Not a directory")])
def test_a_folder_that_cannot_be_used_is_told(tmp_path, folder, why):
    config = tmp_path / "maitred.conf"
    folder = folder.replace("{dir}", str(tmp_path))
    config.write_text(f'state = "{folder}"\nhttp "127.0.0.1:{process.free_port()}" {{ {ORDERS} }}\nqueue orders {{}}\n')
    result = process.run("run", config)
    assert result.returncode == 1 and f"state folder {folder}: " in result.stderr and why in result.stderr


@pytest.mark.skipif(process.is_sanitized() or "DEEP" not in os.environ, reason="set DEEP=1: a million messages of 1 KiB")
def test_a_million_waiting_messages_are_served_within_two_seconds(maitred, stage):
    proxy = maitred(stored(ORDERS, queue("orders"), threads=2).replace("state-segment = 1m", ""))
    load = Path(process.ROOT / "build/release/bench/load")
    process.subprocess.run([load, "--port", str(proxy.port), "--path", "/orders", "--post", "1024", "--connections", "128",
                            "--count", "1000000"], input=b"go\n", check=True, capture_output=True)
    proxy.kill()
    start = time.monotonic()
    proxy.start_again()
    accepted(post(proxy))
    assert time.monotonic() - start < 2
