#!/usr/bin/python3
"""A worker that maitred starts: a process for one message, which does what its standard input says.

filter_program.py LEDGER [WORD...]: as worker_program.py, and these words: "deaf" (closes its input unread, and ends), "patient"
(reads once there is a file "open" beside the ledger), "bytes" (notes how many there are). A message may say "code", the exit code.
"""
import json
import os
import sys

import worker_deeds
from worker_deeds import note


def main():
    worker_deeds.begin()
    if "deaf" in sys.argv:
        os.close(0)
        return 0
    if "patient" in sys.argv:
        worker_deeds.await_file(worker_deeds.beside_ledger("open"))
    body = sys.stdin.buffer.read()
    if "bytes" in sys.argv:
        note("bytes", len(body))
        return 0
    message = json.loads(body)
    note("begin", message["id"], os.environ["MAITRED_ATTEMPT"], os.environ["MAITRED_REDELIVERED"])
    worker_deeds.work(message)
    if message.get("code", 0) == 0:
        note("end", message["id"])
    return message.get("code", 0)


sys.exit(main())
