"""Axis mistakes with clean twins in calls of the modules of Flax, Equinox, Haiku and Optax: what goes into a module in
the wrong order, and what is done with what comes out.

Each is a loss of (parameters, batch), built for `wrong` or for its twin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import nnx

B, T, E, H, D = 4, 6, 6, 2, 3
"""Positions and features are as many, so that sizes do not tell."""


class Built(NamedTuple):
    """A loss `function(params, batch)`, its arguments, and their names."""

    function: Callable[[Any, Any], Any]
    arguments: tuple[Any, Any]
    names: Mapping[str, str]


class LibraryPair(NamedTuple):
    """`build(True)` is wrong and `build(False)` is right; a finding mentions one of these names."""

    build: Callable[[bool], Built]
    mentions: tuple[str, ...]


PAIRS: dict[str, LibraryPair] = {}


def pair(mentions: str) -> Callable[[Callable[[bool], Built]], Callable[[bool], Built]]:
    def added(build: Callable[[bool], Built]) -> Callable[[bool], Built]:
        PAIRS[build.__name__.replace("_", " ")] = LibraryPair(build, tuple(mentions.split()))
        return build

    return added


def floats(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def whole(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def linen_built(apply: Callable[..., Any], module: Any, batch: dict[str, Any], names: Mapping[str, str]) -> Built:
    """The loss of a linen module: `apply(module, params, batch)`."""
    params = jax.eval_shape(lambda key: module.init(key, jnp.zeros((B, T, E)))["params"], jax.random.key(0))
    return Built(lambda params, batch: apply(module, params, batch), (params, batch), names)


class Attention(nn.Module):
    wrong: str = ""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        q, k, v = (nn.DenseGeneral((H, D), use_bias=False, name=name)(x) for name in "qkv")
        if self.wrong == "values":
            weights = nn.dot_product_attention_weights(q, k)
            mixed = jnp.einsum("bhqk,bqhd->bkhd", weights, v)
        elif self.wrong == "softmax":
            weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k), axis=2)
            mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
        else:
            mixed = nn.dot_product_attention(q, k, v)
        if self.wrong == "merge":
            mixed = jnp.swapaxes(mixed, 1, 2).reshape(x.shape[0], x.shape[1], H * D)
            return x + nn.Dense(E, use_bias=False, name="flat")(mixed)
        if self.wrong == "flat":
            return x + nn.Dense(E, use_bias=False, name="flat")(mixed.reshape(*x.shape[:2], H * D))
        return x + nn.DenseGeneral(E, axis=(-2, -1), use_bias=False, name="o")(mixed)


ATTENTION = {"params.q.kernel": "embed heads size", "params.k.kernel": "embed heads size"} | {
    "params.v.kernel": "embed heads size",
    "batch.x": "batch position embed",
}
OUT = {"params.o.kernel": "heads size embed"}
FLAT = {"params.flat.kernel": "inner embed"}


def attention(wrong: str, names: Mapping[str, str]) -> Built:
    def apply(module: Any, params: Any, batch: Any) -> Any:
        return jnp.square(module.apply({"params": params}, batch["x"])).mean()

    return linen_built(apply, Attention(wrong), {"x": floats(B, T, E)}, ATTENTION | names)


@pair("position")
def linen_values_of_the_query(wrong: bool) -> Built:
    return attention("values" if wrong else "", OUT)


@pair("position")
def linen_softmax_over_queries(wrong: bool) -> Built:
    return attention("softmax" if wrong else "", OUT)


@pair("heads position")
def linen_heads_merged_in_front(wrong: bool) -> Built:
    return attention("merge" if wrong else "flat", FLAT)


class Recurrent(nn.Module):
    time_major: bool

    @nn.compact
    def __call__(self, x: Any, start: Any = None) -> Any:
        return nn.RNN(nn.GRUCell(B), time_major=self.time_major)(x, initial_carry=start)


@pair("position batch")
def linen_recurrence_over_the_batch(wrong: bool) -> Built:
    def apply(module: Any, params: Any, batch: Any) -> Any:
        return jnp.square(module.apply({"params": params}, batch["x"], batch["start"])).mean()

    names = {"*.ir.kernel": "embed hidden", "batch.x": "batch position embed", "batch.start": "batch hidden"}
    batch = {"x": floats(T, T, E), "start": floats(T, B)}
    return linen_built(apply, Recurrent(wrong), batch, names)


class Normed(nn.Module):
    axis: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.LayerNorm(reduction_axes=self.axis, feature_axes=self.axis)(nn.Dense(E, name="in")(x))


@pair("position embed")
def linen_features_of_a_norm(wrong: bool) -> Built:
    def apply(module: Any, params: Any, batch: Any) -> Any:
        return jnp.square(module.apply({"params": params}, batch["x"]) - batch["x"]).mean()

    names = {"params.in.kernel": "embed embed_out", "*.scale": "embed_out", "batch.x": "batch position embed_out"}
    return linen_built(
        apply, Normed(1 if wrong else 2), {"x": floats(B, T, E)}, names | {"params.in.kernel": "_ embed_out"}
    )


@pair("position embed")
def nnx_linear_of_the_transpose(wrong: bool) -> Built:
    graph, state = nnx.split(nnx.eval_shape(lambda: nnx.Linear(E, E, use_bias=False, rngs=nnx.Rngs(0))))

    def loss(params: Any, batch: Any) -> Any:
        layer = nnx.merge(graph, params)
        x = jnp.swapaxes(batch["x"], 1, 2) if wrong else batch["x"]
        return jnp.square(layer(x)).mean()

    return Built(
        loss, (state, {"x": floats(B, T, E)}), {"params.kernel": "embed mlp", "batch.x": "batch position embed"}
    )


@pair("heads size")
def nnx_einsum_with_swapped_labels(wrong: bool) -> Built:
    def made() -> Any:
        rngs = nnx.Rngs(0)
        return {
            "into": nnx.LinearGeneral(E, (3, 3), use_bias=False, rngs=rngs),
            "out": nnx.Einsum("bthd,dhe->bte" if wrong else "bthd,hde->bte", (3, 3, E), rngs=rngs),
        }

    graph, state = nnx.split(nnx.eval_shape(lambda: nnx.Dict(made())))

    def loss(params: Any, batch: Any) -> Any:
        layers = nnx.merge(graph, params)
        return jnp.square(layers["out"](layers["into"](batch["x"]))).mean()

    names = {"*into.kernel": "embed heads size", "*out.kernel": "heads size embed", "batch.x": "batch position embed"}
    return Built(loss, (state, {"x": floats(B, T, E)}), names)


def equinox_built(make: Callable[[jax.Array], Any], loss: Callable[[Any, Any], Any], batch: Any, names: Any) -> Built:
    return Built(loss, (make(jax.random.key(0)), batch), names)


@pair("batch position")
def equinox_attention_over_the_batch(wrong: bool) -> Built:
    def loss(params: Any, batch: Any) -> Any:
        x = batch["x"]
        y = jax.vmap(lambda row: params(row, row, row), in_axes=1 if wrong else 0)(x)
        return jnp.square(x + y).mean()

    names = {"*.query_proj.weight": "inner embed", "*.output_proj.weight": "embed inner"}
    names |= {
        "*.key_proj.weight": "inner embed",
        "*.value_proj.weight": "inner embed",
        "batch.x": "batch position embed",
    }
    return equinox_built(
        lambda key: eqx.nn.MultiheadAttention(2, E, inference=True, key=key), loss, {"x": floats(T, T, E)}, names
    )


@pair("position embed")
def equinox_norm_of_the_other_axis(wrong: bool) -> Built:
    def loss(params: Any, batch: Any) -> Any:
        norm = jax.vmap(jax.vmap(params, in_axes=1 if wrong else 0, out_axes=1 if wrong else 0))
        return jnp.square(norm(batch["x"])).mean()

    names = {"params.weight": "embed", "params.bias": "embed", "batch.x": "batch position embed"}
    return equinox_built(lambda key: eqx.nn.LayerNorm(E), loss, {"x": floats(B, T, E)}, names)


@pair("batch position")
def equinox_cell_over_the_batch(wrong: bool) -> Built:
    def loss(params: Any, batch: Any) -> Any:
        def step(hidden: Any, x: Any) -> Any:
            return jax.vmap(params)(x, hidden), None

        x = batch["x"] if wrong else jnp.swapaxes(batch["x"], 0, 1)
        last, _ = jax.lax.scan(step, batch["start"], x)
        return jnp.square(last).mean()

    names = {"params.weight_ih": "gates embed", "params.weight_hh": "gates hidden"}
    names |= {"batch.x": "batch position embed", "batch.start": "batch hidden"}
    batch = {"x": floats(T, T, E), "start": floats(T, 5)}
    return equinox_built(lambda key: eqx.nn.GRUCell(E, 5, key=key), loss, batch, names)


@pair("height width")
def equinox_convolution_of_a_transposed_image(wrong: bool) -> Built:
    def loss(params: Any, batch: Any) -> Any:
        image = batch["image"].transpose((0, 1, 3, 2) if wrong else (0, 1, 2, 3))
        return jnp.square(jax.vmap(params)(image) + batch["places"]).mean()

    names = {"params.weight": "filters channels tall wide", "params.bias": "filters _ _"}
    names |= {"batch.image": "batch channels height width", "batch.places": "height width"}
    batch = {"image": floats(B, 3, 8, 8), "places": floats(8, 8)}
    return equinox_built(lambda key: eqx.nn.Conv2d(3, 5, 3, padding=1, key=key), loss, batch, names)


def haiku_built(function: Callable[[Any], Any], batch: dict[str, Any], names: Mapping[str, str]) -> Built:
    pure = hk.without_apply_rng(hk.transform(function))
    params = jax.eval_shape(pure.init, jax.random.key(0), batch)
    return Built(lambda params, batch: pure.apply(params, batch), (params, batch), names)


@pair("position memory")
def haiku_values_of_the_other_sequence(wrong: bool) -> Built:
    def loss(batch: Any) -> Any:
        x, memory = batch["x"], batch["memory"]
        attend = hk.MultiHeadAttention(2, 3, w_init=hk.initializers.VarianceScaling(), model_size=E)
        return jnp.square(attend(x, memory, x if wrong else memory)).mean()

    names = {"*query*w": "embed inner", "*key*w": "embed inner", "*value*w": "embed inner", "*linear*w": "inner embed"}
    names |= {"batch.x": "batch position embed", "batch.memory": "batch memory embed"}
    return haiku_built(loss, {"x": floats(B, T, E), "memory": floats(B, T, E)}, names)


@pair("batch position")
def haiku_unrolled_over_the_batch(wrong: bool) -> Built:
    def loss(batch: Any) -> Any:
        core = hk.LSTM(5)
        outputs, _ = hk.dynamic_unroll(core, batch["x"], core.initial_state(T), time_major=wrong)
        return jnp.square(outputs - batch["targets"] if not wrong else outputs[-1] - batch["targets"][:, -1]).mean()

    names = {"*.w": "inputs gates", "*.b": "gates"}
    names |= {"batch.x": "batch position embed", "batch.targets": "batch position hidden"}
    return haiku_built(loss, {"x": floats(T, T, E), "targets": floats(T, T, 5)}, names)


@pair("classes position")
def optax_labels_picked_over_the_positions(wrong: bool) -> Built:
    def loss(params: Any, batch: Any) -> Any:
        logits = batch["x"] @ params["w"]
        logits = jnp.swapaxes(logits, 1, 2) if wrong else logits
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]).mean()

    names = {"params.w": "embed classes", "batch.x": "batch position embed", "batch.labels": "batch position"}
    arguments = {"w": floats(E, T)}, {"x": floats(B, T, E), "labels": whole(B, T)}
    return Built(loss, arguments, names)
