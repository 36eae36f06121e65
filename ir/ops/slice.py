"""slice: a part (`static`, `dynamic`, `split`, and `unstack`: the places of one dim, each without it), an update of a
part, a reversal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ir import errors
from ir.graph import Node, Value
from ir.jax_api import jnp
from ir.names import Extent
from ir.ops.dtypes import is_integer
from ir.ops.op import Mismatch, Names, Op, OrderOf, Place, meeting, params_of
from ir.ops.rule import (
    Broken,
    Expected,
    Hole,
    Piece,
    Slot,
    changed_dims,
    fit_all,
    like,
    listed,
    must,
    must_list,
    operands,
    same,
    same_dtype,
    without,
)
from ir.ops.spread import ANY, Labels, Spread, Walked, pending, places
from ir.order import Atom, Order, Part, sliced
from ir.shards import Shards
from ir.types import Dim


class Slice(Op):
    """A dim that is cut keeps its place, and its name unless what it meets has another."""

    kind = "slice"
    attributes = frozenset(("along",))
    meetings = {"slice": "an update of {pairs}: a part must have the axes of the whole"}
    fusible = True
    keeps_places = True
    pads = True

    def results(self, node: Node) -> Sequence[Expected]:
        members = {
            "static": _part,
            "dynamic": _part,
            "update": _update,
            "reverse": _reversed,
            "split": _split,
            "unstack": _unstacked,
        }
        must(node.fn in members, Piece("op"), errors.rule_needs(f"one of {', '.join(members)}"))
        operands(node, 1)
        return members[node.fn](node)

    def spread(self, node: Node) -> Sequence[Spread]:
        """Dims that are cut, reversed or taken apart are whole; where a part begins is the same on each device."""
        dims = node.inputs[0].type.dims
        cut = _cut(node)
        kept: list[int | None] = [None if position in cut else position for position in range(len(dims))]
        whole = 2 if node.fn == "update" else 1
        labels: list[Labels] = [kept if i < whole else [] for i in range(len(node.inputs))]
        walked = Walked(node, labels)
        due = pending(node, (range(whole),), ANY)
        if node.fn == "unstack":
            kept = [label for label in kept if label is not None]
        return [walked.result(kept, due) for _ in node.outputs]

    def mismatches(self, node: Node) -> Iterator[Mismatch]:
        if node.fn == "update":
            yield from side_by_side(node, self.kind)

    def blocked(self, node: Node) -> Names:
        return node.names("along")

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """A start is brought into range here: XLA (of jaxlib 0.10) takes a slice of a slice for one slice and forgets
        that the first one's start is, and what is cut for a device's shard is one."""
        if node.fn == "dynamic" and shards.sizes:
            sizes = shards.shape(node.outputs[0].type)
            rooms = [whole - size for whole, size in zip(arrays[0].shape, sizes, strict=True)]
            starts = zip(arrays[1:], rooms, strict=True)
            arrays = [arrays[0], *[_brought_in(start, room) for start, room in starts]]
        return super().bind(node, arrays, shards)

    def local(self, node: Node, params: dict[str, Any], shards: Shards) -> Mapping[str, Any]:
        """Of dims that are not cut, each device takes all that it has."""
        before, after = node.inputs[0].type.dims, node.outputs[0].type.dims
        if "limit_indices" in params:
            whole = [a.size == b.size for a, b in zip(before, after, strict=True)]
            stops = zip(whole, params["limit_indices"], before, strict=True)
            return {**params, "limit_indices": tuple([shards.length(dim) if all_ else n for all_, n, dim in stops])}
        if "slice_sizes" in params:
            return {**params, "slice_sizes": shards.shape(node.outputs[0].type)}
        return params

    def arranged(self, node: Node, order: OrderOf) -> Iterator[tuple[Place, Order]]:
        """A part knows what it is a part of, so that halves that are joined again say how the whole is made."""
        for result, position, extent in extents(node):
            whole, dim = order(node.inputs[0], position), result.type.dims[position]
            array = node.value_inputs[0].id if node.value_inputs else -1
            key = Part(whole, extent, array)
            yield (result, position), sliced(whole, extent) or (Atom(key, dim.size, label=dim.name),)


def _cut(node: Node) -> set[int]:
    """Positions of the dims of which not every device could do its part alone."""
    dims, params = node.inputs[0].type.dims, params_of(node)
    if node.fn == "reverse":
        return set(map(int, params["dimensions"])) if "dimensions" in params else set(places(dims, node.dims("along")))
    if node.fn == "unstack":
        return {int(params["axis"])} if "axis" in params else set(places(dims, node.dims("along")))
    part = node.inputs[1] if node.fn == "update" else node.outputs[0]
    return {position for position, (a, b) in enumerate(zip(dims, part.type.dims, strict=True)) if a.size != b.size}


def extents(node: Node) -> Iterator[tuple[Value, int, Extent]]:
    """What is cut, at places that are known: (result, position of the dim, its part). Nothing of a node that was read
    from text."""
    params, before = params_of(node), node.inputs[0].type.dims
    if node.fn == "static" and "start_indices" in params:
        steps = params["strides"] or (1,) * len(before)
        (result,) = node.outputs
        for position, extent in enumerate(zip(params["start_indices"], params["limit_indices"], steps, strict=True)):
            if before[position].size != result.type.dims[position].size > 1:
                yield result, position, extent
    elif node.fn == "split" and "axis" in params:
        start, axis = 0, int(params["axis"])
        for result in node.outputs:
            stop = start + result.type.dims[axis].size
            if result.type.dims[axis].size > 1:
                yield result, axis, (start, stop, 1)
            start = stop


def _brought_in(start: Any, room: int) -> Any:
    """A start of at least 0 and at most `room`."""
    start = jnp.asarray(start)
    return jnp.clip(start.astype("int32") if start.dtype.itemsize < 4 else start, 0, room)


def side_by_side(node: Node, rule: str) -> Iterator[Mismatch]:
    """Names that meet, dim by dim, in values of the rank of the first operand."""
    first = node.inputs[0].type.dims
    for i, operand in enumerate(node.inputs[1:], start=1):
        if len(operand.type.dims) == len(first):
            for a, b in zip(first, operand.type.dims, strict=True):
                yield from meeting(a, b, rule, (0, i))


def _starts(node: Node, first: int) -> None:
    """Operands that say where a part begins: an integer for each dim."""
    starts = range(first, len(node.inputs))
    must(len(starts) == len(node.inputs[0].type.dims), Piece("op"), errors.rule_needs("a start for each dim"))
    for i in starts:
        type_ = node.inputs[i].type
        if type_.dims or not is_integer(type_.dtype):
            raise Broken(Piece("operand", i), errors.operand_rank(str(type_), "an integer without dims"))


def _part(node: Node) -> list[Expected]:
    type_ = node.inputs[0].type
    if node.fn == "dynamic":
        _starts(node, 1)
    else:
        operands(node, 1, 1)
    out = node.outputs[0].type.dims if node.outputs else ()
    listed(node, "along", type_.dims, "the operand")
    if len(out) != len(type_.dims):
        return [like(type_)]
    must_list(node, "along", changed_dims(type_.dims, out))
    dims: tuple[Slot, ...] = tuple(
        [a if a.size == b.size else Hole(None, at_most=a.size) for a, b in zip(type_.dims, out, strict=True)]
    )
    return [Expected((type_.dtype,), dims)]


def _update(node: Node) -> list[Expected]:
    operands(node, 2)
    _starts(node, 2)
    whole, part = (operand.type for operand in node.inputs[:2])
    same_dtype(node, (0, 1))
    fits = len(part.dims) == len(whole.dims) and all(b <= a for a, b in zip(whole.shape, part.shape, strict=True))
    must(fits, Piece("operand", 1), errors.operand_rank(str(part), f"a part of {whole}"))
    must_list(node, "along", changed_dims(whole.dims, part.dims))
    return [like(whole)]


def _reversed(node: Node) -> list[Expected]:
    (operand,) = operands(node, 1, 1)
    listed(node, "along", operand.type.dims, "the operand")
    return [like(operand.type)]


def _split(node: Node) -> list[Expected]:
    (operand,) = operands(node, 1, 1)
    dims = operand.type.dims
    along = _one(node, dims)
    shapes = [value.type.shape for value in node.outputs]
    for at in (position for position, dim in enumerate(dims) if same(dim, along)):
        if any(len(shape) != len(dims) for shape in shapes) or sum(shape[at] for shape in shapes) != dims[at].size:
            continue
        parts: list[tuple[Slot, ...]] = [
            tuple(Hole(shape[i]) if i == at and shape[i] != dim.size else dim for i, dim in enumerate(dims))
            for shape in shapes
        ]
        if all(fit_all(part, value.type.dims) for part, value in zip(parts, node.outputs, strict=True)):
            return [Expected((operand.type.dtype,), part) for part in parts]
    raise Broken(Piece("result"), errors.rule_needs(f"results of the operand's dims whose sizes add up to {along}"))


def _unstacked(node: Node) -> list[Expected]:
    (operand,) = operands(node, 1, 1)
    along = _one(node, operand.type.dims)
    rests = without(operand.type.dims, (along,))
    out = node.outputs[0].type.dims if node.outputs else ()
    rest = next((rest for rest in rests if fit_all(rest, out)), rests[0])
    return [Expected((operand.type.dtype,), rest)] * along.size


def _one(node: Node, dims: Sequence[Dim]) -> Dim:
    along = listed(node, "along", dims, "the operand")
    must(len(along) == 1, Piece("attribute", key="along"), errors.rule_needs("one dim"))
    return along[0]
