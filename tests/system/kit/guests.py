"""Guests of the diner who do not give up: each order, photo and sign-up is sent again, with the same Idempotency-Key, until
it is confirmed. What was confirmed, and under which name, is kept for a test to compare with the database."""
import collections
import json
import random
import threading
import time

from kit.wire import PeerGone, TimedOut, request

GIVE_UP_SECONDS = 60            # after the end of the test was told: then everything is there again
# What a guest may want, and how often of 20.
WISHES = {"/orders": 9, "/photos": 5, "/signup": 2, "/": 4}
CALM, RUSH = 0.12, 0.005        # seconds that a guest waits between two wishes
RUSH_EVERY, RUSH_SECONDS = 20, 3


class Guest(threading.Thread):
    """connect(): a new connection to maitred."""

    def __init__(self, number, connect, seed):
        super().__init__(daemon=True)
        self.number, self.connect, self.chance = number, connect, random.Random(seed)
        self.ending = threading.Event()
        self.confirmed = {}         # (target, text): the id that its 202 told
        self.given_up = set()       # (target, text) that may have been stored, and were never confirmed
        self.answers = collections.Counter()        # (target, status; 0: none came)
        self.wrong = []             # answers that should not be
        self.longest = 0            # seconds until something was confirmed
        self.peer, self.count = None, 0

    def run(self):
        try:
            self.visit()
        except Exception as error:      # the test has to hear of it
            self.wrong.append(("ended", "", error))
            raise
        finally:
            self.leave()

    def visit(self):
        while not self.ending.is_set():
            target, = self.chance.choices(list(WISHES), WISHES.values())
            if target == "/":
                self.look()
            else:
                self.count += 1
                self.insist(target, f"{self.number}-{self.count}")
            self.ending.wait(RUSH if time.monotonic() % RUSH_EVERY < RUSH_SECONDS else CALM)

    def insist(self, target, text):
        began = time.monotonic()
        fields = [f"Idempotency-Key: {target[1:]}-{text}"]
        while True:
            response = self.ask("POST", target, fields, text.encode())
            if response and response.status == 202:
                self.confirmed[target, text] = json.loads(response.body)["id"]
                self.longest = max(self.longest, time.monotonic() - began)
                return
            if response and response.status != 503:
                self.wrong.append((target, text, response))
            if time.monotonic() - began > GIVE_UP_SECONDS and self.ending.is_set():
                self.given_up.add((target, text))
                return
            time.sleep(0.05)

    def look(self):
        """At a page, and what became of something that was confirmed."""
        response = self.ask("GET", "/")
        if response and response.status != 200:
            self.wrong.append(("/", "", response))
        if self.confirmed:
            (target, _), message_id = next(reversed(self.confirmed.items()))
            folder = "signups" if target == "/signup" else target[1:]
            response = self.ask("GET", f"/api/{folder}/{message_id}")
            if response and response.status not in (200, 404, 503):
                self.wrong.append((folder, message_id, response))

    def ask(self, method, target, fields=(), body=b""):
        """None: no answer came."""
        kind = target if method == "POST" or target == "/" else "/api"
        try:
            self.peer = self.peer or self.connect()
            response = self.peer.ask(request(method, target, *fields, body=body))
            del self.peer.received[:self.peer.taken]
            self.peer.taken = 0
        except (OSError, PeerGone, TimedOut):
            self.leave()
            self.answers[kind, 0] += 1
            return None
        self.answers[kind, response.status] += 1
        if response.get("Connection") == "close":
            self.leave()
        return response

    def leave(self):
        if self.peer:
            self.peer.close()
        self.peer = None

    def end(self):
        self.ending.set()
        self.join(2 * GIVE_UP_SECONDS)
        assert not self.is_alive()


__all__ = ["Guest"]
