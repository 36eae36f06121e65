"""One device's part of the arrays of a placed graph, inside of a `shard_map`, and primitives bound on it.

A dim that is sharded over mesh axes (a, b), outermost first, is cut into as many contiguous chunks as the axes have
devices together; the device at (i, j) of them has chunk `i * size(b) + j`.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import jax.numpy as jnp
from jax import lax

from ir._compat import equation_context
from ir.graph import Node
from ir.types import Dim, TensorType

_SHARDINGS = ("sharding", "out_sharding")
"""Parameters of primitives that say how a whole result is to be sharded, which a shard knows nothing of."""


class Shards:
    """The mesh that a graph is bound on. Without axes, every array is whole.

    Args:
        ordered: whether sums over devices are made in the order of the devices: by an exchange of data and sums on each
            device, not by a library whose order depends on how many processes the devices are in.
        in_turn: whether no loop that communicates may run beside a collective outside of it (XLA for CPUs in one
            process, which has one thread for each device).
        tiled: whether the compiler is told how an array lies, where the program says so.
    """

    def __init__(
        self, sizes: Mapping[str, int], *, ordered: bool = False, in_turn: bool = False, tiled: bool = False
    ) -> None:
        self.sizes = dict(sizes)
        self.ordered = ordered
        self.in_turn = in_turn
        self.tiled = tiled

    def count(self, axes: Sequence[str]) -> int:
        """How many devices some mesh axes have together."""
        return prod(self.sizes[axis] for axis in axes)

    def index(self, axes: Sequence[str]) -> Any:
        """This device's place along some mesh axes, outermost first: an int32 scalar."""
        return jnp.int32(0) + chunk_of(axes, {axis: lax.axis_index(axis) for axis in axes}, self.sizes)

    def length(self, dim: Dim) -> int:
        """The elements of a dim that one device has."""
        return dim.size // self.count(dim.mesh) if dim.mesh else dim.size

    def shape(self, type_: TensorType) -> tuple[int, ...]:
        """The shape of one device's shard."""
        return tuple([self.length(dim) for dim in type_.dims])

    def start(self, dim: Dim) -> Any:
        """Where this device's part of a dim begins: 0 where it has all of it."""
        return self.index(dim.mesh) * self.length(dim) if dim.mesh else 0

    def cut(self, array: Any, position: int, axes: Sequence[str]) -> Any:
        """This device's part of a dim that is to be sharded over `axes`, of an array that has all of it."""
        length = array.shape[position] // self.count(axes)
        return lax.dynamic_slice_in_dim(array, self.index(axes) * length, length, position)

    def part(self, array: Any, type_: TensorType) -> Any:
        """This device's shard of an array that every device has whole."""
        for position, dim in enumerate(type_.dims):
            if dim.mesh:
                array = self.cut(array, position, dim.mesh)
        return array


def chunk_of(axes: Sequence[str], place: Mapping[str, Any], sizes: Mapping[str, int]) -> Any:
    """The number of the chunk, along a dim that is sharded over `axes`, of the device at a place of the mesh."""
    chunk: Any = 0
    for axis in axes:
        chunk = chunk * sizes[axis] + place[axis]
    return chunk


def bind_primitive(node: Node, arrays: Sequence[Any], params: Mapping[str, Any]) -> list[Any]:
    """What the primitive behind a traced node makes of one device's arrays."""
    return bind_exactly(node, arrays, {**params, **{key: None for key in _SHARDINGS if key in params}})


def bind_exactly(node: Node, arrays: Sequence[Any], params: Mapping[str, Any]) -> list[Any]:
    """What the primitive behind a traced node makes of some arrays with just these parameters, under the node's source
    line and settings."""
    origin = node.origin
    assert origin is not None
    with equation_context(origin.context, origin.source_info):
        result = origin.primitive.bind(*arrays, **origin.primitive.get_bind_params(params))
    return list(result) if origin.primitive.multiple_results else [result]
