"""Fixtures of the system tests. MAITRED_BINARY says which binary is tested; without it build/maitred."""
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

pytest.register_assert_rewrite("kit")

from kit import amqp as amqp_kit  # noqa: E402
from kit import process  # noqa: E402
from kit.origin import Closed, EchoOrigin, Origin  # noqa: E402

def pytest_configure(config):
    config.addinivalue_line("markers", "amqp_peer(name, reason): a test of one of the brokers alone")


def pytest_sessionstart(session):
    if not session.config.option.collectonly and not process.BINARY.is_file():
        pytest.exit(f"{process.BINARY} is not there: build it, or set MAITRED_BINARY", returncode=2)


def pytest_report_header():
    return f"maitred: {process.BINARY}"


@pytest.fixture
def stage(tmp_path):
    """What a test starts; all of it ends with the test, and each maitred must end with exit code 0."""
    stage = process.Stage(tmp_path)
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The same for a whole file of tests."""
    stage = process.Stage(tmp_path_factory.mktemp("shared"))
    yield stage
    stage.close()


@pytest.fixture
def maitred(stage):
    """maitred(config_text): a running server."""
    return stage.maitred


@pytest.fixture
def scripted(stage):
    """scripted(handler): a server that plays a script on each connection."""
    def start(handler, **options):
        return stage.add(Origin(handler, **options))
    return start


@pytest.fixture
def echo(stage):
    """echo(name): a server that tells what it got."""
    def start(name="origin", **options):
        return stage.add(EchoOrigin(name, **options))
    return start


@pytest.fixture
def closed(stage):
    """closed(): a server that is not running."""
    return lambda: stage.add(Closed())


@pytest.fixture
def short_directory():
    """A unix socket's path may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="maitred-") as path:
        yield path


@pytest.fixture(scope="session", params=amqp_kit.PEERS)
def broker(request, tmp_path_factory):
    """A broker that speaks AMQP, for the whole run. A test has connections, queues and exchanges of its own in it."""
    with amqp_kit.started(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture
def amqp(request, broker):
    """What one test does with the broker; it may not take long, and it leaves nothing behind."""
    if (only := request.node.get_closest_marker("amqp_peer")) and only.args[0] != broker.name:
        pytest.skip(only.args[1])
    client = amqp_kit.Amqp(broker)
    with amqp_kit.bounded():
        yield client
    client.close()
