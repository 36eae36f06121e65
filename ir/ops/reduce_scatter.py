"""reduce_scatter: pays a pending reduction, and shards the result."""

from collections.abc import Mapping, Sequence
from typing import Any

from ir import layout_errors
from ir.graph import Node
from ir.jax_api import laid, lax
from ir.ops.move import Move, axes_gained, gaining, must_be_free, reduced, scattered_sum, with_dim
from ir.ops.op import Sent
from ir.ops.rule import Piece
from ir.ops.spread import Misplaced, Spread, layout_of
from ir.shards import Shards
from ir.types import IN_ORDER, SUMS


class ReduceScatter(Move):
    """Each device gets the sum of one shard.

    For the compiler alone (`passes.for_tpu`), and of no meaning: `layout`, the positions of the operand's dims from the
    outermost to the innermost in memory; `stacked`, that the operand is written as a stack of shards, of which each
    device gets one.
    """

    kind = "reduce_scatter"
    attributes = Move.attributes | {"layout", "stacked"}
    communicates = True
    scatters = True
    completes_sums = True

    def lays(self, gained: set[str], lost: set[str], paid: set[str], mesh: set[str]) -> str:
        fine = paid == mesh and mesh <= gained and not lost
        return "" if fine else "the reduction over `mesh` to be made and a dim to be sharded over it"

    def spread(self, node: Node) -> Sequence[Spread]:
        """A sum is made, of which each device keeps a shard. Other mesh axes that the same dim gets cost nothing: the
        device cuts its shard."""
        before, mesh, at = layout_of(node.inputs[0].type), node.words("mesh"), gaining(node)
        if before.reduction not in SUMS and before.partial:
            raise Misplaced(Piece("operand"), layout_errors.scatters_a_maximum(before.reduction))
        left = reduced(node)
        got = node.outputs[0].type.dims[at].mesh[len(before.dims[at]) :]
        if not set(mesh) <= set(got):
            got = mesh
        must_be_free(node, tuple(axis for axis in got if axis not in mesh))
        return [with_dim(left, at, before.dims[at] + got)]

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        (array,), ((position, gained),) = arrays, axes_gained(node)
        before, after = node.inputs[0].type.partial, node.outputs[0].type.partial
        summed = tuple([axis for axis in gained if axis in before and axis not in after])
        if summed != gained:
            array = _cut_between(array, position, gained, summed, shards)
        if node.inputs[0].type.reduction == IN_ORDER or shards.ordered:
            return [scattered_sum(array, summed, position)]
        order = node.attrs.get("layout")
        if isinstance(order, tuple) and shards.tiled:
            array = laid(array, [position for position in order if isinstance(position, int)])
        if node.attrs.get("stacked"):
            count = shards.count(summed)
            array = array.reshape(*array.shape[:position], count, -1, *array.shape[position + 1 :])
            return [lax.psum_scatter(array, summed, scatter_dimension=position, tiled=False)]
        return [lax.psum_scatter(array, summed, scatter_dimension=position, tiled=True)]

    def sends(self, node: Node, sizes: Mapping[str, int]) -> Sequence[Sent]:
        """A sum in order is an exchange: each device gets what the others have of its shard, and adds."""
        if node.inputs[0].type.reduction != IN_ORDER:
            return super().sends(node, sizes)
        return [("all_to_all", node.count("bytes"))]


def _cut_between(array: Any, position: int, gained: Sequence[str], summed: Sequence[str], shards: Shards) -> Any:
    """Of a dim that gains mesh axes by a scatter and others for free, in whatever order, the chunks of the latter."""
    shape = array.shape
    counts = [shards.sizes[axis] for axis in gained]
    chunk = shape[position] // shards.count(gained)
    array = array.reshape(*shape[:position], *counts, chunk, *shape[position + 1 :])
    for i, axis in enumerate(gained):
        if axis not in summed:
            array = lax.dynamic_slice_in_dim(array, shards.index((axis,)), 1, position + i)
    return array.reshape(*shape[:position], chunk * shards.count(summed), *shape[position + 1 :])
