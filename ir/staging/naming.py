"""Names beside the arguments: what the dims of a step's arrays are called where the arrays do not say it themselves.

Code that was written without `haliax` has raw arrays. Their names come from one of these, the first that has some:

1. the axes of a `NamedArray`;
2. the `names` given to `ir.trace`: a mapping from path patterns, or a function of path and shape;
3. a box around the array that says its logical axes, as Flax's `nn.Partitioned`, `nn.LogicallyPartitioned` and the
   metadata of an `nnx.Variable` do. They are known by what they have, so Flax is not imported.

A path is the one the graph shows, `state.params.mlp.up.kernel`, whether a box is around the array or not. In a pattern
`*` stands for any text, dots included; `*.` at its start also for none. A `/` in a key separates like a dot. The first
pattern that matches an array names it, so what is special stands above what is general.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, cast

import numpy as np

from haliax.axis import Axis
from haliax.core.array import NamedArray
from haliax.core.stale import fits, own_axes
from ir import errors
from ir.graph import Graph
from ir.jax_api import leaves_with_path
from ir.names import is_made
from ir.types import TensorType

DimNames = tuple[str | None, ...]
ArrayNames = str | Axis | Iterable[str | Axis | EllipsisType | None] | Mapping[str, int]
"""Names of the dims of one array: `"embed mlp"`, `("embed", None)`, or axes, whose sizes are then checked, as those of
`"embed=64 mlp=256"` are. `_` and None
are dims without a name, `...` any number of such dims."""
Naming = Mapping[str, ArrayNames | None] | Callable[[str, tuple[int, ...]], ArrayNames | None]
"""Path patterns to names (None for an array without any), or a function of path and shape (None where it has none)."""

_ANY = "..."
_UNNAMED = "_"
_ATTRIBUTE = ".value"


@dataclass(frozen=True)
class Leaf:
    """An array of the arguments: where it stands, its shape, and the names that it brings along."""

    path: str
    shape: tuple[int, ...]
    own: DimNames | None
    """Of a `NamedArray`, None otherwise."""
    boxed: DimNames | None
    """Of the box around a raw array, None where there is no box or it says nothing."""
    attribute: str = ""
    """Where the array is in its box. The path does not have it, and a pattern may."""


def leaves_of(tree: Any) -> list[Leaf]:
    """Every array of a tree with its path, in JAX's flattening order."""
    found: list[Leaf] = []
    for path, node in leaves_with_path(tree, is_leaf=_is_whole):
        if isinstance(node, NamedArray):
            found.append(Leaf(path, tuple(node.array.shape), _axes_of(node), None))
        elif is_box(node):
            inside = leaves_with_path(node, is_leaf=lambda x: isinstance(x, NamedArray))
            found += [_boxed(path, f".{rest}", leaf, box_names(node)) for rest, leaf in inside]
        else:
            found.append(Leaf(path, _shape(node), None, None))
    return found


def _boxed(path: str, attribute: str, leaf: Any, names: Sequence[Any] | None) -> Leaf:
    if attribute != _ATTRIBUTE:
        path, attribute = path + attribute, ""
    if isinstance(leaf, NamedArray):
        return Leaf(path, tuple(leaf.array.shape), _axes_of(leaf), None, attribute)
    shape = _shape(leaf)
    if names is None or len(names) > len(shape):  # as with axes, an optimizer may keep less in the parameter's place
        return Leaf(path, shape, None, None, attribute)
    listed = [name if isinstance(name, str) else None for name in names]
    return Leaf(path, shape, None, (*listed, *[None] * (len(shape) - len(listed))), attribute)


def is_box(node: Any) -> bool:
    """Whether a node of a tree is a box of Flax around an array: one of linen, or a variable of NNX."""
    kind = cast(Any, type(node))
    return hasattr(kind, "get_metadata") or (hasattr(kind, "unbox") and hasattr(kind, "replace_boxed"))


def box_names(box: Any) -> Sequence[Any] | None:
    """The logical axes that a box says; None where it says none. NNX has called them by three names."""
    metadata: Any = box.get_metadata() if hasattr(box, "get_metadata") else {"sharding": getattr(box, "names", None)}
    for key in ("out_sharding", "sharding", "sharding_names"):
        names = metadata.get(key)
        if names is not None and hasattr(names, "__iter__") and not isinstance(names, str):
            return tuple(names)
    return None


def _is_whole(node: Any) -> bool:
    return isinstance(node, NamedArray) or is_box(node)


def _shape(leaf: Any) -> tuple[int, ...]:
    return tuple(np.shape(leaf))


def _axes_of(leaf: NamedArray) -> DimNames:
    """The names of a leaf's dims: None for each where its axes are not of its shape. An optimizer that keeps less than
    the parameter (Adafactor) puts its arrays where the parameter's were, axes unchanged."""
    shape, axes = leaf.array.shape, own_axes(leaf.axes)
    return tuple([axis.name for axis in axes]) if fits(axes, shape) else (None,) * len(shape)


def named(leaves: Sequence[Leaf], names: Naming | None) -> list[DimNames]:
    """The names of every array's dims.

    Raises:
        NamingError: a pattern that names no array, or names that do not fit an array; all of them are said.
    """
    if names is None:
        found, faults = [None] * len(leaves), []
    elif isinstance(names, Mapping):
        found, faults = _by_pattern(leaves, cast(Mapping[str, ArrayNames | None], names))
    elif callable(names):
        found, faults = _by_function(leaves, names)
    else:
        raise errors.no_naming(names)
    if faults:
        raise errors.NamingError("\n".join(faults))
    return [_first(leaf, given) for leaf, given in zip(leaves, found, strict=True)]


def _first(leaf: Leaf, given: DimNames | None) -> DimNames:
    for names in (leaf.own, given, leaf.boxed):
        if names is not None:
            return names
    return (None,) * len(leaf.shape)


def _by_function(leaves: Sequence[Leaf], function: Callable[..., Any]) -> tuple[list[DimNames | None], list[str]]:
    found: list[DimNames | None] = []
    faults: list[str] = []
    for leaf in leaves:
        names = function(leaf.path, leaf.shape)
        found.append(None if names is None else _fitted(leaf, names, None, faults))
    return found, faults


def _by_pattern(
    leaves: Sequence[Leaf], patterns: Mapping[str, ArrayNames | None]
) -> tuple[list[DimNames | None], list[str]]:
    faults: list[str] = []
    tests = {pattern: _test(pattern) for pattern in patterns}
    found: list[DimNames | None] = [None] * len(leaves)
    first: dict[str, str] = {}  # of every array, the pattern that names it
    for i, leaf in enumerate(leaves):
        pattern = next((each for each, test in tests.items() if test(leaf)), None)
        if pattern is not None:
            first[leaf.path] = pattern
            found[i] = _fitted(leaf, patterns[pattern], pattern, faults)
    used = set(first.values())
    for pattern in [each for each in tests if each not in used]:
        taken = [first[leaf.path] for leaf in leaves if tests[pattern](leaf)]
        if taken:
            faults.append(errors.pattern_hidden(pattern, taken[0]))
        else:
            paths = [leaf.path for leaf in leaves]
            faults.append(errors.pattern_unmatched(pattern, near_paths(pattern, paths), paths))
    return found, faults


def _test(pattern: str) -> Callable[[Leaf], bool]:
    """Whether a pattern matches an array."""
    text = _dotted(pattern)
    start = "(?:.*[.])?" if text.startswith("*.") else ""
    rest = text[2:] if start else text
    expression = re.compile(start + ".*".join(map(re.escape, rest.split("*"))), re.DOTALL)

    def matches(leaf: Leaf) -> bool:
        return any(expression.fullmatch(_dotted(path)) for path in {leaf.path, leaf.path + leaf.attribute})

    return matches


def _dotted(path: str) -> str:
    return path.replace("/", ".")


def near_paths(pattern: str, paths: Iterable[str], most: int = 2) -> list[str]:
    """The paths that a pattern most likely meant, the nearest first; empty where none is near."""
    wanted = [part for part in _dotted(pattern).split(".") if part != "*"]
    tails = {path: ".".join(_dotted(path).split(".")[-len(wanted) :]) for path in paths}
    return errors.nearest_of(".".join(wanted), tails, most)


def _fitted(leaf: Leaf, names: ArrayNames | None, pattern: str | None, faults: list[str]) -> DimNames:
    """The names for the dims of an array; what does not fit is added to the faults."""
    nameless = (None,) * len(leaf.shape)
    if names is None:
        return nameless
    listed = _listed(names)
    if listed is None or listed.count(_ANY) > 1:
        faults.append(errors.names_unreadable(leaf.path, names))
        return nameless
    if _ANY in listed:
        at, missing = listed.index(_ANY), len(leaf.shape) - (len(listed) - 1)
        listed[at : at + 1] = [None] * missing if missing >= 0 else [None]
    if len(listed) != len(leaf.shape):
        faults.append(errors.names_rank(leaf.path, leaf.shape, names_text(names), pattern))
        return nameless
    for axis, size in zip(listed, leaf.shape, strict=True):
        if isinstance(axis, Axis) and axis.size != size:
            faults.append(errors.names_size(leaf.path, leaf.shape, axis.name, axis.size, size))
    return tuple([axis.name if isinstance(axis, Axis) else axis for axis in listed])


def _listed(names: Any) -> list[Any] | None:
    """One entry a dim: an Axis, a name, None, or `...`; None for what are no names."""
    if isinstance(names, str):
        names = [_axis(word) for word in names.replace(",", " ").split()]
    elif isinstance(names, Axis):
        names = [names]
    elif isinstance(names, Mapping):
        names = [Axis(*each) for each in cast(Mapping[str, int], names).items()]
    elif not hasattr(names, "__iter__"):
        return None
    listed = [None if each == _UNNAMED else _ANY if each is ... else each for each in names]
    return listed if all(each is None or isinstance(each, str | Axis) for each in listed) else None


def _axis(word: str) -> Axis | str:
    """`embed=64` with its size, to be checked."""
    name, equals, size = word.partition("=")
    return Axis(name, int(size)) if equals and name not in ("", _UNNAMED) and size.isdecimal() else word


def names_text(names: Any) -> str:
    """Names as a pattern has them, `embed mlp`, with `_` for a dim without one."""
    listed = _listed(names)
    if listed is None:
        return repr(names)
    return " ".join(_UNNAMED if each is None else each.name if isinstance(each, Axis) else each for each in listed)


def unnamed(graph: Graph) -> dict[str, TensorType]:
    """The arguments that have a dim without a name after all that could be inferred: path → type. A dim of size 1
    needs none; a name that the step made up is none."""
    paths = graph.input_paths or tuple(str(value) for value in graph.inputs)
    return {
        path: value.type
        for path, value in zip(paths, graph.inputs, strict=True)
        if any((dim.name is None or is_made(dim.name)) and dim.size != 1 for dim in value.type.dims)
    }
