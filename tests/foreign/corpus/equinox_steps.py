"""Steps of `equinox.nn` modules: modules of single examples under `jax.vmap`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from corpus.case import Case, Floats, Ids, Names, Sizes, Step, cross_entropy, training


def module_step(
    module: Callable[[jax.Array], eqx.Module],
    loss_of: Callable[[Any, dict[str, Any]], jax.Array],
    batch: Any,
    names: Names,
) -> Step:
    """The step of an Equinox module, split in arrays and the rest by `eqx.partition`."""
    rest = eqx.filter_eval_shape(module, jax.random.key(0))
    rest = eqx.filter(rest, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct), inverse=True)
    return training(
        lambda key, _: eqx.filter(module(key), eqx.is_array),
        lambda params, batch: loss_of(eqx.combine(params, rest), batch),
        batch,
        names,
    )


class Block(eqx.Module):
    norm1: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    rotary: eqx.nn.RotaryPositionalEmbedding
    norm2: eqx.nn.RMSNorm
    mlp: eqx.nn.MLP

    def __init__(self, sizes: Sizes, key: jax.Array):
        first, second = jax.random.split(key)
        self.norm1 = eqx.nn.LayerNorm(sizes.embed)
        self.attention = eqx.nn.MultiheadAttention(
            sizes.heads, sizes.embed, qk_size=sizes.head_size, vo_size=sizes.head_size, key=first
        )
        self.rotary = eqx.nn.RotaryPositionalEmbedding(sizes.head_size)
        self.norm2 = eqx.nn.RMSNorm(sizes.embed)
        self.mlp = eqx.nn.MLP(sizes.embed, sizes.embed, sizes.mlp, 1, jax.nn.gelu, key=second)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jax.vmap(self.norm1)(x)
        mask = jnp.tril(jnp.ones((x.shape[0], x.shape[0]), bool))
        x = x + self.attention(y, y, y, mask=mask, process_heads=self.turned)
        return x + jax.vmap(self.mlp)(jax.vmap(self.norm2)(x))

    def turned(self, query: jax.Array, key: jax.Array, value: jax.Array) -> Any:
        turn = jax.vmap(self.rotary, in_axes=1, out_axes=1)
        return turn(query), turn(key), value


class Decoder(eqx.Module):
    words: eqx.nn.Embedding
    block: Block
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self, sizes: Sizes, key: jax.Array):
        keys = jax.random.split(key, 3)
        self.words = eqx.nn.Embedding(sizes.vocab, sizes.embed, key=keys[0])
        self.block = Block(sizes, keys[1])
        self.norm = eqx.nn.LayerNorm(sizes.embed)
        self.head = eqx.nn.Linear(sizes.embed, sizes.vocab, use_bias=False, key=keys[2])

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.block(jax.vmap(self.words)(tokens))
        return jax.vmap(self.head)(jax.vmap(self.norm)(x))


def attention(sizes: Sizes) -> Step:
    shape = sizes.batch, sizes.position
    return module_step(
        lambda key: Decoder(sizes, key),
        lambda model, batch: cross_entropy(jax.vmap(model)(batch["tokens"]), batch["labels"]),
        {"tokens": Ids(sizes.vocab, shape), "labels": Ids(sizes.vocab, shape)},
        {
            "*.words.weight": "vocab embed",
            "*.norm*.weight": "embed",
            "*.norm*.bias": "embed",
            "*.query_proj.weight": "inner embed",
            "*.key_proj.weight": "inner embed",
            "*.value_proj.weight": "inner embed",
            "*.output_proj.weight": "embed inner",
            "*.mlp.layers.0.weight": "mlp embed",
            "*.mlp.layers.0.bias": "mlp",
            "*.mlp.layers.1.weight": "embed mlp",
            "*.mlp.layers.1.bias": "embed",
            "*.head.weight": "vocab embed",
            "batch.*": "batch position",
        },
    )


class Recurrent(eqx.Module):
    cell: eqx.nn.GRUCell
    head: eqx.nn.Linear

    def __init__(self, sizes: Sizes, key: jax.Array):
        first, second = jax.random.split(key)
        self.cell = eqx.nn.GRUCell(sizes.features, sizes.hidden, key=first)
        self.head = eqx.nn.Linear(sizes.hidden, sizes.classes, key=second)

    def __call__(self, x: jax.Array) -> jax.Array:
        def ahead(carry: jax.Array, features: jax.Array) -> Any:
            carry = self.cell(features, carry)
            return carry, carry

        _, states = jax.lax.scan(ahead, jnp.zeros(self.cell.hidden_size), x)
        return jax.vmap(self.head)(states)


def gru(sizes: Sizes) -> Step:
    return module_step(
        lambda key: Recurrent(sizes, key),
        lambda model, batch: cross_entropy(jax.vmap(model)(batch["x"]), batch["labels"]),
        {
            "x": Floats((sizes.batch, sizes.position, sizes.features)),
            "labels": Ids(sizes.classes, (sizes.batch, sizes.position)),
        },
        {
            "*.cell.weight_ih": "gates features",
            "*.cell.weight_hh": "gates hidden",
            "*.cell.bias": "gates",
            "*.cell.bias_n": "hidden",
            "*.head.weight": "classes hidden",
            "*.head.bias": "classes",
            "batch.x": "batch position features",
            "batch.labels": "batch position",
        },
    )


class ConvNet(eqx.Module):
    stem: eqx.nn.Conv2d
    norm: eqx.nn.GroupNorm
    deep: eqx.nn.Conv2d
    pool: eqx.nn.MaxPool2d
    up: eqx.nn.ConvTranspose2d
    head: eqx.nn.Linear

    def __init__(self, sizes: Sizes, key: jax.Array):
        keys = jax.random.split(key, 4)
        self.stem = eqx.nn.Conv2d(sizes.color, sizes.filters, 3, padding=1, key=keys[0])
        self.norm = eqx.nn.GroupNorm(4, sizes.filters)
        self.deep = eqx.nn.Conv2d(sizes.filters, sizes.wide, 3, padding="SAME", key=keys[1])
        self.pool = eqx.nn.MaxPool2d(2, 2)
        self.up = eqx.nn.ConvTranspose2d(sizes.wide, sizes.filters, 2, 2, key=keys[2])
        self.head = eqx.nn.Linear(sizes.filters, sizes.classes, key=keys[3])

    def __call__(self, image: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.norm(self.stem(image)))
        x = x + self.up(self.pool(jax.nn.relu(self.deep(x))))
        return self.head(x.mean(axis=(1, 2)))


def convolutions(sizes: Sizes) -> Step:
    return module_step(
        lambda key: ConvNet(sizes, key),
        lambda model, batch: cross_entropy(jax.vmap(model)(batch["image"]), batch["labels"]),
        {
            "image": Floats((sizes.batch, sizes.color, sizes.height, sizes.width)),
            "labels": Ids(sizes.classes, (sizes.batch,)),
        },
        {
            "*.stem.weight": "filters color kernel_height kernel_width",
            "*.stem.bias": "filters ...",
            "*.norm.*": "filters",
            "*.deep.weight": "wide filters kernel_height kernel_width",
            "*.deep.bias": "wide ...",
            "*.up.weight": "filters wide kernel_height kernel_width",
            "*.up.bias": "filters ...",
            "*.head.weight": "classes filters",
            "*.head.bias": "classes",
            "batch.image": "batch color height width",
            "batch.labels": "batch",
        },
    )


class Mixer(eqx.Module):
    """One block: an MLP over the positions, then one over the channels."""

    across: eqx.nn.MLP
    along: eqx.nn.MLP
    norm1: eqx.nn.LayerNorm
    norm2: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self, sizes: Sizes, key: jax.Array):
        keys = jax.random.split(key, 3)
        self.across = eqx.nn.MLP(sizes.position, sizes.position, sizes.hidden, 1, key=keys[0])
        self.along = eqx.nn.MLP(sizes.embed, sizes.embed, sizes.mlp, 1, key=keys[1])
        self.norm1 = eqx.nn.LayerNorm((sizes.position, sizes.embed))
        self.norm2 = eqx.nn.LayerNorm((sizes.position, sizes.embed))
        self.head = eqx.nn.Linear(sizes.embed, sizes.classes, key=keys[2])

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + jax.vmap(self.across, in_axes=1, out_axes=1)(self.norm1(x))
        x = x + jax.vmap(self.along)(self.norm2(x))
        return self.head(x.mean(axis=0))


def mixer(sizes: Sizes) -> Step:
    return module_step(
        lambda key: Mixer(sizes, key),
        lambda model, batch: cross_entropy(jax.vmap(model)(batch["x"]), batch["labels"]),
        {
            "x": Floats((sizes.batch, sizes.position, sizes.embed)),
            "labels": Ids(sizes.classes, (sizes.batch,)),
        },
        {
            "*.across.layers.0.weight": "hidden position",
            "*.across.layers.0.bias": "hidden",
            "*.across.layers.1.weight": "position hidden",
            "*.across.layers.1.bias": "position",
            "*.along.layers.0.weight": "mlp embed",
            "*.along.layers.0.bias": "mlp",
            "*.along.layers.1.weight": "embed mlp",
            "*.along.layers.1.bias": "embed",
            "*.norm*.*": "position embed",
            "*.head.weight": "classes embed",
            "*.head.bias": "classes",
            "batch.x": "batch position embed",
            "batch.labels": "batch",
        },
    )


CASES = {
    "equinox attention": Case(attention),
    "equinox GRU": Case(gru, small=True),
    "equinox convolutions": Case(convolutions),
    "equinox mixer": Case(mixer),
}
