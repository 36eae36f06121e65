"""Reading without devices: every value is compared with its checksum before anyone sees it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from levanter.checkpoint import errors
from levanter.checkpoint.arrays import read_array
from levanter.checkpoint.directory import committed, resolve
from levanter.checkpoint.manifest import Manifest, read_manifest

_THREADS = 4

_T = TypeVar("_T")


def verify(path: Path | str) -> Manifest:
    """Read the checkpoint `path` whole and return its manifest.

    Raises:
        DamagedCheckpoint: a byte of it is missing or altered.
        UserError: there is no such checkpoint, or another format wrote it.
    """
    path = Path(path)
    manifest = read_manifest(path)
    for_each_array(path, manifest, list(manifest.arrays), lambda name, values: None)
    return manifest


def latest(directory: Path | str, problems: list[str] | None = None) -> Path | None:
    """The newest whole checkpoint of a folder, or None where there is no checkpoint at all.

    Every byte is compared with its checksum. A damaged checkpoint is passed over for the one before it, and a line that
    names it is appended to `problems`, or printed on stderr without `problems`.

    Raises:
        DamagedCheckpoint: there are checkpoints and not one of them is whole.
    """
    refused: list[errors.DamagedCheckpoint] = []
    found = None
    for path in reversed(committed(directory)):
        try:
            verify(path)
        except errors.DamagedCheckpoint as problem:
            refused.append(problem)
        else:
            found = path
            break
    if refused and found is None:
        raise errors.all_damaged(refused)
    for problem in refused:
        if problems is None:
            print(errors.left_out(problem), file=sys.stderr, flush=True)
        else:
            problems.append(errors.left_out(problem))
    return found


def digest(path: Path | str) -> str:
    """One SHA-256 over all arrays of a checkpoint, in hexadecimal: names, dtypes, shapes and values, in name order.

    Chunks, files and meshes do not enter it: two runs with equal digests have equal bits. The values are read and
    verified. `path` may also be a run directory or its `checkpoints`, which means the newest one in it.

    Raises: as `verify`.
    """
    manifest = verify(resolve(path))
    total = hashlib.sha256()
    for name, record in sorted(manifest.arrays.items()):
        total.update(f"{json.dumps([name, record.dtype, list(record.shape), record.sha256])}\n".encode())
    return total.hexdigest()


def for_each_array(path: Path, manifest: Manifest, names: list[str], use: Callable[[str, np.ndarray], _T]) -> list[_T]:
    """`use(name, values)` for each array, in the order of `names`; only a few arrays are in memory at a time."""

    def one(name: str) -> _T:
        return use(name, read_array(path, name, manifest.arrays[name]))

    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(one, names))
