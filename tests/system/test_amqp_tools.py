"""AMQP: the command line tools of rabbitmq-c, as Debian's package amqp-tools has them."""
import shutil
import subprocess

import pytest

from kit.amqp import bodies, get, is_there, publish, wait_count

pytestmark = pytest.mark.skipif(shutil.which("amqp-publish") is None, reason="amqp-tools is not installed")


@pytest.fixture
def tool(amqp):
    """tool("amqp-get", arguments...): the finished process."""
    def run(name, *arguments, given="", code=0):
        done = subprocess.run([name, "-u", f"amqp://guest:guest@127.0.0.1:{amqp.broker.port}", *arguments], input=given,
                              capture_output=True, text=True, timeout=20)
        assert done.returncode == code, done
        return done
    return run


@pytest.fixture
def channel(amqp):
    return amqp.channel()


def test_a_queue_is_declared_and_deleted(amqp, tool):
    queue = amqp.queue_name()
    assert tool("amqp-declare-queue", "-q", queue).stdout.strip() == queue
    assert is_there(amqp, queue)
    assert tool("amqp-delete-queue", "-q", queue).stdout.strip() == "0"
    assert not is_there(amqp, queue)


def test_the_server_makes_up_a_name(amqp, tool):
    name = tool("amqp-declare-queue", "-q", "").stdout.strip()
    amqp.queues.append(name)
    assert name.startswith("amq.gen-")


def test_a_message_is_published_and_got(amqp, channel, tool):
    queue = amqp.queue(channel)
    tool("amqp-publish", "-r", queue, "-b", "soup")
    wait_count(channel, queue, 1)
    assert tool("amqp-get", "-q", queue).stdout == "soup"
    assert tool("amqp-get", "-q", queue, code=2).stdout == ""


def test_properties_are_published(amqp, channel, tool):
    queue = amqp.queue(channel)
    tool("amqp-publish", "-r", queue, "-p", "-C", "text/plain", "-E", "utf-8", "-t", "reply", "-H", "dish: soup", "-b", "x")
    properties = get(channel, queue)[1]
    assert (properties.delivery_mode, properties.content_type, properties.content_encoding, properties.reply_to) == (
        2, "text/plain", "utf-8", "reply")
    assert properties.headers == {"dish": "soup"}


def test_what_comes_in_is_one_message_or_one_a_line(amqp, channel, tool):
    queue = amqp.queue(channel)
    tool("amqp-publish", "-r", queue, given="one\ntwo\n")
    tool("amqp-publish", "-r", queue, "-l", given="one\ntwo\n")
    assert bodies(channel, queue, 3) == [b"one\ntwo\n", b"one\n", b"two\n"]


def test_a_large_message_is_published_and_got(amqp, channel, tool):
    queue = amqp.queue(channel)
    body = "0123456789" * 50000
    tool("amqp-publish", "-r", queue, given=body)
    wait_count(channel, queue, 1)
    assert tool("amqp-get", "-q", queue).stdout == body


def test_messages_are_consumed_by_a_command(amqp, channel, tool):
    queue = amqp.queue(channel)
    publish(channel, queue, "1", "2", "3")
    wait_count(channel, queue, 3)
    assert tool("amqp-consume", "-q", queue, "-c", "3", "-p", "1", "cat").stdout == "123"
    assert bodies(channel, queue) == []


def test_an_exchange_is_published_to(amqp, channel, tool):
    exchange, queue = amqp.exchange(channel, "topic"), amqp.queue(channel)
    channel.queue_bind(queue, exchange, "a.*")
    tool("amqp-publish", "-e", exchange, "-r", "a.b", "-b", "soup")
    assert bodies(channel, queue, 1) == [b"soup"]


def test_an_exchange_that_is_not_there_is_told(amqp, tool):
    done = tool("amqp-consume", "-q", "nowhere", "-c", "1", "true", code=1)
    assert "NOT_FOUND - no queue 'nowhere' in vhost '/'" in done.stderr


def test_a_wrong_password_is_told(amqp):
    done = subprocess.run(["amqp-get", "-u", f"amqp://guest:wrong@127.0.0.1:{amqp.broker.port}", "-q", "a"],
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "ACCESS_REFUSED" in done.stderr


def test_a_consumer_with_a_queue_of_its_own_hears_what_is_published(amqp, channel):
    exchange = amqp.exchange(channel, "fanout")
    consumer = subprocess.Popen(["amqp-consume", "-u", f"amqp://guest:guest@127.0.0.1:{amqp.broker.port}", "-e", exchange, "-r", "any",
                                 "-x", "-c", "1", "cat"], stdout=subprocess.PIPE, text=True)
    try:
        while consumer.poll() is None:
            publish(channel, "", "soup", exchange=exchange)
            channel.connection.sleep(0.05)
        assert (consumer.returncode, consumer.stdout.read()) == (0, "soup")
    finally:
        consumer.kill()
        consumer.wait()
