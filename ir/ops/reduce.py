"""reduce: removes the listed dims."""

from collections.abc import Sequence

from ir import errors
from ir.graph import Node
from ir.ops.op import Names, Op, params_of
from ir.ops.rule import Expected, Piece, fit_all, listed, must, operands, same_shape, without
from ir.types import REDUCTIONS, SUM

_BY_SHARDS = REDUCTIONS
"""Members that can be taken of each shard, and then, by a collective, of what the shards gave."""
_INDEX = ("argmax", "argmin")
_INDEX_DTYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


class Reduce(Op):
    """One result for each operand; of a function of the user's, initial values follow the operands."""

    kind = "reduce"
    attributes = frozenset(("over",))
    fuses_operands = True
    placed_by_operands = True

    def results(self, node: Node) -> Sequence[Expected]:
        count = len(node.outputs)
        if node.fn == "function":
            operands(node, 2 * count, 2 * count)
        else:
            operands(node, count, count)
        must(count >= 1, Piece("op"), errors.rule_needs("a result"))
        same_shape(node, range(count))
        expected: list[Expected] = []
        for i, operand in enumerate(node.inputs[:count]):
            dims = operand.type.dims
            over = node.dims("over") if i else listed(node, "over", dims, "the operand")
            left = without(dims, over)
            must(bool(left) or i > 0, Piece("attribute", key="over"), errors.rule_needs("each dim at most once"))
            out = node.outputs[i].type.dims
            if i and not left:  # side by side, under names of its own
                left = [out] if len(out) == len(dims) - len(over) else [dims]
            rest = next((rest for rest in left if fit_all(rest, out)), left[0])
            dtypes = _INDEX_DTYPES if node.fn in _INDEX else (operand.type.dtype,)
            expected.append(Expected(dtypes, rest))
        return expected

    def reduced(self, node: Node) -> Names:
        return node.names("over") if node.fn in _BY_SHARDS else ()

    def blocked(self, node: Node) -> Names:
        return () if node.fn in _BY_SHARDS else node.names("over")

    def targets(self, node: Node) -> Sequence[int | None]:
        before, after = node.inputs[0].type.dims, node.outputs[0].type.dims
        params = params_of(node)
        gone = set(map(int, params["axes"])) if "axes" in params else self._gone(node)
        kept = iter(range(len(after)))
        return [None if position in gone else next(kept, None) for position in range(len(before))]

    def _gone(self, node: Node) -> set[int]:
        """Positions of the dims that go, for a node without its primitive."""
        over = list(node.dims("over"))
        gone: set[int] = set()
        for position, dim in enumerate(node.inputs[0].type.dims):
            if dim in over:
                over.remove(dim)
                gone.add(position)
        return gone

    def keeps_elements(self, node: Node) -> bool:
        return bool(node.value_inputs) and node.value_inputs[0].type.elements == node.outputs[0].type.elements

    def reduction(self, node: Node) -> str:
        return node.fn if node.fn in _BY_SHARDS else SUM

    def sums(self, node: Node) -> bool:
        return node.fn == "sum"
