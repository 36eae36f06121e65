"""Reading without devices: every value is compared with its checksum before anyone sees it."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from levanter.checkpoint import errors
from levanter.checkpoint.directory import committed, resolve
from levanter.checkpoint.format_1 import read_zarr, wrong_size
from levanter.checkpoint.locations import Location, location
from levanter.checkpoint.manifest import ArrayRecord, Block, Manifest, read_manifest
from levanter.checkpoint.opening import place_of
from levanter.checkpoint.places import Place
from levanter.checkpoint.regions import Region, whole
from levanter.processes.group import ALONE, Group

_THREADS = 4
_DIGEST_BYTES = 64 << 20

_T = TypeVar("_T")


def verify(path: Location | str) -> Manifest:
    """Read the checkpoint `path` whole and return its manifest.

    Raises:
        DamagedCheckpoint: a byte of it is missing or altered.
        UserError: there is no such checkpoint, or another format wrote it.
    """
    path = location(path)
    manifest = checked_manifest(path)
    place = place_of(path)

    def check(part: tuple[str, ArrayRecord, Block | None]) -> None:
        name, record, block = part
        if block is None:
            read_array(path, name, record)
        else:
            _read_block(place, name, record, block)

    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(check, _parts(manifest)))
    return manifest


def checked_manifest(path: Location | str) -> Manifest:
    """The manifest of a checkpoint whose files are as long as it says; no value is read.

    Raises: as `verify`.
    """
    path = location(path)
    manifest = read_manifest(path)
    if manifest.arrays and manifest.files:
        found = {f"data/{file}": size for file, size in place_of(path).child("data").files().items()}
        if problem := wrong_size(found, manifest.files):
            raise errors.damaged(path, problem)
    return manifest


def latest(directory: Location | str, problems: list[str] | None = None) -> Location | None:
    """The newest whole checkpoint of a folder, or None where there is no checkpoint at all.

    Every byte is compared with its checksum. Problems and errors: as `newest`.
    """
    found = newest(directory, verify, problems)
    return None if found is None else found[0]


def newest(
    directory: Location | str,
    read: Callable[[Location], _T],
    problems: list[str] | None = None,
    group: Group = ALONE,
) -> tuple[Location, _T] | None:
    """The newest checkpoint of a folder that `read` finds whole, with what it makes of it; None where there is none.

    A damaged checkpoint is passed over for the one before it, and a line that names it is appended to `problems`, or
    printed on stderr without `problems`. All processes of `group` take the same one: it must be whole for each.

    Raises:
        DamagedCheckpoint: there are checkpoints and not one of them is whole.
        UserError: what `read` raises.
    """
    refused: list[errors.DamagedCheckpoint] = []
    found = None
    for path in reversed(committed(directory)):
        values: list[_T] = []
        problem = None
        try:
            values.append(read(path))
        except errors.DamagedCheckpoint as damage:
            problem = damage
        said = group.exchange(f"read {path}", "" if problem is None else problem.what)
        elsewhere = next((what for what in said if what), None)
        if values and elsewhere is None:
            found = path, values[0]
            break
        refused.append(problem or errors.damaged(path, str(elsewhere)))
    if refused and found is None:
        raise errors.all_damaged(refused)
    for problem in refused:
        if problems is None:
            print(errors.left_out(problem), file=sys.stderr, flush=True)
        else:
            problems.append(errors.left_out(problem))
    return found


def digest(path: Location | str) -> str:
    """One SHA-256 over all arrays of a checkpoint, in hexadecimal: names, dtypes, shapes and values, in name order.

    Blocks, files and meshes do not enter it: two runs with equal digests have equal bits. The values are read and
    verified, a part of an array at a time. `path` may also be a run directory or its `checkpoints`, which means the
    newest one in it.

    Raises: as `verify`.
    """
    path = resolve(path)
    manifest = checked_manifest(path)
    names = sorted(manifest.arrays)
    total = hashlib.sha256()
    found = in_threads(names, lambda name: _sha256_of_values(path, name, manifest.arrays[name]))
    for name, values in zip(names, found, strict=True):
        record = manifest.arrays[name]
        total.update(f"{json.dumps([name, record.dtype, list(record.shape), values])}\n".encode())
    return total.hexdigest()


def read_array(path: Location | str, name: str, record: ArrayRecord) -> np.ndarray:
    """The values of the array `name`, compared with their checksums.

    Raises:
        DamagedCheckpoint: a file of the array is missing or altered.
    """
    everything = whole(record.shape)
    return read_regions(path, name, record, [everything])[everything]


def read_regions(
    path: Location | str, name: str, record: ArrayRecord, regions: Collection[Region]
) -> dict[Region, np.ndarray]:
    """Parts of the array `name`, compared with their checksums; a block that none of them needs is not read.

    Raises: as `read_array`.
    """
    path = location(path)
    place = place_of(path)
    if record.zarr is not None:
        values = read_zarr(place, name, record.numpy_dtype, record.shape, record.zarr)
        return {region: np.asarray(values[region.slices()]) for region in regions}
    found: dict[Region, np.ndarray] = {}
    missing = {region: region.size for region in regions}
    for block in record.blocks:
        meeting = {region: both for region in regions if (both := region.overlap(block.region)) is not None}
        values = _read_block(place, name, record, block) if meeting else None
        for region, both in meeting.items():
            missing[region] -= both.size
            assert values is not None
            if region == block.region:
                found[region] = values
                continue
            if region not in found:
                found[region] = np.empty(region.shape, record.numpy_dtype)
            found[region][both.slices(region)] = values[both.slices(block.region)]
    if any(missing.values()):
        raise errors.incomplete(path, name)
    return {region: found.get(region, np.empty(region.shape, record.numpy_dtype)) for region in regions}


def for_each_array(
    path: Location, manifest: Manifest, names: list[str], use: Callable[[str, np.ndarray], _T]
) -> list[_T]:
    """`use(name, values)` for each array, in the order of `names`; only a few arrays are in memory at a time."""
    return in_threads(names, lambda name: use(name, read_array(path, name, manifest.arrays[name])))


def in_threads(names: list[str], use: Callable[[str], _T]) -> list[_T]:
    """`use(name)` for each, a few at a time, in the order of `names`."""
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(use, names))


def _read_block(place: Place, name: str, record: ArrayRecord, block: Block) -> np.ndarray:
    values = np.empty(block.region.shape, record.numpy_dtype)
    buffer = values.reshape(-1).view(np.uint8).data
    try:
        count = place.read_into(block.file, block.offset, buffer)
    except OSError as error:
        raise errors.damaged(place.path, f"array {name}: {block.file} cannot be read") from error
    if count != len(buffer) or hashlib.sha256(buffer).hexdigest() != block.sha256:
        where = f" from {list(block.region.start)} on" if any(block.region.start) else ""
        raise errors.damaged(place.path, f"array {name}: its values{where} do not match their checksum")
    return values


def _parts(manifest: Manifest) -> Iterator[tuple[str, ArrayRecord, Block | None]]:
    for name, record in manifest.arrays.items():
        if record.zarr is not None:
            yield name, record, None
        for block in record.blocks:
            yield name, record, block
        if record.zarr is None and sum(block.region.size for block in record.blocks) != whole(record.shape).size:
            yield name, record, None


def _sha256_of_values(path: Location, name: str, record: ArrayRecord) -> str:
    """SHA-256 of the raw bytes of an array in C order, verified, of which a part is in memory at a time."""
    if record.zarr is not None:
        read_array(path, name, record)
        return record.zarr.sha256
    place = place_of(path)
    if record.blocks_follow_one_another:
        total = hashlib.sha256()
        for block in record.blocks:
            total.update(_read_block(place, name, record, block).reshape(-1).view(np.uint8).data)
        return total.hexdigest()
    for block in record.blocks:
        _read_block(place, name, record, block)
    if sum(block.region.size for block in record.blocks) != whole(record.shape).size:
        raise errors.incomplete(path, name)
    total = hashlib.sha256()
    for region in whole(record.shape).cut(record.numpy_dtype.itemsize, _DIGEST_BYTES):
        values = np.empty(region.shape, record.numpy_dtype)
        for block in record.blocks:
            if (both := region.overlap(block.region)) is not None:
                rows, there = _read_rows(place, name, record, block, both)
                values[both.slices(region)] = there[both.slices(rows)]
        total.update(values.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def _read_rows(place: Place, name: str, record: ArrayRecord, block: Block, part: Region) -> tuple[Region, np.ndarray]:
    """Of a block that is verified, the rows with `part` in them: those along its first axis of more than one place."""
    start, shape = list(block.region.start), list(block.region.shape)
    axis = next((axis for axis, size in enumerate(shape) if size > 1), None)
    skipped = 0
    if axis is not None:
        skipped = (part.start[axis] - start[axis]) * math.prod(shape[axis + 1 :]) * record.numpy_dtype.itemsize
        start[axis], shape[axis] = part.start[axis], part.shape[axis]
    rows = Region(tuple(start), tuple(shape))
    values = np.empty(rows.shape, record.numpy_dtype)
    buffer = values.reshape(-1).view(np.uint8).data
    if place.read_into(block.file, block.offset + skipped, buffer) != len(buffer):
        raise errors.damaged(place.path, f"array {name}: {block.file} cannot be read")
    return rows, values


def arrays_below(manifest: Manifest, part: str) -> Mapping[str, ArrayRecord]:
    """The arrays whose names begin with `part`."""
    return {name: record for name, record in manifest.arrays.items() if name.startswith(part)}
