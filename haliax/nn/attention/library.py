"""Attention by `jax.nn.dot_product_attention`: cuDNN's flash attention on GPUs that have it, else XLA with all scores.

The gradient is JAX's own, which runs the forward pass again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from haliax.nn.attention import reference
from haliax.nn.attention.layout import Layout, spread
from haliax.nn.attention.spec import Spec, visible


@dataclass(frozen=True)
class Library:
    """`implementation` is JAX's name for the way: `xla` or `cudnn`."""

    implementation: str

    @staticmethod
    def on(platform: str, spec: Spec, arrays: Sequence[Any]) -> Library:
        """By cuDNN where this is a GPU of NVIDIA and the kernel takes this dtype, size and mask."""
        cudnn = Library("cudnn")
        fits = platform == "cuda" and fits_cudnn(spec, arrays) and cudnn.runs(spec, arrays)
        return cudnn if fits else Library("xla")

    def runs(self, spec: Spec, arrays: Sequence[Any]) -> bool:
        """Whether JAX takes it here: it looks at the GPU and the version of cuDNN, and says so by an error."""
        try:
            jax.eval_shape(partial(self.attention, spec), *arrays)
        except (RuntimeError, ValueError, NotImplementedError):
            return False
        return True

    def attention(self, spec: Spec, *arrays: Any) -> tuple[Any, Any]:
        """The result, and the log-sum-exp of each query's scores with the labels `spec.rows`."""
        query, sizes = arrays[0], spec.sizes(arrays)
        layout = Layout.of(spec, sizes)
        dtype = jnp.promote_types(query.dtype, arrays[2].dtype)
        key, value = (spread(spec, arrays, sizes, which) for which in (1, 2))
        result, logs = jax.nn.dot_product_attention(
            layout.query(query, spec.operands[0], (spec.size,)).astype(dtype),
            layout.key(*key, spec.keys, (spec.size,)).astype(dtype),
            layout.key(*value, spec.keys, spec.features).astype(dtype),
            scale=sizes[spec.size] ** -0.5 if spec.scale is None else spec.scale,
            implementation=self.implementation,  # type: ignore[arg-type]
            return_residual=True,
            **_mask_options(spec, arrays, sizes, layout),
        )
        if logs.shape != result.shape[:-1]:  # JAX gives `[batch, position, heads]` or `[batch, heads, position]`
            logs = logs.swapaxes(1, 2)
        wide = jnp.promote_types(jnp.promote_types(query.dtype, arrays[1].dtype), jnp.float32)
        return (
            layout.back(result, sizes, spec.features, spec.result),
            layout.back(logs.astype(wide), sizes, (), spec.rows),
        )

    def backward(self, spec: Spec, *arrays: Any) -> list[Any]:
        """The cotangents of query, key and value; behind the operands stand both results and the first's cotangent."""
        masks, cotangent = arrays[3 : len(spec.operands)], arrays[-1]
        _, pull = jax.vjp(lambda *moved: self.attention(spec, *moved, *masks)[0], *arrays[:3])
        return list(pull(cotangent))

    def tangent(self, spec: Spec, *arrays: Any) -> list[Any]:
        """The tangent of the result, as the reference gives it."""
        return reference.tangent(spec, *arrays)


def refusal(spec: Spec, arrays: Sequence[Any], platform: str) -> str | None:
    """Why it cannot do this; None if it can."""
    if spec.softcap is not None:
        return "it has no softcap"
    sizes = spec.sizes(arrays)
    return None if [sizes[label] for label in spec.features] == [sizes[spec.size]] else _VECTORS


_VECTORS = "it takes values whose vectors are as long as those of the keys"


def fits_cudnn(spec: Spec, arrays: Sequence[Any]) -> bool:
    """Whether cuDNN's kernel takes this dtype, size and mask, on a GPU that has it."""
    sizes = spec.sizes(arrays)
    halves = all(array.dtype in (jnp.bfloat16, jnp.float16) for array in arrays[:3])
    length = 1 if spec.position is None else sizes[spec.position]
    aligned = not (spec.causal or spec.window > 0) or length == sizes[spec.keys]
    return halves and aligned and not _is_array(spec) and sizes[spec.size] % 8 == 0 and sizes[spec.size] <= 128


def _is_array(spec: Spec) -> bool:
    """Whether the mask is one that the kernel does not make itself."""
    return bool(spec.masks or spec.prefix or spec.starts)


def _mask_options(spec: Spec, arrays: Any, sizes: dict[int, int], layout: Layout) -> dict[str, Any]:
    if _is_array(spec):
        return {"mask": _mask(spec, spec.named(arrays[3:]), sizes, layout)}
    if spec.window > 0:
        return {"local_window_size": (spec.window - 1, 0)}
    return {"is_causal": True} if spec.causal else {}


def _mask(spec: Spec, masks: Any, sizes: dict[int, int], layout: Layout) -> Any:
    """`[batch, heads · group, position, keys]`, where the mask is not one that the kernel makes itself."""
    rows = (*layout.batch, *layout.heads, *layout.group, *layout.position, spec.keys)
    queries = 1 if spec.position is None else sizes[spec.position]
    seen = visible(spec, masks, jnp.arange(sizes[spec.keys]), queries, rows)
    if seen is None:
        return None
    groups = (layout.batch, (*layout.heads, *layout.group), layout.position, (spec.keys,))
    seen = jnp.broadcast_to(seen, [sizes[label] for label in rows])
    shape: list[int] = []
    for group in groups:
        extent = 1
        for label in group:
            extent *= sizes[label]
        shape.append(extent)
    return jnp.reshape(seen, shape)
