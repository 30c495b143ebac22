"""AMQP: which arguments a queue may have, and what a wrong one is answered. Clients show these texts to people."""
import pytest

from kit.amqp import channel_closed, publish, wait_count

QUORUM = {"x-queue-type": "quorum"}


@pytest.fixture
def channel(amqp):
    return amqp.channel()


def invalid(name, argument, why):
    return f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{name}' in vhost '/'{why}"


def refused(amqp, channel, arguments, argument, why, **options):
    name = amqp.queue_name()
    with channel_closed(channel, 406, invalid(name, argument, why)):
        channel.queue_declare(name, arguments=arguments, **options)


NUMBERS = ["x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes", "x-max-priority", "x-queue-version"]


@pytest.mark.parametrize("value, kind", [("5", "longstr"), (None, "void"), (True, "bool"), ([], "array"), ({}, "table")],
                         ids=["text", "void", "bool", "array", "table"])
@pytest.mark.parametrize("argument", NUMBERS)
def test_a_number_must_be_one(amqp, channel, argument, value, kind):
    refused(amqp, channel, {argument: value}, argument, f': "expected integer, got {kind}"')


@pytest.mark.parametrize("argument", NUMBERS[:5])
def test_a_number_must_not_be_negative(amqp, channel, argument):
    refused(amqp, channel, {argument: -1}, argument, ": {value_negative,-1}")


@pytest.mark.parametrize("argument", ["x-message-ttl", "x-expires"])
def test_a_time_may_be_ten_years(amqp, channel, argument):
    amqp.queue(channel, {argument: 315360000000})
    refused(amqp, channel, {argument: 315360000001}, argument, ": {value_too_large,315360000001}")


def test_an_expiry_of_0_is_refused(amqp, channel):
    refused(amqp, channel, {"x-expires": 0}, "x-expires", ": {value_zero,0}")


@pytest.mark.parametrize("argument, value", [
    ("x-message-ttl", 0), ("x-max-length", 0), ("x-max-length", 2 ** 63 - 1), ("x-max-length-bytes", 0),
    ("x-max-length-bytes", 2 ** 63 - 1), ("x-max-priority", 0), ("x-max-priority", 255), ("x-queue-mode", "lazy"),
    ("x-queue-mode", "default"), ("x-queue-version", 1), ("x-queue-version", 2), ("x-queue-type", "classic"),
    ("x-overflow", "drop-head"), ("x-overflow", "reject-publish"), ("x-overflow", "reject-publish-dlx"),
    ("x-single-active-consumer", False), ("x-dead-letter-exchange", ""), ("x-dead-letter-exchange", "nobody-made-it"),
    ("x-consumer-timeout", 5), ("x-mine", "anything"), ("mine", None)])
def test_what_may_be_is_accepted(amqp, channel, argument, value):
    name = amqp.queue(channel, {argument: value})
    channel.queue_declare(name, arguments={argument: value})


def test_a_priority_over_255_is_refused(amqp, channel):
    refused(amqp, channel, {"x-max-priority": 256}, "x-max-priority", ": {max_value_exceeded,256}")


@pytest.mark.parametrize("argument", ["x-dead-letter-exchange"])
@pytest.mark.parametrize("value, kind", [(5, "signedint"), (True, "bool")])
def test_a_name_must_be_text(amqp, channel, argument, value, kind):
    name = amqp.queue_name()
    with channel_closed(channel, 406, f"PRECONDITION_FAILED - invalid type '{kind}' for arg '{argument}' in queue '{name}' "
                                      "in vhost '/'"):
        channel.queue_declare(name, arguments={argument: value})


@pytest.mark.parametrize("argument", ["x-dead-letter-routing-key", "x-overflow", "x-queue-mode", "x-queue-type"])
@pytest.mark.parametrize("value, kind", [(5, "signedint"), (True, "bool")])
def test_a_word_must_be_text(amqp, channel, argument, value, kind):
    refused(amqp, channel, {argument: value}, argument, f": {{unacceptable_type,{kind}}}")


@pytest.mark.parametrize("value, kind", [(5, "signedint"), ("true", "longstr")])
def test_a_switch_must_be_a_bool(amqp, channel, value, kind):
    refused(amqp, channel, {"x-single-active-consumer": value}, "x-single-active-consumer", f": {{unacceptable_type,{kind}}}")


@pytest.mark.parametrize("argument, why", [
    ("x-overflow", ": invalid_overflow"), ("x-queue-mode", ": \"unsupported queue mode 'nonsense'\""),
    ("x-queue-type", ": \"unsupported queue type 'nonsense'\"")])
def test_a_word_must_be_known(amqp, channel, argument, why):
    refused(amqp, channel, {argument: "nonsense"}, argument, why)


def test_a_version_must_be_known(amqp, channel):
    refused(amqp, channel, {"x-queue-version": 3}, "x-queue-version", ": \"unsupported queue version '3'\"")


@pytest.mark.parametrize("argument, value, why", [
    ("x-dead-letter-strategy", "nonsense", "invalid_dlx_strategy"), ("x-queue-leader-locator", "nonsense", "invalid_queue_locator_arg"),
    ("x-quorum-initial-group-size", 0, "{value_zero,0}"), ("x-max-in-memory-length", -1, "{value_negative,-1}"),
    ("x-max-in-memory-bytes", "5", '"expected integer, got longstr"')])
def test_so_must_be_a_quorum_queues(amqp, channel, argument, value, why):
    refused(amqp, channel, {**QUORUM, argument: value}, argument, f": {why}", durable=True)


@pytest.mark.parametrize("argument, value", [
    ("x-dead-letter-strategy", "at-least-once"), ("x-dead-letter-strategy", "at-most-once"), ("x-delivery-limit", 5),
    ("x-delivery-limit", 0), ("x-delivery-limit", -1), ("x-queue-leader-locator", "client-local"),
    ("x-queue-leader-locator", "balanced"), ("x-quorum-initial-group-size", 3), ("x-max-in-memory-length", 0),
    ("x-overflow", "reject-publish-dlx"), ("x-single-active-consumer", True)])
def test_what_a_quorum_queue_may_have_is_accepted(amqp, channel, argument, value):
    name = amqp.queue(channel, {**QUORUM, argument: value}, durable=True)
    channel.queue_declare(name, durable=True, arguments={**QUORUM, argument: value})


def test_the_first_fault_is_told(amqp, channel):
    refused(amqp, channel, {"x-expires": "a", "x-queue-type": "nonsense"}, "x-queue-type", ": \"unsupported queue type 'nonsense'\"")
    refused(amqp, amqp.channel(), {"x-max-priority": 500, "x-expires": -1}, "x-expires", ": {value_negative,-1}")
    refused(amqp, amqp.channel(), {"x-max-age": "1D", "x-expires": -1}, "x-expires", ": {value_negative,-1}")
    with channel_closed(other := amqp.channel(), 403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'"):
        other.queue_declare("amq.mine", arguments={"x-expires": -1})


def test_void_is_no_value_that_differs(amqp, channel):
    name = amqp.queue(channel, {"x-expires": 100000})
    with channel_closed(channel, 406, f"PRECONDITION_FAILED - inequivalent arg 'x-expires' for queue '{name}' in vhost '/': "
                                      "received none but current is '100000'"):
        channel.queue_declare(name, arguments={"x-expires": None})


def test_a_dead_letter_key_needs_an_exchange(amqp, channel):
    refused(amqp, channel, {"x-dead-letter-routing-key": "a"}, "x-dead-letter-routing-key", ": routing_key_but_no_dlx_defined")
    amqp.queue(amqp.channel(), {"x-dead-letter-routing-key": "a", "x-dead-letter-exchange": ""})


@pytest.mark.parametrize("argument", ["x-delivery-limit", "x-dead-letter-strategy", "x-max-in-memory-length", "x-max-age",
                                      "x-queue-leader-locator", "x-quorum-initial-group-size"])
def test_what_is_another_types_is_refused_for_a_classic_queue(amqp, channel, argument):
    refused(amqp, channel, {argument: 5}, argument, " of queue type rabbit_classic_queue")


@pytest.mark.parametrize("argument, value", [("x-max-priority", 5), ("x-queue-mode", "lazy"), ("x-max-age", "1D")])
def test_what_is_a_classic_queues_is_refused_for_a_quorum_queue(amqp, channel, argument, value):
    refused(amqp, channel, {**QUORUM, argument: value}, argument, " of queue type rabbit_quorum_queue", durable=True)


@pytest.mark.parametrize("options, what", [({}, "non-durable"), ({"durable": True, "auto_delete": True}, "auto-delete"),
                                           ({"durable": True, "exclusive": True}, "exclusive-owner")])
def test_a_quorum_queue_is_durable_and_everybodys(amqp, channel, options, what):
    name = amqp.queue_name()
    with channel_closed(channel, 406, f"PRECONDITION_FAILED - invalid property '{what}' for queue '{name}' in vhost '/'"):
        channel.queue_declare(name, arguments=QUORUM, **options)


def test_classic_is_what_a_queue_without_a_type_is(amqp, channel):
    name = amqp.queue(channel)
    channel.queue_declare(name, arguments={"x-queue-type": "classic"})
    name = amqp.queue(channel, {"x-queue-type": "classic"})
    channel.queue_declare(name)


@pytest.mark.parametrize("before, after, received, current", [
    (QUORUM, {}, "none", "the value 'quorum' of type 'longstr'"),
    ({}, QUORUM, "the value 'quorum' of type 'longstr'", "none")], ids=["quorum", "classic"])
def test_a_type_cannot_be_changed(amqp, channel, before, after, received, current):
    name = amqp.queue(channel, before, durable=True)
    with channel_closed(channel, 406, f"PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue '{name}' in vhost '/': "
                                      f"received {received} but current is {current}"):
        channel.queue_declare(name, arguments=after, durable=True)


def test_an_invalid_argument_of_a_queue_that_is_there_is_one_that_differs(amqp, channel):
    name = amqp.queue(channel)
    publish(channel, name, "soup")
    with channel_closed(channel, 406, f"PRECONDITION_FAILED - inequivalent arg 'x-expires' for queue '{name}' in vhost '/': "
                                      "received the value '0' of type 'signedint' but current is none"):
        channel.queue_declare(name, arguments={"x-expires": 0})
    wait_count(amqp.channel(), name, 1)
