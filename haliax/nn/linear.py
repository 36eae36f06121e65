"""`Linear`: a product with a weight over the input axes, and a bias."""

from __future__ import annotations

import math

import equinox as eqx
import jax

from haliax import errors, random
from haliax.array import NamedArray
from haliax.axis import AxisSpec, axes_of, names_of
from haliax.contract import DotGeneral, dot
from haliax.create import zeros
from haliax.layout import auto_sharded


class Linear(eqx.Module):
    """`x · weight + bias`, from the axes `In` to the axes `Out`, either of which may be several or none."""

    weight: NamedArray
    bias: NamedArray | None
    In: AxisSpec = eqx.field(static=True)
    Out: AxisSpec = eqx.field(static=True)
    dot_general: DotGeneral | None = eqx.field(static=True, default=None)

    @staticmethod
    def init(
        In: AxisSpec,
        Out: AxisSpec,
        *,
        key: jax.Array,
        use_bias: bool = True,
        out_first: bool = False,
        dot_general: DotGeneral | None = None,
        init_scale: float = 1.0,
    ) -> Linear:
        """A layer with truncated normal weights of standard deviation `init_scale / sqrt(size of In)`, and bias 0.

        Args:
            In: the input axes.
            Out: the output axes.
            key: a random key.
            use_bias: whether there is a bias.
            out_first: whether the weight has its output axes first.
            dot_general: used in place of `jax.lax.dot_general`.
            init_scale: a factor on the initial weights.

        Raises:
            AxisError: if an axis is in both `In` and `Out`.
        """
        ins, outs = axes_of(In), axes_of(Out)
        for name in names_of(ins):
            if name in names_of(outs):
                raise errors.same_axis_in_and_out("Linear", name)
        axes = outs + ins if out_first else ins + outs
        scale = init_scale / math.sqrt(max(1, math.prod(axis.size for axis in ins)))
        weight = random.truncated_normal(key, axes, -3.0, 3.0) * scale
        return Linear(weight, zeros(outs) if use_bias else None, In, Out, dot_general)

    def __call__(self, inputs: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        """The product over `In`: the axes of `inputs` without `In`, then `Out`.

        Raises:
            AxisError: if `inputs` lacks an axis of `In`.
        """
        output = dot(inputs, self.weight, axis=self.In, dot_general=self.dot_general)
        if self.bias is not None:
            output = output + self.bias
        return auto_sharded(output)

    @property
    def out_first(self) -> bool:
        """Whether the weight has its output axes first."""
        outs = axes_of(self.Out)
        return self.weight.axes[-len(outs) :] != outs if outs else True
