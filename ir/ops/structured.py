"""What loops, branches and calls share: bodies that are fed by operands and give results, dim by dim."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ir import errors
from ir.graph import Node
from ir.ops.op import Op
from ir.ops.rule import OP, Broken, Expected, Hole, Slot, fit_all
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
