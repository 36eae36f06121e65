"""ring_permute: each device passes its shard on to the next one along some mesh axes, the last one to the first.

Such a shard belongs to another device, so the result is not the value that the operand is. It stands only in the bodies
of an op whose values go round (`Op.rounds`), which says what that is good for.
"""

from collections.abc import Sequence
from typing import Any

from ir import errors
from ir.graph import Node
from ir.jax_api import lax
from ir.ops.op import Op
from ir.ops.rule import Expected, Piece, count, like, must, operands, words
from ir.ops.spread import Spread, layout_of
from ir.shards import Shards


class RingPermute(Op):
    """`axis` is the name that is sharded over the mesh axes `mesh`, outermost first; `bytes` are those of one shard."""

    kind = "ring_permute"
    attributes = frozenset(("axis", "mesh", "bytes", "moving"))
    communicates = True
    passes_on = True
    one_way = True
    crossings = 1.0

    @property
    def moves_data_only(self) -> bool:
        return False

    def results(self, node: Node) -> Sequence[Expected]:
        (operand,) = operands(node, 1, 1)
        words(node, "mesh")
        if "bytes" in node.attrs:
            count(node, "bytes")
        must(len(node.outputs) == 1, Piece("op"), errors.rule_needs("one result"))
        return [like(operand.type)]

    def spread(self, node: Node) -> Sequence[Spread]:
        """Shards are laid out as before: each device has that of the one before it."""
        return [layout_of(node.inputs[0].type)]

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        axes = node.words("mesh")
        devices = shards.count(axes)
        return [lax.ppermute(arrays[0], axes, [(i, (i + 1) % devices) for i in range(devices)])]

    def sends(self, node: Node, sizes: Any) -> Sequence[tuple[str, int]]:
        """One permute."""
        return [("permute", node.count("bytes"))]
