"""concat: operands one after the other along one dim, or (`stack`) along a new one, or (`tile`) one operand beside
copies of itself."""

from collections.abc import Iterator, Sequence

from ir import errors
from ir.graph import Node, Value
from ir.names import Extent
from ir.ops.op import Mismatch, Names, Op, OrderOf, Place, meeting, params_of
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
from ir.ops.spread import ANY, Labels, Spread, Walked, pending, places
from ir.order import Atom, Axis, Order, Part, merged
from ir.types import Dim


class Concat(Op):
    """A dim that is joined keeps its place. Its parts may be dims of several names."""

    kind = "concat"
    attributes = frozenset(("along",))
    meetings = {"concat": "concatenation of {pairs}: dims at the same place must be the same axis"}
    keeps_places = True
    always_computes = True
    pads = True

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

    def spread(self, node: Node) -> Sequence[Spread]:
        """The dim that is joined is whole, in the operands and in the result."""
        rank = len(node.inputs[0].type.dims)
        due = pending(node, (range(len(node.inputs)),), ANY)
        if node.fn == "stack":
            at = _joined_position(node)
            if at is None:
                at = next(iter(places(node.outputs[0].type.dims, node.dims("along"))), 0)
            labels: Labels = range(rank)
            made: Labels = [*range(at), None, *range(at, rank)]
        else:
            labels = made = [None if position in _joined_places(node) else position for position in range(rank)]
        return [Walked(node, [labels] * len(node.inputs)).result(made, due)]

    def mismatches(self, node: Node) -> Iterator[Mismatch]:
        first, out = node.inputs[0].type.dims, node.outputs[0].type.dims
        if node.fn == "stack":
            out = first
        for i, operand in enumerate(node.inputs[1:], start=1):
            for a, b, made in zip(first, operand.type.dims, out, strict=False):
                if a.size == made.size:  # what is joined may be two axes
                    yield from meeting(a, b, self.kind, (0, i))

    def blocked(self, node: Node) -> Names:
        return node.names("along")

    def joins(self, node: Node) -> bool:
        return not node.fn

    def arranged(self, node: Node, order: OrderOf) -> Iterator[tuple[Place, Order]]:
        result, first = node.outputs[0], node.inputs[0]
        if node.fn == "tile":
            for position, (a, b) in enumerate(zip(first.type.dims, result.type.dims, strict=True)):
                if a.size != b.size and a.size:
                    yield (result, position), _beside(result, position, b.size // a.size, order(first, position))
            return
        at = _joined_position(node)
        if at is None:
            return
        if node.fn == "stack" or first.type.dims[at].size == 1:
            new = result.type.dims[at]
            yield (result, at), (Atom(("side", result.id), new.size, 1, True, new.name),)
            yield from _interleaved(node, at, order)
        elif all(operand == first for operand in node.inputs) or _alike(node, at, order):
            yield (result, at), _beside(result, at, len(node.inputs), order(first, at))
        elif (parts := _parts(node, at, order)) is not None and _follow(
            parts, result.type.dims[at].size, len(node.inputs)
        ):
            size = result.type.dims[at].size // len(node.inputs)
            yield (result, at), _beside(result, at, len(node.inputs), (Atom(("half", result.id), size, label="place"),))


def _joined_position(node: Node) -> int | None:
    """Where the operands stand one after the other; None where nothing tells."""
    dims, out = node.inputs[0].type.dims, node.outputs[0].type.dims
    if node.fn == "stack":
        axis = params_of(node).get("axis")
        return None if axis is None else int(axis)
    return next((i for i, (a, b) in enumerate(zip(dims, out, strict=True)) if a.size != b.size), None)


def _joined_places(node: Node) -> set[int]:
    """The positions of the dims along which operands, or copies, stand one after the other."""
    dims, out, params = node.inputs[0].type.dims, node.outputs[0].type.dims, params_of(node)
    found = {position for position, (a, b) in enumerate(zip(dims, out, strict=True)) if a.size != b.size}
    if "dimension" in params:
        return found | {int(params["dimension"])}
    return found or set(places(dims, node.dims("along")))


def _beside(result: Value, position: int, copies: int, order: Order) -> Order:
    return merged([(Atom(("copies", result.id, position), copies, 1, True),), order])


def _alike(node: Node, position: int, order: OrderOf) -> bool:
    """Whether all operands have the same axes, known by name, at a position."""
    orders = {order(operand, position) for operand in node.inputs}
    return len(orders) == 1 and all(isinstance(atom.key, Axis) for each in orders for atom in each)


def _parts(node: Node, position: int, order: OrderOf) -> list[Extent] | None:
    """Which parts of one dim the operands have at a position; None where they are of several dims, or of none."""
    wholes: set[object] = set()
    found: list[Extent] = []
    for operand in node.inputs:
        if position >= len(operand.type.dims):
            return None
        atoms = order(operand, position)
        key = atoms[0].key if len(atoms) == 1 else None
        if not isinstance(key, Part):
            return None
        wholes.add(key.whole)
        found.append(key.extent)
    return found if len(wholes) == 1 else None


def _follow(parts: Sequence[Extent], size: int, count: int) -> bool:
    """Whether parts are the whole, cut into `count` equal ones."""
    each = size // count
    return sorted(parts) == [(i * each, (i + 1) * each, 1) for i in range(count)]


def _interleaved(node: Node, at: int, order: OrderOf) -> Iterator[tuple[Place, Order]]:
    """Every second element of a dim beside the others of it: places that go in pairs."""
    result, count = node.outputs[0], len(node.inputs)
    for position in range(len(node.inputs[0].type.dims)):
        parts = _parts(node, position, order) if node.fn == "stack" or position != at else None
        if parts is not None and sorted((start, step) for start, _, step in parts) == [
            (i, count) for i in range(count)
        ]:
            target = position + (node.fn == "stack" and position >= at)
            yield (result, target), (Atom(("half", result.id), result.type.dims[target].size, label="place"),)


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
