"""A run outlives whoever reads its output."""

from __future__ import annotations

import os
import subprocess
import sys

from levanter.cli import errors

CODE = """
import sys
from levanter.cli.lasting_output import lasting_output
with lasting_output():
    from rich.console import Console
    print("a line to be read", flush=True)
    sys.stdin.readline()
    for _ in range(3):
        Console().print("nobody reads this")
        print("nor this", flush=True)
    print(sys.stdout.encoding, sys.stdout.isatty(), file=sys.stderr)
sys.stdout.flush()
"""


def started(code: str, err: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err)


def test_what_nobody_reads_does_not_end_a_run() -> None:
    process = started(CODE, subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"a line to be read\n"
    process.stdout.close()
    _, said = process.communicate(b"\n", timeout=60)
    assert process.returncode == 0
    assert said.decode().splitlines() == [
        "standard output cannot be written any more (broken pipe): the run goes on without it",
        "utf-8 False",
    ]


def test_both_may_be_lost_at_once() -> None:
    read, write = os.pipe()
    process = started(CODE, write)
    os.close(write)
    assert process.stdout is not None and process.stdout.readline() == b"a line to be read\n"
    process.stdout.close()
    os.close(read)
    process.communicate(b"\n", timeout=60)
    assert process.returncode == 0


def test_a_full_disk_is_told_of() -> None:
    with open("/dev/full", "wb") as full:
        code = CODE.replace("sys.stdin.readline()", "")
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, timeout=60, check=True)
    assert done.stderr.decode().splitlines()[0] == errors.output_lost(OSError(28, "No space left on device"))
