"""Slices whose start may be traced and whose size is known: `x["position", ds(start, 16)]`.

A Python slice has two ends, and the size of the result is their difference, which JAX must know. A `dslice` keeps the
two apart. It is a pytree: its start is data, its size structure.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import jax

# Nothing of haliax is imported here: `haliax.axis`, below everything else, hands these names on.


@dataclass(frozen=True)
class dslice:  # noqa: N801  (published under this name)
    """`length` elements from `start` on: `x["position", dslice(start, 16)]`, also called `ds`.

    Elements beyond the end of the axis are read as 0, and are not written.

    Args:
        start: the first element: a number, or a traced or named scalar.
        length: how many elements, or an axis of that size.

    >>> x = hax.arange(hax.Axis("position", 6))
    >>> jax.jit(lambda start: x["position", hax.ds(start, 2)])(3)
    i32[position=2] [3 4]
    """

    start: Any
    size: int

    def __init__(self, start: Any, length: Any):
        object.__setattr__(self, "start", start.scalar() if hasattr(start, "scalar") else start)
        object.__setattr__(self, "size", int(getattr(length, "size", length)))

    def to_slice(self) -> slice:
        """The Python slice from the first element to the last; the start must be known to index with it."""
        return slice(self.start, self.start + self.size)

    @staticmethod
    def block(idx: Any, size: int) -> dslice:
        """The block number `idx` of blocks of this size."""
        return dslice(idx * size, size)


ds = dslice


def dblock(idx: Any, size: int) -> dslice:
    """The block number `idx` of blocks of this size, as a slice.

    >>> hax.arange(hax.Axis("position", 6))["position", hax.dblock(1, 2)]
    i32[position=2] [2 3]
    """
    return dslice.block(idx, size)


def _unflatten(size: int, children: Any) -> dslice:
    made = object.__new__(dslice)  # the child may be anything that JAX puts there
    object.__setattr__(made, "start", children[0])
    object.__setattr__(made, "size", size)
    return made


jax.tree_util.register_pytree_node(dslice, lambda cut: ((cut.start,), cut.size), _unflatten)


def is_pallas_dslice(x: object) -> bool:
    """Whether the value is a slice of Pallas, `jax.experimental.pallas.ds(start, size)`."""
    pallas = sys.modules.get("jax.experimental.pallas")  # who has such a slice has imported it
    return pallas is not None and isinstance(x, pallas.Slice)
