"""database.py - the one database of the diner: a file of SQLite in LOGS, or the PostgreSQL that DATABASE_URL names.

What was handled is in the table `handled`, a row per queue and message: a message that comes again is counted there, and
its work is not done again. Each single time is in `handlings`: which attempt it was, who had it, and when. A result and its
count are written in one transaction, and the message is acknowledged after that: when something dies in between, it comes
again, and finds its row. By itself this program tells how many there are:
    /usr/bin/python3 examples/diner/database.py

A database does so much at a time and no more: DATABASE_CONNECTIONS are in use at most, by all processes together. Each is a
lock on a file, which goes with the process that holds it. How many there are one of the processes tells maitred (the gauge
`database`), so that maitred calls in no workers that would only wait for one. Any thread may call what is here.

Environment: LOGS, DATABASE_URL; DATABASE_CONNECTIONS (20); MAITRED_ADMIN: whom to tell, such as http://127.0.0.1:8900
"""
import contextlib
import fcntl
import http.client
import json
import math
import os
import pathlib
import sqlite3
import sys
import threading
import time
import typing
import urllib.parse

URL = os.environ.get("DATABASE_URL", "")
if URL:
    try:
        import psycopg2
    except ImportError:
        sys.exit("DATABASE_URL needs psycopg2 (apt-get install python3-psycopg2)")
    ERRORS = psycopg2.Error
else:
    ERRORS = sqlite3.Error

CONNECTIONS = int(os.environ.get("DATABASE_CONNECTIONS", "20"))
GAUGE = "database"
BUSY_SECONDS = 10               # for a lock of SQLite, for a connection to PostgreSQL
LOOKS, LOOK_SECONDS = 10, 0.1   # at how many connections are in use, for each time it is told

SCHEMA = [
    """CREATE TABLE IF NOT EXISTS handled (
        queue TEXT, message_id TEXT, body TEXT, result TEXT, times INTEGER, first_at DOUBLE PRECISION,
        last_at DOUBLE PRECISION, worker TEXT, PRIMARY KEY (queue, message_id))""",
    """CREATE TABLE IF NOT EXISTS handlings (
        queue TEXT, message_id TEXT, attempt INTEGER, redelivered INTEGER, worker TEXT, pid INTEGER,
        received DOUBLE PRECISION, stored DOUBLE PRECISION)""",
]
COLUMNS = ("queue", "message_id", "body", "result", "times", "first_at", "last_at", "worker")


class Trouble(Exception):
    """The database does not do its work at present: later, perhaps."""


def folder():
    return pathlib.Path(os.environ.get("LOGS") or "build/diner") / "database"


def open_folder():
    (folder() / "connections").mkdir(parents=True, exist_ok=True)


# --- connections ----------------------------------------------------------------------------------

@contextlib.contextmanager
def locked(path):
    """While nobody else, of any process, has it locked."""
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def try_lock(path, how):
    """The file, locked, which is the caller's to close; None: somebody has it."""
    file = open(path, "ab")
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
        return file
    except BlockingIOError:
        file.close()
        return None


def slots():
    return [folder() / "connections" / str(number) for number in range(CONNECTIONS)]


@contextlib.contextmanager
def slot():
    """One of the connections that there may be; waits until there is one."""
    paths = slots()
    for path in paths:
        if file := try_lock(path, fcntl.LOCK_EX):
            with file:
                yield
            return
    with locked(paths[threading.get_native_id() % CONNECTIONS]):
        yield


def in_use():
    """How many there are at this moment, of all processes."""
    count = 0
    for path in slots():
        if file := try_lock(path, fcntl.LOCK_SH):
            file.close()
        else:
            count += 1
    return count


idle = []           # open connections that nobody uses


def connect():
    if URL:
        return psycopg2.connect(URL, connect_timeout=BUSY_SECONDS)
    connection = sqlite3.connect(folder() / "diner.db", timeout=BUSY_SECONDS, isolation_level=None,
                                 check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


@contextlib.contextmanager
def transaction(writes=True):
    """A cursor. What is done with it is done when this ends well, and not at all otherwise."""
    with slot():
        connection = None
        try:
            time.sleep(delay_ms() / 1000)
            try:
                connection = idle.pop()
            except IndexError:
                connection = connect()
            cursor = connection.cursor()
            if not URL:
                cursor.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            yield Cursor(cursor)
            connection.commit()
            idle.append(connection)
            connection = None
        except ERRORS as error:
            idle.clear()        # where one is broken, the others are, too
            raise Trouble(str(error).strip().partition("\n")[0] or type(error).__name__) from error
        finally:
            if connection:
                connection.close()


class Cursor:
    """Statements with ? for both databases."""

    def __init__(self, cursor):
        self.cursor = cursor

    def execute(self, statement, *values):
        self.cursor.execute(statement.replace("?", "%s") if URL else statement, values)
        return self.cursor

    def row(self, statement, *values):
        return self.execute(statement, *values).fetchone()


def check():
    """Whether it can be used; makes its tables. Trouble: it cannot."""
    with locked(folder() / "schema"), transaction() as cursor:
        for statement in SCHEMA:
            cursor.execute(statement)


# --- a knob: a slow database ----------------------------------------------------------------------

def delay_ms():
    """What each transaction takes longer, with its connection in use."""
    try:
        return int((folder() / "slow").read_text() or 0)
    except FileNotFoundError:
        return 0


def set_delay_ms(delay):
    (folder() / "slow.new").write_text(str(int(delay)))
    (folder() / "slow.new").replace(folder() / "slow")


# --- what was handled -----------------------------------------------------------------------------

class Delivery(typing.NamedTuple):
    """A message, and how it came."""
    queue: str
    message_id: str
    body: str
    attempt: int | None     # None: it was not told
    redelivered: bool       # whether it may have been handled before
    received: float


def handle(delivery, worker, work):
    """The result of work(), which is written down; that of the first time, when it was done before. Trouble: nobody
    knows whether it is written; the message has to come again."""
    result = again(delivery, worker) if delivery.redelivered else None
    if result is not None:
        return result
    result = work()
    with transaction() as cursor:
        now = time.time()
        result, = cursor.row(
            "INSERT INTO handled VALUES (?, ?, ?, ?, 1, ?, ?, ?) ON CONFLICT (queue, message_id) DO UPDATE "
            "SET times = handled.times + 1, last_at = excluded.last_at RETURNING result",
            delivery.queue, delivery.message_id, delivery.body, result, now, now, worker)
        enter(cursor, delivery, worker)
    return result


def again(delivery, worker):
    """Its result, once more; None: it was not done before."""
    with transaction() as cursor:
        row = cursor.row("UPDATE handled SET times = times + 1, last_at = ? WHERE queue = ? AND message_id = ? "
                         "RETURNING result", time.time(), delivery.queue, delivery.message_id)
        if row:
            enter(cursor, delivery, worker)
    return row and row[0]


def enter(cursor, delivery, worker):
    cursor.execute("INSERT INTO handlings VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                   delivery.queue, delivery.message_id, delivery.attempt, int(delivery.redelivered), worker, os.getpid(),
                   delivery.received, time.time())


def find(message_id, *queues):
    """[a dictionary] of the queues that it was handled from."""
    with transaction(writes=False) as cursor:
        rows = [cursor.row("SELECT * FROM handled WHERE queue = ? AND message_id = ?", queue, message_id)
                for queue in queues]
    return [dict(zip(COLUMNS, row)) for row in rows if row]


def main():
    open_folder()
    check()
    with transaction(writes=False) as cursor:
        for queue, messages, again_too in cursor.execute(
                "SELECT queue, count(*), sum(times) - count(*) FROM handled GROUP BY queue ORDER BY queue"):
            print(f"{queue:<10} {messages:>9,} messages, {again_too:>6,} handled again")


# --- telling maitred ------------------------------------------------------------------------------

def tell(value):
    to = urllib.parse.urlsplit(os.environ["MAITRED_ADMIN"])
    connection = http.client.HTTPConnection(to.hostname, to.port, timeout=5)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("POST", f"/api/gauges/{GAUGE}", json.dumps({"value": value}),
                           {"Content-Type": "application/json"})
        connection.getresponse().read()


def keep_telling():
    """One of all processes tells; when it is gone another does."""
    with locked(folder() / "teller"):
        while True:
            looks = []
            for _ in range(LOOKS):
                looks.append(in_use())
                time.sleep(LOOK_SECONDS)
            tell(math.ceil(sum(looks) / LOOKS))


def start_telling():
    """In the background, until the process ends."""
    if os.environ.get("MAITRED_ADMIN"):
        threading.Thread(target=keep_telling, daemon=True).start()


if __name__ == "__main__":
    try:
        main()
    except Trouble as why:
        sys.exit(f"the database: {why}")
