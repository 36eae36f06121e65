"""all_to_all: mesh axes go from one dim to another."""

from collections.abc import Sequence
from typing import Any

from ir.graph import Node
from ir.jax_api import lax
from ir.ops.move import Move, axes_gained, axes_lost, gaining, losing, with_dim
from ir.ops.spread import Spread, layout_of
from ir.shards import Shards


class AllToAll(Move):
    """Each device keeps as much as it had, of another dim."""

    kind = "all_to_all"
    communicates = True
    exchanges = True

    def lays(self, gained: set[str], lost: set[str], paid: set[str], mesh: set[str]) -> str:
        fine = gained == mesh and lost == mesh and not paid
        return "" if fine else "the axes of `mesh` to go from one dim to another"

    def spread(self, node: Node) -> Sequence[Spread]:
        """The innermost mesh axes of one dim become the innermost ones of another."""
        before, at = layout_of(node.inputs[0].type), gaining(node)
        position, axes = losing(node)
        left = with_dim(before, position, axes)
        return [with_dim(left, at, left.dims[at] + before.dims[position][len(axes) :])]

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        ((cut, _),), ((joined, axes),) = axes_gained(node), axes_lost(node)
        return [lax.all_to_all(arrays[0], axes, split_axis=cut, concat_axis=joined, tiled=True)]
