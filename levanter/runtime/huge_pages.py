"""Huge pages for the large temporaries of a step on the CPU.

A step allocates its temporaries (for gpt2_nano half a gigabyte) and gives them back. With pages of 4 kB that is over a
hundred thousand page faults a step, as long as the arithmetic itself; with pages of 2 MB it is nothing. glibc asks for
those by itself when a variable in the environment says so, and it reads that only when a process starts. So a command
that trains on the CPU starts itself once more, with the variable set: same process id, same arguments.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "GLIBC_TUNABLES"
SETTING = "glibc.malloc.hugetlb"

_POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart_with_them() -> None:
    """Start this command again with huge pages, where that helps; return where it does not or is done already.

    For the first line of a command: nothing of the process survives but its id and its standard streams.
    """
    setting = environment(os.environ, _policy())
    if setting is not None and platform.libc_ver()[0] == "glibc":
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, VARIABLE: setting})


def environment(current: Mapping[str, str], policy: str) -> str | None:
    """What the variable must be, or None where it is right: it says something of huge pages already, the kernel's
    policy gives them without asking (always) or to nobody (never), or JAX is told to use something other than the CPU.
    """
    tunables = current.get(VARIABLE, "")
    platforms = current.get("JAX_PLATFORMS", "")
    if "[madvise]" not in policy or SETTING in tunables or (platforms and "cpu" not in platforms.split(",")):
        return None
    return f"{tunables}:{SETTING}=1".lstrip(":")


def _policy() -> str:
    try:
        return _POLICY.read_text()
    except OSError:
        return ""
