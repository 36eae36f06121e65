"""Attention in the ring: `softmax(q kᵀ) v` with a function of the ring for the exponential and one for its sum.

The weights of a row are a function of the whole row, as those of a softmax are; what is linear in values, cotangents
and tangents is so here, so that sums over shards of the queries are sums.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from haliax.nn.attention import spec as labelled
from haliax.nn.attention.spec import Labels, Spec, placed, visible
from ir.jax_api import jnp
from ir.ring import literal, mix, signed, unsigned


def attention(spec: Spec, *arrays: Any) -> list[Any]:
    """The result, and what stands for the log-sum-exp of each query's scores."""
    weights, labels, sums = _weights(spec, arrays)
    result, result_labels = _contracted(weights, labels, arrays[2], spec.operands[2], (spec.keys,))
    rows = tuple([label for label in labels if label != spec.keys])
    return [placed(result, result_labels, spec.result), placed(mix(sums, "log"), rows, spec.rows)]


def backward(spec: Spec, *arrays: Any) -> list[Any]:
    """The cotangents of query, key and value; behind the operands stand both results and the cotangent of the first."""
    query, key, value, cotangent = *arrays[:3], arrays[-1]
    weights, labels, _ = _weights(spec, arrays)
    by_weight, found = _contracted(cotangent, spec.result, value, spec.operands[2], spec.features)
    scores = _through_softmax(spec, weights, placed(by_weight, found, labels), labels)
    of_query = _summed(spec, scores, labels, key, spec.operands[1], spec.operands[0])
    of_key = _summed(spec, scores, labels, query, spec.operands[0], spec.operands[1])
    of_value = _summed(spec, weights, labels, cotangent, spec.result, spec.operands[2])
    return [of_query, of_key, of_value]


def tangent(spec: Spec, *arrays: Any) -> list[Any]:
    """The tangent of the result; behind the operands stand both results and the tangents of query, key and value."""
    (query, key, value), (by_query, by_key, by_value) = arrays[:3], arrays[-3:]
    weights, labels, _ = _weights(spec, arrays)
    own = [(by_query, key), (query, by_key)]
    sides = [_contracted(q, spec.operands[0], k, spec.operands[1], (spec.size,)) for q, k in own]
    moved = sum(placed(product, found, labels) for product, found in sides)
    scores = _through_softmax(spec, weights, moved, labels)
    products = [(scores, value), (weights, by_value)]
    parts = [_contracted(w, labels, v, spec.operands[2], (spec.keys,)) for w, v in products]
    return [sum(placed(product, found, spec.result) for product, found in parts)]


def _weights(spec: Spec, arrays: Sequence[Any]) -> tuple[Any, Labels, Any]:
    """The weight of each key for each query, their labels, and the sum of a query's exponentials."""
    spec = replace(spec, parts=())  # how a gradient's sum is taken, which is no matter here
    query, key = arrays[:2]
    scores, labels = _contracted(query, spec.operands[0], key, spec.operands[1], (spec.size,))
    sizes = spec.sizes(arrays)
    scale = sizes[spec.size] ** -0.5 if spec.scale is None else spec.scale
    scores = scores * literal(np.float32(scale))
    if spec.softcap is not None:
        scores = mix(scores * literal(np.float32(spec.softcap)), "tanh")
    masks = spec.named(arrays[3 : len(spec.operands)])
    queries = sizes.get(-1 if spec.position is None else spec.position, 1)
    seen = visible(spec, masks, jnp.arange(sizes[spec.keys]), queries, labels)
    exponentials = mix(scores, "exp")
    if seen is not None:
        exponentials = jnp.where(seen, exponentials, np.uint32(0))
    sums = exponentials.sum(axis=labels.index(spec.keys), dtype=np.uint32)
    return exponentials * _over_keys(mix(sums, "div"), labels, spec), labels, sums


def _over_keys(rows: Any, labels: Labels, spec: Spec) -> Any:
    return jnp.expand_dims(rows, labels.index(spec.keys))


def _through_softmax(spec: Spec, weights: Any, moved: Any, labels: Labels) -> Any:
    """The derivative of the weights: `w · (m − Σ w m)`."""
    mean = (weights * moved).sum(axis=labels.index(spec.keys), dtype=np.uint32)
    return weights * (moved - _over_keys(mean, labels, spec))


def _summed(spec: Spec, first: Any, first_labels: Labels, second: Any, second_labels: Labels, wanted: Labels) -> Any:
    """A product summed over all labels that the wanted result has not."""
    over = tuple([label for label in first_labels if label in second_labels and label not in wanted])
    product, labels = _contracted(first, first_labels, second, second_labels, over)
    alone = tuple([axis for axis, label in enumerate(labels) if label not in wanted])
    left = tuple([label for label in labels if label in wanted])
    return placed(product.sum(axis=alone, dtype=np.uint32) if alone else product, left, wanted)


def _contracted(
    first: Any, first_labels: Labels, second: Any, second_labels: Labels, over: Labels
) -> tuple[Any, Labels]:
    product, labels = labelled.contracted(signed(first), first_labels, signed(second), second_labels, over)
    return unsigned(product), labels
