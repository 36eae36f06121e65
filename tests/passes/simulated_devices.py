"""A placed graph run on simulated devices: `jax.vmap` over each mesh axis, so that collectives are what they are, with
no compiler between. What comes out shows what the program of one device really computes, proved or not."""

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import jax
import numpy as np

from ir.graph import Graph
from ir.shards import Shards
from ir.types import TensorType
from passes.runner import LocalRunner


def run(placed: Graph, sizes: dict[str, int], arrays: Sequence[Any]) -> list[np.ndarray | None]:
    """The outputs, put together from the shards; None where devices differ in what the type says they share."""
    runner = LocalRunner(Shards(sizes))

    def device(*shards: Any) -> list[Any]:
        return [jax.numpy.asarray(each) for each in runner.graph(placed, shards)]

    function = device
    for axis in reversed(sizes):
        function = jax.vmap(function, axis_name=axis, axis_size=sizes[axis])
    shards = [_cut(np.asarray(array), value.type, sizes) for array, value in zip(arrays, placed.inputs, strict=True)]
    made = function(*shards)
    return [
        _joined(np.asarray(array), operand.type, sizes) for array, operand in zip(made, placed.outputs, strict=True)
    ]


def inputs(graph: Graph, seed: int = 0, highest: int = 4) -> list[np.ndarray]:
    """Numbers for every input: floats in steps of an eighth, so that sums of few of them are exact; small integers."""
    rng = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    for value in graph.inputs:
        if value.type.dtype.startswith(("int", "uint")):
            found.append(rng.integers(0, highest, value.type.shape).astype(value.type.dtype))
        else:
            found.append((rng.integers(-8, 9, value.type.shape) / 8).astype(value.type.dtype))
    return found


def same(first: Sequence[np.ndarray | None], second: Sequence[np.ndarray | None]) -> bool:
    """Whether two runs gave the same, up to the order of sums."""
    return all(
        a is not None
        and b is not None
        and a.shape == b.shape
        and np.allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=1e-4, atol=1e-6, equal_nan=True)
        for a, b in zip(first, second, strict=True)
    )


def _places(sizes: dict[str, int]) -> list[dict[str, int]]:
    return [dict(zip(sizes, place, strict=True)) for place in product(*map(range, sizes.values()))]


def _part(type_: TensorType, sizes: dict[str, int], place: dict[str, int]) -> tuple[slice, ...]:
    parts: list[slice] = []
    for dim in type_.dims:
        chunk = 0
        for axis in dim.mesh:
            chunk = chunk * sizes[axis] + place[axis]
        length = dim.size // prod(sizes[axis] for axis in dim.mesh)
        parts.append(slice(chunk * length, (chunk + 1) * length))
    return tuple(parts)


def _cut(array: np.ndarray, type_: TensorType, sizes: dict[str, int]) -> np.ndarray:
    shards = [array[_part(type_, sizes, place)] for place in _places(sizes)]
    return np.stack(shards).reshape((*sizes.values(), *shards[0].shape))


def _joined(array: np.ndarray, type_: TensorType, sizes: dict[str, int]) -> np.ndarray | None:
    whole = np.zeros(type_.shape, array.dtype)
    written = np.zeros(type_.shape, bool)
    for place in _places(sizes):
        shard, part = array[tuple(place.values())], _part(type_, sizes, place)
        if shard.shape != whole[part].shape:
            return None
        if written[part].any() and not np.array_equal(whole[part], shard, equal_nan=shard.dtype.kind in "fc"):
            if not np.allclose(whole[part], shard, rtol=1e-4, atol=1e-6):
                return None
        whole[part], written[part] = shard, True
    return whole
