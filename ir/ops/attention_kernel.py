"""Which kernel computes an attention on each device, and how much that does: the conditions and the blocks are those of
`haliax.nn.attention`, asked of a node.

A kernel has no array of scores in memory. It computes only blocks of scores that the mask leaves something of, and for
the gradient scores again, more than once: see `_PRODUCTS`.
"""

from __future__ import annotations

from math import prod
from typing import Any

import jax
import numpy as np

from haliax.nn.attention import backends, splash
from haliax.nn.attention.blockwise import BLOCK
from haliax.nn.attention.layout import Layout
from haliax.nn.attention.spec import Spec
from ir.graph import Node
from ir.ops.op import Names
from ir.types import item_size

PLATFORMS = {"splash": "tpu", "cudnn": "cuda"}
"""The kernels that there are, and what JAX calls the platform of each."""
_PRODUCTS = {
    "splash": {"": 2, "backward": 2 + 3 + 4},
    "cudnn": {"": 2, "backward": 2 + 5},
}
"""Products of all queries with all keys. The gradient runs the forward kernel again; then Splash Attention has a kernel
for the gradient of the queries and one for those of keys and values, each of which makes scores and their cotangent."""
_KERNELS = {
    "": {"": 5, "backward": 9},
    "splash": {"": 1, "backward": 4},
}
"""Operations. XLA computes scores with their maximum, the sum of exponentials and the mean of the values, and copies
keys and values to another layout; backward both of the first again, then the cotangents of weights, scores, values,
keys and queries. Splash Attention has three kernels backward, and what these read of the result is one more."""
_TILE = 128
"""Rows and columns of the blocks that cuDNN leaves out (Dao, "FlashAttention-2", arXiv:2307.08691)."""
_SCORE = 4
"""Bytes: scores are 32 bits wide."""


def replicated(node: Node, spec: Spec, kernel: str) -> Names | None:
    """The names that no mesh axis may take for a kernel to compute it: the positions of its queries, for masks are made
    for all of them. None where it does not."""
    if kernel not in PLATFORMS or node.fn not in _PRODUCTS[kernel]:
        return None
    if backends.kernel(spec, _arrays(node), PLATFORMS[kernel]) != kernel:
        return None
    labels = Layout.of(spec, spec.sizes(_arrays(node))).position
    dims = zip(spec.operands[0], node.inputs[0].type.dims, strict=True)
    return tuple([dim.name for label, dim in dims if label in labels and dim.name is not None])


def flops(node: Node, spec: Spec, kernel: str) -> int:
    """Operations that a kernel does. What the backward pass computes again for its own products, Splash Attention's
    gradient has computed."""
    if kernel == "splash" and node.fn == "" and node.phase == "backward":
        return 0
    sizes = spec.sizes(_arrays(node))
    layout = Layout.of(spec, sizes)
    rows = prod(sizes[label] for label in spec.rows)
    queries = sizes[layout.position[0]] if layout.position else 1
    share = _share(spec, kernel, queries, sizes[spec.keys])
    pairs = rows * sizes[spec.keys] * sizes[spec.size]
    return round(2 * _PRODUCTS[kernel][node.fn] * share * pairs)


def kernels(node: Node, kernel: str) -> int:
    """In how many operations XLA for TPUs computes it, with a kernel or without."""
    return _KERNELS.get(kernel, {}).get(node.fn, 1)


def spilled(node: Node, spec: Spec) -> int:
    """Bytes that XLA writes to memory and reads again where it computes an attention itself.

    Scores are written by their product and read for their maximum and for their exponentials, which are written for
    the next product; backward, scores are written and read for the weights and for the cotangents, those of the weights
    written and read, and weights and cotangents of scores written for one product and for two. For each block of keys,
    the sum so far is read, scaled and written, and so is what is added to it.
    """
    sizes = spec.sizes(_arrays(node))
    rows = prod(sizes[label] for label in spec.rows)
    item = item_size(node.inputs[0].type.dtype)
    half = node.fn == "backward"
    each = 5 * _SCORE + 5 * item if half else 3 * _SCORE + 2 * item
    vectors = sizes[spec.size] if half else prod(sizes[label] for label in spec.features)
    blocks = -(-sizes[spec.keys] // BLOCK)
    return rows * (sizes[spec.keys] * each + (blocks * 4 * _SCORE * vectors if blocks > 1 else 0))


def _share(spec: Spec, kernel: str, queries: int, keys: int) -> float:
    """The share of the blocks of scores in which a mask that is a constant leaves any."""
    if queries == 1:
        return 1.0
    high, wide = (splash.block(length) if kernel == "splash" else _TILE for length in (queries, keys))
    first = (np.arange(0, queries, high) + spec.starts)[:, None]
    key = np.arange(0, keys, wide)[None, :]
    seen = np.ones((first.size, key.size), bool)
    if spec.causal or spec.window > 0:
        seen &= key < first + high
    if spec.window > 0:
        seen &= key + wide > first - spec.window + 1
    return float(seen.mean())


def _arrays(node: Node) -> list[Any]:
    return [jax.ShapeDtypeStruct(value.type.shape, value.type.dtype) for value in node.inputs]
