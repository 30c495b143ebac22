#!/usr/bin/python3
"""thumbnailer.py - a worker: makes a thumbnail of each photo, and of who signs up. See consumer.py.

Environment: THUMBNAIL_MS   how long each takes (50)
             THUMBNAIL_CPU  "yes": it computes for so long, and does not only wait
"""
import hashlib
import os
import time

import consumer

SECONDS = int(os.environ.get("THUMBNAIL_MS", "50")) / 1000
COMPUTES = os.environ.get("THUMBNAIL_CPU") == "yes"
SCANLINE = bytes(64 * 1024)


def make(photo):
    end = time.thread_time() + SECONDS
    while COMPUTES and time.thread_time() < end:
        hashlib.sha256(SCANLINE)
    if not COMPUTES:
        time.sleep(SECONDS)
    return f"a thumbnail of {photo}"


if __name__ == "__main__":
    consumer.main(make)
