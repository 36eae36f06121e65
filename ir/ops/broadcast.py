"""broadcast: repeats along the dims that the result has and the operand lacks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ir import errors
from ir.graph import Node
from ir.names import is_derived
from ir.ops.op import Op, OrderOf, Place, matched, params_of
from ir.ops.rule import Broken, Expected, Piece, operands, same
from ir.ops.spread import ANY, Spread, chosen, is_zero, pending
from ir.order import Atom, Order
from ir.shards import Shards
from ir.types import SUM, Dim


class Broadcast(Op):
    """The operand's dims stand in the result in their order; one of size 1 may be another, repeated, there."""

    kind = "broadcast"
    fusible = True
    repeats_places = True
    stays_proportional = True
    pads = True

    def results(self, node: Node) -> Sequence[Expected]:
        (operand,) = operands(node, 1, 1)
        out = node.outputs[0].type.dims if node.outputs else ()
        if not _within(operand.type.dims, out):
            needs = errors.rule_needs(f"the operand's dims in their order, {operand.type}, among those of the result")
            raise Broken(Piece("result"), needs)
        return [Expected((operand.type.dtype,), out)]

    def spread(self, node: Node) -> Sequence[Spread]:
        """A dim of the operand stays sharded as it is; a new one is what each device makes of it. A literal zero is the
        sum of zeros, so it may be partial."""
        (operand,), type_ = node.inputs, node.outputs[0].type
        kept = {
            target: dim.mesh
            for dim, target in zip(operand.type.dims, self.targets(node), strict=True)
            if target is not None and dim.size == type_.dims[target].size
        }
        due = pending(node, ((0,),), ANY)
        if is_zero(operand) and type_.reduction == SUM:
            due = Spread((), type_.partial)
        return [Spread(chosen(type_, kept).dims, due.partial, due.reduction)]

    def targets(self, node: Node) -> Sequence[int | None]:
        before, after = node.inputs[0].type.dims, node.outputs[0].type.dims
        params = params_of(node)
        if "broadcast_dimensions" in params:
            return list(map(int, params["broadcast_dimensions"]))
        return matched(before, after)

    def is_operand(self, node: Node) -> bool:
        return node.inputs[0].type.elements == node.outputs[0].type.elements

    def arranged(self, node: Node, order: OrderOf) -> Iterator[tuple[Place, Order]]:
        """Along a new dim, and one that was of size 1, the operand is copied."""
        operand, result = node.inputs[0], node.outputs[0]
        kept = {
            target
            for position, target in enumerate(self.targets(node))
            if target is not None and operand.type.dims[position].size == result.type.dims[target].size
        }
        for position, dim in enumerate(result.type.dims):
            if position not in kept and dim.size > 1 and (dim.name is None or is_derived(dim.name)):
                yield (result, position), (Atom(("copies", result.id, position), dim.size, 1, True, dim.name),)

    def local(self, node: Node, params: dict[str, Any], shards: Shards) -> Mapping[str, Any]:
        return {**params, "shape": shards.shape(node.outputs[0].type)}

    def widens(self, node: Node) -> bool:
        return True

    def keeps_elements(self, node: Node) -> bool:
        return bool(node.value_inputs) and node.value_inputs[0].type.elements == node.outputs[0].type.elements


def _within(dims: Sequence[Dim], out: Sequence[Dim]) -> bool:
    """Whether `out` has `dims` in their order. Taking the first place that fits leaves most for those behind."""
    at = 0
    for dim in dims:
        while at < len(out) and not (same(dim, out[at]) or dim.size == 1):
            at += 1
        if at == len(out):
            return False
        at += 1
    return True
