"""Masks and biases as arrays.

A mask is a boolean array, True where attention is allowed. It has only the axes that it varies along: it is lined up
with the scores by name and never broadcast to their shape.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from haliax import random
from haliax.axis import Axis, AxisSpec, axes_of
from haliax.core.array import NamedArray
from haliax.ops.create import arange

MASKED_SCORE = -1e9
"""What softmax turns into exactly zero beside any other score, finite so that a row of nothing else is not NaN."""


def causal_mask(
    QPos: Axis, KPos: Axis, q_start: int | jax.Array | NamedArray = 0, k_start: int | jax.Array | NamedArray = 0
) -> NamedArray:
    """True where the query's position is not before the key's: `[QPos, KPos]`.

    `q_start` and `k_start`, the positions of the first query and key, may be traced, and may be NamedArrays: then the
    mask has their axes too.

    Args:
        QPos: the positions of the queries.
        KPos: the positions of the keys.
        q_start: the position of the first query.
        k_start: the position of the first key.

    Raises:
        AxisError: if the two axes have the same name.

    >>> hax.nn.attention.causal_mask(*hax.make_axes(position=2, key_position=2))
    bool[position=2, key_position=2] [[ True False] [ True True]]
    """
    queries, keys = _positions(QPos, q_start), _positions(KPos, k_start)
    return queries.broadcast_axis(keys.axes).rearrange((..., QPos, KPos)) >= keys


def _positions(Pos: Axis, start: int | jax.Array | NamedArray) -> NamedArray:
    if not isinstance(start, NamedArray):
        return arange(Pos, start=start)
    return arange(Pos).broadcast_axis(start.axes) + start


def prefix_lm_mask(
    QSeqLen: Axis, KSeqLen: Axis, prefix_len: int | jax.Array | NamedArray, q_start: int = 0, k_start: int = 0
) -> NamedArray:
    """True where the key is one of the first `prefix_len` or not after the query: `[QSeqLen, KSeqLen]`.

    Args:
        QSeqLen: the positions of the queries.
        KSeqLen: the positions of the keys.
        prefix_len: how many keys every query may attend to.
        q_start: the position of the first query.
        k_start: the position of the first key.
    """
    return causal_mask(QSeqLen, KSeqLen, q_start, k_start) | (arange(KSeqLen) < prefix_len)


def forgetful_causal_mask(KPos: Axis, mask_prob: float, sample_prob: bool = True, *, key: jax.Array) -> NamedArray:
    """A mask that forgets some positions at random, never the first: `[KPos]`, to go with a causal mask.

    Source: Liu et al., "Towards Better Few-Shot and Finetuning Performance with Forgetful Causal Language Models",
    arXiv:2210.13432.

    Args:
        KPos: the axis of the keys.
        mask_prob: the probability that a position is forgotten.
        sample_prob: whether the probability itself is drawn, uniform in `[0, mask_prob)`, as in the paper.
        key: a random key.
    """
    probability: Any = mask_prob
    if sample_prob:
        key, probability_key = jax.random.split(key)
        probability = jax.random.uniform(probability_key, (), maxval=mask_prob)
    return random.bernoulli(key, KPos, 1 - probability) | (arange(KPos) == 0)


def combine_masks_and(mask1: NamedArray | None, mask2: NamedArray | None) -> NamedArray | None:
    """True where both are; None allows everything.

    Args:
        mask1: a mask, or None.
        mask2: another; the result has the axes of both.
    """
    if mask1 is None or mask2 is None:
        return mask2 if mask1 is None else mask1
    return mask1 & _beside(mask2, mask1)


def combine_masks_or(mask1: NamedArray | None, mask2: NamedArray | None) -> NamedArray | None:
    """True where one of them is; None leaves it to the other.

    Args:
        mask1: a mask, or None.
        mask2: another; the result has the axes of both.
    """
    if mask1 is None or mask2 is None:
        return mask2 if mask1 is None else mask1
    return mask1 | _beside(mask2, mask1)


def _beside(mask: NamedArray, other: NamedArray) -> NamedArray:
    """The mask with the axes of the other, where neither has all."""
    own, others = set(mask.axes), set(other.axes)
    return mask if own <= others or others <= own else mask.broadcast_axis(other.axes)


def mask_to_bias(mask: NamedArray, mask_value: float = MASKED_SCORE) -> NamedArray:
    """`mask * mask_value`: `mask_value` where the mask is True, 0 elsewhere.

    So the mask must be True where attention is *not* allowed: of a mask as the functions here give and take it, pass
    the inverse, `mask_to_bias(~mask)`.

    Args:
        mask: a mask.
        mask_value: what True becomes.
    """
    return mask * mask_value


def dropout_mask(axes: AxisSpec, dropout_rate: float, *, key: jax.Array) -> NamedArray:
    """True with probability `1 - dropout_rate`.

    Args:
        axes: the axes of the mask.
        dropout_rate: the probability of False.
        key: a random key.
    """
    return random.bernoulli(key, axes_of(axes), 1 - dropout_rate)


def alibi_attention_bias(Heads: Axis, KPos: Axis, bias_max: float = 8.0, dtype: Any = jnp.float32) -> NamedArray:
    """The bias of ALiBi: for each head a slope times the position of the key, `[Heads, KPos]`.

    Args:
        Heads: the heads.
        KPos: the positions of the keys.
        bias_max: the slope of the last head is `2 ** -bias_max`.
        dtype: of the result.
    """
    slopes = jnp.asarray(_alibi_slopes(Heads.size, bias_max), dtype)
    return NamedArray(slopes, (Heads,)).broadcast_axis(KPos).rearrange((Heads, KPos)) * arange(KPos).astype(dtype)


def _alibi_slopes(heads: int, bias_max: float) -> list[float]:
    """Powers of `2 ** (-bias_max / n)` for n heads, a power of two; for other counts, interleaved with those of 2n."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-bias_max * (head + 1) / power) for head in range(power)]
    between = [2 ** (-bias_max * (head + 1) / (2 * power)) for head in range(0, 2 * power, 2)]
    return slopes + between[: heads - power]
