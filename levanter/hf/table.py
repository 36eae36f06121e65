"""A family's table held against a model: for each array of ours its axes, and the tensors of the file that it is in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from haliax import Axis, NamedArray
from levanter.hf import errors
from levanter.hf.family import HfFamily, Weight, family_of
from levanter.hf.layout import parse
from levanter.models.config import InFolders
from levanter.runtime.state import flat_names

Index = tuple[slice, ...]
"""A part of an array of ours: a slice with a start and a stop for each axis."""


@dataclass(frozen=True)
class Entry:
    """One weight of a table: the array of ours that it fills, and how.

    Attributes:
        axes: of our array.
        sizes: of the axes as the file has them: `vocab` without what it was rounded up by.
    """

    weight: Weight
    axes: tuple[Axis, ...]
    sizes: Mapping[str, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """What our array is of the tensor: its shape, or that of the rows that are ours."""
        return parse(self.weight.layout).shape(self.sizes)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.axes)

    @cached_property
    def _inner(self) -> tuple[str, ...]:
        """Our axes within one tensor."""
        return tuple(name for name in self._names if name not in self.weight.placeholders)

    def tensors(self) -> Iterator[str]:
        """The names of all tensors that it is spread over."""
        placeholders = self.weight.placeholders
        for places in itertools.product(*(range(self.sizes[name]) for name in placeholders)):
            yield self.weight.tensor(**dict(zip(placeholders, places, strict=True)))

    def parts(self, index: Index) -> Iterator[tuple[str, tuple[Any, ...], Index]]:
        """The pieces of the part `index` of our array, one for each tensor that it is in.

        Yields: the tensor's name, the piece's place in the part, and its place in the view that `within` gives.
        """
        ranges = {
            name: range(part.start, min(part.stop, self.sizes[name]))
            for name, part in zip(self._names, index, strict=True)
        }
        placeholders = self.weight.placeholders
        inner = tuple(slice(ranges[name].start, ranges[name].stop) for name in self._inner)
        for places in itertools.product(*(ranges[name] for name in placeholders)):
            at = dict(zip(placeholders, places, strict=True))
            here = tuple(
                at[name] - ranges[name].start if name in at else slice(0, len(ranges[name])) for name in self._names
            )
            yield self.weight.tensor(**at), here, inner

    def within(self, tensor: np.ndarray) -> np.ndarray:
        """A view of a tensor of the file with our axes and in their order, those left out that it is spread over."""
        if self.weight.rows is not None:
            tensor = tensor[(slice(None),) * self.weight.dim + (slice(*self.weight.rows),)]
        tensor = tensor[tuple(slice(0, size) for size in self.shape)]
        return parse(self.weight.layout).view(tensor, self.sizes, self._inner)

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of the file has the shape that it needs."""
        return len(shape) == len(self.shape) and all(
            self._size_fits(dim, found, wanted)
            for dim, (found, wanted) in enumerate(zip(shape, self.shape, strict=True))
        )

    def _size_fits(self, dim: int, found: int, wanted: int) -> bool:
        if self.weight.rows is not None and dim == self.weight.dim:
            return found >= self.weight.rows[1]
        return found >= wanted if parse(self.weight.layout).dims[dim] == (self.weight.first,) else found == wanted


@dataclass(frozen=True)
class Table:
    """All weights of a model, in the order of the file's modules."""

    family: HfFamily
    entries: tuple[Entry, ...]

    def of(self, path: str) -> list[Entry]:
        """The entries of one array of ours."""
        return [entry for entry in self.entries if entry.weight.path == path]

    @cached_property
    def tensors(self) -> dict[str, list[Entry]]:
        """The tensors of a file, with the entries that each is in, in the order in which `save_pretrained` has them:
        module by module, and layer by layer where they are stacked."""
        found: dict[str, list[Entry]] = {}
        for _, group in itertools.groupby(self.entries, lambda entry: entry.weight.placeholders[:1]):
            rows = [(entry, list(entry.tensors())) for entry in group]
            outer = rows[0][0].weight.placeholders[:1]
            count = rows[0][0].sizes[outer[0]] if outer else 1
            for place in range(count):
                for entry, names in rows:
                    length = len(names) // count
                    for name in names[place * length : (place + 1) * length]:
                        found.setdefault(name, []).append(entry)
        return found

    def shape(self, tensor: str) -> tuple[int, ...]:
        """The shape of a tensor, from the arrays of ours that it is made of."""
        entries = self.tensors[tensor]
        shape = list(entries[0].shape)
        if entries[0].weight.rows is not None:
            ends = [entry.weight.rows[1] for entry in entries if entry.weight.rows is not None]
            shape[entries[0].weight.dim] = max(ends)
        return tuple(shape)


def table_of(config: InFolders, model: Any) -> Table:
    """The table of the family of `config`, for a model that it builds (shapes will do).

    Raises:
        UserError: its kind of model has no family, or the table does not fit the model.
    """
    family = family_of(config)
    arrays = axes_of(model)
    entries, problems = [], []
    for weight in family.weights(config):
        axes = arrays.get(weight.path)
        if axes is None:
            problems.append(f"the model has no `{weight.path}`")
            continue
        own = {axis.name: axis.size for axis in axes}
        spelled = sorted([*weight.placeholders, *weight.parsed.axes])
        if spelled != sorted(own):
            problems.append(f"`{weight.path}` has the axes {', '.join(own)} and the table {', '.join(spelled)}")
            continue
        if "vocab" in own:
            own["vocab"] = min(own["vocab"], getattr(config, "vocab_size", own["vocab"]))
        entries.append(Entry(weight, axes, own))
    named = {entry.weight.path for entry in entries}
    if not problems:
        problems = [f"nothing fills `{path}`" for path in arrays if path not in named]
        problems += [problem for entry in entries if (problem := _rows_problem(entry))]
    if problems:
        raise errors.incomplete_table(type(config).__name__, problems)
    return Table(family, tuple(entries))


def _rows_problem(entry: Entry) -> str | None:
    rows, dim = entry.weight.rows, entry.weight.dim
    if rows is not None and rows[1] - rows[0] != entry.shape[dim]:
        return f"`{entry.weight.path}` is {entry.shape[dim]} long and the table gives it rows {rows[0]} to {rows[1]}"
    return None


def axes_of(model: Any) -> dict[str, tuple[Axis, ...]]:
    """The axes of every array of a model by its flat name; an array without names has none."""
    boxes = flat_names(jax.tree.map(_Box, model, is_leaf=lambda leaf: isinstance(leaf, NamedArray)))
    return {name: getattr(box.array, "axes", ()) for name, box in boxes.items()}


class _Box:
    """An array as a leaf of a tree."""

    def __init__(self, array: Any) -> None:
        self.array = array


def whole(axes: Sequence[Axis]) -> Index:
    """All of an array."""
    return tuple(slice(0, axis.size) for axis in axes)


def bounded(index: Sequence[slice], shape: Sequence[int]) -> Index:
    """An index as JAX gives it, with a start and a stop in every slice."""
    return tuple(slice(*part.indices(size)[:2]) for part, size in zip(index, shape, strict=True))
