"""The bottleneck in the state: whoever takes from a queue, workers at their most, a database that is full, each staged for real
and ended again."""
import contextlib

from kit.admin import admin_of
from kit.config import admin, pool
from kit.queue import post, pushed, queue, stored
from kit.staging import Cook, Teller, consuming, has, repeating

STEADY = 8      # seconds in which nothing may change
AMQP = 'amqp "127.0.0.1:{port8}" { user "guest" { password = "guest" } }\n'
ROUTE = 'route "/orders" { queue = orders }'

# A consumer with a pace of its own, in seconds: argv[1], or what the file argv[2] says once it is there.
WORKER = """
import os, signal, sys, time
import pika

over = []
signal.signal(signal.SIGTERM, lambda *_: over.append(1))
connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.basic_qos(prefetch_count=int(os.environ["MAITRED_SLOTS"]))

def take(_, method, *__):
    seconds = open(sys.argv[2]).read() if os.path.exists(sys.argv[2]) else sys.argv[1]
    connection.sleep(float(seconds))
    channel.basic_ack(method.delivery_tag)

channel.basic_consume(os.environ["MAITRED_QUEUE"], take)
while not over:
    connection.process_data_events(0.05)
connection.close()
"""


@contextlib.contextmanager
def posting(proxy, per_second):
    with repeating(lambda: post(proxy), pause=1 / per_second):
        yield


@contextlib.contextmanager
def telling(interface, gauge, value):
    """The gauge is told this, and told again before it would not be believed any more."""
    def tell():
        body = b'{"value": %d}' % value
        response = interface.post(f"/api/gauges/{gauge}", f"Content-Length: {len(body)}", body=body)
        assert response.status == 200, response
    tell()
    with repeating(tell, pause=0.5):
        yield


def test_a_queue_whose_consumer_is_slow_is_told(maitred):
    proxy = maitred(stored(ROUTE, queue("orders"), AMQP, general=admin()))
    teller = Teller(admin_of(proxy))
    with consuming(proxy.port8, "orders", 0.001) as pace, posting(proxy, 30):
        teller.look()
        teller.stays(STEADY)
        assert teller.seen == [("none", None)]
        pace.seconds = 0.2
        told = teller.wait("queue", "orders")
        assert told["text"] == "queue orders grows: more comes than its 1 consumer takes"
        has(told["figures"], "wait and 1 are in work; +", "/s come, ", "the oldest has waited")
        has(told["relief"], "more consumers", "a workers section")
        teller.stays(STEADY)
        pace.seconds = 0.001
        teller.wait("none")


def test_a_queue_whose_push_takes_too_little_is_told(maitred, stage):
    cook = stage.add(Cook(seconds=0.2))
    proxy = maitred(stored(ROUTE, pushed("orders", cook, "concurrency = 1"), general=admin()))
    teller = Teller(admin_of(proxy))
    teller.wait("none")
    with posting(proxy, 30):
        told = teller.wait("queue", "orders")
        assert told["text"] == "queue orders grows: more comes than pool orders-workers takes of it"
        assert told["pool"] == "orders-workers"
        has(told["relief"], "a higher concurrency", "more servers in pool orders-workers")
        teller.stays(STEADY)
        cook.seconds = 0
        teller.wait("none")


def test_a_queue_is_explained_by_the_pool_that_it_is_pushed_to(maitred, stage):
    cook = stage.add(Cook(seconds=0.2))
    proxy = maitred(stored(ROUTE + '\n    route "/cook" { pool = kitchen }', queue("orders", "push { pool = kitchen }"),
                           pool("kitchen", cook, options="max-connections = 1  queue-timeout = 60s"), general=admin()))
    teller = Teller(admin_of(proxy))
    teller.wait("none")
    with posting(proxy, 30), repeating(lambda: proxy.get("/cook"), 4):
        told = teller.wait("servers", "kitchen")
        has(told["figures"], "wait in line")
        admin_of(proxy).wait(lambda state: state["bottleneck"]["others"], "the queue stands beside it", 30)
        assert teller.look()["others"] == ["queue orders grows: more comes than pool kitchen takes of it"]
        assert teller.look()["layer"] == "servers"
    cook.seconds = 0
    teller.wait("none")


def test_workers_at_their_most_are_told_while_their_queue_grows(maitred, tmp_path):
    program, pace = tmp_path / "worker.py", tmp_path / "pace"
    program.write_text(WORKER)
    proxy = maitred(stored(ROUTE, queue("orders"), AMQP, f'workers cooks {{ queue = orders  min = 1  max = 2\n'
                           f'    command = "/usr/bin/python3 {program} 0.2 {pace}" }}', general=admin()))
    interface = admin_of(proxy)
    teller = Teller(interface)
    interface.wait(lambda state: state["workers"][0]["idle"] == 1, "a worker is there")
    teller.wait("none")
    with posting(proxy, 40):
        told = teller.wait("workers", "cooks")
        assert told["text"] == "workers cooks are as many as there may be (2), and queue orders grows"
        has(told["figures"], "2 of at most 2 workers run", "wait and", "/s come")
        has(told["relief"], "a higher max of workers cooks")
        teller.stays(STEADY)
        pace.write_text("0")
        teller.wait("none")


def test_workers_that_crash_are_told_while_their_queue_grows(maitred):
    proxy = maitred(stored(ROUTE, queue("orders"), AMQP, 'workers cooks { queue = orders  max = 2  command = "/bin/false" }',
                           general=admin()))
    teller = Teller(admin_of(proxy))
    teller.wait("none")
    with posting(proxy, 40):
        told = teller.wait("workers", "cooks")
        assert told["text"] == "workers cooks crash, and queue orders grows"
        has(told["figures"], "of at most 2 workers run", "exit")
    teller.wait("none")


def test_a_full_gauge_is_the_database_and_explains_workers_that_do_not_grow(maitred, tmp_path):
    program = tmp_path / "worker.py"
    program.write_text(WORKER)
    proxy = maitred(stored(ROUTE, queue("orders"), AMQP, 'gauge db { full = 20  unit = "connections"  expires = 3s }',
                           f'workers cooks {{ queue = orders  min = 1  max = 4  gauge = db\n'
                           f'    command = "/usr/bin/python3 {program} 0.2 {tmp_path}/none" }}', general=admin()))
    interface = admin_of(proxy)
    teller = Teller(interface)
    with telling(interface, "db", 19):
        teller.look()
        teller.stays(STEADY)
        assert teller.seen == [("none", None)]
    with telling(interface, "db", 20), posting(proxy, 30):
        told = teller.wait("database", "db")
        assert told["text"] == "db is full: 20 of 20 connections"
        has(told["figures"], "full from 20 on", "workers cooks do not grow meanwhile")
        has(told["relief"], "a cache", "PgBouncer", "shards")
        teller.stays(STEADY)
        assert teller.look()["others"] == []
    teller.wait("none")     # the gauge expires, and nothing comes any more
    assert interface.state()["gauges"][0]["state"] == "unknown"


def test_history_has_workers_and_gauges(maitred, tmp_path):
    program = tmp_path / "worker.py"
    program.write_text(WORKER)
    proxy = maitred(stored(ROUTE, queue("orders"), AMQP, "gauge db { full = 20 }",
                           f'workers cooks {{ queue = orders  command = "/usr/bin/python3 {program} 0.2 {tmp_path}/none" }}',
                           general=admin()))
    interface = admin_of(proxy)
    with telling(interface, "db", 7):
        def told(_):
            series = interface.history()["series"]
            return "gauge db" in series and series["gauge db"]["value"][-1] == 7 and series["workers cooks"]["running"][-1] == 1
        interface.wait(told, "a sample", 30)
    series = interface.history()["series"]
    assert sorted(series["workers cooks"]) == ["busy", "desired", "running"]
    assert [series["workers cooks"][name][-1] for name in ("busy", "desired", "running")] == [0, 1, 1]
    assert sorted(series["gauge db"]) == ["value"]
