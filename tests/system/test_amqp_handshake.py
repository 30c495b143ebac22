"""AMQP: how a connection begins, what is agreed on, how it is refused, and when it is dropped."""
import struct
import time

import pytest
from pika import spec
from pika.exceptions import (AMQPConnectionError, ConnectionClosedByBroker, ProbableAccessDeniedError,
                             ProbableAuthenticationError)

from kit.amqp import differs, ours, wait_gone
from kit.amqp_raw import CLIENT, HEADER, HEARTBEAT, frame, method_frame, numbered

REFUSED = ("ACCESS_REFUSED - Login was refused using authentication mechanism {}. "
           "For details see the broker logfile.")


def answer_start(raw, response, mechanism="PLAIN"):
    raw.method(0, spec.Connection.StartOk(client_properties=CLIENT, mechanism=mechanism, response=response, locale="en_US"))


def start_ok(raw, response, mechanism="PLAIN"):
    raw.send(HEADER)
    raw.expect(spec.Connection.Start, 0)
    answer_start(raw, response, mechanism)


# --- the protocol header

@pytest.mark.parametrize("header", [b"AMQP\0\0\x09\x02", b"AMQP\1\1\0\x0a", b"AMQP\0\1\0\0", b"HTTP/1.1", b"GET / HTTP/1.1\r\n\r\n",
                                    b"AMQP\0\0\x08\0", b"\0\0\0\0\0\0\0\0"],
                         ids=["0-9-2", "0-10", "1-0", "http", "get", "0-8-0", "zeroes"])
def test_a_wrong_protocol_header_is_answered_with_the_right_one(amqp, header):
    raw = amqp.raw()
    raw.send(header)
    assert raw.peer.read_to_end() == HEADER


@pytest.mark.parametrize("header", [b"AMQP\0\0\x09\x01", b"AMQP\1\1\0\x09", b"AMQP\1\1\x08\0"], ids=["0-9-1", "0-9", "0-8"])
def test_headers_of_0_9_and_0_8_begin_a_connection_too(amqp, header):
    raw = amqp.raw()
    raw.send(header)
    start = raw.expect(spec.Connection.Start, 0)
    assert (start.version_major, start.version_minor) in ((0, 9), (8, 0))


def test_a_header_may_come_in_pieces(amqp):
    raw = amqp.raw()
    for at in range(len(HEADER)):
        raw.send(HEADER[at:at + 1])
    raw.expect(spec.Connection.Start, 0)


def test_a_client_that_leaves_within_the_header_does_no_harm(amqp):
    amqp.raw().send(HEADER[:5]).close()
    amqp.channel()


# --- who the server is

def test_the_server_offers_plain_and_amqplain_in_english(amqp):
    start = amqp.raw().start()
    assert (start.version_major, start.version_minor) == (0, 9)
    assert set(start.mechanisms.split()) >= {b"PLAIN", b"AMQPLAIN"}
    assert start.locales == b"en_US"


def test_the_server_says_what_it_is_and_can_do(amqp):
    properties = amqp.raw().start().server_properties
    assert {"product", "version", "platform", "copyright", "information", "cluster_name",
            "capabilities"} <= properties.keys()
    assert all(isinstance(properties[name], str) for name in ("product", "version", "platform", "cluster_name"))
    assert properties["capabilities"] == {
        "publisher_confirms": True, "exchange_exchange_bindings": True, "basic.nack": True,
        "consumer_cancel_notify": True, "connection.blocked": True, "consumer_priorities": True,
        "authentication_failure_close": True, "per_consumer_qos": True, "direct_reply_to": True}


# --- who the client is

def test_a_wrong_password_is_told_to_a_client_that_can_hear_it(amqp):
    raw = amqp.raw()
    raw.start(password="wrong")
    close = raw.expect(spec.Connection.Close, 0)
    assert (close.reply_code, close.reply_text) == (403, REFUSED.format("PLAIN"))
    assert (close.class_id, close.method_id) == (0, 0)


@pytest.mark.parametrize("user", ["guest", "nobody", ""])
def test_pika_sees_a_refused_login_as_403(amqp, user):
    with pytest.raises(ProbableAuthenticationError) as refused:
        amqp.connect(user=user, password="wrong")
    assert "ACCESS_REFUSED" in str(refused.value)


def test_a_client_that_cannot_hear_of_a_refused_login_is_dropped(amqp):
    raw = amqp.raw()
    raw.start(client={"product": "old"}, password="wrong")
    raw.expect_dropped()


def table(*pairs):
    """Of long strings, without its length."""
    return b"".join(struct.pack("B", len(name)) + name + b"S" + struct.pack(">I", len(value)) + value for name, value in pairs)


def test_amqplain_is_a_table_without_its_length(amqp):
    raw = amqp.raw()
    start_ok(raw, table((b"LOGIN", b"guest"), (b"PASSWORD", b"guest")).decode("latin-1"), "AMQPLAIN")
    raw.expect(spec.Connection.Tune, 0)


def test_amqplain_with_a_wrong_password_is_refused(amqp):
    raw = amqp.raw()
    start_ok(raw, table((b"LOGIN", b"guest"), (b"PASSWORD", b"wrong")).decode("latin-1"), "AMQPLAIN")
    close = raw.expect(spec.Connection.Close, 0)
    assert (close.reply_code, close.reply_text) == (403, REFUSED.format("AMQPLAIN"))


# --- virtual hosts

def test_an_unknown_virtual_host_is_530(amqp):
    with pytest.raises((ProbableAccessDeniedError, ConnectionClosedByBroker)) as refused:
        amqp.connect(virtual_host="nowhere")
    assert "530" in str(refused.value) and "NOT_ALLOWED - vhost nowhere not found" in str(refused.value)


def test_an_unknown_virtual_host_is_530_on_the_wire(amqp):
    raw = amqp.raw()
    raw.start()
    raw.tune()
    raw.method(0, spec.Connection.Open(virtual_host="nowhere"))
    raw.expect_connection_closed(530, "NOT_ALLOWED - vhost nowhere not found", 10, 40)


# --- tuning

def test_the_server_offers_what_rabbitmq_offers(amqp):
    raw = amqp.raw()
    raw.start()
    offered = raw.tune()
    assert (offered.channel_max, offered.frame_max, offered.heartbeat) == (2047, 131072, 60)


def test_a_client_may_take_less(amqp):
    raw = amqp.raw().open(frame_max=4096, channel_max=2, heartbeat=7)
    raw.open_channel(2)


SAYS_WHY = "whoever begins a connection hears why it is refused, and at once"
NOT_OFFERED = [{"frame_max": 131073}, {"frame_max": 4095}, {"frame_max": 0}, {"channel_max": 2048}, {"channel_max": 0}]


@differs(SAYS_WHY)
def test_more_than_was_offered_ends_the_connection_without_a_word(amqp):
    """RabbitMQ trusts nobody before connection.open-ok: it waits for 3 s and closes the socket."""
    raws = []
    for tuned in NOT_OFFERED:
        raws.append(amqp.raw())
        raws[-1].start()
        raws[-1].tune(**tuned)
        raws[-1].method(0, spec.Connection.Open(virtual_host="/"))
    for raw in raws:
        raw.expect_dropped()


@ours(SAYS_WHY)
@pytest.mark.parametrize("tuned, limit", zip(NOT_OFFERED, [
    "higher than the maximum allowed value (131072)", "lower than the minimum allowed value (4096)",
    "higher than the maximum allowed value (131072)", "higher than the maximum allowed value (2047)",
    "higher than the maximum allowed value (2047)"]), ids=str)
def test_more_than_was_offered_is_530(amqp, tuned, limit):
    raw = amqp.raw()
    raw.start()
    raw.tune(**tuned)
    (name, value), = tuned.items()
    raw.expect_connection_closed(530, f"NOT_ALLOWED - negotiated {name} = {value} is {limit}", 10, 31)


def test_more_channels_than_agreed_close_the_connection(amqp):
    raw = amqp.raw().open(channel_max=3).open_channel(1).open_channel(2).open_channel(3)
    raw.method(4, spec.Channel.Open())
    raw.expect_connection_closed(
        530, "NOT_ALLOWED - number of channels opened (3) has reached the negotiated channel_max (3)")


def test_channel_max_is_a_number_of_channels_and_not_the_highest_number(amqp):
    amqp.raw().open(channel_max=3).open_channel(65535)


def test_content_is_cut_to_the_agreed_frame_max(amqp):
    channel = amqp.channel(confirm=True)
    queue = amqp.queue(channel)
    channel.basic_publish("", queue, b"x" * 10000)
    raw = amqp.raw().open(frame_max=4096).open_channel()
    raw.method(1, spec.Basic.Get(queue=queue, no_ack=True))
    raw.expect(spec.Basic.GetOk)
    raw.read_frame()
    assert [len(raw.read_frame()[2]) for _ in range(3)] == [4088, 4088, 10000 - 2 * 4088]


def test_a_frame_over_the_agreed_size_closes_the_connection(amqp):
    """Methods and content headers too."""
    raw = amqp.raw().open(frame_max=4096).open_channel()
    raw.method(1, spec.Queue.Declare(queue=amqp.queue_name(), arguments={"x": "y" * 5000}))
    close = raw.expect(spec.Connection.Close, 0)
    assert close.reply_code == 501 and close.reply_text.startswith("FRAME_ERROR - "), close


# --- heartbeats

def test_a_client_that_goes_silent_is_dropped(amqp):
    raw = amqp.raw().open(heartbeat=1)
    began = time.monotonic()
    raw.expect_dropped(10)
    assert 1.5 < time.monotonic() - began < 6
    assert raw.heartbeats >= 1


def test_a_client_that_sends_heartbeats_stays(amqp):
    raw = amqp.raw().open(heartbeat=1)
    end = time.monotonic() + 4
    while time.monotonic() < end:
        raw.send(frame(HEARTBEAT, 0, b""))
        with pytest.raises(AssertionError, match="no 7 bytes"):
            raw.read_frame(0.4)
    assert 4 <= raw.heartbeats <= 10
    raw.open_channel()


def test_whatever_comes_counts_as_a_heartbeat(amqp):
    connection = amqp.connect(heartbeat=0)
    channel = connection.channel()
    raw = amqp.raw().open(heartbeat=1).open_channel()
    end = time.monotonic() + 4
    while time.monotonic() < end:
        raw.method(1, spec.Channel.Flow(active=True))
        raw.expect(spec.Channel.FlowOk)
        connection.sleep(0.3)
    channel.close()


def test_pika_keeps_a_connection_alive_by_heartbeats(amqp):
    connection = amqp.connect(heartbeat=2)
    channel = connection.channel()
    connection.sleep(5)
    channel.queue_declare(amqp.queue_name())


def test_no_heartbeats_are_agreed_on_with_0(amqp):
    raw = amqp.raw().open(heartbeat=0)
    with pytest.raises(AssertionError, match="no 7 bytes"):
        raw.read_frame(2)
    assert raw.heartbeats == 0


# --- the end of a connection

def test_a_client_closes_its_connection(amqp):
    """RabbitMQ leaves closing the socket to the client."""
    raw = amqp.raw().open()
    raw.method(0, spec.Connection.Close(200, "bye", 0, 0))
    raw.expect(spec.Connection.CloseOk, 0)


def test_channels_end_with_their_connection(amqp):
    raw = amqp.raw().open().open_channel()
    queue = amqp.queue_name()
    raw.method(1, spec.Queue.Declare(queue=queue, exclusive=True))
    raw.expect(spec.Queue.DeclareOk)
    raw.method(0, spec.Connection.Close(200, "bye", 0, 0))
    raw.expect(spec.Connection.CloseOk, 0)
    wait_gone(amqp, queue)


def test_a_second_open_of_the_connection_is_504(amqp):
    raw = amqp.raw().open()
    raw.method(0, spec.Connection.Open(virtual_host="/"))
    raw.expect_connection_closed(504, "CHANNEL_ERROR - unexpected method in connection state running", 10, 40)


@differs(SAYS_WHY)
def test_what_is_wrong_before_the_connection_is_open_ends_it_without_a_word(amqp):
    """Some of it would deserve an answer; RabbitMQ closes the socket after 3 s."""
    raws = []

    def begun():
        raws.append(amqp.raw().send(HEADER))
        raws[-1].expect(spec.Connection.Start, 0)
        return raws[-1]
    for response in ("", "guest", "\0guest", "guest\0guest\0guest", "\0guest\0guest\0"):
        answer_start(begun(), response)
    answer_start(begun(), "\0guest\0guest", "EXTERNAL")
    answer_start(begun(), "\0guest\0guest", "NONSENSE")
    begun().method(1, spec.Channel.Open())
    begun().method(0, spec.Connection.Close(200, "bye", 0, 0))
    begun().method(0, spec.Connection.Open(virtual_host="/"))
    begun().send(b"\xff" * 100)
    raws.append(amqp.raw())
    raws[-1].start()
    raws[-1].expect(spec.Connection.Tune, 0)
    raws[-1].method(0, spec.Connection.Close(200, "bye", 0, 0))
    for raw in raws:
        raw.expect_dropped()


@ours(SAYS_WHY)
@pytest.mark.parametrize("response", ["", "guest", "\0guest", "guest\0guest\0guest", "\0guest\0guest\0"], ids=repr)
def test_a_response_that_cannot_be_read_is_403(amqp, response):
    raw = amqp.raw()
    start_ok(raw, response)
    raw.expect_connection_closed(403, REFUSED.format("PLAIN"))


@ours(SAYS_WHY)
@pytest.mark.parametrize("mechanism", ["EXTERNAL", "NONSENSE"])
def test_a_mechanism_that_is_not_offered_is_403(amqp, mechanism):
    raw = amqp.raw()
    start_ok(raw, "\0guest\0guest", mechanism)
    raw.expect_connection_closed(403, REFUSED.format(mechanism))


@ours(SAYS_WHY)
@pytest.mark.parametrize("sent, code, ids", [
    (method_frame(1, spec.Channel.Open()), 503, (0, 0)), (method_frame(0, spec.Connection.Open(virtual_host="/")), 503, (10, 40)),
    (b"\xff" * 100, 501, (0, 0))], ids=["channel", "open", "noise"])
def test_what_is_wrong_before_the_connection_is_open_is_told(amqp, sent, code, ids):
    raw = amqp.raw().send(HEADER)
    raw.expect(spec.Connection.Start, 0)
    raw.send(sent)
    close = raw.expect(spec.Connection.Close, 0)
    assert (close.reply_code, close.class_id, close.method_id) == (code, *ids), close
    raw.method(0, spec.Connection.CloseOk())
    assert raw.peer.is_closed()


@ours(SAYS_WHY)
def test_a_client_may_close_before_its_connection_is_open(amqp):
    raw = amqp.raw().send(HEADER)
    raw.expect(spec.Connection.Start, 0)
    raw.method(0, spec.Connection.Close(200, "bye", 0, 0))
    raw.expect(spec.Connection.CloseOk, 0)
    assert raw.peer.is_closed()


def test_what_comes_after_a_close_by_the_server_is_passed_over(amqp):
    raw = amqp.raw().open().open_channel()
    raw.send(frame(9, 1, b"abc"), method_frame(7, spec.Basic.Qos()), method_frame(2, spec.Channel.Open()), b"\xff" * 20)
    close = raw.expect(spec.Connection.Close, 0)
    assert close.reply_code == 501
    assert raw.peer.unread == b""


def test_a_secret_may_be_renewed(amqp):
    raw = amqp.raw().open()
    secret = b"guest"
    raw.send(numbered(0, 10, 70, struct.pack(">I", len(secret)) + secret + b"\x03why"))
    kind, channel, payload = raw.read_frame()
    assert (kind, channel, payload[:4]) == (1, 0, struct.pack(">HH", 10, 71))


def test_a_client_that_begins_and_never_goes_on_is_dropped(amqp):
    """RabbitMQ waits for 10 s."""
    raw = amqp.raw().send(HEADER)
    raw.expect(spec.Connection.Start)
    raw.expect_dropped(20)


def test_many_connections_come_and_go(amqp):
    for _ in range(30):
        connection = amqp.connect()
        connection.channel().close()
        connection.close()


def test_a_connection_that_was_refused_costs_the_others_nothing(amqp):
    channel = amqp.channel()
    with pytest.raises(AMQPConnectionError):
        amqp.connect(password="wrong")
    queue = amqp.queue(channel)
    channel.basic_publish("", queue, b"x")
    assert channel.basic_get(queue, auto_ack=True)[2] == b"x"
