"""AMQP: clients whose conversations were mutated, from a seed: a short run of fuzz/mutate_amqp.py. `make mutate` runs it for long.
MUTATE_SECONDS: how long, 10 by default."""
import os
import subprocess
import sys

from kit import process


def test_mutated_conversations_do_no_harm(tmp_path):
    seconds = os.environ.get("MUTATE_SECONDS", "10")
    result = subprocess.run(
        [sys.executable, process.ROOT / "fuzz" / "mutate_amqp.py", "--seconds", seconds, "--keep", tmp_path],
        env={**os.environ, "MAITRED_BINARY": str(process.BINARY)}, capture_output=True, text=True, timeout=float(seconds) + 180)
    print(result.stdout + result.stderr)
    assert result.returncode == 0, result.stdout + result.stderr
