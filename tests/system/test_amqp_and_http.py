"""A message that came by HTTP is consumed by AMQP, and the other way round: docs/amqp.md says what becomes of what."""
import random

import pika
import pytest

from kit.queue import Worker, accepted, post, pushed, queue, status, stored, wait_state
from kit.wire import DEADLINE

ORDERS = 'route "/orders" { queue = orders }'
NEWS = ORDERS + '  route "/news" { topic = news }'
AMQP = 'amqp "127.0.0.1:{port3}" { user "guest" { password = "guest" } }\n'
QUICK = "retry { first = 20ms  most = 100ms  attempts = 3 }"


@pytest.fixture
def worker(stage):
    return stage.add(Worker())


@pytest.fixture
def open_channel():
    connections = []

    def open_channel(proxy):
        connections.append(pika.BlockingConnection(pika.ConnectionParameters(
            "127.0.0.1", proxy.ports["port3"], heartbeat=0, socket_timeout=DEADLINE)))
        return connections[-1].channel()
    yield open_channel
    for connection in connections:
        if connection.is_open:
            connection.close()


def take(channel, name, ack=True):
    """The next message of a queue, for which it waits."""
    for method, properties, body in channel.consume(name, inactivity_timeout=DEADLINE):
        assert method, f"nothing came to {name}"
        if ack:
            channel.basic_ack(method.delivery_tag)
            channel.cancel()
        return method, properties, body


def test_a_request_is_consumed_as_a_message(maitred, open_channel):
    proxy = maitred(stored(NEWS, queue("orders"), queue("readers"), "topic news { queues = { readers } }", AMQP))
    channel = open_channel(proxy)
    location = accepted(post(proxy, "/orders?table=4", b'{"dish": "soup"}', "Content-Type: application/json",
                             "Content-Encoding: identity", "X-Table: 4"))
    method, properties, body = take(channel, "orders")
    assert (method.exchange, method.routing_key, method.redelivered, body) == ("", "orders", False, b'{"dish": "soup"}')
    assert (properties.content_type, properties.content_encoding, properties.delivery_mode) == (
        "application/json", "identity", 2)
    assert location.endswith(f"/{properties.message_id}")
    assert properties.timestamp and properties.headers["X-Table"] == "4"
    assert (properties.headers["maitred-method"], properties.headers["maitred-target"]) == ("POST", "/orders?table=4")
    assert wait_state(proxy, location, "done")["queues"][0]["attempts"] == 1
    post(proxy, "/news", b"soup")
    method, _, body = take(channel, "readers")
    assert (method.exchange, body) == ("news", b"soup")


def test_a_message_is_pushed_as_a_request(maitred, worker, open_channel):
    proxy = maitred(stored(ORDERS, pushed("orders", worker, 'path = "/cook"'), AMQP))
    channel = open_channel(proxy)
    channel.confirm_delivery()
    channel.basic_publish("", "orders", b"soup", pika.BasicProperties(
        content_type="text/plain", correlation_id="c", reply_to="r", message_id="m", type="t", app_id="a", priority=3,
        timestamp=7, headers={"X-Table": 4, "x-hot": True, "note": "with salt", "bad name": "x", "broken": "a\r\nb",
                              "Content-Length": "99", "Maitred-Queue": "mine", "list": [1]}))
    worker.wait_bodies(b"soup")
    request, = worker.requests
    assert (request.method, request.target) == ("POST", "/cook")
    assert {name: request.get(name) for name in (
        "Content-Type", "Amqp-Correlation-Id", "Amqp-Reply-To", "Amqp-Message-Id", "Amqp-Type", "Amqp-App-Id",
        "Amqp-Priority", "Amqp-Timestamp", "Amqp-Routing-Key", "X-Table", "x-hot", "note", "Maitred-Queue")} == {
            "Content-Type": "text/plain", "Amqp-Correlation-Id": "c", "Amqp-Reply-To": "r", "Amqp-Message-Id": "m",
            "Amqp-Type": "t", "Amqp-App-Id": "a", "Amqp-Priority": "3", "Amqp-Timestamp": "7",
            "Amqp-Routing-Key": "orders", "X-Table": "4", "x-hot": "true", "note": "with salt",
            "Maitred-Queue": "orders"}
    assert request.get("Content-Length") == "4" and request.get("broken") is None and request.get("list") is None


def test_a_large_body_is_pushed_by_pieces(maitred, worker, open_channel):
    """More than once, too; its file goes when it is done."""
    worker.say = [status(500), status(200)]
    proxy = maitred(stored(ORDERS, pushed("orders", worker, "", QUICK), AMQP))
    channel = open_channel(proxy)
    channel.confirm_delivery()
    body = random.Random(1).randbytes(9_000_001)
    channel.basic_publish("", "orders", body, pika.BasicProperties(delivery_mode=2))
    worker.wait(lambda: len(worker.requests) == 2, "two requests", 2 * DEADLINE)
    for request in worker.requests:
        assert request.get("Content-Length") == "9000001" and request.body == body
    worker.wait(lambda: not list((proxy.directory / "state").glob("body-*")), "no file")


def test_a_message_that_a_push_gives_up_says_so_by_amqp(maitred, worker, open_channel):
    worker.say = lambda asked: status(500)
    proxy = maitred(stored(ORDERS, pushed("orders", worker, "", QUICK, "dead-letter = dead"), queue("dead"), AMQP))
    channel = open_channel(proxy)
    channel.basic_publish("", "orders", b"soup", pika.BasicProperties(headers={"a": 1}))
    _, properties, body = take(channel, "dead")
    death, = properties.headers["x-death"]
    assert (body, properties.headers["a"]) == (b"soup", 1)
    assert (death["queue"], death["reason"], death["count"]) == ("orders", "delivery_limit", 1)


def test_a_queue_of_the_file_keeps_its_rules_for_clients(maitred, open_channel):
    """What it is comes from the file: a declaration is no complaint, a deletion is refused, giving back is an attempt."""
    proxy = maitred(stored(ORDERS, queue("orders", QUICK, "dead-letter = dead"), queue("dead"), AMQP))
    channel = open_channel(proxy)
    channel.queue_declare("orders", durable=True, arguments={"x-max-length": 5})
    location = accepted(post(proxy))
    for attempt in range(3):
        method, _, _ = take(channel, "orders", ack=False)
        channel.basic_nack(method.delivery_tag)
        channel.cancel()
    assert wait_state(proxy, location, "dead")["queues"][0]["attempts"] == 3
    assert take(channel, "dead")[1].headers["x-death"][0]["queue"] == "orders"
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
        channel.queue_delete("orders")
    assert refused.value.reply_code == 403
