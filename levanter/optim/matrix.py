"""Which axes of a parameter make it a matrix, told from names.

A linear layer says what it maps: its `In` axes to its `Out` axes, each of which may be several that count as one. Every
other axis of its weight (of the layers of a stack, of experts) only says that there are many such matrices. Tables of
vectors, heads, biases and norms are no such maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax

from haliax import Axis, NamedArray
from haliax.axis import axes_of
from levanter.paths import path_name


@dataclass(frozen=True)
class Matrix:
    """The axes that a weight maps from and to."""

    In: tuple[Axis, ...]
    Out: tuple[Axis, ...]

    @property
    def rows(self) -> int:
        """The size of `In`."""
        return _size(self.In)

    @property
    def columns(self) -> int:
        """The size of `Out`."""
        return _size(self.Out)


def matrices_of(tree: Any, separate: Sequence[str] = ()) -> dict[str, Matrix]:
    """The matrices of a tree of parameters (or gradients) by the names of their arrays.

    Args:
        separate: names of axes along which there are several matrices, though their layer has them in `In` or `Out`.
    """
    found: dict[str, Matrix] = {}
    for path, layer in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_map):
        if not _is_map(layer):
            continue
        has = {axis.name for axis in layer.weight.axes} - set(separate)
        In, Out = (tuple(axis for axis in axes_of(each) if axis.name in has) for each in (layer.In, layer.Out))
        if In and Out:
            found[".".join(part for part in (path_name(path), "weight") if part)] = Matrix(In, Out)
    return found


def _is_map(part: Any) -> bool:
    return (
        isinstance(part, eqx.Module)
        and hasattr(part, "In")
        and hasattr(part, "Out")
        and isinstance(getattr(part, "weight", None), NamedArray)
    )


def _size(axes: tuple[Axis, ...]) -> int:
    size = 1
    for axis in axes:
        size *= axis.size
    return size
