"""Attention, and the masks and biases that go with it.

A mask is a boolean array, True where attention is allowed. It has only the axes that it varies along: it is lined up
with the scores by name and never broadcast to their shape.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from haliax import errors, random
from haliax.array import NamedArray, wrap
from haliax.axis import Axis, AxisSelection, AxisSelector, AxisSpec, axes_of, ensure_tuple
from haliax.contract import dot
from haliax.create import arange
from haliax.elementwise import where
from haliax.nn.softmax import softmax

MASKED_SCORE = -1e9


def dot_product_attention_weights(
    Key: AxisSelector,
    KPos: AxisSelection,
    query: NamedArray,
    key: NamedArray,
    mask: NamedArray | None = None,
    bias: NamedArray | None = None,
    attention_dtype: Any = None,
    precision: Any = None,
) -> NamedArray:
    """How much each query attends to each key: `softmax(query · key / sqrt(size of Key) + bias)` over `KPos`.

    Args:
        Key: the axis of the query and key vectors.
        KPos: the axes of the positions that are attended to.
        query: has `Key`.
        key: has `Key` and `KPos`.
        mask: boolean, True where attention is allowed.
        bias: added to the scores.
        attention_dtype: to compute the scores in; by default that of the query.
        precision: as in `jax.lax.dot_general`.

    Returns:
        Weights with the shared axes of query and key, the other axes of the query, and the other axes of the key; in
        the dtype of the query. They sum to 1 over `KPos`.

    Raises:
        AxisError: if an axis is absent, or the query has `KPos` too.
    """
    for name in [axis.name for axis in ensure_tuple(key.resolve_axis(KPos))]:
        if query.has_axis(name):
            raise errors.query_has_key_position(name, query, key)
    result_dtype = query.dtype
    size = query.axis_size(Key)
    if attention_dtype is not None:
        query, key = query.astype(attention_dtype), key.astype(attention_dtype)
    scores = dot(query * (1.0 / math.sqrt(size)), key, axis=Key, precision=precision)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = where(mask, scores, jnp.asarray(MASKED_SCORE, scores.dtype))
    return softmax(scores, KPos).astype(result_dtype)


def dot_product_attention(
    KPos: AxisSelection,
    Key: AxisSelector,
    query: NamedArray,
    key: NamedArray,
    value: NamedArray,
    mask: NamedArray | None = None,
    bias: NamedArray | None = None,
    attention_dtype: Any = None,
    precision: Any = None,
) -> NamedArray:
    """For each query the mean of the values, weighted by `dot_product_attention_weights`.

    Args:
        KPos: the axes of the positions that are attended to.
        Key: the axis of the query and key vectors.
        query: has `Key`, and not `KPos`.
        key: has `Key` and `KPos`.
        value: has `KPos`.
        mask: boolean, True where attention is allowed.
        bias: added to the scores.
        attention_dtype: to compute the scores in.
        precision: as in `jax.lax.dot_general`.

    Raises:
        AxisError: if an axis is absent, or the query has `KPos` too.
    """
    weights = dot_product_attention_weights(Key, KPos, query, key, mask, bias, attention_dtype, precision)
    return dot(weights, value, axis=KPos, precision=precision)


def causal_mask(QPos: Axis, KPos: Axis, q_start: Any = 0, k_start: Any = 0) -> NamedArray:
    """True where the query's position is not before the key's: `[QPos, KPos]`.

    `q_start` and `k_start`, the positions of the first query and key, may be traced.
    """
    return arange(QPos, start=q_start).broadcast_axis(KPos).rearrange((QPos, KPos)) >= arange(KPos, start=k_start)


def prefix_lm_mask(QPos: Axis, KPos: Axis, prefix_len: Any, q_start: int = 0, k_start: int = 0) -> NamedArray:
    """True where the key is in the prefix, or not after the query: `[QPos, KPos]`."""
    in_prefix = arange(KPos, start=k_start) < prefix_len
    return causal_mask(QPos, KPos, q_start, k_start) | in_prefix


def forgetful_causal_mask(
    key: jax.Array,
    QPos: Axis,
    KPos: Axis,
    mask_prob: float = 0.15,
    sample_prob: bool = True,
    *,
    keep_first: bool = True,
) -> NamedArray:
    """A causal mask that also forgets some earlier positions, at random: `[QPos, KPos]`.

    Args:
        key: a random key.
        QPos: the axis of the queries.
        KPos: the axis of the keys.
        mask_prob: the probability that a position is forgotten.
        sample_prob: whether the probability itself is drawn, uniform in `[0, mask_prob)`.
        keep_first: whether the first position is always kept, so that every query has something to attend to.
    """
    probability_key, mask_key = jax.random.split(key)
    probability = jax.random.uniform(probability_key, (), maxval=mask_prob) if sample_prob else mask_prob
    kept = random.bernoulli(mask_key, KPos, 1 - probability)
    if keep_first:
        kept = kept | (arange(KPos) == 0)
    return causal_mask(QPos, KPos) & kept


def combine_masks_and(mask1: NamedArray | None, mask2: NamedArray | None) -> NamedArray | None:
    """True where both are; None allows everything."""
    if mask1 is None or mask2 is None:
        return mask2 if mask1 is None else mask1
    return _widened(mask1, mask2) & mask2


def combine_masks_or(mask1: NamedArray | None, mask2: NamedArray | None) -> NamedArray | None:
    """True where one of them is; None leaves it to the other."""
    if mask1 is None or mask2 is None:
        return mask2 if mask1 is None else mask1
    return _widened(mask1, mask2) | mask2


def _widened(mask: NamedArray, other: NamedArray) -> NamedArray:
    """The mask with the axes of the other, where neither has all."""
    own, others = set(mask.axes), set(other.axes)
    return mask if own <= others or others <= own else mask.broadcast_axis(other.axes)


def mask_to_bias(mask: NamedArray, mask_value: float = MASKED_SCORE) -> NamedArray:
    """0 where the mask is True, `mask_value` elsewhere."""
    return wrap(jnp.where(mask.array, 0.0, mask_value), mask.axes)


def dropout_mask(axes: AxisSpec, dropout_rate: float, *, key: jax.Array) -> NamedArray:
    """True with probability `1 - dropout_rate`."""
    return random.bernoulli(key, axes_of(axes), 1 - dropout_rate)


def alibi_attention_bias(Heads: Axis, KPos: Axis, bias_max: float = 8.0, dtype: Any = jnp.float32) -> NamedArray:
    """The bias of ALiBi: for each head a slope times the position of the key, `[Heads, KPos]`."""
    slopes = jnp.asarray(_alibi_slopes(Heads.size, bias_max), dtype)
    return NamedArray(slopes, (Heads,)).broadcast_axis(KPos).rearrange((Heads, KPos)) * arange(KPos).astype(dtype)


def _alibi_slopes(heads: int, bias_max: float) -> list[float]:
    """Powers of `2 ** (-bias_max / n)` for n heads, a power of two; for other counts, interleaved with those of 2n."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-bias_max * (head + 1) / power) for head in range(power)]
    between = [2 ** (-bias_max * (head + 1) / (2 * power)) for head in range(0, 2 * power, 2)]
    return slopes + between[: heads - power]
