"""cells - what is measured with which load: a section of the report each."""
import dataclasses

from brokers import OURS_AMQP, RABBITMQ_CLASSIC, RABBITMQ_QUORUM, REDIS
from proxies import (DIRECT, FLOOR, FLOOR_SPLICE, FLOOR_SPLICE_UP, HAPROXY, HAPROXY_LARGE, HAPROXY_SCRAPED,
                     HAPROXY_SPLICE, HAPROXY_TCP, HAPROXY_TCP_AUTO, HAPROXY_TCP_SPLICE, HAPROXY_TURN, LEVEL_RATE,
                     NGINX, NGINX_LARGE, NGINX_STREAM, NGINX_STREAM_64K, NGINX_TURN, OURS, OURS_LEVEL, OURS_QUEUE,
                     OURS_SCRAPED, OURS_TCP, OURS_TURN, POOL_SERVERS, POOLS)

RATE = 10000            # requests a second, where the rate is fixed
MIB, GIB = 1 << 20, 1 << 30

BASIC = (DIRECT, FLOOR, NGINX, HAPROXY, OURS)
STORED = (*BASIC, OURS_QUEUE)
LARGE = (DIRECT, FLOOR, FLOOR_SPLICE, NGINX, NGINX_LARGE, HAPROXY, HAPROXY_LARGE, HAPROXY_SPLICE, OURS)
THREADED = (NGINX, HAPROXY, OURS)
TURNED = (NGINX_TURN, HAPROXY_TURN, OURS_TURN)

TCP = (DIRECT, FLOOR, NGINX_STREAM, NGINX_STREAM_64K, HAPROXY_TCP, HAPROXY_TCP_AUTO, OURS_TCP)
TCP_PEERS = (NGINX_STREAM, NGINX_STREAM_64K, HAPROXY_TCP, HAPROXY_TCP_AUTO, HAPROXY_TCP_SPLICE)
TCP_DOWN = (DIRECT, FLOOR, FLOOR_SPLICE, *TCP_PEERS, OURS_TCP)
TCP_UP = (DIRECT, FLOOR, FLOOR_SPLICE_UP, *TCP_PEERS, OURS_TCP)

AMQP = (RABBITMQ_QUORUM, RABBITMQ_CLASSIC, OURS_AMQP)
BROKERS = (RABBITMQ_QUORUM, RABBITMQ_CLASSIC, REDIS, OURS_AMQP)


@dataclasses.dataclass(frozen=True)
class Cell:
    name: str
    title: str
    kind: str               # how it is measured, and which table: a row of KINDS in run
    load: tuple             # the generator's options
    proxies: tuple
    note: str = ""
    unit: str = "request"   # what the generator's requests are called
    origin: str = "origin"  # what stands behind the proxy: a name in Bench.origins

    @property
    def notes(self):
        return [self.note] if self.note else []


def tcp_cell(name, title, kind, load, proxies, note="", unit="message"):
    return Cell(name, title, kind, ("--tcp", *load), proxies, note, unit, "echo")


def queue_cell(name, title, kind, load, note, brokers=BROKERS, unit="message"):
    return Cell(name, title, kind, load, brokers, note, unit)


def confirmed_cell(name, title, publishers, window):
    return queue_cell(name, f"Messages: {title}, 1 KiB, confirmed", "published",
                      ("--publishers", str(publishers), "--window", str(window), "--size", "1024"), QUEUED)


QUEUED = ("Persistent messages to one durable queue. A publisher has as many without a confirm as its window; latency "
          "is from sending a message to its confirm. Each broker is started anew for each round, alone on core 0, and "
          "has 1 s of the same load before. Its CPU is that of all its processes and threads; what the kernel's own "
          "threads do for the file system is in nobody's. Syncs are those that strace saw in 1 s of the same load on "
          "one more of each, and messages a sync are of those. \"Disk alone\" is the median of writing 4 KiB over what "
          "is there and fdatasync, just before each round: rounds differ where it does. Ratios behind messages/s are "
          "of messages/s, those behind CPU of CPU.")
PASSED = ("A consumer has up to 1,000 messages, and acknowledges 50 at a time. Latency is from sending a message to "
          "its delivery. The rest is as with messages that are confirmed.")
OPEN_LOOP = ("Open loop: latency counts from when a request was due. The cores sleep between requests, and a proxy "
             "pays for waking the far side.")
BEST_ROWS = "Ratios are against the best row of each: buffers and splicing as set there."
ON_DISK = ("Everybody passes the request on to the origin, but for the last row, which stores it and answers 202 "
           "once it is on disk. Its CPU is that of all threads of its process; what the kernel's own threads do for "
           "the file system is in nobody's.")
SHORT_TUNNELS = ("A connection for each transfer, as with TLS that is passed through: a layer 4 proxy has one to the "
                 "origin for each client and reuses none. The origin closes it.")

CELLS = (
    Cell("small-64", "Small answers, 64 connections", "requests", ("--connections", "64"), BASIC),
    Cell("small-512", "Small answers, 512 connections", "requests", ("--connections", "512"), BASIC),
    Cell("rate", f"Small answers at {RATE:,} a second, 64 connections", "requests",
         ("--connections", "64", "--rate", str(RATE)), BASIC, OPEN_LOOP),
    Cell("fresh", "A new connection for each request, 64 at a time", "requests",
         ("--connections", "64", "--fresh"), BASIC,
         "The forwarder is no floor here: it opens a connection to the origin for each client, the others "
         "keep theirs."),
    Cell("large", "Bodies of 1 MiB, 16 connections", "bytes",
         ("--connections", "16", "--path", "/1m"), LARGE, BEST_ROWS),
    Cell("idle", "Idle keep-alive connections", "idle", ("--seconds", "0"), (FLOOR, NGINX, HAPROXY, OURS)),
    Cell("threads", "2 threads against 1, 64 connections", "threads", ("--connections", "64"), THREADED,
         "Proxy, origin and generator share both cores, so twice the throughput cannot show. \"Room\" is the most "
         "that 2 threads could reach: the two cores' time divided by what a request costs the proxy and the far "
         "side together with 1 thread, against the throughput of 1 thread."),
    Cell("enqueue", "POST with a body of 100 bytes: passed on, and stored; 512 connections", "stored",
         ("--connections", "512", "--post", "100"), STORED, ON_DISK, "message"),
    Cell("enqueue-rate", f"POST with a body of 100 bytes, {RATE:,} a second: passed on, and stored; 64 connections",
         "stored", ("--connections", "64", "--rate", str(RATE), "--post", "100"), STORED,
         f"{OPEN_LOOP} Fewer messages share a sync than when the proxy is full. {ON_DISK}", "message"),
    Cell("enqueue-1k", "POST with a body of 1 KiB: passed on, and stored; 512 connections", "stored",
         ("--connections", "512", "--post", "1024"), STORED, ON_DISK, "message"),
    Cell("level", f"Load levelling: {RATE:,} POSTs of 100 bytes a second come, {LEVEL_RATE} leave; 512 connections",
         "level", ("--connections", "512", "--rate", str(RATE), "--post", "100"), (OURS_LEVEL,),
         "Latency counts from when a request was due. What was delivered is counted by the origin, which also knows "
         "which messages it had before. It starts 2 s after the first message, when the log has made its first files.",
         "message", "counting"),
    tcp_cell("tcp-small", "Layer 4: messages of 64 bytes, answered with as much, 64 connections", "requests",
             ("--connections", "64"), TCP),
    tcp_cell("tcp-rate", f"Layer 4: messages of 64 bytes at {RATE:,} a second, 64 connections", "requests",
             ("--connections", "64", "--rate", str(RATE)), TCP, OPEN_LOOP),
    tcp_cell("tcp-fresh", "Layer 4: a new connection for each message of 64 bytes, 64 at a time", "requests",
             ("--connections", "64", "--fresh"), TCP, "The origin answers and closes.", "connection"),
    tcp_cell("tcp-1m-down", "Layer 4: downloads of 1 MiB, 16 connections at a time", "bytes",
             ("--connections", "16", "--fresh", "--answer", str(MIB)), TCP_DOWN, f"{SHORT_TUNNELS} {BEST_ROWS}"),
    tcp_cell("tcp-1m-up", "Layer 4: uploads of 1 MiB, 16 connections at a time", "bytes",
             ("--connections", "16", "--fresh", "--upload", str(MIB)), TCP_UP, f"{SHORT_TUNNELS} {BEST_ROWS}"),
    tcp_cell("tcp-1m-kept", "Layer 4: answers of 1 MiB over connections that stay, 16 of them", "bytes",
             ("--connections", "16", "--answer", str(MIB)), TCP_DOWN, BEST_ROWS),
    tcp_cell("tcp-1g-down", "Layer 4: downloads of 1 GiB, 2 connections", "bytes",
             ("--connections", "2", "--fresh", "--count", "2", "--answer", str(GIB)), TCP_DOWN,
             f"Two transfers a round, however long they take. {BEST_ROWS}"),
    tcp_cell("tcp-1g-up", "Layer 4: uploads of 1 GiB, 2 connections", "bytes",
             ("--connections", "2", "--fresh", "--count", "2", "--upload", str(GIB)), TCP_UP,
             f"Two transfers a round, however long they take. {BEST_ROWS}"),
    Cell("reload", f"Reloads under load: {RATE // 2:,} requests a second, 64 connections that stay", "reload",
         ("--connections", "64", "--rate", str(RATE // 2)), TURNED,
         "Each reload changes a weight and a route, and brings or takes a second server. "
         "A request has failed when its connection ended before its answer did; the generator tries nothing twice. A "
         "connection that was closed while nothing was asked over it is no failure, nor is one that was closed after "
         "an answer which said so."),
    Cell("reload-fresh", "Reloads under load: a new connection for each request, 64 at a time", "reload",
         ("--connections", "64", "--fresh"), TURNED),
    Cell("scrape", f"/metrics of {POOLS * POOL_SERVERS:,} servers scraped each second: {RATE:,} requests a second, "
         "64 connections", "scrape", ("--connections", "64", "--rate", str(RATE)), (HAPROXY_SCRAPED, OURS_SCRAPED),
         "nginx is not here: as it comes it has no metrics of its servers. Who scrapes has only what generator and "
         "origin leave of their core, and so takes its time."),
    confirmed_cell("amqp-publish", "8 publishers, windows of 100", 8, 100),
    confirmed_cell("amqp-publish-1-100", "1 publisher, a window of 100", 1, 100),
    confirmed_cell("amqp-publish-1-1", "1 publisher, one at a time", 1, 1),
    queue_cell("amqp-e2e", "Messages: 8 publishers, windows of 100, 8 consumers, 100 bytes", "delivered",
               ("--publishers", "8", "--consumers", "8", "--size", "100", "--ack-every", "50", "--check-order"),
               PASSED, AMQP),
    queue_cell("amqp-fanout", "Messages: 1 exchange, 10 queues, 8 publishers, windows of 100, 10 consumers, 1 KiB",
               "delivered", ("--publishers", "8", "--fanout", "10", "--consumers", "10", "--size", "1024",
                             "--ack-every", "50", "--check-order"),
               f"Each message is delivered 10 times, once from each queue; each delivery counts. {PASSED}", AMQP,
               "delivery"),
    queue_cell("amqp-drain", "Messages: 200,000 of 1 KiB wait, 1 consumer takes them", "drained",
               ("--preload", "200000", "--publishers", "8", "--consumers", "1", "--size", "1024", "--ack-every", "100",
                "--check-order"),
               "They were confirmed before the time begins. The consumer has 1,000 at a time, acknowledges 100 by 100, "
               "and checks that what each publisher sent comes in order and once.", AMQP),
    queue_cell("amqp-latency", "Messages: until one is confirmed, at a fixed rate; 8 publishers, 1 KiB", "latency",
               ("--publishers", "8", "--window", "100", "--size", "1024"),
               "Open loop: latency counts from when a message was due. \"Disk alone\" writes 4 KiB over what is there "
               "and syncs with fdatasync, one after the other, before each broker's turn; ratios are against that in "
               "the same turn."),
    queue_cell("amqp-memory", "Messages: memory while 1 KiB messages wait", "waiting",
               ("--publishers", "8", "--window", "100", "--size", "1024"),
               "Of all processes, once it stays the same or after 5 s: before the first message, and with all waiting, "
               "each confirmed. --waiting says how many."),
)
