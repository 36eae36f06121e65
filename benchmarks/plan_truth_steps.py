"""Steps that `plan_truth.py` plans and compiles: no language models, and named in other ways."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

import haliax as hax
from levanter.models.vit.config import VitConfig

EMBED, MLP, LAYERS, BATCH = 512, 2048, 8, 64


def _loss(layers: list[dict[str, jax.Array]], x: jax.Array) -> jax.Array:
    for layer in layers:
        x = x + jnp.tanh(x @ layer["up"]) @ layer["down"]
    return jnp.mean(jnp.square(x))


def unrolled(layers: list[dict[str, jax.Array]], x: jax.Array) -> tuple[Any, jax.Array]:
    """Layers that no loop holds: each parameter could be gathered once and stay."""
    value, grads = jax.value_and_grad(_loss)(layers, x)
    return jax.tree.map(lambda parameter, grad: parameter - 1e-3 * grad, layers, grads), value


def unrolled_arguments() -> tuple[Any, ...]:
    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    return [{"up": array(EMBED, MLP), "down": array(MLP, EMBED)} for _ in range(LAYERS)], array(BATCH, EMBED)


unrolled_names = {"*.up": "embed mlp", "*.down": "mlp embed", "*": "batch embed"}

VIT = VitConfig(
    image_size=224,
    patch_size=16,
    num_labels=1000,
    hidden_dim=768,
    intermediate_dim=3072,
    num_layers=4,
    num_heads=12,
)
OPTIMIZER = optax.adam(1e-3)


def vit(state: Any, batch: Any) -> tuple[Any, jax.Array]:
    """ViT-B/16 with a third of its layers."""
    model, moments = state
    value, grads = jax.value_and_grad(lambda model: model.loss(batch["images"], batch["labels"]))(model)
    updates, moments = OPTIMIZER.update(grads, moments)
    return (optax.apply_updates(model, updates), moments), value


def vit_arguments() -> tuple[Any, Any]:
    def start() -> tuple[Any, Any]:
        batch = hax.Axis("batch", 64)
        model = VIT.build(key=jax.random.key(0))
        images = hax.zeros((batch, *VIT.Image))
        return (model, OPTIMIZER.init(model)), {"images": images, "labels": hax.zeros(batch, dtype=jnp.int32)}

    return jax.eval_shape(start)
