#!/usr/bin/python3
"""A worker that maitred starts: takes messages by AMQP, and does with each what its body says.

worker_program.py LEDGER [WORD...]: each thing that happens is a line at the end of the file LEDGER. Words that are names of
functions of worker_deeds.py are done at the start. A message is JSON: {"id": 1} and what to do before it is acknowledged: "seconds",
"until" (a file that must be there), "say" (a line), "do" (a word), and then: "then": "leave" (it closes its connection, and lives on).
With the word "ask" it does not consume, but asks for each message.
"""
import json
import os
import sys
import time

import pika
import worker_deeds
from worker_deeds import note


def work(channel, method, _, body):
    message = json.loads(body)
    note("begin", message["id"], int(method.redelivered))
    worker_deeds.work(message)
    note("end", message["id"])
    channel.basic_ack(method.delivery_tag)
    if message.get("then") == "leave":
        channel.connection.close()
        worker_deeds.hang()


def ask(channel):
    while True:
        method, properties, body = channel.basic_get(os.environ["MAITRED_QUEUE"])
        if method:
            work(channel, method, properties, body)
        else:
            note("nothing")
            time.sleep(0.05)


def main():
    worker_deeds.begin()
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=int(os.environ["MAITRED_SLOTS"]))
    if "ask" in sys.argv:
        ask(channel)
    channel.basic_consume(os.environ["MAITRED_QUEUE"], work)
    channel.start_consuming()


main()
