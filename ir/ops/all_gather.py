"""all_gather: a dim that was sharded is replicated."""

from collections.abc import Sequence
from typing import Any

from ir.graph import Node
from ir.jax_api import lax
from ir.ops.move import Move, axes_lost, losing, with_dim
from ir.ops.spread import Spread, layout_of
from ir.shards import Shards


class AllGather(Move):
    """Each device gets the shards of all others."""

    kind = "all_gather"
    communicates = True
    gathers = True

    def lays(self, gained: set[str], lost: set[str], paid: set[str], mesh: set[str]) -> str:
        return "" if lost == mesh and not gained and not paid else "a dim to leave the axes of `mesh`, and no more"

    def spread(self, node: Node) -> Sequence[Spread]:
        """Shards that follow one another become one: those of the innermost mesh axes of a dim."""
        return [with_dim(layout_of(node.inputs[0].type), *losing(node))]

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        ((position, axes),) = axes_lost(node)
        return [lax.all_gather(arrays[0], axes, axis=position, tiled=True)]
