"""AMQP: direct reply-to: an answer to a question without a queue for it."""
import pytest

from kit.amqp import Consumer, channel_closed, differs, get, ours, publish, settle

REPLY_TO = "amq.rabbitmq.reply-to"


@pytest.fixture
def channel(amqp):
    return amqp.channel()


@pytest.fixture
def question(amqp, channel):
    """(consumer of the answers, name of the queue of questions)."""
    return Consumer(channel, REPLY_TO, auto_ack=True), amqp.queue(channel)


def asked(channel, queue):
    """The address that the next question wants its answer at."""
    return get(channel, queue)[1].reply_to


def test_a_question_is_answered_without_a_queue(amqp, channel, question):
    consumer, queue = question
    publish(channel, queue, "what?", reply_to=REPLY_TO, correlation_id="7")
    server = amqp.channel()
    _, properties, _ = get(server, queue)
    assert properties.reply_to.startswith(f"{REPLY_TO}.") and properties.correlation_id == "7"
    publish(server, properties.reply_to, "that", correlation_id=properties.correlation_id)
    assert consumer.wait(1) == [b"that"]
    method, answer, _ = consumer.deliveries[0]
    assert (method.exchange, method.routing_key, method.redelivered, answer.correlation_id) == ("", properties.reply_to, False, "7")


def test_a_question_may_have_many_answers(amqp, channel, question):
    consumer, queue = question
    publish(channel, queue, "what?", reply_to=REPLY_TO)
    server = amqp.channel()
    address = asked(server, queue)
    publish(server, address, *map(str, range(20)))
    assert consumer.wait(20) == [b"%d" % number for number in range(20)]


def test_an_address_that_is_the_clients_own_is_left_alone(amqp, channel, question):
    _, queue = question
    publish(channel, queue, "what?", reply_to="my-own")
    assert asked(channel, queue) == "my-own"


def test_a_question_before_its_consumer_is_406(amqp, channel):
    queue = amqp.queue(channel)
    with channel_closed(channel, 406, "PRECONDITION_FAILED - fast reply consumer does not exist"):
        publish(channel, queue, "what?", reply_to=REPLY_TO)


def test_an_answer_needs_no_acknowledgement(channel):
    with channel_closed(channel, 406, "PRECONDITION_FAILED - reply consumer cannot acknowledge"):
        channel.basic_consume(REPLY_TO, print, auto_ack=False)


def test_a_channel_has_one_consumer_of_answers(channel, question):
    with channel_closed(channel, 406, "PRECONDITION_FAILED - reply consumer already set"):
        channel.basic_consume(REPLY_TO, print, auto_ack=True)


def test_a_consumer_of_answers_may_be_cancelled_and_come_again(amqp, channel, question):
    consumer, queue = question
    channel.basic_cancel(consumer.tag)
    consumer = Consumer(channel, REPLY_TO, auto_ack=True)
    publish(channel, queue, "what?", reply_to=REPLY_TO)
    publish(channel, asked(channel, queue), "that")
    assert consumer.wait(1) == [b"that"]


def test_the_queue_of_answers_seems_to_be_there(channel):
    declared = channel.queue_declare(REPLY_TO, passive=True).method
    assert (declared.message_count, declared.consumer_count) == (0, 1)


@pytest.mark.parametrize("passive", [True, False])
@pytest.mark.parametrize("name", [f"{REPLY_TO}.", f"{REPLY_TO}.x", f"{REPLY_TO}-x"])
def test_an_address_that_never_was_is_404(channel, name, passive):
    with channel_closed(channel, 404, f"NOT_FOUND - no queue '{name}' in vhost '/'"):
        channel.queue_declare(name, passive=passive)


def test_an_address_is_there_while_its_consumer_is(amqp, channel, question):
    consumer, queue = question
    publish(channel, queue, "what?", reply_to=REPLY_TO)
    server = amqp.channel()
    address = asked(server, queue)
    declared = server.queue_declare(address, passive=True).method
    assert (declared.queue, declared.message_count, declared.consumer_count) == (address, 0, 1)
    channel.connection.close()
    with channel_closed(server, 404, f"NOT_FOUND - no queue '{address}' in vhost '/'"):
        server.queue_declare(address, passive=True)


def test_an_answer_that_nobody_waits_for_any_more_is_lost(amqp, channel, question):
    _, queue = question
    publish(channel, queue, "what?", reply_to=REPLY_TO)
    server = amqp.channel()
    address = asked(server, queue)
    channel.connection.close()
    publish(server, address, "that")
    settle(server)


ARRIVED = "an answer that arrived does not come back"


def mandatory_answer(amqp, channel, question):
    """What came back of an answer that arrived."""
    consumer, queue = question
    publish(channel, queue, "what?", reply_to=REPLY_TO)
    server = amqp.channel()
    returned = []
    server.add_on_return_callback(lambda *come: returned.append(come[1].reply_code))
    server.basic_publish("", asked(server, queue), b"that", mandatory=True)
    settle(server)
    assert consumer.wait(1) == [b"that"]
    return returned


@differs(ARRIVED)
def test_an_answer_that_is_mandatory_comes_back_even_if_it_arrived(amqp, channel, question):
    """An answer goes past the queues: RabbitMQ finds none, and says so."""
    assert mandatory_answer(amqp, channel, question) == [312]


@ours(ARRIVED)
def test_an_answer_that_is_mandatory_and_arrives_does_not_come_back(amqp, channel, question):
    assert mandatory_answer(amqp, channel, question) == []


def test_an_answer_to_an_address_that_never_was_comes_back(amqp, channel):
    """RabbitMQ 3.10.8 stumbles over others, such as REPLY_TO.a.b: 541 INTERNAL_ERROR."""
    returned = []
    channel.add_on_return_callback(lambda *come: returned.append(come[1].reply_code))
    channel.basic_publish("", f"{REPLY_TO}.", b"that", mandatory=True)
    settle(channel)
    assert returned == [312]
