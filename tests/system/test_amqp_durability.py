"""AMQP: what is confirmed is not lost, and what is not acknowledged comes again and says so: crashes at any moment, of the server
and of consumers. KILL_ROUNDS: how many crashes, 5 by default."""
import os
import random
import time

import pytest
from pika import spec

from kit.admin import admin_of
from kit.amqp import Amqp, Consumer, MaitredBroker, bodies, bounded, count, get, is_there, publish, wait_count
from kit.amqp_ledger import Consumer as LedgerConsumer
from kit.amqp_ledger import Declarer, PikaPublisher, Publisher, TransactingPublisher
from kit.amqp_raw import Raw, publishing
from kit.config import admin, top
from kit.ledger import Crash, Ledger, is_empty
from kit.wire import connect

ROUNDS = int(os.environ.get("KILL_ROUNDS", "5"))
CONFIGURATION = (top('state = "{dir}/state"\nstate-segment = {segment}\n{more}', threads=2) + admin() +
                 'amqp "127.0.0.1:{port}" { user "guest" { password = "guest" } }\n')


@pytest.fixture
def serve(tmp_path):
    """serve(segment, more): a server, and what the test does with it."""
    brokers = []

    def start(segment="1m", more=""):
        brokers.append(MaitredBroker(tmp_path, CONFIGURATION.replace("{segment}", segment).replace("{more}", more)))
        return Amqp(brokers[-1])
    yield start
    for broker in brokers:
        broker.stop()


def moment(chance):
    """Seconds from the start of maitred to its end: as in test_durability.py."""
    return chance.uniform(0, chance.choice([0.06] * 2 + [0.8] * 5 + [5]))


def kill_at_random_moments(proxy, consumers, ledger, chance):
    for _ in range(ROUNDS):
        victim = chance.choice(consumers)
        if victim.stopped.is_set():
            victim.restart()
        elif chance.random() < 0.5:
            victim.crash()
        time.sleep(moment(chance))
        crash = Crash(None, time.monotonic())
        proxy.kill()
        for consumer in consumers:
            consumer.settle()
        crash.end = time.monotonic()
        ledger.crashes.append(crash)
        proxy.begin_again()


def check_none(what, found):
    if found:
        pytest.fail(f"{len(found)} were {what}: {list(found)[:10]}")


@pytest.mark.parametrize("kind, segment", [("classic", "1m"), ("classic", "16m"), ("quorum", "1m")])
def test_no_confirmed_publish_is_lost_whenever_the_server_is_killed(serve, kind, segment):
    """By basic.ack or tx.commit-ok; and what was acknowledged comes again only where a crash explains it."""
    amqp = serve(segment)
    chance, ledger, begun, proxy = random.Random(), Ledger(), time.monotonic(), amqp.broker.proxy
    channel = amqp.channel()
    channel.exchange_declare("orders", "topic", durable=True)
    channel.queue_declare("orders", durable=True, arguments={"x-queue-type": kind})
    channel.queue_bind("orders", "orders", "a")
    channel.connection.close()
    publishers = [*[Publisher(ledger, proxy, "orders", b"p%d" % number) for number in range(3)],
                  TransactingPublisher(ledger, proxy, "orders", b"t"), PikaPublisher(ledger, proxy, "orders", b"k")]
    consumers = [LedgerConsumer(ledger, proxy, "orders", lambda: chance.uniform(0, 0.002), prefetch) for prefetch in (1, 20, 500)]
    declarer = Declarer(ledger, proxy, "orders")
    for client in (*publishers, *consumers, declarer):
        client.start()
    kill_at_random_moments(proxy, consumers, ledger, chance)
    proxy.wait_listens()
    for client in (*publishers, declarer):
        client.end()
    for consumer in consumers:
        consumer.restart()
    admin_of(proxy).wait(is_empty, "every message leaves the queue", seconds=60)
    for consumer in consumers:
        consumer.end()

    published = {name for publisher in publishers for name in publisher.published}
    repeats = [each for each in ledger.repeats() if not each[1].given_back]
    print(f"{ROUNDS} kills and {len(ledger.crashes) - ROUNDS} crashes of consumers in {time.monotonic() - begun:.0f} s: "
          f"{len(published)} published, {len(ledger.confirmed)} confirmed, {len(ledger.handled)} handled, {len(repeats)} repeats; "
          f"{len(declarer.there)} queues are declared, {len(declarer.gone)} are deleted")
    assert ledger.confirmed and not any(publisher.errors for publisher in publishers)
    check_none("confirmed, and lost", ledger.confirmed - ledger.handled.keys())
    check_none("handled, and never published", ledger.handled.keys() - published)
    check_none("rolled back, and handled", publishers[3].rolled_back & ledger.handled.keys())
    check_none("handled again, and no crash explains it", [each for each in repeats if not each[3]])
    check_none("handled again, and not marked as redelivered",
               [each for each in ledger.repeats() if not each[2].redelivered])
    check_none("declared, and lost", [name for name in declarer.there if not is_there(amqp, name)])
    check_none("deleted, and there again", [name for name in declarer.gone if is_there(amqp, name)])
    amqp.close()


def test_what_was_delivered_and_not_acknowledged_comes_again_after_a_kill_and_says_so(serve):
    """What waited behind it does not; what was acknowledged a second ago does not come."""
    amqp = serve()
    with bounded():
        channel = amqp.channel(confirm=True)
        channel.queue_declare("q", durable=True)
        publish(channel, "q", "0", "1", "2", "3", delivery_mode=2)
        taker = amqp.channel()
        taker.basic_ack(get(taker, "q", ack=False)[0].delivery_tag)
        held = Consumer(amqp.channel(), "q")
        held.wait(3)
        held.channel.basic_reject(held.deliveries[0][0].delivery_tag, requeue=True)
        held.wait(4)
        publish(channel, "q", "4", delivery_mode=2)
        held.channel.connection.process_data_events(1.2)        # acknowledgements are on disk within a second
        extra = count(channel, "q")
        amqp.broker.proxy.kill()
        amqp.broker.proxy.start_again()
        channel = amqp.channel()
        wait_count(channel, "q", 4)
        found = [get(channel, "q")[:3:2] for _ in range(4)]
        assert extra == 0 and [body for _, body in found] == [b"1", b"2", b"3", b"4"]
        assert [method.redelivered for method, _ in found] == [True, True, True, True]
        publish(channel, "q", "5")
        assert not get(channel, "q")[0].redelivered


def test_what_was_acknowledged_and_what_was_rejected_does_not_come_back(serve):
    amqp = serve()
    with bounded():
        channel = amqp.channel(confirm=True)
        channel.queue_declare("dead", durable=True)
        channel.queue_declare("q", durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
        publish(channel, "q", *map(str, range(30)), delivery_mode=2)
        for number in range(30):
            tag = get(channel, "q", ack=False)[0].delivery_tag
            if number % 3 == 0:
                channel.basic_ack(tag)
            elif number % 3 == 1:
                channel.basic_nack(tag, requeue=False)
            else:
                channel.basic_reject(tag, requeue=False)
        publish(channel, "q", "last", delivery_mode=2)      # confirmed: and all before it is on disk, too
        amqp.broker.proxy.kill()
        amqp.broker.proxy.start_again()
        channel = amqp.channel()
        assert bodies(channel, "q", 1) == [b"last"]
        assert bodies(channel, "dead", 20) == [b"%d" % number for number in range(30) if number % 3]


def test_a_transaction_is_published_and_acknowledged_when_its_commit_is_answered_and_not_before(serve):
    amqp = serve()
    with bounded():
        channel = amqp.channel(confirm=True)
        channel.queue_declare("q", durable=True)
        channel.queue_declare("out", durable=True)
        publish(channel, "q", "1", "2", "3", delivery_mode=2)
        working = amqp.channel()
        working.tx_select()
        for number in range(3):
            working.basic_ack(get(working, "q", ack=False)[0].delivery_tag)
            publish(working, "out", f"of {number}", delivery_mode=2)
            if number < 2:
                working.tx_commit()
        amqp.broker.proxy.kill()
        amqp.broker.proxy.start_again()
        channel = amqp.channel()
        method, _, body = get(channel, "q")
        assert (body, method.redelivered) == (b"3", True)
        assert bodies(channel, "q") == [] and bodies(channel, "out", 2) == [b"of 0", b"of 1"]


def test_what_a_lost_connection_had_not_acknowledged_comes_again_and_its_transaction_never_was(serve):
    amqp = serve()
    with bounded():
        channel = amqp.channel(confirm=True)
        channel.queue_declare("q", durable=True)
        publish(channel, "q", *map(str, range(10)), delivery_mode=2)
        raw = Raw(connect(amqp.broker.proxy.address)).open().open_channel().open_channel(2)
        raw.method(1, spec.Basic.Consume(queue="q")).expect(spec.Basic.ConsumeOk)
        wait_count(channel, "q", 0)
        raw.method(2, spec.Tx.Select()).send(publishing(2, "q", b"never"))
        raw.method(1, spec.Basic.Ack(4, True)).method(1, spec.Basic.Get(queue="q"))     # whose answer says that it has read all
        while b"\0\x3c\0\x48" not in raw.peer.received:
            raw.peer.read_some()
        raw.peer.reset()
        wait_count(channel, "q", 6)
        found = [get(channel, "q")[:3:2] for _ in range(6)]
        assert [(method.redelivered, body) for method, body in found] == [(True, b"%d" % number) for number in range(4, 10)]
        assert count(channel, "q") == 0


def test_a_full_disk_confirms_nothing_that_it_has_not(serve):
    """A confirm of several never speaks for one before them that found no room: all confirmed are there after a crash."""
    amqp = serve(more="state-max = 16m")
    with bounded(120):
        channel = amqp.channel()
        channel.queue_declare("q", durable=True)
        raw = Raw(connect(amqp.broker.proxy.address)).open().open_channel()
        raw.method(1, spec.Confirm.Select()).expect(spec.Confirm.SelectOk)
        chance, sent, confirmed, taken, upto = random.Random(7), 0, set(), set(), 0
        end = time.monotonic() + 6
        raw.peer.sock.settimeout(0.2)
        while time.monotonic() < end:
            try:
                sent += 1
                raw.send(publishing(1, "q", (b"%d " % sent).ljust(chance.choice([50, 50, 500, 4000, 30000]), b"x")))
            except OSError:
                break       # it does not read: there is no room
            if sent % 50 == 0:
                for _ in range(chance.choice([0, 0, 30])):
                    taken.add(take_one(channel))
            upto = read_confirms(raw, confirmed, upto)
        for _ in range(300):    # makes room, while what is stuck is tried again
            taken.add(take_one(channel))
            upto = read_confirms(raw, confirmed, upto)
        time.sleep(0.3)
        read_confirms(raw, confirmed, upto)
        amqp.broker.proxy.kill()
        raw.close()
        amqp.broker.proxy.start_again()
        channel = amqp.channel()
        found = {int(body.split(b" ", 1)[0]) for body in bodies(channel, "q")}
        print(f"{sent} sent, {len(confirmed)} confirmed, {len(taken)} taken, {len(found)} found")
        assert len(confirmed) > 100
        check_none("confirmed, and lost", confirmed - found - taken)


def take_one(channel):
    """The number of the oldest; -1: none."""
    body = channel.basic_get("q", auto_ack=True)[2]
    return int(body.split(b" ", 1)[0]) if body else -1


def read_confirms(raw, confirmed, upto):
    """What came; upto: all tags until there were answered."""
    while raw.peer.readable(0):
        _, answer = raw.read_method()
        if isinstance(answer, spec.Basic.Ack):
            confirmed.update(range(upto + 1, answer.delivery_tag + 1) if answer.multiple else [answer.delivery_tag])
        if isinstance(answer, (spec.Basic.Ack, spec.Basic.Nack)) and (answer.multiple or answer.delivery_tag == upto + 1):
            upto = max(upto, answer.delivery_tag)
    return upto
