"""Which parameters weight decay applies to, for a model that does not say so itself.

A matrix maps one axis to another, so it has two axes or more; an axis that only stacks the same layer many times (that
of a `Stacked`, or one called `layers`) does not count. A bias may have as many (`[heads, head_size]`), so it is known
by its name; what is in a norm, by its class.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax

import haliax.nn as hnn
from haliax import NamedArray

NORMS = (hnn.LayerNorm, hnn.RmsNorm)


def matrices(model: Any) -> Any:
    """The tree of `model` with a bool for each array, named or not: whether it is a matrix."""
    return _decays(model, frozenset({"layers"}), 0)


def _decays(tree: Any, stacking: frozenset[str], stacked: int) -> Any:
    """`stacking` are the names of the axes around, and `stacked` their number, that only stack layers."""

    def one_level_down(path: tuple[Any, ...], part: Any) -> Any:
        name = str(getattr(path[-1], "name", getattr(path[-1], "key", ""))) if path else ""
        if isinstance(part, NamedArray):
            axes = [axis.name for axis in part.axes if axis.name not in stacking]
            return len(axes) > 1 and not _is_bias(name)
        if isinstance(part, NORMS):
            return jax.tree.map(lambda _: False, part, is_leaf=_is_named)
        if isinstance(part, hnn.Stacked):
            inner = _decays(part.stacked, stacking | {part.Block.name}, stacked + 1)
            return eqx.tree_at(lambda module: module.stacked, part, inner, is_leaf=lambda leaf: leaf is part.stacked)
        return getattr(part, "ndim", 0) - stacked > 1 and not _is_bias(name)

    def is_leaf(part: Any) -> bool:
        return _is_named(part) or isinstance(part, (*NORMS, hnn.Stacked))

    return jax.tree_util.tree_map_with_path(one_level_down, tree, is_leaf=is_leaf)


def _is_named(part: Any) -> bool:
    return isinstance(part, NamedArray)


def _is_bias(name: str) -> bool:
    return name == "bias" or name.endswith("_bias")
