"""A recurrent language model of Equinox modules, trained under a plan.

    python examples/equinox_gru.py                                        20 steps on 8 devices of a CPU
    levanter check examples/equinox_gru.py:train_step                     its axis mistakes, if any
    levanter compile examples/equinox_gru.py:train_step --mesh 4x2        how it is sharded, and why

The modules are Equinox's own, written for one sequence and mapped over the batch. The activation of the MLP is a leaf
of the model that is no array: a step is traced for its value, as under `eqx.filter_jit`.
"""

from __future__ import annotations

import os
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

VOCAB, EMBED, HIDDEN, MLP = 96, 64, 128, 512
BATCH, POSITION = 64, 24

optimizer = optax.adam(3e-3)


class LanguageModel(eqx.Module):
    embedding: eqx.nn.Embedding
    cell: eqx.nn.GRUCell
    norm: eqx.nn.LayerNorm
    head: eqx.nn.MLP

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.embedding = eqx.nn.Embedding(VOCAB, EMBED, key=keys[0])
        self.cell = eqx.nn.GRUCell(EMBED, HIDDEN, key=keys[1])
        self.norm = eqx.nn.LayerNorm(HIDDEN)
        self.head = eqx.nn.MLP(HIDDEN, VOCAB, MLP, depth=1, activation=jax.nn.gelu, key=keys[2])

    def __call__(self, tokens):
        def advance(hidden, token):
            hidden = self.cell(token, hidden)
            return hidden, hidden

        _, hidden = jax.lax.scan(advance, jnp.zeros(HIDDEN), jax.vmap(self.embedding)(tokens))
        return jax.vmap(lambda each: self.head(self.norm(each)))(hidden)


def loss(model, batch):
    logits = jax.vmap(model)(batch["tokens"])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"]).mean()


def train_step(state, batch):
    model, moments = state
    value, grads = eqx.filter_value_and_grad(loss)(model, batch)
    updates, moments = optimizer.update(grads, moments)
    return (eqx.apply_updates(model, updates), moments), value


def start() -> tuple[Any, Any]:
    """The state before the first step, and a batch: sequences that count up from a random token."""
    model = LanguageModel(jax.random.key(0))
    tokens = (jax.random.randint(jax.random.key(1), (BATCH, 1), 0, VOCAB) + jnp.arange(POSITION + 1)) % VOCAB
    state = model, optimizer.init(eqx.filter(model, eqx.is_array))
    return state, {"tokens": tokens[:, :-1], "targets": tokens[:, 1:]}


def train_step_arguments() -> tuple[Any, Any]:
    """Shapes are enough to check and to plan."""
    return eqx.filter_eval_shape(start)


train_step_names = {
    "*.embedding.weight": "vocab embed",
    "*.cell.weight_ih": "gates embed",
    "*.cell.weight_hh": "gates hidden",
    "*.cell.bias_n": "hidden",
    "*.head.layers.0.weight": "mlp hidden",
    "*.head.layers.1.weight": "vocab mlp",
    "batch.tokens": "batch position",
}


def train(mesh: str | None, steps: int = 20) -> list[float]:
    """The losses of some steps under a plan for the mesh; without one, on one device."""
    import ir
    import passes

    state, batch = start()
    step = eqx.filter_jit(train_step)
    if mesh is not None:
        graph = ir.trace(train_step, state, batch, names=train_step_names)
        step = passes.lower(graph, passes.plan(graph, mesh))
    losses = []
    for _ in range(steps):
        state, value = step(state, batch)
        losses.append(float(value))
    return losses


if __name__ == "__main__":
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    print(*(f"{value:.4f}" for value in train("4x2")))
