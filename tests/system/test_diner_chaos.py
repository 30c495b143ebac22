"""The whole of examples/diner while somebody kills one of its processes after the other: a web server, a kitchen, a worker,
the keeper of the workers, the database, maitred. Guests go on ordering; at the end it is checked against the database that
nothing which was confirmed is lost, and that nothing was handled twice which no kill explains.

DINER_SECONDS: how long (20). DINER_SEED: the one that is printed repeats who is killed and what guests want, not the moments.
DINER_DATABASE: sqlite, or postgresql, which is taken where it is installed. With -s it tells what it does.
"""
import collections
import contextlib
import os
import random
import time

import pytest

from kit import postgresql
from kit.books import Books, Crash
from kit.guests import Guest
from kit.ledger import is_empty
from kit.process import SANITIZER
from kit.staff import Staff, crew, kill
from kit.wire import PeerGone, TimedOut

SECONDS = int(os.environ.get("DINER_SECONDS", "20"))
SEED = int(os.environ.get("DINER_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
DATABASE = os.environ.get("DINER_DATABASE", "sqlite" if postgresql.why_not() else "postgresql")
INTERVAL = 2 if SECONDS < 300 else 10           # seconds from one kill to the next
AWAY_MOST = 1.0 if SECONDS < 300 else 4.0       # how long what was killed stays away
GUESTS = 8
SETTLE_SECONDS = 120 if SECONDS < 300 else 600
READERS = {"/orders": ["orders"], "/photos": ["thumbnails"], "/signup": ["billing", "analytics", "thumbnails"]}
WORKED = ("thumbnails", "analytics", "billing")         # queues whose workers maitred starts
RESULTS = {"orders": "cooked {}", "thumbnails": "a thumbnail of {}", "billing": "a bill for {}",
           "analytics": "one more with {}"}


class Chaos:
    """One evening. Everything is done on the thread that made it, but for the guests."""

    def __init__(self, folder, cluster):
        self.chance, self.cluster = random.Random(SEED), cluster
        url = cluster.new_database() if cluster else None
        self.staff = Staff(folder, {"DATABASE_URL": url} if url else {})
        self.books = Books(self.staff.logs, url)
        self.crashes, self.kinds, self.most_workers = [], collections.Counter(), 0
        self.began = time.monotonic()
        self.guests = [Guest(number, self.staff.client, self.chance.random()) for number in range(GUESTS)]

    def tell(self, text):
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", flush=True)

    # --- kills. Each returns when what was killed is there again

    def away(self):
        self.watch(self.chance.uniform(0, AWAY_MOST))

    def watch(self, seconds):
        """For so long, and how many workers there are."""
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError, PeerGone, TimedOut):      # maitred may be away
                self.most_workers = max(self.most_workers, crew(self.staff.admin.state(), "thumbnailer")["running"])
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.5))

    def crash(self, victim, pid=None, queues=()):
        crash = Crash(victim, time.time(), pid, queues)
        self.crashes.append(crash)
        self.kinds[victim.split()[0]] += 1
        return crash

    def kill_part(self, part):
        crash = self.crash(part.name, part.pid)
        part.kill()
        crash.end = time.time()
        self.away()
        part.start()
        part.wait_answers()
        return f"{part.name}, pid {crash.pid}"

    def kill_web(self):
        return self.kill_part(self.chance.choice(self.staff.of_kind("web")))

    def kill_kitchen(self):
        return self.kill_part(self.chance.choice(self.staff.of_kind("kitchen")))

    def kill_worker(self):
        """One of those that maitred has started; it starts another."""
        hired = self.staff.hired()
        pid = self.chance.choice(sorted(hired))
        crash = self.crash(hired[pid], pid)
        kill(pid)
        crash.end = time.time()
        return f"{hired[pid]}, pid {pid}"

    def kill_keeper(self):
        """The process between maitred and its workers, which end with it."""
        pid = self.staff.keeper()
        crash = self.crash("keeper", queues=WORKED)
        kill(pid)
        crash.end = time.time()
        return f"keeper, pid {pid}"

    def kill_maitred(self):
        told = self.kill_part(self.staff.maitred)
        self.crashes[-1].end = time.time()      # what it had sent is read by now
        return told

    def kill_database(self):
        crash = self.crash("database")
        backends = self.cluster.backends()
        if backends and self.chance.random() < 0.5:
            pid = self.chance.choice(backends)
            self.cluster.kill_backend(pid)
            told = f"database, backend {pid}"
        else:
            told = f"database, postmaster {self.cluster.process.pid}"
            self.cluster.kill()
            self.away()
            self.cluster.start_again()
        crash.end = time.time()
        return told

    def go_on(self):
        """Until the time is over. In a round each has its turn."""
        kills = [self.kill_web, self.kill_kitchen, self.kill_worker, self.kill_keeper, self.kill_maitred]
        kills += [self.kill_database] if self.cluster else []
        turns = []
        while (next_one := time.monotonic() + INTERVAL) < self.began + SECONDS:
            turns = turns or self.chance.sample(kills, len(kills))
            before = time.monotonic()
            told = turns.pop()()
            self.tell(f"killed {told}; {time.monotonic() - before:.2f} s")
            self.watch(next_one - time.monotonic())

    def settle(self):
        """The guests go, and all that they wanted is handled."""
        for guest in self.guests:
            guest.end()
        before = time.monotonic()
        self.staff.wait(is_empty, "every queue is empty", SETTLE_SECONDS)
        self.tell(f"all queues are empty, {time.monotonic() - before:.1f} s after the last guest")

    # --- the end

    def confirmed(self):
        """{(target, text): id}"""
        return {wish: message_id for guest in self.guests for wish, message_id in guest.confirmed.items()}

    def close(self):
        codes = self.staff.close()
        for part in [*self.staff.servers, self.staff.maitred]:
            print(f"--- {part.name}\n{part.told()}")
        assert not any(codes.values()), codes
        assert not SANITIZER.search(self.staff.maitred.log.read_text(errors="replace"))


@pytest.fixture
def chaos(tmp_path):
    cluster = postgresql.PostgreSQL() if DATABASE == "postgresql" else None
    try:
        chaos = Chaos(tmp_path, cluster)
        try:
            yield chaos
        finally:
            chaos.close()
    finally:
        if cluster:
            cluster.stop()


def check_none(what, found):
    if found:
        pytest.fail(f"{len(found)} {what}: {list(found)[:10]}")


def result_of(queue, text):
    return RESULTS[queue].format(text[:1] if queue == "analytics" else text)


def check_nothing_is_lost(confirmed, handled):
    """In each queue, under the name that was told, once, and with the right result."""
    wanted = {(queue, message_id): (text, result_of(queue, text))
              for (target, text), message_id in confirmed.items() for queue in READERS[target]}
    found = {(row.queue, row.message_id): (row.body, row.result) for row in handled}
    check_none("confirmed, and not in the database", wanted.keys() - found.keys())
    check_none("in the database with another result", [key for key in wanted if wanted[key] != found[key]])
    return found.keys() - wanted.keys()


def figures(chaos, confirmed, handled, repeats):
    """What happened, for people."""
    answers = sum((guest.answers for guest in chaos.guests), collections.Counter())
    kinds = collections.Counter(target for target, _ in confirmed)
    best = [(first, min(crashes, key=lambda crash: abs(crash.begin - first.stored)))
            for first, _, crashes in repeats if crashes]
    explained = collections.Counter(crash.victim.split()[0] for _, crash in best)
    oldest = max((crash.begin - first.stored for first, crash in best), default=0)
    return "\n".join([
        f"seed {SEED}, {DATABASE}, {SECONDS} s; kills: " + ", ".join(f"{n} {kind}" for kind, n in chaos.kinds.items()),
        f"confirmed: {kinds['/orders']} orders, {kinds['/photos']} photos, {kinds['/signup']} sign-ups; the longest took "
        f"{max(guest.longest for guest in chaos.guests):.1f} s with its retries",
        f"no answer: {sum(n for (_, status), n in answers.items() if status == 0)}; 503: "
        f"{sum(n for (_, status), n in answers.items() if status == 503)}; pages: {answers['/', 200]}",
        f"rows: {len(handled)}; handled again: {len(repeats)}, explained by {dict(explained)}; the oldest result that was "
        f"forgotten was stored {oldest:.2f} s before the crash; at most {chaos.most_workers} thumbnailers"])


def test_nothing_is_lost_whatever_is_killed(chaos):
    """And nothing is handled twice without a cause."""
    chaos.staff.open()
    for guest in chaos.guests:
        guest.start()
    chaos.go_on()
    chaos.settle()
    confirmed, handled, repeats = chaos.confirmed(), chaos.books.handled(), list(chaos.books.repeats(chaos.crashes))
    print(figures(chaos, confirmed, handled, repeats))

    check_none("answers that should not be", [each for guest in chaos.guests for each in guest.wrong])
    check_none("given up", set().union(*(guest.given_up for guest in chaos.guests)))
    assert confirmed and len(set(confirmed.values())) == len(confirmed), "one name for two"
    check_none("in the database, and nobody's", check_nothing_is_lost(confirmed, handled))
    check_none("handled again, and no kill explains it", [each[:2] for each in repeats if not each[2]])
    check_none("handled again, and not marked as redelivered", [
        (first, second) for first, second, crashes in repeats
        if not second.redelivered and not any(crash.victim == "database" for crash in crashes)])
    check_none("of which another number of handlings is told than there is", chaos.books.miscounted())
