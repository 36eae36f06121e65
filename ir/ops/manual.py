"""manual: the body of a `shard_map`, which each device runs on its part. Sizes inside are those of the part."""

from collections.abc import Sequence

from ir import errors
from ir.graph import Node
from ir.ops.op import Names, Op, all_names
from ir.ops.rule import OP, Broken, Expected, Hole, Slot, must, same, words
from ir.types import Dim, TensorType


class Manual(Op):
    """A dim that the mesh cuts is a shorter one inside; passes bring the operands replicated."""

    kind = "manual"
    attributes = frozenset(("mesh",))
    sealed = True

    def results(self, node: Node) -> Sequence[Expected]:
        words(node, "mesh")
        must(len(node.bodies) == 1, OP, errors.bodies_do_not_fit("a shard_map has one body"))
        (body,) = node.bodies
        must(len(body.inputs) == len(node.inputs), OP, errors.bodies_do_not_fit("it has an input for each operand"))
        for operand, value in zip(node.inputs, body.inputs, strict=True):
            if not _is_part(value.type, operand.type):
                raise Broken(OP, errors.body_type(body.name, str(value.type), str(operand.type)))
        expected: list[Expected] = []
        for i, result in enumerate(body.outputs):
            out = node.outputs[i].type.dims if i < len(node.outputs) else ()
            expected.append(Expected((result.type.dtype,), _joined(result.type.dims, out)))
        return expected

    def is_whole(self, node: Node) -> bool:
        return True

    def blocked(self, node: Node) -> Names:
        return all_names(node)


def _is_part(inside: TensorType, outside: TensorType) -> bool:
    return (
        inside.dtype == outside.dtype
        and len(inside.dims) == len(outside.dims)
        and all(
            same(a, b) or (0 < a.size < b.size and b.size % a.size == 0)
            for a, b in zip(inside.dims, outside.dims, strict=True)
        )
    )


def _joined(inside: Sequence[Dim], outside: Sequence[Dim]) -> tuple[Slot, ...]:
    """What the parts of the devices make: the dim itself, or one that is a whole number of times as long."""
    if len(inside) != len(outside):
        return tuple(inside)
    pairs = zip(inside, outside, strict=True)
    return tuple([Hole(b.size) if a.size and b.size > a.size and b.size % a.size == 0 else a for a, b in pairs])
