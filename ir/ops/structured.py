"""What loops, branches and calls share: bodies that are fed by operands and give results, dim by dim."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ir import errors, layout_errors
from ir.graph import Graph, Node, Operand, Value
from ir.ops.op import Op
from ir.ops.rule import OP, Broken, Expected, Hole, Piece, Slot, fit_all
from ir.ops.spread import Misplaced, Spread, described, is_zero, layout_of, state_text
from ir.types import TensorType


class Structured(Op):
    """Bodies are closed: whatever they use comes in as an input."""

    structured: ClassVar[bool] = True

    def results(self, node: Node) -> Sequence[Expected]:
        try:
            fed, given = self.body_operands(node), self.body_results(node)
        except (KeyError, ValueError, IndexError) as problem:
            raise Broken(OP, errors.bodies_do_not_fit(str(problem))) from problem
        for body, feeds in fed:
            for operand, value, scanned in feeds:
                if not crosses(operand.type, value.type, scanned):
                    raise Broken(OP, errors.body_type(body.name, str(value.type), str(operand.type)))
        for body, results in given:
            for operand, value, stacked in results:
                if not same_sizes(value.type, operand.type, stacked):
                    raise Broken(OP, errors.body_gives(body.name, str(operand.type), str(value.type)))
        return self.made(node)

    def made(self, node: Node) -> Sequence[Expected]:
        """The types of the results, of bodies that fit."""
        return [Expected((operand.type.dtype,), operand.type.dims) for operand in node.bodies[0].outputs]

    def spread(self, node: Node) -> Sequence[Spread]:
        """What goes in and out of a body keeps its layout on the way; the body is looked at by itself. What a loop
        carries keeps its layout from trip to trip, and what it scans over is whole."""
        self.decided(node)
        for _, feeds in self.body_operands(node):
            for operand, inside, scanned in feeds:
                at = next((i for i, each in enumerate(node.inputs) if each is operand), 0)
                _keeps(Piece("operand", at), operand, inside, scanned)
        for i, (before, after) in enumerate(self.carries(node)):
            if not _alike(after, before):
                raise Misplaced(Piece("result", i), layout_errors.carry_changes(described(before), described(after)))
        made: list[Spread | None] = [None] * len(node.outputs)
        zeros: set[int] = set()
        for _, results in self.body_results(node):
            for i, (inside, _, stacked) in enumerate(results):
                own = _stacked(layout_of(inside.type), stacked)
                known = made[i]
                if known is not None and i not in zeros and not known.agrees(own) and not is_zero(inside):
                    raise Misplaced(
                        Piece("result", i),
                        layout_errors.bodies_differ(state_text(known, inside.type), described(inside)),
                    )
                if known is None or i in zeros:
                    made[i] = own
                    zeros = zeros | {i} if is_zero(inside) else zeros - {i}
        for i in zeros:  # a literal zero is whatever the result says
            made[i] = layout_of(node.outputs[i].type)
        return [
            each if each is not None else layout_of(value.type) for each, value in zip(made, node.outputs, strict=True)
        ]

    def decided(self, node: Node) -> None:
        """Raises `Misplaced` where devices could take different ways through the bodies."""


def replicated_choice(piece: Piece, operand: Operand) -> None:
    """Raises `Misplaced` where what decides is not the same on each device."""
    if operand.type.partial or any(dim.mesh for dim in operand.type.dims):
        raise Misplaced(piece, layout_errors.predicate_not_replicated(described(operand)))


def meeting_axes(body: Graph) -> set[str]:
    """The mesh axes along which devices need one another in a body."""
    return {axis for node in body.walk() for axis in node.words("mesh")}


def _stacked(spread: Spread, stacked: bool) -> Spread:
    return Spread(((), *spread.dims), spread.partial, spread.reduction) if stacked else spread


def _keeps(piece: Piece, outside: Operand, inside: Value, scanned: bool) -> None:
    within = layout_of(inside.type)
    if not layout_of(outside.type).agrees(_stacked(within, scanned)) and not is_zero(outside):
        raise Misplaced(piece, layout_errors.two_layouts_cross(str(outside), described(outside), described(inside)))


def _alike(after: Operand, before: Value) -> bool:
    return is_zero(after) or layout_of(after.type).agrees(layout_of(before.type))


def crosses(outside: TensorType, inside: TensorType, scanned: bool) -> bool:
    """Whether a value may enter a body as another: the same dims, or all but the one that a loop scans over."""
    dims: Sequence[Slot] = outside.dims
    if scanned:
        if not dims:
            return False
        dims = dims[1:]
    return outside.dtype == inside.dtype and fit_all(dims, inside.dims)


def same_sizes(outside: TensorType, inside: TensorType, stacked: bool) -> bool:
    """Whether a result may leave a body as another, whatever the two are called (see `Op.mismatches`)."""
    shape = outside.shape[1:] if stacked else outside.shape
    return outside.dtype == inside.dtype and shape == inside.shape and len(outside.shape) == len(inside.shape) + stacked


def sizes_only(type_: TensorType) -> Expected:
    return Expected((type_.dtype,), tuple([Hole(size) for size in type_.shape]))


_BODY_PARAMS = ("call_jaxpr", "jaxpr", "call", "fwd_jaxpr")


def body_param(params: Mapping[str, Any]) -> str | None:
    """Under which of its names JAX keeps the body of a call; None where there is none."""
    return next((key for key in _BODY_PARAMS if hasattr(params.get(key), "eqns")), None)
