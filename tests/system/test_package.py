"""The Debian package: what is in it, how it is installed, runs under systemd, is replaced, and goes without a trace."""
import gzip
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from kit import machine, process
from kit.wire import DEADLINE, connect

UNIT = "lib/systemd/system/maitred.service"
CONFIG = "/etc/maitred/maitred.conf"
DEB = "/tmp/maitred.deb"
NEWER = "/tmp/newer.deb"


def output(*command, **options):
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, **options).stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package of this tree, built once."""
    if process.is_sanitized():
        pytest.skip("the package has a build of its own, without sanitizers")
    if not shutil.which("dpkg-deb"):
        pytest.skip("not a Debian machine")
    directory = tmp_path_factory.mktemp("package")
    built = subprocess.run([process.ROOT / "tools" / "deb", directory], capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stdout + built.stderr
    return (directory / built.stdout.splitlines()[-1]).rename(directory / "maitred.deb")


@pytest.fixture(scope="module")
def unpacked(package):
    directory = package.parent / "unpacked"
    output("dpkg-deb", "-R", package, directory)
    return directory


def test_it_holds_the_program_its_service_and_its_manuals(package):
    found = {}
    for line in output("dpkg-deb", "-c", package).splitlines():
        mode, owner, _, _, _, path = line.split(maxsplit=5)
        assert owner == "root/root", line
        found[path.removeprefix(".")] = mode
    assert found["/usr/bin/maitred"] == "-rwxr-xr-x"
    for path in (CONFIG, f"/{UNIT}", "/etc/logrotate.d/maitred", "/usr/share/man/man1/maitred.1.gz",
                 "/usr/share/man/man5/maitred.conf.5.gz", "/usr/share/doc/maitred/copyright"):
        assert found[path] == "-rw-r--r--", path
    for path in ("/var/lib/maitred/", "/var/log/maitred/"):
        assert found[path].startswith("d"), path
    places = ("/etc/", "/lib/systemd/system/", "/usr/bin/", "/usr/share/doc/maitred/", "/usr/share/man/",
              "/usr/share/maitred/examples/diner/", "/var/")
    assert not [path for path in found if not path.endswith("/") and not path.startswith(places)]


def test_its_version_is_the_programs(package, unpacked):
    version = output("dpkg-deb", "-f", package, "Version").strip()
    assert output(unpacked / "usr/bin/maitred", "version") == f"maitred {version}\n"


def test_its_configuration_is_a_good_one_and_is_the_administrators_to_change(unpacked):
    assert CONFIG in (unpacked / "DEBIAN/conffiles").read_text().splitlines()
    output(unpacked / "usr/bin/maitred", "check", f"{unpacked}{CONFIG}")


def test_the_manual_names_every_command_and_every_option(unpacked):
    def manual(name):
        return gzip.decompress((unpacked / "usr/share/man" / name).read_bytes()).decode().replace("\\-", "-")
    commands = re.findall(r"^  ([a-z]+) ", output(unpacked / "usr/bin/maitred", "help"), re.M)
    options = re.findall(r"^\| `([a-z-]+)` \|", output(unpacked / "usr/bin/maitred", "reference"), re.M)
    assert len(commands) > 4 and len(options) > 20
    first, fifth = manual("man1/maitred.1.gz"), manual("man5/maitred.conf.5.gz")
    assert not [name for name in commands if not re.search(rf"^\.B {name}$", first, re.M)]
    assert not [name for name in options if not re.search(rf"^\.B {name}$", fifth, re.M)]


def adjusted_unit(unpacked):
    """The unit for the program where it was unpacked."""
    unit = unpacked.parent / "maitred.service"
    unit.write_text((unpacked / UNIT).read_text().replace("/usr/bin/maitred", f"{unpacked}/usr/bin/maitred"))
    return unit


needs_analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")


@needs_analyze
def test_systemd_finds_nothing_wrong_with_the_unit(unpacked):
    result = subprocess.run(["systemd-analyze", "verify", "--man=no", adjusted_unit(unpacked)], capture_output=True,
                            text=True)
    assert (result.returncode, result.stderr) == (0, "")


@needs_analyze
def test_the_service_is_exposed_no_more_than_it_must_be(unpacked):
    """2.0 of 10 on systemd's scale; a web server's unit without hardening has 9.2."""
    output("systemd-analyze", "security", "--offline=yes", "--threshold=20", adjusted_unit(unpacked))


def test_what_the_unit_starts_is_ready_answers_and_says_when_it_stops(unpacked, tmp_path):
    """By hand, without systemd and without rights."""
    unit = (unpacked / UNIT).read_text()
    command = re.search(r"^ExecStart=(.*)$", unit, re.M)[1].split()
    config = tmp_path / "maitred.conf"
    ports = {port: str(process.free_port()) for port in ("8080", "8900")}
    config.write_text(re.sub(r":(8080|8900)\b", lambda found: f":{ports[found[1]]}",
                             (unpacked / CONFIG.lstrip("/")).read_text()))
    assert command[2] == CONFIG
    told = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(told))
        manager.settimeout(DEADLINE)
        running = subprocess.Popen([f"{unpacked}{command[0]}", command[1], config], stdin=subprocess.DEVNULL,
                                   env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": str(told)})
        try:
            hear(manager, "READY=1")
            peer = connect(("127.0.0.1", int(ports["8080"])))
            assert "maitred runs" in peer.get().text
            peer.close()
            running.terminate()
            hear(manager, "STOPPING=1")
            assert running.wait(15) == 0
        finally:
            running.kill()
            running.wait()


def hear(manager, line):
    """Until a message with this line comes."""
    heard = []
    while line not in heard:
        heard += manager.recv(4096).decode().splitlines()


# --- in a machine to throw away ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def box(package):
    directory = package.parent / "machine"
    directory.mkdir()
    try:
        box = machine.Machine(directory, package)
    except machine.Impossible as why:
        pytest.skip(f"no machine to throw away: {why}")
    box.at_first = box.changes()
    yield box
    box.stop()


@pytest.fixture
def service(box, unpacked):
    """The machine with the package as it comes; its service runs."""
    state = box.run("dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", "maitred", fails=True).stdout
    if state != "installed " + output("dpkg-deb", "-f", unpacked.parent / "maitred.deb", "Version").strip():
        box.run("dpkg", "-i", DEB)
    box.path(CONFIG).write_bytes((unpacked / CONFIG.lstrip("/")).read_bytes())
    box.run("systemctl", "restart", "maitred")
    yield box
    print(box.run("journalctl", "--no-pager", "-u", "maitred", fails=True).stdout)


def ask(box, url):
    return box.run("curl", "-sS", "--max-time", "5", url).stdout


def is_active(box):
    return box.run("systemctl", "is-active", "maitred", fails=True).stdout.strip() == "active"


def main_pid(box):
    return int(box.run("systemctl", "show", "maitred", "-p", "MainPID", "--value").stdout)


def until_another_serves(box, before):
    """The main process, when it is another one than before."""
    end = time.monotonic() + DEADLINE
    while not is_active(box) or (pid := main_pid(box)) in (0, before):
        assert time.monotonic() < end, "there is no other process"
    return pid


def test_installed_it_runs_as_its_own_user_with_one_right(service):
    assert is_active(service)
    assert "maitred runs" in ask(service, "http://localhost:8080/")
    assert service.run("systemctl", "is-enabled", "maitred").stdout == "enabled\n"
    user = service.run("id", "-u", "maitred").stdout.strip()
    status = dict(re.findall(r"^(\w+):\s+(.*)$", service.path(f"/proc/{main_pid(service)}/status").read_text(), re.M))
    assert status["Uid"].split() == [user] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 1 << 10, "more than CAP_NET_BIND_SERVICE"
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_all_that_a_configuration_may_want_works_within_the_units_bounds(service):
    """Ports below 1024, unix sockets, logs, and servers by name, with bodies large enough to be spliced."""
    service.path(CONFIG).write_text('''
        http ":80" {
            access-log = "/var/log/maitred/access.log"
            route "/"     { pool = web }
            route "/here" { respond = 200 }
        }
        http "unix:/run/maitred/back.sock" { route "/" { pool = files } }
        pool web   { server "unix:/run/maitred/back.sock" {} }
        pool files { server "localhost:9001" {} }
        ''')
    service.run("sh", "-c", "mkdir /tmp/files; head -c 10000000 /dev/zero >/tmp/files/large; systemd-run -q "
                "/usr/bin/python3 -m http.server -d /tmp/files --bind 127.0.0.1 9001")
    service.run("systemctl", "restart", "maitred")
    end = time.monotonic() + DEADLINE
    while len(large := ask(service, "http://localhost/large")) != 10_000_000:
        assert time.monotonic() < end, large[:200]
    service.run("systemctl", "stop", "maitred")
    assert "/large" in service.path("/var/log/maitred/access.log").read_text()


def test_a_reload_of_a_bad_file_fails_with_its_line_and_changes_nothing(service):
    before = main_pid(service)
    service.run("systemctl", "reload", "maitred")
    with service.path(CONFIG).open("a") as file:
        file.write("thread = 3\n")
    assert service.run("systemctl", "reload", "maitred", fails=True).returncode != 0
    assert re.search(rf"{CONFIG}:\d+: .*thread", service.run("journalctl", "--no-pager", "-u", "maitred").stdout)
    assert main_pid(service) == before
    assert "maitred runs" in ask(service, "http://localhost:8080/")


def test_a_process_that_dies_is_started_again(service):
    before = main_pid(service)
    service.run("systemctl", "kill", "-s", "KILL", "maitred")
    until_another_serves(service, before)
    assert "maitred runs" in ask(service, "http://localhost:8080/")


def test_after_an_update_of_the_package_the_new_program_serves(service):
    before = main_pid(service)
    service.run("sh", "-c", f"dpkg-deb -R {DEB} /tmp/newer && sed -i 's/^Version: .*/&+newer/' /tmp/newer/DEBIAN/control"
                f" && dpkg-deb -Znone -b /tmp/newer {NEWER}")
    service.run("dpkg", "-i", NEWER)
    assert "maitred runs" in ask(service, "http://localhost:8080/")
    pid = until_another_serves(service, before)
    assert service.run("readlink", f"/proc/{pid}/exe").stdout == "/usr/bin/maitred\n", "it is still the old program"


def test_removed_it_keeps_what_was_changed_and_purged_nothing_is_left(box):
    box.run("dpkg", "-i", DEB)
    box.path(CONFIG).write_text("# mine\n" + box.path(CONFIG).read_text())
    for name in ("/var/lib/maitred/kept", "/var/log/maitred/access.log"):
        box.path(name).write_text("")
    box.run("dpkg", "--remove", "maitred")
    assert not is_active(box)
    assert not box.path("/usr/bin/maitred").exists()
    assert box.path(CONFIG).read_text().startswith("# mine\n")
    assert box.path("/var/lib/maitred/kept").exists()
    box.run("dpkg", "--purge", "maitred")
    assert box.changes() == box.at_first
    for name in ("passwd", "group", "shadow", "gshadow"):
        assert box.path(f"/etc/{name}").read_text() == (Path("/etc", name)).read_text()
