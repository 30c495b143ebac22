"""story.py - the steps of `maitred demo`. Each says what there is to see and where, plays, and returns how it went.

A step leaves the diner as it found it, but for the one that closes two of three servers: the next opens them again.
"""
import time
import typing
import zlib

TABLES = 300
DRINKERS = "320 GET /"
FLOOD, FLOOD_SHARE = 600, 0.3
SLOW_MS = 500
COOLDOWN = "10 s"               # as maitred.conf has it
SETTLE_SECONDS = 60             # for what ends by itself


def took(table):
    """How requests went, for people."""
    served = table["ok"] + table["stored"]
    parts = [f"{table['sent']:,} came, {served:,} were {'told yes (202)' if table['stored'] > table['ok'] else 'served'}"]
    kinds = ", ".join(f"{n:,} times {'no answer' if status == '0' else status}"
                      for status, n in table["error_statuses"].items())
    parts.append(f"{table['errors']:,} errors" + (f" ({kinds})" if kinds else ""))
    if table["unanswered"]:
        parts.append(f"{table['unanswered']:,} still wait")
    parts.append("nobody was served" if table["p50_ms"] is None else
                 f"half within {table['p50_ms']:,.0f} ms, 95 % within {table['p95_ms']:,.0f} ms")
    return "; ".join(parts)


def named(things, name):
    return next(each for each in things if each["name"] == name)


def server(stage, number):
    return f"127.0.0.1:{stage.diner.ports[number]}"


def drain(stage, pool, *numbers):
    for number in numbers:
        stage.admin.ask("POST", f"/api/pools/{pool}/servers/{server(stage, number)}/drain")


def open_again(stage, pool, *numbers):
    for number in numbers:
        stage.admin.ask("POST", f"/api/pools/{pool}/servers/{server(stage, number)}/reset")


def is_up(state, pool, address):
    return named(named(state["pools"], pool)["servers"], address)["state"] == "up"


def is_idle(state, pool):
    return not any(each["active"] + each["waiting"] for each in named(state["pools"], pool)["servers"])


# --- the steps ------------------------------------------------------------------------------------

def quiet(stage):
    stage.wish("40 GET /", "10 GET /menu?table=#", "5 POST /orders order=#", "5 POST /photos photo-#.jpg")
    stage.rest(1)
    return took(stage.wish())


def drown(stage):
    drain(stage, "web", 1, 2)
    stage.wish(DRINKERS)
    stage.rest(1)
    return took(stage.wish())


def scale_out(stage):
    open_again(stage, "web", 1, 2)
    stage.wait(10, lambda: is_idle(stage.admin.state(), "web"))     # who waits from before is served first
    stage.wish(DRINKERS)
    stage.rest(1)
    return took(stage.wish())


def kill(stage):
    victim = stage.diner.processes[1]
    stage.wish("160 GET /")
    stage.stay(0.3)
    victim.process.kill()
    stage.say(f"   {victim.name} (pid {victim.pid}) is killed: kill -9")
    stage.rest(0.4)
    stage.diner.start_again(1)
    stage.say(f"   {victim.name} is started again")
    back = stage.wait(10, lambda: is_up(stage.admin.state(), "web", server(stage, 1)))
    stage.stay(0.2)
    return took(stage.wish()) + f"; {victim.name} is {'back' if back > 0 else 'not back yet'}"


def whose(stage):
    """The server of each table, as maitred would choose it now."""
    url = f"/api/explain?listener=:{stage.diner.port}&url=http://localhost:{stage.diner.port}/menu%3Ftable="
    return [stage.admin.ask("GET", f"{url}{table}")["listeners"][0]["choice"] for table in range(TABLES)]


def moved(before, after):
    return sum(old != new for old, new in zip(before, after))


def hash_keys(stage):
    before = whose(stage)
    drain(stage, "menus", 1)
    after = whose(stage)
    stage.wish("30 GET /menu?table=#")
    stage.rest(1)
    stage.wish()
    open_again(stage, "menus", 1)
    gone, servers = server(stage, 1), [server(stage, number) for number in range(3)]
    hashes = [zlib.crc32(str(table).encode()) for table in range(TABLES)]
    left = [each for each in servers if each != gone]
    modulo = moved([servers[each % 3] for each in hashes], [left[each % 2] for each in hashes])
    needless = sum(old != new and old != gone for old, new in zip(before, after))
    return (f"of {TABLES} tables {moved(before, after)} have another server now, {needless} of them without need; "
            f"a hash modulo N would have moved {modulo}; and {moved(before, whose(stage))} when it is back")


def flood(stage, target):
    stage.wish(f"{FLOOD} POST {target} order=#")
    stage.stay(FLOOD_SHARE)
    return stage.wish()


def flood_servers(stage):
    table = flood(stage, "/cook")
    stage.rest(1 - FLOOD_SHARE)
    return took(table)


class Most:
    """What was seen of a queue, the highest of it, and how fast that shrank."""

    def __init__(self, queue):
        self.queue, self.most, self.now, self.rate = queue, 0, 0, 0

    def look(self, state):
        found = named(state["queues"] or [], self.queue)
        before, self.now = self.now, found["ready"] + found["in_flight"] + found["delayed"]
        if self.now > self.most:
            self.most, self.since = self.now, time.monotonic()
        elif self.now < before:
            self.rate = (self.most - self.now) / (time.monotonic() - self.since)


def flood_queue(stage):
    table = flood(stage, "/orders")
    orders = Most("orders")
    stage.rest(1 - FLOOD_SHARE, orders.look)
    orders.look(stage.admin.state())
    return took(table) + f"; the backlog was {orders.most:,} and is {orders.now:,}, at {orders.rate:,.0f} a second"


class Crew:
    """What was seen of workers."""

    def __init__(self, name="thumbnailer"):
        self.name, self.most, self.now, self.was_held, self.crash = name, 0, 0, False, ""

    def look(self, state):
        found = named(state["workers"], self.name)
        self.crash = f"; workers {self.name} crash: {found['reason']}" if found["state"] == "crashing" else ""
        self.now, self.least = found["running"], found["min"]
        self.most = max(self.most, self.now)
        self.was_held = self.was_held or found["state"] == "held"


def call_workers(stage):
    crew, photos = Crew(), Most("thumbnails")

    def look(state):
        crew.look(state)
        photos.look(state)

    def fewer():
        look(stage.admin.state())
        return crew.now < crew.most or crew.crash
    crew.look(stage.admin.state())
    began_with = crew.now
    stage.wish("100 POST /photos photo-#.jpg")
    stage.rest(1, look)
    table = stage.wish()
    waited = f"; up to {photos.most:,} photos waited"
    if crew.crash:
        return took(table) + waited + crew.crash
    stage.say(f"   {crew.now} workers now. No more photos: what waits is done, and after {COOLDOWN} of too little to do "
              "the first goes.")
    stage.wait(SETTLE_SECONDS, fewer)
    return (took(table) + waited + f"; workers went from {began_with} to {crew.most}, then to {crew.now}, and go on to "
            f"{crew.least}" + crew.crash)


def set_slow(stage, ms):
    stage.fetch("POST", f"/slow?ms={ms}")


def slow_database(stage):
    crew, photos = Crew(), Most("thumbnails")
    highest = full = 0
    set_slow(stage, SLOW_MS)
    stage.wish("60 POST /orders order=#", "60 POST /photos photo-#.jpg")

    def look(state):
        nonlocal highest, full
        crew.look(state)
        photos.look(state)
        gauge = named(state["gauges"], "database")
        highest, full = max(highest, gauge["value"] or 0), gauge["full"]
        return state

    def is_marked():
        return look(stage.admin.state())["bottleneck"]["layer"] == "database" and crew.was_held
    stage.rest(1, look)
    marked = stage.wait(SETTLE_SECONDS, lambda: crew.crash or is_marked()) > 0 and not crew.crash
    table = stage.wish()
    held = f"workers are held at {crew.now} of 8" if crew.was_held else f"{crew.now} workers"
    set_slow(stage, 0)
    stage.say("   The database is as fast as before.")
    stage.wait(SETTLE_SECONDS, lambda: look(stage.admin.state()) and (photos.now == 0 or crew.crash))
    return (took(table) + f"; {highest:.0f} of 20 connections (full from {full:.0f} on), {held}; the page's bottleneck is "
            f"{'the database' if marked else 'not the database'}; up to {photos.most:,} photos waited, now {photos.now:,}"
            + crew.crash)


class Step(typing.NamedTuple):
    title: str
    what: str
    where: str
    anchor: str
    play: typing.Callable


STEPS = [
    Step("A quiet evening",
         "A few guests: pages and menus from the web servers, orders and photos into queues. All is up, nothing waits.",
         "Users, balancer, servers, queues, workers, database, each with its figures", "", quiet),
    Step("One server drowns",
         "Two of three web servers are closed. 320 guests a second want pages; the one that is left can do 200.",
         "Its requests at a time and its latency grow, seconds soon; that of the listener, too", "servers", drown),
    Step("Three servers",
         "The same 320 guests a second, shared by three servers, 3 : 2 : 1 as their cooks: that is scaling out.",
         "Each has its share; latency is back at what a page takes", "servers", scale_out),
    Step("A server dies",
         "web 9002 is killed while guests come. Its checks fail, others take over, what it had is asked again elsewhere.",
         "It is down, with the reason; the errors of the listener stay 0", "servers", kill),
    Step("Who keeps the table, when a server leaves",
         f"A table's menu is with one server. web 9002 leaves: which of {TABLES} tables have to change?",
         "Pool menus (consistent-hash): 9002 drains, the others have its tables besides their own", "servers", hash_keys),
    Step("A flood without a queue",
         f"{FLOOD} orders a second straight to the kitchen, which can do 250: the line is full, most are sent away.",
         "Pool kitchen: the line, what is refused; the listener's errors", "servers", flood_servers),
    Step("The same flood into a queue",
         "Now each is stored first and told yes within milliseconds. The kitchen works as fast as before, and the rest waits.",
         "Queue orders: ready grows while they come and shrinks after that; no errors", "queues", flood_queue),
    Step("Workers are called in",
         "100 photos a second, and a worker does 20. As many as needed are started, and taken away when there is less to do.",
         "Workers thumbnailer: how many, and the sentence that says why", "workers", call_workers),
    Step("The database is slow",
         f"Each transaction takes {SLOW_MS} ms longer. It has 20 connections: more workers would only wait for one.",
         "Its gauge is full, workers are held, it is the bottleneck; guests are told yes as fast as before", "database",
         slow_database),
]
