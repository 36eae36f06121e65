"""constant: an array that the step closed over."""

from collections.abc import Sequence
from typing import Any

from ir import errors
from ir.graph import Node
from ir.ops.op import Op
from ir.ops.rule import Expected, Hole, Piece, must, operands
from ir.shards import Shards


class Constant(Op):
    """A traced node keeps the array itself."""

    kind = "constant"
    holds_array = True

    def results(self, node: Node) -> Sequence[Expected]:
        operands(node, 0, 0)
        must(bool(node.outputs), Piece("op"), errors.rule_needs("a result"))
        array: Any = node.origin.params.get("value") if node.origin is not None else None
        if array is None or not hasattr(array, "dtype"):
            return [Expected((), node.outputs[0].type.dims)]
        return [Expected((str(array.dtype),), tuple(Hole(int(size)) for size in array.shape))]

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        assert node.origin is not None
        return [shards.part(node.origin.params["value"], node.outputs[0].type)]
