"""A small training step that has all that goes wrong in parallel training, placed as Megatron with sequence parallelism
and FSDP places it: a tied embedding, a layer norm, a bias, a mean, gradients clipped by their norm."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from step_models import shaped

import ir
from ir.graph import Graph
from passes import Plan, pipeline

MESH = {"data": 2, "model": 2}
PLAN = Plan.by_hand(
    MESH,
    {"batch": ("data",), "mlp": ("model",), "vocab": ("model",), "position": ("model",)},
    {"embed": ("data",)},
)
BATCH, POSITION, EMBED, MLP, VOCAB = 4, 6, 8, 10, 12

PARAMETERS = {
    "table": shaped("vocab embed", VOCAB, EMBED),
    "gain": shaped("embed", EMBED),
    "up": shaped("embed mlp", EMBED, MLP),
    "down": shaped("mlp embed", MLP, EMBED),
    "bias": shaped("embed", EMBED),
}
TOKENS = shaped("batch position", BATCH, POSITION, dtype=jnp.int32)


def loss_of(p: Any, tokens: Any) -> Any:
    x = p["table"].at[tokens].get(mode="clip")
    normalized = x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5) * p["gain"]
    hidden = jnp.tanh(jnp.einsum("bse,em->bsm", normalized, p["up"]))
    y = x + jnp.einsum("bsm,me->bse", hidden, p["down"]) + p["bias"]
    logits = jnp.einsum("bse,ve->bsv", y, p["table"])
    is_target = jnp.arange(VOCAB) == tokens[..., None]
    return jnp.mean(jax.nn.logsumexp(logits, -1) - jnp.sum(jnp.where(is_target, logits, 0), -1))


def step(parameters: Any, tokens: Any) -> Any:
    p = {name: value.array for name, value in parameters.items()}
    loss, gradients = jax.value_and_grad(loss_of)(p, tokens.array)
    norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(gradients)))
    clip = jnp.minimum(1.0, 1.0 / norm)
    return {name: p[name] - 0.1 * clip * g for name, g in gradients.items()}, {"loss": loss, "norm": norm}


@cache
def before() -> Graph:
    """The step before partition."""
    return pipeline.prepare(ir.trace(step, PARAMETERS, TOKENS))


@cache
def placed() -> Graph:
    """The step on the mesh."""
    return pipeline.place(before(), PLAN)
