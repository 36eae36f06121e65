"""A transformer in plain `jax.numpy`, trained under a plan.

    python examples/plain_jnp.py                                          20 steps on 8 devices of a CPU
    levanter check examples/plain_jnp.py:train_step                       its axis mistakes, if any
    levanter compile examples/plain_jnp.py:train_step --mesh 4x2          how it is sharded, and why

The model knows nothing of named axes: `train_step_names` says beside it what the dims of a few arrays are called, and
the rest is inferred.
"""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
import optax

VOCAB, EMBED, HEADS, HEAD_SIZE, MLP, LAYERS = 96, 64, 4, 16, 256, 2
BATCH, POSITION = 32, 48

optimizer = optax.adam(3e-3)


def normalized(x, scale):
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * scale


def attention(x, layer):
    q, k, v = (jnp.einsum("bpe,ehd->bhpd", x, layer[name]) for name in ("query", "key", "value"))
    scores = q @ k.swapaxes(-1, -2) / HEAD_SIZE**0.5
    causal = jnp.tril(jnp.ones((POSITION, POSITION), bool))
    weights = jax.nn.softmax(jnp.where(causal, scores, -1e9), axis=-1)
    return jnp.einsum("bhpd,hde->bpe", weights @ v, layer["output"])


def mlp(x, layer):
    return jax.nn.gelu(x @ layer["up"]) @ layer["down"]


def logits(params, tokens):
    x = params["embedding"][tokens] + params["positions"]
    for layer in params["layers"]:
        x = x + attention(normalized(x, layer["attention_scale"]), layer["attention"])
        x = x + mlp(normalized(x, layer["mlp_scale"]), layer["mlp"])
    return normalized(x, params["scale"]) @ params["head"]


def loss(params, batch):
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, batch["tokens"]), batch["targets"]).mean()


def train_step(state, batch):
    value, grads = jax.value_and_grad(loss)(state["params"], batch)
    updates, moments = optimizer.update(grads, state["moments"], state["params"])
    return {"params": optax.apply_updates(state["params"], updates), "moments": moments}, value


def start() -> tuple[Any, Any]:
    """The state before the first step, and a batch: sequences that count up from a random token."""
    keys = iter(jax.random.split(jax.random.key(0), 64))

    def weight(*sizes, fan_in):
        return jax.random.normal(next(keys), sizes) / fan_in**0.5

    def layer():
        heads = {name: weight(EMBED, HEADS, HEAD_SIZE, fan_in=EMBED) for name in ("query", "key", "value")}
        return {
            "attention": {**heads, "output": weight(HEADS, HEAD_SIZE, EMBED, fan_in=EMBED)},
            "mlp": {"up": weight(EMBED, MLP, fan_in=EMBED), "down": weight(MLP, EMBED, fan_in=MLP)},
            "attention_scale": jnp.ones(EMBED),
            "mlp_scale": jnp.ones(EMBED),
        }

    params = {
        "embedding": weight(VOCAB, EMBED, fan_in=EMBED),
        "positions": weight(POSITION, EMBED, fan_in=EMBED),
        "layers": [layer() for _ in range(LAYERS)],
        "scale": jnp.ones(EMBED),
        "head": weight(EMBED, VOCAB, fan_in=EMBED),
    }
    first = jax.random.randint(next(keys), (BATCH, 1), 0, VOCAB)
    tokens = (first + jnp.arange(POSITION + 1)) % VOCAB
    batch = {"tokens": tokens[:, :-1], "targets": tokens[:, 1:]}
    return {"params": params, "moments": optimizer.init(params)}, batch


def train_step_arguments() -> tuple[Any, Any]:
    """Shapes are enough to check and to plan."""
    return jax.eval_shape(start)


train_step_names = {
    "*.embedding": "vocab embed",
    "*.head": "embed vocab",
    "*.query": "embed heads head_size",
    "*.value": "embed heads head_size",
    "*.mlp.up": "embed mlp",
    "batch.tokens": "batch position",
}


def train(mesh: str | None, steps: int = 20) -> list[float]:
    """The losses of some steps under a plan for the mesh; without one, on one device."""
    import ir
    import passes

    state, batch = start()
    step = jax.jit(train_step)
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
