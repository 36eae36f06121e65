"""A mixture of experts as GShard writes it: tokens go to experts and back by products with one-hot matrices.

Each expert takes `capacity` tokens of a sequence; what comes later is dropped. Adafactor updates the parameters.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from zoo.training import Step, tokens, training_step

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray

Batch, Position, Embed, Vocab = Axis("batch", 4), Axis("position", 10), Axis("embed", 14), Axis("vocab", 34)
Expert, Choice, Capacity, Mlp = Axis("expert", 6), Axis("choice", 2), Axis("capacity", 7), Axis("mlp", 22)


class Experts(eqx.Module):
    """A feed-forward network for each expert, and the router that chooses two of them for each token."""

    router: hnn.Linear
    up: NamedArray
    down: NamedArray

    @staticmethod
    def init(key: jax.Array) -> Experts:
        keys = jax.random.split(key, 3)
        return Experts(
            hnn.Linear.init(Embed, Expert, key=keys[0], use_bias=False),
            hax.random.normal(keys[1], (Expert, Embed, Mlp)),
            hax.random.normal(keys[2], (Expert, Mlp, Embed)),
        )

    def __call__(self, x: NamedArray) -> tuple[NamedArray, NamedArray]:
        """The result, and the loss that keeps the experts equally busy."""
        probabilities = hnn.softmax(self.router(x), Expert)
        weights, chosen = hax.top_k(probabilities, Expert, Choice.size, Choice)
        wanted = hnn.one_hot(chosen, Expert, dtype=jnp.float32)
        place = hax.cumsum(hax.sum(wanted, Choice), Position) - 1.0
        combine = hax.dot(weights, wanted, axis=Choice) * hnn.one_hot(place.astype(jnp.int32), Capacity)
        dispatch = (combine > 0).astype(x.dtype)

        hidden = hnn.gelu(hax.dot(hax.dot(dispatch, x, axis=Position), self.up, axis=Embed))
        returned = hax.dot(hidden, self.down, axis=Mlp)
        everywhere = (Batch, Position)
        busy = hax.mean(hax.sum(wanted, Choice), everywhere) * hax.mean(probabilities, everywhere)
        return hax.dot(combine, returned, axis=(Expert, Capacity)), hax.sum(busy)


class Model(eqx.Module):
    """Embedding, one layer of experts, head."""

    embedding: hnn.Embedding
    norm: hnn.LayerNorm
    experts: Experts

    @staticmethod
    def init(key: jax.Array) -> Model:
        keys = jax.random.split(key)
        return Model(hnn.Embedding.init(Vocab, Embed, key=keys[0]), hnn.LayerNorm.init(Embed), Experts.init(keys[1]))

    def loss(self, batch: dict[str, NamedArray]) -> jax.Array:
        x = self.embedding(batch["tokens"])
        mixed, unbalance = self.experts(self.norm(x))
        logits = self.embedding.unembed(x + mixed)
        return (hnn.cross_entropy_loss(logits, Vocab, batch["targets"]) + 0.01 * unbalance).scalar()


def build() -> Step:
    batch = {"tokens": tokens(Batch, Position), "targets": tokens(Batch, Position)}
    return training_step(Model.init, Model.loss, optax.adafactor(1e-2, min_dim_size_to_factor=8), batch)
