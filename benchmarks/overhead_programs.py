"""The programs that `named_overhead.py` measures, each written twice: with names, and by hand in plain `jnp`.

The two of a pair compute the same numbers from the same arguments: attention of the seed example at its real sizes, a
transformer block, its gradient, and a stack of twelve of them, in one loop and unrolled.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

import haliax as hax
import haliax.nn as hnn

SEED = Path(__file__).parents[1] / "tests" / "haliax" / "seed_example.py"
LAYERS = 12


class Pair(NamedTuple):
    """The same computation with names and without, and what each is called with."""

    named: Callable[..., Any]
    plain: Callable[..., Any]
    named_arguments: tuple[Any, ...]
    plain_arguments: tuple[Any, ...]


def seed_attention() -> Pair:
    """The attention of the seed example: 1,024 positions, 8 heads of 64, 512 features."""
    spec: Any = importlib.util.spec_from_file_location("seed_example", SEED)
    seed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seed)
    module = seed.Attention.init(seed.Embed, seed.Head, seed.Key, key=jax.random.key(0))
    x = hax.random.normal(jax.random.key(1), (seed.Pos, seed.Embed))
    mask = jnp.tril(jnp.ones((seed.Pos.size, seed.Pos.size), bool))

    def plain(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        q, k, v = jnp.unstack(jnp.einsum("pe,shke->pshk", x, p["qkv"]) + p["qkv_bias"], axis=1)
        scores = jnp.einsum("phk,qhk->hpq", q, k) / jnp.sqrt(q.shape[-1])
        weights = jax.nn.softmax(scores - 1e9 * (1.0 - mask), axis=-1)
        answers = jnp.einsum("hpq,qhk->hpk", weights, v)
        return jnp.einsum("hpk,ehk->pe", answers, p["out"]) + p["out_bias"]

    arrays = {
        "qkv": module.proj_qkv.weight.array,
        "qkv_bias": module.proj_qkv.bias.array,
        "out": module.proj_answer.weight.array,
        "out_bias": module.proj_answer.bias.array,
    }
    return Pair(lambda module, x: module(x), plain, (module, x), (arrays, x.array))


class Sizes(NamedTuple):
    """The axes of a transformer block."""

    Batch: hax.Axis
    Pos: hax.Axis
    Embed: hax.Axis
    Heads: hax.Axis
    HeadSize: hax.Axis
    Mlp: hax.Axis


def sizes(batch: int, position: int, embed: int, heads: int) -> Sizes:
    return Sizes(
        *hax.make_axes(
            batch=batch, position=position, embed=embed, heads=heads, head_size=embed // heads, mlp=4 * embed
        )
    )


class Block(eqx.Module):
    """A block of GPT-2, with names."""

    ln_1: hnn.LayerNorm
    qkv: hnn.Linear
    out: hnn.Linear
    ln_2: hnn.LayerNorm
    up: hnn.Linear
    down: hnn.Linear
    axes: Sizes = eqx.field(static=True)

    @staticmethod
    def init(axes: Sizes, *, key: jax.Array) -> Block:
        keys = jax.random.split(key, 4)
        heads = (axes.Heads, axes.HeadSize)
        return Block(
            ln_1=hnn.LayerNorm.init(axes.Embed),
            qkv=hnn.Linear.init(axes.Embed, (hax.Axis("qkv", 3), *heads), key=keys[0], out_first=False),
            out=hnn.Linear.init(heads, axes.Embed, key=keys[1], out_first=False),
            ln_2=hnn.LayerNorm.init(axes.Embed),
            up=hnn.Linear.init(axes.Embed, axes.Mlp, key=keys[2], out_first=False),
            down=hnn.Linear.init(axes.Mlp, axes.Embed, key=keys[3], out_first=False),
            axes=axes,
        )

    def __call__(self, x: hax.NamedArray) -> hax.NamedArray:
        x = x + self.attention(self.ln_1(x))
        return x + self.down(hnn.gelu(self.up(self.ln_2(x))))

    def attention(self, x: hax.NamedArray) -> hax.NamedArray:
        Pos, KeyPos = self.axes.Pos, self.axes.Pos.alias("key_position")
        q, k, v = self.qkv(x).unbind("qkv")
        k, v = k.rename({Pos: KeyPos}), v.rename({Pos: KeyPos})
        mask = hnn.attention.causal_mask(Pos, KeyPos)
        return self.out(hnn.attention.dot_product_attention(KeyPos, self.axes.HeadSize, q, k, v, mask))


def plain_block(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """The same block by hand: x [batch, position, embed], p["qkv"] [embed, 3, heads, head_size]."""
    x = x + plain_block_attention(p, layer_norm(x, p["ln_1"], p["ln_1_bias"]))
    hidden = jax.nn.gelu(layer_norm(x, p["ln_2"], p["ln_2_bias"]) @ p["up"] + p["up_bias"])
    return x + (hidden @ p["down"] + p["down_bias"])


def plain_block_attention(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    q, k, v = jnp.unstack(jnp.einsum("bpe,eshd->bpshd", x, p["qkv"]) + p["qkv_bias"], axis=2)
    scores = jnp.einsum("bphd,bkhd->bhpk", q * (q.shape[-1] ** -0.5), k)
    causal = jnp.arange(x.shape[1])[:, None] >= jnp.arange(x.shape[1])
    weights = jax.nn.softmax(jnp.where(causal, scores, -1e9), axis=-1)
    values = jnp.einsum("bhpk,bkhd->bhpd", weights, v)
    return jnp.einsum("bhpd,hde->bpe", values, p["out"]) + p["out_bias"]


def layer_norm(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    centered = x - jnp.mean(x, -1, keepdims=True)
    return centered * jax.lax.rsqrt(jnp.mean(jnp.square(centered), -1, keepdims=True) + 1e-5) * weight + bias


def arrays_of(block: Block) -> dict[str, jax.Array]:
    """What `plain_block` takes, from a block or from stacked ones."""
    found = {}
    for name in ("ln_1", "qkv", "out", "ln_2", "up", "down"):
        layer = getattr(block, name)
        found[name], found[f"{name}_bias"] = layer.weight.array, layer.bias.array
    return found


def block_forward(axes: Sizes) -> Pair:
    block = Block.init(axes, key=jax.random.key(0))
    x = hax.random.normal(jax.random.key(1), (axes.Batch, axes.Pos, axes.Embed))
    return Pair(lambda block, x: block(x), plain_block, (block, x), (arrays_of(block), x.array))


def with_gradient(pair: Pair) -> Pair:
    """The gradient of the mean square of the result, for the parameters."""

    def named(model: Any, x: hax.NamedArray) -> Any:
        return jax.grad(lambda model: hax.mean(hax.square(pair.named(model, x))).scalar())(model)

    def plain(p: Any, x: jax.Array) -> Any:
        return jax.grad(lambda p: jnp.mean(jnp.square(pair.plain(p, x))))(p)

    return Pair(named, plain, pair.named_arguments, pair.plain_arguments)


def stack(axes: Sizes, *, unrolled: bool) -> Pair:
    """Twelve blocks, one after the other: in one loop over stacked parameters, or one by one."""
    kind: Any = hnn.BlockSeq if unrolled else hnn.Stacked
    model = kind.init(hax.Axis("layers", LAYERS), Block)(axes, key=jax.random.key(0))
    x = hax.random.normal(jax.random.key(1), (axes.Batch, axes.Pos, axes.Embed))

    def plain_loop(p: Any, x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, layer: (plain_block(layer, x), None), x, p)[0]

    def plain_unrolled(p: Any, x: jax.Array) -> jax.Array:
        for layer in p:
            x = plain_block(layer, x)
        return x

    arrays: Any = [arrays_of(block) for block in model.blocks] if unrolled else arrays_of(model.stacked)
    plain = plain_unrolled if unrolled else plain_loop
    return Pair(lambda model, x: model.fold(x), plain, (model, x), (arrays, x.array))
