"""Where the arrays of a pytree of the user's lie: the tree is found again in the step that a plan is for.

A tree is known by the paths of its arrays: it is one of the step's arguments, all of them as a tuple, the step's
result, or a part of one of these. Where several have the same paths (parameters and their moments), the outermost
counts; where those lie differently, it is an error.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ir import jax_api
from ir.graph import Graph
from ir.staging.naming import leaves_of
from ir.staging.static_leaves import Static, hidden
from ir.types import TensorType
from passes import errors

Arrays = Mapping[str, TensorType]
"""The arrays of a tree in its order: paths in the tree, and placed types."""


@dataclass(frozen=True)
class Place:
    """A tree of the step: what the user calls it, and its arrays."""

    name: str
    arrays: Arrays


def mapped(tree: Any, placed: Graph, made: Callable[[TensorType], Any]) -> Any:
    """A tree of the same structure with `made(type)` for every array, and None for what is no array.

    Args:
        placed: the step after all passes.
        made: from the placed type of an array.

    Raises:
        PlanError: the tree is none of the step's.
    """
    arrays = hidden(tree)
    types = _types(arrays, placed)
    filled = jax_api.tree_unflatten(jax_api.tree_structure(arrays), [made(type_) for type_ in types])
    return jax_api.tree_map(_nothing, filled, is_leaf=_is_static)


def _nothing(leaf: Any) -> Any:
    return None if isinstance(leaf, Static) else leaf


def _is_static(node: Any) -> bool:
    return isinstance(node, Static)


def _types(tree: Any, placed: Graph) -> list[TensorType]:
    """The placed type of every array of a tree."""
    wanted = {leaf.path: leaf.shape for leaf in leaves_of(tree)}
    other_shapes: Place | None = None
    for places in _tiers(placed):
        found = [place for place in places if list(place.arrays) == list(wanted)]
        fitting = [place for place in found if _shapes(place) == list(wanted.values())]
        if found and not fitting and wanted.keys() != {""}:
            other_shapes = other_shapes or found[0]
        if fitting:
            layouts = [[type_.dims for type_ in place.arrays.values()] for place in fitting]
            other = next((place for place, each in zip(fitting, layouts, strict=True) if each != layouts[0]), None)
            if other is not None:
                raise errors.tree_ambiguous(placed.name, fitting[0].name, other.name)
            return list(fitting[0].arrays.values())
    if other_shapes is not None:
        raise errors.tree_shapes(placed.name, other_shapes.name, _differing(other_shapes, wanted))
    raise _unknown(wanted, placed)


def _unknown(wanted: Mapping[str, Any], placed: Graph) -> errors.PlanError:
    """What a tree with these paths differs in from the argument that it is nearest to."""
    arguments = _parts(placed.input_paths, placed, outermost=True)
    nearest = max(arguments, key=lambda place: len(place.arrays.keys() & wanted.keys()), default=None)
    names = [place.name for place in arguments]
    if nearest is None or not nearest.arrays.keys() & wanted.keys():
        return errors.tree_unknown(placed.name, names, list(wanted))
    missing = [path for path in nearest.arrays if path not in wanted]
    extra = [path for path in wanted if path not in nearest.arrays]
    return errors.tree_differs(placed.name, names, nearest.name, missing, extra)


def _shapes(place: Place) -> list[tuple[int, ...]]:
    return [type_.shape for type_ in place.arrays.values()]


def _differing(place: Place, wanted: Mapping[str, tuple[int, ...]]) -> list[tuple[str, str, tuple[int, ...]]]:
    """(path, shape in the step, shape in the tree) of the arrays whose shapes differ."""
    pairs = [(path, place.arrays[path].shape, shape) for path, shape in wanted.items()]
    return [(path, str(known), given) for path, known, given in pairs if known != given]


def _tiers(placed: Graph) -> Iterator[Sequence[Place]]:
    """The trees that a user's may be; those that come first count first."""
    yield [_together(placed)]
    yield _parts(placed.input_paths, placed, outermost=True)
    paths, types = _result(placed)
    yield [Place("the result", _arrays(paths, types))]
    yield _parts(placed.input_paths, placed, outermost=False)
    yield _inner(paths, types, "the result at ")


def _result(placed: Graph) -> tuple[list[str], list[TensorType]]:
    """The paths and types of what the step returns: without what it updates in place, which keeps its path."""
    inputs, outputs = placed.input_paths, placed.output_paths
    in_place = {after for before, after in placed.carried if inputs[before] == outputs[after]}
    kept = [i for i in range(len(outputs)) if i not in in_place]
    return [outputs[i] for i in kept], [placed.outputs[i].type for i in kept]


def _together(placed: Graph) -> Place:
    """All arguments as a tuple."""
    numbers: dict[str, int] = {}
    paths: list[str] = []
    for path in placed.input_paths:
        name, dot, rest = path.partition(".")
        paths.append(f"{numbers.setdefault(name, len(numbers))}{dot}{rest}")
    return Place("the arguments", _arrays(paths, [value.type for value in placed.inputs]))


def _parts(paths: Sequence[str], placed: Graph, outermost: bool) -> list[Place]:
    """The arguments, or what is inside of them."""
    inner = _inner(paths, [value.type for value in placed.inputs], "")
    return [place for place in inner if ("." not in place.name) is outermost]


def _inner(paths: Sequence[str], types: Sequence[TensorType], where: str) -> list[Place]:
    """Everything in a tree that has a path of its own, from the outside in."""
    found: dict[str, dict[str, TensorType]] = {}
    for path, type_ in zip(paths, types, strict=True):
        parts = path.split(".")
        for depth in range(1, len(parts) + 1):
            found.setdefault(".".join(parts[:depth]), {})[".".join(parts[depth:])] = type_
    depths = sorted(found, key=lambda name: name.count("."))
    return [Place(where + name, found[name]) for name in depths]


def _arrays(paths: Sequence[str], types: Sequence[TensorType]) -> Arrays:
    return dict(zip(paths, types, strict=True))
