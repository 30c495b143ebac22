#!/usr/bin/python3
"""analyst.py - a worker: counts who signs up, by the first letter. See consumer.py."""
import consumer


def count(guest):
    return f"one more with {guest[:1].upper() or 'no name'}"


if __name__ == "__main__":
    consumer.main(count)
