"""`MLP`: linear layers with activations between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax

from haliax.array import NamedArray
from haliax.axis import Axis, AxisSpec
from haliax.jax_utils import maybe_rng_split
from haliax.nn.activations import relu
from haliax.nn.linear import Linear


class MLP(eqx.Module):
    """Linear layers, each followed by the activation but the last."""

    layers: Sequence[Linear]
    activation: Callable[..., Any] = eqx.field(static=True)

    @staticmethod
    def init(
        Input: AxisSpec,
        Output: AxisSpec,
        width: int | Axis,
        depth: int,
        activation: Callable[..., Any] = relu,
        *,
        key: jax.Array,
        use_bias: bool = True,
        use_final_bias: bool | None = None,
        out_first: bool = False,
        init_scale: float = 1.0,
    ) -> MLP:
        """A network of `depth` linear layers.

        Args:
            Input: the input axes.
            Output: the output axes.
            width: of the hidden layers: a size, for axes called `__mlp__`, or an axis.
            depth: the number of linear layers, at least 1.
            activation: applied after each layer but the last.
            key: a random key.
            use_bias: whether the layers have biases.
            use_final_bias: whether the last one has; by default like the others.
            out_first: whether weights have their output axes first.
            init_scale: a factor on the initial weights.
        """
        hidden = width if isinstance(width, Axis) else Axis("__mlp__", width)
        widths: list[AxisSpec] = [Input]
        for layer in range(depth - 1):
            # One array cannot have an axis twice, so hidden layers take turns.
            widths.append(hidden if layer % 2 == 0 else hidden.alias(hidden.name + "2"))
        widths.append(Output)
        biases = [use_bias] * (depth - 1) + [use_bias if use_final_bias is None else use_final_bias]
        layers = tuple(
            Linear.init(In, Out, key=k, use_bias=bias, out_first=out_first, init_scale=init_scale)
            for In, Out, k, bias in zip(widths[:-1], widths[1:], maybe_rng_split(key, depth), biases, strict=True)
        )
        return MLP(layers, activation)

    @property
    def In(self) -> AxisSpec:
        """The input axes."""
        return self.layers[0].In

    @property
    def Out(self) -> AxisSpec:
        """The output axes."""
        return self.layers[-1].Out

    def __call__(self, x: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        """The network's output: the axes of `x` without `In`, then `Out`."""
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)
