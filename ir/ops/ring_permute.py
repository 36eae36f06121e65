"""ring_permute: each device passes its shard on to the next one along some mesh axes, the last one to the first; or,
where `both` is said, half of it to the next one and the other half to the one before, by the links of both directions.

Such a shard belongs to another device, so the result is not the value that the operand is. It stands only in the bodies
of an op whose values go round (`Op.rounds`), which says what that is good for.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

from ir.graph import Node
from ir.jax_api import jnp, lax
from ir.ops.move import moved
from ir.ops.op import Op
from ir.ops.rule import Expected
from ir.ops.spread import Spread, layout_of
from ir.shards import Shards


class RingPermute(Op):
    """`axis` is the name that is sharded over the mesh axes `mesh`, outermost first; `bytes` are those of one shard."""

    kind = "ring_permute"
    attributes = frozenset(("axis", "mesh", "bytes", "moving", "both"))
    communicates = True
    passes_on = True
    one_way = True
    crossings = 1.0

    @property
    def moves_data_only(self) -> bool:
        return False

    def results(self, node: Node) -> Sequence[Expected]:
        return moved(node)

    def spread(self, node: Node) -> Sequence[Spread]:
        """Shards are laid out as before: each device has that of the one before it."""
        return [layout_of(node.inputs[0].type)]

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        axes = node.words("mesh")
        devices = shards.count(axes)
        onward = [(i, (i + 1) % devices) for i in range(devices)]
        if not node.attrs.get("both"):
            return [lax.ppermute(arrays[0], axes, onward)]
        at = _halved(node)
        first, second = jnp.split(arrays[0], [arrays[0].shape[at] // 2], axis=at)
        back = [(there, here) for here, there in onward]
        return [jnp.concatenate([lax.ppermute(first, axes, onward), lax.ppermute(second, axes, back)], axis=at)]

    def sends(self, node: Node, sizes: Any) -> Sequence[tuple[str, int]]:
        """One permute, or one each way."""
        volume = node.count("bytes")
        if not node.attrs.get("both"):
            return [("permute", volume)]
        dim = node.inputs[0].type.dims[_halved(node)]
        length = dim.size // prod(sizes[axis] for axis in dim.mesh)
        first = volume // length * (length // 2)
        return [("permute", first), ("permute", volume - first)]


def _halved(node: Node) -> int:
    """The position of the dim that is halved: the one that is sharded over these mesh axes."""
    axes = node.words("mesh")
    return next(i for i, dim in enumerate(node.inputs[0].type.dims) if dim.mesh == axes)
