"""AMQP: rabbitmq-c, in a program on it: kit/amqp_flow.c."""
import shutil
import subprocess
from pathlib import Path

import pytest

from kit.looping import SECONDS, Looping

SOURCE = Path(__file__).parent / "kit" / "amqp_flow.c"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Built from kit/amqp_flow.c."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("there is no C compiler")
    if not Path("/usr/include/amqp.h").exists():
        pytest.skip("librabbitmq-dev is not installed")
    built = tmp_path_factory.mktemp("program") / "amqp_flow"
    subprocess.run([compiler, "-std=c17", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-o", built, SOURCE, "-lrabbitmq"],
                   check=True)
    return built


@pytest.fixture
def prefix(amqp):
    prefix = amqp.name("flow")
    amqp.queues += [f"{prefix}-{name}" for name in ("orders", "dead")]
    amqp.exchanges += [f"{prefix}-{name}" for name in ("orders", "dead")]
    return prefix


def test_it_goes_through_it_all(amqp, program, prefix):
    """Confirms, returns, refusals, redelivery, dead letters, an error of a channel: each heard as the library tells it."""
    done = subprocess.run([program, str(amqp.broker.port), prefix, "steps"], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.splitlines() == [
        "connected", "declared: 0 messages, 0 consumers", "bound", "confirmed up to 3",
        "returned 312 NO_ROUTE to nowhere", "with lost, id lost", "and confirmed 4", "refused 5",
        "delivered one", "delivered two", "delivered three", "delivered two, again", "cancelled",
        "got, 0 more: three", f"queue: {prefix}-orders", f"exchange: {prefix}-orders", "reason: rejected", "key: a.b", "count: 1",
        "x-first-death-reason: rejected",
        "got, 1 more: four", "got, 0 more: five", "empty",
        f"closed: 404 NOT_FOUND - no queue '{prefix}-nowhere' in vhost '/'", "open again", "closed"]


def test_what_was_confirmed_is_not_lost_when_the_server_is_killed(amqp, program, prefix):
    """It opens a connection again, declares again what is gone, and goes on."""
    looping = Looping(program, str(amqp.broker.port), prefix, "loop")
    try:
        kills = 3 if amqp.broker.name == "maitred" else 1
        for kill in range(1, kills + 1):
            looping.wait("connected", kill)
            looping.wait("confirmed .*", looping.count("confirmed .*") + 100)
            amqp.broker.kill()
            looping.wait("lost", kill)
            amqp.broker.start_again()
        looping.wait("connected", kills + 1)
        looping.wait("came .*", looping.count("came .*") + 100)
        looping.finish()
    finally:
        looping.stop()
    assert looping.lines[-1] == "done"
    confirmed, came = looping.numbers("confirmed"), looping.numbers("came")
    assert confirmed <= came, f"confirmed, and lost: {sorted(confirmed - came)[:10]}"
    twice = [line for line in set(looping.lines) if line.startswith("came") and looping.lines.count(line) > 1]
    print(f"{len(confirmed)} confirmed, {len(came)} came, {looping.count('came .* again')} of them again, {len(twice)} lines twice")
