"""Attention block by block along the keys: memory grows with the length of the sequence, not with its square.

The softmax is kept as a running maximum, a running sum and a running mean, corrected as each block of keys comes
(Milakov and Gimelshein, arXiv:1805.02867; Rabe and Staats, arXiv:2112.05682). The gradient makes the scores of each
block again from the log-sum-exp of its rows (Dao et al., arXiv:2205.14135).

The loop is over keys alone and has all queries in it, so a mesh that shards the queries, by batch, heads or position,
shards every step of it. Keys at the end that do not fill a block are a shorter block of their own, after the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from haliax.nn.attention import reference
from haliax.nn.attention.masks import MASKED_SCORE
from haliax.nn.attention.spec import Labels, Spec, contracted, placed, scores_of, visible

BLOCK = 512
"""Keys in a block."""

tangent = reference.tangent


class Block(NamedTuple):
    """Some keys in a row: scores with the labels `layout`, -1e9 where `seen` is False, and their key and value."""

    scores: Any
    seen: Any
    layout: Labels
    key: Any
    value: Any


Step = Callable[[Any, Block, Any], Any]
"""Of what is carried so far, a block of keys, and where it begins, what is carried on."""


def refusal(spec: Spec, arrays: Sequence[Any], platform: str) -> str | None:
    """Why it cannot do this: never."""
    return None


def attention(spec: Spec, *arrays: Any) -> tuple[Any, Any]:
    """The result, and the log-sum-exp of each query's scores with the labels `spec.rows`."""
    start, step, finish = forward(spec, arrays)
    return finish(over_blocks(spec, arrays, step, start))


def forward(spec: Spec, arrays: Any) -> tuple[Any, Step, Callable[[Any], tuple[Any, Any]]]:
    """The running softmax before the first key; what a block of keys makes of it; the results when all are done."""
    query, value = arrays[0], arrays[2]
    sizes = spec.sizes(arrays)
    rows = (*spec.shared, *spec.free)
    acc = (*rows, *spec.features)
    dtype = jnp.promote_types(jnp.promote_types(query.dtype, arrays[1].dtype), jnp.float32)

    def shape(labels: Labels) -> list[int]:
        return [sizes[label] for label in labels]

    def step(carry: Any, block: Block, start: Any) -> Any:
        highest, total, mean = carry
        scores = placed(block.scores, block.layout, (*rows, spec.keys))
        now = jnp.maximum(highest, scores.max(-1))
        weights = jnp.exp(scores - now[..., None])
        kept = jnp.exp(highest - now)
        more, labels = contracted(
            weights.astype(query.dtype), (*rows, spec.keys), block.value, spec.operands[2], (spec.keys,), dtype
        )
        grown = mean * lax.expand_dims(kept, range(len(rows), len(acc))) + placed(more, labels, acc)
        return now, total * kept + weights.sum(-1), grown

    def finish(carry: Any) -> tuple[Any, Any]:
        highest, total, mean = carry
        result = mean / lax.expand_dims(total, range(len(rows), len(acc)))
        out = result.astype(jnp.promote_types(query.dtype, value.dtype))
        return placed(out, acc, spec.result), placed(highest + jnp.log(total), rows, spec.rows)

    start = (jnp.full(shape(rows), -jnp.inf, dtype), jnp.zeros(shape(rows), dtype), jnp.zeros(shape(acc), dtype))
    return start, step, finish


def backward(spec: Spec, *arrays: Any) -> list[Any]:
    """The cotangents of query, key and value; behind the operands stand both results and the cotangent of the first."""
    shape = arrays[0].shape
    spec, arrays = _in_parts(spec, arrays)
    start, step = gradients(spec, arrays, spec.sizes(arrays)[spec.keys])
    by_query, *sums = over_blocks(spec, arrays, step, start)
    by_key, by_value = (lax.reduce(each, np.zeros((), each.dtype), lax.add, range(len(spec.parts))) for each in sums)
    return [lax.reshape(by_query.astype(arrays[0].dtype), shape), by_key, by_value]


def gradients(spec: Spec, arrays: Any, keys: int) -> tuple[tuple[Any, Any, Any], Step]:
    """The cotangents of query, key and value before the first key, and what a block of keys makes of them.

    Args:
        arrays: the operands, both results and the cotangent of the first.
        keys: how many a query has scores with in all.
    """
    result, lse, cotangent = arrays[len(spec.operands) :]
    query, key, value = arrays[:3]
    parts = tuple([part for _, part, _ in spec.parts])
    dtype = lse.dtype
    rows = (*spec.shared, *spec.free)
    pulled = placed(result.astype(dtype) * cotangent.astype(dtype), spec.result, (*rows, *spec.features))
    pulled = pulled.sum(tuple(range(len(rows), pulled.ndim)))[..., None]
    lse = placed(lse, spec.rows, rows)[..., None]
    pairs = (*rows, spec.keys)

    def step(carry: Any, block: Block, start: Any) -> Any:
        by_query, by_key, by_value = carry
        scores = placed(block.scores, block.layout, pairs)
        # A row that sees nothing weighs all keys alike; its log-sum-exp is too large a number to say so.
        weights = jnp.where(lse < MASKED_SCORE / 2, 1 / keys, jnp.exp(scores - lse))
        of_weights, labels = contracted(cotangent, spec.result, block.value, spec.operands[2], spec.features, dtype)
        of_scores = weights * (placed(of_weights, labels, pairs) - pulled)
        if block.seen is not None:
            of_scores = jnp.where(placed(block.seen, block.layout, pairs), of_scores, 0)
        if spec.softcap is not None:
            # Where a score is masked this is no slope of anything, but its gradient is zero already.
            of_scores = of_scores * (1 - jnp.square(jnp.clip(scores / spec.softcap, -1, 1)))
        of_scores = (of_scores * _scale(spec, query)).astype(query.dtype)
        more, labels = contracted(of_scores, pairs, block.key, spec.operands[1], (spec.keys,), dtype)
        by_query = by_query + placed(more, labels, spec.operands[0])
        own = _summed(spec, of_scores, query, spec.operands[0], spec.operands[1], dtype)
        by_key = _put(by_key, own, start, len(parts) + spec.operands[1].index(spec.keys))
        own = _summed(spec, weights.astype(cotangent.dtype), cotangent, spec.result, spec.operands[2], dtype)
        return by_query, by_key, _put(by_value, own, start, len(parts) + spec.operands[2].index(spec.keys))

    counts = tuple([count for _, _, count in spec.parts])
    by_key, by_value = (jnp.zeros((*counts, *each.shape), each.dtype) for each in (key, value))
    return (jnp.zeros(query.shape, dtype), by_key, by_value), step


def _in_parts(spec: Spec, arrays: Any) -> tuple[Spec, Any]:
    """The same with each dimension of `spec.parts` as two: its parts, and what is in one."""
    split = {label: (part, count) for label, part, count in spec.parts}

    def labels_of(labels: Labels) -> Labels:
        return tuple([each for label in labels for each in ((split[label][0], label) if label in split else (label,))])

    def array_of(array: Any, labels: Labels) -> Any:
        shape: list[int] = []
        for label, size in zip(labels, array.shape, strict=True):
            count = split[label][1] if label in split else 1
            shape += [count, size // count] if label in split else [size]
        return lax.reshape(array, shape) if len(shape) > array.ndim else array

    if not split:
        return spec, arrays
    given = [array_of(*each) for each in zip(arrays, spec.operands_of("backward"), strict=True)]
    operands = tuple(map(labels_of, spec.operands))
    return replace(spec, operands=operands, result=labels_of(spec.result)), given


def _summed(spec: Spec, pairs: Any, other: Any, other_labels: Labels, labels: Labels, dtype: Any) -> Any:
    """The product of an array of pairs with one of rows, summed over the rows of each part: with the labels of the
    parts, then those of a key or a value."""
    own = (*spec.shared, *spec.free, spec.keys)
    labels = (*[part for _, part, _ in spec.parts], *labels)
    over = tuple([label for label in own if label not in labels])
    product, found = contracted(pairs, own, other, other_labels, over, dtype)
    return placed(product, found, labels)


def _put(whole: Any, part: Any, start: Any, axis: int) -> Any:
    return lax.dynamic_update_slice_in_dim(whole, part.astype(whole.dtype), start, axis)


def _scale(spec: Spec, query: Any) -> float:
    return query.shape[spec.operands[0].index(spec.size)] ** -0.5 if spec.scale is None else spec.scale


def over_blocks(spec: Spec, arrays: Any, step: Step, carry: Any, first: Any = 0) -> Any:
    """`step` for one block of keys after the other.

    Args:
        first: the position of the first key.
    """
    keys = spec.sizes(arrays)[spec.keys]
    whole, rest = divmod(keys, min(BLOCK, keys))
    size = min(BLOCK, keys)

    def at(carry: Any, number: Any) -> tuple[Any, None]:
        return step(carry, _block(spec, arrays, number * size, size, first), number * size), None

    if whole == 1 and not rest:
        return at(carry, 0)[0]
    carry, _ = lax.scan(at, carry, jnp.arange(whole))
    return step(carry, _block(spec, arrays, whole * size, rest, first), whole * size) if rest else carry


def _block(spec: Spec, arrays: Any, start: Any, size: int, first: Any) -> Block:
    def part(array: Any, labels: Labels) -> Any:
        if spec.keys not in labels:
            return array
        return lax.dynamic_slice_in_dim(array, start, size, labels.index(spec.keys))

    given = arrays[: len(spec.operands)]
    query, key, value, *masks = [part(*each) for each in zip(given, spec.operands, strict=True)]
    scores, layout = scores_of(spec, query, key, spec.operands[1])
    queries = 1 if spec.position is None else query.shape[spec.operands[0].index(spec.position)]
    seen = visible(spec, spec.named(masks), first + start + jnp.arange(size), queries, layout)
    if seen is not None:
        seen = jnp.broadcast_to(seen, scores.shape)
        scores = jnp.where(seen, scores, jnp.asarray(MASKED_SCORE, scores.dtype))
    return Block(scores, seen, layout, key, value)
