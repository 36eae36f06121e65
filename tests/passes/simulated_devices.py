"""A placed graph run on simulated devices: `jax.vmap` over each mesh axis, so that collectives are what they are, with
no compiler between. It is run in the ring (see `ir.ring`), so that what comes out is the same to the bit, or wrong."""

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import jax
import numpy as np

from ir.graph import Graph
from ir.shards import Shards
from ir.types import TensorType
from passes.ring_inputs import ring_inputs
from passes.shadow import _LocalRing

Arrays = Sequence[np.ndarray | None]


def run(placed: Graph, sizes: dict[str, int], arrays: Sequence[Any]) -> Arrays:
    """The outputs, put together from the shards; None where devices differ in what the type says they share.

    Args:
        sizes: of the mesh axes; without any, the graph runs on one device.
    """
    runner = _LocalRing(Shards(sizes))

    def device(*shards: Any) -> list[Any]:
        return [jax.numpy.asarray(each) for each in runner.graph(placed, shards)]

    function = device
    for axis in reversed(sizes):
        function = jax.vmap(function, axis_name=axis, axis_size=sizes[axis])
    shards = [_cut(array, value.type, sizes) for array, value in zip(arrays, placed.inputs, strict=True)]
    made = function(*shards)
    return [_joined(array, each.type, sizes) for array, each in zip(made, placed.outputs, strict=True)]


def inputs(graph: Graph, seed: int = 0) -> list[Any]:
    """Numbers of the ring for every input; indices in range."""
    return ring_inputs(graph, seed)


def same(first: Arrays, second: Arrays) -> bool:
    """Whether two runs gave the same bits."""
    return all(a is not None and b is not None and np.array_equal(a, b) for a, b in zip(first, second, strict=True))


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


def _cut(array: Any, type_: TensorType, sizes: dict[str, int]) -> Any:
    shards = [array[_part(type_, sizes, place)] for place in _places(sizes)]
    return jax.numpy.stack(shards).reshape((*sizes.values(), *shards[0].shape))


def _joined(array: Any, type_: TensorType, sizes: dict[str, int]) -> np.ndarray | None:
    array = np.asarray(jax.random.key_data(array) if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key) else array)
    whole, written = (
        np.zeros((*type_.shape, *array.shape[len(sizes) + len(type_.shape) :]), array.dtype),
        np.zeros(type_.shape, bool),
    )
    for place in _places(sizes):
        shard, part = array[tuple(place.values())], _part(type_, sizes, place)
        if shard.shape != whole[part].shape or (written[part].any() and not np.array_equal(whole[part], shard)):
            return None
        whole[part], written[part] = shard, True
    return whole
