"""AMQP: channels, and frames that come where none may."""
import pytest
from pika import spec
from pika.exceptions import ChannelClosedByBroker

from kit.amqp import bodies, channel_closed, publish, settle
from kit.amqp_raw import body_frame, content_frame, frame, method_frame, numbered, publishing

PUBLISH = spec.Basic.Publish(routing_key="nowhere")


@pytest.fixture
def raw(amqp):
    """With channel 1 open."""
    return amqp.raw().open().open_channel()


# --- channels

def test_channels_of_one_connection_are_apart(amqp):
    connection = amqp.connect()
    first, second = connection.channel(), connection.channel()
    queue = amqp.queue(first)
    with channel_closed(first, 404, "NOT_FOUND - no exchange 'nowhere' in vhost '/'"):
        publish(first, queue, "lost", exchange="nowhere")
    publish(second, queue, "soup")
    assert bodies(second, queue) == [b"soup"]


def test_a_number_may_be_used_again_after_its_channel_was_closed(raw):
    for _ in range(5):
        raw.method(1, spec.Channel.Close(200, "", 0, 0))
        raw.expect(spec.Channel.CloseOk, 1)
        raw.open_channel(1)


def test_a_number_may_be_used_again_after_the_server_closed_its_channel(raw):
    for _ in range(5):
        raw.method(1, spec.Queue.Declare(queue="nowhere", passive=True))
        raw.expect_channel_closed(1, 404, "NOT_FOUND - no queue 'nowhere' in vhost '/'", 50, 10)
        raw.open_channel(1)


def test_what_comes_on_a_channel_after_its_close_is_passed_over(raw, amqp):
    queue = amqp.queue_name()
    raw.send(method_frame(1, spec.Queue.Declare(queue="nowhere", passive=True)),
             method_frame(1, spec.Queue.Declare(queue=queue)), publishing(1, queue, b"x"), method_frame(1, spec.Basic.Qos()))
    raw.expect_channel_closed(1, 404, "NOT_FOUND - no queue 'nowhere' in vhost '/'", 50, 10)
    raw.open_channel(1)
    raw.method(1, spec.Queue.Declare(queue=queue, passive=True))
    assert raw.expect(spec.Channel.Close, 1).reply_code == 404


def test_a_client_and_the_server_may_close_a_channel_at_once(raw):
    raw.send(method_frame(1, spec.Queue.Declare(queue="nowhere", passive=True)), method_frame(1, spec.Channel.Close(200, "", 0, 0)))
    raw.expect(spec.Channel.Close, 1)
    raw.expect(spec.Channel.CloseOk, 1)
    raw.method(1, spec.Channel.CloseOk())
    raw.open_channel(1)


def test_a_closed_channel_tells_which_method_it_was(amqp):
    raw = amqp.raw().open().open_channel(7)
    raw.method(7, spec.Basic.Consume(queue="nowhere"))
    raw.expect_channel_closed(7, 404, "NOT_FOUND - no queue 'nowhere' in vhost '/'", 60, 20)


@pytest.mark.parametrize("number", [1, 2, 2047, 65535])
def test_any_number_may_be_a_channels(amqp, number):
    amqp.raw().open().open_channel(number)


@pytest.mark.parametrize("order", [(5, 3, 9, 1, 4), (9, 5, 4, 3, 1), (65535, 1, 2, 700, 3)], ids=str)
def test_channels_may_be_opened_and_closed_in_any_order(amqp, order):
    raw = amqp.raw().open()
    for number in order:
        raw.open_channel(number)
    for number in order[1:]:
        raw.method(number, spec.Channel.Close(200, "", 0, 0))
        raw.expect(spec.Channel.CloseOk, number)
        raw.method(order[0], spec.Channel.Flow(active=True))
        raw.expect(spec.Channel.FlowOk, order[0])
        raw.open_channel(number)
        raw.method(number, spec.Channel.Flow(active=True))
        raw.expect(spec.Channel.FlowOk, number)


def test_a_channel_that_is_open_cannot_be_opened(raw):
    raw.method(1, spec.Channel.Open())
    raw.expect_connection_closed(504, "CHANNEL_ERROR - second 'channel.open' seen", 20, 10)


@pytest.mark.parametrize("method, ids", [(spec.Basic.Qos(), (60, 10)), (spec.Channel.Close(200, "", 0, 0), (20, 40)),
                                         (spec.Channel.CloseOk(), (20, 41))],
                         ids=["qos", "close", "close-ok"])
def test_a_method_on_a_channel_that_is_not_open_is_504(raw, method, ids):
    raw.method(5, method)
    raw.expect_connection_closed(504, "CHANNEL_ERROR - expected 'channel.open'", *ids)


@pytest.mark.parametrize("method, ids", [(spec.Channel.Open(), (20, 10)), (spec.Basic.Qos(), (60, 10))], ids=["open", "qos"])
def test_a_channels_method_on_channel_0_is_504(raw, method, ids):
    raw.method(0, method)
    raw.expect_connection_closed(504, "CHANNEL_ERROR - unexpected method in connection state running", *ids)


@pytest.mark.parametrize("method, ids", [
    (spec.Connection.TuneOk(1, 4096, 0), (10, 31)), (spec.Connection.Blocked("x"), (10, 60)),
    (spec.Connection.CloseOk(), (10, 51)), (spec.Channel.CloseOk(), (20, 41)), (spec.Basic.Publish(), (60, 40))],
    ids=["tune-ok", "blocked", "close-ok", "channel-close-ok", "publish"])
def test_so_is_what_comes_on_channel_0_too_late(raw, method, ids):
    raw.method(0, method)
    raw.expect_connection_closed(504, "CHANNEL_ERROR - unexpected method in connection state running", *ids)


@pytest.mark.parametrize("method, ids", [
    (spec.Connection.Open(virtual_host="/"), (10, 40)), (spec.Queue.DeclareOk("a", 0, 0), (50, 11)),
    (spec.Basic.CancelOk("a"), (60, 31)), (spec.Channel.OpenOk(), (20, 11)), (spec.Channel.CloseOk(), (20, 41)),
    (spec.Channel.FlowOk(active=True), (20, 21)), (spec.Connection.Close(200, "", 0, 0), (10, 50)),
    (spec.Tx.SelectOk(), (90, 11)), (spec.Confirm.SelectOk(), (85, 11)), (spec.Basic.RecoverOk(), (60, 111))],
    ids=["connection", "declare-ok", "cancel-ok", "open-ok", "close-ok", "flow-ok", "close", "tx", "confirm", "recover-ok"])
def test_a_method_that_is_not_the_clients_is_503(raw, method, ids):
    raw.method(1, method)
    raw.expect_connection_closed(503, "COMMAND_INVALID - unimplemented method", *ids)


def test_content_that_is_not_the_clients_is_503(raw):
    raw.send(method_frame(1, spec.Basic.Deliver("a", 1, False, "", "q")), content_frame(1, 0))
    raw.expect_connection_closed(503, "COMMAND_INVALID - unimplemented method", 60, 60)


def test_a_channel_cannot_be_stopped(raw):
    raw.method(1, spec.Channel.Flow(active=False))
    raw.expect_connection_closed(540, "NOT_IMPLEMENTED - active=false", 20, 20)


def test_a_channel_that_is_going_is_told_to_go(raw):
    raw.method(1, spec.Channel.Flow(active=True))
    assert raw.expect(spec.Channel.FlowOk, 1).active is True


def test_access_is_granted_to_whoever_asks(raw):
    """Clients of before 0-9-1 ask."""
    raw.send(numbered(1, 30, 10, b"\x01/\x00"))
    assert raw.expect(spec.Access.RequestOk, 1).ticket == 1


@pytest.mark.parametrize("class_id, method_id", [(99, 99), (60, 99), (10, 99), (0, 0), (65535, 65535)])
def test_an_unknown_method_ends_the_connection(raw, class_id, method_id):
    """RabbitMQ's reader stumbles, and the socket is gone; a connection.close does too."""
    raw.send(numbered(1, class_id, method_id))
    raw.expect_end(501, 503, 540)


# --- content

def test_a_content_header_without_a_method_is_505(raw):
    raw.send(content_frame(1, 5))
    raw.expect_connection_closed(505, "UNEXPECTED_FRAME - expected method frame, got non method frame instead")


@pytest.mark.parametrize("sent", [content_frame(5, 0), body_frame(5, b"x")], ids=["header", "body"])
def test_content_on_a_channel_that_is_not_open_is_505(raw, sent):
    raw.send(sent)
    raw.expect_connection_closed(505, "UNEXPECTED_FRAME - expected method frame, got non method frame instead")


def test_a_body_without_a_method_is_505(raw):
    raw.send(body_frame(1, b"abc"))
    raw.expect_connection_closed(505, "UNEXPECTED_FRAME - expected method frame, got non method frame instead")


@pytest.mark.parametrize("then", [method_frame(1, PUBLISH), body_frame(1, b"abc"), method_frame(1, spec.Basic.Qos()),
                                  content_frame(1, 3, weight=1)], ids=["publish", "body", "qos", "weight"])
def test_whatever_else_comes_in_place_of_a_content_header_is_505(raw, then):
    raw.send(method_frame(1, PUBLISH), then)
    raw.expect_connection_closed(
        505, "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead", 60, 40)


def test_a_content_header_of_another_class_is_505(raw):
    raw.send(method_frame(1, PUBLISH), content_frame(1, 3, class_id=50))
    raw.expect_connection_closed(
        505, "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead", 60, 40)


@pytest.mark.parametrize("then", [method_frame(1, PUBLISH), content_frame(1, 3)], ids=["method", "header"])
def test_whatever_else_comes_in_place_of_a_body_is_505(raw, then):
    raw.send(method_frame(1, PUBLISH), content_frame(1, 3), then)
    raw.expect_connection_closed(
        505, "UNEXPECTED_FRAME - expected content body, got non content body frame instead", 60, 40)


def test_other_channels_go_on_between_the_frames_of_a_message(raw, amqp):
    channel = amqp.channel()
    queue = amqp.queue(channel)
    raw.open_channel(2)
    publish_method = spec.Basic.Publish(routing_key=queue)
    raw.send(method_frame(1, publish_method), method_frame(2, publish_method), content_frame(1, 4), content_frame(2, 4),
             body_frame(2, b"so"), body_frame(1, b"te"), body_frame(2, b"up"), method_frame(2, spec.Channel.Flow(active=True)))
    raw.expect(spec.Channel.FlowOk, 2)
    raw.send(body_frame(1, b"a"), body_frame(1, b""), body_frame(1, b"s"), method_frame(1, spec.Channel.Flow(active=True)))
    raw.expect(spec.Channel.FlowOk, 1)
    assert bodies(channel, queue) == [b"soup", b"teas"]


def test_a_channel_may_be_closed_within_a_message(raw, amqp):
    channel = amqp.channel()
    queue = amqp.queue(channel)
    raw.open_channel(2)
    raw.send(method_frame(2, spec.Basic.Publish(routing_key=queue)), content_frame(2, 4), body_frame(2, b"so"))
    raw.close()
    assert bodies(channel, queue) == []


def test_immediate_is_not_implemented(raw):
    raw.send(method_frame(1, spec.Basic.Publish(routing_key="nowhere", immediate=True)), content_frame(1, 0))
    raw.expect_connection_closed(540, "NOT_IMPLEMENTED - immediate=true", 60, 40)


# --- frames

@pytest.mark.parametrize("sent, why", [
    (frame(1, 1, b"\0\x14\0\x14\1", end=b"\0"), "type 1, all octets = <<0,20,0,20,1>>: {invalid_frame_end_marker,0}"),
    (frame(9, 1, b"abc"), "type 9, all octets = <<\"abc\">>: unknown_frame"),
    (frame(9, 0, b"abc"), "type 9, all octets = <<\"abc\">>: unknown_frame"),
    (frame(2, 1, b"\0\x3c\0\0"), "type 2, all octets = <<0,60,0,0>>: unknown_frame"),
    (frame(1, 1, b""), "type 1, all octets = <<>>: unknown_frame"),
    (frame(8, 0, b"abc"), "type 8, all octets = <<\"abc\">>: unknown_frame"),
    (frame(1, 1, b"", size=0xffffffff), "type 1, all octets = <<>>: {frame_too_large,4294967295,131064}"),
    (frame(3, 1, b"", size=131073), "type 3, all octets = <<>>: {frame_too_large,131073,131064}"),
], ids=["end", "type", "type-0", "short-header", "empty-method", "heartbeat", "huge", "large"])
def test_a_frame_that_cannot_be_is_501(raw, sent, why):
    """RabbitMQ's own words for why are not to be copied: what they begin with is."""
    raw.send(sent)
    close = raw.expect(spec.Connection.Close, 0)
    assert close.reply_code == 501 and close.reply_text.startswith("FRAME_ERROR - "), close
    assert (close.class_id, close.method_id) == (0, 0)
    if raw.is_rabbitmq:
        assert close.reply_text == f"FRAME_ERROR - {why}"


@pytest.mark.parametrize("arguments", [b"\0\0", b"\0\0\1a\0\0\0\0\0x", b"\0\0\1a\0\0\0\0\x09\1x"],
                         ids=["early", "late", "table"])
def test_a_method_that_does_not_end_where_it_should_is_501(raw, arguments):
    raw.send(numbered(1, 50, 10, arguments))
    close = raw.expect(spec.Connection.Close, 0)
    assert close.reply_code == 501 and close.reply_text.startswith("FRAME_ERROR - ")
    assert (close.class_id, close.method_id) == (50, 10)


@pytest.mark.parametrize("sent", [body_frame(0, b"abc"), content_frame(0, 0), frame(8, 1, b"")],
                         ids=["body", "header", "heartbeat"])
def test_a_frame_on_a_channel_where_it_cannot_be_is_505(raw, sent):
    raw.send(sent)
    close = raw.expect(spec.Connection.Close, 0)
    assert close.reply_code == 505 and close.reply_text.startswith("UNEXPECTED_FRAME - "), close


def test_properties_that_end_early_end_the_connection(raw):
    raw.send(method_frame(1, PUBLISH), content_frame(1, 3, flags=b"\x80\0\x20abc"), body_frame(1, b"abc"))
    raw.expect_end(501, 502, 541)


def test_frames_may_come_in_any_pieces(raw, amqp):
    channel = amqp.channel()
    queue = amqp.queue(channel)
    sent = publishing(1, queue, b"soup") + method_frame(1, spec.Channel.Flow(active=True))
    for at in range(len(sent)):
        raw.send(sent[at:at + 1])
    raw.expect(spec.Channel.FlowOk)
    assert bodies(channel, queue) == [b"soup"]


def test_many_channels_are_open_at_once(amqp):
    connection = amqp.connect()
    channels = [connection.channel() for _ in range(200)]
    queue = amqp.queue(channels[0])
    for number, channel in enumerate(channels):
        publish(channel, queue, str(number))
        settle(channel)
    assert len(bodies(channels[-1], queue)) == 200


def test_a_channel_is_closed_by_its_client(amqp):
    connection = amqp.connect()
    channel = connection.channel()
    channel.close()
    assert channel.is_closed and connection.is_open


def test_two_errors_on_one_channel_are_one(amqp):
    channel = amqp.channel()
    with pytest.raises(ChannelClosedByBroker) as closed:
        publish(channel, "a", "1", exchange="nowhere")
        publish(channel, "a", "2", exchange="nowhere-either")
        settle(channel)
    assert closed.value.reply_text == "NOT_FOUND - no exchange 'nowhere' in vhost '/'"
    amqp_channel = channel.connection.channel()
    settle(amqp_channel)


def test_a_channel_that_failed_may_be_closed_before_that_is_heard(raw):
    raw.send(publishing(1, "a", b"lost", "nowhere"), method_frame(1, spec.Channel.Close(200, "", 0, 0)))
    assert raw.expect(spec.Channel.Close, 1).reply_code == 404
    raw.expect(spec.Channel.CloseOk, 1)
    raw.method(1, spec.Channel.CloseOk())
    raw.open_channel(1)


@pytest.mark.parametrize("method", [spec.Basic.Qos(), spec.Queue.Declare(queue="", exclusive=True), spec.Confirm.Select(),
                                    spec.Basic.Get(queue="nowhere"), spec.Channel.Flow(active=True)],
                         ids=["qos", "declare", "confirm", "get", "flow"])
def test_no_answer_overtakes_the_end_of_the_channel(raw, method):
    raw.send(publishing(1, "a", b"lost", "nowhere"), method_frame(1, method))
    raw.expect_channel_closed(1, 404, "NOT_FOUND - no exchange 'nowhere' in vhost '/'", 60, 40)


def test_an_exchange_that_was_there_may_be_gone(raw, amqp):
    channel = amqp.channel()
    exchange = amqp.exchange(channel)
    raw.send(publishing(1, "a", b"lost", exchange), method_frame(1, spec.Channel.Flow(active=True)))
    raw.expect(spec.Channel.FlowOk, 1)
    channel.exchange_delete(exchange)
    raw.send(publishing(1, "a", b"lost", exchange))
    raw.expect_channel_closed(1, 404, f"NOT_FOUND - no exchange '{exchange}' in vhost '/'", 60, 40)
