"""The management interface: RabbitMQ's shapes, read and written as tools do. Every test here that takes `api` is true of RabbitMQ
3.10 as well (AMQP_PEERS=rabbitmq,maitred); those about both interfaces at one address are maitred's own."""
import base64
import http.client
import json
import os
import subprocess
import time
import urllib.parse
from pathlib import Path

import pika
import pytest

from kit.admin import Admin, admin_of
from kit.amqp import Amqp, Consumer, bodies, count, get, publish, wait_count
from kit.config import admin, top
from kit.wire import TimedOut

SECONDS = 25    # statistics lag behind; rates are over some seconds
RABBITMQADMIN = sorted(Path("/usr/lib/rabbitmq/lib").glob(
    "rabbitmq_server-*/plugins/rabbitmq_management-*/priv/www/cli/rabbitmqadmin"))


class Answer:
    def __init__(self, response):
        self.status, self.headers, text = response.status, response.headers, response.read()
        self.json = json.loads(text) if text else None

    def __repr__(self):
        return f"<{self.status} {self.json}>"


class Api:
    """Asks by basic authentication. user None: without."""

    def __init__(self, port):
        self.port = port

    def ask(self, method, path, body=None, user="guest", password=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        if user:
            token = base64.b64encode(f"{user}:{password or user}".encode()).decode()
            headers["Authorization"] = f"Basic {token}"
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, "/api" + path, body, headers)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path, **options):
        answer = self.ask("GET", path, **options)
        assert answer.status == 200, answer
        assert answer.headers["Content-Type"].startswith("application/json")
        return answer.json

    def put(self, path, body, **options):
        return self.ask("PUT", path, body, **options)

    def post(self, path, body, **options):
        return self.ask("POST", path, body, **options)

    def delete(self, path, **options):
        return self.ask("DELETE", path, **options)

    def wait(self, path, condition):
        """What is there once condition(that) holds."""
        end = time.monotonic() + SECONDS
        while not condition(told := self.get(path)):
            if time.monotonic() > end:
                raise TimedOut(f"{path} says {json.dumps(told, indent=1)}")
            time.sleep(0.1)
        return told


@pytest.fixture
def api(broker):
    return Api(broker.management_port)


@pytest.fixture
def channel(amqp):
    return amqp.channel()


def names(items):
    return [item["name"] for item in items]


def with_name(items, name):
    found = [item for item in items if item["name"] == name]
    assert len(found) == 1, f"{len(found)} of {name}"
    return found[0]


def quoted(*parts):
    return "/".join(urllib.parse.quote(part, safe="") for part in parts)


# --- who asks

@pytest.mark.parametrize("user, password", [(None, None), ("guest", "wrong"), ("nobody", "nobody"), ("guest", "")])
def test_who_is_not_known_is_asked_for_a_password(api, user, password):
    answer = api.ask("GET", "/overview", user=user, password=password or " ")
    assert answer.status == 401 and answer.headers["WWW-Authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize("user, tags", [("guest", ["administrator"]), ("limited", ["management"])])
def test_a_user_is_told_who_it_is(api, user, tags):
    assert api.get("/whoami", user=user) == {"name": user, "tags": tags}


def test_users_have_names_and_tags(api):
    users = {user["name"]: user for user in api.get("/users")}
    assert users["guest"]["tags"] == ["administrator"] and users["limited"]["tags"] == ["management"]
    assert api.get("/users/limited")["name"] == "limited"


def test_permissions_are_the_patterns(api):
    wanted = {"user": "limited", "vhost": "/", "configure": "^mine", "write": "^mine", "read": "^mine"}
    assert wanted in api.get("/permissions")
    assert api.get("/permissions/%2F/limited") == wanted
    assert api.get("/users/limited/permissions") == [wanted]
    assert wanted in api.get("/vhosts/%2F/permissions")


@pytest.mark.parametrize("path", ["/users", "/permissions", "/definitions"])
def test_some_of_it_is_for_administrators(api, path):
    assert api.ask("GET", path, user="limited").status == 401


def test_users_see_their_virtual_hosts(amqp, api, channel):
    queue = amqp.queue(channel)
    assert names(api.get("/vhosts", user="limited")) == ["/"]
    assert names(api.get("/vhosts", user="other")) == ["closed"]
    assert {"/", "closed"} <= set(names(api.get("/vhosts")))
    assert queue in names(api.get("/queues", user="limited"))
    assert queue not in names(api.get("/queues", user="other"))
    for path in ("/queues/%2F", f"/queues/%2F/{queue}", "/exchanges/%2F", "/bindings/%2F"):
        assert api.ask("GET", path, user="other").status == 401, path
    assert {each["vhost"] for each in api.get("/exchanges", user="other")} == {"closed"}


def test_what_a_user_may_not_declare_is_401(api):
    assert api.put("/queues/%2F/yours-1", {"durable": True}, user="limited").status == 401
    assert api.put("/queues/%2F/mine-1", {"durable": True}, user="limited").status == 201
    assert api.delete("/queues/%2F/mine-1", user="limited").status == 204


def test_names_in_other_virtual_hosts_are_others(amqp, api):
    name = amqp.name()
    assert api.put(f"/queues/closed/{name}", {"durable": True}, user="other").status == 201
    assert api.put(f"/queues/%2F/{name}", {"durable": True, "arguments": {"x-max-length": 1}}).status == 201
    try:
        assert api.post("/exchanges/closed/amq.default/publish", {
            "properties": {}, "routing_key": name, "payload": "soup", "payload_encoding": "string"}, user="other").json == {"routed": True}
        got, = api.post(f"/queues/closed/{name}/get", {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"},
                        user="other").json
        assert (got["payload"], got["routing_key"], got["exchange"]) == ("soup", name, "")
        assert {each["vhost"] for each in api.get("/queues", user="other")} == {"closed"}
        assert with_name(api.get("/queues/closed", user="other"), name)["arguments"] == {}
    finally:
        assert api.delete(f"/queues/closed/{name}", user="other").status == 204
        assert api.delete(f"/queues/%2F/{name}").status == 204


@pytest.fixture
def elsewhere(amqp, api):
    """elsewhere(name, arguments): a queue in another virtual host; and one of that name in the default one."""
    found = []

    def declare(name, arguments=None):
        found.append(name)
        for vhost, user in (("closed", "other"), ("%2F", "guest")):
            assert api.put(f"/queues/{vhost}/{name}", {"durable": True, "arguments": arguments or {}}, user=user).status == 201
        return name
    yield declare
    for name in found:
        api.delete(f"/queues/closed/{name}", user="other")
        api.delete(f"/queues/%2F/{name}")


def test_copies_and_the_dead_stay_in_their_virtual_host(amqp, elsewhere):
    channel = amqp.channel(user="other", virtual_host="closed")
    dead, copy = elsewhere(amqp.name("dead")), elsewhere(amqp.name("copy"))
    queue = elsewhere(amqp.name("queue"), {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    keeps = elsewhere(amqp.name("keeps"), {"x-dead-letter-exchange": ""})
    channel.queue_bind(keeps, "amq.fanout")
    publish(channel, queue, "1", headers={"CC": [copy]})
    publish(channel, dead, "2", exchange="amq.fanout")
    for each in (queue, keeps):
        channel.basic_nack(get(channel, each, ack=False)[0].delivery_tag, requeue=False)
    assert bodies(channel, copy, 1) == [b"1"] and sorted(bodies(channel, dead, 2)) == [b"1", b"2"]
    channel.queue_unbind(keeps, "amq.fanout")
    ours = amqp.channel()
    assert [bodies(ours, each) for each in (dead, copy)] == [[], []]


# --- the whole

def test_the_overview_has_what_dashboards_read(api):
    told = api.get("/overview")
    assert {"management_version", "rabbitmq_version", "cluster_name", "node", "object_totals", "queue_totals", "message_stats",
            "listeners", "exchange_types", "rates_mode", "erlang_version", "churn_rates", "contexts",
            "statistics_db_event_queue"} <= told.keys()
    assert {each["name"] for each in told["exchange_types"]} >= {"direct", "fanout", "topic", "headers"}
    assert any(each["protocol"] == "amqp" for each in told["listeners"])
    assert isinstance(told["object_totals"]["queues"], int)


def test_there_is_one_node(api):
    node, = api.wait("/nodes", lambda told: "mem_used" in told[0])
    assert {"name", "type", "running", "mem_used", "mem_limit", "mem_alarm", "disk_free", "disk_free_limit", "disk_free_alarm",
            "fd_used", "fd_total", "sockets_used", "sockets_total", "proc_used", "proc_total", "uptime", "run_queue",
            "processors", "partitions", "os_pid"} <= node.keys()
    assert node["running"] and node["type"] == "disc" and node["mem_used"] > 0 and node["partitions"] == []
    assert api.get(f"/nodes/{node['name']}")["name"] == node["name"] == api.get("/overview")["node"]


def test_health_is_ok(api):
    for path in ("/health/checks/alarms", "/health/checks/local-alarms", "/health/checks/virtual-hosts", "/aliveness-test/%2F"):
        assert api.get(path)["status"] == "ok", path


@pytest.mark.parametrize("path", ["/policies", "/parameters", "/operator-policies", "/vhost-limits"])
def test_there_are_none_of_these(api, path):
    assert api.get(path) == []


def test_what_is_not_there_is_404(api):
    for path in ("/queues/%2F/nowhere", "/exchanges/%2F/nowhere", "/queues/nowhere", "/connections/nowhere", "/channels/nowhere",
                 "/vhosts/nowhere", "/users/nobody"):
        assert api.ask("GET", path).json == {"error": "Object Not Found", "reason": "Not Found"}, path


# --- queues

QUEUE_KEYS = {"arguments", "auto_delete", "consumers", "consumer_utilisation", "durable", "effective_policy_definition", "exclusive",
              "message_bytes", "messages", "messages_details", "messages_ready", "messages_ready_details",
              "messages_unacknowledged", "messages_unacknowledged_details", "name", "node", "operator_policy", "policy",
              "state", "type", "vhost"}
STATS = ("publish", "deliver", "deliver_no_ack", "deliver_get", "get", "get_no_ack", "get_empty", "ack", "redeliver")


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_queue_has_what_tools_read(amqp, api, channel, kind):
    queue = amqp.queue(channel, {"x-queue-type": kind}, durable=True)
    told = api.wait(f"/queues/%2F/{queue}", QUEUE_KEYS.issubset)
    assert {key: told[key] for key in ("name", "vhost", "durable", "auto_delete", "exclusive", "arguments", "type", "state",
                                       "messages", "consumers", "consumer_details", "policy", "effective_policy_definition")} == {
        "name": queue, "vhost": "/", "durable": True, "auto_delete": False, "exclusive": False,
        "arguments": {"x-queue-type": kind}, "type": kind, "state": "running", "messages": 0, "consumers": 0,
        "consumer_details": [], "policy": None, "effective_policy_definition": {}}
    if kind == "quorum":
        assert told["leader"] == told["node"] and told["members"] == told["online"] == [told["node"]]
    else:
        assert told["exclusive_consumer_tag"] is None and told["single_active_consumer_tag"] is None


def test_an_exclusive_queue_that_goes_with_its_consumer(amqp, api, channel):
    queue = amqp.queue(channel, exclusive=True, auto_delete=True)
    told = with_name(api.get("/queues/%2F"), queue)
    assert (told["exclusive"], told["auto_delete"], told["durable"]) == (True, True, False)
    assert api.delete(f"/queues/%2F/{queue}").status == 400


def test_every_way_of_a_message_is_counted(amqp, api, channel):
    queue = amqp.queue(channel)
    publish(channel, queue, *"abcdefg")
    channel.basic_ack(get(channel, queue, ack=False)[0].delivery_tag)
    get(channel, queue)
    tag = get(channel, queue, ack=False)[0].delivery_tag
    channel.basic_nack(tag, requeue=True)
    get(channel, queue)
    consumer = Consumer(amqp.channel(), queue, auto_ack=True)
    consumer.wait(4)
    wanted = {"publish": 7, "deliver": 0, "deliver_no_ack": 4, "deliver_get": 8, "get": 2, "get_no_ack": 2, "ack": 1, "redeliver": 1}
    told = api.wait(f"/queues/%2F/{queue}", lambda told: wanted.items() <= told.get("message_stats", {}).items())
    assert all("rate" in told["message_stats"][f"{name}_details"] for name in STATS)
    assert (told["messages"], told["consumers"]) == (0, 1)


def test_messages_are_ready_or_unacknowledged(amqp, api, channel):
    queue = amqp.queue(channel)
    publish(channel, queue, "1", "2", "3")
    get(channel, queue, ack=False)
    api.wait(f"/queues/%2F/{queue}", lambda told: [told.get(key) for key in (
        "messages", "messages_ready", "messages_unacknowledged")] == [3, 2, 1])
    total = api.wait("/overview", lambda told: told["queue_totals"].get("messages", 0) >= 3)["queue_totals"]
    assert total["messages"] == total["messages_ready"] + total["messages_unacknowledged"]


def test_a_scaler_reads_length_and_rate(amqp, api, channel):
    """As KEDA's scaler for RabbitMQ does over HTTP: by length, by rate, and for a pattern of names."""
    queue = amqp.queue(channel)
    end = time.monotonic() + SECONDS
    n = 0
    while True:
        publish(channel, queue, "job")
        n += 1
        told = api.get(f"/queues/%2F/{queue}")
        rate = told.get("message_stats", {}).get("publish_details", {}).get("rate", 0)
        if rate > 0:
            break
        assert time.monotonic() < end, told
        channel.connection.sleep(0.05)
    told = api.wait(f"/queues/%2F/{queue}", lambda told: told["messages"] == n)
    assert told["messages_ready"] == n and told["name"] == queue
    page = api.get(f"/queues/%2F?page=1&use_regex=true&pagination=false&name=%5E{queue}%24&page_size=100")
    assert [(item["name"], item["messages"]) for item in page["items"]] == [(queue, n)]


def test_a_queue_is_declared_once(amqp, api):
    queue = amqp.queue_name()
    wanted = {"durable": True, "auto_delete": False, "arguments": {"x-max-length": 5, "x-dead-letter-exchange": "amq.fanout"}}
    assert api.put(f"/queues/%2F/{queue}", wanted).status == 201
    assert api.put(f"/queues/%2F/{queue}", wanted).status == 204
    assert with_name(api.get("/queues/%2F"), queue)["arguments"] == wanted["arguments"]
    answer = api.put(f"/queues/%2F/{queue}", {**wanted, "durable": False})
    assert (answer.status, answer.json) == (400, {
        "error": "bad_request",
        "reason": f"inequivalent arg 'durable' for queue '{queue}' in vhost '/': received 'false' but current is 'true'"})


@pytest.mark.parametrize("path, body, status", [
    ("/queues/%2F/made-up", "{bad", 400),
    ("/queues/%2F/made-up", "[]", 400),
    ("/queues/%2F/made-up", {"durable": "maybe"}, 400),
    ("/queues/%2F/made-up", {"arguments": {"x-max-length": -1}}, 400),
    ("/queues/%2F/amq.made-up", {}, 401),
    ("/queues/nowhere/made-up", {}, 404),
    ("/exchanges/%2F/made-up", {"type": "sideways"}, 400),
    ("/exchanges/%2F/amq.made-up", {"type": "direct"}, 401),
])
def test_what_cannot_be_declared(api, path, body, status):
    assert api.put(path, body).status == status


def test_without_a_body_a_queue_is_not_durable(amqp, api):
    queue = amqp.queue_name()
    assert api.put(f"/queues/%2F/{queue}", "").status == 201
    assert with_name(api.get("/queues/%2F"), queue)["durable"] is False


def test_a_queue_is_purged_and_deleted(amqp, api, channel):
    queue = amqp.queue(channel)
    publish(channel, queue, "1", "2")
    wait_count(channel, queue, 2)
    assert api.delete(f"/queues/%2F/{queue}?if-empty=true").json == {
        "error": "bad_request", "reason": f"queue '{queue}' in vhost '/' not empty"}
    assert api.delete(f"/queues/%2F/{queue}/contents").status == 204
    assert count(channel, queue) == 0
    consumer = Consumer(amqp.channel(), queue)
    assert api.delete(f"/queues/%2F/{queue}?if-unused=true").status == 400
    assert api.delete(f"/queues/%2F/{queue}").status == 204
    assert api.delete(f"/queues/%2F/{queue}").status == 404
    consumer.channel.connection.sleep(0.1)
    assert consumer.cancelled


# --- lists

@pytest.fixture
def six(amqp, channel):
    """Names of six queues, in order, that begin in a way no others do."""
    start = amqp.name("six")
    found = [f"{start}-{letter}" for letter in "AbCdEf"]
    for at, name in enumerate(found):
        amqp.queues.append(name)
        channel.queue_declare(name, arguments={"x-max-length": 10 - at})
    return start, found


def test_a_list_has_pages(api, six):
    start, wanted = six
    page = api.get(f"/queues?page=2&page_size=4&name={start}")
    assert {key: page[key] for key in ("filtered_count", "item_count", "page", "page_count", "page_size")} == {
        "filtered_count": 6, "item_count": 2, "page": 2, "page_count": 2, "page_size": 4}
    assert page["total_count"] >= 6 and len(page["items"]) == 2
    everything = api.get(f"/queues?page=1&page_size=100&name={start}")
    assert sorted(names(everything["items"])) == sorted(wanted)


def test_a_name_is_looked_for_without_regard_to_case(api, six):
    start, wanted = six
    assert names(api.get(f"/queues?page=1&name={start.upper()}-a")["items"]) == [wanted[0]]
    assert names(api.get(f"/queues?page=1&use_regex=true&name=%5E{start}-%5Bbd%5D%24&sort=name")["items"]) == [wanted[1], wanted[3]]


@pytest.mark.parametrize("query", ["page=x", "page=0", "page=1&page_size=0", "page=1&page_size=501", "page=1&use_regex=true&name=%5B"])
def test_a_page_that_makes_no_sense(api, query):
    answer = api.ask("GET", f"/queues?{query}")
    assert answer.status == 400, answer


def test_a_page_that_is_not_there(api, six):
    answer = api.ask("GET", f"/queues?page=9&page_size=4&name={six[0]}")
    assert (answer.status, answer.json["error"]) == (400, "page_out_of_range")


def test_a_list_is_sorted_and_shows_columns(api, six):
    start, wanted = six
    mine = [each for each in api.get("/queues?sort=name&sort_reverse=true&columns=name,vhost") if each["name"].startswith(start)]
    assert mine == [{"name": name, "vhost": "/"} for name in sorted(wanted, reverse=True)]
    told = api.wait(f"/queues/%2F/{wanted[0]}?columns=name,messages_details.rate", lambda told: "messages_details" in told)
    assert told == {"name": wanted[0], "messages_details": {"rate": 0}}


# --- exchanges and bindings

def test_every_virtual_host_has_these_exchanges(api):
    for vhost in ("%2F", "closed"):
        found = {each["name"]: each["type"] for each in api.get(f"/exchanges/{vhost}")}
        assert found.items() >= {"": "direct", "amq.direct": "direct", "amq.fanout": "fanout", "amq.topic": "topic",
                                 "amq.headers": "headers", "amq.match": "headers"}.items()
    assert api.get("/exchanges/%2F/amq.default")["name"] == ""


def test_an_exchange_is_declared_once(amqp, api):
    exchange = amqp.exchange_name()
    wanted = {"type": "topic", "durable": True, "internal": True, "arguments": {"alternate-exchange": "amq.fanout"}}
    assert api.put(f"/exchanges/%2F/{exchange}", wanted).status == 201
    assert api.put(f"/exchanges/%2F/{exchange}", wanted).status == 204
    told = api.get(f"/exchanges/%2F/{exchange}")
    assert {key: told[key] for key in ("name", "vhost", "type", "durable", "auto_delete", "internal", "arguments")} == {
        "name": exchange, "vhost": "/", "type": "topic", "durable": True, "auto_delete": False, "internal": True,
        "arguments": {"alternate-exchange": "amq.fanout"}}
    assert told["incoming"] == told["outgoing"] == []
    assert api.put(f"/exchanges/%2F/{exchange}", {**wanted, "type": "fanout"}).json["reason"] == (
        f"inequivalent arg 'type' for exchange '{exchange}' in vhost '/': received 'fanout' but current is 'topic'")
    assert api.delete(f"/exchanges/%2F/{exchange}").status == 204
    assert api.delete(f"/exchanges/%2F/{exchange}").status == 404
    assert api.delete("/exchanges/%2F/amq.topic").status == 401


def test_an_exchange_counts_what_comes_in(amqp, api, channel):
    exchange, queue = amqp.exchange(channel, "fanout"), amqp.queue(channel)
    channel.queue_bind(queue, exchange)
    publish(channel, "", "1", "2", "3", exchange=exchange)
    told = api.wait(f"/exchanges/%2F/{exchange}", lambda told: told.get("message_stats", {}).get("publish_in") == 3)
    assert "rate" in told["message_stats"]["publish_in_details"]


def test_a_binding_is_known_by_its_key_and_arguments(amqp, api, channel):
    exchange, queue = amqp.exchange(channel, "topic"), amqp.queue(channel)
    between = f"/bindings/%2F/e/{exchange}/q/{queue}"
    plain = {"source": exchange, "vhost": "/", "destination": queue, "destination_type": "queue", "routing_key": "",
             "arguments": {}, "properties_key": "~"}
    assert api.post(between, {}).headers["Location"] == f"{queue}/~"
    assert api.get(between) == [plain] and api.get(f"{between}/~") == plain
    answer = api.post(between, {"routing_key": "a b/#", "arguments": {"z": 1}})
    assert answer.status == 201 and answer.headers["Location"].startswith(f"{queue}/a%2Bb%252F%2523~")
    found = {each["routing_key"]: each for each in api.get(between)}
    key = found["a b/#"]["properties_key"]
    assert found["a b/#"]["arguments"] == {"z": 1} and key.startswith("a+b%2F%23~")
    assert api.get(f"{between}/{quoted(key)}") == found["a b/#"]
    assert api.delete(f"{between}/nothing").status == 404
    assert api.delete(f"{between}/{quoted(key)}").status == 204
    assert api.get(between) == [plain]
    assert api.delete(f"{between}/~").status == 204
    assert api.get(between) == []


def test_bindings_are_seen_from_both_ends(amqp, api, channel):
    first, second, queue = amqp.exchange(channel), amqp.exchange(channel, "fanout"), amqp.queue(channel)
    assert api.post(f"/bindings/%2F/e/{first}/e/{second}", {"routing_key": "k"}).status == 201
    assert api.post(f"/bindings/%2F/e/{second}/q/{queue}", {"routing_key": "", "arguments": {}}).status == 201
    to_exchange, = api.get(f"/exchanges/%2F/{second}/bindings/destination")
    assert (to_exchange["source"], to_exchange["destination_type"], to_exchange["routing_key"]) == (first, "exchange", "k")
    assert api.get(f"/exchanges/%2F/{first}/bindings/source") == [to_exchange]
    assert [(each["source"], each["routing_key"]) for each in api.get(f"/queues/%2F/{queue}/bindings")] == [("", queue), (second, "")]
    everything = api.get("/bindings/%2F")
    assert to_exchange in everything and to_exchange in api.get("/bindings")
    assert ("", queue) in [(each["source"], each["destination"]) for each in everything]
    assert api.delete(f"/bindings/%2F/e/{first}/e/{second}/k").status == 204


@pytest.mark.parametrize("exchange, queue", [("nowhere", None), (None, "nowhere")])
def test_what_is_not_there_cannot_be_bound(amqp, api, channel, exchange, queue):
    answer = api.post(f"/bindings/%2F/e/{exchange or amqp.exchange(channel)}/q/{queue or amqp.queue(channel)}", {})
    assert (answer.status, answer.json["error"]) == (404, "not_found")


# --- messages

def publishing(key, payload="soup", encoding="string", **properties):
    return {"properties": properties, "routing_key": key, "payload": payload, "payload_encoding": encoding}


def getting(mode="ack_requeue_false", n=10, encoding="auto", **options):
    return {"count": n, "ackmode": mode, "encoding": encoding, **options}


def test_a_message_is_published_with_its_properties(amqp, api, channel):
    queue = amqp.queue(channel)
    given = {"delivery_mode": 2, "priority": 3, "content_type": "text/plain", "content_encoding": "utf-8", "correlation_id": "c",
             "reply_to": "r", "expiration": "60000", "message_id": "m", "timestamp": 1700000000, "type": "t", "app_id": "a",
             "headers": {"text": "x", "number": 5, "truth": True, "list": [1, "two"], "table": {"in": "side"}}}
    assert api.post("/exchanges/%2F/amq.default/publish", publishing(queue, "süß", **given)).json == {"routed": True}
    method, properties, body = get(channel, queue)
    assert body.decode() == "süß" and (method.exchange, method.routing_key) == ("", queue)
    assert {key: getattr(properties, key) for key in given} == given


def test_a_message_goes_nowhere(amqp, api):
    assert api.post("/exchanges/%2F/amq.default/publish", publishing("nowhere")).json == {"routed": False}
    assert api.post("/exchanges/%2F/nowhere/publish", publishing("key")).json == {
        "error": "bad_request", "reason": "404 NOT_FOUND - no exchange 'nowhere' in vhost '/'"}


@pytest.mark.parametrize("change", [{"properties": None}, {"routing_key": None}, {"payload": None}, {"payload_encoding": None},
                                    {"payload_encoding": "base65"}, {"payload": "%%%", "payload_encoding": "base64"}])
def test_a_message_that_makes_no_sense(amqp, api, channel, change):
    body = {key: value for key, value in {**publishing(amqp.queue(channel)), **change}.items() if value is not None}
    assert api.post("/exchanges/%2F/amq.default/publish", body).status == 400


def test_bytes_travel_as_base64(amqp, api, channel):
    queue = amqp.queue(channel)
    assert api.post("/exchanges/%2F/amq.default/publish", publishing(queue, "/wD+", "base64")).json == {"routed": True}
    told, = api.post(f"/queues/%2F/{queue}/get", getting("ack_requeue_true")).json
    assert (told["payload"], told["payload_encoding"], told["payload_bytes"]) == ("/wD+", "base64", 3)
    assert bodies(channel, queue) == [b"\xff\x00\xfe"]


def test_messages_are_looked_at_and_go_back(amqp, api, channel):
    queue = amqp.queue(channel)
    publish(channel, queue, "first", "second", headers={"a": 1})
    wait_count(channel, queue, 2)
    told = api.post(f"/queues/%2F/{queue}/get", getting("ack_requeue_true")).json
    assert [(each["payload"], each["redelivered"], each["message_count"]) for each in told] == [("first", False, 1), ("second", False, 0)]
    assert {key: told[0][key] for key in ("exchange", "routing_key", "payload_bytes", "payload_encoding", "properties")} == {
        "exchange": "", "routing_key": queue, "payload_bytes": 5, "payload_encoding": "string", "properties": {"headers": {"a": 1}}}
    again, = api.post(f"/queues/%2F/{queue}/get", getting("reject_requeue_true", n=1, encoding="base64", truncate=2)).json
    assert (again["payload"], again["payload_encoding"], again["redelivered"], again["payload_bytes"]) == ("Zmk=", "base64", True, 5)
    assert bodies(channel, queue, 2) == [b"first", b"second"]


def test_messages_are_taken_or_die(amqp, api, channel):
    dead = amqp.queue(channel)
    queue = amqp.queue(channel, {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    publish(channel, queue, "taken", "dead", "left")
    wait_count(channel, queue, 3)
    assert [each["payload"] for each in api.post(f"/queues/%2F/{queue}/get", getting(n=1)).json] == ["taken"]
    assert [each["payload"] for each in api.post(f"/queues/%2F/{queue}/get", getting("reject_requeue_false", n="1")).json] == ["dead"]
    wait_count(channel, dead, 1)
    told, = api.post(f"/queues/%2F/{dead}/get", getting()).json
    death, = told["properties"]["headers"]["x-death"]
    assert (death["queue"], death["reason"], death["count"]) == (queue, "rejected", 1)
    assert bodies(channel, queue) == [b"left"]
    assert api.post(f"/queues/%2F/{queue}/get", getting()).json == []


@pytest.mark.parametrize("change", [{"count": None}, {"ackmode": None}, {"encoding": None}, {"ackmode": "perhaps"}, {"encoding": "hex"},
                                    {"count": "many"}])
def test_a_get_that_makes_no_sense(amqp, api, channel, change):
    body = {key: value for key, value in {**getting(), **change}.items() if value is not None}
    assert api.post(f"/queues/%2F/{amqp.queue(channel)}/get", body).status in (400, 500)


def test_nothing_is_got_from_no_queue(api):
    assert api.post("/queues/%2F/nowhere/get", getting()).status == 404


# --- connections, channels, consumers

CONNECTION_KEYS = {"auth_mechanism", "channel_max", "channels", "client_properties", "connected_at", "frame_max", "host", "name", "node",
                   "peer_host", "peer_port", "port", "protocol", "recv_oct", "recv_oct_details", "send_oct", "send_oct_details",
                   "ssl", "state", "timeout", "type", "user", "vhost"}
CHANNEL_KEYS = {"acks_uncommitted", "confirm", "connection_details", "consumer_count", "global_prefetch_count", "messages_unacknowledged",
                "messages_uncommitted", "messages_unconfirmed", "name", "node", "number", "prefetch_count", "state", "transactional",
                "user", "vhost"}


@pytest.fixture
def busy(amqp, channel, api):
    """(connection's name, channel, queue): three were published, one of them is at a consumer with a tag."""
    queue = amqp.queue(channel)
    mine = amqp.name("mine")
    busy = amqp.connect(client_properties={"connection_name": mine, "nested": {"a": True}}, heartbeat=0).channel()
    busy.confirm_delivery()
    publish(busy, queue, "1", "2", "3")
    busy.basic_qos(prefetch_count=1)
    consumer = Consumer(busy, queue, consumer_tag="waiter", arguments={"x-priority": 3})
    consumer.wait(1)
    found = api.wait("/connections", lambda told: any(
        each.get("user_provided_name") == mine and CONNECTION_KEYS <= each.keys() for each in told))
    told, = [each for each in found if each.get("user_provided_name") == mine]
    return told, busy, queue


def test_a_connection_tells_who_it_is(amqp, api, busy):
    told, _, _ = busy
    peer = f"127.0.0.1:{told['peer_port']}"
    assert told["name"] == f"{peer} -> 127.0.0.1:{amqp.broker.port}"
    assert {key: told[key] for key in ("user", "vhost", "state", "type", "protocol", "ssl", "auth_mechanism", "port", "channels")} == {
        "user": "guest", "vhost": "/", "state": "running", "type": "network", "protocol": "AMQP 0-9-1", "ssl": False,
        "auth_mechanism": "PLAIN", "port": amqp.broker.port, "channels": 1}
    assert told["client_properties"]["nested"] == {"a": True}
    assert told["recv_oct"] > 100 and told["send_oct"] > 100
    assert abs(told["connected_at"] / 1000 - time.time()) < 60
    assert api.get(f"/connections/{quoted(told['name'])}")["name"] == told["name"]
    assert told["name"] in names(api.get("/vhosts/%2F/connections"))
    assert told["name"] not in names(api.get("/connections", user="limited"))


def test_a_channel_tells_what_it_does(amqp, api, busy):
    connection, _, _ = busy
    name = f"{connection['name']} (1)"
    stats = {"publish": 3, "confirm": 3, "deliver": 1, "deliver_get": 1, "ack": 0}
    told = with_name(api.wait("/channels", lambda told: any(
        each["name"] == name and stats.items() <= each.get("message_stats", {}).items() for each in told)), name)
    assert CHANNEL_KEYS <= told.keys()
    assert {key: told[key] for key in ("number", "confirm", "transactional", "prefetch_count", "global_prefetch_count",
                                       "consumer_count", "messages_unacknowledged", "messages_unconfirmed", "user", "vhost")} == {
        "number": 1, "confirm": True, "transactional": False, "prefetch_count": 1, "global_prefetch_count": 0,
        "consumer_count": 1, "messages_unacknowledged": 1, "messages_unconfirmed": 0, "user": "guest", "vhost": "/"}
    assert told["connection_details"]["name"] == connection["name"]
    assert names(api.get(f"/connections/{quoted(connection['name'])}/channels")) == [name]
    detail, = api.get(f"/channels/{quoted(name)}")["consumer_details"]
    assert detail["consumer_tag"] == "waiter"


def test_a_consumer_tells_what_it_consumes(api, busy):
    connection, _, queue = busy
    told, = [each for each in api.wait("/consumers", lambda told: any(each["queue"]["name"] == queue for each in told))
             if each["queue"]["name"] == queue]
    assert {key: told[key] for key in ("consumer_tag", "ack_required", "prefetch_count", "exclusive", "active", "activity_status",
                                       "arguments", "queue")} == {
        "consumer_tag": "waiter", "ack_required": True, "prefetch_count": 1, "exclusive": False, "active": True,
        "activity_status": "up", "arguments": {"x-priority": 3}, "queue": {"name": queue, "vhost": "/"}}
    assert told["channel_details"]["connection_name"] == connection["name"] and told["channel_details"]["number"] == 1
    assert queue in [each["queue"]["name"] for each in api.get("/consumers/%2F")]
    assert queue not in [each["queue"]["name"] for each in api.get("/consumers", user="other")]
    detail, = api.wait(f"/queues/%2F/{queue}", lambda told: told["consumer_details"])["consumer_details"]
    assert detail["consumer_tag"] == "waiter"


def test_a_connection_is_closed_by_hand(api, busy):
    told, channel, _ = busy
    assert api.ask("DELETE", f"/connections/{quoted(told['name'])}", user="limited").status in (401, 404)
    assert api.ask("DELETE", f"/connections/{quoted(told['name'])}", **{"X-Reason": "enough"}).status == 204
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="320.*CONNECTION_FORCED - enough"):
        channel.connection.sleep(10)
    api.wait("/connections", lambda connections: told["name"] not in names(connections))


# --- definitions

def test_definitions_are_exported_and_imported(amqp, api, channel):
    exchange, queue = amqp.exchange(channel, "headers", durable=True), amqp.queue(channel, {"x-max-length": 7}, durable=True)
    channel.queue_bind(queue, exchange, "key", {"x-match": "any", "dish": "soup"})
    told = api.get("/definitions")
    assert {"rabbit_version", "users", "vhosts", "permissions", "parameters", "policies", "queues", "exchanges", "bindings"} <= told.keys()
    assert with_name(told["users"], "guest").keys() >= {"password_hash", "hashing_algorithm", "tags"}
    assert {"name": "/"} in told["vhosts"]
    mine = {
        "exchanges": [with_name(told["exchanges"], exchange)],
        "queues": [with_name(told["queues"], queue)],
        "bindings": [each for each in told["bindings"] if each["destination"] == queue],
    }
    assert mine == {
        "exchanges": [{"name": exchange, "vhost": "/", "type": "headers", "durable": True, "auto_delete": False, "internal": False,
                       "arguments": {}}],
        "queues": [{"name": queue, "vhost": "/", "durable": True, "auto_delete": False, "arguments": {"x-max-length": 7}}],
        "bindings": [{"source": exchange, "vhost": "/", "destination": queue, "destination_type": "queue", "routing_key": "key",
                      "arguments": {"x-match": "any", "dish": "soup"}}]}
    channel.queue_delete(queue)
    channel.exchange_delete(exchange)
    assert api.post("/definitions", {"vhosts": [{"name": "/"}], **mine}).status == 204
    again = api.get("/definitions")
    assert [with_name(again["exchanges"], exchange), with_name(again["queues"], queue)] == mine["exchanges"] + mine["queues"]
    assert mine["bindings"][0] in again["bindings"]


def test_definitions_of_one_virtual_host(amqp, api):
    queue = amqp.name()
    body = {"queues": [{"name": queue, "durable": True, "auto_delete": False, "arguments": {}}]}
    assert api.post("/definitions/closed", body).status == 204
    try:
        told = api.get("/definitions/closed")
        assert with_name(told["queues"], queue) == body["queues"][0] and "users" not in told
    finally:
        assert api.delete(f"/queues/closed/{queue}", user="other").status == 204


@pytest.mark.parametrize("body", ["{bad", {"queues": [{"name": "made-up", "vhost": "nowhere", "durable": True, "auto_delete": False,
                                                       "arguments": {}}]}])
def test_definitions_that_make_no_sense(api, body):
    assert api.post("/definitions", body).status == 400


# --- rabbitmqadmin

@pytest.fixture
def rabbitmqadmin(broker):
    """rabbitmqadmin(arguments...): what it prints."""
    if not RABBITMQADMIN:
        pytest.skip("rabbitmq-server is not installed")

    def run(*arguments, code=0):
        done = subprocess.run(["/usr/bin/python3", "-B", RABBITMQADMIN[-1], "-P", str(broker.management_port), *arguments],
                              capture_output=True, text=True, timeout=30, env={**os.environ, "HOME": "/nonexistent"})
        assert done.returncode == code, done
        return done.stdout
    return run


def test_rabbitmqadmin_exports_and_imports(amqp, channel, rabbitmqadmin, tmp_path):
    queue = amqp.queue(channel, durable=True)
    assert "Exported definitions" in rabbitmqadmin("export", str(tmp_path / "all.json"))
    everything = json.loads((tmp_path / "all.json").read_text())
    mine = {"queues": [with_name(everything["queues"], queue)]}
    (tmp_path / "mine.json").write_text(json.dumps(mine))
    channel.queue_delete(queue)
    assert "Uploaded definitions" in rabbitmqadmin("import", str(tmp_path / "mine.json"))
    assert count(channel, queue) == 0


def test_rabbitmqadmin_shows_columns_and_sorts(amqp, channel, rabbitmqadmin):
    queue = amqp.queue(channel)
    lines = rabbitmqadmin("-f", "tsv", "-S", "name", "list", "queues", "name", "durable").splitlines()
    assert lines[0] == "name\tdurable" and f"{queue}\tFalse" in lines
    assert "rabbitmq_version" in rabbitmqadmin("show", "overview")
    for what in ("connections", "channels", "consumers", "policies", "parameters", "vhost_limits", "operator_policies"):
        rabbitmqadmin("list", what)


def test_rabbitmqadmin_deletes_a_binding_and_gets(amqp, channel, rabbitmqadmin):
    exchange, queue = amqp.exchange(channel, "topic"), amqp.queue(channel)
    channel.queue_bind(queue, exchange, "a.#")
    rabbitmqadmin("publish", f"exchange={exchange}", "routing_key=a.b", "payload=soup", 'properties={"delivery_mode":2}')
    assert "soup" in rabbitmqadmin("get", f"queue={queue}", "count=5")
    assert "binding deleted" in rabbitmqadmin("delete", "binding", f"source={exchange}", "destination_type=queue",
                                              f"destination={queue}", "properties_key=a.%23")
    assert "NOT routed" in rabbitmqadmin("publish", f"exchange={exchange}", "routing_key=a.b", "payload=soup")


def test_rabbitmqadmin_is_told_why_not(rabbitmqadmin):
    rabbitmqadmin("delete", "queue", "name=nowhere", code=1)
    rabbitmqadmin("declare", "exchange", "name=made-up", "type=sideways", code=1)
    rabbitmqadmin("-p", "wrong", "list", "queues", code=1)


# --- both interfaces at one address

AMQP_SECTION = ('amqp "127.0.0.1:{port}" {\n    user "guest" { password = "guest"  administrator = true }\n'
                '    user "limited" { password = "limited" }\n}\n')


@pytest.fixture
def both(maitred):
    """both(options of admin): (its own interface, RabbitMQ's)."""
    def start(options="", token=None):
        proxy = maitred(top('state = "{dir}/state"') + admin(options) + AMQP_SECTION + "queue orders {}\n")
        return admin_of(proxy, token), Api(proxy.port9), proxy
    return start


def test_who_asks_decides_where_both_have_a_path(both):
    own, api, _ = both()
    assert [each["name"] for each in json.loads(own.get("/api/queues").body)["queues"]] == ["orders"]
    assert names(api.get("/queues")) == ["orders"]
    assert json.loads(own.get("/api/queues/orders").body)["name"] == "orders"
    assert api.get("/queues/%2F/orders")["name"] == "orders"
    assert json.loads(own.get("/api/queues/orders/messages").body) == {"messages": []}
    assert api.ask("GET", "/queues/orders/messages").status == 404


def test_what_only_its_own_interface_has_is_open_to_users_as_to_all(both):
    _, api, _ = both()
    assert "listeners" in api.get("/state")
    assert "purged" in api.post("/queues/orders/purge", "").json["text"]


def test_a_token_opens_both(both):
    own, api, _ = both('token = "a-secret-of-some-length"', "a-secret-of-some-length")
    assert own.get("/api/queues").status == 200
    assert json.loads(own.get("/api/whoami").body) == {"name": "admin", "tags": ["administrator"]}
    assert names(api.get("/queues")) == ["orders"]
    for path in ("/state", "/queues", "/overview"):
        assert api.ask("GET", path, user=None).status == 401
    assert api.ask("GET", "/state").status == 401
    assert Admin(own.address, "a-wrong-secret-of-length").get("/api/overview").status == 401


def test_without_a_token_rabbitmqs_paths_ask_for_a_user(both):
    own, _, _ = both()
    assert own.get("/api/overview").status == 401
    assert own.get("/api/state").status == 200


def test_its_own_interface_shows_what_clients_declare(both):
    own, api, _ = both()
    kinds = {"drop-head": "dead-letter", "reject-publish": "reject-new", "reject-publish-dlx": "dead-letter-new"}
    for kind in kinds:
        assert api.put(f"/queues/%2F/{kind}", {"durable": True, "arguments": {"x-overflow": kind, "x-max-length": 9}}).status == 201
    found = {each["name"]: each for each in own.state()["queues"]}
    assert {kind: found[kind]["limits"]["overflow"] for kind in kinds} == kinds
    assert {found[kind]["state"] for kind in kinds} == {"running"}


def test_its_own_interface_tells_virtual_hosts_apart(maitred):
    proxy = maitred(top('state = "{dir}/state"') + admin() + AMQP_SECTION.replace("administrator = true", 'virtual-hosts = {"/", "inner"}'))
    api, own = Api(proxy.port9), admin_of(proxy)
    for vhost in ("%2F", "inner"):
        for name in ("one", "two"):
            assert api.put(f"/queues/{vhost}/{name}", {"durable": True}).status == 201
    wanted = ["inner/one", "inner/two", "one", "two"]
    assert sorted(each["name"] for each in own.state()["queues"]) == wanted
    assert sorted(labels["queue"] for labels, _ in own.metrics().all("maitred_queue_ready_messages")) == wanted


def test_a_name_with_a_nul_leads_to_no_other_virtual_host(maitred):
    proxy = maitred(top('state = "{dir}/state"') + admin() + AMQP_SECTION.replace(
        '"limited" { password = "limited" }', '"limited" { password = "limited"  virtual-hosts = {"inner"} }'))
    api, amqp = Api(proxy.port9), Amqp(type("Broker", (), {"port": proxy.port}))
    inner = amqp.channel(user="limited", virtual_host="inner")
    inner.queue_declare("secret")
    publish(inner, "secret", "theirs")
    wait_count(inner, "secret", 1)
    foreign = "inner\0secret"
    for attempt in (lambda channel: channel.basic_get(foreign),
                    lambda channel: channel.queue_declare(foreign),
                    lambda channel: channel.queue_purge(foreign),
                    lambda channel: channel.queue_delete(foreign),
                    lambda channel: channel.basic_consume(foreign, print),
                    lambda channel: channel.queue_bind(foreign, "amq.fanout"),
                    lambda channel: channel.exchange_declare(foreign),
                    lambda channel: channel.queue_declare("a", arguments={"x-dead-letter-exchange": foreign}),
                    lambda channel: channel.queue_declare("b", arguments={"x-dead-letter-exchange": "",
                                                                          "x-dead-letter-routing-key": foreign}),
                    lambda channel: (publish(channel, foreign, "ours"), channel.queue_declare("c")),
                    lambda channel: (publish(channel, "", "ours", exchange=foreign), channel.queue_declare("d"))):
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NUL"):
            attempt(amqp.channel())
    publish(amqp.channel(confirm=True), "nowhere", "ours", headers={"CC": [foreign]})
    assert api.post("/exchanges/%2F/amq.default/publish", publishing(foreign)).status == 400
    assert api.post("/definitions", {"queues": [{"name": "inner\0made-up", "vhost": "/", "durable": True}]}).status == 400
    assert bodies(inner, "secret") == [b"theirs"] and names(api.get("/queues/inner")) == ["secret"]
    amqp.close()


def test_users_and_virtual_hosts_are_the_configurations(both):
    _, api, _ = both()
    assert api.put("/vhosts/new", "").status == 405
    assert api.put("/users/new", {"password": "x", "tags": ""}).status == 405
    for wrong in ({"users": [{"name": "stranger"}]}, {"vhosts": [{"name": "nowhere"}]}, {"policies": [{"name": "ttl"}]}):
        answer = api.post("/definitions", {**wrong, "queues": [{"name": "made-up", "vhost": "/", "durable": True}]})
        assert answer.status == 400, answer
    assert names(api.get("/queues")) == ["orders"]


def test_passwords_are_in_definitions_alone(both):
    _, api, _ = both()
    assert api.get("/users/guest") == {"name": "guest", "tags": ["administrator"], "limits": {}}
    assert len(base64.b64decode(with_name(api.get("/definitions")["users"], "guest")["password_hash"])) == 36


def test_the_configurations_queues_stay(both):
    _, api, _ = both()
    assert api.delete("/queues/%2F/orders").status == 401
    assert names(api.get("/queues")) == ["orders"]


def test_pages_of_other_sites_may_not_act(both):
    _, api, _ = both()
    assert api.ask("PUT", "/queues/%2F/made-up", "{}", Origin="http://evil.example").status == 403
    assert api.ask("GET", "/queues", Origin="http://evil.example").status == 200
    assert api.ask("PUT", "/queues/%2F/made-up", "{}", Origin=f"http://127.0.0.1:{api.port}").status == 201


def test_a_name_that_was_made_to_mean_this_machine_is_told_nothing(both):
    _, api, _ = both()
    for host in ("evil.example", f"evil.example:{api.port}", "localhost.evil.example"):
        assert api.ask("GET", "/queues", Host=host).status == 403
        assert api.ask("PUT", "/queues/%2F/made-up", "{}", Host=host, Origin=f"http://{host}").status == 403
    for host in ("localhost", f"localhost:{api.port}", "127.0.0.1", f"[::1]:{api.port}"):
        assert api.ask("GET", "/queues", Host=host).status == 200
    assert names(api.get("/queues")) == ["orders"]


def test_a_reload_brings_other_users(both):
    own, api, proxy = both()
    assert api.get("/whoami", user="limited")["name"] == "limited"
    proxy.config.write_text(proxy.config.read_text().replace('"limited"', '"another"'))
    assert own.reload().status == 200
    assert api.ask("GET", "/whoami", user="limited").status == 401
    assert api.get("/whoami", user="another")["name"] == "another"


def test_json_that_is_too_deep_is_refused(both):
    _, api, _ = both()
    assert api.put("/queues/%2F/made-up", '{"arguments":' * 100 + "1" + "}" * 100).status == 400
    assert api.put("/queues/%2F/made-up", "[" * 100000).status == 400
    assert api.put("/queues/%2F/made-up", {"arguments": json.loads('{"a":' * 15 + "1" + "}" * 15)}).status == 201
    assert api.put("/queues/%2F/made-up-2", {"arguments": json.loads('{"a":' * 17 + "1" + "}" * 17)}).status == 400


def test_a_large_document_is_read_and_written(both):
    _, api, _ = both()
    queues = [{"name": f"queue-{i:05}", "vhost": "/", "durable": False, "auto_delete": False, "arguments": {}} for i in range(3000)]
    assert api.post("/definitions", {"queues": queues}).status == 204
    assert len(api.get("/queues")) == 3001
    assert names(api.get("/queues?page=3&page_size=100&sort=name")["items"])[0] == "queue-00199"


def test_connections_of_all_threads_are_seen(maitred):
    proxy = maitred(top('state = "{dir}/state"', threads=3) + admin() + AMQP_SECTION)
    api = Api(proxy.port9)
    broker = type("Broker", (), {"port": proxy.port})
    amqp = Amqp(broker)
    try:
        for _ in range(9):
            amqp.channel()
        assert len(api.get("/connections")) == len(api.get("/channels")) == 9
        assert api.get("/overview")["object_totals"]["connections"] == 9
    finally:
        amqp.close()
    api.wait("/connections", lambda told: told == [])
