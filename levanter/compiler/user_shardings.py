"""Shardings of the user's own, as `jax.jit` takes them: where `levanter verify` puts what a step takes and gives.

They are one of

- a mapping from path patterns to mesh axes, a word a dim: `{"params.embedding": "model data", "batch.*": "data"}`. A
  word is a mesh axis, several of them with commas, or `_` for a dim that is replicated, as dims without a word are.
  The first pattern that matches a path counts; what none matches is left to the compiler. State leaves the step as it
  came.
- `(in_shardings, out_shardings)`, or a function of the mesh that returns them: pytrees of `PartitionSpec`, `Sharding`
  and None, as `jax.jit` takes them, prefixes included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from ir.staging.static_leaves import hidden
from levanter.compiler import errors

if TYPE_CHECKING:
    from ir.graph import Graph

Placed = tuple[list[Any], list[Any]]
"""A sharding, or None, for each array that goes in and each that comes out."""


def placed_by(given: Any, graph: Graph, arguments: Sequence[Any], mesh: Mesh, source: str) -> Placed:
    """The shardings of a step's arrays.

    Args:
        given: in one of the forms above.
        graph: the step.
        arguments: what it is called with, or the shapes of that.
        mesh: the devices.
        source: what the user calls the shardings.

    Raises:
        UserError: they have no such form, or do not fit the step or the mesh.
    """
    if isinstance(given, Mapping):
        return _by_patterns(given, graph, mesh)
    value = given(mesh) if callable(given) else given
    if not (isinstance(value, (tuple, list)) and len(value) == 2):
        raise errors.no_shardings(source, type(value).__name__)
    trees = graph.trees
    taken = jax.tree.unflatten(trees.arguments, range(len(graph.inputs)))
    results = jax.tree.unflatten(trees.outputs, range(len(graph.outputs)))
    updated = [] if trees.updated is None else [None] * len(trees.updated)
    result = results if trees.updated is None else results[1]
    try:
        before = _each(hidden(value[0]) if trees.static else value[0], taken, mesh)
        after = _each(value[1], result, mesh)
    except ValueError as error:
        raise errors.shardings_do_not_fit(source, error) from error
    return before, [*updated, *after]


def _each(prefix: Any, tree: Any, mesh: Mesh) -> list[Any]:
    """A sharding for each leaf of a tree, of one that has them for whole branches."""
    spread = jax.tree.broadcast(prefix, tree, is_leaf=_is_sharding)
    return [_sharding(each, mesh) for each in jax.tree.leaves(spread, is_leaf=_is_sharding)]


def _is_sharding(value: Any) -> bool:
    return value is None or isinstance(value, (PartitionSpec, Sharding))


def _sharding(value: Any, mesh: Mesh) -> Any:
    return NamedSharding(mesh, value) if isinstance(value, PartitionSpec) else value


def _by_patterns(patterns: Mapping[str, str], graph: Graph, mesh: Mesh) -> Placed:
    used: set[str] = set()

    def of(path: str, rank: int) -> Any:
        pattern = next((each for each in patterns if fnmatchcase(path, each)), None)
        if pattern is None:
            return None
        used.add(pattern)
        return NamedSharding(mesh, _spec(patterns[pattern], path, rank, mesh))

    pairs = zip(graph.input_paths, graph.inputs, strict=True)
    before = [of(path, len(value.type.dims)) for path, value in pairs]
    for pattern in patterns:
        if pattern not in used:
            raise errors.sharding_unmatched(pattern, graph.input_paths)
    after: list[Any] = [None] * len(graph.outputs)
    for first, second in graph.carried:
        after[second] = before[first]
    return before, after


def _spec(words: str, path: str, rank: int, mesh: Mesh) -> PartitionSpec:
    entries = [tuple(each.split(",")) if each != "_" else () for each in words.split()]
    if len(entries) > rank:
        raise errors.sharding_rank(path, words, rank)
    axes = [axis for entry in entries for axis in entry]
    for position, axis in enumerate(axes):
        if axis not in mesh.axis_names:
            raise errors.sharding_axis(path, axis, [str(name) for name in mesh.axis_names])
        if axis in axes[:position]:
            raise errors.sharding_twice(path, axis)
    return PartitionSpec(*[entry or None for entry in entries])


def beside(module_value: Callable[[str], Any], words: Sequence[str]) -> Any:
    """What the command line says: patterns `PATH=AXES`, or one place that holds shardings.

    Args:
        module_value: what stands at a place.
        words: the values of `--shardings`.
    """
    assigned = [word.partition("=") for word in words]
    if all(equals for _, equals, _ in assigned):
        return {path.strip(): axes.strip() for path, _, axes in assigned}
    if len(words) > 1:
        raise errors.shardings_mixed(words)
    return module_value(words[0])
