"""Attention written out: the weights of all pairs of a query and a key are an array, to which a bias may be added.

`haliax.nn.attention.attend` is the one for training: the compiler knows it, and it has ways without that array.
"""

from __future__ import annotations

import math
from typing import Any, overload

import jax.numpy as jnp

from haliax import errors
from haliax.axis import Axis, AxisSelection, AxisSelector, axis_name, ensure_tuple, names_of
from haliax.core.array import NamedArray
from haliax.nn._inputs import require
from haliax.nn.attention.masks import MASKED_SCORE
from haliax.nn.softmax import softmax
from haliax.ops.align import require_beside, require_same_sizes
from haliax.ops.contract import dot
from haliax.ops.elementwise import where


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
