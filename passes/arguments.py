"""What a lowered step is called with, held against what it was traced for, in named types.

It runs only where something is wrong: JAX traces again for other arguments, or refuses them, and a step of one shape
must not take the numbers of another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from haliax import NamedArray
from haliax.core.stale import fits, own_axes
from ir import jax_api
from ir.graph import Graph
from ir.types import Dim, TensorType
from passes import errors


@dataclass(frozen=True)
class Leaf:
    """One array of the arguments: its type, and whether it comes with its axes or as a raw array."""

    type: TensorType
    named: bool

    def __str__(self) -> str:
        return str(self.type) if self.named or not self.type.dims else f"a raw array {self.type}"


def difference(graph: Graph, arguments: Sequence[Any], named: Mapping[str, Any]) -> str | None:
    """In what the arguments of a call differ from those that the graph was traced for; None where they do not."""
    traced = _traced_arguments(graph)
    parameters = _parameters(graph, traced)
    if named:
        return errors.call_by_name(graph.name, list(named), parameters)
    if len(arguments) != len(traced):
        return errors.call_count(graph.name, parameters, len(arguments))
    wanted, given = _leaves(traced, parameters), _leaves(arguments, parameters)
    found = [errors.call_missing(path, str(leaf)) for path, leaf in wanted.items() if path not in given]
    found += [errors.call_extra(path, _text(leaf)) for path, leaf in given.items() if path not in wanted]
    for path, leaf in wanted.items():
        if path in given and given[path] != leaf:
            found.append(errors.call_leaf(path, str(leaf), _text(given[path]), _fix(leaf, given[path])))
    if found:
        return errors.call_differs(graph.name, found)
    if jax_api.tree_structure(tuple(arguments)) != graph.trees.arguments:
        return errors.call_structure(graph.name, str(graph.trees.arguments), str(jax_api.tree_structure(arguments)))
    return None


def _traced_arguments(graph: Graph) -> tuple[Any, ...]:
    """The arguments of the trace, with shapes for arrays."""
    shapes = [_Shape(value.type.dtype, value.type.shape) for value in graph.inputs]
    return tuple(jax_api.tree_unflatten(graph.trees.arguments, shapes))


@dataclass(frozen=True)
class _Shape:
    """An array's shape with its dtype as the IR writes it: a key's dtype is none that NumPy has."""

    dtype: str
    shape: tuple[int, ...]


def _parameters(graph: Graph, traced: Sequence[Any]) -> list[str]:
    """The name of each argument, read off the paths of its arrays; `argument 2` for one without arrays."""
    paths = iter(graph.input_paths)
    names: list[str] = []
    for i, argument in enumerate(traced):
        own = [next(paths) for _ in jax_api.tree_leaves(argument)]
        names.append(own[0].partition(".")[0] if own else f"argument {i}")
    return names


def _leaves(arguments: Sequence[Any], parameters: Sequence[str]) -> dict[str, Leaf | Any]:
    """Every array by its path; what is no array at all stands for itself."""
    found: dict[str, Leaf | Any] = {}
    for path, leaf in jax_api.leaves_with_path(tuple(arguments), is_leaf=lambda x: isinstance(x, NamedArray)):
        index, _, rest = path.partition(".")
        name = parameters[int(index)] + (f".{rest}" if rest else "")
        found[name.removesuffix(".array")] = _leaf(leaf)
    return found


def _leaf(leaf: Any) -> Leaf | Any:
    array: Any = leaf.array if isinstance(leaf, NamedArray) else leaf
    try:
        shape = tuple(array.shape) if hasattr(array, "shape") else np.shape(array)
        dtype = str(array.dtype) if hasattr(array, "dtype") else str(jax.dtypes.result_type(array))
    except (TypeError, ValueError):
        return leaf
    names: list[str | None] = [None] * len(shape)
    axes = own_axes(leaf.axes) if isinstance(leaf, NamedArray) else ()
    if fits(axes, shape):  # an optimizer that keeps less than the parameter puts its arrays in its place
        names = [axis.name for axis in axes]
    dims = tuple(Dim(name, size) for name, size in zip(names, shape, strict=True))
    return Leaf(TensorType(dtype, dims), isinstance(leaf, NamedArray))


def _text(leaf: Any) -> str:
    return str(leaf) if isinstance(leaf, Leaf) else errors.shown(leaf)


def _fix(wanted: Leaf, given: Any) -> str:
    """How to make the one of the other, where that is plain."""
    if not isinstance(given, Leaf):
        return errors.CALL_PASS_AN_ARRAY
    ours, theirs = wanted.type, given.type
    if wanted.named != given.named and ours.shape == theirs.shape:
        return errors.call_name_it(ours.names) if wanted.named else errors.CALL_PASS_RAW
    if ours.dims != theirs.dims and sorted(map(str, ours.dims)) == sorted(map(str, theirs.dims)) and wanted.named:
        return errors.call_rearrange(ours.names)
    if ours.dims == theirs.dims:
        return errors.call_dtype(ours.dtype)
    if ours.names == theirs.names and len(ours.names) == len(ours.dims):
        sizes = [(a.name, b.size, a.size) for a, b in zip(ours.dims, theirs.dims, strict=True) if a.size != b.size]
        return errors.call_sizes([(str(name), size, traced) for name, size, traced in sizes])
    if ours.shape == theirs.shape and wanted.named and given.named:
        renamed = {b: a for a, b in zip(ours.names, theirs.names, strict=True) if a != b}
        return errors.call_rename(renamed)
    return errors.CALL_TRACE_AGAIN
