"""Compiled programs, kept between runs: a run that resumes, or is started again, need not compile its step once more.

JAX has a cache of compiled programs in a folder, and this module gives it one that a long-lived machine can rely on.
JAX writes an entry in place, so a killed process leaves half of one and a second process may read it; and its key does
not name all that the bits of a program depend on. So:

- **A process has a folder of its own** (`.in-use-…`), filled with hard links to what is kept. What it compiles lies
  there until `keep` links it, whole, into the shared folder under the SHA-256 of its bytes. A link is there or is not.
- **What is kept is read only where its SHA-256 is right**; anything else is removed and compiled again.
- **The shared folder is named by a digest of what bits depend on** (`depends_on`): XLA:CPU cuts its work by the number
  of CPU threads and generates code for the CPU at hand, and both are fixed when a program is compiled.

The lock of a process's folder is the system's, so a folder whose process has died is known and removed by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache as of_jax

from levanter.data.cache import default_cache_dir

LIMIT = 2**30
"""Bytes of all programs that are kept; the oldest give way."""
WORTHWHILE = 0.1
"""Seconds of compilation that are worth a file."""

_IN_USE, _LOCK = ".in-use-", ".lock"
_SUFFIX = "-cache"  # of JAX's own files
_DIGITS = 32


class Programs:
    """The compiled programs of this machine, for the life of one process.

    Args:
        folder: where programs of one kind of process are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent / _LOCK):
            _sweep(folder)
            _prune(folder.parent, LIMIT)
            self.own = folder / f"{_IN_USE}{os.getpid()}-{secrets.token_hex(4)}"
            self.own.mkdir()
            self._alive = os.open(self.own, os.O_RDONLY)
            fcntl.flock(self._alive, fcntl.LOCK_EX)
        self._known = set(_take(folder, self.own))

    def keep(self) -> None:
        """Keep what this process has compiled until now, for others and for later. What cannot be kept is not."""
        for path in self.own.glob(f"*{_SUFFIX}"):
            if path.name not in self._known:
                self._known.add(path.name)
                with contextlib.suppress(OSError):
                    os.link(path, self._folder / f"{path.name.removesuffix(_SUFFIX)}.{_digest(path)}")

    def close(self) -> None:
        """Keep the rest, and leave nothing else behind."""
        self.keep()
        shutil.rmtree(self.own, ignore_errors=True)
        os.close(self._alive)


@contextlib.contextmanager
def used(wanted: bool, root: Path | None = None) -> Iterator[Programs | None]:
    """While it is entered, JAX takes compiled programs from the cache and puts them there.

    Args:
        wanted: whether it shall. It does not where the user has given JAX a folder (JAX_COMPILATION_CACHE_DIR).
        root: the folder of all programs; default: `programs` below the cache folder.

    Yields:
        what keeps the programs; None where there is no cache, also because its folder cannot be written.
    """
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    names = (*names, "jax_persistent_cache_enable_xla_caches")
    before = {name: getattr(jax.config, name) for name in names}
    programs = None
    if wanted and before[names[0]] is None:
        with contextlib.suppress(OSError):
            programs = Programs((root or default_cache_dir() / "programs") / depends_on())
    if programs is None:
        yield None
        return
    # XLA's own caches of kernels would put the name of this process's folder into the key of every program on a GPU.
    for name, value in zip(names, (str(programs.own), WORTHWHILE, ""), strict=True):
        jax.config.update(name, value)
    of_jax.reset_cache()  # JAX looks at its settings once
    try:
        yield programs
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        of_jax.reset_cache()
        programs.close()


def depends_on() -> str:
    """A digest of what the bits of a compiled program depend on beside the program, its options and its devices."""
    known = {
        "jax": [version("jax"), version("jaxlib")],
        "cpu": [platform.machine(), _cpu()],
        "threads": os.environ.get("NPROC") or len(os.sched_getaffinity(0)),
        "flags": [sorted(os.environ.get(name, "").split()) for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")],
    }
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:_DIGITS]


def _cpu() -> list[str]:
    """The model of the CPU and what it can do, as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return [platform.processor()]
    told = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features")
    return [line for line in lines if line.partition(":")[0].strip() in told]


def _take(folder: Path, own: Path) -> Iterator[str]:
    """Link every program of `folder` that is whole into `own`, by JAX's name for it; gives those names."""
    for path in sorted(folder.iterdir()):
        key, dot, digest = path.name.rpartition(".")
        if not (dot and key) or path.name.startswith("."):
            continue
        with contextlib.suppress(OSError):
            if _digest(path) != digest:
                path.unlink()
                continue
            os.link(path, own / f"{key}{_SUFFIX}")
            yield f"{key}{_SUFFIX}"


def _sweep(folder: Path) -> None:
    """Remove the folders of processes that have died."""
    for left in folder.glob(f"{_IN_USE}*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(descriptor)


def _prune(root: Path, limit: int) -> None:
    """Remove the oldest programs until those of all kinds of processes take `limit` bytes."""
    found = [(path.stat(), path) for path in root.glob("*/*.*") if not path.name.startswith(".")]
    total = sum(stat.st_size for stat, _ in found)
    for stat, path in sorted(found, key=lambda each: each[0].st_mtime):
        if total <= limit:
            return
        path.unlink(missing_ok=True)
        total -= stat.st_size


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
