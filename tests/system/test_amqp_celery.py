"""AMQP: Celery, with a worker in a process of its own, and kombu, which it stands on."""
import contextlib
import signal
import socket
import time

import pytest

from kit.amqp import bounded, wait_count
from kit.celery_worker import QUICK, SECONDS, Worker

celery = pytest.importorskip("celery")
pytest.importorskip("celery.result")
kombu = pytest.importorskip("kombu")
MessageNacked = pytest.importorskip("amqp.exceptions").MessageNacked


@pytest.fixture
def worker(amqp, tmp_path):
    """worker(options...): a running one."""
    started = []

    def start(*options, **settings):
        started.append(Worker(amqp, tmp_path, *options, **settings))
        return started[-1]
    with bounded(120):
        yield start
        for each in started:
            each.stop()


def test_tasks_are_done_and_their_results_come_back(worker):
    worker = worker(*QUICK, "-c", "2")
    results = [worker.tasks.add.delay(number, 1) for number in range(50)]
    assert celery.result.ResultSet(results).get(timeout=SECONDS) == list(range(1, 51))


def test_a_task_is_tried_again_until_it_succeeds(worker):
    worker = worker(*QUICK, "-c", "1")
    assert worker.tasks.stubborn.delay(2).get(timeout=SECONDS) == 2
    assert worker.log == ["try 0", "try 1", "try 2"]
    result = worker.tasks.stubborn.delay(9)
    with pytest.raises(Exception, match="retry"):
        result.get(timeout=SECONDS)
    assert worker.log[3:] == ["try 0", "try 1", "try 2", "try 3"]


def test_tasks_for_later_raise_the_prefetch_and_are_done_in_time(worker):
    """Each that waits is unacknowledged: the worker asks for one more, by basic.qos for the whole channel."""
    worker = worker(*QUICK, "-c", "1", "--prefetch-multiplier=1")
    began = time.monotonic()
    later = [worker.tasks.say.apply_async((f"later {number}",), countdown=4) for number in range(6)]
    assert worker.tasks.add.delay(1, 1).get(timeout=SECONDS) == 2
    assert time.monotonic() - began < 4, "tasks for later kept one for now waiting"
    assert celery.result.ResultSet(later).get(timeout=SECONDS) == [f"later {number}" for number in range(6)]
    assert time.monotonic() - began >= 4


def test_a_chord_is_called_when_its_group_is_done(worker, tmp_path):
    (tmp_path / "results").mkdir()
    worker = worker(*QUICK, "-c", "2", backend=f"file://{tmp_path}/results")
    result = celery.chord([worker.tasks.add.s(number, number) for number in range(10)])(worker.tasks.total.s())
    assert result.get(timeout=SECONDS) == 90


def test_a_group_and_a_chain_come_back_by_rpc(worker):
    worker = worker(*QUICK, "-c", "2")
    result = celery.group(worker.tasks.add.s(number, number) for number in range(10))()
    assert result.get(timeout=SECONDS) == [2 * number for number in range(10)]
    result = celery.chain(worker.tasks.add.s(1, 2), worker.tasks.add.s(3), worker.tasks.add.s(4))()
    assert result.get(timeout=SECONDS) == 10


def test_a_worker_answers_remote_control(worker):
    worker = worker("-c", "1")
    assert worker.app.control.ping(destination=[worker.name], timeout=10) == [{worker.name: {"ok": "pong"}}]
    queues = worker.app.control.inspect(destination=[worker.name], timeout=10).active_queues()[worker.name]
    assert [queue["name"] for queue in queues] == [worker.queue]


def test_a_revoked_task_is_not_done(worker):
    worker = worker(*QUICK, "-c", "1")
    result = worker.tasks.say.apply_async(("never",), countdown=1.5)
    worker.app.control.revoke(result.id, destination=[worker.name], reply=True, timeout=10)
    with pytest.raises(celery.exceptions.TaskRevokedError):
        result.get(timeout=SECONDS)
    assert worker.tasks.say.delay("after").get(timeout=SECONDS) == "after"
    assert worker.log == ["said after"]


def test_a_pool_grows_and_shrinks_with_its_work(worker, tmp_path):
    worker = worker(*QUICK, "--autoscale=4,1")
    held = [worker.tasks.hold.delay(str(tmp_path / "go")) for _ in range(4)]
    worker.wait_output("Scaling up")
    (tmp_path / "go").touch()
    assert [result.get(timeout=SECONDS) for result in held] == ["let go"] * 4


def test_a_task_whose_process_died_is_done_by_another(worker):
    worker = worker(*QUICK, "-c", "1")
    assert worker.tasks.dies_once.delay().get(timeout=SECONDS) == "lived"
    assert worker.log == ["dying", "living"]


def test_what_a_worker_that_was_killed_had_is_done_by_the_next(worker, tmp_path):
    worker = worker(*QUICK, "-c", "1", conf={"task_acks_late": True})
    result = worker.tasks.hold.delay(str(tmp_path / "go"))
    worker.wait_log(f"holding {tmp_path / 'go'}")
    worker.kill()
    (tmp_path / "go").touch()
    worker.start()
    assert result.get(timeout=SECONDS) == "let go"


def test_a_worker_that_is_told_to_stop_finishes_what_it_does(worker, tmp_path):
    worker = worker(*QUICK, "-c", "1", "--prefetch-multiplier=1")
    result = worker.tasks.hold.delay(str(tmp_path / "go"))
    worker.wait_log(f"holding {tmp_path / 'go'}")
    waiting = worker.tasks.say.delay("for the next")
    worker.process.send_signal(signal.SIGTERM)
    worker.wait_output("Warm shutdown")
    (tmp_path / "go").touch()
    assert result.get(timeout=SECONDS) == "let go"
    assert worker.process.wait(SECONDS) == 0
    worker.start()
    assert waiting.get(timeout=SECONDS) == "for the next"


def test_tasks_of_higher_priority_are_done_first(worker, tmp_path):
    worker = worker(*QUICK, "-c", "1", "--prefetch-multiplier=1", conf={"task_acks_late": True})
    held = worker.tasks.hold.delay(str(tmp_path / "go"))
    worker.wait_log(f"holding {tmp_path / 'go'}")
    results = [worker.tasks.say.apply_async((priority,), priority=priority) for priority in (1, 5, 9, 3)]
    wait_count(worker.amqp.channel(), worker.queue, 4)
    (tmp_path / "go").touch()
    for result in [held, *results]:
        result.get(timeout=SECONDS)
    assert worker.log[1:] == ["said 9", "said 5", "said 3", "said 1"]


# --- kombu

@pytest.fixture
def connection(amqp):
    with kombu.Connection(f"amqp://guest:guest@127.0.0.1:{amqp.broker.port}//", heartbeat=2) as connection:
        connection.connect()
        yield connection


def test_kombu_publishes_and_consumes_json(amqp, connection):
    exchange = kombu.Exchange(amqp.exchange_name(), "topic")
    queue = kombu.Queue(amqp.queue_name(), exchange, routing_key="a.*", max_priority=5, expires=60, message_ttl=60, max_length=100)
    got = []
    with connection.Producer() as producer:
        producer.publish({"dish": "soup", "price": 7, "large": 2 ** 40}, exchange=exchange, routing_key="a.b", declare=[queue],
                         serializer="json", compression="gzip", headers={"n": 2 ** 40, "f": 1.5, "l": [1, None], "t": {"a": True}})

    def came(body, message):
        got.append((body, message.headers))
        message.ack()
    with connection.Consumer(queue, callbacks=[came], accept=["json"]):
        connection.drain_events(timeout=10)
    (body, headers), = got
    assert body == {"dish": "soup", "price": 7, "large": 2 ** 40}
    assert {name: headers[name] for name in "nflt"} == {"n": 2 ** 40, "f": 1.5, "l": [1, None], "t": {"a": True}}


def test_kombu_keeps_a_connection_by_heartbeats(amqp, connection):
    assert connection.connection.heartbeat == 2
    end = time.monotonic() + 6
    while time.monotonic() < end:
        connection.heartbeat_check(rate=2)
        with contextlib.suppress(socket.timeout):
            connection.drain_events(timeout=0.2)
    connection.default_channel.queue_declare(amqp.queue_name())


def test_kombu_has_simple_queues(amqp, connection):
    queue = connection.SimpleQueue(amqp.queue_name())
    amqp.exchanges.append(queue.queue.exchange.name)
    for number in range(3):
        queue.put({"n": number})
    assert queue.qsize() in range(4)
    messages = [queue.get(timeout=5) for _ in range(3)]
    assert [message.payload for message in messages] == [{"n": number} for number in range(3)]
    for message in messages:
        message.ack()
    with pytest.raises(queue.Empty):
        queue.get_nowait()
    queue.close()


def test_kombu_hears_what_a_full_queue_refuses(amqp):
    url = f"amqp://guest:guest@127.0.0.1:{amqp.broker.port}//"
    queue = kombu.Queue(amqp.queue_name(), max_length=1, queue_arguments={"x-overflow": "reject-publish"})
    with kombu.Connection(url, transport_options={"confirm_publish": True}) as connection, connection.Producer() as producer:
        producer.publish("taken", routing_key=queue.name, declare=[queue])
        for _ in range(2):
            with pytest.raises(MessageNacked):
                producer.publish("refused", routing_key=queue.name)
