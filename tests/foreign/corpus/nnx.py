"""Steps of `flax.nnx` modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from corpus.case import Case, Floats, Ids, Names, Sizes, Step, cross_entropy, training_with_extra


def module_step(
    module: Callable[[nnx.Rngs], nnx.Module],
    loss_of: Callable[[Any, dict[str, Any]], jax.Array],
    batch: Any,
    names: Names,
) -> Step:
    """The step of an NNX module, split in parameters and the rest as NNX's guide to functional code does."""

    def parts(key: jax.Array) -> Any:
        return nnx.split(module(nnx.Rngs(key)), nnx.Param, ...)

    graph = nnx.split(nnx.eval_shape(lambda: module(nnx.Rngs(0))), nnx.Param, ...)[0]

    def loss(params: Any, extra: Any, batch: Any) -> Any:
        model = nnx.merge(graph, params, extra, copy=True)
        value = loss_of(model, batch)
        return value, nnx.split(model, nnx.Param, ...)[2]

    return training_with_extra(lambda key, _: parts(key)[1:], loss, batch, names)


class Block(nnx.Module):
    def __init__(self, sizes: Sizes, rngs: nnx.Rngs):
        inner = sizes.heads * sizes.head_size
        self.norm1 = nnx.LayerNorm(sizes.embed, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            sizes.heads, sizes.embed, inner, sizes.embed, decode=False, normalize_qk=True, rngs=rngs
        )
        self.norm2 = nnx.RMSNorm(sizes.embed, rngs=rngs)
        self.up = nnx.Linear(sizes.embed, sizes.mlp, rngs=rngs)
        self.gate = nnx.Linear(sizes.embed, sizes.mlp, rngs=rngs)
        self.down = nnx.Linear(sizes.mlp, sizes.embed, rngs=rngs)

    def __call__(self, x: Any, mask: Any) -> Any:
        x = x + self.attention(self.norm1(x), mask=mask)
        y = self.norm2(x)
        return x + self.down(nnx.silu(self.gate(y)) * self.up(y))


class Decoder(nnx.Module):
    def __init__(self, sizes: Sizes, rngs: nnx.Rngs):
        self.words = nnx.Embed(sizes.vocab, sizes.embed, rngs=rngs)
        self.places = nnx.Embed(sizes.position, sizes.embed, rngs=rngs)
        self.block = Block(sizes, rngs)
        self.norm = nnx.LayerNorm(sizes.embed, rngs=rngs)

    def __call__(self, tokens: Any) -> Any:
        x = self.words(tokens) + self.places(jnp.arange(tokens.shape[1]))
        x = self.block(x, nnx.make_causal_mask(tokens))
        return self.words.attend(self.norm(x))


def attention(sizes: Sizes) -> Step:
    shape = sizes.batch, sizes.position
    return module_step(
        lambda rngs: Decoder(sizes, rngs),
        lambda model, batch: cross_entropy(model(batch["tokens"]), batch["labels"]),
        {"tokens": Ids(sizes.vocab, shape), "labels": Ids(sizes.vocab, shape)},
        {
            "*.words.embedding": "vocab embed",
            "*.places.embedding": "position embed",
            "*.query.kernel": "embed heads head_size",
            "*.key.kernel": "embed heads head_size",
            "*.value.kernel": "embed heads head_size",
            "*.query.bias": "heads head_size",
            "*.key.bias": "heads head_size",
            "*.value.bias": "heads head_size",
            "*.query_ln.*": "head_size",
            "*.key_ln.*": "head_size",
            "*.out.kernel": "heads head_size embed",
            "*.out.bias": "embed",
            "*.norm*.scale": "embed",
            "*.norm*.bias": "embed",
            "*.up.kernel": "embed mlp",
            "*.up.bias": "mlp",
            "*.gate.kernel": "embed mlp",
            "*.gate.bias": "mlp",
            "*.down.kernel": "mlp embed",
            "*.down.bias": "embed",
            "batch.*": "batch position",
        },
    )


class ConvNet(nnx.Module):
    """Plain, depthwise and strided convolutions between batch norms; a mean over the image."""

    def __init__(self, sizes: Sizes, rngs: nnx.Rngs):
        filters = sizes.filters
        self.stem = nnx.Conv(sizes.color, filters, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(filters, rngs=rngs)
        self.depthwise = nnx.Conv(filters, filters, (3, 3), feature_group_count=filters, rngs=rngs)
        self.pointwise = nnx.Conv(filters, sizes.wide, (1, 1), strides=(2, 2), rngs=rngs)
        self.last = nnx.BatchNorm(sizes.wide, rngs=rngs)
        self.head = nnx.Linear(sizes.wide, sizes.classes, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.relu(self.norm(self.stem(x)))
        x = nnx.relu(self.last(self.pointwise(self.depthwise(x))))
        return self.head(x.mean(axis=(1, 2)))


def convolutions(sizes: Sizes) -> Step:
    return module_step(
        lambda rngs: ConvNet(sizes, rngs),
        lambda model, batch: cross_entropy(model(batch["image"]), batch["labels"]),
        {
            "image": Floats((sizes.batch, sizes.height, sizes.width, sizes.color)),
            "labels": Ids(sizes.classes, (sizes.batch,)),
        },
        {
            "*.stem.kernel": "kernel_height kernel_width color filters",
            "*.stem.bias": "filters",
            "*.norm.*": "filters",
            "*.depthwise.kernel": "kernel_height kernel_width _ filters",
            "*.depthwise.bias": "filters",
            "*.pointwise.kernel": "kernel_height kernel_width filters wide",
            "*.pointwise.bias": "wide",
            "*.last.*": "wide",
            "*.head.kernel": "wide classes",
            "*.head.bias": "classes",
            "batch.image": "batch height width color",
            "batch.labels": "batch",
        },
    )


class MixerBlock(nnx.Module):
    """An MLP over the places, then one over the channels."""

    def __init__(self, sizes: Sizes, places: int, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(sizes.embed, rngs=rngs)
        self.across_up = nnx.Linear(places, sizes.hidden, rngs=rngs)
        self.across_down = nnx.Linear(sizes.hidden, places, rngs=rngs)
        self.norm2 = nnx.LayerNorm(sizes.embed, rngs=rngs)
        self.up = nnx.Linear(sizes.embed, sizes.mlp, rngs=rngs)
        self.down = nnx.Linear(sizes.mlp, sizes.embed, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        y = jnp.swapaxes(self.norm1(x), 1, 2)
        x = x + jnp.swapaxes(self.across_down(nnx.gelu(self.across_up(y))), 1, 2)
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class Mixer(nnx.Module):
    def __init__(self, sizes: Sizes, rngs: nnx.Rngs):
        patch = sizes.patch, sizes.patch
        places = (sizes.height // sizes.patch) * (sizes.width // sizes.patch)
        self.patches = nnx.Conv(sizes.color, sizes.embed, patch, strides=patch, rngs=rngs)
        self.block = MixerBlock(sizes, places, rngs)
        self.norm = nnx.GroupNorm(sizes.embed, num_groups=4, rngs=rngs)
        self.head = nnx.Linear(sizes.embed, sizes.classes, rngs=rngs)

    def __call__(self, image: Any) -> Any:
        x = self.patches(image)
        x = self.block(x.reshape(x.shape[0], -1, x.shape[-1]))
        return self.head(self.norm(x).mean(axis=1))


def mixer(sizes: Sizes) -> Step:
    return module_step(
        lambda rngs: Mixer(sizes, rngs),
        lambda model, batch: cross_entropy(model(batch["image"]), batch["labels"]),
        {
            "image": Floats((sizes.batch, sizes.height, sizes.width, sizes.color)),
            "labels": Ids(sizes.classes, (sizes.batch,)),
        },
        {
            "*.patches.kernel": "patch_height patch_width color embed",
            "*.patches.bias": "embed",
            "*.norm*.scale": "embed",
            "*.norm*.bias": "embed",
            "*.across_up.kernel": "place hidden",
            "*.across_up.bias": "hidden",
            "*.across_down.kernel": "hidden place",
            "*.across_down.bias": "place",
            "*.up.kernel": "embed mlp",
            "*.up.bias": "mlp",
            "*.down.kernel": "mlp embed",
            "*.down.bias": "embed",
            "*.head.kernel": "embed classes",
            "*.head.bias": "classes",
            "batch.image": "batch height width color",
            "batch.labels": "batch",
        },
    )


class Recurrent(nnx.Module):
    def __init__(self, sizes: Sizes, rngs: nnx.Rngs):
        cell = nnx.GRUCell(sizes.features, sizes.hidden, rngs=rngs)
        self.rnn = nnx.RNN(cell, rngs=rngs)
        self.head = nnx.Linear(sizes.hidden, sizes.classes, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.head(self.rnn(x))


def gru(sizes: Sizes) -> Step:
    return module_step(
        lambda rngs: Recurrent(sizes, rngs),
        lambda model, batch: cross_entropy(model(batch["x"]), batch["labels"]),
        {
            "x": Floats((sizes.batch, sizes.position, sizes.features)),
            "labels": Ids(sizes.classes, (sizes.batch, sizes.position)),
        },
        {
            "*.dense_i.kernel": "features gates",
            "*.dense_i.bias": "gates",
            "*.dense_h.kernel": "hidden gates",
            "*.head.kernel": "hidden classes",
            "*.head.bias": "classes",
            "batch.x": "batch position features",
            "batch.labels": "batch position",
        },
    )


CASES = {
    "nnx attention": Case(attention),
    "nnx convolutions": Case(convolutions),
    "nnx mixer": Case(mixer),
    "nnx GRU": Case(gru, small=True),
}
