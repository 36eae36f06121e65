"""reshard: each device keeps its part of what it has already; nothing is sent."""

from collections.abc import Sequence
from typing import Any

from ir.graph import Node
from ir.ops.move import Move, axes_gained, gained, gaining, must_be_free, with_dim
from ir.ops.spread import Spread, layout_of
from ir.shards import Shards


class Reshard(Move):
    """A dim, which was replicated over some mesh axes, is sharded over them."""

    kind = "reshard"
    fusible = True
    slices_shards = True

    def lays(self, gained: set[str], lost: set[str], paid: set[str], mesh: set[str]) -> str:
        return "" if gained == mesh and not lost and not paid else "a dim to be sharded over `mesh`, and no more"

    def spread(self, node: Node) -> Sequence[Spread]:
        """A shard is cut further: the mesh axes that come are the innermost ones."""
        before, at, mesh = layout_of(node.inputs[0].type), gaining(node), node.words("mesh")
        must_be_free(node, mesh)
        return [with_dim(before, at, before.dims[at] + gained(node, at))]

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        (array,) = arrays
        for position, axes in axes_gained(node):
            array = shards.cut(array, position, axes)
        return [array]
