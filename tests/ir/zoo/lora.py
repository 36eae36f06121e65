"""LoRA: a transformer layer whose weights are frozen, with a product of two thin matrices beside each; AdamW."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import optax
from zoo.training import Step, tokens

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray

Batch, Position, Vocab = Axis("batch", 4), Axis("position", 10), Axis("vocab", 34)
Embed, Heads, HeadSize, Rank = Axis("embed", 14), Axis("heads", 2), Axis("head_size", 7), Axis("rank", 3)
KeyPosition = Axis("key_position", Position.size)
ALPHA = 6.0


class Base(eqx.Module):
    """The weights that training leaves as they are."""

    embedding: hnn.Embedding
    norm: hnn.RmsNorm
    q: hnn.Linear
    k: hnn.Linear
    v: hnn.Linear
    out: hnn.Linear

    @staticmethod
    def init(key: jax.Array) -> Base:
        keys = jax.random.split(key, 5)
        projections = [hnn.Linear.init(Embed, (Heads, HeadSize), key=each, use_bias=False) for each in keys[:3]]
        out = hnn.Linear.init((Heads, HeadSize), Embed, key=keys[3], use_bias=False)
        embedding = hnn.Embedding.init(Vocab, Embed, key=keys[4])
        return Base(embedding, hnn.RmsNorm.init(Embed), *projections, out)


class Adapter(eqx.Module):
    """`up(down(x))`, scaled: what is added to a frozen linear layer."""

    down: NamedArray
    up: NamedArray

    @staticmethod
    def init(key: jax.Array) -> Adapter:
        return Adapter(hax.random.normal(key, (Embed, Rank)), hax.zeros((Rank, Heads, HeadSize)))

    def __call__(self, x: NamedArray) -> NamedArray:
        return hax.dot(hax.dot(x, self.down, axis=Embed), self.up, axis=Rank) * (ALPHA / Rank.size)


class LoraState(eqx.Module):
    """What the step carries; the base comes back as it went in."""

    base: Base
    adapters: dict[str, Adapter]
    opt_state: Any


def loss_of(adapters: dict[str, Adapter], base: Base, batch: dict[str, NamedArray]) -> jax.Array:
    x = base.embedding(batch["tokens"])
    normal = base.norm(x)
    q, v = (getattr(base, name)(normal) + adapters[name](normal) for name in ("q", "v"))
    k, v = (each.rename({"position": "key_position"}) for each in (base.k(normal), v))
    mask = hnn.attention.causal_mask(Position, KeyPosition)
    x = x + base.out(hnn.attention.dot_product_attention(KeyPosition, HeadSize, q, k, v, mask=mask))
    return hnn.cross_entropy_loss(base.embedding.unembed(x), Vocab, batch["targets"]).scalar()


def build() -> Step:
    optimizer = optax.adamw(1e-3)

    def step(state: LoraState, batch: dict[str, NamedArray]) -> tuple[LoraState, jax.Array]:
        loss, gradients = jax.value_and_grad(loss_of)(state.adapters, state.base, batch)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.adapters)
        return LoraState(state.base, optax.apply_updates(state.adapters, updates), opt_state), loss

    def initial() -> LoraState:
        keys = jax.random.split(jax.random.key(0), 3)
        adapters = {"q": Adapter.init(keys[0]), "v": Adapter.init(keys[1])}
        return LoraState(Base.init(keys[2]), adapters, optimizer.init(adapters))

    batch = {"tokens": tokens(Batch, Position), "targets": tokens(Batch, Position)}
    return Step(step, jax.eval_shape(initial), batch)
