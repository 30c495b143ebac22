"""AMQP: queues: declaring, binding, purging, deleting, and who may use which."""
import re

import pytest
from pika import spec
from pika.exceptions import ChannelClosedByBroker

from kit.amqp import Consumer, bodies, channel_closed, count, get, is_there, publish, wait_count, wait_gone
from kit.amqp_raw import frame

LOCKED = ("RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{}' in vhost '/'. It could be originally declared "
          "on another connection or the exclusive property value does not match that of the original declaration.")


@pytest.fixture
def channel(amqp):
    return amqp.channel()


def missing(name):
    return f"NOT_FOUND - no queue '{name}' in vhost '/'"


def inequivalent(name, what, received, current):
    return (f"PRECONDITION_FAILED - inequivalent arg '{what}' for queue '{name}' in vhost '/': "
            f"received {received} but current is {current}")


# --- declaring

def test_a_declaration_tells_the_name_and_what_is_in_the_queue(amqp, channel):
    name = amqp.queue_name()
    declared = channel.queue_declare(name).method
    assert (declared.queue, declared.message_count, declared.consumer_count) == (name, 0, 0)
    publish(channel, name, "one", "two")
    Consumer(amqp.channel(), name).channel.basic_qos(prefetch_count=1)
    other = amqp.queue(channel)
    publish(channel, other, "one", "two")
    wait_count(channel, other, 2)
    declared = channel.queue_declare(other).method
    assert (declared.message_count, declared.consumer_count) == (2, 0)
    assert channel.queue_declare(name, passive=True).method.consumer_count == 1


def test_unacknowledged_messages_are_not_counted(amqp, channel):
    queue = amqp.queue(channel)
    publish(channel, queue, "one", "two")
    get(channel, queue, ack=False)
    wait_count(channel, queue, 1)


def test_passive_asks_for_nothing_but_the_name(amqp, channel):
    queue = amqp.queue(channel, durable=True)
    channel.queue_declare(queue, passive=True, auto_delete=True, arguments={"x-expires": 5})


def test_passive_does_not_create(amqp, channel):
    name = amqp.name()
    with channel_closed(channel, 404, missing(name)):
        channel.queue_declare(name, passive=True)


def test_the_server_makes_up_a_name(amqp, channel):
    names = [channel.queue_declare("", exclusive=True).method.queue for _ in range(20)]
    assert len(set(names)) == 20
    assert all(re.fullmatch(r"amq\.gen-[A-Za-z0-9_-]{22}", name) for name in names), names


def test_no_name_is_the_last_name_that_was_declared_on_the_channel(amqp, channel):
    first, second = amqp.queue(channel), amqp.queue(channel)
    exchange = amqp.exchange(channel)
    channel.queue_bind("", exchange, "a")
    publish(channel, "a", "soup", exchange=exchange)
    wait_count(channel, second, 1)
    assert count(channel, first) == 0
    channel.queue_declare(second, passive=True)
    assert channel.basic_get("", auto_ack=True)[2] == b"soup"
    channel.queue_declare(first, passive=True)
    publish(channel, first, "tea")
    wait_count(channel, first, 1)
    assert channel.queue_purge("").method.message_count == 1


def test_no_key_is_the_last_name_too_when_binding_by_no_name(amqp, channel):
    queue, exchange = amqp.queue(channel), amqp.exchange(channel)
    raw = amqp.raw().open().open_channel()
    raw.method(1, spec.Queue.Declare(queue=queue))
    raw.expect(spec.Queue.DeclareOk)
    raw.method(1, spec.Queue.Bind(queue="", exchange=exchange, routing_key=""))
    raw.expect(spec.Queue.BindOk)
    publish(channel, queue, "soup", exchange=exchange)
    assert bodies(channel, queue) == [b"soup"]


def test_no_name_before_any_was_declared_is_404(channel):
    with channel_closed(channel, 404, "NOT_FOUND - no previously declared queue"):
        channel.basic_get("")


@pytest.mark.parametrize("name", ["amq.mine", "amq.gen-mine"])
def test_names_that_begin_with_amq_are_the_servers(channel, name):
    with channel_closed(channel, 403, f"ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*'"):
        channel.queue_declare(name)


@pytest.mark.parametrize("what, before, after, received, current", [
    ("durable", {}, {"durable": True}, "'true'", "'false'"),
    ("durable", {"durable": True}, {}, "'false'", "'true'"),
    ("auto_delete", {"auto_delete": True}, {}, "'false'", "'true'"),
    ("x-message-ttl", {"arguments": {"x-message-ttl": 60000}}, {}, "none", "the value '60000' of type 'signedint'"),
    ("x-message-ttl", {}, {"arguments": {"x-message-ttl": 60000}}, "the value '60000' of type 'signedint'", "none"),
    ("x-message-ttl", {"arguments": {"x-message-ttl": 60000}}, {"arguments": {"x-message-ttl": 5}}, "'5'", "'60000'"),
    ("x-dead-letter-exchange", {"arguments": {"x-dead-letter-exchange": "a"}},
     {"arguments": {"x-dead-letter-exchange": "b"}}, "'b'", "'a'"),
    ("x-max-length", {"arguments": {"x-max-length": 5}}, {"arguments": {"x-max-length": 6}}, "'6'", "'5'"),
    ("x-max-priority", {"arguments": {"x-max-priority": 5}}, {}, "none", "the value '5' of type 'signedint'"),
    ("x-overflow", {"arguments": {"x-overflow": "drop-head"}}, {"arguments": {"x-overflow": "reject-publish"}},
     "'reject-publish'", "'drop-head'"),
    ("x-expires", {"arguments": {"x-expires": 60000}}, {"arguments": {"x-expires": 60001}}, "'60001'", "'60000'"),
    ("x-single-active-consumer", {"arguments": {"x-single-active-consumer": True}}, {},
     "none", "the value 'true' of type 'bool'"),
])
def test_a_queue_that_is_there_but_differs_is_406(amqp, channel, what, before, after, received, current):
    name = amqp.queue_name()
    channel.queue_declare(name, **before)
    with channel_closed(channel, 406, inequivalent(name, what, received, current)):
        channel.queue_declare(name, **after)


def encoded(name, kind, value):
    pair = bytes([len(name)]) + name.encode() + kind + value
    return len(pair).to_bytes(4, "big") + pair


WIDTHS = {"b": 1, "B": 1, "s": 2, "u": 2, "I": 4, "i": 4, "l": 8, "L": 8, "T": 8}


@pytest.mark.parametrize("width", WIDTHS)
def test_an_argument_is_compared_by_its_value_and_not_by_its_width(amqp, width):
    raw = amqp.raw().open().open_channel()
    name = amqp.queue_name().encode()
    for kind in ("I", width, "l"):
        table = encoded("x-max-length", kind.encode(), (100).to_bytes(WIDTHS[kind], "big"))
        raw.send(frame(1, 1, b"\0\x32\0\x0a\0\0" + bytes([len(name)]) + name + b"\0" + table))
        raw.expect(spec.Queue.DeclareOk)


def test_arguments_that_nobody_knows_are_not_compared(amqp, channel):
    name = amqp.queue(channel, {"x-mine": 1, "mine": {"a": [1, 2]}})
    channel.queue_declare(name, arguments={"x-mine": 2})


def test_a_declaration_without_an_answer_has_none(amqp):
    raw = amqp.raw().open().open_channel()
    name = amqp.queue_name()
    raw.method(1, spec.Queue.Declare(queue=name, nowait=True))
    raw.method(1, spec.Queue.Declare(queue=name, passive=True))
    assert raw.expect(spec.Queue.DeclareOk, 1).queue == name
    raw.method(1, spec.Queue.Declare(queue=name, durable=True, nowait=True))
    raw.expect_channel_closed(1, 406, inequivalent(name, "durable", "'true'", "'false'"), 50, 10)


def test_a_name_may_have_any_letters(amqp, channel):
    name = amqp.queue_name("ünï /\\'\" \t")
    assert channel.queue_declare(name).method.queue == name
    publish(channel, name, "soup")
    assert bodies(channel, name) == [b"soup"]


# --- exclusive

@pytest.mark.parametrize("what", ["declare", "passive", "consume", "get", "purge", "delete", "bind"])
def test_an_exclusive_queue_is_its_connections_alone(amqp, channel, what):
    queue = amqp.queue(channel, exclusive=True)
    other = amqp.channel()
    with channel_closed(other, 405, LOCKED.format(queue)):
        {"declare": lambda: other.queue_declare(queue, exclusive=True),
         "passive": lambda: other.queue_declare(queue, passive=True),
         "consume": lambda: other.basic_consume(queue, print),
         "get": lambda: other.basic_get(queue),
         "purge": lambda: other.queue_purge(queue),
         "delete": lambda: other.queue_delete(queue),
         "bind": lambda: other.queue_bind(queue, "amq.direct", "a")}[what]()
    channel.queue_delete(queue)


def test_everybody_may_publish_to_an_exclusive_queue(amqp, channel):
    queue = amqp.queue(channel, exclusive=True)
    other = amqp.channel(confirm=True)
    publish(other, queue, "soup")
    assert bodies(channel, queue) == [b"soup"]
    channel.queue_delete(queue)


def test_an_exclusive_queue_may_be_used_by_other_channels_of_its_connection(amqp):
    connection = amqp.connect()
    first, second = connection.channel(), connection.channel()
    queue = amqp.queue(first, exclusive=True)
    second.queue_declare(queue, exclusive=True)
    publish(second, queue, "soup")
    first.close()
    assert bodies(second, queue) == [b"soup"]
    second.queue_delete(queue)


def test_an_exclusive_queue_goes_with_its_connection(amqp, channel):
    connection = amqp.connect()
    queue = amqp.queue(connection.channel(), exclusive=True, durable=True)
    connection.close()
    wait_gone(amqp, queue)


def test_an_exclusive_queue_goes_with_its_connection_when_that_is_lost(amqp, channel):
    raw = amqp.raw().open().open_channel()
    queue = amqp.queue_name()
    raw.method(1, spec.Queue.Declare(queue=queue, exclusive=True))
    raw.expect(spec.Queue.DeclareOk)
    raw.peer.reset()
    wait_gone(amqp, queue)


def test_a_queue_that_is_not_exclusive_cannot_become_so(amqp, channel):
    queue = amqp.queue(channel)
    with channel_closed(channel, 405, LOCKED.format(queue)):
        channel.queue_declare(queue, exclusive=True)


def test_a_queue_that_is_exclusive_cannot_become_everybodys(amqp, channel):
    queue = amqp.queue(channel, exclusive=True)
    with channel_closed(channel, 405, LOCKED.format(queue)):
        channel.queue_declare(queue)
    channel.connection.close()


# --- auto-delete

def test_a_queue_goes_with_its_last_consumer_if_it_was_declared_so(amqp, channel):
    queue = amqp.queue(channel, auto_delete=True)
    first, second = Consumer(channel, queue), Consumer(channel, queue)
    channel.basic_cancel(first.tag)
    assert is_there(amqp, queue)
    channel.basic_cancel(second.tag)
    assert not is_there(amqp, queue)


def test_a_queue_that_never_had_a_consumer_stays(amqp, channel):
    queue = amqp.queue(channel, auto_delete=True)
    publish(channel, queue, "soup")
    assert bodies(channel, queue) == [b"soup"]
    channel.connection.close()
    assert is_there(amqp, queue)


def test_a_queue_goes_when_the_channel_of_its_last_consumer_closes(amqp, channel):
    queue = amqp.queue(channel, auto_delete=True)
    other = amqp.channel()
    Consumer(other, queue)
    other.close()
    wait_gone(amqp, queue)


# --- purging

def test_a_purge_tells_how_many_it_took(amqp, channel):
    queue = amqp.queue(channel)
    publish(channel, queue, "1", "2", "3")
    wait_count(channel, queue, 3)
    assert channel.queue_purge(queue).method.message_count == 3
    assert channel.queue_purge(queue).method.message_count == 0


def test_a_purge_leaves_what_is_not_acknowledged(amqp, channel):
    queue = amqp.queue(channel)
    publish(channel, queue, "1", "2", "3")
    wait_count(channel, queue, 3)
    held = channel.basic_get(queue)[0]
    assert channel.queue_purge(queue).method.message_count == 2
    channel.basic_nack(held.delivery_tag)
    assert bodies(channel, queue) == [b"1"]


def test_purging_what_is_not_there_is_404(amqp, channel):
    name = amqp.name()
    with channel_closed(channel, 404, missing(name)):
        channel.queue_purge(name)


# --- deleting

def test_a_deletion_tells_how_many_it_took(amqp, channel):
    queue = amqp.queue(channel)
    publish(channel, queue, "1", "2", "3")
    wait_count(channel, queue, 3)
    channel.basic_get(queue)
    assert channel.queue_delete(queue).method.message_count == 2
    assert not is_there(amqp, queue)


def test_deleting_what_is_not_there_is_no_error(amqp, channel):
    assert channel.queue_delete(amqp.name()).method.message_count == 0


def test_a_queue_in_use_is_not_deleted_if_unused(amqp, channel):
    queue = amqp.queue(channel)
    Consumer(channel, queue)
    with channel_closed(channel, 406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use"):
        channel.queue_delete(queue, if_unused=True)


def test_a_queue_with_messages_is_not_deleted_if_empty(amqp, channel):
    queue = amqp.queue(channel)
    publish(channel, queue, "soup")
    wait_count(channel, queue, 1)
    with channel_closed(channel, 406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty"):
        channel.queue_delete(queue, if_empty=True)


def test_a_queue_is_deleted_if_it_is_unused_and_empty(amqp, channel):
    queue = amqp.queue(channel)
    channel.queue_delete(queue, if_unused=True, if_empty=True)
    assert not is_there(amqp, queue)


def test_a_queue_that_is_declared_anew_is_empty_and_unbound(amqp, channel):
    queue, exchange = amqp.queue(channel), amqp.exchange(channel)
    channel.queue_bind(queue, exchange, "a")
    publish(channel, queue, "old")
    channel.queue_delete(queue)
    channel.queue_declare(queue)
    publish(channel, "a", "lost", exchange=exchange)
    assert bodies(channel, queue) == []


def test_what_was_not_acknowledged_goes_with_its_queue(amqp, channel):
    queue = amqp.queue(channel)
    publish(channel, queue, "soup")
    held = channel.basic_get(queue)[0]
    channel.queue_delete(queue)
    channel.queue_declare(queue)
    channel.basic_ack(held.delivery_tag)
    assert bodies(channel, queue) == []


# --- binding

def test_binding_to_an_exchange_that_is_not_there_is_404(amqp, channel):
    queue, name = amqp.queue(channel), amqp.name()
    with channel_closed(channel, 404, f"NOT_FOUND - no exchange '{name}' in vhost '/'"):
        channel.queue_bind(queue, name, "a")


def test_binding_a_queue_that_is_not_there_is_404(amqp, channel):
    name = amqp.name()
    with channel_closed(channel, 404, missing(name)):
        channel.queue_bind(name, "amq.direct", "a")


def test_unbinding_what_never_was_bound_is_no_error(amqp, channel):
    channel.queue_unbind(amqp.queue(channel), amqp.exchange(channel), "a")


def test_unbinding_what_is_not_there_is_no_error_or_404(amqp, channel):
    queue, name = amqp.queue(channel), amqp.name()
    channel.queue_unbind(queue, name, "a")
    channel.queue_unbind(name, "amq.direct", "a")


def test_binding_twice_is_binding_once(amqp, channel):
    queue, exchange = amqp.queue(channel), amqp.exchange(channel)
    channel.queue_bind(queue, exchange, "a")
    channel.queue_bind(queue, exchange, "a")
    channel.queue_unbind(queue, exchange, "a")
    publish(channel, "a", "lost", exchange=exchange)
    assert bodies(channel, queue) == []


# --- who may

def test_a_limited_user_may_use_what_is_its_own(amqp):
    channel = amqp.channel(user="limited")
    queue = amqp.queue_name("mine")
    exchange = amqp.exchange_name("mine")
    channel.queue_declare(queue)
    channel.exchange_declare(exchange)
    channel.queue_bind(queue, exchange, "a")
    publish(channel, "a", "soup", exchange=exchange)
    assert bodies(channel, queue) == [b"soup"]
    channel.queue_delete(queue)
    channel.exchange_delete(exchange)


@pytest.mark.parametrize("what, access", [
    ("declare", "configure"), ("delete", "configure"), ("get", "read"), ("consume", "read"), ("purge", "read"),
    ("bind", "write")])
def test_a_limited_user_may_not_use_a_queue_of_others(amqp, channel, what, access):
    queue = amqp.queue(channel, arguments={})
    other = amqp.channel(user="limited")
    with channel_closed(other, 403, f"ACCESS_REFUSED - access to queue '{queue}' in vhost '/' refused for user 'limited'"):
        {"declare": lambda: other.queue_declare(queue), "delete": lambda: other.queue_delete(queue),
         "get": lambda: other.basic_get(queue), "consume": lambda: other.basic_consume(queue, print),
         "purge": lambda: other.queue_purge(queue), "bind": lambda: other.queue_bind(queue, "mine", "a")}[what]()


@pytest.mark.parametrize("what", ["declare", "delete", "publish", "bind"])
def test_a_limited_user_may_not_use_an_exchange_of_others(amqp, channel, what):
    exchange = amqp.exchange(channel)
    queue = amqp.queue_name("mine")
    channel.queue_declare(queue)
    other = amqp.channel(user="limited")
    with channel_closed(other, 403, f"ACCESS_REFUSED - access to exchange '{exchange}' in vhost '/' refused for user 'limited'"):
        {"declare": lambda: other.exchange_declare(exchange), "delete": lambda: other.exchange_delete(exchange),
         "publish": lambda: publish(other, "a", "soup", exchange=exchange),
         "bind": lambda: other.queue_bind(queue, exchange, "a")}[what]()


def test_a_limited_user_may_not_publish_through_the_default_exchange(amqp, channel):
    queue = amqp.queue_name("mine")
    channel.queue_declare(queue)
    other = amqp.channel(user="limited")
    with channel_closed(other, 403, "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'limited'"):
        publish(other, queue, "soup")


def test_a_limited_user_may_look_for_any_queue(amqp, channel):
    queue = amqp.queue(channel)
    amqp.channel(user="limited").queue_declare(queue, passive=True)


def test_a_limited_user_cannot_let_the_server_make_up_a_name(amqp):
    channel = amqp.channel(user="limited")
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.queue_declare("", exclusive=True)
    assert closed.value.reply_code == 403




@pytest.mark.parametrize("which", ["dead letters", "alternate"])
def test_a_limited_user_may_not_send_what_is_left_over_where_it_may_not_write(amqp, channel, which):
    exchange = amqp.exchange(channel)
    other = amqp.channel(user="limited")
    with channel_closed(other, 403, f"ACCESS_REFUSED - access to exchange '{exchange}' in vhost '/' refused for user 'limited'"):
        if which == "dead letters":
            other.queue_declare(amqp.queue_name("mine"), arguments={"x-dead-letter-exchange": exchange})
        else:
            other.exchange_declare(amqp.exchange_name("mine"), arguments={"alternate-exchange": exchange})


# --- without an answer

def test_what_needs_no_answer_gets_none(amqp, channel):
    raw = amqp.raw().open().open_channel()
    queue, exchange, other = amqp.queue_name(), amqp.exchange_name(), amqp.exchange_name()
    for method in (
            spec.Exchange.Declare(exchange=exchange, type="direct", nowait=True),
            spec.Exchange.Declare(exchange=other, type="fanout", nowait=True), spec.Queue.Declare(queue=queue, nowait=True),
            spec.Queue.Bind(queue=queue, exchange=exchange, routing_key="a", nowait=True),
            spec.Exchange.Bind(destination=exchange, source=other, routing_key="a", nowait=True),
            spec.Exchange.Unbind(destination=exchange, source=other, routing_key="a", nowait=True),
            spec.Basic.Consume(queue=queue, consumer_tag="mine", nowait=True), spec.Basic.Cancel(consumer_tag="mine", nowait=True),
            spec.Queue.Purge(queue=queue, nowait=True), spec.Queue.Delete(queue=queue, nowait=True),
            spec.Exchange.Delete(exchange=exchange, nowait=True), spec.Exchange.Delete(exchange=other, nowait=True),
            spec.Confirm.Select(nowait=True), spec.Channel.Flow(active=True)):
        raw.method(1, method)
    raw.expect(spec.Channel.FlowOk, 1)
    assert not is_there(amqp, queue)
