"""Load: wrk, what it counted, and servers that are fast enough for it."""
import re
import shutil
import subprocess
import sys

import pytest

needs_wrk = pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed (apt-get install wrk)")

SERVERS = """
import asyncio, sys

class Server(asyncio.Protocol):
    rest = b""

    def connection_made(self, transport):
        self.transport = transport
        body = b"%d" % transport.get_extra_info("sockname")[1]
        self.rest_of_answer = b"Content-Length: %d\\r\\n\\r\\n%s" % (len(body), body)

    def data_received(self, data):
        *heads, self.rest = (self.rest + data).split(b"\\r\\n\\r\\n")
        for head in heads:
            last = b"\\r\\nConnection: close" in head
            self.transport.write(b"HTTP/1.1 200 OK\\r\\n" + b"Connection: close\\r\\n" * last + self.rest_of_answer)
            if last:
                self.transport.close()

async def main():
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Server, "127.0.0.1", 0, backlog=512) for _ in range(int(sys.argv[1]))]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Servers:
    """count HTTP servers in one process, which answer with their port, and close a connection when they are asked to.
    at: their addresses."""
    name, errors = "servers", ()

    def __init__(self, count):
        self.process = subprocess.Popen([sys.executable, "-c", SERVERS, str(count)], stdout=subprocess.PIPE, text=True)
        self.at = [f"127.0.0.1:{port}" for port in self.process.stdout.readline().split()]
        assert len(self.at) == count

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Wrk:
    """wrk, under way. Its owner stops it."""

    def __init__(self, url, seconds, *fields, connections=64):
        self.seconds = seconds
        self.process = subprocess.Popen(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout=20s", url,
             *(argument for field in fields for argument in ("-H", field))],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def runs(self):
        return self.process.poll() is None

    def count(self):
        """Waits for its end: how many requests were answered, and {what failed: how often}, which is empty when nothing
        did: wrk names failures only when there were some."""
        output, _ = self.process.communicate(timeout=self.seconds + 30)
        requests = re.search(r"^ +(\d+) requests in", output, re.M)
        assert requests, f"wrk counted nothing:\n{output}"
        failures = {kind: int(count) for kind, count in re.findall(r"(connect|read|write|timeout) (\d+)", output)}
        refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
        failures["not 2xx"] = int(refused[1]) if refused else 0
        return int(requests[1]), {kind: count for kind, count in failures.items() if count}
