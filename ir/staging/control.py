"""Control flow: how operands of loops, branches and calls reach their bodies.

Bodies are closed: whatever they use comes in as an input. A carried value has one type from the first iteration to the
last, so its dims before the loop, inside it and after it are the same classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ir._compat import expanded, scan_counts
from ir.ops import body_param
from ir.staging.align import renaming
from ir.staging.primitives.registry import Axes, Dims, Draft
from ir.staging.proto import ProtoBody, ProtoNode, ProtoOperand, ProtoValue
from ir.staging.unify import DimClass, Unifier

INLINED = (
    *("jit", "closed_call", "eval_jaxpr"),
    *("custom_jvp_call", "custom_vjp_call", "custom_vmap_call", "remat_opt", "call_hi_primitive"),
)
"""Calls that only group equations."""


def inlined_jaxpr(equation: Any) -> Any | None:
    """The closed jaxpr of a call that only groups equations; None for everything else.

    A `jit` with shardings of its own is not inlined: they are the user's word.
    """
    params = equation.params
    if equation.primitive.name == "call_hi_primitive":
        return expanded(equation)
    if equation.primitive.name not in INLINED:
        return None
    shardings = (*params.get("in_shardings", ()), *params.get("out_shardings", ()))
    if any(type(sharding).__name__ != "UnspecifiedValue" for sharding in shardings):
        return None
    key = body_param(params)
    return params[key] if key is not None and hasattr(params[key], "consts") else None


@dataclass(frozen=True)
class Request:
    """A structured equation: operands, result variables, and a way to make bodies."""

    primitive: str
    params: Mapping[str, Any]
    operands: list[ProtoOperand]
    outvars: Sequence[Any]
    unifier: Unifier
    make_body: Callable[[Any, Sequence[ProtoValue], str], ProtoBody]
    rename: Callable[[ProtoValue, Dims], ProtoNode]

    def returning(self, body: ProtoBody, wanted: Mapping[int, Dims]) -> ProtoBody:
        """The body with some results, by position, as values of the given dims: kin are renamed at its end."""
        nodes, outputs = list(body.nodes), list(body.outputs)
        for i, dims in wanted.items():
            result = outputs[i]
            new = renaming(self.unifier, result.dims, dims) if isinstance(result, ProtoValue) else None
            if new is not None and isinstance(result, ProtoValue):
                nodes.append(self.rename(result, new))
                outputs[i] = nodes[-1].outputs[0]
        return replace(body, nodes=tuple(nodes), outputs=tuple(outputs))

    def dims(self, operand: ProtoOperand) -> Dims:
        return operand.dims if isinstance(operand, ProtoValue) else ()

    def like(self, variable: Any, dims: Dims) -> ProtoValue:
        return ProtoValue(dims, str(variable.aval.dtype))

    def fresh_like(self, operand: ProtoOperand) -> ProtoValue:
        """A body's input of the operand's dims."""
        dtype = operand.dtype if isinstance(operand, ProtoValue) else operand.type.dtype
        return ProtoValue(self.dims(operand), dtype)

    def without_first(self, operand: ProtoOperand) -> ProtoValue:
        """A body's input that is a slice of the operand along its first dim."""
        value = self.fresh_like(operand)
        return ProtoValue(value.dims[1:], value.dtype)


@dataclass(frozen=True)
class StructuredDraft:
    draft: Draft
    operands: Sequence[ProtoOperand]
    outputs: tuple[ProtoValue, ...]
    bodies: tuple[ProtoBody, ...]


def scan(request: Request) -> StructuredDraft:
    """Inputs are constants, carries, stacked values; outputs are carries, stacked results."""
    params, unifier = request.params, request.unifier
    constants, carries = scan_counts(params)
    length = params["length"]
    over = unifier.made(length, "scan")
    inputs = [request.fresh_like(operand) for operand in request.operands[: constants + carries]]
    for operand in request.operands[constants + carries :]:
        dims = request.dims(operand)
        unifier.same(over, dims[0])
        inputs.append(request.without_first(operand))
    body = request.make_body(params["jaxpr"], inputs, "body")
    carried = inputs[constants : constants + carries]
    wanted = {i: value.dims for i, value in enumerate(carried)}
    for i, result in enumerate(body.outputs[carries:], start=carries):
        wanted[i] = _beside(unifier, over, request.dims(result))
    body = request.returning(body, wanted)
    outputs = [request.like(variable, value.dims) for variable, value in zip(request.outvars, carried, strict=False)]
    for variable, result in zip(request.outvars[carries:], body.outputs[carries:], strict=True):
        outputs.append(request.like(variable, (over, *request.dims(result))))
    attrs = {"over": Axes((over,)), "trips": length, "constants": constants, "carries": carries}
    return StructuredDraft(Draft("loop", "scan", (), attrs), request.operands, tuple(outputs), (body,))


def each(request: Request) -> StructuredDraft:
    """Inputs are constants and stacked values; outputs are stacked results."""
    params, unifier = request.params, request.unifier
    constants = params["constants"]
    over = unifier.made(request.outvars[0].aval.shape[0], "each")
    inputs = [request.fresh_like(operand) for operand in request.operands[:constants]]
    for operand in request.operands[constants:]:
        dims = request.dims(operand)
        unifier.same(over, dims[0])
        inputs.append(request.without_first(operand))
    body = request.make_body(params["jaxpr"], inputs, "body")
    body = request.returning(body, {i: _beside(unifier, over, request.dims(v)) for i, v in enumerate(body.outputs)})
    pairs = zip(request.outvars, body.outputs, strict=True)
    outputs = tuple([request.like(variable, (over, *request.dims(result))) for variable, result in pairs])
    attrs = {"over": Axes((over,)), "trips": unifier.size_of(over), "constants": constants}
    return StructuredDraft(Draft("each", "", (), attrs), request.operands, outputs, (body,))


def _beside(unifier: Unifier, over: DimClass, dims: Dims) -> Dims:
    """The dims of a result so that it can be stacked along `over`."""
    return tuple(
        [
            unifier.occurrence(dim, [over, *dims[:i], *dims[i + 1 :]]) if unifier.alike(dim, over) else dim
            for i, dim in enumerate(dims)
        ]
    )


def while_loop(request: Request) -> StructuredDraft:
    """Inputs are the condition's constants, the body's constants, carries; outputs are carries."""
    params = request.params
    in_condition, in_body = params["cond_nconsts"], params["body_nconsts"]
    values = [request.fresh_like(operand) for operand in request.operands]
    condition_constants, body_constants = values[:in_condition], values[in_condition : in_condition + in_body]
    carries = values[in_condition + in_body :]
    again = [ProtoValue(value.dims, value.dtype) for value in carries]
    condition = request.make_body(params["cond_jaxpr"], [*condition_constants, *again], "condition")
    body = request.make_body(params["body_jaxpr"], [*body_constants, *carries], "body")
    body = request.returning(body, {i: value.dims for i, value in enumerate(carries)})
    outputs = tuple(request.like(v, value.dims) for v, value in zip(request.outvars, carries, strict=True))
    attrs = {"condition_constants": in_condition, "constants": in_body, "carries": len(carries)}
    return StructuredDraft(Draft("loop", "while", (), attrs), request.operands, outputs, (condition, body))


def branch(request: Request) -> StructuredDraft:
    """The first input chooses; the others go to every branch; the branches' results are the same dims."""
    bodies: list[ProtoBody] = []
    for i, closed in enumerate(request.params["branches"]):
        inputs = [request.fresh_like(operand) for operand in request.operands[1:]]
        bodies.append(request.make_body(closed, inputs, f"branch{i}"))
    outputs = [
        request.like(variable, request.dims(result))
        for variable, result in zip(request.outvars, bodies[0].outputs, strict=True)
    ]
    wanted = {i: value.dims for i, value in enumerate(outputs)}
    bodies[1:] = [request.returning(body, wanted) for body in bodies[1:]]
    return StructuredDraft(Draft("branch", "switch", (), {}), request.operands, tuple(outputs), tuple(bodies))


def call(request: Request) -> StructuredDraft:
    """A call that must stay one: `jax.checkpoint`, a composite, or a `jit` with shardings of its own."""
    inputs = [request.fresh_like(operand) for operand in request.operands]
    body = request.make_body(request.params[str(body_param(request.params))], inputs, "body")
    outputs = tuple(
        request.like(variable, request.dims(result))
        for variable, result in zip(request.outvars, body.outputs, strict=True)
    )
    return StructuredDraft(Draft("call", _CALL_NAMES[request.primitive], (), {}), request.operands, outputs, (body,))


def linear_solve(request: Request) -> StructuredDraft:
    """Solves A x = b, where A is a function and comes with three more (Aᵀ, and how to solve with either): one
    operation. Running A on the solution, for its names alone, says that A x is b, and so what x is."""
    lengths, functions = request.params["const_lengths"], request.params["jaxprs"]
    constants = [request.fresh_like(operand) for operand in request.operands[: lengths.matvec]]
    known = request.operands[sum(lengths) :]
    solution = tuple(
        request.like(variable, tuple(request.unifier.fresh(size) for size in variable.aval.shape))
        for variable in request.outvars
    )
    for value in solution:
        request.unifier.together(value.dims)
    body = request.make_body(functions.matvec, [*constants, *solution], "matvec")
    for result, operand in zip(body.outputs, known, strict=True):
        request.unifier.same_all(request.dims(result), request.dims(operand))
    taken = [dim for operand in request.operands for dim in request.dims(operand)]
    attrs = {"along": Axes(tuple(dict.fromkeys(map(request.unifier.find, taken))))}
    return StructuredDraft(Draft("linalg", "solve", (), attrs), request.operands, solution, ())


def shard_map(request: Request) -> StructuredDraft:
    """Every device runs the body on its part: a dim that the mesh cuts is a shorter one of the same name inside."""
    unifier = request.unifier

    def crossed(dims: Dims, shape: Sequence[int]) -> Dims:
        """Dims on the other side of the border, where they have these sizes."""
        return tuple(
            dim if unifier.size_of(dim) == size else unifier.resized(dim, size)
            for dim, size in zip(dims, shape, strict=True)
        )

    jaxpr = request.params["jaxpr"]
    inputs = [
        ProtoValue(crossed(request.dims(operand), variable.aval.shape), str(variable.aval.dtype))
        for operand, variable in zip(request.operands, jaxpr.invars, strict=True)
    ]
    body = request.make_body(jaxpr, inputs, "body")
    outputs = tuple(
        request.like(variable, crossed(request.dims(result), variable.aval.shape))
        for variable, result in zip(request.outvars, body.outputs, strict=True)
    )
    mesh = tuple(map(str, request.params["mesh"].axis_names))
    return StructuredDraft(Draft("manual", "shard_map", (), {"mesh": mesh}), request.operands, outputs, (body,))


_CALL_NAMES = {
    "composite": "composite",
    "jit": "jit",
    "remat2": "checkpoint",
}
STRUCTURED: dict[str, Callable[[Request], StructuredDraft]] = {
    "scan": scan,
    "each": each,
    "while": while_loop,
    "cond": branch,
    "custom_linear_solve": linear_solve,
    "shard_map": shard_map,
    **dict.fromkeys(_CALL_NAMES, call),
}
