"""AMQP: transactions: what was published and acknowledged within one happens when it is committed, or never."""
import pytest
from pika import spec

from kit.amqp import Consumer, bodies, channel_closed, count, differs, get, publish, settle, wait_count


@pytest.fixture
def channel(amqp):
    channel = amqp.channel()
    channel.tx_select()
    return channel


@pytest.fixture
def other(amqp):
    return amqp.channel()


def test_what_is_published_is_there_once_it_is_committed(amqp, channel, other):
    queue = amqp.queue(other)
    publish(channel, queue, "1", "2")
    settle(channel)
    assert count(other, queue) == 0
    channel.tx_commit()
    assert bodies(other, queue, 2) == [b"1", b"2"]


def test_what_is_rolled_back_never_was(amqp, channel, other):
    queue = amqp.queue(other)
    publish(channel, queue, "lost")
    channel.tx_rollback()
    publish(channel, queue, "soup")
    channel.tx_commit()
    assert bodies(other, queue, 1) == [b"soup"]


def test_what_is_neither_is_lost_with_its_channel(amqp, channel, other):
    queue = amqp.queue(other)
    publish(channel, queue, "lost")
    settle(channel)
    channel.close()
    assert bodies(other, queue) == []


def test_an_acknowledgement_counts_once_it_is_committed(amqp, channel, other):
    queue = amqp.queue(other)
    publish(other, queue, "1", "2")
    channel.basic_ack(get(channel, queue, ack=False)[0].delivery_tag)
    channel.tx_commit()
    channel.basic_ack(get(channel, queue, ack=False)[0].delivery_tag)
    settle(channel)
    channel.close()
    assert bodies(other, queue, 1) == [b"2"]


def test_an_acknowledgement_that_is_rolled_back_may_be_given_again(amqp, channel, other):
    queue = amqp.queue(other)
    publish(other, queue, "soup")
    tag = get(channel, queue, ack=False)[0].delivery_tag
    channel.basic_ack(tag)
    channel.tx_rollback()
    settle(channel)
    channel.basic_ack(tag)
    channel.tx_commit()
    channel.close()
    assert bodies(other, queue) == []


def test_a_rejection_counts_once_it_is_committed(amqp, channel, other):
    queue = amqp.queue(other)
    publish(other, queue, "soup")
    channel.basic_reject(get(channel, queue, ack=False)[0].delivery_tag, requeue=True)
    settle(channel)
    assert count(other, queue) == 0
    channel.tx_commit()
    wait_count(other, queue, 1)


def test_prefetch_makes_room_once_acknowledgements_are_committed(amqp, channel, other):
    queue = amqp.queue(other)
    publish(other, queue, "1", "2")
    channel.basic_qos(prefetch_count=1)
    consumer = Consumer(channel, queue)
    consumer.wait(1)
    consumer.ack()
    consumer.wait(1)
    channel.tx_commit()
    consumer.wait(2)


def test_a_transaction_goes_on_after_a_commit(amqp, channel, other):
    queue = amqp.queue(other)
    for number in range(5):
        publish(channel, queue, str(number))
        settle(channel)
        assert count(other, queue) == number
        channel.tx_commit()
        wait_count(other, queue, number + 1)


def test_what_is_mandatory_comes_back_with_the_commit(amqp, channel):
    returned = []
    channel.add_on_return_callback(lambda *come: returned.append(come[1].reply_code))
    channel.basic_publish("", amqp.name(), b"lost", mandatory=True)
    settle(channel)
    channel.tx_commit()
    channel.connection.process_data_events(0)
    assert returned == [312]


def test_an_exchange_that_is_not_there_is_told_at_once(amqp, channel):
    with channel_closed(channel, 404, "NOT_FOUND - no exchange 'nowhere' in vhost '/'"):
        publish(channel, "a", "lost", exchange="nowhere")


def test_an_internal_exchange_is_told_at_once(amqp, channel, other):
    exchange = amqp.exchange(other, internal=True)
    with channel_closed(channel, 403, f"ACCESS_REFUSED - cannot publish to internal exchange '{exchange}' in vhost '/'"):
        publish(channel, "a", "lost", exchange=exchange)


@differs("what is published within a transaction finds its queues when that is committed")
def test_an_exchange_that_goes_before_the_commit_takes_its_messages_along(amqp, channel, other):
    """RabbitMQ found the queues when the message came."""
    exchange, queue = amqp.exchange(other, "fanout"), amqp.queue(other)
    other.queue_bind(queue, exchange)
    publish(channel, "", "soup", exchange=exchange)
    settle(channel)
    other.exchange_delete(exchange)
    channel.tx_commit()
    assert bodies(other, queue, 1) == [b"soup"]


@pytest.mark.parametrize("what", ["commit", "rollback"])
def test_without_a_transaction_nothing_can_be_committed(amqp, what):
    channel = amqp.channel()
    with channel_closed(channel, 406, "PRECONDITION_FAILED - channel is not transactional"):
        {"commit": channel.tx_commit, "rollback": channel.tx_rollback}[what]()


def test_selecting_twice_changes_nothing(amqp, channel, other):
    queue = amqp.queue(other)
    publish(channel, queue, "soup")
    channel.tx_select()
    channel.tx_commit()
    assert bodies(other, queue, 1) == [b"soup"]


def test_a_channel_that_confirms_has_no_transactions(amqp):
    raw = amqp.raw().open().open_channel()
    raw.method(1, spec.Confirm.Select())
    raw.expect(spec.Confirm.SelectOk)
    raw.method(1, spec.Tx.Select())
    raw.expect_channel_closed(1, 406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode", 90, 10)


def test_a_channel_with_transactions_does_not_confirm(amqp, channel):
    raw = amqp.raw().open().open_channel()
    raw.method(1, spec.Tx.Select())
    raw.expect(spec.Tx.SelectOk)
    raw.method(1, spec.Confirm.Select())
    raw.expect_channel_closed(1, 406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode", 85, 10)
