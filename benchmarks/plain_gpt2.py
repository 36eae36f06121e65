"""GPT-2 and its AdamW step by hand, in plain `jax.numpy`: what `benchmarks/step.py` measures against.

No names, no modules, no library of ours: parameters are a dict of arrays, stacked over layers, and the step is what a
careful person writes for this size. It computes the same numbers as the model in `levanter/models/gpt2.py`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

Parameters = dict[str, Any]


def layer_norm(x: jax.Array, weight: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    centered = x - x.mean(-1, keepdims=True)
    return centered * jax.lax.rsqrt((centered * centered).mean(-1, keepdims=True) + epsilon) * weight + bias


def attention(p: Parameters, x: jax.Array) -> jax.Array:
    """x [batch, position, embed]; p["qkv"] [embed, qkv, heads, head_size], p["out"] [heads, head_size, embed]."""
    q, k, v = jnp.moveaxis(jnp.einsum("bpe,eqhd->bpqhd", x, p["qkv"]) + p["qkv_bias"], 2, 0)
    scores = jnp.einsum("bphd,bkhd->bhpk", q, k) / jnp.sqrt(q.shape[-1]).astype(x.dtype)
    causal = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
    weights = jax.nn.softmax(jnp.where(causal, scores, -1e9), axis=-1)
    values = jnp.einsum("bhpk,bkhd->bphd", weights, v)
    return jnp.einsum("bphd,hde->bpe", values, p["out"]) + p["out_bias"]


def mlp(p: Parameters, x: jax.Array) -> jax.Array:
    return jax.nn.gelu(x @ p["up"] + p["up_bias"], approximate=True) @ p["down"] + p["down_bias"]


def loss(p: Parameters, tokens: jax.Array, targets: jax.Array, epsilon: float = 1e-5) -> jax.Array:
    """Mean cross entropy in nats per token; tokens and targets [batch, position]."""

    @jax.checkpoint
    def block(x: jax.Array, layer: Parameters) -> tuple[jax.Array, None]:
        x = x + attention(layer, layer_norm(x, layer["ln_1"], layer["ln_1_bias"], epsilon))
        x = x + mlp(layer, layer_norm(x, layer["ln_2"], layer["ln_2_bias"], epsilon))
        return x, None

    x = p["tokens"][tokens] + p["positions"][: tokens.shape[1]]
    x, _ = jax.lax.scan(block, x, p["blocks"])
    logits = layer_norm(x, p["ln_f"], p["ln_f_bias"], epsilon) @ p["tokens"].T
    top = jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    shifted = logits - top
    picked = jnp.where(jnp.arange(logits.shape[-1]) == targets[..., None], shifted, 0.0).sum(-1)
    return (jnp.log(jnp.exp(shifted).sum(-1)) - picked).mean()


def make_step(optimizer: optax.GradientTransformation) -> Any:
    """A jitted, donating `step((parameters, optimizer_state), tokens, targets) -> (state, loss, gradient norm)`."""

    def step(state: tuple[Parameters, Any], tokens: jax.Array, targets: jax.Array) -> Any:
        parameters, optimizer_state = state
        value, gradients = jax.value_and_grad(loss)(parameters, tokens, targets)
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, parameters)
        return (optax.apply_updates(parameters, updates), optimizer_state), value, optax.global_norm(gradients)

    return jax.jit(step, donate_argnums=0)
