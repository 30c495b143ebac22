"""Several threads at once: every request is answered, limits hold over all of them, and no two threads touch the same
thing unguarded (which is for the thread sanitizer to say: `make test-system-tsan`)."""
import os
import signal
import threading

from kit.checks import assert_closes
from kit.origin import Told
from kit.wire import request

CLIENTS = 12
REQUESTS = 60


def visit(proxy, client, seen, failures):
    try:
        for number in range(REQUESTS):
            peer = proxy.client()   # a new connection each time, so that they are passed between threads
            for target in (f"/{client}/{number}", "/here"):
                response = peer.ask(request("GET", target))
                assert response.status == 200, response
                if target != "/here":
                    seen.append(Told(response).server)
            peer.close()
    except Exception as failure:    # a thread's own end would go unnoticed
        failures.append(failure)


def test_many_clients_on_four_threads_are_all_served(maitred, echo):
    a, b = echo("a"), echo("b")
    proxy = maitred(f'''threads = 4
http "127.0.0.1:{{port}}" {{
    access-log = "{{dir}}/access.log"
    route "/" {{ pool = web }}
    route "/here" {{ respond = 200 }}
}}
pool web {{
    balance = least-connections
    server {a.at} {{}}
    server "localhost:{b.address[1]}" {{}}
    max-connections = 3  queue-timeout = 30s  resolve-interval = 100ms
    health {{ path = "/healthz"  interval = 20ms  timeout = 5s }}
}}
''')
    seen, failures = [], []
    threads = [threading.Thread(target=visit, args=(proxy, n, seen, failures)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    os.kill(proxy.pid, signal.SIGUSR1)
    for thread in threads:
        thread.join()
    assert not failures
    assert len(seen) == CLIENTS * REQUESTS and set(seen) == {"a", "b"}


def test_a_drain_ends_every_thread(maitred, echo):
    origin = echo()
    proxy = maitred(f'''threads = 3  drain-timeout = 10s
http "127.0.0.1:{{port}}" {{ route "/" {{ pool = web }} }}
pool web {{ server {origin.at} {{}} }}
''')
    idle = [proxy.client() for _ in range(9)]
    for peer in idle:
        assert peer.get().status == 200
    origin.hold()
    busy = [proxy.client().send(request("GET", f"/{n}")) for n in range(9)]
    origin.wait_requests(18)
    os.kill(proxy.pid, signal.SIGTERM)
    for peer in idle:
        assert_closes(peer)
    origin.release()
    for peer in busy:
        assert peer.read_response().status == 200
    assert proxy.process.wait(15) == 0
