"""all_reduce: pays a pending reduction; every device has the result."""

from collections.abc import Sequence

from ir.graph import Node
from ir.ops.move import Move, reduced
from ir.ops.spread import Spread


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
