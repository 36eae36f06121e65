"""reduce_scatter: pays a pending reduction, and shards the result."""

from collections.abc import Sequence

from ir import layout_errors
from ir.graph import Node
from ir.ops.move import Move, gaining, must_be_free, reduced, with_dim
from ir.ops.rule import Piece
from ir.ops.spread import Misplaced, Spread, layout_of


class ReduceScatter(Move):
    """Each device gets the sum of one shard."""

    kind = "reduce_scatter"
    communicates = True
    completes_sums = True

    def lays(self, gained: set[str], lost: set[str], paid: set[str], mesh: set[str]) -> str:
        fine = paid == mesh and mesh <= gained and not lost
        return "" if fine else "the reduction over `mesh` to be made and a dim to be sharded over it"

    def spread(self, node: Node) -> Sequence[Spread]:
        """A sum is made, of which each device keeps a shard. Other mesh axes that the same dim gets cost nothing: the
        device cuts its shard."""
        before, mesh, at = layout_of(node.inputs[0].type), node.words("mesh"), gaining(node)
        if before.reduction != "sum" and before.partial:
            raise Misplaced(Piece("operand"), layout_errors.scatters_a_maximum(before.reduction))
        left = reduced(node)
        got = node.outputs[0].type.dims[at].mesh[len(before.dims[at]) :]
        if not set(mesh) <= set(got):
            got = mesh
        must_be_free(node, tuple(axis for axis in got if axis not in mesh))
        return [with_dim(left, at, before.dims[at] + got)]
