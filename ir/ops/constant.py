"""constant: an array that the step closed over."""

from collections.abc import Mapping, Sequence
from typing import Any

from ir import errors
from ir.graph import Node
from ir.ops.op import Op, params_of
from ir.ops.rule import Expected, Hole, Piece, must, operands
from ir.ops.spread import Spread, chosen
from ir.ring import in_ring, literal
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

    def spread(self, node: Node) -> Sequence[Spread]:
        """Each device has the array and takes its part."""
        return [chosen(value.type) for value in node.outputs]

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        assert node.origin is not None
        return [shards.part(node.origin.params["value"], node.outputs[0].type)]

    def ring_params(self, node: Node) -> Mapping[str, Any]:
        value = params_of(node)["value"]
        return {"value": literal(value) if in_ring(node.outputs[0].type.dtype) else value}
