"""Steps of Haiku modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from corpus.case import Case, Floats, Ids, Names, Sizes, Step, cross_entropy, training, training_with_extra


def function_step(forward: Callable[[dict[str, Any]], jax.Array], batch: Any, names: Names) -> Step:
    """The step of a function of a batch that makes Haiku modules and returns the loss."""
    transformed = hk.without_apply_rng(hk.transform(forward))
    return training(transformed.init, transformed.apply, batch, names)


def attention(sizes: Sizes) -> Step:
    def block(x: Any, mask: Any) -> Any:
        y = hk.LayerNorm(-1, True, True)(x)
        initial = hk.initializers.VarianceScaling(0.5)
        attend = hk.MultiHeadAttention(
            sizes.heads, sizes.head_size, model_size=sizes.embed, w_init=initial, name="attention"
        )
        x = x + attend(y, y, y, mask)
        y = hk.LayerNorm(-1, True, True)(x)
        return x + hk.Linear(sizes.embed, name="down")(jax.nn.gelu(hk.Linear(sizes.mlp, name="up")(y)))

    def forward(batch: dict[str, Any]) -> jax.Array:
        tokens = batch["tokens"]
        places = hk.get_parameter("places", (sizes.position, sizes.embed), init=hk.initializers.RandomNormal(0.1))
        x = hk.Embed(sizes.vocab, sizes.embed, name="words")(tokens) + places
        causal = jnp.tril(jnp.ones((1, 1, sizes.position, sizes.position)))
        mask = causal * batch["real"][:, None, None, :]
        for _ in range(2):
            x = block(x, mask)
        logits = hk.Linear(sizes.vocab, name="head")(hk.LayerNorm(-1, True, True, name="last")(x))
        each = -jnp.sum(jax.nn.one_hot(batch["labels"], sizes.vocab) * jax.nn.log_softmax(logits), axis=-1)
        return jnp.sum(each * batch["real"]) / jnp.sum(batch["real"])

    return function_step(
        forward,
        {
            "tokens": Ids(sizes.vocab, (sizes.batch, sizes.position)),
            "real": Floats((sizes.batch, sizes.position)),
            "labels": Ids(sizes.vocab, (sizes.batch, sizes.position)),
        },
        {
            "*words.embeddings": "vocab embed",
            "*.places": "position embed",
            "*layer_norm*.scale": "embed",
            "*layer_norm*.offset": "embed",
            "*last.scale": "embed",
            "*last.offset": "embed",
            "*/query.w": "embed inner",
            "*/key.w": "embed inner",
            "*/value.w": "embed inner",
            "*/query.b": "inner",
            "*/key.b": "inner",
            "*/value.b": "inner",
            "*/linear.w": "inner embed",
            "*/linear.b": "embed",
            "*up*.w": "embed mlp",
            "*up*.b": "mlp",
            "*down*.w": "mlp embed",
            "*down*.b": "embed",
            "*head.w": "embed vocab",
            "*head.b": "vocab",
            "batch.*": "batch position",
        },
    )


def lstm(sizes: Sizes) -> Step:
    """Time first, as `hk.dynamic_unroll` takes it."""

    def forward(batch: dict[str, Any]) -> jax.Array:
        core = hk.LSTM(sizes.hidden, name="lstm")
        states, _ = hk.dynamic_unroll(core, batch["x"], core.initial_state(sizes.batch))
        logits = hk.BatchApply(hk.Linear(sizes.classes, name="head"))(states)
        return cross_entropy(logits, batch["labels"])

    return function_step(
        forward,
        {
            "x": Floats((sizes.position, sizes.batch, sizes.features)),
            "labels": Ids(sizes.classes, (sizes.position, sizes.batch)),
        },
        {
            "*/linear.w": "inputs gates",
            "*/linear.b": "gates",
            "*head.w": "hidden classes",
            "*head.b": "classes",
            "batch.x": "position batch features",
            "batch.labels": "position batch",
        },
    )


def convolutions(sizes: Sizes) -> Step:
    def forward(batch: dict[str, Any]) -> jax.Array:
        x = hk.Conv2D(sizes.filters, 3, name="stem")(batch["image"])
        x = jax.nn.relu(hk.BatchNorm(True, True, 0.9, name="norm")(x, is_training=True))
        x = hk.DepthwiseConv2D(1, 3, name="depthwise")(x)
        x = hk.avg_pool(x, (2, 2, 1), (2, 2, 1), "SAME")
        x = hk.Conv2D(sizes.wide, 1, stride=2, name="pointwise")(x)
        logits = hk.Linear(sizes.classes, name="head")(jax.nn.relu(x).mean(axis=(1, 2)))
        return cross_entropy(logits, batch["labels"])

    transformed = hk.without_apply_rng(hk.transform_with_state(forward))
    return training_with_extra(
        transformed.init,
        transformed.apply,
        {
            "image": Floats((sizes.batch, sizes.height, sizes.width, sizes.color)),
            "labels": Ids(sizes.classes, (sizes.batch,)),
        },
        {
            "*stem.w": "kernel_height kernel_width color filters",
            "*stem.b": "filters",
            "*norm.scale": "... filters",
            "*norm.offset": "... filters",
            "*norm/*.hidden": "... filters",
            "*norm/*.average": "... filters",
            "*depthwise.w": "kernel_height kernel_width _ filters",
            "*depthwise.b": "filters",
            "*pointwise.w": "kernel_height kernel_width filters wide",
            "*pointwise.b": "wide",
            "*head.w": "wide classes",
            "*head.b": "classes",
            "batch.image": "batch height width color",
            "batch.labels": "batch",
        },
    )


CASES = {
    "haiku attention": Case(attention),
    "haiku LSTM": Case(lstm, small=True),
    "haiku convolutions": Case(convolutions),
}
