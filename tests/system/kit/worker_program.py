#!/usr/bin/python3
"""A worker that maitred starts: takes messages by AMQP, and does with each what its body says.

worker_program.py LEDGER [WORD...]: each thing that happens is a line at the end of the file LEDGER. Words that are names of
functions of worker_deeds.py are done at the start. A message is JSON: {"id": 1} and what to do before it is acknowledged: "seconds",
"until" (a file that must be there), "say" (a line), "do" (a word).
"""
import json
import os

import pika
import worker_deeds
from worker_deeds import note


def work(channel, method, _, body):
    message = json.loads(body)
    note("begin", message["id"], int(method.redelivered))
    worker_deeds.work(message)
    note("end", message["id"])
    channel.basic_ack(method.delivery_tag)


def main():
    worker_deeds.begin()
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=int(os.environ["MAITRED_SLOTS"]))
    channel.basic_consume(os.environ["MAITRED_QUEUE"], work)
    channel.start_consuming()


main()
