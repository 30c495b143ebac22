"""AMQP: the management interface, asked as rabbitmqadmin and dashboards ask it."""
import base64
import json
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from kit.amqp import Consumer, bodies, get, is_there, publish
from kit.wire import TimedOut

INSTALLED = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/plugins/rabbitmq_management-*/priv/www/cli/rabbitmqadmin"))


@pytest.fixture
def port(broker):
    if broker.management_port is None:
        pytest.skip(f"{broker.name} has no management interface")
    return broker.management_port


@pytest.fixture
def ask(port):
    """ask(path): what the interface says, from JSON."""
    def get_json(path, user="guest:guest"):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
        request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("application/json")
            return json.load(answer)
    return get_json


@pytest.fixture
def rabbitmqadmin(amqp, port, tmp_path):
    """rabbitmqadmin(arguments...): what it prints."""
    if INSTALLED:
        script = INSTALLED[-1]
    else:
        script = tmp_path / "rabbitmqadmin"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/cli/rabbitmqadmin", timeout=10) as answer:
            script.write_bytes(answer.read())

    def run(*arguments):
        done = subprocess.run(["/usr/bin/python3", "-B", script, "-P", str(port), *arguments], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done
        return done.stdout
    return run


def wait(ask, path, **wanted):
    """Until the JSON there has these values: statistics lag behind."""
    end = time.monotonic() + 10
    while True:
        told = ask(path)
        if {name: told.get(name) for name in wanted} == wanted:
            return told
        if time.monotonic() > end:
            raise TimedOut(f"{path} does not say {wanted}: {json.dumps(told, indent=1)}")
        time.sleep(0.1)


def test_the_overview_tells_what_it_is(ask):
    told = ask("/api/overview")
    assert {"management_version", "rabbitmq_version", "cluster_name", "node", "object_totals", "queue_totals", "message_stats",
            "listeners", "exchange_types"} <= told.keys()
    assert {"connections", "channels", "exchanges", "queues", "consumers"} <= told["object_totals"].keys()


def test_a_queue_tells_what_is_in_it(amqp, ask):
    channel = amqp.channel()
    queue = amqp.queue(channel, {"x-max-length": 10}, durable=True)
    publish(channel, queue, "1", "22", "333")
    get(channel, queue, ack=False)
    Consumer(amqp.channel(), amqp.queue(channel))
    told = wait(ask, f"/api/queues/%2F/{queue}", messages=3, messages_ready=2, messages_unacknowledged=1)
    assert {name: told[name] for name in ("name", "vhost", "durable", "auto_delete", "exclusive", "arguments", "consumers", "type",
                                          "state")} == {
        "name": queue, "vhost": "/", "durable": True, "auto_delete": False, "exclusive": False, "arguments": {"x-max-length": 10},
        "consumers": 0, "type": "classic", "state": "running"}
    assert any(each["name"] == queue for each in ask("/api/queues"))
    assert any(each["name"] == queue for each in ask("/api/queues/%2F"))


def test_a_queue_tells_how_much_comes_and_goes(amqp, ask):
    channel = amqp.channel()
    queue = amqp.queue(channel)
    publish(channel, queue, *map(str, range(10)))
    bodies(channel, queue, 10)
    end = time.monotonic() + 10
    while (told := ask(f"/api/queues/%2F/{queue}").get("message_stats", {})).get("publish") != 10 or told.get("deliver_get") != 10:
        assert time.monotonic() < end, told
        time.sleep(0.1)
    assert "rate" in told["publish_details"] and "rate" in told["deliver_get_details"]


@pytest.mark.parametrize("path", ["/api/overview", "/api/queues"])
def test_a_wrong_password_is_401(ask, path):
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(path, "guest:wrong")
    assert refused.value.code == 401


def test_a_queue_that_is_not_there_is_404(ask):
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask("/api/queues/%2F/nowhere")
    assert refused.value.code == 404 and json.load(refused.value) == {"error": "Object Not Found", "reason": "Not Found"}


def test_rabbitmqadmin_declares_publishes_gets_and_deletes(amqp, rabbitmqadmin):
    exchange, queue = amqp.exchange_name(), amqp.queue_name()
    assert rabbitmqadmin("declare", "exchange", f"name={exchange}", "type=topic") == "exchange declared\n"
    assert rabbitmqadmin("declare", "queue", f"name={queue}", "durable=false", 'arguments={"x-max-length":10}') == "queue declared\n"
    assert rabbitmqadmin("declare", "binding", f"source={exchange}", f"destination={queue}", "routing_key=a.*") == "binding declared\n"
    assert rabbitmqadmin("publish", f"exchange={exchange}", "routing_key=a.b", "payload=soup") == "Message published\n"
    assert rabbitmqadmin("publish", f"exchange={exchange}", "routing_key=b", "payload=lost") == "Message published but NOT routed\n"
    told, = json.loads(rabbitmqadmin("-f", "raw_json", "get", f"queue={queue}", "ackmode=ack_requeue_false"))
    assert (told["payload"], told["routing_key"], told["exchange"], told["redelivered"]) == ("soup", "a.b", exchange, False)
    assert rabbitmqadmin("purge", "queue", f"name={queue}") == "queue purged\n"
    assert rabbitmqadmin("delete", "queue", f"name={queue}") == "queue deleted\n"
    assert rabbitmqadmin("delete", "exchange", f"name={exchange}") == "exchange deleted\n"
    assert not is_there(amqp, queue)


def test_rabbitmqadmin_lists(amqp, rabbitmqadmin):
    channel = amqp.channel()
    queue, exchange = amqp.queue(channel), amqp.exchange(channel)
    channel.queue_bind(queue, exchange, "a")
    lists = {what: json.loads(rabbitmqadmin("-f", "raw_json", "list", what))
             for what in ("queues", "exchanges", "bindings", "users", "vhosts", "permissions", "nodes")}
    assert queue in [each["name"] for each in lists["queues"]]
    assert {exchange, "", "amq.direct", "amq.topic"} <= {each["name"] for each in lists["exchanges"]}
    assert (exchange, queue, "a") in [(each["source"], each["destination"], each["routing_key"]) for each in lists["bindings"]]
    assert {"guest", "limited"} <= {each["name"] for each in lists["users"]}
    assert "/" in [each["name"] for each in lists["vhosts"]]


def test_rabbitmqadmin_closes_a_connection(amqp, ask, rabbitmqadmin):
    connection = amqp.connect(client_properties={"connection_name": amqp.name("mine")})
    name = connection._impl.params.client_properties["connection_name"]
    end = time.monotonic() + 10
    while not (found := [each for each in ask("/api/connections") if each.get("client_properties", {}).get("connection_name") == name]):
        assert time.monotonic() < end
        time.sleep(0.1)
    rabbitmqadmin("close", "connection", f"name={found[0]['name']}")
    with pytest.raises(Exception, match="320.*CONNECTION_FORCED - Closed via management plugin"):
        connection.sleep(10)
