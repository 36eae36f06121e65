"""From a model folder to the arrays of a model, on devices.

Every device is given its own shards and no more: a shard is cut out of memory maps of the tensors that it is in, which
brings its dims in our order and its values to our dtype, and is handed to the device before the next is made. So beside
what the devices hold there is never more than one shard, and a process reads what its own devices need.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from levanter.hf import errors
from levanter.hf.family import HfFamily
from levanter.hf.folder import HfFolder
from levanter.hf.safetensors import Tensor, read_folder
from levanter.hf.table import Entry, Index, Table, bounded, table_of, whole
from levanter.models.config import InFolders
from levanter.runtime.state import flat_names, from_flat_names

_COMPARED = 1 << 24


def import_model(folder: HfFolder, config: InFolders, like: Any, shardings: Any = None) -> Any:
    """The model of a folder, on devices.

    Args:
        config: of the model, as `folder.model_config()` gives it, or with other values for what no weight depends on.
        like: the model that `config` builds, with a `jax.ShapeDtypeStruct` for every array: shapes and dtypes to read.
        shardings: the same tree with a sharding for every array; None puts all on the default device.

    Raises:
        UserError: the weights are not those of `config`.
    """
    table, tensors = matched(folder, config, like)
    layouts = None if shardings is None else flat_names(shardings)
    default = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    arrays = {}
    for path, shape in flat_names(like).items():
        entries = table.of(path)
        sharding = default if layouts is None else layouts[path]
        arrays[path] = _placed(entries, tensors, shape, sharding)
    return from_flat_names(like, arrays)


def read_arrays(folder: HfFolder, config: InFolders, like: Any) -> Mapping[str, Any]:
    """The arrays of a folder one by one, on the host: a mapping from flat names that reads an array when asked."""
    table, tensors = matched(folder, config, like)
    return _Arrays(table, tensors, flat_names(like))


def matched(folder: HfFolder, config: InFolders, like: Any) -> tuple[Table, dict[str, Tensor]]:
    """The table of a model and the tensors of a folder by the names that the table has; no value is read.

    Raises:
        UserError: a tensor is missing, too many, or of another shape.
    """
    table = table_of(config, like)
    found = _with_prefix(table, read_folder(folder.path))
    _check_tied(folder.path, table, found)
    missing = [name for name in table.tensors if name not in found]
    extra = [name for name in found if name not in table.tensors and not _is_known(table.family, name, table)]
    if missing:
        for head, embedding in table.family.tied:
            if missing == [head]:
                raise errors.missing_head(folder.path, head, embedding)
        raise errors.missing_tensors(folder.path, missing, extra)
    if extra:
        raise errors.extra_tensors(folder.path, extra)
    for name, entries in table.tensors.items():
        for entry in entries:
            if not entry.fits(found[name].shape):
                wanted = entry.shape if entry.weight.rows is None else table.shape(name)
                raise errors.wrong_shape(
                    folder.path, name, found[name].shape, entry.weight.path, wanted, entry.weight.layout
                )
    return table, {name: found[name] for name in table.tensors}


def read_part(entries: list[Entry], tensors: Mapping[str, Tensor], index: Index, dtype: np.dtype[Any]) -> np.ndarray:
    """A part of one array of ours, in its own memory; places of `vocab` that the file does not have are zeros."""
    part = np.zeros([each.stop - each.start for each in index], dtype)
    for entry in entries:
        for name, here, inner in entry.parts(index):
            # The map is dropped at once, and its pages with it.
            part[here] = entry.within(tensors[name].view())[inner]
    return part


def _placed(
    entries: list[Entry], tensors: Mapping[str, Tensor], like: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding
) -> jax.Array:
    devices: dict[tuple[tuple[int, int], ...], tuple[Index, list[Any]]] = {}
    for device, index in sharding.addressable_devices_indices_map(like.shape).items():
        part = bounded(index or (), like.shape)
        devices.setdefault(tuple((each.start, each.stop) for each in part), (part, []))[1].append(device)
    shards = []
    for part, owners in devices.values():
        values = read_part(entries, tensors, part, np.dtype(like.dtype))
        # A transfer that is still under way holds the values, whatever is dropped here.
        shards += jax.block_until_ready([jax.device_put(values, device) for device in owners])
        del values
    return jax.make_array_from_single_device_arrays(like.shape, sharding, shards)


class _Arrays(Mapping[str, Any]):
    def __init__(self, table: Table, tensors: Mapping[str, Tensor], shapes: dict[str, Any]) -> None:
        self._table, self._tensors, self._shapes = table, tensors, shapes

    def __getitem__(self, path: str) -> np.ndarray:
        entries = self._table.of(path)
        return read_part(entries, self._tensors, whole(entries[0].axes), np.dtype(self._shapes[path].dtype))

    def __iter__(self) -> Any:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def _with_prefix(table: Table, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names of today: old files leave the base model's prefix out."""
    prefix = f"{table.family.base_prefix}."
    if any(name.startswith(prefix) for name in found):
        return found
    return {
        f"{prefix}{name}" if name not in table.tensors and f"{prefix}{name}" in table.tensors else name: tensor
        for name, tensor in found.items()
    }


def _is_known(family: HfFamily, name: str, table: Table) -> bool:
    tied = {head for head, embedding in family.tied if embedding in table.tensors}
    return family.ignores(name) or name in tied


def _check_tied(folder: Path, table: Table, found: Mapping[str, Tensor]) -> None:
    """A head that the model does not have is in the file: it must be the embedding, to the byte."""
    for head, embedding in table.family.tied:
        if head in table.tensors or embedding not in table.tensors or head not in found or embedding not in found:
            continue
        if not _same_bytes(found[head], found[embedding]):
            raise errors.untied_head(folder, head, embedding)


def _same_bytes(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    one, other = (each.view().reshape(-1).view(np.uint8) for each in (first, second))
    starts = range(0, first.nbytes, _COMPARED)
    return all(np.array_equal(one[i : i + _COMPARED], other[i : i + _COMPARED]) for i in starts)
