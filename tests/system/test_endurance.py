"""Nothing is left behind: memory and descriptors after 100,000 requests of every kind are what they were before."""
import os
from pathlib import Path

from kit import process
from kit.origin import REQUEST, answer, forever
from kit.wire import request

REQUESTS = 100_000
IN_A_ROW = 100


def resident_kib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def ask(proxy, count):
    """count requests over pipelined connections: answered here, passed on, refused."""
    kinds = [request("GET", "/here"), request("GET", "/there"), request("POST", "/there", "Content-Length: 3", body=b"abc"),
             request("GET", "/nowhere/at/all")]
    for _ in range(count // (IN_A_ROW * len(kinds))):
        peer = proxy.client()
        for kind in kinds:
            peer.send(kind * IN_A_ROW)
            for _ in range(IN_A_ROW):
                peer.read_response()
        peer.close()


def test_a_hundred_thousand_requests_leave_nothing_behind(maitred, scripted):
    origin = scripted(forever(REQUEST, answer(b"there")))
    proxy = maitred(f'''threads = 1
http "127.0.0.1:{{port}}" {{
    max-requests = 0
    route "/here" {{ respond = 200  body = "here" }}
    route "/there" {{ pool = web }}
}}
pool web {{ server {origin.at} {{}} }}
''')
    ask(proxy, REQUESTS // 10)     # warms every cache there is
    memory, descriptors = resident_kib(proxy.pid), len(os.listdir(f"/proc/{proxy.pid}/fd"))
    ask(proxy, REQUESTS)
    assert len(os.listdir(f"/proc/{proxy.pid}/fd")) <= descriptors + 2
    if not process.is_sanitized():  # there, the leak check at its end is the judge
        assert resident_kib(proxy.pid) <= memory + 256
