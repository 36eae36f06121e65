"""When a command starts itself again for huge pages, and that it does so once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from levanter.runtime import huge_pages

MADVISE = "always [madvise] never\n"


@pytest.mark.parametrize(
    ("current", "policy", "expected"),
    [
        ({}, MADVISE, "glibc.malloc.hugetlb=1"),
        ({"GLIBC_TUNABLES": "glibc.malloc.check=3"}, MADVISE, "glibc.malloc.check=3:glibc.malloc.hugetlb=1"),
        ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, MADVISE, None),
        ({"JAX_PLATFORMS": "cpu"}, MADVISE, "glibc.malloc.hugetlb=1"),
        ({"JAX_PLATFORMS": "tpu"}, MADVISE, None),
        ({}, "[always] madvise never\n", None),
        ({}, "always madvise [never]\n", None),
        ({}, "", None),
    ],
)
def test_the_variable_is_set_where_it_helps(current: dict[str, str], policy: str, expected: str | None) -> None:
    assert huge_pages.environment(current, policy) == expected


def test_a_process_starts_again_once_with_its_arguments() -> None:
    code = (
        "import os, sys, pathlib; from levanter.runtime import huge_pages; "
        f"huge_pages._policy = lambda: {MADVISE!r}; huge_pages.platform.libc_ver = lambda: ('glibc', '2.36'); "
        "print(os.getpid(), flush=True); huge_pages.restart_with_them(); "
        "print(sys.argv[1:], os.environ['GLIBC_TUNABLES'])"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("GLIBC_TUNABLES", "JAX_PLATFORMS")}
    command = [sys.executable, "-c", code, "one two", "--three"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    first, second, third = done.stdout.splitlines()
    assert first == second
    assert third == "['one two', '--three'] glibc.malloc.hugetlb=1"
