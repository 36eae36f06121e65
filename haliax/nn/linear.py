"""`Linear`: a product with a weight over the input axes, and a bias."""

from __future__ import annotations

import math

import equinox as eqx
import jax

from haliax import errors, random
from haliax.array import NamedArray
from haliax.axis import Axis, AxisSpec, axes_of, names_of
from haliax.contract import DotGeneral, dot
from haliax.create import zeros
from haliax.layout import auto_sharded
from haliax.shape import flatten_axes, reordered, unflatten_axis
from haliax.state_dict import ModuleWithStateDictSerialization


class Linear(ModuleWithStateDictSerialization):
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

    def flatten_for_export(self) -> Linear:
        """The layer with one axis `__OUT__` and one axis `__IN__`, in this order, as in PyTorch.

        Axes beyond `In` and `Out`, such as those of stacked layers, stay in front.
        """
        ins, outs = axes_of(self.In), axes_of(self.Out)
        weight = _merged(_merged(self.weight, ins, "__IN__"), outs, "__OUT__")
        bias = None if self.bias is None else reordered(_merged(self.bias, outs, "__OUT__"), (..., "__OUT__"))
        weight = reordered(weight, (..., "__OUT__", "__IN__"))
        return Linear(weight, bias, weight.resolve_axis("__IN__"), weight.resolve_axis("__OUT__"), self.dot_general)

    def unflatten_from_export(self, template: Linear) -> Linear:
        """The layer with the axes of `template`, in its order."""
        ins, outs = axes_of(template.In), axes_of(template.Out)
        weight = unflatten_axis(unflatten_axis(self.weight, "__IN__", ins), "__OUT__", outs)
        weight = reordered(weight, template.weight.axes)
        bias = None
        if self.bias is not None and template.bias is not None:
            bias = reordered(unflatten_axis(self.bias, "__OUT__", outs), template.bias.axes)
        return Linear(weight, bias, template.In, template.Out, template.dot_general)


def _merged(array: NamedArray, axes: tuple[Axis, ...], name: str) -> NamedArray:
    return flatten_axes(array, axes, name) if axes else array.broadcast_axis(Axis(name, 1))
