"""Attention in the ring: `softmax(q kᵀ) v` with a function of the ring for the exponential and one for its sum.

The weights of a row are a function of the whole row, as those of a softmax are; what is linear in values, cotangents
and tangents is so here, so that sums over shards of the queries are sums.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from haliax.nn.attention import spec as labelled
from haliax.nn.attention.ring import Ring, cut, exchanged, gradients_in_turns, joined, travelling
from haliax.nn.attention.spec import Labels, Spec, placed, visible
from ir.jax_api import jnp, lax
from ir.ring import literal, mix, signed, unmixed, unsigned


def attention(spec: Spec, *arrays: Any) -> list[Any]:
    """The result, and what stands for the log-sum-exp of each query's scores."""
    weights, labels, sums = _weights(spec, arrays)
    result, result_labels = _contracted(weights, labels, arrays[2], spec.operands[2], (spec.keys,))
    rows = _without_keys(labels, spec)
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


def attention_in_rounds(spec: Spec, arrays: Sequence[Any], ring: Ring) -> list[Any]:
    """The same for one device's queries, the keys of all devices going round: of a row the exponentials, and their
    products with the values, add up whatever their order."""
    moving, length = travelling(spec), spec.sizes(arrays)[spec.keys]
    rows = _rows(spec)

    def added(keys: Sequence[Any], turn: Any, before: Sequence[Any]) -> list[Any]:
        made = list(before)
        for begin, end, first in ring.parts(length, turn):
            given = exchanged(arrays, moving, cut(spec, keys, begin, end))
            exponentials, labels = _exponentials(spec, given, first)
            product, found = _contracted(exponentials, labels, given[2], spec.operands[2], (spec.keys,))
            sums = exponentials.sum(axis=labels.index(spec.keys), dtype=np.uint32)
            more = placed(sums, _without_keys(labels, spec), rows), placed(product, found, spec.result)
            made = [each + some for each, some in zip(made, more, strict=True)]
        return made

    def one_turn(state: Any, turn: Any) -> tuple[Any, None]:
        keys, made = state
        return (list(ring.onward(keys)), added(keys, turn, made)), None

    sizes, last = spec.sizes(arrays), ring.devices - 1
    zeros = [jnp.zeros([sizes[label] for label in labels], np.uint32) for labels in (rows, spec.result)]
    (keys, made), _ = lax.scan(one_turn, ([arrays[i] for i in moving], zeros), jnp.arange(last, dtype=jnp.int32))
    sums, result = added(keys, last, made)
    return [result * placed(mix(sums, "div"), rows, spec.result), placed(mix(sums, "log"), rows, spec.rows)]


def backward_in_rounds(spec: Spec, arrays: Sequence[Any], ring: Ring) -> list[Any]:
    """The same of `backward`. The sum of a query's exponentials is what its log-sum-exp says."""
    moving, length = travelling(spec), spec.sizes(arrays)[spec.keys]
    rows, cotangent = _rows(spec), arrays[-1]
    result, logs = arrays[len(spec.operands) : len(spec.operands) + 2]
    share = mix(unmixed(placed(logs, spec.rows, rows), "log"), "div")
    mean = placed(result * cotangent, spec.result, (*rows, *spec.features))
    mean = mean.sum(axis=tuple(range(len(rows), mean.ndim)), dtype=np.uint32)

    def own(by_query: Any, keys: Sequence[Any], turn: Any) -> tuple[Any, list[Any]]:
        parts: list[list[Any]] = []
        for begin, end, first in ring.parts(length, turn):
            query, key, value = (given := exchanged(arrays, moving, cut(spec, keys, begin, end)))[:3]
            exponentials, labels = _exponentials(spec, given, first)
            weights = exponentials * placed(share, rows, labels)
            by_weight, found = _contracted(cotangent, spec.result, value, spec.operands[2], spec.features)
            scores = weights * (placed(by_weight, found, labels) - placed(mean, rows, labels))
            by_query = by_query + _summed(spec, scores, labels, key, spec.operands[1], spec.operands[0])
            of_key = _summed(spec, scores, labels, query, spec.operands[0], spec.operands[1])
            parts.append([of_key, _summed(spec, weights, labels, cotangent, spec.result, spec.operands[2])])
        return by_query, joined(spec, parts)

    by_query, sums = gradients_in_turns(ring, [arrays[i] for i in moving], jnp.zeros_like(arrays[0]), own)
    return [by_query, *sums]


def _rows(spec: Spec) -> Labels:
    return (*spec.shared, *spec.free)


def _without_keys(labels: Labels, spec: Spec) -> Labels:
    return tuple([label for label in labels if label != spec.keys])


def _weights(spec: Spec, arrays: Sequence[Any]) -> tuple[Any, Labels, Any]:
    """The weight of each key for each query, their labels, and the sum of a query's exponentials."""
    exponentials, labels = _exponentials(spec, arrays, 0)
    sums = exponentials.sum(axis=labels.index(spec.keys), dtype=np.uint32)
    return exponentials * _over_keys(mix(sums, "div"), labels, spec), labels, sums


def _exponentials(spec: Spec, arrays: Sequence[Any], first: Any) -> tuple[Any, Labels]:
    """The exponential of each score, 0 where a query does not see the key, and the labels.

    Args:
        first: the position of the first key.
    """
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
    seen = visible(spec, masks, first + jnp.arange(sizes[spec.keys]), queries, labels)
    exponentials = mix(scores, "exp")
    return (exponentials if seen is None else jnp.where(seen, exponentials, np.uint32(0))), labels


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
