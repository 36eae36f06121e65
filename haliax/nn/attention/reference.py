"""Attention as it is defined, with the array of all scores: the fastest way where sequences are short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from haliax.nn.attention.masks import MASKED_SCORE
from haliax.nn.attention.spec import Spec, contracted, placed, scores_of, visible


def refusal(spec: Spec, arrays: Sequence[Any], platform: str) -> str | None:
    """Why it cannot do this: never."""
    return None


def attention(spec: Spec, *arrays: Any) -> tuple[Any, Any]:
    """The result, and the log-sum-exp of each query's scores with the labels `spec.rows`."""
    query, key, value = arrays[:3]
    scores, labels = scores_of(spec, query, key, spec.operands[1])
    sizes = spec.sizes(arrays)
    keys = jnp.arange(sizes[spec.keys])
    seen = visible(spec, spec.named(arrays[3:]), keys, sizes.get(_position(spec), 1), labels)
    if seen is not None:
        scores = jnp.where(seen, scores, jnp.asarray(MASKED_SCORE, scores.dtype))
    over = labels.index(spec.keys)
    weights = jax.nn.softmax(scores, axis=over).astype(query.dtype)
    result, result_labels = contracted(weights, labels, value, spec.operands[2], (spec.keys,))
    rows = tuple([label for label in labels if label != spec.keys])
    lse = placed(jax.nn.logsumexp(scores, axis=over), rows, spec.rows)
    return placed(result, result_labels, spec.result), lse


def backward(spec: Spec, *arrays: Any) -> list[Any]:
    """The cotangents of query, key and value; behind the operands stand both results and the cotangent of the first."""
    masks, cotangent = arrays[3 : len(spec.operands)], arrays[-1]
    _, pull = jax.vjp(lambda *moved: attention(spec, *moved, *masks)[0], *arrays[:3])
    return list(pull(cotangent))


def tangent(spec: Spec, *arrays: Any) -> list[Any]:
    """The tangent of the result; behind the operands stand both results and the tangents of query, key and value."""
    masks, moved = arrays[3 : len(spec.operands)], arrays[-3:]
    _, result = jax.jvp(lambda *varied: attention(spec, *varied, *masks)[0], arrays[:3], moved)
    return [result]


def _position(spec: Spec) -> int:
    return -1 if spec.position is None else spec.position
