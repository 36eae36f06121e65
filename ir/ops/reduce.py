"""reduce: removes the listed dims."""

from collections.abc import Collection, Sequence
from typing import Any

from ir import errors
from ir.graph import Node
from ir.ops.op import Names, Op, params_of
from ir.ops.padding import Filling
from ir.ops.rule import Expected, Piece, fit_all, listed, must, operands, same_shape, without
from ir.ops.spread import ANY, Spread, Walked, joined, nothing_pending, pending, places
from ir.ring import RING, mixed, ring_dtype
from ir.shards import Shards
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
    pads = True

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

    def spread(self, node: Node) -> Sequence[Spread]:
        """A sum of shards is partial over what shards them; so is a max, by max."""
        rank = len(node.inputs[0].type.dims)
        labels = [list(range(rank)) if operand.type.dims else [] for operand in node.inputs]
        gone = {position for position, target in enumerate(self.targets(node)) if target is None}
        walked = Walked(node, labels, () if node.fn in ANY else gone)
        if node.fn == "sum":
            due = pending(node, tuple((i,) for i in range(len(node.inputs))))
        else:
            due = joined(node, node.fn) if node.fn in ANY else nothing_pending(node)
        kept = [position for position in range(rank) if position not in gone]
        return [walked.result(kept, due, gone, node.fn if node.fn in ANY else "sum") for _ in node.outputs]

    def reduced(self, node: Node) -> Names:
        return node.names("over") if node.fn in _BY_SHARDS else ()

    def blocked(self, node: Node) -> Names:
        return () if node.fn in _BY_SHARDS else node.names("over")

    def padding(self, node: Node, names: Collection[str]) -> Sequence[Filling] | None:
        """What is reduced away must change nothing."""
        if set(self.replicated(node)) & set(names):
            return None
        return [{name: self.reduction(node) for name in self.reduced(node) if name in names}] * len(node.inputs)

    def shadow(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """A function of the user's is another sum of all that it reduces: it never meets a part of it."""
        if node.fn != "function":
            return super().shadow(node, arrays, shards)
        axes, count = tuple(params_of(node)["dimensions"]), len(node.outputs)
        sums = [mixed([array], "reduce").sum(axis=axes, dtype=RING) for array in arrays[:count]]
        made = [mixed([total, first], "reduce") for total, first in zip(sums, arrays[count:], strict=True)]
        return [each.astype(ring_dtype(value.type.dtype)) for each, value in zip(made, node.outputs, strict=True)]

    def targets(self, node: Node) -> Sequence[int | None]:
        before, after = node.inputs[0].type.dims, node.outputs[0].type.dims
        params = params_of(node)
        gone = set(map(int, params["axes"])) if "axes" in params else self._gone(node)
        kept = iter(range(len(after)))
        return [None if position in gone else next(kept, None) for position in range(len(before))]

    def _gone(self, node: Node) -> set[int]:
        """Positions of the dims that go, for a node without its primitive."""
        return set(places(node.inputs[0].type.dims, node.dims("over")))

    def keeps_elements(self, node: Node) -> bool:
        return bool(node.value_inputs) and node.value_inputs[0].type.elements == node.outputs[0].type.elements

    def reduction(self, node: Node) -> str:
        return node.fn if node.fn in _BY_SHARDS else SUM

    def sums(self, node: Node) -> bool:
        return node.fn == "sum"
