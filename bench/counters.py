"""counters - what the kernel counted for processes and cores, and what two readings of it say about a load."""
import contextlib
import dataclasses
import os
import pathlib
import time

from programs import FAR_CORE

TICK = os.sysconf("SC_CLK_TCK")


def family_of(pid):
    """A process and its descendants."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = pathlib.Path(f"/proc/{entry}/stat").read_text()
                parents[int(entry)] = int(stat[stat.rindex(")") + 2:].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def cpu_of(pids):
    """Seconds of CPU: user, system. The sum is exact to the nanosecond, its split is by clock ticks."""
    total, user_ticks, system_ticks = 0, 0, 0
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):   # a helper thread that has ended
                total += int((task / "schedstat").read_text().split()[0])
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
        fields = stat[stat.rindex(")") + 2:].split()
        user_ticks += int(fields[11])
        system_ticks += int(fields[12])
    return total / 1e9, user_ticks, system_ticks


def core_times():
    """For each core: seconds busy, seconds stolen by the host."""
    cores = []
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        if line.startswith("cpu") and line[3].isdigit():
            user, nice, system, _, _, irq, softirq, steal = (int(n) / TICK for n in line.split()[1:9])
            cores.append((user + nice + system + irq + softirq, steal))
    return cores


@dataclasses.dataclass
class Reading:
    """Counters at one moment, for the proxy's processes and for those of the far side."""
    proxy: tuple
    far: float
    cores: list
    when: float

    @classmethod
    def take(cls, proxy_pids, far_pids):
        return cls(cpu_of(proxy_pids), cpu_of(far_pids)[0], core_times(), time.monotonic())


@dataclasses.dataclass
class Sample:
    """One measurement, in units a table shows. CPU in seconds, shares of one core from 0 to 1."""
    requests: int
    bytes: int
    seconds: float
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float
    errors: int
    closed: int
    unsent: int
    user: float
    system: float
    proxy_share: float
    far_share: float
    far_core_busy: float
    others: float           # what neither proxy, origin, generator nor idling used, in cores
    stolen: float           # by the host, in cores


def sample_between(before, after, result):
    spent = after.proxy[0] - before.proxy[0]
    user_ticks, system_ticks = after.proxy[1] - before.proxy[1], after.proxy[2] - before.proxy[2]
    user = spent * user_ticks / max(1, user_ticks + system_ticks)
    wall = after.when - before.when
    far = after.far - before.far
    busy = [b[0] - a[0] for a, b in zip(before.cores, after.cores)]
    stolen = sum(b[1] - a[1] for a, b in zip(before.cores, after.cores))
    return Sample(
        **{name: result[name] for name in ("requests", "bytes", "seconds", "p50_us", "p99_us", "p999_us", "max_us",
                                           "errors", "closed", "unsent")},
        user=user, system=spent - user, proxy_share=spent / wall, far_share=far / wall,
        far_core_busy=busy[FAR_CORE] / wall, others=max(0.0, sum(busy) - spent - far) / wall,
        stolen=stolen / wall)


def memory_of(pids):
    """Bytes: PSS, RSS."""
    sums = {"Pss": 0, "Rss": 0}
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name = line.split(":")[0]
            if name in sums:
                sums[name] += int(line.split()[1]) * 1024
    return sums["Pss"], sums["Rss"]


def private_memory(pids):
    """Bytes that are nobody else's."""
    return 1024 * sum(int(line.split()[1]) for pid in pids
                      for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                      if line.startswith("Private_"))


def settled_memory(pids):
    """Memory once it stays the same for half a second (or after 5 s)."""
    last = memory_of(pids)
    for _ in range(10):
        time.sleep(0.5)
        now = memory_of(pids)
        if now == last:
            break
        last = now
    return last
