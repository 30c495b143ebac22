"""The command line: what each command prints, where, and its exit code."""
import pytest

from kit import process
from kit.config import listener, pool, proxying, top
from kit.origin import Told
from kit.wire import request

GOOD = (top() + listener('''route "/" { pool = web }
    route "/api" { pool = api  host = { "shop.example" } }
    route "/old" { redirect = "/new" }''', address="127.0.0.1:8080") +
        pool("web", "127.0.0.1:9001", "127.0.0.1:9002") +
        pool("api", "127.0.0.1:9003", ("127.0.0.1:9004", "weight = 3"),
             options='balance = consistent-hash  hash-key = "query:user"'))


@pytest.fixture
def file(tmp_path):
    """file(text): a configuration in a file of its own."""
    def write(text, name="maitred.conf"):
        path = tmp_path / name
        path.write_text(text)
        return path
    return write


def test_check_of_a_good_file_says_so(file):
    result = process.run("check", file(GOOD))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout


BAD = {
    "unknown option": ('pool web {\n    retrys = 2\n    server "127.0.0.1:1" { }\n}\n', 2, ["retrys", "retries"]),
    "unknown section": ('pol web {\n    server "127.0.0.1:1" { }\n}\n', 1, ["pol", "pool"]),
    "bad time": ('pool web {\n    server "127.0.0.1:1" { }\n    connect-timeout = 1x\n}\n', 3,
                 ["connect-timeout", "1x"]),
    "bad number": ('threads = many\n', 1, ["threads", "many"]),
    "out of bounds": ('pool web {\n    server "127.0.0.1:1" {\n        weight = 1000\n    }\n}\n', 3,
                      ["weight", "1000", "256"]),
    "no such pool": ('http ":1" {\n    route "/" {\n        pool = wbe\n    }\n}\n'
                     'pool web { server "127.0.0.1:1" { } }\n', 3, ["wbe", "web"]),
    "no server": ("\npool web { }\n", 2, ["web", "server"]),
    "bad address": ('pool web {\n    server "127.0.0.1" { }\n}\n', 2, ["127.0.0.1"]),
    "nothing to do": ('http ":1" {\n    route "/" { }\n}\n', 2, ["pool", "redirect", "respond"]),
    "not closed": ('http ":1" {\n    route "/" { respond = 200 }\n', None, []),
    "bad network": ('http ":1" {\n    trusted-proxies = { 10.0.0.0/33 }\n    route "/" { respond = 200 }\n}\n', 2,
                    ["10.0.0.0/33"]),
    "bad yes": ('pool web {\n    server "127.0.0.1:1" { backup = maybe }\n}\n', 2, ["backup", "maybe"]),
}


@pytest.mark.parametrize("text, line, words", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("command", ["check", "run"])
def test_what_is_wrong_in_a_file_is_said_with_its_place(file, command, text, line, words):
    path = file(text)
    result = process.run(command, path)
    assert result.returncode == 1
    assert f"{path}:{line or ''}" in result.stderr
    for word in words:
        assert word in result.stderr, f"{word!r} is not in: {result.stderr}"


def test_all_that_is_wrong_is_said_at_once(file):
    result = process.run("check", file('threads = many\npool web {\n    retrys = 2\n    server "127.0.0.1:x" { }\n}\n'))
    assert result.returncode == 1
    assert [f".conf:{number}:" in result.stderr for number in (1, 3, 4)] == [True] * 3, result.stderr


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_file_that_is_not_there(command, tmp_path):
    result = process.run(command, tmp_path / "none.conf")
    assert result.returncode == 1
    assert "none.conf" in result.stderr


@pytest.mark.parametrize("asked, words", [
    ("GET http://a/x", ["web"]), ("GET http://shop.example/api/x?y=1", ["api"]),
    ("GET http://other.example/api", ["web"]),
    ("POST http://a/old", ["/new"]), ("GET http://shop.example/%61pi", ["api"]),
])
def test_check_tells_the_route_a_request_takes(file, asked, words):
    result = process.run("check", "--route", asked, file(GOOD))
    assert result.returncode == 0, result.stderr
    first = result.stdout.split("\n\n")[0]
    for word in words:
        assert word in first, result.stdout


def test_check_tells_when_no_route_matches(file):
    text = listener('route "/api" { respond = 200 }', address="127.0.0.1:1")
    result = process.run("check", "--route", "GET http://a/x", file(text))
    assert "/api" in result.stdout + result.stderr


@pytest.mark.parametrize("asked", ["", "GET", "http://a/", "GET /x", "GET http://", "G(T http://a/",
                                   "GET http://a/../x"])
def test_check_refuses_a_route_question_that_is_no_request(file, asked):
    result = process.run("check", "--route", asked, file(GOOD))
    assert result.returncode in (1, 2)
    assert result.stderr or "refused with 400" in result.stdout


def test_ring_tells_where_keys_go(file):
    keys = [f"user{number}" for number in range(40)]
    result = process.run("ring", file(GOOD), "api", *keys)
    assert result.returncode == 0, result.stderr
    homes = dict(line.split() for line in result.stdout.splitlines())
    assert list(homes) == keys
    assert set(homes.values()) == {"127.0.0.1:9003", "127.0.0.1:9004"}
    assert process.run("ring", file(GOOD), "api", *keys).stdout == result.stdout


def test_ring_tells_what_moves_without_a_server(file):
    result = process.run("ring", file(GOOD), "api", "--without", "127.0.0.1:9004")
    assert result.returncode == 0, result.stderr
    moved = next(line for line in result.stdout.splitlines() if line.startswith("this ring"))
    assert 65_000 < int(moved.split()[2]) < 85_000, "it has three quarters of the weight"
    assert moved.split("%)")[1].split()[0] == "0", "keys of the other server moved"


@pytest.mark.parametrize("arguments, words", [
    (["nopool", "key"], ["nopool"]), (["web", "key"], ["web", "consistent-hash"]),
    (["api", "key", "--without", "127.0.0.1:1"], ["127.0.0.1:1", "127.0.0.1:9003"]), (["api"], ["key"]),
    (["api", "key", "--without"], ["--without"]),
])
def test_ring_says_what_it_cannot_do(file, arguments, words):
    result = process.run("ring", file(GOOD), *arguments)
    assert result.returncode in (1, 2)
    for word in words:
        assert word in result.stderr


def test_ring_tells_the_server_that_a_request_goes_to(stage, echo):
    proxy = stage.maitred(proxying(*[echo(name) for name in "abc"],
                                   options='balance = consistent-hash  hash-key = "query:user"'))
    peer = proxy.client()
    for key in ("alice", "bob", "carol", "dave"):
        told = Told(peer.ask(request("GET", f"/?user={key}")))
        address = next(origin.at for origin in stage.origins if origin.name == told.server)
        assert process.run("ring", proxy.config, "web", key).stdout.split() == [key, address]


def test_version_is_one_line():
    result = process.run("version")
    assert result.returncode == 0
    assert result.stdout.startswith("maitred ") and result.stdout.count("\n") == 1
    assert process.run("--version").stdout == result.stdout


COMMANDS = ["run", "check", "ring", "version"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    result = process.run(command, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"maitred {command}" in result.stdout


@pytest.mark.parametrize("flag", ["--help", "help"])
def test_help_names_every_command(flag):
    result = process.run(flag)
    assert (result.returncode, result.stderr) == (0, "")
    for command in COMMANDS:
        assert command in result.stdout


@pytest.mark.parametrize("arguments", [[], ["rnu"], ["run"], ["run", "a", "b"], ["check"], ["run", "--frob", "a"],
                                       ["version", "x"]], ids=str)
def test_a_wrong_command_line_is_refused_with_a_hint(arguments):
    result = process.run(*arguments)
    assert result.returncode not in (0, -6, -11)
    assert "help" in result.stderr or "usage" in result.stderr.lower() or "run" in result.stderr
    assert result.stdout == ""


def test_a_mistyped_command_is_answered_with_those_that_exist():
    result = process.run("chek")
    assert result.returncode == 2
    assert "chek" in result.stderr and "check" in result.stderr


def test_the_example_of_the_language_is_accepted_where_it_is_built(file):
    """Every option of the balancer once."""
    result = process.run("check", file('''
threads = 2
user = nobody
drain-timeout = 30s
max-connections = 1000
http ":8080" {
    access-log = "./access.log"
    trusted-proxies = { 127.0.0.0/8, ::1, 10.1.2.3 }
    head-timeout = 10s  idle-timeout = 75s  body-timeout = 30s  rate-grace = 10s  min-rate = 240
    tunnel-timeout = 1h  max-head = 32k  max-line = 8k  max-fields = 128  max-body = 100m  max-requests = 10000
    route "/" { pool = web  retries = 0  strip-prefix = no  retry-with-key = yes }
    route "/" {
        host    = { "beta.localhost", "*.example.com" }
        methods = { GET, HEAD }
        header "X-Preview" { value = "yes" }
        cookie "canary"    {}
        query "v"          { value = "2" }
        pool    = web
    }
    route "/old"     { redirect = "/new"  status = 301 }
    route "/healthz" { respond = 200  body = "ok\\n" }
}
pool web {
    balance = consistent-hash
    hash-key = "query:user"
    virtual-nodes = 160
    load-bound = 1.25
    server 127.0.0.1:9001 { weight = 3 }
    server 127.0.0.1:9002 { weight = 2  max-connections = 5 }
    server 127.0.0.1:9003 { backup = yes }
    server "[::1]:9004" { drain = yes }
    server "unix:/run/x.sock" {}
    health { path = /healthz  host = x  expect-status = 200-299  interval = 2s  fast-interval = 1s  timeout = 1s  rise = 2
             fall = 3  slow-start = 10s }
    ejection { failures = 5  time = 10s  most = 300s  share = 50 }
    retries = 2  retry-budget = 20  connect-timeout = 1s  response-timeout = 30s
    max-connections = 200  max-queue = 100  queue-timeout = 1s
    idle-timeout = 60s  max-idle = 100  max-requests = 1000  max-age = 1h  resolve-interval = 10s
}
'''))
    assert result.returncode == 0, result.stderr
