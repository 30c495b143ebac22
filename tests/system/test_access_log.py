"""The access log: a JSON line for every request, also for refused and hostile ones, in a file that can be rotated."""
import json
import os
import re
import signal
import time

import pytest

from kit import process
from kit.checks import SMUGGLED
from kit.config import proxying
from kit.origin import REQUEST, steps
from kit.wire import DEADLINE, request

KEYS = {"ts", "request_id", "client_ip", "method", "host", "path", "proto", "status", "bytes_in", "bytes_out",
        "duration_ms",
        "upstream", "upstream_ms", "queue_ms", "retries", "user_agent"}


def to_stdout(*origins, http="", **options):
    return proxying(*origins, http='access-log = "-"  ' + http, **options)


def logged(proxy, count):
    """The first lines, once there are that many."""
    with proxy._news:
        assert proxy._news.wait_for(lambda: len(proxy.output) >= count,
                                    DEADLINE), f"{count} lines; there are {proxy.output}"
    return [json.loads(line) for line in proxy.output[:count]]


def test_every_request_gets_a_line_with_everything_in_it(maitred, echo):
    origin = echo()
    proxy = maitred(to_stdout(origin))
    peer = proxy.client()
    response = peer.ask(request("POST", "/order?x=1", "User-Agent: me/1.0", host="shop.example", body=b"one pizza"))
    line, = logged(proxy, 1)
    assert KEYS <= line.keys(), KEYS - line.keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", line["ts"])
    assert line["request_id"] == origin.requests[0].get("X-Request-Id")
    assert line["client_ip"] == "127.0.0.1"
    assert (line["method"], line["host"], line["proto"], line["status"]) == ("POST", "shop.example", "HTTP/1.1", 200)
    assert line["path"] in ("/order", "/order?x=1")
    assert (line["bytes_in"], line["bytes_out"]) == (9, len(response.body))
    assert line["upstream"] == origin.at
    assert 0 <= line["upstream_ms"] <= line["duration_ms"] < 5000
    assert line["queue_ms"] >= 0 and line["retries"] == 0
    assert line["user_agent"] == "me/1.0"


def test_lines_are_in_order_one_for_each_pipelined_request(maitred, echo):
    proxy = maitred(to_stdout(echo()))
    peer = proxy.client().send(b"".join(request("GET", f"/{number}") for number in range(50)))
    for _ in range(50):
        assert peer.read_response().status == 200
    lines = logged(proxy, 50)
    assert [line["path"] for line in lines] == [f"/{number}" for number in range(50)]
    assert len({line["request_id"] for line in lines}) == 50


@pytest.mark.parametrize("raw, status", [
    (b"BAD\r\n\r\n", 400), (request("GET", "/../x"), 400), (request("CONNECT", "a:1"), 405),
    (request("GET", "/" + "x" * 9000), 414),
    (request("POST", "/", "Content-Length: 5", "Transfer-Encoding: chunked"), 400), (request(version="HTTP/3.0"), 505),
])
def test_refused_requests_are_logged_too(maitred, echo, raw, status):
    proxy = maitred(to_stdout(echo()))
    assert proxy.ask(raw + SMUGGLED, method="GET").status == status
    line, = logged(proxy, 1)
    assert (line["status"], line["client_ip"]) == (status, "127.0.0.1")
    assert "upstream" not in line or not line["upstream"]


def test_a_head_that_never_ended_is_logged_as_408(maitred, echo):
    proxy = maitred(to_stdout(echo(), http="head-timeout = 100ms"))
    assert proxy.client().send(b"GET / HTTP/1.1\r\n").read_response().status == 408
    assert logged(proxy, 1)[0]["status"] == 408


def test_connections_without_a_request_are_not_logged(maitred, echo):
    proxy = maitred(to_stdout(echo(), http="idle-timeout = 50ms  head-timeout = 50ms"))
    proxy.client().is_closed()
    proxy.client().close()
    assert proxy.get("/first").status == 200
    assert logged(proxy, 1)[0]["path"] == "/first"


HOSTILE = {
    "quote": b'a"b\\c', "brace": b'","status":999,"x":"', "high": b"caf\xc3\xa9 \x80\xff", "tab": b"a\tb",
    "html": b"</script>\xe2\x80\xa8",
    "escape": b"\\u0000\\n\\", "long": b"x" * 5000,
}


@pytest.mark.parametrize("agent", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_in_a_field_make_no_broken_line(maitred, echo, agent):
    proxy = maitred(proxying(echo(), http='access-log = "{dir}/access.log"'))
    assert proxy.ask(request("GET", "/?%22", b"User-Agent: " + agent, b"X: y"), method="GET").status == 200
    assert proxy.get("/next").status == 200
    lines = read_lines(proxy.directory / "access.log", 2)
    assert lines[0]["status"] == 200
    assert lines[0]["user_agent"].startswith(agent[:2].decode("latin-1"))
    assert lines[1]["path"] == "/next"


@pytest.mark.parametrize("raw", [b'G"T / HTTP/1.1\r\nHost: a\r\n\r\n',
                                 b"GET /\"\\\x01\x02\x1b[31m HTTP/1.1\r\nHost: a\r\n\r\n",
                                 b"GET / HTTP/1.1\r\nHost: \"},{\r\n\r\n", bytes(range(1, 256)) + b"\r\n\r\n",
                                 b"\xff" * 300 + b"\r\n\r\n"],
                         ids=range(5))
def test_hostile_bytes_in_a_refused_request_make_no_broken_line(maitred, echo, raw):
    proxy = maitred(proxying(echo(), http='access-log = "{dir}/access.log"'))
    assert proxy.ask(raw, method="GET").status in (200, 400)
    assert proxy.get("/next").status == 200
    assert read_lines(proxy.directory / "access.log", 2)[1]["path"] == "/next"


def read_lines(path, count, seconds=DEADLINE):
    """The file's lines, once there are that many; each must be strict UTF-8 and JSON."""
    end = time.monotonic() + seconds
    while True:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        if len(lines) >= count and lines[count - 1].endswith(b"\n"):
            return [json.loads(line.decode("utf-8", "strict")) for line in lines]
        assert time.monotonic() < end, f"{count} lines never came: {lines}"
        time.sleep(0.01)        # a file cannot be waited for


def test_a_renamed_file_is_opened_anew_on_sigusr1(maitred, echo):
    proxy = maitred(proxying(echo(), http='access-log = "{dir}/access.log"'))
    path, old = proxy.directory / "access.log", proxy.directory / "access.log.1"
    assert proxy.get("/before").status == 200
    read_lines(path, 1)
    os.rename(path, old)
    assert proxy.get("/between").status == 200
    read_lines(old, 2)
    proxy.signal(signal.SIGUSR1)
    end = time.monotonic() + DEADLINE
    while not path.exists():
        assert time.monotonic() < end, "no new file after SIGUSR1"
        time.sleep(0.01)
    assert proxy.get("/after").status == 200
    assert [line["path"] for line in read_lines(path, 1)] == ["/after"]
    assert [line["path"] for line in read_lines(old, 2)] == ["/before", "/between"]


def test_the_last_lines_are_written_before_the_end(maitred, echo):
    proxy = maitred(proxying(echo(), http='access-log = "{dir}/access.log"'))
    for number in range(20):
        assert proxy.get(f"/{number}").status == 200
    proxy.terminate()
    assert proxy.wait() == 0
    lines = (proxy.directory / "access.log").read_text().splitlines()
    assert [json.loads(line)["path"] for line in lines] == [f"/{number}" for number in range(20)]


def test_a_log_is_added_to_never_cut(maitred, echo, stage):
    path = stage.directory / "kept.log"
    path.write_text('{"old":1}\n')
    proxy = maitred(proxying(echo(), http=f'access-log = "{path}"'))
    assert proxy.get().status == 200
    assert read_lines(path, 2)[0] == {"old": 1}


def test_a_retry_and_a_wait_show(maitred, echo, scripted):
    proxy = maitred(to_stdout(scripted(steps(REQUEST)), echo("alive"), options="retry-budget = 100"))
    for _ in range(2):
        assert proxy.get().status == 200
    assert sum(line["retries"] for line in logged(proxy, 2)) == 1


def test_the_client_is_the_one_a_trusted_proxy_names(maitred, echo):
    proxy = maitred(to_stdout(echo(), http="trusted-proxies = { 127.0.0.1 }"))
    proxy.get("/", "X-Forwarded-For: 1.2.3.4", "X-Request-Id: from-the-edge")
    line, = logged(proxy, 1)
    assert (line["client_ip"], line["request_id"]) == ("1.2.3.4", "from-the-edge")


def test_a_stranger_cannot_choose_the_client_address(maitred, echo):
    proxy = maitred(to_stdout(echo()))
    proxy.get("/", "X-Forwarded-For: 1.2.3.4", "X-Request-Id: evil")
    line, = logged(proxy, 1)
    assert line["client_ip"] == "127.0.0.1" and line["request_id"] != "evil"


def test_a_file_that_cannot_be_opened_is_an_error_at_the_start(stage, echo):
    text = proxying(echo(), http='access-log = "/nowhere/at/all.log"').replace("{port}", str(process.free_port()))
    config = stage.directory / "maitred.conf"
    config.write_text(text)
    result = process.run("run", config)
    assert result.returncode == 1
    assert "/nowhere/at/all.log" in result.stderr
