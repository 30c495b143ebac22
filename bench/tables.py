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


def warnings_of(results, unit):
    found = []
    full = [proxy.name for proxy, samples in results.items() if far_side_was_full(samples)]
    if full:
        found.append(f"core {FAR_CORE} was full while the proxy had room, so the throughput is not the proxy's "
                     f"limit, but CPU per {unit} is its own all the same: " + "; ".join(full))
    for proxy, samples in results.items():
        for field, what in (("errors", "errors"), ("closed", "connections closed between requests"),
                            ("unsent", "requests due and never sent")):
            total = sum(getattr(s, field) for s in samples)
            if total:
                found.append(f"{proxy.name}: {total} {what}")
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
