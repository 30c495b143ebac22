"""AMQP clients over a reload, an upgrade and an end."""
import pika
import pytest
from pika.exceptions import AMQPConnectionError, ChannelClosedByBroker, ConnectionClosedByBroker

from kit.config import admin, top
from kit.wire import DEADLINE

GUEST = 'user "guest" { password = "guest" }'


def house(*users, address="127.0.0.1:{port}", options=""):
    return top('state = "{dir}/state"\nstate-segment = 1m', threads=2, drain="5s") + admin() + \
        f'amqp "{address}" {{ {" ".join(users)} {options} }}\n'


def connect(proxy, user="guest", port="port"):
    return pika.BlockingConnection(pika.ConnectionParameters(
        "127.0.0.1", proxy.ports[port], heartbeat=0, socket_timeout=DEADLINE,
        credentials=pika.PlainCredentials(user, user)))


def told_to_go(connection):
    """The reply code with which the server ended it."""
    with pytest.raises(ConnectionClosedByBroker) as closed:
        for _ in range(int(DEADLINE * 20)):
            connection.process_data_events(0.05)
    return closed.value.reply_code


def test_a_connection_stays_over_a_reload(maitred):
    proxy = maitred(house(GUEST))
    connection = connect(proxy)
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("q", durable=True)
    got = []
    channel.basic_consume("q", lambda *come: got.append(come[3]), auto_ack=True)
    for number in range(3):
        proxy.reload(house(GUEST, f'user "user{number}" {{ password = "p" }}'))
        channel.basic_publish("", "q", b"%d" % number)
        while len(got) <= number:
            connection.process_data_events(0.05)
    assert got == [b"0", b"1", b"2"]
    connection.close()


def test_a_user_that_left_the_file_may_do_nothing_more(maitred):
    proxy = maitred(house(GUEST, 'user "gone" { password = "gone" }'))
    connection = connect(proxy, "gone")
    connection.channel().queue_declare("q")
    proxy.reload(house(GUEST))
    with pytest.raises(ChannelClosedByBroker) as closed:
        connection.channel().queue_declare("p")
    assert closed.value.reply_code == 403
    with pytest.raises(AMQPConnectionError):
        connect(proxy, "gone")
    connection.close()


def test_a_connection_that_slept_over_reloads_has_the_last_ones_permissions(maitred):
    proxy = maitred(house(GUEST, 'user "some" { password = "some" }'))
    connections = [connect(proxy, "some") for _ in range(12)]
    for connection in connections:
        connection.channel().queue_declare("", exclusive=True)
    for number, connection in enumerate(connections):
        proxy.reload(house(GUEST, f'user "some" {{ password = "some"  configure = "^mine{number}$" }}'))
        channel = connection.channel()
        channel.queue_declare(f"mine{number}", exclusive=True)
        with pytest.raises(ChannelClosedByBroker) as closed:
            channel.queue_declare("mine")
        assert closed.value.reply_code == 403
    for connection in connections:
        connection.close()


def test_clients_of_a_listener_that_left_the_file_are_told(maitred):
    proxy = maitred(house(GUEST) + 'amqp "127.0.0.1:{port2}" { ' + GUEST + ' }\n')
    stays, goes = connect(proxy), connect(proxy, port="port2")
    goes.channel().queue_declare("q", exclusive=True)
    proxy.reload(house(GUEST))
    assert told_to_go(goes) == 320
    with pytest.raises(AMQPConnectionError):
        connect(proxy, port="port2")
    with pytest.raises(ChannelClosedByBroker) as closed:
        stays.channel().queue_declare("q", passive=True)
    assert closed.value.reply_code == 404
    stays.close()


def test_an_upgrade_tells_clients_to_come_again(maitred):
    proxy = maitred(house(GUEST))
    connection = connect(proxy)
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("q", durable=True)
    for body in (b"1", b"2"):
        channel.basic_publish("", "q", body)
    channel.basic_get("q")
    proxy.upgrade()
    assert told_to_go(connection) == 320
    connection = connect(proxy)
    channel = connection.channel()
    got = [channel.basic_get("q", auto_ack=True) for _ in range(2)]
    assert [(method.redelivered, body) for method, _, body in got] == [(True, b"1"), (False, b"2")]
    connection.close()
