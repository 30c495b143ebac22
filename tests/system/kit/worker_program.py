#!/usr/bin/python3
"""A worker that maitred starts: takes messages by AMQP, and does with each what its body says.

worker_program.py LEDGER [WORD...]: each thing that happens is a line at the end of the file LEDGER. Words that are names of
functions below are done at the start. A message is JSON: {"id": 1} and what to do before it is acknowledged: "seconds",
"until" (a file that must be there), "say" (a line), "do" (a word).
"""
import json
import os
import signal
import subprocess
import sys
import time

import pika

LEDGER = sys.argv[1]


def note(*words):
    """One write, so that lines of several processes do not mix."""
    descriptor = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, (" ".join([str(os.getpid()), os.environ["MAITRED_WORKER_NUMBER"], *map(str, words)]) + "\n").encode())
    os.close(descriptor)


def await_file(path):
    end = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.005)


def environment():
    note("environment", json.dumps(dict(os.environ)))


def crash():
    note("crash")
    os.kill(os.getpid(), signal.SIGKILL)


def fail_while_broken():
    """While there is a file "broken" beside the ledger."""
    if os.path.exists(os.path.join(os.path.dirname(LEDGER), "broken")):
        print("it is broken", flush=True)
        sys.exit(3)


def ignore_sigterm():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def close_output():
    os.close(1)
    os.close(2)


def have_children():
    """One in the worker's process group, and one that left it, and whose parent has gone."""
    child = subprocess.Popen(["sleep", "600"])
    note("child", child.pid)
    stray = subprocess.run(["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & echo $!"], stdout=subprocess.PIPE, check=True)
    note("child", int(stray.stdout))


def work(channel, method, _, body):
    message = json.loads(body)
    note("begin", message["id"], int(method.redelivered))
    if "say" in message:
        print(message["say"], flush=True)
    if "until" in message:
        await_file(message["until"])
    time.sleep(message.get("seconds", 0))
    if "do" in message:
        globals()[message["do"]]()
    note("end", message["id"])
    channel.basic_ack(method.delivery_tag)


def main():
    note("start")
    for word in sys.argv[2:]:
        if word in globals():
            globals()[word]()
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=int(os.environ["MAITRED_SLOTS"]))
    channel.basic_consume(os.environ["MAITRED_QUEUE"], work)
    channel.start_consuming()


main()
