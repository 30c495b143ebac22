"""tools/check-includes refuses what the floors forbid, says where, and lets a good tree pass."""
import pathlib
import subprocess
import sys

import pytest

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "check-includes"

GOOD = {
    "main.c": '#include "command/run.h"\n',
    "command/run.h": '#include "server/server.h"\n',
    "server/server.h": '#include <stdio.h>\n#include "balance/pool.h"\n#include "base/slice.h"\n',
    "balance/pool.h": '#include "http/exchange.h"\n',
    "balance/pool.c": '#include "balance/pool.h"\n  #  include "config/config.h"\n',
    "http/exchange.h": '#include "wire/http.h"\n',
    "config/config.h": "",
    "wire/http.h": '#include "base/slice.h"\n',
    "queue/broker.h": "",
    "base/slice.h": '#include <stddef.h>\n',
}


def check(folder, files):
    """Runs the tool over a tree made of those files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return subprocess.run([sys.executable, TOOL, folder], capture_output=True, text=True, timeout=30)


def test_a_good_tree_passes_without_a_word(tmp_path):
    result = check(tmp_path, GOOD)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(("name", "text", "line", "reason"), [
    ("base/hash.c", '#include "wire/http.h"\n', 1, "base is on floor 0, wire above it on floor 1"),
    ("wire/http1.c", '\n\n#include "server/server.h"\n', 3, "wire is on floor 1, server above it on floor 5"),
    ("http/server.c", '#include "config/config.h"\n', 1, "http and config are neighbours on floor 2"),
    ("balance/pool.c", 'int x;\n# include "queue/broker.h" // why\n', 2, "balance and queue are neighbours"),
    ("server/run.c", '#include "command/run.h"\n', 1, "server is on floor 5, command above it"),
    ("balance/pool.c", '#include "pool.h"\n', 1, "write it from src/"),
    ("balance/pool.c", '#include "../base/slice.h"\n', 1, "write it from src/"),
    ("balance/pool.c", '#include "base/../queue/broker.h"\n', 1, "write it from src/"),
    ("balance/pool.c", '#include "base/missing.h"\n', 1, "there is no src/base/missing.h"),
    ("balance/pool.c", '#include "attic/box.h"\n', 1, "src/attic/ is no room of this house"),
    ("attic/box.c", "", 1, "stands in no room of this house"),
    ("loose.c", "", 1, "stands in no room of this house"),
])
def test_a_wrong_include_is_refused_with_file_line_and_reason(tmp_path, name, text, line, reason):
    result = check(tmp_path, {**GOOD, name: text})
    assert result.returncode == 1
    (error,) = result.stdout.splitlines()
    assert error.startswith(f"{tmp_path / name}:{line}: ")
    assert reason in error


def test_every_wrong_include_is_reported_at_once(tmp_path):
    result = check(tmp_path, {**GOOD, "base/a.c": '#include "wire/http.h"\n#include "http/exchange.h"\n'})
    assert result.returncode == 1
    assert len(result.stdout.splitlines()) == 2


def test_an_empty_folder_is_an_error_and_not_a_pass(tmp_path):
    result = check(tmp_path, {})
    assert result.returncode == 2
    assert "no .c or .h under" in result.stderr
