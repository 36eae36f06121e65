"""`MLP`: linear layers with activations between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax

from haliax.axis import Axis, AxisSpec, axes_of
from haliax.core.array import NamedArray
from haliax.jax_utils import maybe_rng_split
from haliax.nn._inputs import require
from haliax.nn.activations import relu
from haliax.nn.linear import Linear
from haliax.ops.contract import DotGeneral

DEFAULT_WIDTH_NAME = "mlp"


class MLP(eqx.Module):
    """Linear layers, each followed by the activation but the last.

    >>> Input, Classes = hax.make_axes(input=8, classes=3)
    >>> network = hax.nn.MLP.init(Input, Classes, width=16, depth=2, key=jax.random.key(0))
    >>> network(hax.ones({"batch": 4, "input": 8})).shape
    {'batch': 4, 'classes': 3}
    """

    activation: Callable[..., Any] = eqx.field(static=True)
    """Applied after each layer but the last."""
    layers: Sequence[Linear]
    """The linear layers, in order."""

    @staticmethod
    def init(
        Input: AxisSpec,
        Output: AxisSpec,
        width: int | Axis,
        depth: int,
        activation: Callable[..., Any] = relu,
        *,
        key: jax.Array,
        out_first: bool = True,
        use_bias: bool = True,
        use_final_bias: bool = True,
        dot_general: DotGeneral | None = None,
        init_scale: float = 1.0,
    ) -> MLP:
        """A network with `depth` hidden layers, hence `depth + 1` linear ones.

        One array cannot have an axis twice, so the hidden axes take turns: `mlp`, `mlp2`, `mlp`, ...

        Args:
            Input: the input axes.
            Output: the output axes.
            width: of the hidden layers: a size, for axes called `mlp` and `mlp2`, or an axis.
            depth: the number of hidden layers; with 0 the network is one linear layer.
            activation: applied after each layer but the last.
            key: a random key.
            out_first: whether weights have their output axes first.
            use_bias: whether the layers before the last have biases.
            use_final_bias: whether the last one has.
            dot_general: used in place of `jax.lax.dot_general`.
            init_scale: a factor on the initial weights.

        Raises:
            AxisError: if a hidden axis has the name of an input or output axis beside it.
        """
        hidden = width if isinstance(width, Axis) else Axis(DEFAULT_WIDTH_NAME, width)
        turns = (hidden, hidden.alias(f"{hidden.name}2"))
        widths: list[AxisSpec] = [Input, *(turns[layer % 2] for layer in range(depth)), Output]
        biases = [use_bias] * depth + [use_final_bias]
        keys = maybe_rng_split(key, depth + 1)
        options: dict[str, Any] = {"out_first": out_first, "dot_general": dot_general, "init_scale": init_scale}
        layers = tuple(
            Linear.init(In, Out, key=k, use_bias=bias, **options)
            for In, Out, k, bias in zip(widths[:-1], widths[1:], keys, biases, strict=True)
        )
        return MLP(activation, layers)

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
        require("MLP", "x", x, axes_of(self.In), In=self.In, Out=self.Out)
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)
