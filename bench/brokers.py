"""brokers - the message brokers that are measured: how each is started by itself, configured, and ended.

Each has a folder, ports and a core of its own; what the machine has running is left alone. Of each the processes are
known by their ids, and those alone are ended. The text in `settings` goes into the report."""
import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

from counters import family_of
from programs import (END_SECONDS, MAITRED, PROXY_CORE, Trouble, die_with_parent, first_line_of, free_port,
                      last_line)

START_SECONDS = 60      # until a broker listens: RabbitMQ boots on the one core it has
SYNCS = "fdatasync,fsync,sync_file_range,msync"
RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"      # not Debian's wrapper, which is for the machine's own


@dataclasses.dataclass
class Site:
    """Where a broker runs."""
    folder: pathlib.Path
    port: int

    def write(self, name, text, mode=0o644):
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)


# --- RabbitMQ --------------------------------------------------------------------------------------------

def rabbitmq_environment(site, epmd):
    folder = site.folder
    site.write(".erlang.cookie", "maitred-bench", 0o400)
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(folder), "LANG": "C.UTF-8",
        "RABBITMQ_NODENAME": f"bench-{site.port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_NODE_PORT": str(site.port),
        "RABBITMQ_DIST_PORT": str(free_port()), "ERL_EPMD_PORT": str(epmd), "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"), "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_CONFIG_FILE": site.write("rabbitmq.conf", """\
log.file.level = warning
classic_queue.default_version = 2
"""),
        "RABBITMQ_CONF_ENV_FILE": site.write("rabbitmq-env.conf", ""),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": site.write("enabled_plugins", "[].\n"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +SDcpu 1:1",
    }


@contextlib.contextmanager
def rabbitmq(site):
    """Its epmd, too, is its own. The shell script is passed over by letting it run Erlang in its place."""
    epmd = free_port()
    environment = {**rabbitmq_environment(site, epmd), "RABBITMQ_ALLOW_INPUT": "1"}
    with started(["epmd", "-port", str(epmd), "-address", "127.0.0.1"], environment, site.folder / "epmd.out"):
        yield [RABBITMQ, "-noinput"], environment


# --- Redis, maitred --------------------------------------------------------------------------------------

@contextlib.contextmanager
def redis(site):
    config = site.write("redis.conf", f"""\
bind 127.0.0.1
port {site.port}
dir {site.folder}
save ""
appendonly yes
appendfsync always
auto-aof-rewrite-percentage 0
""")
    yield ["redis-server", config], dict(os.environ)


@contextlib.contextmanager
def maitred(site):
    config = site.write("maitred.conf", f"""\
threads = 1
state = "{site.folder}/state"
amqp "127.0.0.1:{site.port}" {{ user "guest" {{ password = "guest" }} }}
""")
    yield [MAITRED, "run", config], dict(os.environ)


# --- all of them -----------------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Broker:
    name: str
    launch: object          # a context manager of a Site: command line and environment
    family: str             # for ratios
    settings: str
    options: tuple = ()     # of the generator
    stores: bool = True     # they all need a disk


RABBITMQ_SETTINGS = "one node, `+S 1:1 +SDcpu 1:1`, for it has one core, no plugins, nothing else set but"
RABBITMQ_QUORUM = Broker("RabbitMQ, quorum queue", rabbitmq, "rabbitmq quorum",
                         f"{RABBITMQ_SETTINGS} `x-queue-type: quorum`; it has one replica, and confirms after a sync",
                         ("--queue-type", "quorum"))
RABBITMQ_CLASSIC = Broker("RabbitMQ, classic queue", rabbitmq, "rabbitmq classic",
                          f"{RABBITMQ_SETTINGS} `x-queue-type: classic` and `classic_queue.default_version = 2`; it "
                          "confirms what is written, and does not wait for a sync",
                          ("--queue-type", "classic"))
REDIS = Broker("Redis, stream", redis, "redis",
               "XADD, pipelined; `appendonly yes`, `appendfsync always`, `save \"\"`, `auto-aof-rewrite-percentage 0`",
               ("--redis",))
OURS_AMQP = Broker("maitred", maitred, "maitred", "a listener `amqp`, `threads = 1`")


def missing(broker):
    """Why a broker cannot be measured here, or None."""
    if broker.family == "maitred":
        return None if os.access(MAITRED, os.X_OK) else f"{MAITRED} is not there (MAITRED=PATH names another)"
    program = RABBITMQ if broker.launch is rabbitmq else "redis-server"
    return None if shutil.which(program) else f"{program} is not installed"


def version(broker):
    if broker.launch is rabbitmq:
        found = sorted(pathlib.Path(RABBITMQ).parent.parent.glob("lib/rabbitmq_server-*"))
        return "RabbitMQ " + (found[-1].name.split("-", 1)[1] if found else "not there")
    return first_line_of("redis-server", "--version") if broker.launch is redis else ""


# --- starting and ending ---------------------------------------------------------------------------------

def alive(pid):
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat[stat.rindex(")") + 2] != "Z"


def end_family(process, traced):
    """Nothing that a broker would still write is wanted: it is killed, with its descendants, which may have sessions
    of their own. strace ends when it has seen the end of what it traces."""
    pids = family_of(process.pid)
    for pid in pids[1:] if traced and len(pids) > 1 else pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(END_SECONDS)
    deadline = time.monotonic() + END_SECONDS
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)


@contextlib.contextmanager
def started(argv, environment, log, traced=False):
    def prepare():
        die_with_parent()
        os.sched_setaffinity(0, {PROXY_CORE})

    with log.open("w") as file:
        process = subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                   start_new_session=True, preexec_fn=prepare, cwd=log.parent)
    try:
        yield process
    finally:
        end_family(process, traced)


def lasting_family(pid):
    """Without what ends at once: RabbitMQ asks the system's programs now and then."""
    first = family_of(pid)
    time.sleep(0.2)
    return [one for one in family_of(pid) if one in first]


def wait_until_answering(process, site, log):
    """A broker listens before it is ready: RabbitMQ has booted when it greets who says AMQP."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Trouble(f"ended at once with status {process.returncode}: {last_line(log)}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", site.port), 1) as s:
            s.sendall(b"PING\r\n" if log.stem == "redis" else b"AMQP\x00\x00\x09\x01")
            s.settimeout(5)
            if s.recv(1):
                return
        time.sleep(0.02)
    raise Trouble(f"does not answer after {START_SECONDS} s: {last_line(log)}")


@contextlib.contextmanager
def with_broker(broker, folder, traced=None):
    """Yields the Site of a running broker and its processes' ids. traced: a file for what strace sees of its syncs."""
    folder.mkdir()
    site = Site(folder, free_port())
    log = folder / f"{broker.family.split()[0]}.out"
    try:
        with broker.launch(site) as (argv, environment):
            if traced:
                argv = ["strace", "-f", "--seccomp-bpf", "-ttt", "-e", f"trace={SYNCS}", "-o", str(traced), *argv]
            with started(argv, environment, log, bool(traced)) as process:
                wait_until_answering(process, site, log)
                yield site, lasting_family(process.pid)
                if process.poll() is not None:
                    raise Trouble(f"ended while being measured, status {process.returncode}: {last_line(log)}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
