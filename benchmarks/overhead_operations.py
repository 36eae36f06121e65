"""The seventeen operations that `named_overhead.py` runs eagerly, with names and as one writes them in `jnp`.

The arrays are small, so that what is measured is the call and not the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import haliax as hax
import haliax.nn as hnn


class Operation(NamedTuple):
    """The same operation with names and without; neither takes arguments."""

    name: str
    named: Callable[[], Any]
    plain: Callable[[], Any]


def operations() -> list[Operation]:
    Batch, Pos, Embed, Mlp = hax.make_axes(batch=4, position=8, embed=16, mlp=32)
    keys = jax.random.split(jax.random.key(0), 4)
    x, y = (hax.random.normal(key, (Batch, Pos, Embed)) for key in keys[:2])
    bias, weight = hax.random.normal(keys[2], Embed), hax.random.normal(keys[3], (Embed, Mlp))
    mask = hax.named(x.array[..., 0] > 0, (Batch, Pos))
    chosen, labels = hax.named(jnp.array([1, 0, 3]), "chosen"), hax.named(jnp.array([1, 0, 3, 2]), Batch)
    Class = hax.Axis("class", 10)
    X, Y, B, W, M, C, L = (a.array for a in (x, y, bias, weight, mask, chosen, labels))
    return [
        Operation("add", lambda: x + y, lambda: X + Y),
        Operation("add, broadcast", lambda: x + bias, lambda: X + B),
        Operation("multiply by a number", lambda: x * 2.0, lambda: X * 2.0),
        Operation("where", lambda: hax.where(mask, x, 0.0), lambda: jnp.where(M[:, :, None], X, 0.0)),
        Operation("exp", lambda: hax.exp(x), lambda: jnp.exp(X)),
        Operation("sum", lambda: hax.sum(x, Embed), lambda: jnp.sum(X, axis=-1)),
        Operation("mean of all", lambda: hax.mean(x), lambda: jnp.mean(X)),
        Operation("max", lambda: hax.max(x, "position"), lambda: jnp.max(X, axis=1)),
        Operation("argmax", lambda: hax.argmax(x, Embed), lambda: jnp.argmax(X, axis=-1)),
        Operation("softmax", lambda: hnn.softmax(x, Embed), lambda: jax.nn.softmax(X, axis=-1)),
        Operation("dot", lambda: hax.dot(x, weight, axis=Embed), lambda: jnp.dot(X, W)),
        Operation(
            "transpose", lambda: x.rearrange(("embed", "position", "batch")), lambda: jnp.transpose(X, (2, 1, 0))
        ),
        Operation("take", lambda: x.take("batch", chosen), lambda: jnp.take(X, C, axis=0)),
        Operation("slice", lambda: x["position", 2:6], lambda: X[:, 2:6]),
        Operation("concatenate", lambda: hax.concatenate("batch", [x, y]), lambda: jnp.concatenate([X, Y])),
        Operation("stack", lambda: hax.stack("layers", [x, y]), lambda: jnp.stack([X, Y])),
        Operation("one_hot", lambda: hnn.one_hot(labels, Class), lambda: jax.nn.one_hot(L, 10)),
    ]
