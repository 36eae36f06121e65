"""Looking at arrays and modules: what they are, how they are laid out, and what is wrong with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax

from haliax import errors
from haliax.axis import Axis
from haliax.core import printing
from haliax.core.array import NamedArray
from haliax.jax_utils import is_named


def describe_array(arr: Any) -> str:
    """The named shape, and the sharding over a mesh where there is one: `f32[batch=4] batch->data`."""
    raw = arr.array if isinstance(arr, NamedArray) else arr
    sharding = getattr(raw, "sharding", None)
    text = printing.shape_text(arr)
    if not isinstance(sharding, jax.sharding.NamedSharding):
        return text
    names = [axis.name for axis in arr.axes] if isinstance(arr, NamedArray) else [str(d) for d in range(raw.ndim)]
    return f"{text} {_placement(names, sharding)}".rstrip()


def _placement(names: Sequence[str], sharding: Any) -> str:
    spec = tuple(getattr(sharding, "spec", ()))
    places = [*spec, *[None] * (len(names) - len(spec))]
    return ", ".join(f"{name}->{_mesh_axes(place)}" for name, place in zip(names, places, strict=True))


def _mesh_axes(place: Any) -> str:
    if place is None or place == ():
        return "unsharded"
    return "+".join(place) if isinstance(place, tuple) else str(place)


def visualize_named_sharding(axes: Sequence[Axis], sharding: Any) -> None:
    """Prints which device holds what of an array with these axes: a picture for at most two, else a line of text."""
    if 1 <= len(axes) <= 2:
        jax.debug.visualize_sharding(tuple(axis.size for axis in axes), sharding)
    else:
        print(_placement([axis.name for axis in axes], sharding))


def visualize_shardings(tree: Any) -> None:
    """Prints each array of a tree: its name, named shape and sharding, and a picture if it has one or two axes."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_named):
        print(f"{jax.tree_util.keystr(path) or 'array'}: {describe_array(leaf)}")
        raw = leaf.array if isinstance(leaf, NamedArray) else leaf
        sharding = getattr(raw, "sharding", None)
        if sharding is not None and 1 <= raw.ndim <= 2:
            jax.debug.visualize_sharding(raw.shape, sharding)


class ModuleProblems(Exception):
    """What `diagnose_common_issues` found."""

    def __init__(self) -> None:
        super().__init__()
        self.reused_arrays: list[tuple[Any, list[str]]] = []
        """Each array that is in the tree more than once, with its places: it would be trained as several."""
        self.static_arrays: list[str] = []
        """Static fields that hold arrays: they are not trained, and make every compiled function compile again."""

    def __bool__(self) -> bool:
        return bool(self.reused_arrays or self.static_arrays)

    def __str__(self) -> str:
        reused = [(printing.shape_text(array), places) for array, places in self.reused_arrays]
        return errors.module_problems(reused, self.static_arrays)


def diagnose_common_issues(module: Any) -> None:
    """Looks for mistakes in a module that neither JAX nor equinox reports.

    Raises:
        ModuleProblems: if an array is there twice, or in a static field.
    """
    places: dict[int, tuple[Any, list[str]]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(module, is_leaf=is_named):
        raw = leaf.array if isinstance(leaf, NamedArray) else leaf
        if isinstance(raw, jax.Array):
            places.setdefault(id(raw), (leaf, []))[1].append(jax.tree_util.keystr(path))
    problems = ModuleProblems()
    problems.reused_arrays = [place for place in places.values() if len(place[1]) > 1]
    problems.static_arrays = _static_arrays(module, "")
    if problems:
        raise problems


def _static_arrays(node: Any, path: str) -> list[str]:
    if not isinstance(node, eqx.Module):
        if isinstance(node, list | tuple):
            return [found for at, child in enumerate(node) for found in _static_arrays(child, f"{path}[{at}]")]
        return []
    found = []
    for entry in dataclasses.fields(node):
        value, where = getattr(node, entry.name, None), f"{path}.{entry.name}"
        if not entry.metadata.get("static", False):
            found += _static_arrays(value, where)
        elif any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value)):
            found.append(where)
    return found
