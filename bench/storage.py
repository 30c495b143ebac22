"""storage - the disk under what is stored, so that nobody takes memory for one."""
import os
import pathlib
import shutil
import time

from programs import Trouble

IN_MEMORY = ("tmpfs", "ramfs")
PLACE = 4096            # bytes that are written and synced, over others that are there
PLACES = 4096
ROOM = 8 << 30          # bytes that must be free: some times what the longest measurement stores


def mount_of(folder):
    """Device and file system."""
    path = pathlib.Path(folder).resolve()
    mounts = [line.split()[:3] for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
    # The last of those mounted at the same place hides the others.
    device, _, kind = max(((d, m, k) for d, m, k in reversed(mounts) if path.is_relative_to(m)),
                          key=lambda mount: len(mount[1]))
    return device, kind


def refuse_memory(folder):
    device, kind = mount_of(folder)
    if kind in IN_MEMORY:
        raise Trouble(f"{folder} is in memory ({kind}): let TMPDIR name a folder on a disk")
    if shutil.disk_usage(folder).free < ROOM:
        raise Trouble(f"less than {ROOM >> 30} GiB are free on {device}: let TMPDIR name a folder with more room")


def where_stored(folder):
    device, kind = mount_of(folder)
    return f"{device} ({kind})"


def syncs_in_place(folder, n):
    """Writes and syncs of the disk alone, as a log has them whose files are made ahead.

    p50, p99, p99.9 and the longest, in µs."""
    path, took = pathlib.Path(folder) / "bare", []
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(file, bytes(PLACE * PLACES), 0)
        os.fsync(file)
        for i in range(n):
            start = time.perf_counter_ns()
            os.pwrite(file, bytes(PLACE), i % PLACES * PLACE)
            os.fdatasync(file)
            took.append((time.perf_counter_ns() - start) / 1e3)
    finally:
        os.close(file)
        path.unlink()
    took.sort()
    return tuple(took[min(n - 1, int(n * share))] for share in (0.5, 0.99, 0.999, 1))
