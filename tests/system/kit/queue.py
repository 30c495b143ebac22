"""Queues: configurations with them, a worker whose answers are scripted, and what a client asks of a route that stores."""
import json
import re
import threading

from kit.config import listener, pool, servers, top
from kit.origin import EchoOrigin
from kit.wire import DEADLINE, TimedOut, answer, request


def stored(routes, *sections, general="", threads=1, drain="5s", http=""):
    """A listener with these routes, and a state folder of the test's own."""
    return (top(f'state = "{{dir}}/state"\nstate-segment = 1m\n{general}', threads, drain) +
            listener(routes, http) + "\n".join(sections) + "\n")


def queue(name, *options):
    return f"queue {name} {{ {'  '.join(options)} }}\n"


def pushed(name, worker, push="", *options):
    """A queue whose messages go to the worker, and the pool for that."""
    return (pool(f"{name}-workers", worker, options="connect-timeout = 1s") +
            queue(name, f"push {{ pool = {name}-workers  {push} }}", *options))


def status(code, *fields, body=b""):
    return answer(body, *fields, status=f"{code} Said")


class Worker(EchoOrigin):
    """Answers 200 to each message, or what `say` says: a function of the request, or a list of answers that are used up."""

    def __init__(self, name="worker"):
        self.say = []
        super().__init__(name, respond=self._answer)

    def _answer(self, asked):
        if callable(self.say):
            return self.say(asked)
        with self._changed:
            return self.say.pop(0) if self.say else answer(b"done\n")

    @property
    def bodies(self):
        return [each.body for each in self.requests]

    def wait_bodies(self, *bodies, seconds=DEADLINE):
        """Each of them has come at least once."""
        self.wait(lambda: set(bodies) <= set(self.bodies), f"{bodies}", seconds)


def post(proxy, target="/orders", body=b"x", *fields):
    return proxy.ask(request("POST", target, f"Content-Length: {len(body)}", *fields, body=body))


def accepted(response):
    """The status resource of a message that was stored."""
    assert response.status == 202, response
    told = json.loads(response.body)
    assert re.fullmatch(r"[a-z2-7]{26}", told["id"])
    assert response.get("Location") == told["status"] == f"/.maitred/messages/{told['id']}"
    return told["status"]


def state_of(proxy, location):
    """What became of it: the JSON of the resource."""
    response = proxy.get(location)
    assert response.status == 200, response
    return json.loads(response.body)


def wait_state(proxy, location, wanted, seconds=DEADLINE):
    """Until the (only) queue says that state."""
    pause = threading.Event()
    for _ in range(int(seconds * 100)):
        told = state_of(proxy, location)
        if told["queues"] and told["queues"][0]["state"] == wanted:
            return told
        pause.wait(0.01)
    raise TimedOut(f"{location} is {told}, and not {wanted}")


__all__ = ["Worker", "accepted", "post", "pushed", "queue", "servers", "state_of", "status", "stored", "wait_state"]
