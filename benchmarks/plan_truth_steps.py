"""Steps that `plan_truth.py` plans and compiles: no language models, and named in other ways."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

import haliax as hax
from levanter.models.vit.config import VitConfig

ADAM = optax.adam(1e-3)
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

WIDE, HIDDEN, ROWS = 2048, 8192, 16384


def _wide_loss(layers: list[dict[str, jax.Array]], x: jax.Array) -> jax.Array:
    for layer in layers:
        hidden = jax.nn.gelu(x @ layer["up"].astype(x.dtype) + layer["bias"].astype(x.dtype))
        x = x + hidden @ layer["down"].astype(x.dtype)
    return jnp.mean(jnp.square(x.astype(jnp.float32)))


def wide(state: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    """A batch whose activations do not fit on any chip, in bf16, with Adam."""
    layers, moments = state
    value, grads = jax.value_and_grad(_wide_loss)(layers, x)
    updates, moments = ADAM.update(grads, moments)
    return (optax.apply_updates(layers, updates), moments), value


def wide_arguments() -> tuple[Any, Any]:
    array = jax.ShapeDtypeStruct
    shapes = {"up": (WIDE, HIDDEN), "bias": (HIDDEN,), "down": (HIDDEN, WIDE)}
    layers = [{name: array(shape, jnp.float32) for name, shape in shapes.items()} for _ in range(4)]
    return (layers, jax.eval_shape(ADAM.init, layers)), array((ROWS, WIDE), jnp.bfloat16)


wide_names = {"*.up": "embed mlp", "*.down": "mlp embed", "*.bias": "mlp", "x": "batch embed"}

WORDS, SIZE, TEXTS, LENGTH = 32768, 1024, 32, 512


def _words_loss(parameters: dict[str, jax.Array], tokens: jax.Array, targets: jax.Array) -> jax.Array:
    x = jnp.take(parameters["table"], tokens, axis=0)
    x = jnp.tanh(jnp.cumsum(x, axis=1) @ parameters["mix"])
    logits = x @ parameters["head"]
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)
    return -jnp.mean(chosen)


def words(parameters: dict[str, jax.Array], tokens: jax.Array, targets: jax.Array) -> tuple[Any, jax.Array]:
    """A large vocabulary on both ends and little between."""
    value, grads = jax.value_and_grad(_words_loss)(parameters, tokens, targets)
    return jax.tree.map(lambda parameter, grad: parameter - 1e-2 * grad, parameters, grads), value


def words_arguments() -> tuple[Any, ...]:
    array = jax.ShapeDtypeStruct
    shapes = {"table": (WORDS, SIZE), "mix": (SIZE, SIZE), "head": (SIZE, WORDS)}
    tokens = array((TEXTS, LENGTH), jnp.int32)
    return {name: array(shape, jnp.float32) for name, shape in shapes.items()}, tokens, tokens


words_names = {"*.table": "vocab embed", "*.mix": "embed mlp", "*.head": "mlp vocab", "*": "batch position"}

VIT = VitConfig(
    image_size=224,
    patch_size=16,
    num_labels=1000,
    hidden_dim=768,
    intermediate_dim=3072,
    num_layers=4,
    num_heads=12,
)


def vit(state: Any, batch: Any) -> tuple[Any, jax.Array]:
    """ViT-B/16 with a third of its layers."""
    model, moments = state
    value, grads = jax.value_and_grad(lambda model: model.loss(batch["images"], batch["labels"]))(model)
    updates, moments = ADAM.update(grads, moments)
    return (optax.apply_updates(model, updates), moments), value


def vit_arguments() -> tuple[Any, Any]:
    def start() -> tuple[Any, Any]:
        batch = hax.Axis("batch", 64)
        model = VIT.build(key=jax.random.key(0))
        images = hax.zeros((batch, *VIT.Image))
        return (model, ADAM.init(model)), {"images": images, "labels": hax.zeros(batch, dtype=jnp.int32)}

    return jax.eval_shape(start)
