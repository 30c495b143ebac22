"""The Celery application of celery_worker.py. CELERY_TEST has its settings as JSON: broker, backend, queue, log, and
conf, which is added to Celery's own. Tasks tell what they do in the log, a line each."""
import json
import os

from celery import Celery
from kombu import Exchange, Queue

SETTINGS = json.loads(os.environ["CELERY_TEST"])
QUEUE = SETTINGS["queue"]
app = Celery("kit.celery_app", broker=SETTINGS["broker"], backend=SETTINGS["backend"])
app.conf.update({
    "task_default_queue": QUEUE, "task_default_exchange": QUEUE, "task_default_routing_key": QUEUE,
    "task_queues": [Queue(QUEUE, Exchange(QUEUE), routing_key=QUEUE, queue_arguments={"x-max-priority": 10})],
    "broker_heartbeat": 2, "worker_hijack_root_logger": False, "result_expires": 60, "event_queue_prefix": f"{QUEUE}.events",
    "task_send_sent_event": True, "broker_connection_retry": True, "broker_connection_max_retries": 20, **SETTINGS.get("conf", {})})


def tell(*words):
    with open(SETTINGS["log"], "a", encoding="utf-8") as log:
        log.write(" ".join(map(str, words)) + "\n")


@app.task
def add(first, second):
    return first + second


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True, max_retries=3)
def stubborn(self, succeeds_at):
    """Fails until it has been tried so often."""
    tell("try", self.request.retries)
    if self.request.retries < succeeds_at:
        raise self.retry(countdown=0.1)
    return self.request.retries


@app.task
def say(word):
    tell("said", word)
    return word


@app.task(acks_late=True, reject_on_worker_lost=True, bind=True)
def dies_once(self):
    """Takes its process along, the first time."""
    tell("dying" if not self.request.delivery_info["redelivered"] else "living")
    if not self.request.delivery_info["redelivered"]:
        os._exit(9)
    return "lived"


@app.task
def hold(path):
    """Goes on once the file is there."""
    import time
    tell("holding", path)
    for _ in range(1000):
        if os.path.exists(path):
            return "let go"
        time.sleep(0.02)
    return "waited too long"
