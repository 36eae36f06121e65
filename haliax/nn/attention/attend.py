"""`attend`: attention by names, one function for all masks and backends."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from haliax import errors
from haliax._compat import is_per_device
from haliax.axis import Axis, AxisSelector
from haliax.core.array import NamedArray, held, hold, unchecked
from haliax.core.explicit import explicit_mesh, on_any_mesh
from haliax.nn._inputs import require
from haliax.nn.attention import reference
from haliax.nn.attention.attention_mask import AttentionMask
from haliax.nn.attention.backends import BACKENDS
from haliax.nn.attention.primitive import attention
from haliax.nn.attention.spec import MASKS, Labels, Spec
from haliax.ops.align import require_beside, require_same_sizes


@on_any_mesh
def attend(
    query: NamedArray,
    key: NamedArray,
    value: NamedArray,
    *,
    Key: AxisSelector,
    KPos: AxisSelector,
    mask: AttentionMask | NamedArray | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    backend: str = "auto",
    QPos: AxisSelector | None = None,
) -> NamedArray:
    """For each query the mean of the values, weighted by the softmax over `KPos` of its scores with the keys.

    Axes are matched by name: what query and key both have (batch, heads) is matched, what only the query has
    (positions, the heads of a group) is free, and all may be in any order. Scores are in float32, or in the dtype of
    the operands if that is wider. A query that sees no key gives finite numbers, of no meaning.

    Args:
        query: `[..., position, heads, head_size]`, or with `kv_heads, group` for grouped queries.
        key: `[..., key_position, heads, head_size]`, or with `kv_heads`.
        value: as the key; its vectors may be of another axis than `Key`.
        Key: the axis of the query and key vectors.
        KPos: the positions that are attended to.
        mask: an `AttentionMask`, or a boolean array of some axes of the scores, True where attention is allowed.
        scale: what scores are multiplied with; `1 / sqrt(size of Key)` by default.
        softcap: caps scores softly, `softcap * tanh(score / softcap)`, as Gemma 2 does (arXiv:2408.00118).
        backend: which implementation: `reference`, `blockwise` (memory linear in the length), `jax`
            (`jax.nn.dot_product_attention`), `splash` (a TPU kernel); `auto` chooses when the program is compiled.
        QPos: the positions of the queries, for masks that go by position. By default the axis that is called like
            `KPos` without `key_`, or `position`, or the only axis that the query alone has.

    Returns:
        The axes of the query, with those of the value's vectors in the place of `Key`, in the dtype of query and value.

    Raises:
        AxisError: if an axis is absent or of another size, the query has `KPos`, or a mask does not fit.
        NamedTypeError: if an argument is not a NamedArray.
        ValueError: for an unknown backend; when the program is compiled, for one that cannot do what is asked.

    >>> q, k = hax.ones({"position": 2, "head_size": 4}), hax.ones({"key_position": 3, "head_size": 4})
    >>> v = hax.arange(hax.Axis("key_position", 3)).astype(float).broadcast_axis(hax.Axis("head_size", 1))
    >>> mask = hax.nn.attention.AttentionMask(causal=True)
    >>> hax.nn.attention.attend(q, k, v, Key="head_size", KPos="key_position", mask=mask)
    f32[position=2, head_size=1] [[0. ] [0.5]]
    """
    if backend != "auto" and backend not in BACKENDS:
        raise errors.unknown_backend(backend, ("auto", *BACKENDS))
    size, keys = _name(Key), _name(KPos)
    query = _checked(query, key, value, Key, KPos)
    order = _result_order(query, value, size, keys)
    operands = [held(each) for each in (query, key, value)]
    parts = _mask_parts(mask, query, operands[1], size, keys, QPos)
    spec, names = _spec(operands, parts, size, keys, scale, softcap, backend)
    arrays = [each.array for each in (*operands, *parts.arrays.values())]
    # Only of its own equations JAX knows how they are sharded over Explicit mesh axes, or vary inside `shard_map`.
    is_formula = explicit_mesh() is not None or any(map(is_per_device, arrays))
    result, _ = (reference.attention if is_formula else attention)(spec, *arrays)
    axes = tuple([Axis(names[label], extent) for label, extent in zip(spec.result, result.shape, strict=True)])
    return hold(unchecked(result, axes), order)


def _checked(query: Any, key: Any, value: Any, Key: AxisSelector, KPos: AxisSelector) -> NamedArray:
    """The query, with every axis that keys or values are matched by."""
    require("attend", "query", query, Key)
    require("attend", "key", key, (KPos, Key))
    require("attend", "value", value, KPos)
    if query.has_axis(_name(KPos)):
        raise errors.query_has_key_position(_name(KPos), query, key)
    require_same_sizes("attend", "key", key, "`query`", query)
    require_same_sizes("attend", "value", value, "`key`", _without(key, _name(Key)))
    require_same_sizes("attend", "value", value, "`query`", _without(query, _name(Key)))
    more = [axis for axis in key.axes if not query.has_axis(axis.name) and axis.name != _name(KPos)]
    return query.broadcast_axis(tuple(more)) if more else query


def _name(selector: AxisSelector) -> str:
    return selector if isinstance(selector, str) else selector.name


def _without(array: NamedArray, name: str) -> NamedArray:
    return unchecked(None, tuple([axis for axis in array.axes if axis.name != name]))


def _result_order(query: NamedArray, value: NamedArray, size: str, keys: str) -> tuple[Axis, ...]:
    own = {axis.name for axis in query.axes} - {size}
    vectors = [axis for axis in value.axes if axis.name != keys and axis.name not in own]
    place = [axis.name for axis in query.axes].index(size)
    return (*query.axes[:place], *vectors, *query.axes[place + 1 :])


class _Mask:
    """The mask as constants and arrays."""

    def __init__(self, causal: bool, numbers: dict[str, int], arrays: dict[str, NamedArray], position: str | None):
        self.causal, self.numbers, self.arrays, self.position = causal, numbers, arrays, position


def _mask_parts(mask: Any, query: NamedArray, key: NamedArray, size: str, keys: str, QPos: Any) -> _Mask:
    scores = unchecked(None, tuple([*_without(query, size).axes, key.resolve_axis(keys)]))
    found: dict[str, Any] = {}
    causal = False
    if isinstance(mask, AttentionMask):
        causal = mask.causal
        found = {"window": mask.window, "prefix": mask.prefix, "starts": mask.starts}
        if mask.segments is not None:
            found |= {"query_segments": mask.segments[0], "key_segments": mask.segments[1]}
    elif mask is not None:
        found["visible"] = mask
    numbers = {name: int(part) for name, part in found.items() if isinstance(part, int | np.integer)}
    by_position = causal or found.get("window") is not None
    arrays: dict[str, NamedArray] = {}
    for name in MASKS:
        part = found.get(name)
        if part is None or name in numbers or not by_position and name in ("prefix", "starts"):
            continue
        if not isinstance(part, NamedArray) and name in ("window", "prefix", "starts") and jnp.ndim(part) == 0:
            part = unchecked(jnp.asarray(part), ())
        of_queries = name not in ("key_segments", "visible")
        beside = _without(scores, keys) if of_queries else scores
        called = "mask" if name == "visible" else f"mask.{name}" if "segments" not in name else "mask.segments"
        require_beside("attend", called, part, "the queries" if of_queries else "the scores", beside, by_position=False)
        if name in ("visible", "key_segments") and not part.has_axis(keys):
            raise errors.mask_without_keys(called, keys, part)
        if name == "visible" and part.dtype != jnp.bool_:
            raise errors.mask_not_boolean(part)
        arrays[name] = held(part)
    position = _position(query, key, size, keys, QPos) if by_position else None
    return _Mask(causal, numbers, arrays, position)


def _position(query: NamedArray, key: NamedArray, size: str, keys: str, QPos: AxisSelector | None) -> str:
    if QPos is not None:
        require("attend", "query", query, QPos)
        return _name(QPos)
    free = [axis.name for axis in query.axes if axis.name != size and not key.has_axis(axis.name)]
    for name in (keys.removeprefix("key_"), "position"):
        if name in free:
            return name
    if len(free) != 1:
        raise errors.which_query_position(free, query)
    return free[0]


def _spec(
    operands: list[NamedArray],
    mask: _Mask,
    size: str,
    keys: str,
    scale: float | None,
    softcap: float | None,
    backend: str,
) -> tuple[Spec, dict[int, str]]:
    """The attention by labels, and the name of each label. The value's axis of the name `size` is another one."""
    query, key, value = operands
    labels: dict[str, int] = {}
    for name in [axis.name for axis in (*query.axes, *key.axes)]:
        labels.setdefault(name, len(labels))
    vectors = {
        axis.name: len(labels) + i for i, axis in enumerate(value.axes) if axis.name == size or axis.name not in labels
    }

    def of(array: NamedArray) -> Labels:
        return tuple([labels[axis.name] for axis in array.axes])

    value_labels = tuple([vectors.get(axis.name, labels.get(axis.name, -1)) for axis in value.axes])
    rows = [label for label in of(query) if label != labels[size]]
    shared_with_key = [label for label in rows if label in of(key)]
    scores = (*shared_with_key, *[label for label in rows if label not in shared_with_key])
    batch = [label for label in scores if label in value_labels]
    result = (*batch, *[label for label in scores if label not in batch], *vectors.values())
    spec = Spec(
        operands=(of(query), of(key), value_labels, *[of(array) for array in mask.arrays.values()]),
        masks=tuple(mask.arrays),
        result=tuple(result),
        size=labels[size],
        keys=labels[keys],
        position=None if mask.position is None else labels[mask.position],
        causal=mask.causal,
        window=max(mask.numbers.get("window", 0), 0),
        prefix=mask.numbers.get("prefix", 0),
        starts=mask.numbers.get("starts", 0),
        scale=scale,
        softcap=softcap,
        backend=backend,
    )
    return spec, {label: name for name, label in (labels | vectors).items()} | {labels[size]: size}
