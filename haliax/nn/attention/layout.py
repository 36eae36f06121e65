"""The layout that kernels take: `[batch, position, heads, size]`, with as many heads of keys or a divisor of them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import jax.numpy as jnp
from jax import lax

from haliax.nn.attention.spec import Labels, Spec, placed


@dataclass(frozen=True)
class Layout:
    """Which labels are merged into which dimension: the last shared one that no mask is by is the heads of the keys,
    the longest free one the positions of the queries, and each head of the keys serves a group."""

    batch: Labels
    position: Labels
    heads: Labels
    group: Labels

    @staticmethod
    def of(spec: Spec, sizes: dict[int, int]) -> Layout:
        position = (max(spec.free, key=lambda label: sizes[label]),) if spec.free else ()
        if spec.position is not None:
            position = (spec.position,)
        group = tuple([label for label in spec.free if label not in position])
        shared = tuple([label for label in spec.shared if label not in position])
        masked = {label for labels in spec.operands[3:] for label in labels}
        heads = tuple([label for label in shared if label not in masked])[-1:]
        return Layout(tuple([label for label in shared if label not in heads]), position, heads, group)

    def query(self, array: Any, labels: Labels, last: Labels) -> Any:
        """`[batch, position, heads · group, last]`, of an array of rows with some labels more."""
        return self._merged(array, labels, (self.batch, self.position, (*self.heads, *self.group), last))

    def key(self, array: Any, labels: Labels, keys: int, last: Labels) -> Any:
        """`[batch, keys, heads, last]`."""
        return self._merged(array, labels, (self.batch, (keys,), self.heads, last))

    def back(self, array: Any, sizes: dict[int, int], last: Labels, labels: Labels) -> Any:
        """An array as `query` gives it with its labels again, in an order."""
        own = (*self.batch, *self.position, *self.heads, *self.group, *last)
        return placed(lax.reshape(array, [sizes[label] for label in own]), own, labels)

    def _merged(self, array: Any, labels: Labels, groups: tuple[Labels, ...]) -> Any:
        order = [label for group in groups for label in group]
        moved = placed(array, labels, tuple(order))
        shape = dict(zip(order, moved.shape, strict=True))
        return jnp.reshape(moved, [prod([shape[label] for label in group]) for group in groups])


def spread(spec: Spec, arrays: Any, sizes: dict[int, int], which: int) -> tuple[Any, Labels]:
    """A key or value with all shared labels, where it lacks one."""
    array, labels = arrays[which], spec.operands[which]
    missing = tuple([label for label in spec.shared if label not in labels])
    if missing:
        array = jnp.broadcast_to(array, (*[sizes[label] for label in missing], *array.shape))
    return array, (*missing, *labels)
