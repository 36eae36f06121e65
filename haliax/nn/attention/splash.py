"""Attention by Splash Attention, the TPU kernel that comes with JAX; it skips blocks of keys that a mask hides.

XLA cannot partition a kernel, so `auto` takes it for programs of one device, or on shards, only. Its gradient runs the
forward kernel again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from haliax._compat import has_splash_attention, splash_attention
from haliax.nn.attention import reference
from haliax.nn.attention.layout import Layout, spread
from haliax.nn.attention.spec import Spec, placed

LANES = 128
"""What its blocks, and so the lengths of sequences, are multiples of."""

tangent = reference.tangent


def block(length: int) -> int:
    """How many queries, or keys, of so many it takes at a time."""
    return next(size for size in (512, 256, LANES) if length % size == 0)


def refusal(spec: Spec, arrays: Sequence[Any], platform: str) -> str | None:
    """Why it cannot do this; None if it can."""
    sizes = spec.sizes(arrays)
    layout = Layout.of(spec, sizes)
    queries = sizes[layout.position[0]] if layout.position else 1
    vectors = [sizes[label] for label in spec.features]
    by_row = {*layout.batch, *layout.position, spec.keys}
    if platform != "tpu":
        return f"it is for TPUs, and this program is compiled for {platform}"
    if not has_splash_attention():
        return "this version of JAX does not have it"
    if set(spec.masks) - {"query_segments", "key_segments"} or spec.prefix:
        return "of masks it takes causal ones, segments, and windows and starts that are constants"
    if any(set(labels) - by_row for labels in spec.operands[3:]):
        return "of segments it takes those that all heads have in common"
    if queries % LANES or sizes[spec.keys] % LANES:
        return f"it takes lengths that are multiples of {LANES}, not {queries} queries and {sizes[spec.keys]} keys"
    if vectors != [sizes[spec.size]]:
        return "it takes values whose vectors are as long as those of the keys"
    return None


def attention(spec: Spec, *arrays: Any) -> tuple[Any, Any]:
    """The result, and the log-sum-exp of each query's scores with the labels `spec.rows`."""
    query, sizes = arrays[0], spec.sizes(arrays)
    layout = Layout.of(spec, sizes)
    (q, k, v), segments = _operands(spec, arrays, layout, sizes)
    result, logs = _over_batch(_kernel(spec, q, k, save_residuals=True), q, k, v, segments)
    logs = logs[0] if isinstance(logs, tuple) else logs["logsumexp"] if isinstance(logs, dict) else logs
    wide = jnp.promote_types(jnp.promote_types(query.dtype, arrays[1].dtype), jnp.float32)
    dtype = jnp.promote_types(query.dtype, arrays[2].dtype)
    return (
        layout.back(result.swapaxes(1, 2).astype(dtype), sizes, spec.features, spec.result),
        layout.back(logs.swapaxes(1, 2).astype(wide), sizes, (), spec.rows),
    )


def backward(spec: Spec, *arrays: Any) -> list[Any]:
    """The cotangents of query, key and value; behind the operands stand both results and the cotangent of the first."""
    masks, cotangent, sizes = arrays[3 : len(spec.operands)], arrays[-1], spec.sizes(arrays)
    layout = Layout.of(spec, sizes)

    def result(*moved: Any) -> Any:
        (q, k, v), segments = _operands(spec, (*moved, *masks), layout, sizes)
        found = _over_batch(_kernel(spec, q, k, save_residuals=False), q, k, v, segments)
        return layout.back(found.swapaxes(1, 2).astype(cotangent.dtype), sizes, spec.features, spec.result)

    _, pull = jax.vjp(result, *arrays[:3])
    return list(pull(cotangent))


def _operands(spec: Spec, arrays: Any, layout: Layout, sizes: dict[int, int]) -> tuple[tuple[Any, Any, Any], Any]:
    """Query (scaled), key and value as `[batch, heads, position, size]`, and segments as `[batch, position]`."""
    scale = sizes[spec.size] ** -0.5 if spec.scale is None else spec.scale
    query = layout.query(arrays[0] * scale, spec.operands[0], (spec.size,))
    key, value = (spread(spec, arrays, sizes, which) for which in (1, 2))
    found = (query, layout.key(*key, spec.keys, (spec.size,)), layout.key(*value, spec.keys, spec.features))
    masks = spec.named(arrays[3:])
    if not masks:
        return tuple([each.swapaxes(1, 2) for each in found]), None  # type: ignore[return-value]
    segments = []
    for name, last in (("query_segments", layout.position), ("key_segments", (spec.keys,))):
        own = (*layout.batch, *last)
        array = jnp.broadcast_to(placed(*masks[name], own), [sizes[label] for label in own])
        segments.append(array.reshape(found[0].shape[0], -1))
    return tuple([each.swapaxes(1, 2) for each in found]), segments  # type: ignore[return-value]


def _kernel(spec: Spec, q: Any, k: Any, *, save_residuals: bool) -> Any:
    splash: Any = splash_attention()
    shape = (q.shape[2], k.shape[2])
    if spec.window > 0:
        mask = splash.LocalMask(shape, (spec.window - 1, 0), spec.starts)
    else:
        mask = splash.CausalMask(shape, spec.starts) if spec.causal else splash.FullMask(shape)
    queries, keys = map(block, shape)
    return splash.make_splash_mha(
        splash.MultiHeadMask([mask] * q.shape[1]),
        head_shards=1,
        q_seq_shards=1,
        attn_logits_soft_cap=spec.softcap,
        save_residuals=save_residuals,
        block_sizes=splash.BlockSizes(
            **{f"block_q{each}": queries for each in ("", "_dkv", "_dq")},
            **{f"block_kv{each}": keys for each in ("", "_compute", "_dkv", "_dkv_compute", "_dq")},
        ),
    )


def _over_batch(kernel: Any, q: Any, k: Any, v: Any, segments: Any) -> Any:
    splash: Any = splash_attention()
    if segments is None:
        return jax.vmap(kernel)(q, k, v)
    return jax.vmap(lambda q, k, v, own, keys: kernel(q, k, v, splash.SegmentIds(own, keys)))(q, k, v, *segments)
