"""A function with its calls inlined and its equal operations merged, before a compiler sees it.

XLA's rewrites depend on how many readers a value has: `a / broadcast(b)` becomes `a * broadcast(1 / b)`, which has
other bits, where nothing else reads the broadcast. For several devices a program is taken through a partitioner that
merges equal operations first, for one it is not. What is merged already is the same for both. That holds for what a
primitive of ours is made of as well (`composite`): the attention of a layer that is computed again for the backward
pass, say, has its softmax in common with the primitive that is the backward pass of attention.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Literal, Primitive
from jax.interpreters import mlir

_CHECKPOINTS = ("remat2", "checkpoint")
_CALLS = ("jit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", *_CHECKPOINTS)
BROADCASTING = frozenset(
    (
        *("add", "add_any", "sub", "mul", "div", "rem", "max", "min", "pow", "atan2", "nextafter", "select_n", "clamp"),
        *("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor"),
    )
)
"""Elementwise operations, whose smaller operands are repeated to the size of the result."""
_BODIES = ("call_jaxpr", "jaxpr", "fun_jaxpr")


@dataclass(frozen=True)
class Target:
    """What a program is compiled for: the platform, and how many devices share its arrays (None: nobody knows)."""

    platform: str
    devices: int | None

    @staticmethod
    def of(context: Any) -> "Target | None":
        """That of the context of a lowering; None where it is for several platforms."""
        platforms = context.module_context.platforms
        return Target(platforms[0], devices_of(context)) if len(platforms) == 1 else None


def devices_of(context: Any) -> int | None:
    """How many devices share the arrays of a program; None where that is not known."""
    around = context.module_context.axis_context
    if isinstance(around, mlir.ShardingContext):
        return around.num_devices
    if isinstance(around, mlir.SPMDAxisContext):
        return 1 if set(around.manual_axes) == set(around.mesh.axis_names) else None
    return None


_composites: dict[Primitive, Callable[..., Callable[..., Any]]] = {}
_target: ContextVar[Target | None] = ContextVar("haliax_target", default=None)


def composite(primitive: Primitive, implementation: Callable[..., Callable[..., Any]]) -> None:
    """Say what a primitive is made of.

    Args:
        implementation: (`Target`, parameters) → the function of the operands, which gives a sequence of results.
    """
    _composites[primitive] = implementation


@contextmanager
def merging(target: Target | None) -> Iterator[None]:
    """Within this context, primitives are merged by what they are made of for a target."""
    token = _target.set(target)
    try:
        yield
    finally:
        _target.reset(token)


def run_merged(closed: ClosedJaxpr, *arguments: Any) -> list[Any]:
    """What a closed jaxpr gives, traced so."""
    return _run(closed.jaxpr, closed.consts, arguments, {})


def merged(closed: ClosedJaxpr) -> ClosedJaxpr:
    """The closed jaxpr of the same function."""
    return jax.make_jaxpr(lambda *arguments: run_merged(closed, *arguments))(*closed.in_avals)


def _run(jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any], known: dict[Hashable, Any]) -> list[Any]:
    values: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        if equation.primitive.name in BROADCASTING:
            operands = [_repeated(operand, equation.outvars[0].aval.shape, known) for operand in operands]
        if equation.primitive.name in _CHECKPOINTS:
            operands = _held(equation, operands)
        body = _inlined(equation) or _made_of(equation, operands)
        if body is not None:
            results = _run(body.jaxpr, body.consts, operands, known)
        else:
            key = _key(equation, operands)
            found = known.get(key) if key is not None else None
            results = _bound(equation, operands) if found is None else found[0]
            if key is not None and found is None:
                known[key] = results, operands  # as long as they are kept, nothing else has their ids
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _repeated(operand: Any, shape: tuple[int, ...], known: dict[Hashable, Any]) -> Any:
    """An operand in the size of the result: one operation for all that need it so."""
    if not isinstance(operand, Tracer) or operand.shape == shape or operand.ndim not in (0, len(shape)):
        return operand
    key = "repeated", id(operand), shape
    if key not in known:
        dims = range(len(shape)) if operand.ndim else ()
        known[key] = lax.broadcast_in_dim(operand, shape, tuple(dims)), operand
    return known[key][0]


def _inlined(equation: Any) -> ClosedJaxpr | None:
    """The body of a call that only groups operations."""
    params = equation.params
    if equation.primitive.name not in _CALLS:
        return None
    if any(type(each).__name__ != "UnspecifiedValue" for each in params.get("in_shardings", ())):
        return None
    body = next((params[key] for key in _BODIES if key in params), None)
    return ClosedJaxpr(body, ()) if body is not None and not hasattr(body, "consts") else body


def _held(equation: Any, operands: Sequence[Any]) -> Sequence[Any]:
    """The operands of a checkpoint, behind a barrier where it is not to be merged with what is outside, as JAX lowers
    it."""
    apart = equation.params["prevent_cse"]
    apart = apart if isinstance(apart, tuple) else (apart,) * len(operands)
    if not equation.params["differentiated"] or not any(apart):
        return operands
    held = iter(lax.optimization_barrier([each for each, behind in zip(operands, apart, strict=True) if behind]))
    return [next(held) if behind else each for each, behind in zip(operands, apart, strict=True)]


def _made_of(equation: Any, operands: Sequence[Any]) -> ClosedJaxpr | None:
    """What a composite is made of where the target is known; None for other primitives."""
    target = _target.get()
    if target is None or equation.primitive not in _composites:
        return None
    function = _composites[equation.primitive](target, **equation.params)
    return jax.make_jaxpr(function)(*operands)


def _bound(equation: Any, operands: Sequence[Any]) -> list[Any]:
    params = {key: _merged_inside(value) for key, value in equation.params.items()}
    result = equation.primitive.bind(*operands, **equation.primitive.get_bind_params(params))
    return list(result) if equation.primitive.multiple_results else [result]


def _merged_inside(value: Any) -> Any:
    if isinstance(value, ClosedJaxpr) and not any(hasattr(aval, "inner_aval") for aval in value.in_avals):
        return merged(value)
    if isinstance(value, tuple) and any(isinstance(each, ClosedJaxpr) for each in value):
        return tuple([_merged_inside(each) for each in value])
    return value


def _key(equation: Any, operands: Sequence[Any]) -> Hashable | None:
    """What makes two operations the same; None for one that is never merged."""
    if equation.effects:
        return None
    params = {key: value if _hashable(value) else id(value) for key, value in equation.params.items()}
    return equation.primitive, tuple(map(_identity, operands)), frozenset(params.items())


def _identity(operand: Any) -> Hashable:
    if isinstance(operand, Tracer) or np.ndim(operand):
        return id(operand)
    weak = getattr(operand, "weak_type", None)
    return "literal", str(getattr(operand, "dtype", type(operand))), weak, np.asarray(operand).tobytes()


def _hashable(value: Any) -> bool:
    if isinstance(value, Mapping):
        return False
    try:
        hash(value)
    except TypeError:
        return False
    return True
