"""Axis mistakes planted into the steps of the corpus: one function or module of a step is replaced by a wrong one.

Sizes are as equal as the architecture allows, so that JAX runs nearly every one of them; where equal sizes would make
a wrong reshape a right one, they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import optax
from flax import nnx as flax_nnx

from corpus import diffrax_steps, equinox_steps, haiku_steps, linen, nnx, numpyro_steps, optimizers, plain
from corpus.case import DISTINCT, EQUAL, Sizes, Step


class Mutation(NamedTuple):
    """A step of the corpus in which `owner.attribute` is `wrong` while it is traced."""

    build: Callable[..., Step]
    owner: Any
    attribute: str
    wrong: Any
    sizes: Sizes = EQUAL

    @contextmanager
    def planted(self) -> Iterator[Step]:
        """The step with the mistake in it, which is there for as long as the context."""
        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(self.owner, self.attribute, self.wrong))
            yield self.build(self.sizes)


def replaced(
    name: str, build: Callable[..., Step], owner: Any, attribute: str, sizes: Sizes = EQUAL
) -> Callable[[Any], Any]:
    """A decorator: what replaces `owner.attribute` in a step."""

    def added(wrong: Any) -> Any:
        MUTATIONS[name] = Mutation(build, owner, attribute, wrong, sizes)
        return wrong

    return added


MUTATIONS: dict[str, Mutation] = {}
_softmax = jax.nn.softmax


# --- attention --------------------------------------------------------------------------------------------------------


@replaced("linen softmax over the queries", linen.attention, jax.nn, "softmax")
def linen_softmax_over_the_queries(x: Any, axis: int = -1) -> Any:
    return _softmax(x, axis=-2)


@replaced("haiku softmax over the queries", haiku_steps.attention, jax.nn, "softmax")
def haiku_softmax_over_the_queries(x: Any, axis: int = -1) -> Any:
    return _softmax(x, axis=-2)


@replaced("nnx softmax over the heads", nnx.attention, jax.nn, "softmax")
def nnx_softmax_over_the_heads(x: Any, axis: int = -1) -> Any:
    return _softmax(x, axis=-3)


@replaced("linen residual of transposed values", linen.attention, linen, "Mlp")
class LinenResidualOfTransposedValues(linen.Mlp):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.gelu(nn.Dense(self.sizes.mlp, name="up")(x))
        return nn.Dense(self.sizes.embed, name="down")(x).swapaxes(1, 2)


class TransposedDense(nn.Dense):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        shape = self.features, x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        return x @ kernel.T + self.param("bias", self.bias_init, (self.features,), self.param_dtype)


@replaced("linen dense kernel transposed", linen.attention, linen.nn, "Dense")
class LinenDenseKernelTransposed(TransposedDense):
    pass


@replaced("linen positions added along the batch", linen.attention, linen, "Decoder")
class LinenPositionsAddedAlongTheBatch(linen.Decoder):
    @nn.compact
    def __call__(self, tokens: Any) -> Any:
        sizes = self.sizes
        words = nn.Embed(sizes.vocab, sizes.embed, name="words")
        places = self.param("places", nn.initializers.normal(), (sizes.position, sizes.embed))
        x = words(tokens) + places[:, None]
        return words.attend(linen.Block(sizes)(x, nn.make_causal_mask(tokens)))


_attention_mask = nn.make_attention_mask


@replaced("linen attention mask transposed", linen.encoder_decoder, linen.nn, "make_attention_mask")
def linen_attention_mask_transposed(query: Any, key: Any, *rest: Any, **more: Any) -> Any:
    return _attention_mask(key, query, *rest, **more)


@replaced("linen attention of the memory to the sequence", linen.encoder_decoder, linen, "Attends")
class LinenAttentionOfTheMemoryToTheSequence(linen.Attends):
    @nn.compact
    def __call__(self, x: Any, y: Any, mask: Any) -> Any:
        sizes = self.sizes
        return nn.MultiHeadDotProductAttention(
            num_heads=sizes.heads, qkv_features=sizes.heads * sizes.head_size, out_features=sizes.embed
        )(y, x, mask=None)


@replaced("linen scanned block that transposes", linen.scanned_layers, linen, "ScannedBlock")
class LinenScannedBlockThatTransposes(linen.ScannedBlock):
    @nn.compact
    def __call__(self, x: Any, mask: Any) -> Any:
        return linen.Block(self.sizes, name="block")(x, mask).swapaxes(1, 2), None


@replaced("nnx tied embedding not transposed", nnx.attention, flax_nnx.Embed, "attend")
def nnx_tied_embedding_not_transposed(self: Any, query: Any) -> Any:
    return query @ self.embedding[...]


@replaced("nnx layer norm scaled along positions", nnx.attention, nnx.nnx, "LayerNorm")
class NnxLayerNormScaledAlongPositions(flax_nnx.LayerNorm):
    def __init__(self, features: int, **more: Any):
        super().__init__(features, feature_axes=-2, reduction_axes=-2, **more)


@replaced("plain heads split off without a transpose", plain.grouped_attention, plain, "parted", DISTINCT)
def plain_heads_split_off_without_a_transpose(x: jax.Array, heads: int, size: int) -> jax.Array:
    return x.reshape(x.shape[0], heads, x.shape[1], size).swapaxes(1, 2)


@replaced("plain rotary angles repeated", plain.grouped_attention, plain, "turned")
def plain_rotary_angles_repeated(x: jax.Array, angles: jax.Array) -> jax.Array:
    cos, sin = (jnp.repeat(f(angles), 2, axis=-1)[:, None] for f in (jnp.cos, jnp.sin))
    first, second = jnp.split(x, 2, axis=-1)
    return x * cos + jnp.concatenate([-second, first], axis=-1) * sin


@replaced("haiku heads split on the wrong side", haiku_steps.attention, hk.MultiHeadAttention, "_linear_projection")
def haiku_heads_split_on_the_wrong_side(self: Any, x: Any, head_size: int, name: str | None = None) -> Any:
    y = hk.Linear(self.num_heads * head_size, w_init=self.w_init, name=name)(x)
    if name == "query":
        return y.reshape(*x.shape[:-1], head_size, self.num_heads).swapaxes(-1, -2)
    return y.reshape(*x.shape[:-1], self.num_heads, head_size)


@replaced("haiku linear transposed", haiku_steps.attention, hk, "Linear")
class HaikuLinearTransposed(hk.Linear):
    def __call__(self, x: Any, *, precision: Any = None) -> Any:
        size = self.output_size
        w = hk.get_parameter("w", (size, x.shape[-1]), init=hk.initializers.TruncatedNormal(0.1))
        return x @ w.T + hk.get_parameter("b", (size,), init=jnp.zeros)


# --- convolutions, norms, mixers --------------------------------------------------------------------------------------


_BatchNorm = nn.BatchNorm


@replaced("linen batch norm of the height", linen.convolutions, linen.nn, "BatchNorm")
def linen_batch_norm_of_the_height(**more: Any) -> Any:
    return _BatchNorm(axis=1, name="BatchNorm_0", **more)


@replaced("linen mean over the channels", linen.convolutions, linen, "ConvNet")
class LinenMeanOverTheChannels(linen.ConvNet):
    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        x = nn.Conv(self.sizes.filters, (3, 3), name="stem")(x)
        x = linen.Residual(self.sizes.filters, name="block")(x, train)
        return nn.Dense(self.sizes.classes, name="head")(x.mean(axis=(2, 3)))


@replaced("linen shortcut with height and channels swapped", linen.convolutions, linen, "Residual")
class LinenShortcutWithHeightAndChannelsSwapped(linen.Residual):
    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        y = nn.Conv(self.filters, (3, 3), use_bias=False)(x)
        y = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(y))
        y = nn.Conv(self.filters, (3, 3), use_bias=False, name="second")(y)
        return nn.relu(nn.GroupNorm(num_groups=4)(y) + x.swapaxes(1, 3))


@replaced("nnx mixer that does not swap back", nnx.mixer, nnx, "MixerBlock")
class NnxMixerThatDoesNotSwapBack(nnx.MixerBlock):
    def __call__(self, x: Any) -> Any:
        y = jnp.swapaxes(self.norm1(x), 1, 2)
        x = y + self.across_down(flax_nnx.gelu(self.across_up(y)))
        return x + self.down(flax_nnx.gelu(self.up(self.norm2(x))))


@replaced("nnx patches in front of channels by a reshape", nnx.mixer, nnx, "Mixer")
class NnxPatchesInFrontOfChannelsByAReshape(nnx.Mixer):
    def __call__(self, image: Any) -> Any:
        x = self.patches(image)
        x = x.reshape(x.shape[0], x.shape[-1], -1).swapaxes(1, 2)
        return self.head(self.norm(self.block(x)).mean(axis=1))


@replaced("equinox mixer across the channels", equinox_steps.mixer, equinox_steps, "Mixer")
class EquinoxMixerAcrossTheChannels(equinox_steps.Mixer):
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + jax.vmap(self.across)(self.norm1(x))
        x = x + jax.vmap(self.along)(self.norm2(x))
        return self.head(x.mean(axis=0))


@replaced("equinox mean over the channels", equinox_steps.convolutions, equinox_steps, "ConvNet")
class EquinoxMeanOverTheChannels(equinox_steps.ConvNet):
    def __call__(self, image: jax.Array) -> jax.Array:
        return self.head(jax.nn.relu(self.norm(self.stem(image))).mean(axis=(0, 1)))


_Conv2D = hk.Conv2D


@replaced("haiku convolution of an image with channels first", haiku_steps.convolutions, hk, "Conv2D")
def haiku_convolution_of_channels_first(*arguments: Any, **more: Any) -> Any:
    convolve = _Conv2D(*arguments, **more)
    return (lambda x: convolve(jnp.moveaxis(x, -1, 1))) if more["name"] == "stem" else convolve


# --- recurrent cells, losses, optimizers, others ----------------------------------------------------------------------


@replaced("equinox gates in two orders", equinox_steps.gru, eqx.nn.GRUCell, "__call__")
def equinox_gates_in_two_orders(self: Any, x: jax.Array, hidden: jax.Array, *, key: Any = None) -> jax.Array:
    reset, update, new = jnp.split(self.weight_ih @ x + self.bias, 3)
    update_h, reset_h, new_h = jnp.split(self.weight_hh @ hidden, 3)
    reset, update = jax.nn.sigmoid(reset + reset_h), jax.nn.sigmoid(update + update_h)
    return jnp.tanh(new + reset * (new_h + self.bias_n)) * (1 - update) + update * hidden


@replaced("linen labels transposed", linen.lstm, linen, "cross_entropy")
def linen_labels_transposed(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels.T).mean()


@replaced("linen log softmax over the positions", linen.attention, linen, "cross_entropy")
def linen_log_softmax_over_the_positions(logits: jax.Array, labels: jax.Array) -> jax.Array:
    logs = jax.nn.log_softmax(logits, axis=1)
    return -jnp.take_along_axis(logs, labels[..., None], axis=-1).mean()


_adopt = optax.contrib.adopt


@replaced("optax updates transposed", optimizers.CASES["optax adopt"].build, optax.contrib, "adopt")
def optax_updates_transposed(learning_rate: float) -> Any:
    turned = optax.stateless(lambda updates, params: jax.tree.map(jnp.transpose, updates))
    return optax.chain(turned, _adopt(learning_rate))


@replaced("numpyro weights looked up by feature", numpyro_steps.regression, numpyro_steps, "logits_of")
def numpyro_weights_looked_up_by_feature(weights: jax.Array, group: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum(weights.T[group] * x, axis=-1)


@replaced("diffrax starts from the first example", diffrax_steps.neural_ode, diffrax_steps, "first_of")
def diffrax_starts_from_the_first_example(path: jax.Array) -> jax.Array:
    return path[0]
