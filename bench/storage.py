"""storage - the disk under what is stored, so that nobody takes memory for one."""
import pathlib
import shutil

from programs import Trouble

IN_MEMORY = ("tmpfs", "ramfs")
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
