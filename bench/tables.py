"""tables - samples as tables of Markdown: medians, ratios against each peer and the better one, warnings."""
import statistics

from programs import FAR_CORE


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|--:" * (len(heads) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def median(values):
    return statistics.median(values)


def ratio(value, base):
    return f"{value / base:.2f}" if base else "-"


def best_of(cost, *families):
    """The lowest cost among the rows of these families, or None."""
    costs = [c for proxy, c in cost.items() if proxy.family in families]
    return min(costs) if costs else None


def ratios_of(proxy, cost):
    """Against the forwarder, nginx, HAProxy, and the better of those two; each with its best settings."""
    peers = (("forwarder",), ("nginx",), ("haproxy",), ("nginx", "haproxy"))
    return [ratio(cost[proxy], best_of(cost, *families)) if proxy in cost else "-" for families in peers]


RATIO_HEADS = ["× forwarder", "× nginx", "× HAProxy", "× better peer"]
SHARE_HEADS = ["proxy, of a core", "far side, of a core"]


def shares_of(samples):
    return [f"{median(s.proxy_share for s in samples):.0%}", f"{median(s.far_share for s in samples):.0%}"]


def far_side_was_full(samples):
    """Core 1 was the limit while the proxy had room: the throughput is not the proxy's."""
    full = [s for s in samples if s.far_core_busy > 0.95 and 0 < s.proxy_share < 0.90]
    return 2 * len(full) > len(samples)


def warnings_of(results, unit, what="the proxy"):
    found = []
    full = [proxy.name for proxy, samples in results.items() if far_side_was_full(samples)]
    if full:
        found.append(f"core {FAR_CORE} was full while {what} had room, so the throughput is not {what}'s "
                     f"limit, but CPU per {unit} is its own all the same: " + "; ".join(full))
    for proxy, samples in results.items():
        for field, kind in (("errors", "errors"), ("closed", "connections closed between requests"),
                            ("unsent", "requests due and never sent")):
            total = sum(getattr(s, field) for s in samples)
            if total:
                found.append(f"{proxy.name}: {total} {kind}")
    return found


LATENCY_HEADS = ["p50 µs", "p99 µs", "p99.9 µs", "most µs"]


def latencies_of(samples):
    """Medians of the rounds' percentiles; the longest of all."""
    percentiles = [f"{median(getattr(s, name) for s in samples):.0f}" for name in ("p50_us", "p99_us", "p999_us")]
    return [*percentiles, f"{max(s.max_us for s in samples):.0f}"]


def table_of_requests(results, unit):
    cost = {proxy: median(1e6 * (s.user + s.system) / s.requests for s in samples)
            for proxy, samples in results.items() if proxy.command}
    rows = []
    for proxy, samples in results.items():
        user = median(1e6 * s.user / s.requests for s in samples)
        system = median(1e6 * s.system / s.requests for s in samples)
        cpu = [f"{user:.2f}", f"{system:.2f}", f"{cost[proxy]:.2f}"] if proxy.command else ["-"] * 3
        rows.append([proxy.name, f"{median(s.requests / s.seconds for s in samples):,.0f}", *cpu,
                     *ratios_of(proxy, cost), f"{median(s.p50_us for s in samples):.0f}",
                     f"{median(s.p99_us for s in samples):.0f}", *shares_of(samples)])
    return table(["", f"{unit}s/s", "µs user", "µs system", f"µs CPU per {unit}", *RATIO_HEADS, "p50 µs",
                  "p99 µs", *SHARE_HEADS], rows)


def table_of_stored(results, unit):
    """What is stored, against the same proxy passing it on."""
    cost = {proxy: median(1e6 * (s.user + s.system) / s.requests for s in samples)
            for proxy, samples in results.items() if proxy.command}
    passed = next((c for proxy, c in cost.items() if proxy.family == "maitred" and not proxy.stores), None)
    lines = table_of_requests(results, unit).splitlines()
    lines[0] += " × maitred |"
    lines[1] += "--:|"
    for i, proxy in enumerate(results):
        lines[2 + i] += f" {ratio(cost[proxy], passed)} |" if proxy in cost else " - |"
    return "\n".join(lines)


def table_of_levels(results, unit):
    """A column for each proxy, whose rounds are levels.py's."""
    rows = {}

    def add(what, values):
        rows.setdefault(what, []).append(values)

    for rounds in results.values():
        samples = [one.sample for one in rounds]
        add(f"{unit}s sent", f"{sum(one.sent for one in rounds):,}")
        add("of which not answered 202", str(sum(s.errors + s.unsent for s in samples)))
        for name, value in zip(LATENCY_HEADS, latencies_of(samples)):
            add(name, value)
        add("µs CPU per " + unit, f"{median(1e6 * (s.user + s.system) / s.requests for s in samples):.2f}")
        for when in rounds[0].rates:
            values = [one.rates[when] for one in rounds]
            add(f"delivered a second, {when}", f"{median(values):.1f} ({min(values):.1f} to {max(values):.1f})")
        for when in rounds[0].memory:
            values = [one.memory[when] for one in rounds]
            add(f"private memory after {when:g} s, MiB", f"{median(values) / 2**20:.2f}, at most "
                f"{max(values) / 2**20:.2f}")
        add("then all were delivered after, s", f"{median(one.emptied for one in rounds):.1f}")
        add(f"{unit}s lost", str(sum(one.sent - one.different for one in rounds)))
        add(f"{unit}s delivered twice", str(sum(one.posts - one.different for one in rounds)))
    return table(["", *(proxy.name for proxy in results)], [[what, *values] for what, values in rows.items()])


def table_of_bytes(results, _):
    cost = {proxy: median((s.user + s.system) / s.bytes * 1e9 for s in samples)
            for proxy, samples in results.items() if proxy.command}
    rows = []
    for proxy, samples in results.items():
        user = median(s.user / s.bytes * 1e9 for s in samples)
        system = median(s.system / s.bytes * 1e9 for s in samples)
        cpu = [f"{user:.3f}", f"{system:.3f}", f"{cost[proxy]:.3f}"] if proxy.command else ["-"] * 3
        rows.append([proxy.name, f"{median(s.bytes / s.seconds for s in samples) / 1e9:.2f}", *cpu,
                     *ratios_of(proxy, cost), *shares_of(samples)])
    return table(["", "GB/s", "s user", "s system", "s CPU per GB", *RATIO_HEADS, *SHARE_HEADS], rows)


def table_of_idle(results, _):
    cost = {proxy: median(pss for pss, *_ in samples) for proxy, samples in results.items()}
    rows = []
    for proxy, samples in results.items():
        _, rss, whole, upstream, closed = (median(column) for column in zip(*samples))
        rows.append([proxy.name, f"{cost[proxy]:,.0f}", f"{rss:,.0f}", f"{whole / 2**20:.1f}",
                     f"{upstream:.0f}", f"{closed:.0f}", *ratios_of(proxy, cost)])
    return table(["", "bytes per connection (PSS)", "bytes (RSS)", "whole proxy, MiB", "upstream connections",
                  "closed by the proxy", *RATIO_HEADS], rows)


def table_of_threads(results, _):
    rows = []
    for proxy, pairs in results.items():
        by_threads = list(zip(*pairs))
        rates = [median(s.requests / s.seconds for s in samples) for samples in by_threads]
        costs = [median(1e6 * (s.user + s.system) / s.requests for s in samples) for samples in by_threads]
        far = [median(1e6 * s.far_share * s.seconds / s.requests for s in samples) for samples in by_threads]
        rows.append([proxy.name, f"{rates[0]:,.0f}", f"{rates[1]:,.0f}", f"{rates[1] / rates[0]:.2f}",
                     f"{2e6 / (costs[0] + far[0]) / rates[0]:.2f}", f"{costs[0]:.2f}", f"{costs[1]:.2f}",
                     f"{far[0]:.2f}", f"{far[1]:.2f}"])
    return table(["", "requests/s, 1 thread", "2 threads", "ratio", "room", "µs CPU per request, 1 thread",
                  "2 threads", "far side µs, 1 thread", "2 threads"], rows)


def table_of_reloads(results, unit):
    rows = []
    for proxy, rounds in results.items():
        samples, took = [sample for sample, _ in rounds], [seconds for _, one in rounds for seconds in one]
        rows.append([proxy.name, str(len(took)), f"{1e3 * median(took):.0f}", f"{1e3 * max(took):.0f}",
                     f"{sum(s.requests for s in samples):,}", str(sum(s.errors + s.unsent for s in samples)),
                     str(sum(s.closed for s in samples)), *latencies_of(samples)])
    return table(["", "reloads", "in force after, ms", "at most, ms", f"{unit}s", "failed",
                  f"closed between {unit}s", *LATENCY_HEADS], rows)


def table_of_scrapes(results, unit):
    rows = []
    for proxy, rounds in results.items():
        scrapes = [one for *_, scrapes in rounds for one in scrapes]
        for which, name in enumerate((proxy.name, f"{proxy.name}: each second")):
            samples = [one[which] for one in rounds]
            cost = median(1e6 * (s.user + s.system) / s.requests for s in samples)
            told = [f"{1e3 * median(seconds for seconds, _ in scrapes):.1f}",
                    f"{median(size for _, size in scrapes) / 1e6:.2f}"] if which and scrapes else ["-", "-"]
            rows.append([name, f"{cost:.2f}", *latencies_of(samples), *told,
                         str(sum(s.errors + s.unsent for s in samples))])
    return table(["", f"µs CPU per {unit}", *LATENCY_HEADS, "a scrape, ms", "its MB", "failed"], rows)


# --- brokers -------------------------------------------------------------------------------------------

BROKER_PEERS = ("rabbitmq quorum", "rabbitmq classic", "redis")
BROKER_NAMES = ["× quorum", "× classic", "× Redis"]


def broker_ratios(cost, broker):
    """Against each peer; "-" where it was not measured."""
    by_family = {one.family: value for one, value in cost.items()}
    return [ratio(cost[broker], by_family.get(family)) for family in BROKER_PEERS]


def costs_of(results):
    """µs of CPU a message: all of it, user, system."""
    return {broker: tuple(median(1e6 * spent(flow.sample) / flow.sample.requests for flow in flows) for spent in (
        lambda s: s.user + s.system, lambda s: s.user, lambda s: s.system)) for broker, flows in results.items()}


def rates_of(results):
    return {broker: median(flow.sample.requests / flow.sample.seconds for flow in flows)
            for broker, flows in results.items()}


def syncs_of(flows):
    """A second, and messages to one."""
    syncs = flows[0].syncs
    if not syncs:
        return ["-", "-"]
    return [f"{syncs.count / syncs.seconds:,.0f}", f"{syncs.messages / syncs.count:,.1f}" if syncs.count else "-"]


def flow_columns(results):
    costs, rates = costs_of(results), rates_of(results)
    alone = {broker: cost[0] for broker, cost in costs.items()}
    return {broker: [f"{rates[broker]:,.0f}", *broker_ratios(rates, broker),
                     *(f"{part:.2f}" for part in (*costs[broker][1:], costs[broker][0])),
                     *broker_ratios(alone, broker)] for broker in results}


def flow_heads(unit):
    return ["", f"{unit}s/s".replace("deliverys", "deliveries"), *BROKER_NAMES, "µs user", "µs system",
            f"µs CPU per {unit}", *BROKER_NAMES]


def shares_and_disk(flows):
    return [*shares_of([flow.sample for flow in flows]), f"{median(flow.disk[0] for flow in flows):.0f}"]


BROKER_SHARES = ["broker, of a core", "generator, of a core", "disk alone, p50 µs"]


def table_of_flows(results, unit):
    columns = flow_columns(results)
    rows = [[broker.name, *columns[broker], *latencies_of([flow.sample for flow in flows])[:3], *syncs_of(flows),
             *shares_and_disk(flows)] for broker, flows in results.items()]
    return table([*flow_heads(unit), *LATENCY_HEADS[:3], "syncs/s", f"{unit}s a sync".replace(
        "deliverys", "deliveries"), *BROKER_SHARES], rows)


def table_of_drains(results, unit):
    columns = flow_columns(results)
    rows = []
    for broker, flows in results.items():
        stored = median(flow.sample.requests / flow.result["preload_seconds"] for flow in flows)
        faults = [str(sum(flow.result[name] for flow in flows)) for name in ("disordered", "duplicates", "missing")]
        rows.append([broker.name, *columns[broker], f"{stored:,.0f}", *faults, *shares_and_disk(flows)])
    return table([*flow_heads(unit), "stored before/s", "out of order", "twice", "missing", *BROKER_SHARES], rows)


def table_of_confirms(results, unit):
    """A row for the disk, and one for each broker and rate. Ratios are of the same round."""
    disks = [disk for rounds in results.values() for disk, _ in rounds]
    rows = [["disk alone", "-", *(f"{median(column):.0f}" for column in list(zip(*disks))[:3]),
             f"{max(disk[3] for disk in disks):.0f}", "1.00", "1.00", "-"]]
    for broker, rounds in results.items():
        for i in range(len(rounds[0][1])):
            samples = [flows[i].sample for _, flows in rounds]
            against = [median(getattr(flows[i].sample, name) / disk[at] for disk, flows in rounds)
                       for name, at in (("p50_us", 0), ("p99_us", 1))]
            rows.append([broker.name, f"{median(s.requests / s.seconds for s in samples):,.0f}", *latencies_of(samples),
                         *(f"{value:.2f}" for value in against),
                         f"{median(1e6 * (s.user + s.system) / s.requests for s in samples):.2f}"])
    return table(["", f"{unit}s/s", *LATENCY_HEADS, "p50 × disk", "p99 × disk", f"µs CPU per {unit}"], rows)


def table_of_waiting(results, unit):
    rows = []
    cost = {broker: median((w.after[0] - w.before[0]) / w.messages for w in rounds)
            for broker, rounds in results.items()}
    for broker, rounds in results.items():
        (before, _), (after, rss) = ([median(column) for column in zip(*moments)] for moments in (
            [w.before for w in rounds], [w.after for w in rounds]))
        rows.append([broker.name, f"{rounds[0].messages:,}", f"{before / 2**20:.1f}", f"{after / 2**20:.1f}",
                     f"{rss / 2**20:.1f}", f"{cost[broker]:,.0f}", *broker_ratios(cost, broker)])
    return table(["", f"{unit}s wait", "before, MiB (PSS)", "then, MiB (PSS)", "then, MiB (RSS)",
                  f"bytes per {unit}", *BROKER_NAMES], rows)
