"""Attention, and the masks and biases that go with it.

A mask is a boolean array, True where attention is allowed. It has only the axes that it varies along: it is lined up
with the scores by name and never broadcast to their shape.
"""

from __future__ import annotations

import math
from typing import Any, overload

import jax
import jax.numpy as jnp

from haliax import errors, random
from haliax.axis import Axis, AxisSelection, AxisSelector, AxisSpec, axes_of, axis_name, ensure_tuple, names_of
from haliax.core.array import NamedArray
from haliax.nn._inputs import require
from haliax.nn.softmax import softmax
from haliax.ops.align import require_beside, require_same_sizes
from haliax.ops.contract import dot
from haliax.ops.create import arange
from haliax.ops.elementwise import where

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
    scaling_factor: float | None = None,
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
        scaling_factor: on the scores; by default `1 / sqrt(size of Key)`.

    Returns:
        Weights with the shared axes of query and key, the other axes of the query, and the other axes of the key; in
        the dtype of the query. They sum to 1 over `KPos`.

    Raises:
        AxisError: if an axis is absent or of another size, the query has `KPos` too, or `mask` or `bias` does not fit
            the scores.
        NamedTypeError: if an argument is not a NamedArray.
    """
    function = "dot_product_attention"
    require(function, "query", query, Key)
    require(function, "key", key, (*ensure_tuple(KPos), Key))
    for name in names_of(KPos):
        if query.has_axis(name):
            raise errors.query_has_key_position(name, query, key)
    require_same_sizes(function, "key", key, "`query`", query)
    result_dtype = query.dtype
    scale = 1.0 / math.sqrt(query.axis_size(Key)) if scaling_factor is None else scaling_factor
    if attention_dtype is not None:
        query, key = query.astype(attention_dtype), key.astype(attention_dtype)
    scores = dot(query * scale, key, axis=Key, precision=precision)
    if bias is not None:
        require_beside(function, "bias", bias, "the scores", scores, may_have_all=True, by_position=False)
        scores = scores + bias
    if mask is not None:
        require_beside(function, "mask", mask, "the scores", scores, may_have_all=True)
        scores = where(mask, scores, jnp.asarray(MASKED_SCORE, scores.dtype))
    return softmax(scores, KPos).astype(result_dtype)


@overload
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
) -> NamedArray: ...


@overload
def dot_product_attention(
    QPos: AxisSelector,
    KPos: AxisSelection,
    KeySize: AxisSelector,
    query: NamedArray,
    key: NamedArray,
    value: NamedArray,
    mask: NamedArray | None = None,
    bias: NamedArray | None = None,
    attention_dtype: Any = None,
    precision: Any = None,
) -> NamedArray: ...


def dot_product_attention(*args: Any, **kwargs: Any) -> NamedArray:
    """For each query the mean of the values, weighted by `dot_product_attention_weights`.

    There are two spellings: `dot_product_attention(KPos, Key, query, key, value, …)`, and the older
    `dot_product_attention(QPos, KPos, KeySize, query, key, value, …)`, in which `QPos` may be `KPos`: then the
    positions of the keys are renamed, and the query keeps its own.

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
        AxisError: if an axis is absent or of another size, or (in the newer spelling) the query has `KPos` too.
        NamedTypeError: if an argument is not a NamedArray.
    """
    older = "QPos" in kwargs or "KeySize" in kwargs or (len(args) > 2 and isinstance(args[2], str | Axis))
    return (_attend_with_query_axis if older else _attend)(*args, **kwargs)


def _attend(
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
    weights = dot_product_attention_weights(Key, KPos, query, key, mask, bias, attention_dtype, precision)
    require("dot_product_attention", "value", value, KPos)
    require_same_sizes("dot_product_attention", "value", value, "the weights", weights)
    return dot(weights, value, axis=KPos, precision=precision)


def _attend_with_query_axis(
    QPos: AxisSelector,
    KPos: AxisSelection,
    KeySize: AxisSelector,
    query: NamedArray,
    key: NamedArray,
    value: NamedArray,
    mask: NamedArray | None = None,
    bias: NamedArray | None = None,
    attention_dtype: Any = None,
    precision: Any = None,
) -> NamedArray:
    for argument, operand in (("query", query), ("key", key), ("value", value)):
        require("dot_product_attention", argument, operand, ())
    own = axis_name(QPos)
    if own in names_of(KPos):
        other = {own: f"key_{own}"}
        key, value = key.rename(other), value.rename(other)
        KPos = tuple(other.get(name, name) for name in names_of(KPos))
    return _attend(KPos, KeySize, query, key, value, mask, bias, attention_dtype, precision)


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
