"""GPT-2 and its AdamW step by hand, in plain `jax.numpy`: what `benchmarks/step.py` measures against.

No names, no modules, no library of ours: parameters are a dict of arrays, stacked over layers, and the step is what a
careful person writes for this size. It computes the same numbers as the model in `levanter/models/gpt2/gpt2.py`.
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


def loss(
    p: Parameters,
    tokens: jax.Array,
    targets: jax.Array,
    remat: bool = False,
    epsilon: float = 1e-5,
    vocab_size: int | None = None,
) -> jax.Array:
    """Mean cross entropy in nats; tokens and targets [batch, position]; rows from `vocab_size` on are padding."""

    def block(x: jax.Array, layer: Parameters) -> tuple[jax.Array, None]:
        x = x + attention(layer, layer_norm(x, layer["ln_1"], layer["ln_1_bias"], epsilon))
        x = x + mlp(layer, layer_norm(x, layer["ln_2"], layer["ln_2_bias"], epsilon))
        return x, None

    x = p["tokens"][tokens] + p["positions"][: tokens.shape[1]]
    x, _ = jax.lax.scan(jax.checkpoint(block) if remat else block, x, p["blocks"])
    logits = layer_norm(x, p["ln_f"], p["ln_f_bias"], epsilon) @ p["tokens"][:vocab_size].T
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()


def make_step(optimizer: optax.GradientTransformation, remat: bool = False, vocab_size: int | None = None) -> Any:
    """A jitted, donating `step((parameters, optimizer_state), tokens, targets) -> (state, loss, gradient norm)`."""

    def step(state: tuple[Parameters, Any], tokens: jax.Array, targets: jax.Array) -> Any:
        parameters, optimizer_state = state
        value, gradients = jax.value_and_grad(loss)(parameters, tokens, targets, remat, vocab_size=vocab_size)
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, parameters)
        return (optax.apply_updates(parameters, updates), optimizer_state), value, optax.tree.norm(gradients)

    return jax.jit(step, donate_argnums=0)


def make_optimizer(
    learning_rate: Any, weight_decay: float, beta1: float, beta2: float, epsilon: float, max_grad_norm: float
) -> optax.GradientTransformation:
    """AdamW with clipping, as optax has it; biases and norms do not decay."""
    return optax.chain(
        optax.clip_by_global_norm(max_grad_norm),
        optax.adamw(learning_rate, beta1, beta2, epsilon, weight_decay=weight_decay, mask=decays),
    )


def decays(parameters: Parameters) -> Parameters:
    matrices = {"tokens", "positions", "qkv", "out", "up", "down"}
    return {name: decays(value) if isinstance(value, dict) else name in matrices for name, value in parameters.items()}


def from_arrays(arrays: dict[str, jax.Array]) -> Parameters:
    """The parameters, taken from a model of `levanter/models/gpt2/gpt2.py` by the names that its checkpoints have."""
    block = {
        "ln_1": "attention_norm.weight",
        "ln_1_bias": "attention_norm.bias",
        "qkv": "attention.qkv.weight",
        "qkv_bias": "attention.qkv.bias",
        "out": "attention.out.weight",
        "out_bias": "attention.out.bias",
        "ln_2": "mlp_norm.weight",
        "ln_2_bias": "mlp_norm.bias",
        "up": "mlp.up.weight",
        "up_bias": "mlp.up.bias",
        "down": "mlp.down.weight",
        "down_bias": "mlp.down.bias",
    }
    return {
        "tokens": arrays["embeddings.tokens.weight"],
        "positions": arrays["embeddings.positions.weight"],
        "ln_f": arrays["final_norm.weight"],
        "ln_f_bias": arrays["final_norm.bias"],
        "blocks": {short: arrays[f"blocks.{name}"] for short, name in block.items()},
    }
