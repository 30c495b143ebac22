"""A machine to throw away: this one's files under a layer of their own, and systemd as the first process of namespaces
of its own. What is installed there, started there or broken there is gone with it; this machine does not change.

It needs root, namespaces, an overlay, and a control group that may be divided: Machine() raises Impossible where
something of that is missing."""
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

SYSTEMD = Path("/lib/systemd/systemd")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Runs as the first process of the new namespaces and becomes systemd. /proc/sys and /sys are read-only there, by which
# systemd knows that they are not its own; of the units that belong to a boot it starts only the journal.
BOOT = r"""
set -eu
top=$1
root=$top/root
mount --make-rprivate /
mount -t tmpfs -o mode=755,size=512m tmpfs "$top"
mkdir "$top/upper" "$top/work" "$root"
mount -t overlay -o "lowerdir=/,upperdir=$top/upper,workdir=$top/work" overlay "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm" "$root/run/layer"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
touch "$root/dev/console"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount --bind "$top/upper" "$root/run/layer"
cp "$2" "$root/tmp/"
rm -rf "$root"/lib/systemd/system/*.wants "$root"/etc/systemd/system/*.wants "$root/usr/sbin/policy-rc.d"
rm -f "$root/var/lib/man-db/auto-update"    # an index of all manual pages takes seconds
mkdir -p "$root/etc/systemd/system.conf.d"
printf '[Manager]\nDefaultTimeoutStartSec=20s\n' >"$root/etc/systemd/system.conf.d/test.conf"
printf '[Unit]\nWants=systemd-journald.socket systemd-journald.service\n' >"$root/etc/systemd/system/test.target"
mkdir "$root/run/before"
cd "$root"
pivot_root . run/before
umount -l /run/before
exec env -i container=test PATH="$3" /lib/systemd/systemd --unit=test.target --log-target=console --show-status=no
"""


class Impossible(Exception):
    """This machine does not allow it; the text says why."""


def make_control_group():
    """One of our own, so that the systemd inside sees (and sorts) no process but its own."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            mount = Path(fields.split()[4])
            break
    else:
        raise Impossible("no cgroup2 is mounted")
    own = [line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    group = mount / own[0].lstrip("/") / f"maitred-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cgroup.procs").open("w").close()
    except OSError as error:
        raise Impossible(f"no control group of its own: {error}") from None
    return group


class Machine:
    """directory: an empty one to mount in. file: what is copied to /tmp inside."""

    def __init__(self, directory, file):
        if os.geteuid() != 0:
            raise Impossible("only root can have one")
        if not SYSTEMD.exists() or not shutil.which("unshare"):
            raise Impossible("systemd and unshare must be installed")
        self.directory = Path(directory)
        self.group = make_control_group()
        self.log = self.directory.parent / "boot.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--cgroup", "--uts", "--ipc", "--net",
                 "sh", "-c", BOOT, "boot", str(self.directory), str(file), PATH],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=self._enter_group)
        try:
            self._wait_until_up()
        except Impossible:
            self.stop()
            raise

    def _enter_group(self):
        (self.group / "cgroup.procs").write_text(str(os.getpid()))

    def _wait_until_up(self):
        end = time.monotonic() + 20
        while time.monotonic() < end and self.process.poll() is None:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            if children and Path(f"/proc/{children[0]}/comm").read_text() == "systemd\n":
                self.pid = int(children[0])
                if self.run("systemctl", "is-system-running", fails=True).stdout.strip() in ("running", "degraded"):
                    return
            time.sleep(0.05)
        raise Impossible(f"systemd does not start:\n{self.log.read_text()}")

    def run(self, *command, fails=False, seconds=60):
        """Runs a command inside to its end. fails: it may."""
        result = subprocess.run(
            ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--cgroup", "--uts", "--ipc", "--net", "--root",
             "--wd", "env", "-i", f"PATH={PATH}", "DEBIAN_FRONTEND=noninteractive", *map(str, command)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds)
        assert fails or result.returncode == 0, f"{command}: {result.returncode}\n{result.stdout}{result.stderr}"
        return result

    def path(self, name):
        """Where a file of the inside is for us."""
        return Path(f"/proc/{self.pid}/root/{name.lstrip('/')}")

    def changes(self):
        """Every path that is there and not on this machine, or the other way round."""
        layer = self.path("/run/layer")
        paths = set()
        for folder, folders, files in os.walk(layer):
            for name in folders + files:
                path = Path(folder, name)
                inside = "/" + str(path.relative_to(layer))
                removed = path.is_char_device() and path.lstat().st_rdev == 0
                if removed or not os.path.lexists(inside):
                    paths.add(inside)
        return paths

    def stop(self):
        """Its first process ends, and with it every other one, every mount and the layer."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        end = time.monotonic() + 10
        while self.group.exists():
            try:
                for group in reversed(list(self.group.glob("**/"))):
                    group.rmdir()
            except OSError:
                assert time.monotonic() < end, f"{self.group} cannot be removed"
                time.sleep(0.02)
