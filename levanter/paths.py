"""The arrays of a tree by name, and what stands for a pattern of names.

A name does not depend on how modules are nested inside haliax: the wrapper of a stack of layers and the array of a
`NamedArray` have none of their own. So names are stable: checkpoints, groups of parameters and adapters use them.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import jax

from haliax.core.staging import WRAPPERS
from haliax.jax_utils import is_named


def path_name(path: tuple[Any, ...]) -> str:
    """The name of a path of JAX's, such as `blocks.mlp.up.weight`."""
    parts = [str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key)))) for key in path]
    return ".".join(part for part in parts if part not in WRAPPERS)


def flat_names(state: Any) -> dict[str, Any]:
    """The arrays of a state (or the shapes or shardings of one) by name, such as `model.blocks.mlp.up.weight`."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def from_flat_names(like: Any, arrays: dict[str, Any]) -> Any:
    """The tree with the structure of `like` and the leaves that `flat_names` gave.

    Raises:
        KeyError: an array is not there.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(like)
    return jax.tree.unflatten(structure, [arrays[path_name(path)] for path, _ in paths])


def named_leaves(tree: Any) -> dict[str, Any]:
    """The arrays of a tree by name, each `NamedArray` whole."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_named)}


def map_named(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """The tree with `function(name, leaf, *others)` in the place of each array; a `NamedArray` is one leaf.

    Args:
        rest: trees with anything at the places of the arrays, None among it.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_named)
    others = [structure.flatten_up_to(each) for each in rest]
    return structure.unflatten(
        [function(path_name(path), leaf, *at) for (path, leaf), *at in zip(paths, *others, strict=True)]
    )


def matches(name: str, pattern: str) -> bool:
    """Whether a parameter's name is one of a pattern's, such as `*.attention.*`; `*` stands for dots as well.

    The name may stand in the pattern as it does in a checkpoint, with `model.` before it.
    """
    return fnmatchcase(name, pattern) or fnmatchcase(f"model.{name}", pattern)
