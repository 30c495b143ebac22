"""queues - measuring message brokers: one load on one of them, its CPU, memory and syncs, and the disk beside it."""
import contextlib
import dataclasses
import shutil
import time

from brokers import with_broker
from counters import Reading, Sample, family_of, sample_between, settled_memory
from programs import FAR_CORE, PROGRAMS, Generator, Trouble, running
from storage import refuse_memory, syncs_in_place

WARM_SECONDS = 1        # of load before each measurement: caches, pools, code that is compiled as it runs
TRACE_SECONDS = 1       # of the load whose syncs are counted
READY_SECONDS = 300     # until what waits at the start is stored
SETTLE_SECONDS = 300    # beyond the load: until all is confirmed and delivered
PROBES = 200            # syncs of the disk alone, before each load
PROBES_LATENCY = 1000   # where latency is what is measured
LATENCY_RATES = (1000, 5000)
MEASURED = {"published": ("confirmed", "confirm"), "delivered": ("delivered", "deliver"),
            "drained": ("delivered", "deliver")}


@dataclasses.dataclass
class Syncs:
    """Of a load with strace beside it."""
    count: int
    messages: int
    seconds: float


@dataclasses.dataclass
class Flow:
    """One load on one broker."""
    sample: Sample
    result: dict            # what the generator said
    disk: tuple             # of syncs of the disk alone, just before: p50, p99, p99.9, the longest, in µs
    syncs: object = None    # Syncs, where they were counted


@dataclasses.dataclass
class Waiting:
    """Bytes (PSS, RSS) of a broker without messages, and with so many that wait."""
    before: tuple
    after: tuple
    messages: int
    flow: Flow


def as_sample(result, before, after, counted, timed):
    """The generator's result under the names that the other cells have."""
    return sample_between(before, after, {
        "requests": result[counted], "bytes": 0, "seconds": result["seconds"], "closed": 0,
        "unsent": result["unsent"], "errors": sum(result[name] for name in (
            "errors", "nacked", "missing", "disordered", "duplicates", "foreign")),
        **{f"{p}_us": result[f"{timed}_{p}_us"] for p in ("p50", "p99", "p999", "max")}})


@contextlib.contextmanager
def generating(bench, site, broker, options):
    """The generator, which has connected, declared, and stored what is to wait."""
    log = bench.folder / "amqp_load.log"
    argv = [str(PROGRAMS / "amqp_load"), "--port", str(site.port), *broker.options, *options, "--wait"]
    with log.open("w") as file, running(argv, {FAR_CORE}, file, stdin=-1, stdout=-1, text=True,
                                        bufsize=1) as process:
        generator = Generator(process, log)
        generator.wait_ready(READY_SECONDS)
        yield generator


def load_once(bench, site, pids, broker, options, seconds, kind="published"):
    disk = syncs_in_place(site.folder, PROBES)
    with generating(bench, site, broker, (*options, "--seconds", str(seconds))) as generator:
        far = family_of(generator.process.pid)
        before = Reading.take(pids, far)
        result = generator.run(seconds + SETTLE_SECONDS)
        after = Reading.take(pids, far)
        generator.finish(SETTLE_SECONDS)
    counted, timed = MEASURED[kind]
    if not result[counted]:
        raise Trouble(f"nothing was {counted}: {result}")
    return Flow(as_sample(result, before, after, counted, timed), result, disk)


@contextlib.contextmanager
def brought_up(bench, broker, traced=None):
    bench.places += 1
    folder = bench.folder / str(bench.places)
    refuse_memory(bench.folder)
    with with_broker(broker, folder, traced) as (site, pids):
        yield site, pids


def count_syncs(bench, cell, broker):
    """Once for each broker of a cell, on one of its own; None where there is no strace."""
    if (cell.name, broker.name) in bench.syncs or not shutil.which("strace"):
        return
    trace = bench.folder / "trace"
    with brought_up(bench, broker, trace) as (site, pids):
        load_once(bench, site, pids, broker, cell.load, WARM_SECONDS, cell.kind)
        with generating(bench, site, broker, (*cell.load, "--seconds", str(TRACE_SECONDS))) as generator:
            start = time.time()
            result = generator.run(TRACE_SECONDS + SETTLE_SECONDS)
            end = time.time()
    times = [float(line.split()[1]) for line in trace.read_text(errors="replace").splitlines()
             if "(" in line and "resumed" not in line]
    messages = result[MEASURED[cell.kind][0]]
    bench.syncs[cell.name, broker.name] = Syncs(sum(start <= at <= end for at in times), messages, end - start)


def measure_flow(bench, cell, broker):
    if cell.kind != "drained":
        count_syncs(bench, cell, broker)
    with brought_up(bench, broker) as (site, pids):
        if cell.kind != "drained":
            load_once(bench, site, pids, broker, cell.load, WARM_SECONDS, cell.kind)
        flow = load_once(bench, site, pids, broker, cell.load, bench.seconds, cell.kind)
    flow.syncs = bench.syncs.get((cell.name, broker.name))
    return flow


def measure_latency(bench, cell, broker):
    """The disk alone: p50, p99, p99.9 and the longest in µs; and a Flow at each rate."""
    with brought_up(bench, broker) as (site, pids):
        load_once(bench, site, pids, broker, cell.load, WARM_SECONDS)
        disk = syncs_in_place(site.folder, PROBES_LATENCY)
        return disk, [load_once(bench, site, pids, broker, (*cell.load, "--rate", str(rate)), bench.seconds)
                      for rate in LATENCY_RATES]


def measure_waiting(bench, cell, broker):
    with brought_up(bench, broker) as (site, pids):
        before = settled_memory(pids)
        options = (*cell.load, "--count", str(bench.waiting))
        disk = syncs_in_place(site.folder, PROBES)
        with generating(bench, site, broker, options) as generator:
            reading = Reading.take(pids, [generator.process.pid])
            result = generator.run(SETTLE_SECONDS)
            flow = Flow(as_sample(result, reading, Reading.take(pids, [generator.process.pid]), "confirmed",
                                  "confirm"), result, disk)
            return Waiting(before, settled_memory(pids), result["confirmed"], flow)
