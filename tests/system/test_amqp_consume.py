"""AMQP: consuming and getting: who gets what, in which order, how many at a time, and what becomes of it."""
import pytest
from pika import spec
from pika.exceptions import ChannelClosedByBroker

from kit.amqp import (Consumer, bodies, channel_closed, connection_closed, get, is_there, publish, settle, wait_count)
from kit.amqp_raw import publishing


@pytest.fixture
def channel(amqp):
    return amqp.channel()


@pytest.fixture
def queue(amqp, channel):
    return amqp.queue(channel)


UNKNOWN = "PRECONDITION_FAILED - unknown delivery tag {}"


# --- getting

def test_nothing_is_got_from_an_empty_queue(channel, queue):
    assert channel.basic_get(queue) == (None, None, None)


def test_what_is_got_tells_how_many_are_left(channel, queue):
    publish(channel, queue, "1", "2", "3")
    wait_count(channel, queue, 3)
    method, _, body = channel.basic_get(queue)
    assert (method.message_count, method.redelivered, method.exchange, method.routing_key, method.delivery_tag, body) == (
        2, False, "", queue, 1, b"1")
    assert channel.basic_get(queue)[0].message_count == 1


def test_delivery_tags_count_from_1_on_each_channel(amqp, channel, queue):
    publish(channel, queue, "1", "2", "3")
    assert [get(channel, queue, ack)[0].delivery_tag for ack in (False, True, False)] == [1, 2, 3]
    publish(channel, queue, "4")
    assert get(channel.connection.channel(), queue)[0].delivery_tag == 1


def test_getting_from_what_is_not_there_is_404(channel):
    with channel_closed(channel, 404, "NOT_FOUND - no queue 'nowhere' in vhost '/'"):
        channel.basic_get("nowhere")


# --- consuming

def test_messages_come_in_the_order_in_which_they_were_published(channel, queue):
    publish(channel, queue, *map(str, range(50)))
    consumer = Consumer(channel, queue)
    publish(channel, queue, *map(str, range(50, 100)))
    assert consumer.wait(100) == [b"%d" % number for number in range(100)]
    assert [method.delivery_tag for method, _, _ in consumer.deliveries] == list(range(1, 101))


def test_a_delivery_tells_where_it_comes_from(amqp, channel, queue):
    exchange = amqp.exchange(channel, "topic")
    channel.queue_bind(queue, exchange, "#")
    consumer = Consumer(channel, queue, consumer_tag="mine")
    publish(channel, "a.b", "soup", exchange=exchange, message_id="7")
    consumer.wait(1)
    method, properties, _ = consumer.deliveries[0]
    assert (method.consumer_tag, method.exchange, method.routing_key, method.redelivered) == ("mine", exchange, "a.b", False)
    assert properties.message_id == "7"


def test_the_server_makes_up_a_tag(amqp, queue):
    raw = amqp.raw().open().open_channel()
    raw.method(1, spec.Basic.Consume(queue=queue))
    tag = raw.expect(spec.Basic.ConsumeOk).consumer_tag
    assert tag.startswith("amq.ctag-") and len(tag) == len("amq.ctag-") + 22


def test_a_tag_that_is_taken_is_530(channel, queue):
    channel.basic_consume(queue, print, consumer_tag="mine")
    other = channel.connection.channel()
    other.basic_consume(queue, print, consumer_tag="mine")
    raw = channel.connection._impl._channels[1]     # pika looks for it first
    with connection_closed(channel, 530, "NOT_ALLOWED - attempt to reuse consumer tag 'mine'"):
        raw._send_method(spec.Basic.Consume(queue=queue, consumer_tag="mine"))


def test_consuming_from_what_is_not_there_is_404(channel):
    with channel_closed(channel, 404, "NOT_FOUND - no queue 'nowhere' in vhost '/'"):
        channel.basic_consume("nowhere", print)


def test_consume_ok_comes_before_the_first_delivery(amqp, channel, queue):
    publish(channel, queue, "soup")
    wait_count(channel, queue, 1)
    raw = amqp.raw().open().open_channel()
    raw.method(1, spec.Basic.Consume(queue=queue, consumer_tag="mine"))
    assert raw.expect(spec.Basic.ConsumeOk).consumer_tag == "mine"
    raw.expect(spec.Basic.Deliver)


def test_consuming_without_an_answer_has_none(amqp, channel, queue):
    publish(channel, queue, "soup")
    raw = amqp.raw().open().open_channel()
    raw.method(1, spec.Basic.Consume(queue=queue, consumer_tag="mine", nowait=True))
    assert raw.expect(spec.Basic.Deliver).consumer_tag == "mine"


def test_what_needs_no_acknowledgement_is_gone_when_it_is_sent(amqp, channel, queue):
    publish(channel, queue, "1", "2")
    consumer = Consumer(channel, queue, auto_ack=True)
    consumer.wait(2)
    channel.connection.close()
    assert bodies(amqp.channel(), queue) == []


def test_an_acknowledgement_of_what_needs_none_is_406(channel, queue):
    publish(channel, queue, "1")
    consumer = Consumer(channel, queue, auto_ack=True)
    consumer.wait(1)
    with channel_closed(channel, 406, UNKNOWN.format(1)):
        consumer.ack()


# --- many consumers

def test_consumers_take_turns(amqp, channel, queue):
    consumers = [Consumer(channel, queue) for _ in range(3)]
    publish(channel, queue, *map(str, range(9)))
    while sum(len(consumer.deliveries) for consumer in consumers) < 9:
        channel.connection.process_data_events(0.05)
    assert [sorted(consumer.bodies) for consumer in consumers] == [[b"0", b"3", b"6"], [b"1", b"4", b"7"], [b"2", b"5", b"8"]]


def test_a_consumer_that_is_full_is_passed_over(amqp, channel, queue):
    slow, fast = amqp.channel(), amqp.channel()
    slow.basic_qos(prefetch_count=1)
    first, second = Consumer(slow, queue), Consumer(fast, queue)
    publish(channel, queue, *map(str, range(6)))
    second.wait(5)
    first.wait(1)


def test_a_consumer_of_higher_priority_is_served_first(amqp, channel, queue):
    low = Consumer(amqp.channel(), queue)
    other = amqp.channel()
    other.basic_qos(prefetch_count=2)
    high = Consumer(other, queue, arguments={"x-priority": 10})
    publish(channel, queue, *map(str, range(5)))
    assert low.wait(3) == [b"2", b"3", b"4"] and high.wait(2) == [b"0", b"1"]
    high.ack(multiple=True)
    settle(high.channel)
    publish(channel, queue, "5")
    high.wait(3)


@pytest.mark.parametrize("value, kind", [("a", "longstr"), (None, "void"), (True, "bool")])
def test_a_priority_must_be_a_number(channel, queue, value, kind):
    with channel_closed(channel, 406, f"PRECONDITION_FAILED - invalid arg 'x-priority' for queue '{queue}' in vhost '/': "
                                      f'"expected integer, got {kind}"'):
        channel.basic_consume(queue, print, arguments={"x-priority": value})


@pytest.mark.parametrize("argument, value, why", [
    ("x-cancel-on-ha-failover", 5, ": {unacceptable_type,signedint}"),
    ("x-stream-offset", 5, " of queue type rabbit_classic_queue")])
def test_another_argument_of_a_consumer_may_be_wrong_too(channel, queue, argument, value, why):
    with channel_closed(channel, 406, f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{queue}' in vhost '/'{why}"):
        channel.basic_consume(queue, print, arguments={argument: value})


def test_an_exclusive_consumer_is_alone(amqp, channel, queue):
    Consumer(channel, queue, exclusive=True)
    other = amqp.channel()
    with channel_closed(other, 403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"):
        other.basic_consume(queue, print)


def test_a_consumer_cannot_become_exclusive_where_others_are(amqp, channel, queue):
    Consumer(channel, queue)
    other = amqp.channel()
    with channel_closed(other, 403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"):
        other.basic_consume(queue, print, exclusive=True)


def test_after_an_exclusive_consumer_others_may_come(amqp, channel, queue):
    consumer = Consumer(channel, queue, exclusive=True)
    channel.basic_cancel(consumer.tag)
    Consumer(amqp.channel(), queue)


def test_messages_may_be_got_beside_an_exclusive_consumer(amqp, channel, queue):
    publish(channel, queue, "1", "2")
    channel.basic_qos(prefetch_count=1)
    Consumer(channel, queue, exclusive=True).wait(1)
    assert bodies(amqp.channel(), queue) == [b"2"]


# --- cancelling

def test_a_cancelled_consumer_gets_nothing_more_and_keeps_what_it_has(amqp, channel, queue):
    publish(channel, queue, "1")
    consumer = Consumer(channel, queue)
    consumer.wait(1)
    channel.basic_cancel(consumer.tag)
    publish(channel, queue, "2")
    wait_count(channel, queue, 1)
    consumer.ack()
    assert bodies(channel, queue) == [b"2"]


def test_cancelling_what_is_not_there_is_no_error(amqp):
    raw = amqp.raw().open().open_channel()
    raw.method(1, spec.Basic.Cancel(consumer_tag="nobody"))
    assert raw.expect(spec.Basic.CancelOk).consumer_tag == "nobody"
    raw.method(1, spec.Basic.Cancel(consumer_tag="nobody", nowait=True))
    raw.method(1, spec.Channel.Flow(active=True))
    raw.expect(spec.Channel.FlowOk)


def test_a_consumer_is_told_when_its_queue_is_deleted(amqp, channel, queue):
    consumer = Consumer(channel, queue)
    amqp.channel().queue_delete(queue)
    consumer.wait_cancelled()
    assert consumer.cancelled[0].method.consumer_tag == consumer.tag
    settle(channel)


def test_a_client_that_cannot_hear_of_it_is_not_told(amqp, channel, queue):
    raw = amqp.raw().open(client={"product": "old"}).open_channel()
    raw.method(1, spec.Basic.Consume(queue=queue))
    raw.expect(spec.Basic.ConsumeOk)
    channel.queue_delete(queue)
    raw.method(1, spec.Channel.Flow(active=True))
    raw.expect(spec.Channel.FlowOk)


def test_what_was_not_acknowledged_when_its_queue_was_deleted_may_still_be(amqp, channel, queue):
    publish(channel, queue, "1")
    consumer = Consumer(channel, queue)
    consumer.wait(1)
    amqp.channel().queue_delete(queue)
    consumer.wait_cancelled()
    consumer.ack()
    settle(channel)


# --- how many at a time

def test_a_consumer_gets_no_more_than_its_prefetch(channel, queue):
    publish(channel, queue, *map(str, range(10)))
    channel.basic_qos(prefetch_count=3)
    consumer = Consumer(channel, queue)
    consumer.wait(3)
    consumer.ack(0)
    assert consumer.wait(4) == [b"0", b"1", b"2", b"3"]
    consumer.ack(-1, multiple=True)
    consumer.wait(7)


def test_prefetch_is_each_consumers_and_holds_for_those_to_come(channel, queue):
    publish(channel, queue, *map(str, range(20)))
    channel.basic_qos(prefetch_count=1)
    first = Consumer(channel, queue)
    channel.basic_qos(prefetch_count=2)
    second = Consumer(channel, queue)
    first.wait(1)
    second.wait(2)
    assert len(first.deliveries) == 1


def test_a_prefetch_that_is_global_is_the_channels(amqp, channel, queue):
    publish(channel, queue, *map(str, range(20)))
    channel.basic_qos(prefetch_count=3, global_qos=True)
    first, second = Consumer(channel, queue), Consumer(channel, queue)
    while len(first.deliveries) + len(second.deliveries) < 3:
        channel.connection.process_data_events(0.05)
    settle(channel)
    assert len(first.deliveries) + len(second.deliveries) == 3
    wait_count(channel, queue, 17)


def test_both_prefetches_hold(channel, queue):
    publish(channel, queue, *map(str, range(20)))
    channel.basic_qos(prefetch_count=2)
    channel.basic_qos(prefetch_count=3, global_qos=True)
    first = Consumer(channel, queue)
    first.wait(2)
    second = Consumer(channel, queue)
    second.wait(1)


def test_a_global_prefetch_may_be_raised_while_consuming(channel, queue):
    publish(channel, queue, *map(str, range(20)))
    channel.basic_qos(prefetch_count=2, global_qos=True)
    consumer = Consumer(channel, queue)
    consumer.wait(2)
    channel.basic_qos(prefetch_count=5, global_qos=True)
    consumer.wait(5)
    channel.basic_qos(prefetch_count=0, global_qos=True)
    consumer.wait(20)


def test_a_global_prefetch_may_be_lowered_while_consuming(channel, queue):
    publish(channel, queue, *map(str, range(10)))
    channel.basic_qos(prefetch_count=4, global_qos=True)
    consumer = Consumer(channel, queue)
    consumer.wait(4)
    channel.basic_qos(prefetch_count=2, global_qos=True)
    consumer.ack(0)
    consumer.ack(1)
    consumer.wait(4)
    consumer.ack(2)
    consumer.wait(5)


def test_prefetch_of_a_consumer_is_not_changed_later(channel, queue):
    publish(channel, queue, *map(str, range(10)))
    channel.basic_qos(prefetch_count=2)
    consumer = Consumer(channel, queue)
    consumer.wait(2)
    channel.basic_qos(prefetch_count=5)
    consumer.wait(2)


def test_what_is_got_counts_for_no_consumers_prefetch(channel, queue):
    publish(channel, queue, *map(str, range(10)))
    for _ in range(4):
        get(channel, queue, ack=False)
    channel.basic_qos(prefetch_count=2)
    Consumer(channel, queue).wait(2)


def test_what_is_got_counts_for_no_channels_prefetch_either(amqp, channel, queue):
    """It does in RabbitMQ when it was got before the prefetch was set."""
    channel.basic_qos(prefetch_count=2, global_qos=True)
    publish(channel, queue, *map(str, range(10)))
    for _ in range(4):
        get(channel, queue, ack=False)
    Consumer(channel, queue).wait(2)


def test_prefetch_says_nothing_where_nothing_is_acknowledged(channel, queue):
    publish(channel, queue, *map(str, range(10)))
    channel.basic_qos(prefetch_count=1)
    Consumer(channel, queue, auto_ack=True).wait(10)


@pytest.mark.parametrize("whole", [False, True])
def test_a_prefetch_in_bytes_is_not_implemented(channel, whole):
    with connection_closed(channel, 540, "NOT_IMPLEMENTED - prefetch_size!=0 (1)"):
        channel.basic_qos(prefetch_size=1, global_qos=whole)


# --- acknowledging

def test_what_is_acknowledged_is_gone(amqp, channel, queue):
    publish(channel, queue, "1", "2", "3")
    consumer = Consumer(channel, queue)
    consumer.wait(3)
    consumer.ack(1)
    channel.connection.close()
    assert bodies(amqp.channel(), queue, 2) == [b"1", b"3"]


def test_multiple_acknowledges_all_up_to_it(amqp, channel, queue):
    publish(channel, queue, *map(str, range(5)))
    consumer = Consumer(channel, queue)
    consumer.wait(5)
    consumer.ack(2, multiple=True)
    channel.connection.close()
    assert bodies(amqp.channel(), queue, 2) == [b"3", b"4"]


def test_0_with_multiple_is_everything(amqp, channel, queue):
    publish(channel, queue, *map(str, range(5)))
    Consumer(channel, queue).wait(5)
    channel.basic_ack(0, multiple=True)
    channel.basic_ack(0, multiple=True)
    settle(channel)
    channel.connection.close()
    assert bodies(amqp.channel(), queue) == []


@pytest.mark.parametrize("tag, multiple", [(0, False), (1, False), (2, False), (1, True), (99, False), (99, True), (2 ** 63, False)])
def test_an_unknown_delivery_tag_is_406(channel, tag, multiple):
    with channel_closed(channel, 406, UNKNOWN.format(tag)):
        channel.basic_ack(tag, multiple=multiple)


@pytest.mark.parametrize("again", ["ack", "nack", "reject", "multiple"])
def test_what_was_acknowledged_cannot_be_acknowledged_again(channel, queue, again):
    publish(channel, queue, "1", "2")
    Consumer(channel, queue).wait(2)
    channel.basic_ack(1)
    with channel_closed(channel, 406, UNKNOWN.format(1)):
        {"ack": lambda: channel.basic_ack(1), "nack": lambda: channel.basic_nack(1), "reject": lambda: channel.basic_reject(1),
         "multiple": lambda: channel.basic_ack(1, multiple=True)}[again]()


def test_multiple_needs_a_tag_that_is_open_even_if_older_ones_are(channel, queue):
    publish(channel, queue, "1", "2", "3")
    Consumer(channel, queue).wait(3)
    channel.basic_ack(2)
    with channel_closed(channel, 406, UNKNOWN.format(2)):
        channel.basic_ack(2, multiple=True)


def test_a_delivery_tag_is_its_channels(amqp, channel, queue):
    publish(channel, queue, "1")
    get(channel, queue, ack=False)
    other = channel.connection.channel()
    with channel_closed(other, 406, UNKNOWN.format(1)):
        other.basic_ack(1)
    channel.basic_ack(1)
    settle(channel)


@pytest.mark.parametrize("how", ["nack", "reject"])
def test_what_is_given_back_comes_again_and_says_so(channel, queue, how):
    publish(channel, queue, "1", "2")
    first = get(channel, queue, ack=False)[0]
    {"nack": channel.basic_nack, "reject": channel.basic_reject}[how](first.delivery_tag, requeue=True)
    method, _, body = get(channel, queue)
    assert (body, method.redelivered) == (b"1", True)
    method, _, body = get(channel, queue)
    assert (body, method.redelivered) == (b"2", False)


@pytest.mark.parametrize("how", ["nack", "reject"])
def test_what_is_refused_for_good_is_gone(channel, queue, how):
    publish(channel, queue, "1", "2")
    first = get(channel, queue, ack=False)[0]
    {"nack": channel.basic_nack, "reject": channel.basic_reject}[how](first.delivery_tag, requeue=False)
    assert bodies(channel, queue, 1) == [b"2"]


def test_nack_may_be_of_all_up_to_it(amqp, channel, queue):
    publish(channel, queue, *map(str, range(5)))
    for _ in range(4):
        get(channel, queue, ack=False)
    channel.basic_nack(2, multiple=True, requeue=False)
    channel.basic_nack(0, multiple=True, requeue=True)
    assert bodies(channel, queue, 3) == [b"2", b"3", b"4"]


def test_what_is_given_back_takes_its_old_place(amqp, channel, queue):
    publish(channel, queue, *map(str, range(6)))
    tags = [get(channel, queue, ack=False)[0].delivery_tag for _ in range(4)]
    for index in (2, 0, 3, 1):
        channel.basic_nack(tags[index])
    assert bodies(channel, queue, 6) == [b"%d" % number for number in range(6)]


def test_a_closed_channels_messages_take_their_old_places(amqp, channel, queue):
    publish(channel, queue, *map(str, range(6)))
    first, second = channel.connection.channel(), channel.connection.channel()
    for index in range(4):
        get(second if index % 2 else first, queue, ack=False)
    second.close()
    first.close()
    wait_count(channel, queue, 6)
    found = [get(channel, queue) for _ in range(6)]
    assert [body for _, _, body in found] == [b"%d" % number for number in range(6)]
    assert [method.redelivered for method, _, _ in found] == [True] * 4 + [False] * 2


@pytest.mark.parametrize("how", ["close", "reset", "channel"])
def test_what_a_client_did_not_acknowledge_is_given_to_others(amqp, channel, queue, how):
    publish(channel, queue, *map(str, range(20)))
    raw = amqp.raw().open().open_channel()
    raw.method(1, spec.Basic.Consume(queue=queue))
    raw.expect(spec.Basic.ConsumeOk)
    for _ in range(20):
        raw.expect(spec.Basic.Deliver)
        raw.read_frame()
        raw.read_frame()
    if how == "channel":
        raw.method(1, spec.Channel.Close(200, "", 0, 0))
        raw.expect(spec.Channel.CloseOk)
    elif how == "reset":
        raw.peer.reset()
    else:
        raw.close()
    consumer = Consumer(channel, queue)
    assert consumer.wait(20) == [b"%d" % number for number in range(20)]
    assert all(method.redelivered for method, _, _ in consumer.deliveries)


def test_a_channel_that_an_error_closed_gives_back_what_it_had(amqp, channel, queue):
    publish(channel, queue, "1", "2")
    other = amqp.channel()
    get(other, queue, ack=False)
    with pytest.raises(ChannelClosedByBroker):
        other.queue_declare(amqp.name(), passive=True)
    wait_count(channel, queue, 2)
    assert bodies(channel, queue, 2) == [b"1", b"2"]


# --- recovering

def test_recover_gives_everything_back(channel, queue):
    publish(channel, queue, "1", "2", "3")
    consumer = Consumer(channel, queue)
    consumer.wait(3)
    consumer.ack(1)
    channel.basic_recover(requeue=True)
    assert consumer.wait(5)[3:] == [b"1", b"3"]
    assert all(method.redelivered for method, _, _ in consumer.deliveries[3:])
    assert [method.delivery_tag for method, _, _ in consumer.deliveries[3:]] == [4, 5]


def test_recover_without_requeue_is_not_implemented(channel):
    with connection_closed(channel, 540, "NOT_IMPLEMENTED - requeue=false"):
        channel.basic_recover(requeue=False)


def test_recover_async_has_no_answer(amqp, channel, queue):
    publish(channel, queue, "1")
    raw = amqp.raw().open().open_channel()
    raw.method(1, spec.Basic.Consume(queue=queue))
    raw.expect(spec.Basic.ConsumeOk)
    for _ in range(3):
        raw.expect(spec.Basic.Deliver)
        raw.read_frame()
        raw.read_frame()
        raw.method(1, spec.Basic.RecoverAsync(requeue=True))


def test_a_message_that_is_given_back_for_ever_does_not_block_the_channel(amqp, channel, queue):
    publish(channel, queue, "1")
    consumer = Consumer(channel, queue)
    for turn in range(1, 30):
        while len(consumer.deliveries) < turn:
            channel.connection.process_data_events(0.05)
        consumer.nack()
    assert is_there(amqp, queue)


def test_a_consumer_does_not_get_its_own_channels_messages_only_if_it_said_so(amqp, queue):
    """no-local is accepted, and means nothing to RabbitMQ."""
    raw = amqp.raw().open().open_channel()
    raw.method(1, spec.Basic.Consume(queue=queue, no_local=True))
    raw.expect(spec.Basic.ConsumeOk)
    raw.send(publishing(1, queue, b"soup"))
    raw.expect(spec.Basic.Deliver)
