"""Saving: everything is written beside the final name, flushed, and renamed into it.

Whoever is killed on the way leaves a `.step-N.tmp` folder, which no reader looks at and the next run removes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from levanter import durable
from levanter.checkpoint import errors
from levanter.checkpoint.arrays import CHUNK_BYTES, write_array
from levanter.checkpoint.directory import staged_path, step_path
from levanter.checkpoint.manifest import ArrayRecord, Manifest, write_manifest

if TYPE_CHECKING:
    import jax

_THREADS = 4


def save(
    directory: Path | str,
    step: int,
    tree: Mapping[str, jax.Array | np.ndarray],
    metadata: Mapping[str, Any],
    *,
    chunk_bytes: int = CHUNK_BYTES,
) -> Path:
    """Write the arrays of `tree` as `directory/step-N` and return that path. When it returns, they are on the disk.

    Args:
        tree: arrays of any sharding whose shards are all in this process, by name.
        metadata: what else to keep, as JSON can hold it.
        chunk_bytes: the most bytes of an array in one file.

    Raises:
        FileExistsError: that step is already saved; a committed checkpoint is never written to.
        WorkFailed: the disk is full or fails. What was committed before is untouched.
    """
    directory = Path(directory)
    final, staged = step_path(directory, step), staged_path(directory, step)
    if final.exists():
        raise FileExistsError(f"the checkpoint {final} is already there")
    try:
        shutil.rmtree(staged, ignore_errors=True)
        (staged / "arrays").mkdir(parents=True)
        names = sorted(tree)

        def write(name: str) -> ArrayRecord:
            return write_array(staged, name, np.asarray(tree[name]), chunk_bytes)

        with ThreadPoolExecutor(_THREADS) as threads:
            records = list(threads.map(write, names))
        write_manifest(staged, Manifest(step, dict(metadata), dict(zip(names, records, strict=True))))
        durable.commit_tree(staged, final)
    except OSError as error:
        shutil.rmtree(staged, ignore_errors=True)  # gives the room back now
        raise errors.cannot_write(final, error) from error
    return final
