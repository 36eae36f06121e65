"""How a tensor of a file lies over our axes: a line of text.

    "vocab embed"                    one dim for each axis
    "(heads head_size) embed"        a dim that merges axes, the first one outermost
    "1 1 embed"                      dims of size 1, which no axis of ours stands for

A layout never computes: it gives a view of a tensor with one dim for each axis, for reading and for writing alike.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from levanter.hf import errors

_TOKEN = re.compile(r"\(|\)|[^\s()]+")


@dataclass(frozen=True)
class Layout:
    """`dims` has, for each dim of the tensor, the axes that it merges; none for a dim of size 1."""

    dims: tuple[tuple[str, ...], ...]

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of the axes, in the tensor's order."""
        return tuple(name for dim in self.dims for name in dim)

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape of the tensor, from the sizes of the axes."""
        return tuple(math.prod(sizes[name] for name in dim) for dim in self.dims)

    def view(self, tensor: np.ndarray, sizes: Mapping[str, int], order: Sequence[str]) -> np.ndarray:
        """A view of `tensor` with a dim for each axis, in the order of `order`."""
        by_axis = tensor.reshape([sizes[name] for name in self.axes])
        return by_axis.transpose([self.axes.index(name) for name in order])


@cache
def parse(text: str) -> Layout:
    """The layout that `text` says.

    Raises:
        UserError: it is not one.
    """
    dims: list[tuple[str, ...]] = []
    merged: list[str] | None = None
    for token in _TOKEN.findall(text):
        if token == "(":
            if merged is not None:
                raise errors.bad_layout(text, "a bracket inside a bracket")
            merged = []
        elif token == ")":
            if not merged:
                raise errors.bad_layout(text, "a bracket with nothing in it" if merged == [] else "a bracket too many")
            dims.append(tuple(merged))
            merged = None
        elif merged is not None:
            merged.append(token)
        else:
            dims.append(() if token == "1" else (token,))
    if merged is not None:
        raise errors.bad_layout(text, "a bracket is not closed")
    layout = Layout(tuple(dims))
    for name in layout.axes:
        if not name.isidentifier():
            raise errors.bad_layout(text, f"`{name}` is not an axis name")
        if layout.axes.count(name) > 1:
            raise errors.bad_layout(text, f"axis `{name}` twice")
    return layout
