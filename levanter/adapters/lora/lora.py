"""LoRA in the tree of a model: linear layers that have two thin matrices beside their weight.

    layer(x)  →  layer(x) + scale · (x · lora_a) · lora_b        lora_a [In, lora_rank], lora_b [lora_rank, Out]

An adapted layer is a linear layer still, with the weight at its old place, so the names of a model's own parameters do
not change. Axes that a weight has besides `In` and `Out` (those of stacked layers, of experts) the two matrices have as
well. `lora_b` starts at 0, so that the model starts as what it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray
from haliax.axis import axes_of
from levanter.adapters import errors
from levanter.paths import matches, path_name
from levanter.runtime import rng

if TYPE_CHECKING:
    from levanter.adapters.lora.config import LoraConfig

RANK = "lora_rank"


class LoraLinear(hnn.Linear):
    """A linear layer with an adapter."""

    lora_a: NamedArray | None = None
    """The axes besides In and Out, In, lora_rank."""
    lora_b: NamedArray | None = None
    """The axes besides In and Out, lora_rank, Out."""
    scale: float = eqx.field(static=True, default=1.0)

    def __call__(self, inputs: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        """See `hnn.Linear`."""
        return super().__call__(inputs, key=key) + _product(inputs, self)


class LoraMoELinear(hnn.MoELinear):
    """A linear layer of experts, each of which has an adapter."""

    lora_a: NamedArray | None = None
    """Experts, In, lora_rank."""
    lora_b: NamedArray | None = None
    """Experts, lora_rank, Out."""
    scale: float = eqx.field(static=True, default=1.0)

    def __call__(self, inputs: NamedArray, group_sizes: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        """See `hnn.MoELinear`."""
        assert self.lora_a is not None and self.lora_b is not None
        Rank = self.lora_a.resolve_axis(RANK)
        thin = hnn.MoELinear(self.lora_a, None, self.Experts, self.In, Rank)(inputs, group_sizes)
        change = hnn.MoELinear(self.lora_b, None, self.Experts, Rank, self.Out)(thin, group_sizes)
        return super().__call__(inputs, group_sizes, key=key) + self.scale * change

    def per_expert(self, inputs: NamedArray) -> NamedArray:
        """See `hnn.MoELinear`."""
        return super().per_expert(inputs) + _product(inputs, self)


Adapted = LoraLinear | LoraMoELinear


def adapted(config: LoraConfig, model: Any, key: jax.Array) -> Any:
    """The model with an adapter in every linear layer that a target means.

    Raises:
        UserError: a target means none.
    """
    layers = linear_layers(model)
    axes = {axis.name for layer in layers.values() for axis in (*axes_of(layer.In), *axes_of(layer.Out))}
    chosen: set[str] = set()
    for target in config.targets:
        found = {name for name, layer in layers.items() if _is_meant(target, name, layer)}
        if not found:
            raise errors.no_target(target, layers, axes)
        chosen |= found

    def replace(name: str, layer: Any) -> Any:
        return _with_adapter(layer, config, rng.named(key, name)) if name in chosen else layer

    return map_linear(replace, model)


def merged(model: Any) -> Any:
    """The model with the adapters' products in the weights, and plain layers."""

    def merge(name: str, layer: Any) -> Any:
        if not isinstance(layer, Adapted):
            return layer
        assert layer.lora_a is not None and layer.lora_b is not None
        change = hax.dot(layer.lora_a.astype(jnp.float32), layer.lora_b.astype(jnp.float32), axis=RANK) * layer.scale
        weight = (layer.weight.astype(jnp.float32) + change).rearrange(layer.weight.axes).astype(layer.weight.dtype)
        kind = hnn.Linear if isinstance(layer, LoraLinear) else hnn.MoELinear
        return _as(kind, layer, weight=weight)

    return map_linear(merge, model)


def dropped(model: Any, probability: float, key: jax.Array) -> Any:
    """The model with some inputs of its adapters dropped, and the others larger by as much.

    A layer is called without a key, so what is dropped is rows of `lora_a`: the same inputs for all tokens.
    """

    def drop(name: str, layer: Any) -> Any:
        if not isinstance(layer, Adapted) or probability == 0.0:
            return layer
        assert layer.lora_a is not None
        inputs = tuple(axis for axis in layer.lora_a.axes if axis.name != RANK)
        kept = hax.random.bernoulli(rng.named(key, name), inputs, 1.0 - probability)
        return _as(type(layer), layer, lora_a=hax.where(kept, layer.lora_a / (1.0 - probability), 0.0))

    return map_linear(drop, model)


def linear_layers(model: Any) -> dict[str, Any]:
    """The linear layers of a model by name, such as `blocks.attention.qkv`."""
    leaves = jax.tree_util.tree_leaves_with_path(model, is_leaf=_is_linear)
    return {path_name(path): leaf for path, leaf in leaves if _is_linear(leaf)}


def map_linear(function: Callable[[str, Any], Any], model: Any) -> Any:
    """The model with `function(name, layer)` in the place of every linear layer."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: function(path_name(path), leaf) if _is_linear(leaf) else leaf, model, is_leaf=_is_linear
    )


def _is_linear(part: Any) -> bool:
    return isinstance(part, hnn.Linear | hnn.MoELinear)


def _is_meant(target: str, name: str, layer: Any) -> bool:
    axes = {axis.name for axis in (*axes_of(layer.In), *axes_of(layer.Out))}
    return target in axes or matches(name, target)


def _with_adapter(layer: Any, config: LoraConfig, key: jax.Array) -> Adapted:
    In, Out = axes_of(layer.In), axes_of(layer.Out)
    mapped = {axis.name for axis in (*In, *Out)}
    stacked = tuple(axis for axis in layer.weight.axes if axis.name not in mapped)
    Rank = Axis(RANK, config.rank)
    # As `peft` starts them: the first like a linear layer of PyTorch, the second at 0.
    bound = 1.0 / math.sqrt(math.prod(axis.size for axis in In))
    a = hax.random.uniform(key, (*stacked, *In, Rank), dtype=layer.weight.dtype, minval=-bound, maxval=bound)
    b = hax.zeros((*stacked, Rank, *Out), layer.weight.dtype)
    kind = LoraLinear if isinstance(layer, hnn.Linear) else LoraMoELinear
    return _as(kind, layer, lora_a=a, lora_b=b, scale=config.scale)


def _product(inputs: NamedArray, layer: Adapted) -> NamedArray:
    assert layer.lora_a is not None and layer.lora_b is not None
    return hax.dot(hax.dot(inputs, layer.lora_a, axis=layer.In), layer.lora_b, axis=RANK) * layer.scale


def _as(kind: Any, layer: Any, **changes: Any) -> Any:
    """A layer of a kind, with the fields of another one that it has too, but for the changes."""
    names = [name for name, field in kind.__dataclass_fields__.items() if field.init]
    return kind(**{name: getattr(layer, name) for name in names if hasattr(layer, name)} | changes)
