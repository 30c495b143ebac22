"""AMQP: exchanges: what may be declared, what may be deleted, and which names are whose."""
import pytest
from pika import spec
from pika.exceptions import UnroutableError

from kit.amqp import bodies, channel_closed, connection_closed, publish, settle
from kit.amqp_raw import numbered


@pytest.fixture
def channel(amqp):
    return amqp.channel()


def inequivalent(name, what, received, current, kind="exchange"):
    return (f"PRECONDITION_FAILED - inequivalent arg '{what}' for {kind} '{name}' in vhost '/': "
            f"received {received} but current is {current}")


# --- declaring

@pytest.mark.parametrize("kind", ["direct", "fanout", "topic", "headers"])
def test_an_exchange_may_be_declared_twice(amqp, channel, kind):
    name = amqp.exchange(channel, kind)
    channel.exchange_declare(name, kind)
    channel.exchange_declare(name, passive=True)


def test_passive_asks_for_nothing_but_the_name(amqp, channel):
    name = amqp.exchange(channel, "fanout", durable=True, auto_delete=True)
    channel.exchange_declare(name, "topic", passive=True)


def test_passive_does_not_create(amqp, channel):
    name = amqp.name()
    with channel_closed(channel, 404, f"NOT_FOUND - no exchange '{name}' in vhost '/'"):
        channel.exchange_declare(name, passive=True)


@pytest.mark.parametrize("what, before, after, received, current", [
    ("type", {"exchange_type": "direct"}, {"exchange_type": "fanout"}, "'fanout'", "'direct'"),
    ("durable", {}, {"durable": True}, "'true'", "'false'"),
    ("durable", {"durable": True}, {}, "'false'", "'true'"),
    ("auto_delete", {"auto_delete": True}, {}, "'false'", "'true'"),
    ("internal", {"internal": True}, {}, "'false'", "'true'"),
    ("alternate-exchange", {"arguments": {"alternate-exchange": "a"}}, {},
     "none", "the value 'a' of type 'longstr'"),
    ("alternate-exchange", {}, {"arguments": {"alternate-exchange": "a"}},
     "the value 'a' of type 'longstr'", "none"),
    ("alternate-exchange", {"arguments": {"alternate-exchange": "b"}}, {"arguments": {"alternate-exchange": "a"}},
     "'a'", "'b'"),
])
def test_an_exchange_that_is_there_but_differs_is_406(amqp, channel, what, before, after, received, current):
    name = amqp.exchange_name()
    channel.exchange_declare(name, **before)
    with channel_closed(channel, 406, inequivalent(name, what, received, current)):
        channel.exchange_declare(name, **after)


def test_arguments_of_an_exchange_that_nobody_knows_are_not_compared(amqp, channel):
    name = amqp.exchange(channel, arguments={"x-mine": 1})
    channel.exchange_declare(name, arguments={"x-mine": 2, "x-other": "a"})


def test_an_unknown_type_is_503(amqp, channel):
    name = amqp.exchange_name()
    with connection_closed(channel, 503, "COMMAND_INVALID - unknown exchange type 'x-nonsense'"):
        channel.exchange_declare(name, "x-nonsense")


def test_an_empty_type_is_503(amqp, channel):
    with connection_closed(channel, 503, "COMMAND_INVALID - invalid exchange type ''"):
        channel.exchange_declare(amqp.exchange_name(), "")


def test_names_that_begin_with_amq_are_the_servers(channel):
    with channel_closed(channel, 403, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'"):
        channel.exchange_declare("amq.mine")


@pytest.mark.parametrize("name, kind", [("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"),
                                        ("amq.headers", "headers"), ("amq.match", "headers")])
def test_the_servers_exchanges_are_there_and_durable(channel, name, kind):
    channel.exchange_declare(name, passive=True)
    channel.exchange_declare(name, kind, durable=True)


def test_a_declaration_without_an_answer_has_none(amqp):
    raw = amqp.raw().open().open_channel()
    name = amqp.exchange_name()
    raw.method(1, spec.Exchange.Declare(exchange=name, type="direct", nowait=True))
    raw.method(1, spec.Exchange.Declare(exchange=name, type="direct", passive=True))
    raw.expect(spec.Exchange.DeclareOk, 1)
    raw.method(1, spec.Exchange.Declare(exchange=name, type="fanout", nowait=True))
    raw.expect_channel_closed(1, 406, inequivalent(name, "type", "'fanout'", "'direct'"), 40, 10)


def test_a_name_may_have_any_letters(amqp, channel):
    name = amqp.exchange_name("ünï /\\'\"")
    channel.exchange_declare(name)
    channel.exchange_declare(name, passive=True)


def test_a_name_may_have_255_bytes(amqp, channel):
    name = amqp.exchange_name("x" * 230)
    name += "y" * (255 - len(name))
    amqp.exchanges.append(name)
    channel.exchange_declare(name)
    channel.exchange_declare(name, passive=True)


# --- deleting

def test_a_deleted_exchange_is_gone(amqp, channel):
    name = amqp.exchange(channel)
    channel.exchange_delete(name)
    with channel_closed(channel, 404, f"NOT_FOUND - no exchange '{name}' in vhost '/'"):
        channel.exchange_declare(name, passive=True)


def test_deleting_what_is_not_there_is_no_error(channel, amqp):
    channel.exchange_delete(amqp.name())


def test_an_exchange_in_use_is_not_deleted_if_unused(amqp, channel):
    name, queue = amqp.exchange(channel), amqp.queue(channel)
    channel.queue_bind(queue, name, "a")
    with channel_closed(channel, 406, f"PRECONDITION_FAILED - exchange '{name}' in vhost '/' in use"):
        channel.exchange_delete(name, if_unused=True)


def test_an_unused_exchange_is_deleted_if_unused(amqp, channel):
    name, queue = amqp.exchange(channel), amqp.queue(channel)
    channel.queue_bind(queue, name, "a")
    channel.queue_unbind(queue, name, "a")
    channel.exchange_delete(name, if_unused=True)


def test_the_servers_exchanges_cannot_be_deleted(channel):
    with channel_closed(channel, 403, "ACCESS_REFUSED - deletion of system exchange 'amq.topic' in vhost '/' not allowed"):
        channel.exchange_delete("amq.topic")


def test_an_exchange_goes_with_its_last_binding_if_it_was_declared_so(amqp, channel):
    name, queues = amqp.exchange(channel, auto_delete=True), [amqp.queue(channel), amqp.queue(channel)]
    for queue in queues:
        channel.queue_bind(queue, name, "a")
    channel.queue_unbind(queues[0], name, "a")
    channel.exchange_declare(name, passive=True)
    channel.queue_delete(queues[1])
    with channel_closed(channel, 404, f"NOT_FOUND - no exchange '{name}' in vhost '/'"):
        channel.exchange_declare(name, passive=True)


def test_an_exchange_that_never_was_bound_stays(amqp, channel):
    name = amqp.exchange(channel, auto_delete=True)
    settle(channel)
    channel.exchange_declare(name, passive=True)


def test_bindings_go_with_their_exchange(amqp, channel):
    name, queue = amqp.exchange(channel), amqp.queue(channel)
    channel.queue_bind(queue, name, "a")
    channel.exchange_delete(name)
    channel.exchange_declare(name)
    publish(channel, "a", "lost", exchange=name)
    assert bodies(channel, queue) == []


# --- the default exchange

def test_every_queue_is_bound_to_the_default_exchange_by_its_name(amqp, channel):
    queue = amqp.queue(channel)
    publish(channel, queue, "soup")
    assert bodies(channel, queue) == [b"soup"]


@pytest.mark.parametrize("what", ["bind", "unbind", "declare", "passive", "delete", "bind-exchange"])
def test_the_default_exchange_is_left_alone(amqp, channel, what):
    queue, other = amqp.queue(channel), amqp.exchange(channel)
    with channel_closed(channel, 403, "ACCESS_REFUSED - operation not permitted on the default exchange"):
        {"bind": lambda: channel.queue_bind(queue, "", "a"),
         "unbind": lambda: channel.queue_unbind(queue, "", queue),
         "declare": lambda: channel.exchange_declare("", durable=True),
         "passive": lambda: channel.exchange_declare("", passive=True),
         "delete": lambda: channel.exchange_delete(""),
         "bind-exchange": lambda: channel.exchange_bind(other, "", "a")}[what]()


# --- publishing to one

def test_publishing_to_an_exchange_that_is_not_there_is_404(amqp, channel):
    name = amqp.name()
    with channel_closed(channel, 404, f"NOT_FOUND - no exchange '{name}' in vhost '/'"):
        publish(channel, "a", "lost", exchange=name)


def test_nobody_publishes_to_an_internal_exchange(amqp, channel):
    name = amqp.exchange(channel, "fanout", internal=True)
    with channel_closed(channel, 403, f"ACCESS_REFUSED - cannot publish to internal exchange '{name}' in vhost '/'"):
        publish(channel, "a", "lost", exchange=name)


def test_an_internal_exchange_takes_from_others(amqp, channel):
    inner, outer, queue = amqp.exchange(channel, "fanout", internal=True), amqp.exchange(channel), amqp.queue(channel)
    channel.exchange_bind(inner, outer, "a")
    channel.queue_bind(queue, inner)
    publish(channel, "a", "soup", exchange=outer)
    assert bodies(channel, queue) == [b"soup"]


# --- what an exchange has no queue for

def test_what_goes_nowhere_goes_to_the_alternate_exchange(amqp, channel):
    other, queue = amqp.exchange(channel, "fanout"), amqp.queue(channel)
    channel.queue_bind(queue, other)
    name, routed = amqp.exchange(channel, arguments={"alternate-exchange": other}), amqp.queue(channel)
    channel.queue_bind(routed, name, "known")
    publish(channel, "known", "one", exchange=name)
    publish(channel, "unknown", "two", exchange=name)
    assert bodies(channel, routed) == [b"one"] and bodies(channel, queue) == [b"two"]


def test_alternate_exchanges_may_form_a_chain_and_a_circle(amqp, channel):
    first, second, queue = amqp.exchange_name(), amqp.exchange_name(), amqp.queue(channel)
    channel.exchange_declare(first, arguments={"alternate-exchange": second})
    channel.exchange_declare(second, arguments={"alternate-exchange": first})
    channel.queue_bind(queue, second, "a")
    publish(channel, "a", "soup", exchange=first)
    publish(channel, "b", "lost", exchange=first)
    assert bodies(channel, queue) == [b"soup"]


def test_an_alternate_exchange_that_is_not_there_is_no_error(amqp):
    channel = amqp.channel(confirm=True)
    name = amqp.exchange(channel, arguments={"alternate-exchange": amqp.name()})
    publish(channel, "a", "lost", exchange=name)
    with pytest.raises(UnroutableError):
        channel.basic_publish(name, "a", b"lost", mandatory=True)


def test_what_the_alternate_exchange_takes_is_not_returned(amqp):
    channel = amqp.channel(confirm=True)
    other, queue = amqp.exchange(channel, "fanout"), amqp.queue(channel)
    channel.queue_bind(queue, other)
    name = amqp.exchange(channel, arguments={"alternate-exchange": other})
    channel.basic_publish(name, "a", b"soup", mandatory=True)
    assert bodies(channel, queue) == [b"soup"]


def test_an_alternate_exchange_must_be_a_name(amqp, channel):
    name = amqp.exchange_name()
    with channel_closed(channel, 406, "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in "
                                      f"exchange '{name}' in vhost '/'"):
        channel.exchange_declare(name, arguments={"alternate-exchange": 5})


# --- from an exchange to an exchange

def test_exchanges_may_be_bound_to_exchanges(amqp, channel):
    source, target, queue = amqp.exchange(channel, "topic"), amqp.exchange(channel, "direct"), amqp.queue(channel)
    channel.exchange_bind(target, source, "a.#")
    channel.queue_bind(queue, target, "a.b")
    publish(channel, "a.b", "soup", exchange=source)
    publish(channel, "a.c", "lost", exchange=source)
    publish(channel, "b.b", "lost", exchange=source)
    assert bodies(channel, queue) == [b"soup"]
    channel.exchange_unbind(target, source, "a.#")
    publish(channel, "a.b", "lost", exchange=source)
    assert bodies(channel, queue) == []


def test_bound_exchanges_may_form_a_circle(amqp, channel):
    first, second, queue = amqp.exchange(channel, "fanout"), amqp.exchange(channel, "fanout"), amqp.queue(channel)
    channel.exchange_bind(first, second)
    channel.exchange_bind(second, first)
    channel.queue_bind(queue, first)
    channel.queue_bind(queue, second)
    publish(channel, "", "once", exchange=first)
    assert bodies(channel, queue) == [b"once"]


def test_binding_to_an_exchange_that_is_not_there_is_404(amqp, channel):
    name, missing = amqp.exchange(channel), amqp.name()
    with channel_closed(channel, 404, f"NOT_FOUND - no exchange '{missing}' in vhost '/'"):
        channel.exchange_bind(name, missing)


def test_a_binding_of_a_target_that_is_not_there_is_404(amqp, channel):
    name, missing = amqp.exchange(channel), amqp.name()
    with channel_closed(channel, 404, f"NOT_FOUND - no exchange '{missing}' in vhost '/'"):
        channel.exchange_bind(missing, name)


def test_unbinding_what_never_was_bound_is_no_error(amqp, channel):
    channel.exchange_unbind(amqp.exchange(channel), amqp.exchange(channel), "a")


def test_the_answer_to_exchange_unbind_has_number_51(amqp):
    raw = amqp.raw().open().open_channel()
    first, second = amqp.exchange_name(), amqp.exchange_name()
    for name in (first, second):
        raw.method(1, spec.Exchange.Declare(exchange=name, type="direct"))
        raw.expect(spec.Exchange.DeclareOk)
    raw.method(1, spec.Exchange.Unbind(destination=first, source=second))
    assert raw.read_frame() == (1, 1, b"\0\x28\0\x33")
    raw.send(numbered(1, 20, 20, b"\1"))
    raw.expect(spec.Channel.FlowOk)
