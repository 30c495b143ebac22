"""proxies - what is measured: each proxy's configuration and command line, with the best settings known for it.

The text in `settings` goes into the report, so it has to say what the configuration does."""
import dataclasses
import functools
import os
import pathlib
import shutil
import signal
import subprocess

from programs import MAITRED, PROGRAMS

PIPES = 200             # that HAProxy may have for splicing
POOLS, POOL_SERVERS = 10, 100       # of the configuration that is scraped
LEVEL_RATE, HURRY_RATE = 500, 20000     # messages a second that a queue delivers, and in the end


@dataclasses.dataclass
class Place:
    """Where a proxy runs: its own folder, the ports, how many threads and descriptors it may use."""
    folder: pathlib.Path
    port: int
    origin: int
    threads: int
    connections: int        # of clients that its descriptors allow for
    spare: int = 0          # a second origin, for configurations that change
    admin: int = 0          # where metrics are served
    turn: int = 0           # of a configuration that changes

    @property
    def state(self):
        """What a proxy that stores requests stores them in."""
        return self.folder / "state"

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return str(path)


# --- nginx -----------------------------------------------------------------------------------------------

def nginx_base(place, top, inner):
    user = "user root;" if os.geteuid() == 0 else ""
    config = place.write("nginx.conf", f"""\
{top}
daemon off;
{user}
worker_processes {place.threads};
pid {place.folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections {2 * place.connections}; }}
{inner}
""")
    return ["nginx", "-p", str(place.folder), "-e", "stderr", "-c", config]


def nginx(place, tuning="", servers=None, locations=""):
    servers = servers or f"server 127.0.0.1:{place.origin} max_fails=0;"
    temporary = "".join(f"    {kind}_temp_path {place.folder}/{kind};\n"
                        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return nginx_base(place, "", f"""\
http {{
    access_log off;
{temporary}    keepalive_timeout 3600s;
    keepalive_requests 1000000000;
    {tuning}
    upstream origin {{
        {servers}
        keepalive 512;
        keepalive_requests 1000000000;
        keepalive_timeout 3600s;
    }}
    server {{
        listen 127.0.0.1:{place.port} backlog=4096{" reuseport" if place.threads > 1 else ""};
        {locations}
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}""")


def nginx_large_buffers(place):
    return nginx(place, "proxy_buffers 4 256k; proxy_busy_buffers_size 512k; proxy_max_temp_file_size 0;")


def nginx_turn(place):
    spare = f" server 127.0.0.1:{place.spare} max_fails=0;" if place.turn % 2 else ""
    return nginx(place, "",
                 f"server 127.0.0.1:{place.origin} max_fails=0 weight={1 + place.turn % 3};{spare}",
                 f'location = /turn {{ return 200 "{place.turn}"; }} '
                 f"location /turn-{place.turn}/ {{ proxy_pass http://origin; }}")


@functools.cache
def stream_module():
    """What nginx must load for layer 4: a path, "" when it is built in, None when it is not there."""
    said = subprocess.run(["nginx", "-V"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=5)
    words = said.stdout.split()
    if "--with-stream" in words:
        return ""
    folders = [word.split("=", 1)[1] for word in words if word.startswith("--modules-path=")]
    paths = [pathlib.Path(folder, "ngx_stream_module.so") for folder in folders]
    return next((str(path) for path in paths if path.exists()), None)


def nginx_stream(place, tuning=""):
    module = stream_module()
    return nginx_base(place, f"load_module {module};" if module else "", f"""\
stream {{
    access_log off;
    upstream origin {{ server 127.0.0.1:{place.origin} max_fails=0; }}
    server {{
        listen 127.0.0.1:{place.port} backlog=4096;
        proxy_pass origin;
        proxy_timeout 3600s;
        {tuning}
    }}
}}""")


def nginx_stream_64k(place):
    return nginx_stream(place, "proxy_buffer_size 64k;")


# --- HAProxy ---------------------------------------------------------------------------------------------

def haproxy_base(place, inner, tuning="", process=("-db",)):
    config = place.write("haproxy.cfg", f"""\
global
    nbthread {place.threads}
    maxconn {place.connections}
    maxpipes {PIPES}
    {tuning}
defaults
    timeout connect 5s
    timeout client 3600s
    timeout server 3600s
{inner}
""")
    return ["haproxy", *process, "-f", config]


def haproxy(place, tuning="", options=(), process=("-db",), weight=1, servers="", front="", more=""):
    options = "".join(f"    option {option}\n" for option in options)
    return haproxy_base(place, f"""\
    mode http
    timeout http-keep-alive 3600s
    option http-keep-alive
    http-reuse always
{options}frontend front
    bind 127.0.0.1:{place.port} backlog 4096
    maxconn {place.connections}
    {front}
    default_backend origin
backend origin
    server origin 127.0.0.1:{place.origin} weight {weight} pool-purge-delay 3600s
    {servers}
{more}""", tuning, process)


def haproxy_splice(place):
    # splice-auto takes the body for no stream, and copies.
    return haproxy(place, tuning="tune.pipesize 262144", options=("splice-response",))


def haproxy_large_buffers(place):
    return haproxy(place, tuning="tune.bufsize 65536")


def haproxy_turn(place):
    spare = f"server spare 127.0.0.1:{place.spare} pool-purge-delay 3600s" if place.turn % 2 else ""
    turn = f'http-request return status 200 content-type text/plain string "{place.turn}" if {{ path /turn }}'
    return haproxy(place, options=("idle-close-on-response",), process=("-W",), weight=1 + place.turn % 3,
                   servers=spare, front=f"{turn}\n    use_backend origin if {{ path_beg /turn-{place.turn}/ }}")


def haproxy_scraped(place):
    backends = "".join(f"backend pool{i}\n" + "".join(
        f"    server s{j} 127.0.{i}.{j + 1}:{place.origin}\n" for j in range(POOL_SERVERS)) for i in range(POOLS))
    return haproxy(place, front="\n    ".join(f"use_backend pool{i} if {{ path_beg /pool{i}/ }}"
                                              for i in range(POOLS)), more=f"""\
frontend admin
    bind 127.0.0.1:{place.admin}
    http-request use-service prometheus-exporter if {{ path /metrics }}
{backends}""")


def haproxy_tcp(place, tuning="", options=()):
    options = "".join(f"    option {option}\n" for option in options)
    return haproxy_base(place, f"""\
    mode tcp
{options}frontend front
    bind 127.0.0.1:{place.port} backlog 4096
    maxconn {place.connections}
    default_backend origin
backend origin
    server origin 127.0.0.1:{place.origin}""", tuning)


def haproxy_tcp_auto(place):
    return haproxy_tcp(place, "tune.pipesize 262144", ("splice-auto",))


def haproxy_tcp_splice(place):
    return haproxy_tcp(place, "tune.pipesize 262144", ("splice-request", "splice-response"))


# --- maitred ---------------------------------------------------------------------------------------------

def maitred_base(place, inner):
    config = place.write("maitred.conf", f"""\
threads = {place.threads}
max-connections = 20000
{inner}
""")
    return [MAITRED, "run", config]


def maitred(place, routes="", weight=1, servers="", more=""):
    return maitred_base(place, f"""\
http "127.0.0.1:{place.port}" {{
    max-requests = 0
    {routes}
    route "/" {{ pool = origin }}
}}
pool origin {{
    max-requests = 0
    server 127.0.0.1:{place.origin} {{ weight = {weight} }}
    {servers}
}}
{more}""")


def maitred_turn(place):
    turn = f'route "/turn" {{ respond = 200  body = "{place.turn}" }}'
    return maitred(place, f'{turn}\n    route "/turn-{place.turn}" {{ pool = origin }}', 1 + place.turn % 3,
                   f"server 127.0.0.1:{place.spare} {{}}" if place.turn % 2 else "")


def maitred_scraped(place):
    pools = "".join(f"pool pool{i} {{\n" + "".join(
        f"    server 127.0.{i}.{j + 1}:{place.origin} {{}}\n" for j in range(POOL_SERVERS)) + "}\n"
                    for i in range(POOLS))
    return maitred(place, "\n    ".join(f'route "/pool{i}" {{ pool = pool{i} }}' for i in range(POOLS)),
                   more=f'admin "127.0.0.1:{place.admin}" {{}}\n{pools}')


def maitred_queue(place):
    return maitred_base(place, f"""\
state = "{place.state}"
http "127.0.0.1:{place.port}" {{
    max-requests = 0
    route "/" {{ queue = work }}
}}
queue work {{}}""")


def maitred_level(place):
    rate = HURRY_RATE if place.turn else LEVEL_RATE
    return maitred_base(place, f"""\
state = "{place.state}"
http "127.0.0.1:{place.port}" {{
    max-requests = 0
    route "/turn" {{ respond = 200  body = "{place.turn}" }}
    route "/" {{ queue = work }}
}}
queue work {{ push {{ pool = origin  rate = {rate}/s  concurrency = 64 }} }}
pool origin {{
    max-requests = 0
    server 127.0.0.1:{place.origin} {{}}
}}""")


def maitred_tcp(place):
    return maitred_base(place, f"""\
tcp "127.0.0.1:{place.port}" {{ pool = origin }}
pool origin {{ server 127.0.0.1:{place.origin} {{}} }}""")


# --- the floor -------------------------------------------------------------------------------------------

def forwarder(place, *options):
    return [str(PROGRAMS / "forwarder"), str(place.port), str(place.origin), *options]


def forwarder_splice(place):
    return forwarder(place, "--splice")


def forwarder_splice_up(place):
    return forwarder(place, "--splice-up")


# --- all of them -----------------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Proxy:
    name: str
    command: object         # a function of a Place; None: the generator talks to the origin
    family: str             # for ratios: "nginx", "haproxy", "forwarder", "maitred" or ""
    settings: str = ""      # for the report: what differs from the proxy's defaults
    layer: int = 7
    reload: int = 0         # the signal that makes it read its configuration again
    stores: bool = False    # it needs a disk


DIRECT = Proxy("direct, no proxy", None, "")
FLOOR = Proxy("forwarder", forwarder, "forwarder",
              "bench/forwarder.c, no settings: copies through one buffer of 64 KiB, a connection "
              "to the origin for each client")
FLOOR_SPLICE = Proxy("forwarder, splice", forwarder_splice, "forwarder",
                     "what the origin sends goes through pipes of 256 KiB, never copied")
FLOOR_SPLICE_UP = Proxy("forwarder, splice up", forwarder_splice_up, "forwarder",
                        "the same for what the client sends")

NGINX_HTTP = "HTTP/1.1 to the origin and `keepalive 512`; `keepalive_requests` and `keepalive_timeout` that end nothing"
NGINX = Proxy("nginx", nginx, "nginx", NGINX_HTTP)
NGINX_LARGE = Proxy("nginx, 4 buffers of 256k", nginx_large_buffers, "nginx",
                    "as nginx, and `proxy_buffers 4 256k`, `proxy_busy_buffers_size 512k`, "
                    "`proxy_max_temp_file_size 0`")
NGINX_TURN = Proxy("nginx, reloaded", nginx_turn, "nginx", "as nginx; SIGHUP", reload=signal.SIGHUP)
NGINX_STREAM = Proxy("nginx stream", nginx_stream, "nginx", "the stream module; `proxy_timeout 3600s`", layer=4)
NGINX_STREAM_64K = Proxy("nginx stream, buffers of 64k", nginx_stream_64k, "nginx",
                         "as nginx stream, and `proxy_buffer_size 64k`", layer=4)

HAPROXY_HTTP = "`option http-keep-alive`, `http-reuse always`, `pool-purge-delay 3600s`, timeouts of 3600 s"
HAPROXY = Proxy("HAProxy", haproxy, "haproxy", HAPROXY_HTTP)
HAPROXY_LARGE = Proxy("HAProxy, buffers of 64k", haproxy_large_buffers, "haproxy",
                      "as HAProxy, and `tune.bufsize 65536`")
HAPROXY_SPLICE = Proxy("HAProxy, splice", haproxy_splice, "haproxy",
                       "as HAProxy, and `option splice-response`, `tune.pipesize 262144`")
HAPROXY_TURN = Proxy("HAProxy, reloaded", haproxy_turn, "haproxy",
                     "as HAProxy, and `option idle-close-on-response`; master and worker (`-W`), SIGUSR2",
                     reload=signal.SIGUSR2)
HAPROXY_SCRAPED = Proxy("HAProxy, scraped", haproxy_scraped, "haproxy",
                        f"as HAProxy, {POOLS} more backends of {POOL_SERVERS} servers each; its prometheus-exporter "
                        "on a frontend of its own")
HAPROXY_TCP = Proxy("HAProxy tcp", haproxy_tcp, "haproxy", "`mode tcp`, timeouts of 3600 s", layer=4)
HAPROXY_TCP_AUTO = Proxy("HAProxy tcp, splice-auto", haproxy_tcp_auto, "haproxy",
                         "as HAProxy tcp, and `option splice-auto`, `tune.pipesize 262144`", layer=4)
HAPROXY_TCP_SPLICE = Proxy("HAProxy tcp, splice always", haproxy_tcp_splice, "haproxy",
                           "as HAProxy tcp, and `option splice-request`, `option splice-response`, "
                           "`tune.pipesize 262144`", layer=4)

OURS = Proxy("maitred", maitred, "maitred", "`max-requests = 0` on both sides")
OURS_TURN = Proxy("maitred, reloaded", maitred_turn, "maitred", "as maitred; SIGHUP", reload=signal.SIGHUP)
OURS_SCRAPED = Proxy("maitred, scraped", maitred_scraped, "maitred",
                     f"as maitred, {POOLS} more pools of {POOL_SERVERS} servers each; the admin listener")
OURS_QUEUE = Proxy("maitred, stored", maitred_queue, "maitred",
                   "a route with a queue: 202 once the request is on disk; `max-requests = 0`, no push", stores=True)
OURS_LEVEL = Proxy("maitred, levelled", maitred_level, "maitred",
                   f"a route with a queue, `push` with `rate = {LEVEL_RATE}/s`, after a reload {HURRY_RATE}/s, "
                   "`concurrency = 64`; `max-requests = 0` on both sides; SIGHUP", reload=signal.SIGHUP, stores=True)
OURS_TCP = Proxy("maitred tcp", maitred_tcp, "maitred", "a listener `tcp`, nothing set but its pool", layer=4)


def absent(proxy):
    """Why a proxy cannot be measured here, or None."""
    if proxy.family == "maitred":
        return None if os.access(MAITRED, os.X_OK) else f"{MAITRED} is not there (MAITRED=PATH names another)"
    if proxy.family in ("nginx", "haproxy") and not shutil.which(proxy.family):
        return f"{proxy.family} is not installed"
    if proxy.family == "nginx" and proxy.layer == 4 and stream_module() is None:
        return "nginx has no stream module (Debian's package libnginx-mod-stream)"
    return None
