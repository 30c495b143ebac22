"""AMQP: publishing: confirmations, returns, properties and bodies."""
import datetime
import decimal
import struct

import pika
import pytest
from pika import spec
from pika.exceptions import NackError, UnroutableError

from kit.amqp import bodies, channel_closed, count, get, publish, settle
from kit.amqp_raw import body_frame, content_frame, method_frame, publishing


@pytest.fixture
def channel(amqp):
    return amqp.channel()


@pytest.fixture
def confirming(amqp):
    """A raw connection whose channel 1 confirms."""
    raw = amqp.raw().open().open_channel()
    raw.method(1, spec.Confirm.Select())
    raw.expect(spec.Confirm.SelectOk)
    return raw


def answered(raw, wanted):
    """Reads confirmations until the tags 1 to wanted all have one: {tag: "ack" or "nack"}, in the order in which they came."""
    found = {}
    while len(found) < wanted:
        method = raw.read_method()[1]
        assert isinstance(method, (spec.Basic.Ack, spec.Basic.Nack)), method
        first = min(set(range(1, wanted + 1)) - found.keys()) if method.multiple else method.delivery_tag
        for tag in range(first, method.delivery_tag + 1):
            if tag not in found:
                found[tag] = "ack" if isinstance(method, spec.Basic.Ack) else "nack"
    return found


# --- confirmations

def test_an_expiration_may_be_as_long_as_one_likes(amqp, channel):
    queue = amqp.queue(channel)
    publish(channel, queue, "x", expiration="99999999999")
    assert get(channel, queue)[1].expiration == "99999999999"


def test_a_message_is_confirmed_once_it_is_in_its_queue(amqp):
    channel = amqp.channel(confirm=True)
    queue = amqp.queue(channel, durable=True)
    for number in range(20):
        publish(channel, queue, str(number), delivery_mode=2)
        assert count(channel, queue) == number + 1


def test_a_message_that_goes_nowhere_is_confirmed(confirming, amqp):
    confirming.send(publishing(1, amqp.name(), b"lost"))
    assert answered(confirming, 1) == {1: "ack"}


def test_confirmations_count_from_1_on_each_channel(amqp, confirming):
    queue = amqp.queue(amqp.channel())
    confirming.open_channel(2)
    confirming.send(publishing(2, queue, b"not counted"))
    confirming.method(2, spec.Confirm.Select())
    confirming.expect(spec.Confirm.SelectOk, 2)
    confirming.send(publishing(2, queue, b"a"))
    assert confirming.expect(spec.Basic.Ack, 2).delivery_tag == 1


def test_every_message_is_confirmed_however_many_are_on_their_way(amqp, confirming):
    queue = amqp.queue(amqp.channel(), durable=True)
    confirming.send(*[publishing(1, queue, b"%d" % number) for number in range(500)])
    assert answered(confirming, 500) == {tag: "ack" for tag in range(1, 501)}
    assert bodies(amqp.channel(), queue) == [b"%d" % number for number in range(500)]


def test_selecting_confirmations_twice_changes_nothing(amqp, confirming):
    confirming.send(publishing(1, amqp.name(), b"lost"))
    assert answered(confirming, 1) == {1: "ack"}
    confirming.method(1, spec.Confirm.Select())
    confirming.expect(spec.Confirm.SelectOk)
    confirming.send(publishing(1, amqp.name(), b"lost"))
    assert confirming.expect(spec.Basic.Ack).delivery_tag == 2


def test_confirmations_may_be_selected_without_an_answer(amqp):
    raw = amqp.raw().open().open_channel()
    raw.send(method_frame(1, spec.Confirm.Select(nowait=True)), publishing(1, amqp.name(), b"lost"))
    assert raw.expect(spec.Basic.Ack).delivery_tag == 1


def test_a_message_for_many_queues_is_confirmed_once(amqp, confirming):
    channel = amqp.channel()
    exchange = amqp.exchange(channel, "fanout")
    for _ in range(5):
        channel.queue_bind(amqp.queue(channel, durable=True), exchange)
    confirming.send(*[publishing(1, "", b"x", exchange) for _ in range(3)], method_frame(1, spec.Channel.Flow(active=True)))
    found = set()
    while len(found) < 3:
        method = confirming.read_method()[1]
        if isinstance(method, spec.Basic.Ack):
            found |= set(range(1, method.delivery_tag + 1)) if method.multiple else {method.delivery_tag}
    confirming.method(1, spec.Channel.Close(200, "", 0, 0))
    while not isinstance(method := confirming.read_method()[1], spec.Channel.CloseOk):
        assert isinstance(method, spec.Channel.FlowOk), method


def test_a_full_queue_that_rejects_answers_nack(amqp):
    channel = amqp.channel(confirm=True)
    queue = amqp.queue(channel, {"x-max-length": 2, "x-overflow": "reject-publish"})
    publish(channel, queue, "1", "2")
    with pytest.raises(NackError):
        publish(channel, queue, "3")
    assert bodies(channel, queue) == [b"1", b"2"]
    publish(channel, queue, "4")


def test_one_of_many_queues_that_rejects_is_a_nack(amqp):
    channel = amqp.channel(confirm=True)
    full, other, exchange = (amqp.queue(channel, {"x-max-length": 0, "x-overflow": "reject-publish"}), amqp.queue(channel),
                             amqp.exchange(channel, "fanout"))
    for queue in (full, other):
        channel.queue_bind(queue, exchange)
    with pytest.raises(NackError):
        publish(channel, "", "soup", exchange=exchange)
    assert bodies(channel, other) == [b"soup"]


def test_a_channel_that_the_server_closes_confirms_no_more(amqp, confirming):
    confirming.send(publishing(1, "a", b"lost", "nowhere"))
    confirming.expect_channel_closed(1, 404, "NOT_FOUND - no exchange 'nowhere' in vhost '/'", 60, 40)


# --- returns

def test_what_is_mandatory_and_goes_nowhere_comes_back(amqp, channel):
    returned = []
    channel.add_on_return_callback(lambda *come: returned.append(come[1:]))
    key = amqp.name()
    channel.basic_publish("", key, b"soup", pika.BasicProperties(headers={"a": 1}, message_id="7"), mandatory=True)
    settle(channel)
    (method, properties, body), = returned
    assert (method.reply_code, method.reply_text) == (312, "NO_ROUTE")
    assert (method.exchange, method.routing_key, body) == ("", key, b"soup")
    assert (properties.headers, properties.message_id) == ({"a": 1}, "7")


def test_a_return_comes_before_its_confirmation(amqp, confirming):
    confirming.send(method_frame(1, spec.Basic.Publish(routing_key=amqp.name(), mandatory=True)), content_frame(1, 4),
                    body_frame(1, b"soup"))
    assert confirming.expect(spec.Basic.Return, 1).reply_code == 312
    assert confirming.read_frame()[0] == 2
    assert confirming.read_frame() == (3, 1, b"soup")
    assert confirming.expect(spec.Basic.Ack, 1).delivery_tag == 1


def test_what_is_mandatory_and_goes_somewhere_does_not_come_back(amqp):
    channel = amqp.channel(confirm=True)
    queue = amqp.queue(channel)
    channel.basic_publish("", queue, b"soup", mandatory=True)
    with pytest.raises(UnroutableError):
        channel.basic_publish("", amqp.name(), b"soup", mandatory=True)
    assert bodies(channel, queue) == [b"soup"]


def test_what_goes_nowhere_is_lost_unless_it_is_mandatory(amqp, channel):
    returned = []
    channel.add_on_return_callback(lambda *come: returned.append(come))
    publish(channel, amqp.name(), "lost")
    settle(channel)
    assert returned == []


# --- bodies

@pytest.mark.parametrize("size", [0, 1, 4088, 131064, 131065, 2 * 131064, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_a_body_comes_as_it_went(amqp, channel, size):
    queue = amqp.queue(channel)
    body = bytes(number * 7 & 255 for number in range(251)) * (size // 251 + 1)
    publish(channel, queue, body[:size])
    assert get(channel, queue)[2] == body[:size]


@pytest.mark.parametrize("frame_max", [4096, 4097, 65536])
def test_bodies_are_cut_as_each_client_has_agreed(amqp, channel, frame_max):
    queue = amqp.queue(channel)
    body = b"abcdefghi" * 20000
    small = amqp.channel(frame_max=max(frame_max, 4096))
    publish(small, queue, body)
    held = get(channel, queue, ack=False)
    assert held[2] == body
    channel.connection.close()
    assert get(small, queue)[2] == body


def test_a_message_without_a_body_has_no_body_frame(amqp):
    raw = amqp.raw().open().open_channel()
    queue = amqp.queue(amqp.channel())
    raw.send(publishing(1, queue, b""), method_frame(1, spec.Basic.Get(queue=queue)))
    raw.expect(spec.Basic.GetOk)
    assert raw.read_frame() == (2, 1, struct.pack(">HHQH", 60, 0, 0, 0))
    raw.method(1, spec.Channel.Flow(active=True))
    raw.expect(spec.Channel.FlowOk)


# --- properties

EVERY = {"content_type": "text/plain", "content_encoding": "gzip", "headers": {"a": 1}, "delivery_mode": 2, "priority": 9,
         "correlation_id": "c", "reply_to": "r", "expiration": "60000", "message_id": "m", "timestamp": 1700000000, "type": "t",
         "user_id": "guest", "app_id": "app", "cluster_id": "cl"}


@pytest.mark.parametrize("name", [*EVERY, "all", "none"])
def test_a_property_comes_as_it_went(amqp, channel, name):
    given = EVERY if name == "all" else {} if name == "none" else {name: EVERY[name]}
    queue = amqp.queue(channel)
    publish(channel, queue, "x", **given)
    properties = get(channel, queue)[1]
    assert {each: value for each in EVERY if (value := getattr(properties, each)) is not None} == given


@pytest.mark.parametrize("name", ["content_type", "correlation_id", "reply_to", "message_id", "type", "app_id"])
@pytest.mark.parametrize("value", ["", "x" * 255, "ünï"], ids=["empty", "255", "utf-8"])
def test_a_property_may_be_any_short_string(amqp, channel, name, value):
    queue = amqp.queue(channel)
    publish(channel, queue, "x", **{name: value})
    assert getattr(get(channel, queue)[1], name) == value


VALUES = {
    "bool": True, "false": False, "zero": 0, "negative": -5, "i32": 2 ** 31 - 1, "i32 least": -2 ** 31, "i64": 2 ** 31,
    "i64 most": 2 ** 63 - 1, "text": "ünï", "empty": "",
    "long text": "x" * 70000, "void": None, "array": [1, "a", None, [True, []], {"b": 2}], "empty array": [],
    "table": {"a": {"b": {"c": [1]}}}, "empty table": {}, "decimal": decimal.Decimal("1.25"), "bytes": b"\0\xff\1",
    "time": datetime.datetime(2026, 1, 31, 12, 0, 0)}


@pytest.mark.parametrize("name", VALUES)
def test_a_header_comes_as_it_went(amqp, channel, name):
    queue = amqp.queue(channel)
    publish(channel, queue, "x", headers={"h": VALUES[name]})
    assert get(channel, queue)[1].headers == {"h": VALUES[name]}


def test_all_headers_come_as_they_went(amqp, channel):
    queue = amqp.queue(channel)
    publish(channel, queue, "x", headers=VALUES)
    assert get(channel, queue)[1].headers == VALUES


def raw_header(raw, queue, field):
    """What the content header's table reads after a message with this field, named h, went through the queue."""
    table = b"\1h" + field
    payload = struct.pack(">HHQH", 60, 0, 0, 0x2000) + struct.pack(">I", len(table)) + table
    raw.send(method_frame(1, spec.Basic.Publish(routing_key=queue)), struct.pack(">BHI", 2, 1, len(payload)) + payload + b"\xce",
             method_frame(1, spec.Basic.Get(queue=queue, no_ack=True)))
    raw.expect(spec.Basic.GetOk)
    header = raw.read_frame()[2]
    assert header[:14] == payload[:14] and header[18:20] == b"\1h", header
    return header[20:]


FIELDS = [
    b"t\1", b"t\0", b"b\xfb", b"B\xfb", b"s\xff\xfb", b"u\xff\xfb", b"I\xff\xff\xff\xfb",
    b"i\xff\xff\xff\xfb", b"l" + b"\xff" * 8, b"L" + b"\xff" * 8, b"f\x3f\x80\0\0",
    b"d\x3f\xf0" + bytes(6), b"D\2\0\0\0\x7d", b"S\0\0\0\1a", b"S\0\0\0\2\xff\xfe", b"A\0\0\0\0",
    b"A\0\0\0\2t\1", b"T\0\0\0\0\x69\x55\x72\x10", b"F\0\0\0\0", b"V", b"x\0\0\0\2\0\xff",
    b"F\0\0\0\4\1at\1"]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: repr(field)[2:-1])
def test_a_field_of_every_type_comes_as_it_went(amqp, field):
    raw = amqp.raw().open().open_channel()
    queue = amqp.queue(amqp.channel())
    assert raw_header(raw, queue, field) == field


def test_headers_keep_their_order_and_their_doubles(amqp):
    raw = amqp.raw().open().open_channel()
    queue = amqp.queue(amqp.channel())
    rest = b"t\1" + b"\1bt\1" + b"\1at\0" + b"\1ht\0"
    assert raw_header(raw, queue, rest) == rest


# --- what is refused

@pytest.mark.parametrize("user", ["limited", "nobody", ""])
def test_a_user_id_that_is_not_the_logins_is_406(amqp, channel, user):
    with channel_closed(channel, 406, f"PRECONDITION_FAILED - user_id property set to '{user}' but authenticated user was 'guest'"):
        publish(channel, "a", "x", user_id=user)


EXPIRATIONS = {"": "no_integer", "x": "no_integer", "-1": "{value_negative,-1}", "1.5": '{leftover_string,".5"}',
               " 1": "no_integer", "1 ": '{leftover_string," "}'}


@pytest.mark.parametrize("expiration", EXPIRATIONS)
def test_an_expiration_that_is_no_number_is_406(amqp, channel, expiration):
    with channel_closed(channel, 406, f"PRECONDITION_FAILED - invalid expiration '{expiration}': {EXPIRATIONS[expiration]}"):
        publish(channel, amqp.queue(channel), "x", expiration=expiration)


@pytest.mark.parametrize("name", ["CC", "BCC"])
def test_carbon_copies_must_be_a_list(amqp, channel, name):
    with channel_closed(channel, 406, f'PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,"{name}",longstr}}'):
        publish(channel, amqp.queue(channel), "x", headers={name: "a"})


@pytest.mark.parametrize("expiration", ["+50", "-0", "007", "315360000000"])
def test_an_expiration_is_what_erlang_reads_as_a_number(amqp, channel, expiration):
    publish(channel, amqp.name(), "x", expiration=expiration)
    settle(channel)


def test_an_expiration_may_be_ten_years(amqp, channel):
    with channel_closed(channel, 406, "PRECONDITION_FAILED - invalid expiration '315360000001': {value_too_large,315360000001}"):
        publish(channel, amqp.name(), "x", expiration="315360000001")


def test_carbon_copies_that_are_no_text_are_passed_over(amqp, channel):
    first, second = amqp.queue(channel), amqp.queue(channel)
    publish(channel, first, "x", headers={"CC": [5, second, None, True]})
    assert bodies(channel, first, 1) == bodies(channel, second, 1) == [b"x"]


def test_a_carbon_copy_that_is_refused_is_in_no_queue(amqp, channel):
    queue = amqp.queue(channel)
    with channel_closed(channel, 406, 'PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,"CC",signedint}'):
        publish(channel, queue, "x", headers={"BCC": 5, "CC": 5})
    assert bodies(amqp.channel(), queue) == []


def test_a_priority_over_the_queues_is_the_queues(amqp, channel):
    queue = amqp.queue(channel, {"x-max-priority": 3})
    publish(channel, queue, "1", priority=3)
    publish(channel, queue, "2", priority=200)
    publish(channel, queue, "3", priority=3)
    assert bodies(channel, queue) == [b"1", b"2", b"3"]


def test_a_message_that_is_refused_is_in_no_queue(amqp, channel):
    queue = amqp.queue(channel)
    with channel_closed(channel, 406, "PRECONDITION_FAILED - user_id property set to 'x' but authenticated user was 'guest'"):
        publish(channel, queue, "x", user_id="x")
    assert bodies(amqp.channel(), queue) == []
