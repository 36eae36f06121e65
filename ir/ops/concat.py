"""concat: operands one after the other along one dim, or (`stack`) along a new one, or (`tile`) one operand beside
copies of itself."""

from collections.abc import Iterator, Sequence

from ir import errors
from ir.graph import Node
from ir.ops.op import Mismatch, Names, Op
from ir.ops.rule import (
    Broken,
    Expected,
    Hole,
    Piece,
    Slot,
    fit_all,
    like,
    listed,
    must,
    must_list,
    operands,
    same,
    same_dtype,
    same_shape,
)
from ir.types import Dim


class Concat(Op):
    """A dim that is joined keeps its place, and its name unless what it meets has another."""

    kind = "concat"
    attributes = frozenset(("along",))
    meetings = {"concat": "concatenation of {pairs}: dims at the same place must be the same axis"}
    keeps_places = True
    always_computes = True

    def results(self, node: Node) -> Sequence[Expected]:
        operands(node, 1)
        same_dtype(node, range(len(node.inputs)))
        must(bool(node.outputs), Piece("op"), errors.rule_needs("a result"))
        if node.fn == "stack":
            dims = _stacked(node)
        elif node.fn == "tile":
            dims = _tiled(node)
        else:
            must(not node.fn, Piece("op"), errors.rule_needs("`stack`, `tile` or a plain concatenation"))
            dims = _joined(node)
        return [Expected((node.inputs[0].type.dtype,), dims)]

    def mismatches(self, node: Node) -> Iterator[Mismatch]:
        first = node.inputs[0].type.dims
        for i, operand in enumerate(node.inputs[1:], start=1):
            for a, b in zip(first, operand.type.dims, strict=False):
                if a.name and b.name and a.name != b.name:
                    yield Mismatch(a.name, b.name, a.size if a.size == b.size else None, self.kind, (0, i))

    def joins_unlike(self, node: Node) -> bool:
        return len(node.inputs) != 2 and len(node.outputs[0].type.dims) <= 1

    def blocked(self, node: Node) -> Names:
        return node.names("along")


def _joined(node: Node) -> tuple[Slot, ...]:
    first, out = node.inputs[0].type.dims, node.outputs[0].type.dims
    along = listed(node, "along", first, "the first operand")
    must(len(along) == 1, Piece("attribute", key="along"), errors.rule_needs("one dim"))
    answer: tuple[Slot, ...] | None = None
    broken: Broken | None = None
    for at in (position for position, dim in enumerate(first) if same(dim, along[0])):
        try:
            dims = _joined_at(node, first, at)
        except Broken as problem:
            broken = broken or problem
            continue
        if answer is None or fit_all(dims, out):
            answer = dims
    if answer is None:
        raise broken or Broken(Piece("attribute", key="along"), errors.rule_needs("a dim of the first operand"))
    return answer


def _joined_at(node: Node, first: tuple[Dim, ...], at: int) -> tuple[Slot, ...]:
    total = 0
    for i, operand in enumerate(node.inputs):
        shape = operand.type.shape
        alike = len(shape) == len(first) and all(p == at or shape[p] == dim.size for p, dim in enumerate(first))
        must(alike, Piece("operand", i), errors.operand_shape(str(operand.type), f"the first but for {first[at]}"))
        total += shape[at]
    new: Slot = first[at] if total == first[at].size else Hole(total)
    return (*first[:at], new, *first[at + 1 :])


def _stacked(node: Node) -> tuple[Slot, ...]:
    same_shape(node, range(len(node.inputs)))
    first, out = node.inputs[0].type.dims, node.outputs[0].type.dims
    along = listed(node, "along", out, "the result")
    fits = len(along) == 1 and along[0].size == len(node.inputs)
    must(fits, Piece("attribute", key="along"), errors.rule_needs(f"one dim of size {len(node.inputs)}"))
    for at in range(len(first) + 1):
        dims = (*first[:at], along[0], *first[at:])
        if fit_all(dims, out):
            return dims
    return (along[0], *first)


def _tiled(node: Node) -> tuple[Slot, ...]:
    (operand,) = operands(node, 1, 1)
    dims, out = operand.type.dims, node.outputs[0].type.dims
    if len(dims) != len(out):
        return like(operand.type).dims or ()
    must_list(node, "along", [a for a, b in zip(dims, out, strict=True) if a.size != b.size])
    whole = all(b.size == a.size or (a.size and b.size % a.size == 0) for a, b in zip(dims, out, strict=True))
    must(whole, Piece("result"), errors.rule_needs("whole copies of the operand"))
    return tuple([a if a.size == b.size else Hole(b.size) for a, b in zip(dims, out, strict=True)])
