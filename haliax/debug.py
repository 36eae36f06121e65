"""Looking at arrays and modules: what they are, how they are laid out, and what is wrong with them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax

from haliax import pretty
from haliax.array import NamedArray
from haliax.jax_utils import is_named


def describe_array(array: Any) -> str:
    """The named shape, and the sharding where there is one."""
    raw = array.array if isinstance(array, NamedArray) else array
    sharding = getattr(raw, "sharding", None)
    text = pretty.shape_text(array)
    return text if sharding is None else f"{text} {getattr(sharding, 'spec', sharding)}"


def visualize_named_sharding(axes: Any, sharding: Any) -> None:
    """Prints which device holds what of an array with these axes (at most two) under a sharding."""
    jax.debug.visualize_sharding(tuple(axis.size for axis in axes), sharding)


def visualize_shardings(tree: Any) -> None:
    """Prints a line for each array of a tree: its name, named shape and sharding."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_named):
        print(f"{jax.tree_util.keystr(path) or 'array'}: {describe_array(leaf)}")


@dataclass
class ModuleProblems:
    """What `diagnose_common_issues` found."""

    reused_arrays: list[tuple[str, list[str]]] = field(default_factory=list)
    """Each array that is in the tree more than once, with its places: it would be trained as several."""
    static_arrays: list[str] = field(default_factory=list)
    """Static fields that hold arrays: they are not trained, and make every compiled function compile again."""

    def __bool__(self) -> bool:
        return bool(self.reused_arrays or self.static_arrays)


def diagnose_common_issues(module: Any) -> ModuleProblems:
    """Mistakes in a module that neither JAX nor equinox reports."""
    places: dict[int, tuple[str, list[str]]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(module, is_leaf=is_named):
        raw = leaf.array if isinstance(leaf, NamedArray) else leaf
        if isinstance(raw, jax.Array):
            places.setdefault(id(raw), (pretty.shape_text(leaf), []))[1].append(jax.tree_util.keystr(path))
    reused = [place for place in places.values() if len(place[1]) > 1]
    return ModuleProblems(reused, _static_arrays(module, ""))


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
