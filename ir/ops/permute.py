"""permute: each device passes its shard on to another."""

from collections.abc import Sequence

from ir import layout_errors
from ir.graph import Node
from ir.ops.move import Move
from ir.ops.rule import Piece
from ir.ops.spread import Misplaced, Spread, described, layout_of


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
