"""levels - more comes than leaves for a while: whether a queue answers meanwhile, keeps its pace, and loses nothing."""
import dataclasses
import json
import time

from counters import family_of, private_memory
from programs import Trouble, ask
from proxies import LEVEL_RATE

LEVEL_SECONDS = 10      # that requests come for; as long again the queue is watched
SETTLE_SECONDS = 2      # from the first message to the load: the log's first files are made meanwhile
START_SECONDS = 1       # after which the pace of deliveries counts
LATE_SECONDS = 30       # beyond what delivering the rest should take
AFTER_SECONDS = 1       # in which a message that is delivered twice would come


@dataclasses.dataclass
class Level:
    sample: object          # of the time in which requests came
    sent: int               # messages, warm-up included
    rates: dict             # when, as text -> deliveries a second
    memory: dict            # seconds -> private bytes
    emptied: float          # seconds until all was delivered, since the rate was raised, or would have been
    posts: int
    different: int


def count(origin):
    """What the origin counted: posts, different ones, and when it was asked."""
    status, body = ask(origin, "/count")
    if status != 200:
        raise Trouble(f"the origin tells no count: {status} {body!r}")
    counted = json.loads(body)
    return counted["posts"], counted["different"], time.monotonic()


def pace(before, after):
    return (after[0] - before[0]) / (after[2] - before[2])


class Watch:
    """Looks at memory and deliveries at moments of a run that begins when it is made."""

    def __init__(self, process, origin):
        self.pids, self.origin, self.start = family_of(process.pid), origin, time.monotonic()
        self.memory, self.counts = {0: private_memory(self.pids)}, {}

    def look(self, seconds):
        time.sleep(max(0, self.start + seconds - time.monotonic()))
        self.counts[seconds] = count(self.origin)
        self.memory[seconds] = private_memory(self.pids)


def wait_until_all(origin, sent, seconds):
    """The seconds it took; what is missing after so many is lost."""
    start = time.monotonic()
    while count(origin)[1] < sent and time.monotonic() < start + seconds:
        time.sleep(0.05)
    return time.monotonic() - start


def measure_level(bench, cell, place, process, origin, hurry):
    """hurry raises the rate at which all that is left is delivered; None: it stays as it is."""
    seconds, watches = bench.level_seconds, []

    def watch():
        watches.append(Watch(process, origin))
        watches[0].look(START_SECONDS)
        watches[0].look(seconds / 2)
        watches[0].look(seconds)

    status, body = ask(place.port, "/")      # a GET, which the origin does not count
    if status != 202:
        raise Trouble(f"the first message was answered with {status}: {body!r}")
    time.sleep(SETTLE_SECONDS)
    sample = bench.load_once(place, process, cell.load, seconds, meanwhile=watch)
    seen = watches[0]
    seen.look(1.5 * seconds)
    seen.look(2 * seconds)
    sent = sample.requests + int(cell.load[cell.load.index("--connections") + 1])
    if hurry:
        hurry()
    emptied = wait_until_all(origin, sent, LATE_SECONDS + (0 if hurry else sent / LEVEL_RATE))
    time.sleep(AFTER_SECONDS)
    posts, different, _ = count(origin)
    first, middle, last = (seen.counts[when] for when in (START_SECONDS, seconds, 2 * seconds))
    return Level(sample, sent, {"while they came": pace(first, middle), "afterwards": pace(middle, last),
                                "from the first second on": pace(first, last)},
                 seen.memory, emptied, posts, different)
