"""What pyright says of a file of right and wrong lines: exactly the errors that it states."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

LINES = Path(__file__).with_name("typing_lines.py")


def stated() -> dict[int, set[str]]:
    """By line, the rules that it says it breaks."""
    found = {}
    for number, line in enumerate(LINES.read_text(encoding="utf-8").splitlines(), start=1):
        if match := re.search(r"  # error: (report\w+(?:, report\w+)*)$", line):
            found[number] = set(match[1].split(", "))
    return found


def reported() -> dict[int, set[str]]:
    """By line, the rules that pyright says it breaks."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(LINES)]
    run = subprocess.run(command, cwd=LINES.parents[2], capture_output=True, text=True, check=False)
    assert run.stdout.startswith("{"), run.stdout + run.stderr
    found: dict[int, set[str]] = defaultdict(set)
    for one in json.loads(run.stdout)["generalDiagnostics"]:
        if one["severity"] == "error":
            found[one["range"]["start"]["line"] + 1].add(one["rule"])
    return dict(found)


def test_pyright_flags_exactly_the_wrong_lines() -> None:
    pytest.importorskip("pyright", reason="pip install levanter-compiler[test]")
    assert len(stated()) > 20
    assert reported() == stated()
