"""reshard: each device keeps its part of what it has already; nothing is sent."""

from collections.abc import Sequence
from typing import Any

from ir.graph import Node
from ir.ops.move import Move, axes_gained
from ir.shards import Shards


class Reshard(Move):
    """A dim, which was replicated over some mesh axes, is sharded over them."""

    kind = "reshard"
    fusible = True
    slices_shards = True

    def lays(self, gained: set[str], lost: set[str], paid: set[str], mesh: set[str]) -> str:
        return "" if gained == mesh and not lost and not paid else "a dim to be sharded over `mesh`, and no more"

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        (array,) = arrays
        for position, axes in axes_gained(node):
            array = shards.cut(array, position, axes)
        return [array]
