"""A language model by an LSTM: raw `jax.numpy` and `jax.lax.scan` over the positions; RMSProp."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from zoo.training import Step, tokens, training_step

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray

Batch, Position, Vocab = Axis("batch", 4), Axis("position", 10), Axis("vocab", 34)
Embed, Gate, Hidden = Axis("embed", 14), Axis("gate", 4), Axis("hidden", 22)
EarlierHidden = Hidden.alias("earlier_hidden")
Carry = tuple[jax.Array, jax.Array]


class Lstm(eqx.Module):
    """Embedding, one recurrent layer, head."""

    embedding: hnn.Embedding
    inputs: NamedArray
    recurrent: NamedArray
    bias: NamedArray
    head: hnn.Linear

    @staticmethod
    def init(key: jax.Array) -> Lstm:
        keys = jax.random.split(key, 4)
        return Lstm(
            hnn.Embedding.init(Vocab, Embed, key=keys[0]),
            hax.random.normal(keys[1], (Embed, Gate, Hidden)),
            hax.random.normal(keys[2], (EarlierHidden, Gate, Hidden)),
            hax.zeros((Gate, Hidden)),
            hnn.Linear.init(Hidden, Vocab, key=keys[3]),
        )

    def hidden_states(self, x: NamedArray) -> NamedArray:
        """x [batch, position, embed] → [batch, position, hidden]"""
        driven = jnp.einsum("bte,egh->tbgh", x.array, self.inputs.array) + self.bias.array

        def advance(carry: Carry, drive: jax.Array) -> tuple[Carry, jax.Array]:
            cell, hidden = carry
            earlier = NamedArray(hidden, (Batch, Hidden)).rename({"hidden": "earlier_hidden"}).array
            gates = drive + jnp.einsum("bk,kgh->bgh", earlier, self.recurrent.array)
            keep, write, read = (jax.nn.sigmoid(gates[:, gate]) for gate in range(3))
            cell = keep * cell + write * jnp.tanh(gates[:, 3])
            hidden = read * jnp.tanh(cell)
            return (cell, hidden), hidden

        start = jnp.zeros((Batch.size, Hidden.size))
        _, hidden = jax.lax.scan(advance, (start, start), driven)
        return NamedArray(jnp.moveaxis(hidden, 0, 1), (Batch, Position, Hidden))

    def loss(self, batch: dict[str, NamedArray]) -> jax.Array:
        logits = self.head(self.hidden_states(self.embedding(batch["tokens"])))
        return hnn.cross_entropy_loss(logits, Vocab, batch["targets"]).scalar()


def build() -> Step:
    batch = {"tokens": tokens(Batch, Position), "targets": tokens(Batch, Position)}
    return training_step(Lstm.init, Lstm.loss, optax.rmsprop(1e-3, momentum=0.9), batch)
