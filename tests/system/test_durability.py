"""What is confirmed is not lost: crashes at any moment, damage, a full disk. KILL_ROUNDS: how many crashes, 5 by default.
RESTART_MESSAGES: how many wait while maitred restarts, 20,000 by default."""
import os
import random
import time

import pytest

from kit import process
from kit.admin import admin_of
from kit.config import admin, pool
from kit.ledger import Crash, Ledger, LedgerWorker, Publisher, is_empty
from kit.queue import Worker, accepted, fill, post, pushed, queue, status, stored, wait_state
from kit.wire import request

ORDERS = 'route "/orders" { queue = orders }'
ROUNDS = int(os.environ.get("KILL_ROUNDS", "5"))
WAITING = int(os.environ.get("RESTART_MESSAGES", "20000"))


@pytest.fixture
def worker(stage):
    return stage.add(Worker())


def state_folder(proxy):
    return proxy.directory / "state"


def moment(chance):
    """Seconds from the start of maitred to its end. Of eight lives two end about when it has read its log, which may be before
    it listens; one may be so long that an acknowledgement which is never written would show."""
    return chance.uniform(0, chance.choice([0.06] * 2 + [0.8] * 5 + [5]))


def kill_at_random_moments(proxy, workers, ledger, chance):
    """So often as KILL_ROUNDS says. Workers crash and come back in between. The sleep is the moment."""
    for _ in range(ROUNDS):
        victim = chance.choice(workers)
        if victim.stopped.is_set():
            victim.restart()
        elif chance.random() < 0.5:
            victim.crash()
        time.sleep(moment(chance))
        crash = Crash(None, time.monotonic())
        proxy.kill()
        for worker in workers:
            worker.settle()
        crash.end = time.monotonic()
        ledger.crashes.append(crash)
        proxy.begin_again()


def check_none(what, found):
    if found:
        pytest.fail(f"{len(found)} were {what}: {list(found)[:10]}")


def oldest_forgotten(repeats):
    """Seconds that it had been there when the crash came that explains it best."""
    return max((min(crash.begin - first.end for crash in crashes) for _, first, _, crashes in repeats if first.end and crashes),
               default=0)


@pytest.mark.parametrize("segment", ["1m", "16m"])
def test_no_confirmed_message_is_lost_whenever_it_is_killed(maitred, stage, segment):
    """And whatever was accepted is handled; twice only where a crash explains it. In small segments there is a checkpoint about
    twice a second; in large ones a life of maitred passes without, and all of it has to be in the log."""
    chance, ledger, begun = random.Random(), Ledger(), time.monotonic()
    workers = [stage.add(LedgerWorker(ledger, lambda: chance.uniform(0, 0.01), f"worker {number}")) for number in range(3)]
    proxy = maitred(stored(ORDERS, pool("workers", *workers, options="connect-timeout = 1s"),
                           queue("orders", "push { pool = workers  concurrency = 16 }", "retry { first = 10ms  most = 50ms }"),
                           general=admin(), threads=2).replace("state-segment = 1m", f"state-segment = {segment}"))
    publishers = [Publisher(ledger, proxy, "/orders", b"p%d" % number) for number in range(8)]
    for publisher in publishers:
        publisher.start()
    kill_at_random_moments(proxy, workers, ledger, chance)
    proxy.wait_listens()
    for publisher in publishers:
        publisher.end()
    for worker in workers:
        if worker.stopped.is_set():
            worker.restart()
    admin_of(proxy).wait(is_empty, "every message leaves the queue", seconds=60)

    published = {name for publisher in publishers for name in publisher.published}
    repeats = list(ledger.repeats())
    print(f"{ROUNDS} kills and {len(ledger.crashes) - ROUNDS} crashes of workers in {time.monotonic() - begun:.0f} s: "
          f"{len(published)} published, {len(ledger.confirmed)} confirmed, {len(ledger.handled)} handled, "
          f"{len(repeats)} repeats, {sum(not each[2].redelivered for each in repeats)} of them not marked; "
          f"the oldest answer that was forgotten came {1000 * oldest_forgotten(repeats):.1f} ms before the crash")
    assert ledger.confirmed and not any(publisher.errors for publisher in publishers)
    check_none("confirmed, and lost", ledger.confirmed - ledger.handled.keys())
    check_none("handled, and never published", ledger.handled.keys() - published)
    check_none("handled again, and no crash explains it", [each for each in repeats if not each[3]])
    check_none("handled again, and not marked as redelivered", [each for each in repeats if not each[2].redelivered])


def test_what_was_under_way_when_it_was_killed_comes_again_and_says_so(maitred, worker):
    """Also when nothing but its delivery has happened since it was published."""
    proxy = maitred(stored(ORDERS, pushed("orders", worker), general=admin()))
    wait_state(proxy, accepted(post(proxy, body=b"before")), "done")
    admin_of(proxy).wait(lambda state: state["log"]["bytes"] >= (state["log"]["segments"] + 2) << 20, "files are made ahead")
    worker.hold()
    accepted(post(proxy, body=b"held"))
    worker.wait_requests(2)
    proxy.kill()
    worker.release()
    proxy.start_again()
    worker.wait_requests(3)
    assert worker.bodies == [b"before", b"held", b"held"]
    assert worker.requests[2].get("Maitred-Redelivered") == "true"


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


@pytest.mark.parametrize("keeps", ["a worker", "a dead letter"])
def test_one_message_that_stays_keeps_no_more_than_two_segments(maitred, stage, worker, keeps):
    """Beside the one that is written to, while 40 segments' worth passes through another queue of the same log."""
    slow = stage.add(Worker("slow"))
    slow.say = lambda _: status(400)
    if keeps == "a worker":
        slow.hold()
    proxy = maitred(stored(ORDERS + 'route "/slow" { queue = slow }', pushed("orders", worker),
                           pushed("slow", slow, "dead-on = 400", "dead-letter = dead"), queue("dead"), general=admin()))
    desk = admin_of(proxy)
    kept = accepted(post(proxy, "/slow", b"kept"))
    wait_state(proxy, kept, "in flight" if keeps == "a worker" else "dead")
    peer = proxy.client()
    for part in range(25):
        for _ in range(20):
            accepted(peer.ask(request("POST", "/orders", "Content-Length: 100000", body=b"x" * 100_000)))
        # A checkpoint that is being written on a busy machine lets go of what it frees a moment later.
        desk.wait(lambda state: queue_of(state, "orders")["totals"]["acked"] == 20 * (part + 1) and
                  state["log"]["segments"] <= 3, "what passes through is gone, and its segments are")
    assert desk.metrics().value("maitred_log_appended_bytes_total") >= 40 << 20
    proxy.kill()
    proxy.start_again()
    slow.release()
    if keeps == "a worker":
        slow.wait_bodies(b"kept")
    desk.wait(lambda state: queue_of(state, "dead")["ready"] == 1, "it is there still")
    assert slow.bodies == [b"kept"] * (2 if keeps == "a worker" else 1)


def queue_of(state, name):
    return next(each for each in state["queues"] if each["name"] == name)


def restart_seconds(proxy):
    """From the start of the process to the answer of the first request that it has stored."""
    begun = time.monotonic()
    proxy.start_again()
    accepted(post(proxy))
    return time.monotonic() - begun


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_all_that_waits_is_there_after_a_restart(maitred, worker, how):
    """RESTART_MESSAGES: how many of 1 KiB. How long the restart takes is printed, for people: a million has to be under two
    seconds, which no machine that runs other things beside this can promise."""
    text = stored(ORDERS, "{queue}", general=admin(), threads=2)
    if WAITING >= 100_000:
        text = text.replace("state-segment = 1m", "")
    proxy = maitred(text.replace("{queue}", queue("orders")))
    desk = admin_of(proxy)
    before = time.monotonic()
    streams = fill(proxy, "/orders", WAITING)
    filling = time.monotonic() - before
    told = queue_of(desk.state(), "orders")
    if how == "killed":
        proxy.kill()
    else:
        proxy.terminate()
        assert proxy.wait(60) == 0
    seconds = restart_seconds(proxy)
    print(f"{WAITING} messages, stored in {filling:.1f} s; {how}; "
          f"the first request was answered {seconds:.3f} s after the start")
    again = queue_of(desk.state(), "orders")
    assert told["ready"] == WAITING and (again["ready"], again["bytes"] > told["bytes"]) == (WAITING + 1, True)
    proxy.reload(text.replace("{queue}", pushed("orders", worker, "concurrency = 1")))
    worker.wait_requests(1000, seconds=30)
    seen = dict.fromkeys(range(streams), 0)
    for body in worker.bodies[:1000]:
        stream, number = map(int, body.split(b" ", 2)[:2])
        assert (number, len(body)) == (seen[stream], 1024), "out of order"
        seen[stream] += 1
