"""Staging: a JAX function with named arguments becomes a `Graph`.

`jax.make_jaxpr` gives the whole step (loss, backward pass, update); one walk over its equations (`ir.staging.walk`)
applies the rules and merges dims; then names are read off the classes and the graph is numbered.
"""

import gc
import inspect
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from jax import ShapeDtypeStruct

from haliax.core.array import NamedArray
from haliax.core.staging import staging
from ir import errors
from ir.graph import Graph
from ir.jax_api import is_leaf, make_jaxpr, tree_flatten, tree_structure, tree_unflatten
from ir.limits import LARGEST, MOST_DIMS
from ir.staging.align import occurring_as
from ir.staging.in_place import has_variables, watched
from ir.staging.naming import Leaf, Naming, leaves_of, named
from ir.staging.numbering import finish
from ir.staging.proto import ProtoBody, ProtoValue, rename_node
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
    updated: tuple[int, ...] | None = None
    """Of a step whose arguments have mutable variables, the inputs that it updates in place; the outputs are these
    arrays in a list, and the result."""
    program: Callable[[], Any] | None = field(default=None, compare=False, repr=False)
    """Gives the jaxpr of the step, with its constants, as JAX traces it for a user: without marks."""
    graph: Graph | None = field(default=None, compare=False, repr=False)
    """The graph of the step, before any pass."""


def trace(step: Callable[..., Any], *arguments: Any, names: Naming | None = None) -> Graph:
    """The graph of `step(*arguments)`.

    Args:
        names: what the dims of arrays are called that are no `NamedArray`s: a mapping from path patterns to names,
            `{"*.mlp.up.kernel": "embed mlp", "batch.tokens": "batch position"}`, or a function of path and shape; see
            `ir.staging.naming`. Boxes of Flax are read where they stand.

    Leaves of `arguments` are `NamedArray`s, arrays or `jax.ShapeDtypeStruct`s (also inside a `NamedArray`); only
    shapes, dtypes and names are read. Where the step returns its first argument's structure, alone or first in a tuple,
    the leaves of the two that have the same size and dtype are `carried`: state, before and after.

    Variables of NNX that the step updates in place, and does not return, are state too (see `ir.staging.in_place`).

    A leaf that is no array (a function, text) is static, as under `eqx.filter_jit`: the step is traced for its value.

    Raises:
        NamingError: a pattern matches no array, or the names do not fit one.
        ValueError: an argument has more dims, or larger ones, than an array can have.
        TooDeep: loops, branches and calls are nested more than `ir.limits.DEEPEST` deep, or deeper than Python calls.
    """
    try:
        return _traced(step, arguments, names)
    except RecursionError as error:
        raise errors.calls_too_deep(getattr(step, "__name__", "step")) from error


def _traced(step: Callable[..., Any], arguments: Sequence[Any], names: Naming | None) -> Graph:
    static = has_static(arguments)
    updated: list[int] | None = [] if has_variables(arguments) else None
    traced = step if updated is None else watched(step, updated)
    with staging():
        if static:
            arguments = hidden(arguments)
            traced = _with_static(traced)
        closed, shapes = make_jaxpr(traced, return_shape=True)(*arguments)
    trees = Trees(
        tree_structure(arguments), tree_structure(shapes), static, None if updated is None else tuple(updated)
    )
    with _no_collection():
        graph, marked = _graph(step, arguments, names, closed, shapes, trees)
    program = partial(_unmarked, traced, trees.arguments, closed) if marked else lambda: closed
    return replace(graph, trees=replace(trees, program=program, graph=graph))


def _unmarked(step: Callable[..., Any], arguments: Any, closed: Any) -> Any:
    """The step traced once more, without marks. Those do nothing, but a marked value is another one than the value
    itself, and where the backward pass needs both, a loop that keeps them keeps both."""
    shapes = [ShapeDtypeStruct(each.shape, each.dtype, weak_type=each.weak_type) for each in closed.in_avals]
    return make_jaxpr(step)(*tree_unflatten(arguments, shapes))


def _with_static(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step for arguments whose static leaves are hidden; its result has them hidden too."""

    def hiding(*arguments: Any) -> Any:
        return hidden(step(*shown(arguments)))

    return hiding


def _graph(
    step: Callable[..., Any], arguments: Sequence[Any], naming: Naming | None, closed: Any, shapes: Any, trees: Trees
) -> tuple[Graph, bool]:
    """The graph, and whether the step left marks."""
    unifier = Unifier()
    walk = Walk(unifier)
    leaves = argument_leaves(step, arguments)
    for var, leaf in zip(closed.jaxpr.invars, leaves, strict=True):
        if len(var.aval.shape) > MOST_DIMS or any([size > LARGEST for size in var.aval.shape]):
            raise errors.argument_too_large(leaf.path, MOST_DIMS)
    given = zip(closed.jaxpr.invars, named(leaves, naming), strict=True)
    inputs = tuple([walk.named_value(var.aval, names) for var, names in given])
    body = walk.body(closed.jaxpr, closed.consts, inputs, getattr(step, "__name__", "step"))
    updated, result = (trees.updated, shapes[1]) if trees.updated is not None else ((), shapes)
    results = [*[leaves[i] for i in updated], *leaves_of(result)]
    for operand, leaf in zip(body.outputs, results, strict=True):
        if isinstance(operand, ProtoValue) and leaf.own is not None:
            walk.suggest(operand, leaf.own)
    carried = _all_carried(arguments, closed, result, updated)
    if not _is_container(arguments):
        carried = tuple(pair for pair in carried if _same_axes(unifier, body, *pair))
    graph = finish(
        _returning(unifier, body, carried),
        unifier,
        input_paths=tuple(leaf.path for leaf in leaves),
        output_paths=tuple(leaf.path for leaf in results),
        carried=carried,
        trees=trees,
    )
    return graph, walk.marked


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


def _is_container(arguments: Sequence[Any]) -> bool:
    """Whether the first argument is more than one bare array: what comes back in its structure is the same state."""
    return bool(arguments) and (_is_named(arguments[0]) or not is_leaf(tree_structure(arguments[0])))


def _same_axes(unifier: Unifier, body: ProtoBody, before: int, after: int) -> bool:
    """Whether an argument and a result have the same axes, dim by dim."""
    operand = body.outputs[after]
    if not isinstance(operand, ProtoValue):
        return True
    pairs = zip(body.inputs[before].dims, operand.dims, strict=True)
    return all(unifier.find(a) == unifier.find(b) or unifier.kin(a, b) for a, b in pairs)


def _returning(unifier: Unifier, body: ProtoBody, carried: Sequence[tuple[int, int]]) -> ProtoBody:
    """The body, whose state comes out with the occurrences of axes with which it went in."""
    nodes, outputs = list(body.nodes), list(body.outputs)
    for before, after in carried:
        result, dims = outputs[after], body.inputs[before].dims
        if not isinstance(result, ProtoValue) or len(result.dims) != len(dims):
            continue
        if (new := occurring_as(unifier, result.dims, dims)) is not None:
            nodes.append(rename_node(result, new, False, None, None))
            outputs[after] = nodes[-1].outputs[0]
    return replace(body, nodes=tuple(nodes), outputs=tuple(outputs))


def _is_named(leaf: Any) -> bool:
    return isinstance(leaf, NamedArray)


def argument_leaves(step: Callable[..., Any], arguments: Sequence[Any]) -> list[Leaf]:
    """Every array of a step's arguments. `0.model.weight` is `state.model.weight`, with the parameter names of the
    step where it shows them."""
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

    return [replace(leaf, path=renamed(leaf.path)) for leaf in leaves_of(tuple(arguments))]


def _all_carried(
    arguments: Sequence[Any], closed: Any, result: Any, updated: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Pairs of leaves that are one piece of state: those updated in place, which are the first outputs, and others."""
    before, after = closed.in_avals, closed.out_avals
    pairs = [(i, position) for position, i in enumerate(updated) if _storage(before[i]) == _storage(after[position])]
    returned = [(i, len(updated) + j) for i, j in _carried(arguments, before, result) if i not in updated]
    return (*pairs, *returned)


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
