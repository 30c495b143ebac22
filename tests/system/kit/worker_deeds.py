"""What the worker programs of the tests do when they are told to: by a word of their command line, or by a message."""
import json
import os
import signal
import subprocess
import sys
import time

LEDGER = sys.argv[1]


def note(*words):
    """A line at the end of the ledger. One write, so that lines of several processes do not mix."""
    descriptor = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, (" ".join([str(os.getpid()), os.environ["MAITRED_WORKER_NUMBER"], *map(str, words)]) + "\n").encode())
    os.close(descriptor)


def beside_ledger(name):
    return os.path.join(os.path.dirname(LEDGER), name)


def await_file(path):
    end = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.005)


def environment():
    note("environment", json.dumps(dict(os.environ)))


def crash():
    note("crash")
    os.kill(os.getpid(), signal.SIGKILL)


def fail_while_broken():
    """While there is a file "broken" beside the ledger."""
    if os.path.exists(beside_ledger("broken")):
        print("it is broken", flush=True)
        sys.exit(3)


def begin_sick():
    """There is a file "sick" beside the ledger."""
    open(beside_ledger("sick"), "w").close()


def ignore_sigterm():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def fail_at_sigterm():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))


def leave_output_open():
    """To a child that is in no group of ours."""
    note("child", subprocess.Popen(["sleep", "600"], start_new_session=True).pid)


def end_well_at_sigterm():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def end_slowly():
    """When it gets SIGTERM: once there is a file "may-end" beside the ledger."""
    def clean_up(*_):
        note("cleans")
        await_file(beside_ledger("may-end"))
        note("clean")
        sys.exit(0)
    signal.signal(signal.SIGTERM, clean_up)


def hang():
    note("hangs")
    while True:
        signal.pause()


def hang_once():
    """The first process that does it."""
    try:
        os.close(os.open(beside_ledger("hung"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    hang()


def close_output():
    os.close(1)
    os.close(2)


def have_children():
    """One in the worker's process group, and one that left it, and whose parent has gone."""
    child = subprocess.Popen(["sleep", "600"])
    note("child", child.pid)
    stray = subprocess.run(["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & echo $!"], stdout=subprocess.PIPE, check=True)
    note("child", int(stray.stdout))


def begin():
    """The words of the command line."""
    note("start")
    for word in sys.argv[2:]:
        if word in globals():
            globals()[word]()


def work(message):
    """What a message asks for."""
    if "say" in message:
        print(message["say"], flush=True)
    if "until" in message:
        await_file(message["until"])
    time.sleep(message.get("seconds", 0))
    if "do" in message:
        globals()[message["do"]]()
