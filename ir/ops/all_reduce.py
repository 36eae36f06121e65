"""all_reduce: pays a pending reduction; every device has the result."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from haliax.core.in_order import tree_sum
from ir.graph import Node
from ir.jax_api import lax
from ir.ops.move import Move, reduced, scattered_sum
from ir.ops.op import Sent
from ir.ops.spread import Spread
from ir.shards import Shards
from ir.types import IN_ORDER, SUM, TensorType


class AllReduce(Move):
    """A reduce-scatter and an all-gather in one."""

    kind = "all_reduce"
    communicates = True
    completes_sums = True
    crossings = 2.0
    scattered = "reduce_scatter"

    def lays(self, gained: set[str], lost: set[str], paid: set[str], mesh: set[str]) -> str:
        fine = paid == mesh and not gained and not lost
        return "" if fine else "the reduction over `mesh` to be made, and no dim to move"

    def spread(self, node: Node) -> Sequence[Spread]:
        """Nothing is pending over `mesh` any more."""
        return [reduced(node)]

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        (array,), before = arrays, node.inputs[0].type
        axes = tuple([axis for axis in before.partial if axis not in node.outputs[0].type.partial])
        if before.reduction == SUM and not shards.ordered:
            return [lax.psum(array, axes)]
        if before.reduction in (SUM, IN_ORDER):
            at = _cut_at(before, shards.sizes, axes)
            if at is None:
                return [tree_sum(lax.all_gather(array, axes))]
            return [lax.all_gather(scattered_sum(array, axes, at), axes, axis=at, tiled=True)]
        made = _REDUCE[before.reduction](array.astype("uint8") if array.dtype == bool else array, axes)
        return [made.astype(array.dtype)]

    def sends(self, node: Node, sizes: Mapping[str, int]) -> Sequence[Sent]:
        """A sum in order is an exchange of what devices have and a gather of the sums, or, where it is too small to be
        cut, a gather of all that devices have."""
        type_, axes = node.inputs[0].type, node.words("mesh")
        if type_.reduction != IN_ORDER:
            return super().sends(node, sizes)
        volume = node.count("bytes")
        if _cut_at(type_, sizes, axes) is None:
            return [("all_gather", volume * prod(sizes[axis] for axis in axes))]
        return [("all_to_all", volume), ("all_gather", volume)]


_LEAST_CUT = 4096
"""Elements of a device below which one collective is faster than two."""


def _cut_at(type_: TensorType, sizes: Mapping[str, int], axes: Sequence[str]) -> int | None:
    """The dim along which a sum in order is shared out: the first that the devices divide; None where there is none, or
    the value is small."""
    count = prod(sizes[axis] for axis in axes)
    local = [dim.size // prod(sizes[axis] for axis in dim.mesh) for dim in type_.dims]
    if prod(local) < _LEAST_CUT:
        return None
    return next((at for at, size in enumerate(local) if size % count == 0), None)


_REDUCE: dict[str, Any] = {"max": lax.pmax, "min": lax.pmin, "or": lax.pmax, "and": lax.pmin}
