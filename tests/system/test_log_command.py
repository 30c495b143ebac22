"""`maitred log check` and `maitred log salvage`: a log is looked at while no maitred has it, and copied as far as it can be read."""
import json

import pytest

from kit import process
from kit.queue import Worker, accepted, post, pushed, queue, state_of, stored

ORDERS = 'route "/orders" { queue = orders }'
TWO = ORDERS + ' route "/signup" { topic = all }'
TOPIC = "topic all { queues = { orders, billing } }"


@pytest.fixture
def worker(stage):
    return stage.add(Worker())


def folder(proxy, name="state"):
    return proxy.directory / name


def check(path):
    return process.run("log", "check", path)


def segments(proxy):
    """Files that are in use, by the number of their segment: name -> bytes."""
    used = {}
    for path in folder(proxy).glob("segment-*"):
        data = path.read_bytes()
        if data[:7] == b"MAITRED":
            used[path] = data
    return dict(sorted(used.items(), key=lambda item: int.from_bytes(item[1][24:32], "little")))


def turn_a_bit(path, offset):
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 4]))


def turn_a_bit_of(proxy, body):
    """Of the record of the message with that body, in the newest segment that has it. Returns file and offset."""
    path, data = [(path, data) for path, data in segments(proxy).items() if body in data][-1]
    turn_a_bit(path, data.index(body))
    return path, data.index(body)


def test_check_tells_what_waits_and_that_all_is_well(maitred):
    proxy = maitred(stored(TWO, queue("orders"), queue("billing"), TOPIC))
    for _ in range(3):
        accepted(post(proxy))
    accepted(post(proxy, "/signup"))
    proxy.kill()
    result = check(folder(proxy))
    assert result.returncode == 0, result
    assert "queue orders: 4 messages wait\n" in result.stdout and "queue billing: 1 messages wait\n" in result.stdout
    assert "a start works\n" in result.stdout and "damage" not in result.stdout
    proxy.start_again()


def test_check_changes_nothing(maitred):
    proxy = maitred(stored(ORDERS, queue("orders")))
    accepted(post(proxy, body=b"x" * 5000))
    proxy.kill()
    path = list(segments(proxy))[-1]
    with path.open("r+b") as file:      # a torn tail, which a start would cut off
        file.seek(len(path.read_bytes().rstrip(b"\0")) - 2000)
        file.write(bytes(4000))
    before = {each.name: each.read_bytes() for each in folder(proxy).iterdir()}
    result = check(folder(proxy))
    assert result.returncode == 0 and "a start works, and cuts off" in result.stdout, result
    assert {each.name: each.read_bytes() for each in folder(proxy).iterdir()} == before
    proxy.start_again()


def test_a_log_in_use_is_left_alone(maitred):
    proxy = maitred(stored(ORDERS, queue("orders")))
    accepted(post(proxy))   # it listens before it has its log open
    for arguments in (("check", folder(proxy)), ("salvage", folder(proxy), folder(proxy, "new"))):
        result = process.run("log", *arguments)
        assert result.returncode == 1 and "a maitred has it open; stop it first" in result.stderr
    assert not folder(proxy, "new").exists()


def test_damage_is_told_with_file_offset_and_message(maitred):
    proxy = maitred(stored(ORDERS, queue("orders")))
    for number in range(9):
        accepted(post(proxy, body=b"body-%d" % number * 50))
    proxy.stop()        # so that a checkpoint knows what waits
    path, offset = turn_a_bit_of(proxy, b"body-4")
    result = check(folder(proxy))
    assert result.returncode == 1
    assert f"damage: {path.name} (segment 0): " in result.stdout
    told = int(result.stdout.split("from offset ")[1].split()[0])
    assert told <= offset < told + 1000
    assert "queue orders: 9 messages wait, 1 of them cannot be read\n" in result.stdout
    assert "lost: message 5 of queue orders\n" in result.stdout


def test_what_can_be_read_is_salvaged_and_goes_on(maitred, worker):
    worker.hold()
    proxy = maitred(stored(TWO, queue("orders"), queue("billing"), TOPIC))
    bodies = [b"<%d>" % number * 100 for number in range(40)]
    locations = [accepted(post(proxy, "/signup" if number % 8 == 0 else "/orders", body=body))
                 for number, body in enumerate(bodies)]
    proxy.kill()
    path, _ = turn_a_bit_of(proxy, bodies[17])
    assert process.run("run", proxy.config).returncode == 1, "it starts: this test shows nothing"
    assert "a start fails: the log is damaged" in check(folder(proxy)).stdout
    before = {each.name: each.read_bytes() for each in folder(proxy).iterdir()}

    result = process.run("log", "salvage", folder(proxy), folder(proxy, "new"))
    assert result.returncode == 0 and f"damage: {path.name}" in result.stdout, result
    assert "44 messages are in " in result.stdout
    assert {each.name: each.read_bytes() for each in folder(proxy).iterdir()} == before
    assert check(folder(proxy, "new")).returncode == 0

    proxy.configure(stored(TWO, pushed("orders", worker, "concurrency = 1"), queue("billing"), TOPIC)
                    .replace("/state\"", "/new\""))
    proxy.start_again()
    assert state_of(proxy, locations[3])["queues"][0]["state"] in ("queued", "in flight"), "it has another name"
    worker.release()
    worker.wait_requests(39)
    assert worker.bodies == bodies[:17] + bodies[18:]


def test_a_lost_header_and_a_lost_checkpoint_lose_no_message(maitred, worker):
    proxy = maitred(stored(ORDERS, queue("orders")))
    bodies = [b"%d-" % number + b"x" * 100_000 for number in range(30)]     # three segments of 1 MiB
    for body in bodies:
        accepted(post(proxy, body=body))
    proxy.stop()
    used = list(segments(proxy))
    assert len(used) > 2
    turn_a_bit(used[1], 100)
    for checkpoint in folder(proxy).glob("checkpoint-*"):
        turn_a_bit(checkpoint, 70)
    assert check(folder(proxy)).returncode == 1
    result = process.run("log", "salvage", folder(proxy), folder(proxy, "new"))
    assert result.returncode == 0 and f"{used[1].name} (segment 1): its header does not verify" in result.stdout
    proxy.configure(stored(ORDERS, pushed("orders", worker, "concurrency = 1")).replace("/state\"", "/new\""))
    proxy.start_again()
    worker.wait_requests(30)
    assert worker.bodies == bodies


def test_a_queue_whose_declaration_is_lost_gets_a_name(maitred):
    proxy = maitred(stored(ORDERS, queue("orders")))
    accepted(post(proxy, body=b"still there"))
    proxy.kill()
    path, data = list(segments(proxy).items())[0]
    turn_a_bit(path, data.index(b"orders"))
    result = process.run("log", "salvage", folder(proxy), folder(proxy, "new"))
    assert result.returncode == 0 and "messages are in salvaged-1\n" in result.stdout
    assert "queue salvaged-1: 1 messages wait\n" in check(folder(proxy, "new")).stdout
    proxy.configure(stored(ORDERS, queue("orders")).replace("/state\"", "/new\""))
    proxy.start_again()


@pytest.mark.parametrize("arguments", [(), ("check",), ("check", "a", "b"), ("salvage", "a"), ("mend", "a")])
def test_misuse_is_told(arguments):
    result = process.run("log", *arguments)
    assert result.returncode == 2 and "it takes check FOLDER, or salvage FOLDER NEW-FOLDER" in result.stderr


def test_folders_that_cannot_be_used_are_told(maitred, tmp_path):
    proxy = maitred(stored(ORDERS, queue("orders")))
    accepted(post(proxy))
    proxy.kill()
    assert "nowhere: No such file or directory" in check(tmp_path / "nowhere").stderr
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "empty").mkdir()
    result = check(tmp_path / "empty")
    assert result.returncode == 1 and "there is neither a segment nor a checkpoint that can be read in it" in result.stderr
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text(json.dumps({}))
    result = process.run("log", "salvage", folder(proxy), tmp_path / "full")
    assert result.returncode == 1 and "it is not empty; name a folder that is new" in result.stderr
    proxy.start_again()
