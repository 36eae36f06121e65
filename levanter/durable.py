"""Files that survive `kill -9` and power loss: write aside, flush to the disk, rename.

A rename within one file system is atomic, so a reader sees the old thing or the new thing and never a part of one. The
flushes order it: the bytes reach the disk before the name does, and the name before the caller goes on. Checkpoints,
the token cache and `config.yaml` are all written through the few functions here.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_READ_BYTES = 1 << 20
_SYNC_THREADS = 8


def sync(path: Path) -> None:
    """Flush one file or one folder (its list of names) to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Flush every file and every folder below `root`, and `root` itself."""
    paths = [root]
    for folder, folders, files in os.walk(root):
        paths += [Path(folder, name) for name in [*folders, *files]]
    with ThreadPoolExecutor(_SYNC_THREADS) as threads:
        list(threads.map(sync, paths))


def commit_tree(staged: Path, final: Path) -> None:
    """Give the finished folder `staged` its name `final`, which must not exist, in the same parent folder."""
    sync_tree(staged)
    os.rename(staged, final)
    sync(final.parent)


def write_file(path: Path, content: bytes) -> None:
    """Replace the file at `path` by `content`, whole or not at all."""
    staged = path.with_name(f".{path.name}.tmp")
    write_new(staged, [content])
    os.replace(staged, path)
    sync(path.parent)


def write_new(path: Path, parts: Iterable[memoryview | bytes]) -> None:
    """Make the file at `path` of `parts`, one after the other, and flush it to the disk; its name is not yet there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        for part in parts:
            rest = memoryview(part).cast("B")
            while len(rest):
                rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock file at `path`, waiting for whoever has it. The system frees it when its holder dies, however.

    Args:
        wait: whether to wait; gives whether the lock is held, which without waiting it need not be.
    """
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
