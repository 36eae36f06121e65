"""A vision transformer of this library, trained under a plan.

    python examples/vit_images.py                                         20 steps on 8 devices of a CPU
    levanter check examples/vit_images.py:train_step                      its axis mistakes, if any
    levanter compile examples/vit_images.py:train_step --mesh 4x2         how it is sharded, and why

`VitConfig` has the sizes of ViT-B/16 where it is left as it is, and
`levanter.hf.open_folder("google/vit-base-patch16-224")` reads the published weights. The axes are named by the model,
so nothing is named here.
"""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
import optax

import haliax as hax
from levanter.models.vit.config import VitConfig

config = VitConfig(
    image_size=32,
    patch_size=8,
    num_labels=8,
    hidden_dim=64,
    intermediate_dim=256,
    num_layers=2,
    num_heads=4,
    gradient_checkpointing=False,
)
Batch = hax.Axis("batch", 32)
optimizer = optax.adam(3e-3)


def train_step(state, batch):
    model, moments = state
    value, grads = jax.value_and_grad(lambda model: model.loss(batch["images"], batch["labels"]))(model)
    updates, moments = optimizer.update(grads, moments)
    return (optax.apply_updates(model, updates), moments), value


def start() -> tuple[Any, Any]:
    """The state before the first step, and a batch: noise, and the label is the number of its brightest stripe."""
    Height, Width, Channels = config.Image
    labels = hax.named(jnp.arange(Batch.size) % config.num_labels, Batch)
    noise = hax.random.normal(jax.random.key(1), (Batch, Height, Width, Channels)) * 0.5
    is_bright = hax.arange(Width) // (Width.size // config.num_labels) == labels.broadcast_axis(Width)
    model = config.build(key=jax.random.key(0))
    images = noise + 2.0 * is_bright.astype(jnp.float32)
    return (model, optimizer.init(model)), {"images": images, "labels": labels}


def train_step_arguments() -> tuple[Any, Any]:
    """Shapes are enough to check and to plan."""
    return jax.eval_shape(start)


def train(mesh: str | None, steps: int = 20) -> list[float]:
    """The losses of some steps under a plan for the mesh; without one, on one device."""
    import ir
    import passes

    state, batch = jax.jit(start)()
    step = jax.jit(train_step)
    if mesh is not None:
        graph = ir.trace(train_step, state, batch)
        step = passes.lower(graph, passes.plan(graph, mesh))
    losses = []
    for _ in range(steps):
        state, value = step(state, batch)
        losses.append(float(value))
    return losses


if __name__ == "__main__":
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    print(*(f"{value:.4f}" for value in train("4x2")))
