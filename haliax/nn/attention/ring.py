"""Attention whose positions, of queries and of keys, are shared out over devices: the keys go round.

Each device has the queries of its own positions, and the keys and values of one device after the other: it takes what
these add to its softmax, as from any block of keys (`blockwise`), and passes them on to the next. No device ever has
all keys, or scores with all of them; passing on needs nothing that is being computed. In the backward pass the
gradients of keys and values go round with them, and each device adds its part. Where the links of both directions are
free, the first half of each device's keys goes the one way and the second half the other.

Source: Liu et al., "Ring Attention with Blockwise Transformers for Near-Infinite Context", arXiv:2310.01889.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import lax

from haliax.nn.attention import blockwise
from haliax.nn.attention.spec import Spec

Passing = Callable[[Sequence[Any]], Sequence[Any]]
"""Of arrays of this device those of the device before it."""


@dataclass(frozen=True)
class Ring:
    """The devices that keys go round.

    Attributes:
        devices: how many there are.
        place: this device's place among them, an int32 scalar: it has that part of all positions.
        onward: passes on what has the positions of keys (`travelling`).
        back: passes on the gradients of key and value: from the last device to add to them to the one whose they are.
        both: whether second halves go the other way.
    """

    devices: int
    place: Any
    onward: Passing
    back: Passing | None = None
    both: bool = False

    def parts(self, length: int, turn: Any) -> list[tuple[int, int, Any]]:
        """The keys that this device has at a turn, so many: from where and up to where they are of one device, and the
        position of the first of these."""
        before, half = (self.place - turn) % self.devices, length // 2
        if not self.both or not half:
            return [(0, length, before * length)]
        behind = (self.place + turn) % self.devices
        return [(0, half, before * length), (half, length, behind * length + half)]


def travelling(spec: Spec) -> tuple[int, ...]:
    """The positions of the operands that have the positions of keys."""
    return tuple([i for i, labels in enumerate(spec.operands) if spec.keys in labels])


def exchanged(arrays: Sequence[Any], positions: Sequence[int], others: Sequence[Any]) -> list[Any]:
    """The arrays with others at some positions."""
    there = dict(zip(positions, others, strict=True))
    return [there.get(i, array) for i, array in enumerate(arrays)]


def cut(spec: Spec, keys: Sequence[Any], start: int, end: int) -> list[Any]:
    """Some of the keys of what has the positions of keys (`travelling`)."""
    axes = [spec.operands[i].index(spec.keys) for i in travelling(spec)]
    return [lax.slice_in_dim(array, start, end, axis=axis) for array, axis in zip(keys, axes, strict=True)]


def joined(spec: Spec, parts: Sequence[Sequence[Any]]) -> list[Any]:
    """The gradients of key and value, from those of some of the keys each."""
    axes = [spec.operands[i].index(spec.keys) for i in (1, 2)]
    return [jnp.concatenate(each, axis) for each, axis in zip(zip(*parts, strict=True), axes, strict=True)]


def attention(spec: Spec, arrays: Sequence[Any], ring: Ring) -> tuple[Any, Any]:
    """The result for this device's queries, and the log-sum-exp of the scores of each.

    Args:
        spec: the attention, its queries starting where those of this device do.
        arrays: this device's part of the operands.
    """
    start, step, finish = blockwise.forward(spec, arrays)
    moving, length = travelling(spec), spec.sizes(arrays)[spec.keys]

    def attended(carry: Any, keys: Sequence[Any], turn: Any) -> Any:
        for begin, end, first in ring.parts(length, turn):
            given = exchanged(arrays, moving, cut(spec, keys, begin, end))
            carry = blockwise.over_blocks(spec, given, step, carry, first)
        return carry

    def one_turn(state: Any, turn: Any) -> tuple[Any, None]:
        carry, keys = state
        return (attended(carry, keys, turn), list(ring.onward(keys))), None

    last = ring.devices - 1
    (carry, keys), _ = lax.scan(one_turn, (start, [arrays[i] for i in moving]), jnp.arange(last, dtype=jnp.int32))
    return finish(attended(carry, keys, last))


def backward(spec: Spec, arrays: Sequence[Any], ring: Ring) -> list[Any]:
    """The cotangents of this device's queries, keys and values; behind the operands stand both results and the
    cotangent of the first.

    Gradients go one turn behind their keys: a device passes on those of the turn before while it makes its part of the
    next ones.
    """
    moving, length = travelling(spec), spec.sizes(arrays)[spec.keys]
    (start, *zeros), step = blockwise.gradients(spec, arrays, length * ring.devices)

    def own(by_query: Any, keys: Sequence[Any], turn: Any) -> tuple[Any, list[Any]]:
        parts: list[list[Any]] = []
        for begin, end, first in ring.parts(length, turn):
            given = exchanged(arrays, moving, cut(spec, keys, begin, end))
            none = [jnp.zeros_like(given[i], each.dtype) for i, each in zip((1, 2), zeros, strict=True)]
            by_query, *made = blockwise.over_blocks(spec, given, step, (by_query, *none), first)
            parts.append(made)
        return by_query, joined(spec, parts)

    by_query, sums = gradients_in_turns(ring, [arrays[i] for i in moving], start, own)
    return [by_query.astype(arrays[0].dtype), *sums]


def gradients_in_turns(
    ring: Ring, keys: Sequence[Any], by_query: Any, own: Callable[[Any, Sequence[Any], Any], tuple[Any, list[Any]]]
) -> tuple[Any, list[Any]]:
    """The gradient of the queries, and those of this device's keys and values, to which each device has added.

    Args:
        keys: what has the positions of keys, of this device.
        own: of the gradient of the queries so far, keys, and the number of the turn: that gradient, and this device's
            part of the gradients of those keys and their values.
    """
    assert ring.back is not None
    passed, last = ring.onward(keys), ring.devices - 1
    by_query, sums = own(by_query, keys, 0)

    def added(by_query: Any, keys: Sequence[Any], sums: Sequence[Any], turn: Any) -> tuple[Any, list[Any]]:
        assert ring.back is not None
        by_query, made = own(by_query, keys, turn)
        return by_query, [sum_ + each for sum_, each in zip(ring.back(sums), made, strict=True)]

    def one_turn(state: Any, turn: Any) -> tuple[Any, None]:
        by_query, keys, sums = state
        after = list(ring.onward(keys))
        by_query, sums = added(by_query, keys, sums, turn)
        return (by_query, after, sums), None

    state = (by_query, list(passed), sums)
    if last > 1:
        state, _ = lax.scan(one_turn, state, jnp.arange(1, last, dtype=jnp.int32))
    by_query, keys, sums = state
    by_query, sums = added(by_query, keys, sums, last)
    return by_query, list(ring.back(sums))
