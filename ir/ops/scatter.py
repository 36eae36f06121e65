"""scatter: writes the third operand into the first, or combines it, at the indices in the second."""

from collections.abc import Iterator, Sequence

from ir import errors
from ir.graph import Node
from ir.ops.indexed import Indexed, looked_up, must_interleave, places_of
from ir.ops.op import Names, Place, names_of, paired, params_of
from ir.ops.rule import Expected, Piece, like, must, operands, same_dtype
from ir.ops.spread import Spread, Walked, joined, nothing_pending, pending

_MEMBERS = ("set", "add", "mul", "min", "max", "sub")
_ADDING = ("add", "sub")
_EXTREMES = ("min", "max")


class Scatter(Indexed):
    """The result is the operand, changed in places; updates have the dims of the indices and of what they change."""

    kind = "scatter"
    meetings = {"scatter": "a scatter of {pairs}: what is written must have the axes of where it goes"}
    keeps_places = True

    def results(self, node: Node) -> Sequence[Expected]:
        operands(node, 3, 3)
        must(node.fn in _MEMBERS, Piece("op"), errors.rule_needs(f"one of {', '.join(_MEMBERS)}"))
        along, whole, pairs = looked_up(node)
        same_dtype(node, (0, 2))
        must_interleave(node, Piece("operand", 2), node.inputs[2].type.dims, along, whole, pairs)
        return [like(node.inputs[0].type)]

    def spread(self, node: Node) -> Sequence[Spread]:
        """Updates that are added may be sharded along what is looked up by: each device adds its own, and the result is
        partial. A place that is looked up belongs to one device, which alone writes it."""
        found = places_of(node, node.inputs[2])
        rank = len(node.inputs[0].type.dims)
        adding = node.fn in _ADDING
        summed = {label for label in found.indices if label is not None and label >= rank}
        whole = found.cut if adding else found.cut | found.looked_up
        whole = whole if adding or node.fn in _EXTREMES else whole | summed
        walked = Walked(node, [range(rank), found.indices, found.mixed], whole)
        if adding:
            due = pending(node, ((0, 2),))
        else:
            due = joined(node, node.fn) if node.fn in _EXTREMES else nothing_pending(node)
        return [walked.result(range(rank), due, summed, node.fn if node.fn in _EXTREMES else "sum")]

    def links(self, node: Node) -> Iterator[tuple[Place, Place]]:
        operand, indices, updates = node.inputs
        yield from paired(operand, range(len(operand.type.dims)), node.outputs[0])
        if "dimension_numbers" not in (params := params_of(node)):
            return
        numbers = params["dimension_numbers"]
        inserted = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
        windows = iter([axis for axis in range(len(operand.type.dims)) if axis not in inserted])
        batch = iter(range(len(indices.type.dims) - 1))
        for position, dim in enumerate(updates.type.dims):
            if position not in numbers.update_window_dims:
                yield (updates, position), (indices, next(batch))
            elif operand.type.dims[axis := next(windows)].size == dim.size:
                yield (updates, position), (node.outputs[0], axis)
        pairs = zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True)
        yield from [((operand, a), (indices, b)) for a, b in pairs]

    def reduced(self, node: Node) -> Names:
        if node.fn != "add":
            return ()
        return tuple(sorted(names_of(node.value_inputs[1:]) - names_of(node.outputs)))

    def blocked(self, node: Node) -> Names:
        whole = node.names("whole")
        if node.fn == "add":
            return whole
        gone = names_of(node.value_inputs[1:]) - names_of(node.outputs)
        return (*whole, *sorted(gone), *node.names("along"))
