"""scatter: writes the third operand into the first, or combines it, at the indices in the second."""

from collections.abc import Sequence

from ir import errors
from ir.graph import Node
from ir.ops.indexed import Indexed, looked_up, must_interleave
from ir.ops.op import Names, names_of
from ir.ops.rule import Expected, Piece, like, must, operands, same_dtype

_MEMBERS = ("set", "add", "mul", "min", "max", "sub")


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
