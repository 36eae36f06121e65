"""A mixture of experts without dropped tokens: tokens are sorted by expert, and each expert takes its run of rows.

The dispatch is raw `jax.numpy` and `jax.lax.ragged_dot` on the arrays inside. Lion updates the parameters.
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
Expert, Choice, Mlp = Axis("expert", 6), Axis("choice", 2), Axis("mlp", 22)
Token = Axis("token", Batch.size * Position.size)
Row = Axis("row", Token.size * Choice.size)


class Experts(eqx.Module):
    """A feed-forward network for each expert, and the router that chooses two of them for each token."""

    router: NamedArray
    up: NamedArray
    down: NamedArray

    @staticmethod
    def init(key: jax.Array) -> Experts:
        keys = jax.random.split(key, 3)
        return Experts(
            hax.random.normal(keys[0], (Embed, Expert)),
            hax.random.normal(keys[1], (Expert, Embed, Mlp)),
            hax.random.normal(keys[2], (Expert, Mlp, Embed)),
        )

    def __call__(self, x: NamedArray) -> NamedArray:
        flat = hax.flatten_axes(x, (Batch, Position), Token)
        weights, chosen = hax.top_k(hnn.softmax(hax.dot(flat, self.router, axis=Embed), Expert), Expert, 2, Choice)
        expert_of_row = hax.flatten_axes(chosen, (Token, Choice), Row).array
        order = jnp.argsort(expert_of_row, stable=True)
        load = jnp.bincount(expert_of_row, length=Expert.size)

        rows = flat.array[order // Choice.size]
        hidden = jax.nn.gelu(jax.lax.ragged_dot(rows, self.up.array, load))
        made = jax.lax.ragged_dot(hidden, self.down.array, load)
        unsorted = jnp.zeros_like(made).at[order].set(made).reshape(Token.size, Choice.size, Embed.size)
        mixed = hax.dot(NamedArray(unsorted, (Token, Choice, Embed)), weights, axis=Choice)
        return hax.unflatten_axis(mixed, Token, (Batch, Position))


class Model(eqx.Module):
    """Embedding, one layer of experts, head."""

    embedding: hnn.Embedding
    norm: hnn.RmsNorm
    experts: Experts

    @staticmethod
    def init(key: jax.Array) -> Model:
        keys = jax.random.split(key)
        return Model(hnn.Embedding.init(Vocab, Embed, key=keys[0]), hnn.RmsNorm.init(Embed), Experts.init(keys[1]))

    def loss(self, batch: dict[str, NamedArray]) -> jax.Array:
        x = self.embedding(batch["tokens"])
        logits = self.embedding.unembed(x + self.experts(self.norm(x)))
        return hnn.cross_entropy_loss(logits, Vocab, batch["targets"]).scalar()


def build() -> Step:
    batch = {"tokens": tokens(Batch, Position), "targets": tokens(Batch, Position)}
    return training_step(Model.init, Model.loss, optax.lion(1e-3, weight_decay=0.1), batch)
