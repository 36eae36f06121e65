"""A transformer of Haiku modules, trained under a plan.

    python examples/haiku_transformer.py                                  20 steps on 8 devices of a CPU
    levanter check examples/haiku_transformer.py:train_step               its axis mistakes, if any
    levanter compile examples/haiku_transformer.py:train_step --mesh 4x2  how it is sharded, and why

Haiku keeps parameters in a dictionary of dictionaries, `params["block_0/attention/query"]["w"]`. In a pattern a `/` is
as good as a dot. Attention computes all heads by one matrix of `heads * head_size` columns, which is one name here:
that it is split in two, inference finds.
"""

from __future__ import annotations

import os
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import optax

VOCAB, EMBED, HEADS, HEAD_SIZE, MLP, LAYERS = 96, 64, 4, 16, 256, 2
BATCH, POSITION = 32, 48

optimizer = optax.adam(3e-3)


def layer_norm(name: str) -> hk.LayerNorm:
    return hk.LayerNorm(axis=-1, create_scale=True, create_offset=True, name=name)


class Block(hk.Module):
    def __call__(self, x, mask):
        initial = hk.initializers.VarianceScaling()
        attention = hk.MultiHeadAttention(HEADS, HEAD_SIZE, w_init=initial, model_size=EMBED, name="attention")
        h = layer_norm("attention_norm")(x)
        x = x + attention(h, h, h, mask=mask)
        h = hk.Linear(MLP, name="up")(layer_norm("mlp_norm")(x))
        return x + hk.Linear(EMBED, name="down")(jax.nn.gelu(h))


def forward(tokens):
    positions = hk.get_parameter("positions", [POSITION, EMBED], init=hk.initializers.TruncatedNormal(0.02))
    x = hk.Embed(VOCAB, EMBED, name="tokens")(tokens) + positions
    mask = jnp.tril(jnp.ones((1, 1, POSITION, POSITION)))
    for i in range(LAYERS):
        x = Block(name=f"block_{i}")(x, mask)
    return hk.Linear(VOCAB, with_bias=False, name="head")(layer_norm("norm")(x))


model = hk.without_apply_rng(hk.transform(forward))


def loss(params, batch):
    logits = model.apply(params, batch["tokens"])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"]).mean()


def train_step(state, batch):
    value, grads = jax.value_and_grad(loss)(state["params"], batch)
    updates, moments = optimizer.update(grads, state["moments"], state["params"])
    return {"params": optax.apply_updates(state["params"], updates), "moments": moments}, value


def start() -> tuple[Any, Any]:
    """The state before the first step, and a batch: sequences that count up from a random token."""
    tokens = (jax.random.randint(jax.random.key(1), (BATCH, 1), 0, VOCAB) + jnp.arange(POSITION + 1)) % VOCAB
    params = model.init(jax.random.key(0), tokens[:, :-1])
    return {"params": params, "moments": optimizer.init(params)}, {"tokens": tokens[:, :-1], "targets": tokens[:, 1:]}


def train_step_arguments() -> tuple[Any, Any]:
    """Shapes are enough to check and to plan."""
    return jax.eval_shape(start)


train_step_names = {
    "*.tokens.embeddings": "vocab embed",
    "*/attention/query.w": "embed heads_and_sizes",
    "*/attention/value.w": "embed heads_and_sizes",
    "*/up.w": "embed mlp",
    "*.head.w": "embed vocab",
    "batch.tokens": "batch position",
}


def train(mesh: str | None, steps: int = 20) -> list[float]:
    """The losses of some steps under a plan for the mesh, in your own loop; without one, on one device."""
    import ir
    import passes

    state, batch = start()
    step = jax.jit(train_step)
    if mesh is not None:
        plan = passes.plan(ir.trace(train_step, state, batch, names=train_step_names), mesh)
        state = jax.device_put(state, plan.shardings(state))
        shardings = plan.shardings((state, batch))
        step = jax.jit(train_step, in_shardings=shardings, out_shardings=(shardings[0], None))
    losses = []
    for _ in range(steps):
        state, value = step(state, batch)
        losses.append(float(value))
    return losses


if __name__ == "__main__":
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    print(*(f"{value:.4f}" for value in train("4x2")))
