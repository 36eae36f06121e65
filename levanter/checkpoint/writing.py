"""Saving: every process writes its shards beside the final name, the first one the manifest, and then it has its name.

Whoever is killed on the way leaves a `.step-N.tmp` folder (behind a URL, one without a manifest), which no reader looks
at and the next run removes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from levanter.checkpoint import errors
from levanter.checkpoint.directory import step_name
from levanter.checkpoint.locations import Location, location
from levanter.checkpoint.manifest import ArrayRecord, Block, Manifest, record_of_json, record_to_json, write_manifest
from levanter.checkpoint.opening import place_of
from levanter.checkpoint.places import Place
from levanter.checkpoint.regions import Region
from levanter.checkpoint.snapshot import held
from levanter.errors import UserError
from levanter.processes.group import ALONE, Group

if TYPE_CHECKING:
    import jax

BLOCK_BYTES = 64 << 20
"""The most bytes of a block, which is what a reader reads and verifies at once."""
_LEAST_BLOCK_BYTES = 1 << 20
_BLOCKS = 64
"""About so many make up an array: who needs a part of it reads hardly more."""
FILE_BYTES = 256 << 20
"""A file is closed once it has so many."""
_THREADS = 4
_PARTS = "parts"


def save(
    directory: Location | str,
    step: int,
    tree: Mapping[str, jax.Array | np.ndarray | Any],
    metadata: Mapping[str, Any],
    *,
    block_bytes: int | None = None,
    file_bytes: int = FILE_BYTES,
    group: Group = ALONE,
) -> Location:
    """Write the arrays of `tree` as `directory/step-N` and return that path. When it returns, they are on the disk.

    Every process of `group` calls it, with the same arguments; each writes what its own devices hold.

    Args:
        directory: a path or a URL.
        tree: arrays of any sharding, by name; numpy arrays are written by the first process.
        metadata: what else to keep, as JSON can hold it.
        block_bytes: the most bytes of an array that are read and verified at once; default: from 1 to 64 MiB, by the
            size of the array.
        file_bytes: a file is closed once it has so many.

    Raises:
        FileExistsError: that step is already saved; a committed checkpoint is never written to.
        WorkFailed: the disk is full or fails, here or in another process. What was committed before is untouched.
        UserError: another process has written to a disk that the first does not see.
    """
    place = place_of(location(directory))
    name = step_name(step)
    final = place.child(name).path
    try:
        there = place.is_complete(name)
    except OSError as error:
        raise errors.cannot_write(final, error) from error
    if there:
        raise FileExistsError(f"the checkpoint {final} is already there")
    staged = place.staging(name)
    with _together(group, final, staged, "prepare"):
        if group.index == 0:
            with contextlib.suppress(FileNotFoundError):
                staged.remove()
            staged.make()
    with _together(group, final, staged, "write"):
        part = _Writer(staged, group.index, block_bytes, file_bytes).written(tree)
        if group.index > 0:
            staged.write(f"{_PARTS}/{group.index}", [json.dumps(_part_to_json(part)).encode()])
    with _together(group, final, staged, "commit"):
        if group.index == 0:
            write_manifest(staged, _merged(staged, group.count, part, step, dict(metadata), final))
            place.publish(name)
    return final


@contextlib.contextmanager
def _together(group: Group, final: Location, staged: Place, what: str) -> Iterator[None]:
    """The block, in every process; where one of them fails, all of them do.

    Raises:
        WorkFailed: here the system's error, elsewhere that of the process that had it.
        UserError: see `errors.not_shared`.
    """
    failed: Exception | None = None
    try:
        yield
    except OSError as error:
        failed = errors.cannot_write(final, error)
        failed.__cause__ = error
    except UserError as error:
        failed = error
    said = group.exchange(f"checkpoint {final} {what}", "" if failed is None else str(failed))
    if failed is None and not any(said):
        return
    if group.index == 0:
        with contextlib.suppress(OSError):
            staged.remove()  # gives the room back now
    if failed is not None:
        raise failed
    process = next(index for index, text in enumerate(said) if text)
    raise errors.cannot_write_elsewhere(final, process, said[process])


_Part = tuple[dict[str, ArrayRecord], dict[str, int]]
"""What one process has written: its blocks of each array, and its files with their sizes."""


class _Writer:
    """Writes the shards of one process into files of its own."""

    def __init__(self, place: Place, process: int, block_bytes: int | None, file_bytes: int) -> None:
        self._place = place
        self._process = process
        self._block_bytes = block_bytes
        self._file_bytes = file_bytes
        self._lock = threading.Lock()
        self._failed = False
        self._files: dict[str, int] = {}
        self._records: dict[str, ArrayRecord] = {}
        self._blocks: dict[str, list[Block]] = {}

    def written(self, tree: Mapping[str, Any]) -> _Part:
        queue = self._all_blocks(tree)
        with ThreadPoolExecutor(_THREADS) as threads:
            for done in [threads.submit(self._write, queue, thread) for thread in range(_THREADS)]:
                done.result()
        records = {
            name: ArrayRecord(record.dtype, record.shape, tuple(self._blocks[name]))
            for name, record in sorted(self._records.items())
        }
        return records, self._files

    def _all_blocks(self, tree: Mapping[str, Any]) -> Iterator[tuple[str, Region, np.ndarray]]:
        """Every block to write; an array is fetched when its turn comes."""
        for number, name in enumerate(sorted(tree)):
            array = held(tree[name], number, self._process)
            self._records[name] = ArrayRecord(array.dtype.name, array.shape)
            self._blocks[name] = []
            block_bytes = self._block_bytes or _block_bytes(self._records[name])
            for part, values in array.parts:
                values = np.asarray(values)
                for region in part.cut(array.dtype.itemsize, block_bytes):
                    yield name, region, np.asarray(values[region.slices(part)])

    def _write(self, queue: Iterator[tuple[str, Region, np.ndarray]], thread: int) -> None:
        number = 0
        try:
            while (first := self._next(queue)) is not None:
                file = f"data/{self._process:05}-{thread}-{number}"
                self._place.write(file, self._file(queue, first, file))
                number += 1
        except BaseException:
            self._failed = True  # the other threads need not write what will be removed
            raise

    def _file(
        self, queue: Iterator[tuple[str, Region, np.ndarray]], block: tuple[str, Region, np.ndarray], file: str
    ) -> Iterator[memoryview]:
        """The bytes of a file, block by block, until it is full; who writes them pulls."""
        offset = 0
        while True:
            name, region, values = block
            content = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
            checksum = hashlib.sha256(content).hexdigest()
            yield content
            with self._lock:
                self._blocks[name].append(Block(region, file, offset, checksum))
                offset += len(content)
                self._files[file] = offset
            following = self._next(queue) if offset < self._file_bytes else None
            if following is None:
                return
            block = following

    def _next(self, queue: Iterator[tuple[str, Region, np.ndarray]]) -> tuple[str, Region, np.ndarray] | None:
        with self._lock:
            return None if self._failed else next(queue, None)


def _block_bytes(record: ArrayRecord) -> int:
    return min(max(record.nbytes // _BLOCKS, _LEAST_BLOCK_BYTES), BLOCK_BYTES)


def _merged(
    staged: Place, processes: int, own: _Part, step: int, metadata: dict[str, Any], final: Location
) -> Manifest:
    """The manifest of what all processes have written; what they told of it is taken away."""
    records, files = dict(own[0]), dict(own[1])
    for process in range(1, processes):
        try:
            part = json.loads(staged.read(f"{_PARTS}/{process}"))
        except FileNotFoundError as error:
            raise errors.not_shared(final, process) from error
        for name, fields in part["arrays"].items():
            record = record_of_json(fields)
            records[name] = ArrayRecord(record.dtype, record.shape, records[name].blocks + record.blocks)
        files |= part["files"]
    if processes > 1:
        staged.child(_PARTS).remove()
    arrays = {
        name: ArrayRecord(each.dtype, each.shape, tuple(sorted(each.blocks, key=lambda block: block.region.start)))
        for name, each in records.items()
    }
    return Manifest(step, metadata, arrays, dict(sorted(files.items())))


def _part_to_json(part: _Part) -> dict[str, Any]:
    arrays, files = part
    return {"arrays": {name: record_to_json(record) for name, record in arrays.items()}, "files": files}
