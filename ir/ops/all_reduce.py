"""all_reduce: pays a pending reduction; every device has the result."""

from collections.abc import Sequence
from typing import Any

from ir.graph import Node
from ir.jax_api import lax
from ir.ops.move import Move, reduced
from ir.ops.spread import Spread
from ir.shards import Shards
from ir.types import SUM


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
        if before.reduction == SUM:
            return [lax.psum(array, axes)]
        made = _REDUCE[before.reduction](array.astype("uint8") if array.dtype == bool else array, axes)
        return [made.astype(array.dtype)]


_REDUCE: dict[str, Any] = {"max": lax.pmax, "min": lax.pmin, "or": lax.pmax, "and": lax.pmin}
