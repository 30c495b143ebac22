"""What the diner has written down in its database, read from outside; and what the crashes that a test has caused explain."""
import contextlib
import sqlite3
from dataclasses import dataclass
from typing import NamedTuple

from kit.postgresql import psycopg2

# How long before a crash a result may have been stored and its acknowledgement still be forgotten in it. The answer has to
# reach maitred, and waits there for the turn of the queue thread that is under way: see kit/ledger.py. The rest is for a
# machine that has much else to do.
FORGOTTEN_SECONDS = 5.0
# How long a worker may take to read what somebody had sent to it who is dead.
READ_SECONDS = 1.0


class Handled(NamedTuple):
    queue: str
    message_id: str
    body: str
    result: str
    times: int


class Handling(NamedTuple):
    queue: str
    message_id: str
    attempt: int | None
    redelivered: int
    worker: str
    pid: int
    received: float
    stored: float


@dataclass
class Crash:
    """It happened between begin and end, in seconds of the clock on the wall."""
    victim: str             # maitred, database, or another
    begin: float
    pid: int | None = None  # of a worker or a kitchen
    queues: tuple = ()      # of the workers that ended with it
    end: float | None = None

    def explains(self, first, second):
        """The acknowledgement of the first handling may have been lost in it, or never have been written."""
        if self.victim == "database" and first.stored > self.end:
            return False        # that was stored without trouble
        return (self.victim in ("maitred", "database") or self.pid == first.pid or first.queue in self.queues) and \
            first.received <= self.end + READ_SECONDS and self.begin <= second.stored and \
            self.begin - first.stored <= FORGOTTEN_SECONDS


class Books:
    """url: of a PostgreSQL; without it the file of SQLite in that folder of logs."""

    def __init__(self, logs, url=None):
        self.logs, self.url = logs, url

    def rows(self, statement):
        connection = psycopg2.connect(self.url) if self.url else sqlite3.connect(self.logs / "database" / "diner.db")
        with contextlib.closing(connection):
            cursor = connection.cursor()
            cursor.execute(statement)
            return cursor.fetchall()

    def handled(self, where="TRUE"):
        return [Handled(*row) for row in
                self.rows(f"SELECT queue, message_id, body, result, times FROM handled WHERE {where}")]

    def handlings(self, where="TRUE"):
        """By message, as they were received."""
        return [Handling(*row) for row in self.rows(
            "SELECT queue, message_id, attempt, redelivered, worker, pid, received, stored FROM handlings "
            f"WHERE {where} ORDER BY queue, message_id, received, stored")]

    def repeats(self, crashes):
        """(handling, the next one of the same message, the crashes that explain it) for each that was not the first."""
        handlings = self.handlings(
            "(queue, message_id) IN (SELECT queue, message_id FROM handlings GROUP BY queue, message_id HAVING count(*) > 1)")
        for first, second in zip(handlings, handlings[1:]):
            if (first.queue, first.message_id) == (second.queue, second.message_id):
                yield first, second, [crash for crash in crashes if crash.explains(first, second)]

    def miscounted(self):
        """Messages of which another number of handlings is told than there is."""
        return self.rows("SELECT h.queue, h.message_id, h.times, count(*) FROM handled h LEFT JOIN handlings a "
                         "ON a.queue = h.queue AND a.message_id = h.message_id "
                         "GROUP BY h.queue, h.message_id, h.times HAVING count(*) <> h.times")


__all__ = ["Books", "Crash", "Handled", "Handling"]
