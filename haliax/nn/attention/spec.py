"""What an attention computes, said by labels: the form that all backends are given.

Every axis has a label, a small number, and each operand lists the labels of its dimensions in the order that it has
them, as the letters of an einsum do. So nothing is transposed before a backend asks for it, the batch of `jax.vmap` is
one label more, and which axes are shared by the queries and the keys (batch, heads) needs no saying: both have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
from jax import lax

Labels = tuple[int, ...]
Arrays = Sequence[Any]

MASKS = ("window", "prefix", "starts", "query_segments", "key_segments", "visible")
"""What may follow query, key and value: the parts of a mask that are arrays."""


@dataclass(frozen=True)
class Spec:
    """An attention.

    Attributes:
        operands: the labels of query, key, value and then of each of `masks`.
        masks: which of `MASKS` are there, in this order.
        result: the labels of the result.
        size: the label that query and key are multiplied over.
        keys: the label of the positions of the keys.
        position: the label of the positions of the queries; None where no mask asks for them.
        causal: see `AttentionMask`.
        window: the window where it is a constant; 0 for none.
        prefix: the prefix where it is a constant.
        starts: the position of the first query where it is a constant.
        scale: what scores are multiplied with; None for `1 / sqrt(size)`.
        softcap: scores are `softcap * tanh(score / softcap)`; None for no cap.
        backend: which implementation; `auto` chooses when the program is compiled.
        parts: of the gradient: (label, label of its parts, how many) of what only the query has and a mesh shards. The
            gradients of keys and values are sums over it; a backend that makes them in a loop keeps a sum for each part
            and adds these after the loop, so that the mesh adds once.
    """

    operands: tuple[Labels, ...]
    masks: tuple[str, ...]
    result: Labels
    size: int
    keys: int
    position: int | None
    causal: bool = False
    window: int = 0
    prefix: int = 0
    starts: int = 0
    scale: float | None = None
    softcap: float | None = None
    backend: str = "auto"
    parts: tuple[tuple[int, int, int], ...] = ()

    @cached_property
    def rows(self) -> Labels:
        """The labels of what there is one of for each query: its log-sum-exp."""
        return tuple([label for label in self.operands[0] if label != self.size])

    @cached_property
    def shared(self) -> Labels:
        """The labels that queries and keys are matched by."""
        own = set(self.operands[1]) | set(self.operands[2])
        return tuple([label for label in self.rows if label in own])

    @cached_property
    def free(self) -> Labels:
        """The labels that only the queries have: their positions, the heads of a group."""
        return tuple([label for label in self.rows if label not in self.shared])

    @cached_property
    def features(self) -> Labels:
        """The labels of a value's own."""
        return tuple([label for label in self.operands[2] if label != self.keys and label not in self.shared])

    def operands_of(self, member: str) -> tuple[Labels, ...]:
        """The labels of all operands of a primitive: of attention itself (``), its `backward` or its `tangent`."""
        behind = {"": (), "backward": (self.result,), "tangent": self.operands[:3]}[member]
        return (*self.operands, *((self.result, self.rows) if member else ()), *behind)

    def results_of(self, member: str) -> tuple[Labels, ...]:
        """The labels of all results of a primitive."""
        return {"": (self.result, self.rows), "backward": self.operands[:3], "tangent": (self.result,)}[member]

    def named(self, masks: Arrays) -> dict[str, tuple[Any, Labels]]:
        """The arrays behind query, key and value, each by its name and with its labels."""
        return {name: (array, labels) for name, array, labels in zip(self.masks, masks, self.operands[3:], strict=True)}

    def sizes(self, arrays: Arrays) -> dict[int, int]:
        """The size of each label."""
        return {
            label: size
            for array, labels in zip(arrays, self.operands, strict=False)
            for label, size in zip(labels, array.shape, strict=True)
        }


def placed(array: Any, labels: Labels, layout: Labels) -> Any:
    """The array as it broadcasts against one with the labels `layout`."""
    order = [labels.index(label) for label in layout if label in labels]
    moved = array if order == sorted(order) else lax.transpose(array, order)
    absent = [place for place, label in enumerate(layout) if label not in labels]
    return lax.expand_dims(moved, absent) if absent else moved


def contracted(
    first: Any, first_labels: Labels, second: Any, second_labels: Labels, over: Labels, dtype: Any = None
) -> tuple[Any, Labels]:
    """The product summed over some labels, and its labels: shared ones, those of the first, those of the second."""
    if first.dtype != second.dtype:
        common = jnp.promote_types(first.dtype, second.dtype)
        first, second = first.astype(common), second.astype(common)
    batch = tuple([label for label in first_labels if label in second_labels and label not in over])
    sides = (first_labels, second_labels)
    numbers = tuple([tuple([tuple([own.index(x) for x in labels]) for own in sides]) for labels in (over, batch)])
    rest = [tuple([label for label in own if label not in over and label not in batch]) for own in sides]
    preferred = None if dtype is None or dtype == first.dtype else dtype
    product = lax.dot_general(first, second, numbers, preferred_element_type=preferred)  # type: ignore[arg-type]
    return product, (*batch, *rest[0], *rest[1])


def scores_of(spec: Spec, query: Any, key: Any, key_labels: Labels) -> tuple[Any, Labels]:
    """`query · key`, scaled and capped, in at least float32, and its labels."""
    dtype = jnp.promote_types(jnp.promote_types(query.dtype, key.dtype), jnp.float32)
    scores, labels = contracted(query, spec.operands[0], key, key_labels, (spec.size,), dtype)
    if spec.scale is None:
        scores = scores / query.shape[spec.operands[0].index(spec.size)] ** 0.5
    elif spec.scale != 1.0:
        scores = scores * spec.scale
    if spec.softcap is not None:
        scores = spec.softcap * jnp.tanh(scores / spec.softcap)
    return scores, labels


def visible(spec: Spec, masks: dict[str, tuple[Any, Labels]], key_positions: Any, queries: int, layout: Labels) -> Any:
    """Which keys each query sees, to be broadcast against scores with the labels `layout`; None where it sees all.

    Args:
        spec: the attention.
        masks: the arrays of the mask, with their labels.
        key_positions: the positions of the keys that the scores are for, `[keys]`.
        queries: how many positions of queries there are.
        layout: the labels of the scores.
    """
    parts = []
    window = masks.get("window", (spec.window, ()))
    if spec.causal or "window" in masks or spec.window > 0:
        parts.append(_by_position(spec, masks, window, key_positions, queries, layout))
    if "query_segments" in masks:
        queries_ids, keys_ids = (placed(*masks[f"{side}_segments"], layout) for side in ("query", "key"))
        parts.append(queries_ids == keys_ids)
    if "visible" in masks:
        parts.append(placed(*masks["visible"], layout))
    seen = None
    for part in parts:
        seen = part if seen is None else seen & part
    return seen


def _query_positions(spec: Spec, queries: int, layout: Labels) -> Any:
    for label, part, count in spec.parts:
        if label == spec.position and part in layout:
            return placed(jnp.arange(count * queries).reshape(count, queries), (part, label), layout)
    assert spec.position is not None
    return placed(jnp.arange(queries), (spec.position,), layout)


def _by_position(
    spec: Spec,
    masks: dict[str, tuple[Any, Labels]],
    window: tuple[Any, Labels],
    key_positions: Any,
    queries: int,
    layout: Labels,
) -> Any:
    keys = placed(key_positions, (spec.keys,), layout)
    own = _query_positions(spec, queries, layout)
    if "starts" in masks:
        own = own + placed(*masks["starts"], layout)
    elif spec.starts:
        own = own + spec.starts
    seen = keys <= own if spec.causal else None
    size, labels = window
    if not isinstance(size, int):
        size = placed(size, labels, layout)
        inside = (size <= 0) | ((keys <= own) & (own - keys < size))
        seen = inside if seen is None else seen & inside
    elif size > 0:
        inside = own - keys < size
        seen = (keys <= own) & inside
    if "prefix" in masks:
        seen = seen | (keys < placed(*masks["prefix"], layout))
    elif spec.prefix:
        seen = seen | (keys < spec.prefix)
    return seen
