"""A transformer of Flax NNX modules, trained under a plan.

    python examples/flax_nnx.py                                           20 steps on 8 devices of a CPU
    levanter check examples/flax_nnx.py:train_step                        its axis mistakes, if any
    levanter compile examples/flax_nnx.py:train_step --mesh 4x2           how it is sharded, and why

The modules are Flax's own and the step updates them in place, as NNX code does; so does the step under a plan.
`train_step_names` says what the dims of a few parameters are called; the moments of Adam have the same paths behind
`mu` and `nu`, so the same patterns name them.
"""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

VOCAB, EMBED, HEADS, MLP, LAYERS = 96, 64, 4, 256, 2
BATCH, POSITION = 32, 48


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.attention_norm = nnx.LayerNorm(EMBED, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(HEADS, EMBED, decode=False, rngs=rngs)
        self.mlp_norm = nnx.LayerNorm(EMBED, rngs=rngs)
        self.up = nnx.Linear(EMBED, MLP, rngs=rngs)
        self.down = nnx.Linear(MLP, EMBED, rngs=rngs)

    def __call__(self, x, mask):
        x = x + self.attention(self.attention_norm(x), mask=mask)
        return x + self.down(nnx.gelu(self.up(self.mlp_norm(x))))


class Transformer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.tokens = nnx.Embed(VOCAB, EMBED, rngs=rngs)
        self.positions = nnx.Embed(POSITION, EMBED, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(LAYERS)])
        self.norm = nnx.LayerNorm(EMBED, rngs=rngs)
        self.head = nnx.Linear(EMBED, VOCAB, use_bias=False, rngs=rngs)

    def __call__(self, tokens):
        x = self.tokens(tokens) + self.positions(jnp.arange(POSITION))
        mask = nnx.make_causal_mask(tokens)
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x))


def loss(model, batch):
    return optax.softmax_cross_entropy_with_integer_labels(model(batch["tokens"]), batch["targets"]).mean()


def train_step(model, optimizer, batch):
    value, grads = nnx.value_and_grad(loss)(model, batch)
    optimizer.update(model, grads)
    return value


def start() -> tuple[Any, Any, Any]:
    """Model and optimizer before the first step, and a batch: sequences that count up from a random token."""
    model = Transformer(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(3e-3), wrt=nnx.Param)
    tokens = (jax.random.randint(jax.random.key(1), (BATCH, 1), 0, VOCAB) + jnp.arange(POSITION + 1)) % VOCAB
    return model, optimizer, {"tokens": tokens[:, :-1], "targets": tokens[:, 1:]}


def train_step_arguments() -> tuple[Any, Any, Any]:
    """Shapes are enough to check and to plan."""
    return jax.eval_shape(start)


train_step_names = {
    "*.tokens.embedding": "vocab embed",
    "*.positions.embedding": "position embed",
    "*.attention.query.kernel": "embed heads head_size",
    "*.attention.value.kernel": "embed heads head_size",
    "*.up.kernel": "embed mlp",
    "*.head.kernel": "embed vocab",
    "batch.tokens": "batch position",
}


def train(mesh: str | None, steps: int = 20) -> list[float]:
    """The losses of some steps under a plan for the mesh; without one, on one device."""
    import ir
    import passes

    model, optimizer, batch = start()
    step = nnx.jit(train_step)
    if mesh is not None:
        graph = ir.trace(train_step, model, optimizer, batch, names=train_step_names)
        step = passes.lower(graph, passes.plan(graph, mesh))
    losses = []
    for _ in range(steps):
        value = step(model, optimizer, batch)
        losses.append(float(value))
    return losses


if __name__ == "__main__":
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    print(*(f"{value:.4f}" for value in train("4x2")))
