"""LLaMA: grouped queries, rotary embedding, RMS norms, SwiGLU; scanned and checkpointed layers, AdamW with clipping."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from zoo.training import Step, tokens, training_step

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray

Batch, Position, Embed, Layers = Axis("batch", 4), Axis("position", 10), Axis("embed", 14), Axis("layers", 5)
KvHeads, Group, HeadSize = Axis("kv_heads", 2), Axis("group", 3), Axis("head_size", 26)
Mlp, Vocab = Axis("mlp", 22), Axis("vocab", 34)
KeyPosition = Axis("key_position", Position.size)


def rotated(x: NamedArray) -> NamedArray:
    """`x` turned by the angles of its positions: pairs are (i, i + half), as in LLaMA's released weights."""
    Half = HeadSize.resize(HeadSize.size // 2)
    frequency = 10000.0 ** (-hax.arange(Half).astype(jnp.float32) / Half.size)
    angle = hax.arange(Position).astype(jnp.float32) * frequency.broadcast_axis(Position)
    first, second = hax.split(x, HeadSize, [Half, Half])
    cos, sin = hax.cos(angle), hax.sin(angle)
    return hax.concatenate(HeadSize, [first * cos - second * sin, second * cos + first * sin])


class Attention(eqx.Module):
    """Causal attention in which several query heads share one key and value head."""

    q: hnn.Linear
    k: hnn.Linear
    v: hnn.Linear
    out: hnn.Linear

    @staticmethod
    def init(key: jax.Array) -> Attention:
        keys = jax.random.split(key, 4)
        heads = (KvHeads, Group, HeadSize)
        return Attention(
            hnn.Linear.init(Embed, heads, key=keys[0], use_bias=False),
            hnn.Linear.init(Embed, (KvHeads, HeadSize), key=keys[1], use_bias=False),
            hnn.Linear.init(Embed, (KvHeads, HeadSize), key=keys[2], use_bias=False),
            hnn.Linear.init(heads, Embed, key=keys[3], use_bias=False),
        )

    def __call__(self, x: NamedArray) -> NamedArray:
        k, v = rotated(self.k(x)), self.v(x)
        k, v = (each.rename({"position": "key_position"}) for each in (k, v))
        mask = hnn.attention.causal_mask(Position, KeyPosition)
        return self.out(hnn.attention.dot_product_attention(KeyPosition, HeadSize, rotated(self.q(x)), k, v, mask=mask))


class Block(eqx.Module):
    """Attention and a gated feed-forward network, each behind a norm."""

    attention_norm: hnn.RmsNorm
    attention: Attention
    mlp_norm: hnn.RmsNorm
    gate: hnn.Linear
    up: hnn.Linear
    down: hnn.Linear

    @staticmethod
    def init(key: jax.Array) -> Block:
        keys = jax.random.split(key, 4)
        return Block(
            hnn.RmsNorm.init(Embed, use_bias=False),
            Attention.init(keys[0]),
            hnn.RmsNorm.init(Embed, use_bias=False),
            hnn.Linear.init(Embed, Mlp, key=keys[1], use_bias=False),
            hnn.Linear.init(Embed, Mlp, key=keys[2], use_bias=False),
            hnn.Linear.init(Mlp, Embed, key=keys[3], use_bias=False),
        )

    def __call__(self, x: NamedArray) -> NamedArray:
        x = x + self.attention(self.attention_norm(x))
        hidden = self.mlp_norm(x)
        return x + self.down(hnn.silu(self.gate(hidden)) * self.up(hidden))


class Llama(eqx.Module):
    """The language model."""

    embedding: hnn.Embedding
    blocks: hnn.Stacked
    norm: hnn.RmsNorm
    head: hnn.Linear

    @staticmethod
    def init(key: jax.Array) -> Llama:
        keys = jax.random.split(key, 3)
        blocks = hnn.Stacked.init(Layers, Block, gradient_checkpointing=True)(jax.random.split(keys[1], Layers.size))
        return Llama(
            hnn.Embedding.init(Vocab, Embed, key=keys[0]),
            blocks,
            hnn.RmsNorm.init(Embed, use_bias=False),
            hnn.Linear.init(Embed, Vocab, key=keys[2], use_bias=False),
        )

    def loss(self, batch: dict[str, NamedArray]) -> jax.Array:
        logits = self.head(self.norm(self.blocks.fold(self.embedding(batch["tokens"]))))
        return hnn.cross_entropy_loss(logits, Vocab, batch["targets"]).scalar()


def build() -> Step:
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1e-2, 10, 100)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.1))
    batch = {"tokens": tokens(Batch, Position), "targets": tokens(Batch, Position)}
    return training_step(Llama.init, Llama.loss, optimizer, batch)
