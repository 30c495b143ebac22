"""AMQP: Node's amqplib and amqp-connection-manager. npm installs them into build/node, as tests/system/node says."""
import filecmp
import shutil
import subprocess
from pathlib import Path

import pytest

from kit.looping import Looping
from kit.process import ROOT

HERE = Path(__file__).parent / "node"
THERE = ROOT / "build" / "node"


@pytest.fixture(scope="module")
def node():
    """The folder with the clients, or a reason why there is none."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed")
    lock = THERE / "package-lock.json"
    if not (lock.exists() and filecmp.cmp(lock, HERE / lock.name, shallow=False) and (THERE / "node_modules").is_dir()):
        THERE.mkdir(parents=True, exist_ok=True)
        lock.unlink(missing_ok=True)
        shutil.copy(HERE / "package.json", THERE)
        shutil.copy(HERE / "package-lock.json", THERE)
        try:
            done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=0"],
                                  cwd=THERE, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            done = None
        if done is None or done.returncode != 0:
            lock.unlink(missing_ok=True)
            pytest.skip("npm could not install the clients: " + (done.stderr.strip()[-300:] if done else "no answer within 120 s"))
    for script in HERE.glob("*.js"):
        shutil.copy(script, THERE)
    return THERE


@pytest.mark.parametrize("script", ["flow.js", "reconnect.js"])
def test_its_users_stories_come_true(amqp, node, script):
    prefix = amqp.name("node")
    amqp.queues += [f"{prefix}-{number}" for number in range(20)]
    done = subprocess.run(["node", script, str(amqp.broker.port), prefix], cwd=node, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "passed", f"{done.stdout}\n{done.stderr}"


def test_a_connection_manager_goes_on_after_a_kill_and_nothing_confirmed_is_lost(amqp, node):
    """A program that declares again what is gone; each number is consumed, returned or a dead letter."""
    prefix = amqp.name("node")
    amqp.queues += [f"{prefix}-{number}" for number in range(3)]
    amqp.exchanges.append(f"{prefix}-orders")
    loses = ["loses-dead-letters"] if amqp.broker.name == "rabbitmq" else []
    looping = Looping("node", "recover.js", str(amqp.broker.port), prefix, *loses, cwd=node)
    kills = 1 if amqp.broker.name == "rabbitmq" else 2
    try:
        for kill in range(1, kills + 2):
            looping.wait("connected", kill)
            looping.wait("confirmed .*", looping.count("confirmed .*") + 100)
            if kill <= kills:
                amqp.broker.kill()
                looping.wait("lost", kill)
                amqp.broker.start_again()
        looping.finish()
    finally:
        looping.stop()
    assert looping.lines[-1] == "done" and "refused" in looping.lines
    confirmed = looping.numbers("confirmed")
    for what, wanted in {"returned": {3}, "died": {7}, "came": set(range(10)) - {3, 7}}.items():
        found = looping.numbers(what)
        assert found and found <= confirmed and {number % 10 for number in found} <= wanted, what
        if not (what == "died" and loses):
            assert found == {number for number in confirmed if number % 10 in wanted}, what
