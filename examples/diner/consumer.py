"""consumer.py - a worker that takes its messages by AMQP: what those of the diner have in common.

maitred starts as many as are needed (`workers` in maitred.conf) and says in the environment what each has to know; by hand:
    AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2F MAITRED_QUEUE=thumbnails examples/diner/thumbnailer.py

It holds MAITRED_SLOTS messages at a time, each on a thread of its own, and acknowledges one when its result is in the
database. Told to end (SIGTERM) it takes no more, finishes what it has, and goes; so it does, with exit code 1, when it has
lost maitred: what was not acknowledged comes again, to another worker perhaps.
"""
import concurrent.futures
import functools
import os
import secrets
import signal
import sys
import threading
import time

try:
    import pika
except ImportError:
    sys.exit("a worker needs pika (apt-get install python3-pika)")

import database

TROUBLE_SECONDS = 0.5       # until a database in trouble is tried again


class Consumer:
    """work(body): the result, as text; may be called on many threads at a time."""

    def __init__(self, work):
        self.work = work
        self.queue = os.environ["MAITRED_QUEUE"]
        self.slots = int(os.environ.get("MAITRED_SLOTS", "4"))
        self.name = " ".join(filter(None, [os.environ.get("MAITRED_WORKER", self.queue),
                                           os.environ.get("MAITRED_WORKER_NUMBER")]))
        self.ending = threading.Event()
        self.under_way = 0
        self.threads = concurrent.futures.ThreadPoolExecutor(self.slots)

    def run(self):
        """Until it is told to end. The thread that calls it is the only one that talks to maitred."""
        self.connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
        self.channel = self.connection.channel()
        self.channel.basic_qos(prefetch_count=self.slots)
        self.channel.basic_consume(self.queue, self.take)
        threading.Thread(target=self.wait_for_end, daemon=True).start()
        self.channel.start_consuming()
        while self.under_way:
            self.connection.process_data_events(time_limit=1)
        self.connection.close()

    def wait_for_end(self):
        signal.sigwait({signal.SIGTERM})
        self.ending.set()
        self.connection.add_callback_threadsafe(self.channel.stop_consuming)

    def take(self, _channel, method, properties, body):
        count = (properties.headers or {}).get("x-delivery-count")      # quorum queues tell it
        delivery = database.Delivery(
            self.queue, properties.message_id or secrets.token_hex(8),     # without a name no repeat can be told
            body.decode("utf-8", "replace"), None if count is None else count + 1, method.redelivered, time.time())
        self.under_way += 1
        self.threads.submit(self.handle, method.delivery_tag, delivery)

    def handle(self, tag, delivery):
        settle = functools.partial(self.channel.basic_nack, tag)    # it goes back
        try:
            if self.store(delivery):
                settle = functools.partial(self.channel.basic_ack, tag)
        finally:
            self.connection.add_callback_threadsafe(functools.partial(self.settle, settle))

    def settle(self, settle):
        settle()
        self.under_way -= 1

    def store(self, delivery):
        """Whether the message is done with. While the database is in trouble it is kept, and tried again."""
        while True:
            try:
                database.handle(delivery, self.name, functools.partial(self.work, delivery.body))
                return True
            except database.Trouble as trouble:
                print(f"{self.name}: message {delivery.message_id}: {trouble}", file=sys.stderr, flush=True)
            delivery = delivery._replace(redelivered=True)      # nobody knows whether it was stored
            if self.ending.wait(TROUBLE_SECONDS):
                return False


def main(work):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    for name in ("AMQP_URL", "MAITRED_QUEUE"):
        if name not in os.environ:
            sys.exit(f"{sys.argv[0]}: {name} is not set; maitred sets it for those that it starts")
    database.start_telling()
    consumer = Consumer(work)
    try:
        consumer.run()
    except (pika.exceptions.AMQPError, OSError) as error:
        consumer.ending.set()
        sys.exit(f"{consumer.name}: maitred: {error!r}")
