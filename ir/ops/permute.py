"""permute: each device passes its shard on to another."""

from collections.abc import Sequence
from itertools import product
from typing import Any

from ir import layout_errors
from ir.graph import Node
from ir.jax_api import lax
from ir.ops.move import Move
from ir.ops.rule import Piece
from ir.ops.spread import Misplaced, Spread, described, layout_of
from ir.shards import Shards, chunk_of


class Permute(Move):
    """The dims stay sharded over the same mesh axes; which device has which shard changes."""

    kind = "permute"
    communicates = True
    passes_on = True

    def lays(self, gained: set[str], lost: set[str], paid: set[str], mesh: set[str]) -> str:
        return "" if not (gained or lost or paid) else "no dim to gain or lose a mesh axis"

    def spread(self, node: Node) -> Sequence[Spread]:
        """A dim is sharded over the same mesh axes in another order: shards change devices."""
        before, after = layout_of(node.inputs[0].type), layout_of(node.outputs[0].type)
        if list(map(set, before.dims)) != list(map(set, after.dims)):
            what = layout_errors.permutes_others(described(node.inputs[0]), described(node.outputs[0]))
            raise Misplaced(Piece("result"), what)
        return [Spread(after.dims, before.partial, before.reduction)]

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        before, after = node.inputs[0].type.dims, node.outputs[0].type.dims
        changed = [(a.mesh, b.mesh) for a, b in zip(before, after, strict=True) if a.mesh != b.mesh]
        group = tuple([axis for axis in shards.sizes if any(axis in mesh for pair in changed for mesh in pair)])
        return [lax.ppermute(arrays[0], group, _passed_on(changed, group, shards))]


def _passed_on(
    changed: Sequence[tuple[Sequence[str], Sequence[str]]], group: Sequence[str], shards: Shards
) -> list[tuple[int, int]]:
    """(from, to): who has each shard, and who is to have it, by their places along the mesh axes of a group."""
    places = list(product(*[range(shards.sizes[axis]) for axis in group]))

    def chunks(place: Sequence[int], side: int) -> tuple[int, ...]:
        at = dict(zip(group, place, strict=True))
        return tuple([chunk_of(pair[side], at, shards.sizes) for pair in changed])

    wanted = {chunks(place, 1): i for i, place in enumerate(places)}
    return [(i, wanted[chunks(place, 0)]) for i, place in enumerate(places)]
