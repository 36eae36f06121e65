"""Staging: a JAX function with named arguments becomes a `Graph`.

`jax.make_jaxpr` gives the whole step (loss, backward pass, update); one walk over its equations (`ir.staging.walk`)
applies the rules and merges dims; then names are read off the classes and the graph is numbered.
"""

import gc
import inspect
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from haliax.core.array import NamedArray
from haliax.core.staging import staging
from haliax.core.stale import fits, own_axes
from ir import errors
from ir.graph import Graph
from ir.jax_api import leaves_with_path, make_jaxpr, tree_flatten, tree_structure
from ir.limits import LARGEST, MOST_DIMS
from ir.staging.numbering import finish
from ir.staging.proto import ProtoValue
from ir.staging.static_leaves import has_static, hidden, shown
from ir.staging.unify import Unifier
from ir.staging.walk import Walk


@dataclass(frozen=True)
class Trees:
    """How flat graph inputs and outputs stand in the step's arguments and result."""

    arguments: Any
    outputs: Any
    static: bool = False
    """Whether the arguments have leaves that are no arrays, which are structure here (see `ir.static_leaves`)."""


def trace(step: Callable[..., Any], *arguments: Any) -> Graph:
    """The graph of `step(*arguments)`.

    Leaves of `arguments` are `NamedArray`s, arrays or `jax.ShapeDtypeStruct`s (also inside a `NamedArray`); only
    shapes, dtypes and names are read. Where the step returns its first argument's structure, alone or first in a tuple,
    the leaves of the two that have the same size and dtype are `carried`: state, before and after.

    A leaf that is no array (a function, text) is static, as under `eqx.filter_jit`: the step is traced for its value.

    Raises:
        ValueError: an argument has more dims, or larger ones, than an array can have.
        TooDeep: loops, branches and calls are nested more than `ir.limits.DEEPEST` deep, or deeper than Python calls.
    """
    try:
        return _traced(step, arguments)
    except RecursionError as error:
        raise errors.calls_too_deep(getattr(step, "__name__", "step")) from error


def _traced(step: Callable[..., Any], arguments: Sequence[Any]) -> Graph:
    static = has_static(arguments)
    with staging():
        if static:
            arguments = hidden(arguments)
            closed, shapes = make_jaxpr(_with_static(step), return_shape=True)(*arguments)
        else:
            closed, shapes = make_jaxpr(step, return_shape=True)(*arguments)
    with _no_collection():
        return _graph(step, arguments, closed, shapes, static)


def _with_static(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step for arguments whose static leaves are hidden; its result has them hidden too."""

    def hiding(*arguments: Any) -> Any:
        return hidden(step(*shown(arguments)))

    return hiding


def _graph(step: Callable[..., Any], arguments: Sequence[Any], closed: Any, shapes: Any, static: bool) -> Graph:
    unifier = Unifier()
    walk = Walk(unifier)
    leaves, tree = _named_leaves(arguments)
    for var, (path, _) in zip(closed.jaxpr.invars, leaves, strict=True):
        if len(var.aval.shape) > MOST_DIMS or any([size > LARGEST for size in var.aval.shape]):
            raise errors.argument_too_large(_argument_paths(step, arguments, [(path, ())])[0], MOST_DIMS)
    inputs = tuple(
        [walk.named_value(var.aval, names) for var, (_, names) in zip(closed.jaxpr.invars, leaves, strict=True)]
    )
    body = walk.body(closed.jaxpr, closed.consts, inputs, getattr(step, "__name__", "step"))
    out_leaves, out_tree = _named_leaves(shapes)
    for operand, (_, names) in zip(body.outputs, out_leaves, strict=True):
        if isinstance(operand, ProtoValue):
            walk.suggest(operand, names)
    return finish(
        body,
        unifier,
        input_paths=_argument_paths(step, arguments, leaves),
        output_paths=tuple(path for path, _ in out_leaves),
        carried=_carried(arguments, closed.in_avals, shapes),
        trees=Trees(tree, out_tree, static),
    )


@contextmanager
def _no_collection() -> Generator[None]:
    """No search for garbage for a moment: all that a graph is made of stays, and looking through it takes long."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _is_named(leaf: Any) -> bool:
    return isinstance(leaf, NamedArray)


def _named_leaves(tree: Any) -> tuple[list[tuple[str, tuple[str | None, ...]]], Any]:
    """(path, names) of every array leaf, in JAX's flattening order, and the tree."""
    leaves = [(path, _names_of(leaf)) for path, leaf in leaves_with_path(tree, is_leaf=_is_named)]
    return leaves, tree_structure(tree)


def _names_of(leaf: Any) -> tuple[str | None, ...]:
    """The names of a leaf's dims: None for each where it has no axes, or axes that are not of its shape. An optimizer
    that keeps less than the parameter (Adafactor) puts its arrays where the parameter's were, axes unchanged."""
    if not isinstance(leaf, NamedArray):
        return (None,) * np.ndim(leaf)
    shape, axes = leaf.array.shape, own_axes(leaf.axes)
    if not fits(axes, shape):
        return (None,) * len(shape)
    return tuple([axis.name for axis in axes])


def _argument_paths(step: Any, arguments: Sequence[Any], leaves: Sequence[tuple[str, Any]]) -> tuple[str, ...]:
    """`0.model.weight` → `state.model.weight`, with the parameter names of the step where it shows them."""
    try:
        parameters = [
            p.name
            for p in inspect.signature(step).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        parameters = []
    parameters += [f"argument{i}" for i in range(len(parameters), len(arguments))]

    def renamed(path: str) -> str:
        index, _, rest = path.partition(".")
        return parameters[int(index)] + (f".{rest}" if rest else "")

    return tuple(renamed(path) for path, _ in leaves)


def _carried(arguments: Sequence[Any], avals: Sequence[Any], result: Any) -> tuple[tuple[int, int], ...]:
    """Pairs of leaves that are one piece of state. In a container, names take no part: where the step changes them,
    that is an axis error of carried state, which `passes.check_axes` finds. A leaf of another size or dtype is no
    state, and a bare array that comes back with other names is a result."""
    if not arguments:
        return ()
    whole = arguments[0]
    _, state = tree_flatten(whole, is_leaf=_is_named)
    candidates: list[Any] = [result, *(result[:1] if isinstance(result, tuple) else ())]
    for candidate in candidates:
        after, structure = tree_flatten(candidate, is_leaf=_is_named)
        if structure == state and not (_is_named(whole) and tree_structure(candidate) != tree_structure(whole)):
            pairs = enumerate(zip(avals, after, strict=False))
            return tuple((i, i) for i, (old, new) in pairs if _storage(old) == _storage(new))
    return ()


def _storage(leaf: Any) -> tuple[str, list[int]]:
    array = leaf.array if isinstance(leaf, NamedArray) else leaf
    return str(array.dtype), sorted(array.shape)
