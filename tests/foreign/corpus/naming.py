"""Names beside arguments: patterns of paths become `NamedArray`s around the step's arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import jax

import ir
from haliax import Axis, NamedArray
from ir.graph import Graph


def trace(step: Callable[..., Any], *arguments: Any, names: Mapping[str, str]) -> Graph:
    """The graph of a step on plain arrays, whose arguments have the names of the first pattern that their path fits."""

    def plain(*arguments: Any) -> Any:
        return step(*jax.tree.map(unwrapped, arguments, is_leaf=is_named))

    plain.__signature__ = inspect.signature(step)  # type: ignore[attr-defined]
    return ir.trace(plain, *wrapped(step, arguments, names))


def wrapped(step: Callable[..., Any], arguments: Any, names: Mapping[str, str]) -> Any:
    parameters = list(inspect.signature(step).parameters)

    def named(path: Any, leaf: Any) -> Any:
        words = [jax.tree_util.keystr((key,), simple=True) for key in path]
        text = ".".join([parameters[int(words[0])], *words[1:]])
        shape = getattr(leaf, "shape", ())
        for pattern, axes in names.items():
            if len(axes.split()) == len(shape) and shape and fnmatchcase(text, pattern):
                return NamedArray(leaf, tuple(Axis(*pair) for pair in zip(axes.split(), shape, strict=True)))
        return leaf

    return jax.tree_util.tree_map_with_path(named, arguments)


def is_named(leaf: Any) -> bool:
    return isinstance(leaf, NamedArray)


def unwrapped(leaf: Any) -> Any:
    return leaf.array if is_named(leaf) else leaf
