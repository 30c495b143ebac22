"""AMQP: Node's amqplib and amqp-connection-manager. npm installs them into build/node, as tests/system/node says."""
import filecmp
import shutil
import subprocess
from pathlib import Path

import pytest

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
