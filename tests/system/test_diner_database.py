"""The parts of examples/diner: what its kitchens and workers write into their database, with SQLite and with PostgreSQL, while
processes end, are killed, and the database goes away."""
import contextlib
import json
import os
import signal
import subprocess
import time

import pika
import pytest

from kit import postgresql
from kit.books import Books
from kit.ledger import is_empty
from kit.queue import fill
from kit.staff import EXAMPLE, PYTHON, Staff, crew
from kit.wire import TimedOut, connect, request

needs_postgresql = pytest.mark.skipif(bool(postgresql.why_not()), reason=postgresql.why_not())
RATE, BURST, COOKS = 500, 50, 16    # of the push to the kitchens, in maitred.conf
SLOW_MS = 1500                      # a thumbnail during which there is time to do something to its worker


@pytest.fixture(scope="module")
def cluster():
    server = postgresql.PostgreSQL()
    yield server
    server.stop()


class House:
    """The diner, open, and its books."""

    def __init__(self, folder, url=None, environment=None):
        self.staff = Staff(folder, {**({"DATABASE_URL": url} if url else {}), **(environment or {})})
        self.books = Books(self.staff.logs, url)

    def order(self, target, text, *fields):
        """The id that its 202 tells."""
        stored = self.staff.ask("POST", target, *fields, body=text.encode())
        assert stored.status == 202, stored
        return json.loads(stored.body)["id"]

    def told(self, target):
        """Status, and what any of the web servers says."""
        response = self.staff.ask("GET", target)
        return response.status, json.loads(response.body)

    def wait(self, condition, what, seconds=30):
        end = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > end:
                raise TimedOut(f"{what} did not happen; handlings: {self.books.handlings()}")
            time.sleep(0.02)
        return found

    def wait_handled(self, message_id, seconds=30):
        """By queue, once all queues are empty: an acknowledgement comes after the row."""
        self.wait(lambda: self.books.handled(f"message_id = '{message_id}'"), f"{message_id} is handled", seconds)
        self.staff.admin.wait(is_empty, "all is handled", seconds)
        return {each.queue: each for each in self.books.handled(f"message_id = '{message_id}'")}


@pytest.fixture
def house(request, tmp_path):
    """house(NAME=VALUE...): opened, with these in its environment. Closes with exit code 0 of everything."""
    with contextlib.ExitStack() as stack:
        def open_house(url=None, **environment):
            house = House(tmp_path, url, environment)
            stack.callback(check_closed, house.staff)
            house.staff.open()
            return house
        yield open_house


def check_closed(staff):
    codes = staff.close()
    for log in sorted(staff.logs.glob("*.log")):
        print(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}")
    assert not any(codes.values()), codes


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=needs_postgresql)])
def url(request):
    """DATABASE_URL, or None."""
    return None if request.param == "sqlite" else request.getfixturevalue("cluster").new_database()


def test_any_web_server_knows_what_became_of_an_order(house, url):
    house = house(url)
    message_id = house.order("/orders", "2=pies")
    assert [house.wait_handled(message_id)["orders"].result] == ["cooked 2=pies"]
    told = [house.staff.ask("GET", f"/api/orders/{message_id}") for _ in range(6)]
    assert {each.get("X-Served-By") for each in told} == {part.name for part in house.staff.of_kind("web")}
    for each in told:
        row, = json.loads(each.body)["handled"]
        assert (row["queue"], row["message_id"], row["body"], row["result"], row["times"]) == \
            ("orders", message_id, "2=pies", "cooked 2=pies", 1)
    assert house.told("/api/orders/nobody")[0] == 404


def test_each_handling_is_written_down(house):
    house, began = house(), time.time()
    message_id = house.order("/orders", "2=pies")
    house.wait_handled(message_id)
    handling, = house.books.handlings()
    kitchens = {part.name: part.pid for part in house.staff.of_kind("kitchen")}
    assert (handling.queue, handling.message_id, handling.attempt, handling.redelivered) == ("orders", message_id, 1, 0)
    assert kitchens[handling.worker] == handling.pid
    assert began <= handling.received <= handling.stored <= time.time()


def test_a_sign_up_reaches_three_readers(house, url):
    house = house(url)
    message_id = house.order("/signup", "ann")
    assert {name: row.result for name, row in house.wait_handled(message_id).items()} == {
        "billing": "a bill for ann", "analytics": "one more with A", "thumbnails": "a thumbnail of ann"}
    status, told = house.told(f"/api/signups/{message_id}")
    assert status == 200 and [row["queue"] for row in told["handled"]] == ["billing", "analytics", "thumbnails"]


def test_what_comes_again_is_counted_and_has_its_first_result(house, url):
    """By its name, whoever publishes it again, at whichever kitchen it arrives."""
    house = house(url)
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", house.staff.amqp_port))
    channel = connection.channel()
    channel.confirm_delivery()
    for text in ("first", "second", "third"):
        channel.basic_publish("", "orders", text, pika.BasicProperties(message_id="seven", delivery_mode=2))
        house.staff.admin.wait(is_empty, "it is handled")
    connection.close()
    row, = house.books.handled()
    assert (row.message_id, row.body, row.result, row.times) == ("seven", "first", "cooked first", 3)
    assert len(house.books.handlings()) == 3 and house.books.miscounted() == []
    told = subprocess.run([PYTHON, EXAMPLE / "database.py"], cwd=house.staff.folder, env=house.staff.environment,
                          capture_output=True, text=True)
    assert (told.returncode, told.stdout.split()) == (0, "orders 1 messages, 2 handled again".split()), told.stderr


@pytest.mark.parametrize("who", ["maitred's", "by hand"])
def test_a_worker_that_is_to_end_finishes_what_it_has(house, who):
    house = house(THUMBNAIL_MS=str(SLOW_MS))
    if who == "by hand":
        house.staff.set("thumbnailer", 0)
        worker = house.staff.hire("thumbnailer.py", "thumbnails")
    ids = [house.order("/photos", f"{number}.jpg") for number in range(4)]
    house.staff.admin.wait(lambda state: in_flight(state, "thumbnails") == 4, "it has all four")
    later = house.order("/photos", "later.jpg")
    if who == "by hand":
        assert worker.end() == 0
    else:
        house.staff.set("thumbnailer", 0)
    assert {row.message_id for row in house.books.handled()} == {*ids}
    house.staff.set("thumbnailer", 1)
    house.wait_handled(later)
    assert [each.redelivered for each in house.books.handlings()] == [0] * 5
    assert crew(house.staff.admin.state(), "thumbnailer")["kills"] == 0


def in_flight(state, name):
    return next(each["in_flight"] for each in state["queues"] if each["name"] == name)


def test_what_a_killed_worker_had_another_one_does(house, url):
    house = house(url, THUMBNAIL_MS=str(SLOW_MS))
    message_id = house.order("/photos", "cat.jpg")
    house.staff.admin.wait(lambda state: in_flight(state, "thumbnails") == 1, "a worker has it")
    victim = next(process["pid"] for process in crew(house.staff.admin.state(), "thumbnailer")["processes"]
                  if process["in_flight"])
    os.kill(victim, signal.SIGKILL)
    assert house.wait_handled(message_id)["thumbnails"].result == "a thumbnail of cat.jpg"
    handling, = house.books.handlings()
    assert handling.redelivered == 1 and handling.pid != victim
    assert crew(house.staff.admin.state(), "thumbnailer")["crashes"] == 1


def test_what_a_killed_kitchen_had_the_other_one_does(house, url):
    house = house(url)
    kitchens = {f"127.0.0.1:{part.port}": part for part in house.staff.of_kind("kitchen")}
    set_slow(house.staff.servers[-1], SLOW_MS)
    message_id = house.order("/orders", "2=pies")
    house.staff.admin.wait(busy, "a kitchen has it")
    victim = kitchens.pop(*busy(house.staff.admin.state()))
    victim.kill()
    other, = kitchens.values()
    set_slow(other, 0)
    assert house.wait_handled(message_id)["orders"].times == 1
    handling, = house.books.handlings()
    assert (handling.attempt, handling.redelivered, handling.pid) == (2, 1, other.pid)


def busy(state):
    """The addresses of the kitchens that work on something."""
    return [server["name"] for pool in state["pools"] if pool["name"] == "kitchen" for server in pool["servers"]
            if server["active"]]


def set_slow(part, delay_ms):
    """By the knob that a kitchen has for all of them."""
    with contextlib.closing(connect(("127.0.0.1", part.port))) as peer:
        assert json.loads(peer.ask(request("POST", f"/slow?ms={delay_ms}")).body)["ms"] == delay_ms


@needs_postgresql
def test_while_the_database_is_away_orders_are_taken_and_cost_no_attempt(house, cluster):
    house = house(cluster.new_database())
    warm = house.order("/orders", "warm")
    house.wait_handled(warm)
    cluster.kill()
    try:
        message_id = house.order("/orders", "2=pies")
        assert house.told(f"/api/orders/{warm}")[0] == 503
        house.wait(lambda: f"orders {message_id}:" in "".join(part.told() for part in house.staff.of_kind("kitchen")),
                   "a kitchen tries it")
        assert house.staff.ask("GET", "/").status == 200
    finally:
        cluster.start_again()
    house.wait_handled(message_id)
    handling, = house.books.handlings(f"message_id = '{message_id}'")
    assert handling.attempt == 1


def test_a_flood_is_stored_at_once_and_cooked_at_the_kitchens_pace(house, url):
    house, count = house(url), 2000
    began = time.time()
    fill(house.staff, "/orders", count, size=32, streams=8)
    stored = time.time() - began
    house.staff.admin.wait(is_empty, "all is cooked", seconds=60)
    times = sorted(handling.stored for handling in house.books.handlings())
    assert len(times) == count and house.books.miscounted() == []
    assert (count - BURST - COOKS) / RATE <= times[-1] - times[0]
    assert stored < times[-1] - began, "it was cooked before it was stored"


def test_photos_that_pile_up_call_in_more_workers(house):
    house = house(THUMBNAIL_MS="300")
    fill(house.staff, "/photos", 300, size=32, streams=4)
    house.staff.admin.wait(lambda state: crew(state, "thumbnailer")["running"] >= 3, "more of them come")
    house.staff.admin.wait(is_empty, "all is handled", seconds=60)
    assert len({handling.pid for handling in house.books.handlings()}) >= 3
    assert len(house.books.handlings()) == 300


def test_while_the_database_is_full_no_workers_are_added(house):
    """And it is not full for ever."""
    house = house(THUMBNAIL_MS="20", DATABASE_CONNECTIONS="18")
    set_slow(house.staff.servers[-1], 400)
    fill(house.staff, "/orders", 200, size=32, streams=4)
    fill(house.staff, "/photos", 100, size=32, streams=4)
    house.staff.admin.wait(lambda state: gauge(state)["state"] == "full", "all connections are in use", seconds=30)
    fill(house.staff, "/photos", 400, size=32, streams=4)
    state = house.staff.admin.wait(lambda state: crew(state, "thumbnailer")["state"] == "held", "the workers are held back")
    assert "gauge is full" in crew(state, "thumbnailer")["reason"] and crew(state, "thumbnailer")["running"] < 8
    set_slow(house.staff.servers[-1], 0)
    state = house.staff.admin.wait(lambda state: gauge(state)["state"] == "ok", "there are connections again", seconds=30)
    assert gauge(state)["value"] < 18
    house.staff.admin.wait(is_empty, "all is handled", seconds=60)


def gauge(state):
    return next(each for each in state["gauges"] if each["name"] == "database")
