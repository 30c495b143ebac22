"""A server is killed while wrk drives 64 connections through maitred: not one request may fail.

KILL_ROUNDS=10 makes more of it (2). The servers write an answer whole, in one call, so a kill cannot leave half of
one behind: what fails here is maitred's fault.
"""
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from kit.config import proxying

ROUNDS = int(os.environ.get("KILL_ROUNDS", "2"))
CONNECTIONS, SECONDS = 64, 2
FULL_FLOW = 300                 # requests that the victim has answered by the time it is killed

ORIGIN = f"""
import asyncio, os, socket

class Origin(asyncio.Protocol):
    answered, rest = 0, b""
    body = b"%d" % os.getpid()
    answer = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body)

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        *heads, self.rest = (self.rest + data).split(b"\\r\\n\\r\\n")
        self.transport.write(self.answer * len(heads))
        for _ in heads:
            Origin.answered += 1
            if Origin.answered == {FULL_FLOW}:
                print("in full flow", flush=True)

async def main():
    server = await asyncio.get_running_loop().create_server(Origin, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


class Origin:
    def __init__(self):
        self.process = subprocess.Popen([sys.executable, "-c", ORIGIN], stdout=subprocess.PIPE, text=True)
        self.at = f"127.0.0.1:{int(self.process.stdout.readline())}"

    def wait_full_flow(self):
        assert self.process.stdout.readline() == "in full flow\n", "it ended before it was killed"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def origins():
    origins = [Origin() for _ in range(3)]
    yield origins
    for origin in origins:
        origin.kill()


def counts_of(output):
    """What wrk counted: requests that were answered, and each kind of failure, which it names only when there is one."""
    requests = re.search(r"^ +(\d+) requests in", output, re.M)
    assert requests, f"wrk counted nothing:\n{output}"
    failures = dict(re.findall(r"(connect|read|write|timeout) (\d+)", output))
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    return int(requests[1]), {**failures, "not 2xx": refused[1] if refused else "0"}


@pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed (apt-get install wrk)")
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_server_killed_under_load_costs_no_request(maitred, origins, number):
    proxy = maitred(proxying(*origins, threads=2))
    victim = origins[number % len(origins)]
    wrk = subprocess.Popen(["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", f"http://127.0.0.1:{proxy.port}/"],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        victim.wait_full_flow()
        assert wrk.poll() is None
        victim.process.send_signal(signal.SIGKILL)
        victim.process.wait()
        output, _ = wrk.communicate(timeout=SECONDS + 30)
    finally:
        wrk.kill()
        wrk.wait()
    requests, failures = counts_of(output)
    assert requests > 3 * FULL_FLOW, f"hardly anything came after the kill:\n{output}"
    assert not any(map(int, failures.values())), f"{failures}\n{output}\n{proxy.errors}"
    assert proxy.wait_log(f"server {victim.at} put aside")
    alive = {str(origin.process.pid) for origin in origins if origin is not victim}
    peer = proxy.client()
    assert {peer.get().text for _ in range(4)} == alive
