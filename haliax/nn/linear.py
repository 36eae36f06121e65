"""Linear layers: a product with a weight over the input axes, and a bias.

`Linear` has one weight; `MoELinear` one for each expert, for tokens that are sorted by their expert.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from haliax import errors, random
from haliax.axis import Axis, AxisSpec, axes_of, names_of
from haliax.core.array import NamedArray, wrap
from haliax.core.explicit import on_any_mesh
from haliax.nn import mup
from haliax.nn._inputs import require
from haliax.nn.mup import AbstractLinearReparam, LinearStandardParam, ReparamEnabled
from haliax.ops.contract import DotGeneral, dot
from haliax.ops.create import zeros
from haliax.ops.dot_general import DefaultDotGeneralOp, as_operation
from haliax.ops.shape import flatten_axes, reordered, unflatten_axis
from haliax.partitioning.layout import auto_sharded
from haliax.state_dict import ModuleWithStateDictSerialization, StateDict

FLAT_IN, FLAT_OUT = "__IN__", "__OUT__"
"""What the merged axes of a layer are called in the shape that it has outside."""


class Linear(ModuleWithStateDictSerialization, ReparamEnabled):
    """`x · weight + bias`, from the axes `In` to the axes `Out`, either of which may be several or none.

    >>> Embed, Heads, HeadSize = hax.make_axes(embed=8, heads=2, head_size=4)
    >>> layer = hax.nn.Linear.init(Embed, (Heads, HeadSize), key=jax.random.key(0))
    >>> layer(hax.ones({"batch": 3, "embed": 8})).shape
    {'batch': 3, 'heads': 2, 'head_size': 4}
    """

    weight: NamedArray
    """Axes `Out`, then `In`; the other way round if made with `out_first=False`."""
    bias: NamedArray | None
    """Axes `Out`."""
    In: AxisSpec = eqx.field(static=True)
    """The input axes, which are summed over."""
    Out: AxisSpec = eqx.field(static=True)
    """The output axes."""
    dot_general: Any = eqx.field(default=None, converter=as_operation)
    _reparam_cls: type[AbstractLinearReparam] = eqx.field(static=True, default=LinearStandardParam)

    @staticmethod
    def init(
        In: AxisSpec,
        Out: AxisSpec,
        *,
        key: jax.Array,
        use_bias: bool = True,
        out_first: bool = True,
        dot_general: DotGeneral | None = None,
        init_scale: float = 1.0,
        reparam_cls: type[AbstractLinearReparam] = LinearStandardParam,
    ) -> Linear:
        """A layer with truncated normal weights, cut at three standard deviations, and bias 0.

        The standard deviation before the cut is `init_scale` times that of the parameterization, which is
        1/sqrt(size of `In`) unless said otherwise.

        Args:
            In: the input axes.
            Out: the output axes.
            key: a random key.
            use_bias: whether there is a bias.
            out_first: whether the weight has its output axes first, as in PyTorch.
            dot_general: used in place of `jax.lax.dot_general`; see `haliax.quantization`.
            init_scale: a factor on the initial weights.
            reparam_cls: the parameterization; see `haliax.nn.mup`.

        Raises:
            AxisError: if an axis is in both `In` and `Out`.
        """
        ins, outs = axes_of(In), axes_of(Out)
        for name in names_of(ins):
            if name in names_of(outs):
                raise errors.same_axis_in_and_out("Linear", name)
        axes = outs + ins if out_first else ins + outs
        weight = random.truncated_normal(key, axes, -3.0, 3.0) * (init_scale * reparam_cls.init_scale(In, Out))
        return Linear(weight, zeros(outs) if use_bias else None, In, Out, dot_general, reparam_cls)

    def __call__(self, inputs: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        """The product over `In`: the axes of `inputs` without `In`, then `Out`.

        Raises:
            AxisError: if `inputs` lacks an axis of `In`.
        """
        require("Linear", "inputs", inputs, axes_of(self.In), In=self.In, Out=self.Out)
        plain = isinstance(self.dot_general, DefaultDotGeneralOp)
        output = dot(inputs, self.weight, axis=self.In, dot_general=None if plain else self.dot_general)
        scale = self.reparam.active_scale
        if scale != 1:
            output = output * scale
        if self.bias is not None:
            output = output + self.bias
        return auto_sharded(output)

    @property
    def out_first(self) -> bool:
        """Whether the weight has its output axes first."""
        outs = axes_of(self.Out)
        return self.weight.axes[-len(outs) :] != outs if outs else True

    @property
    def reparam(self) -> AbstractLinearReparam:
        """The parameterization of the layer, with its factors."""
        return self._reparam_cls(self.In, self.Out)

    @staticmethod
    def input_reparam(use_mup: bool = True) -> type[AbstractLinearReparam]:
        """The parameterization of a layer whose input does not grow with the width."""
        return mup.InputLinearMup if use_mup else LinearStandardParam

    @staticmethod
    def hidden_reparam(use_mup: bool = True) -> type[AbstractLinearReparam]:
        """The parameterization of a layer whose input and output grow with the width."""
        return mup.HiddenLinearMup if use_mup else LinearStandardParam

    @staticmethod
    def output_reparam(use_mup: bool = True) -> type[AbstractLinearReparam]:
        """The parameterization of a layer whose output does not grow with the width."""
        return mup.OutputLinearMup if use_mup else LinearStandardParam

    def to_state_dict(self, prefix: str | None = None) -> StateDict:
        """The weight times the output scale of the parameterization, which a layer outside does not have; the bias."""
        scale = self.reparam.active_scale
        return super(Linear, _scaled(self, scale)).to_state_dict(prefix)

    def from_state_dict(self, state_dict: StateDict, prefix: str | None = None) -> Linear:
        """The layer with the arrays of the state dict, the weight divided by the output scale."""
        return _scaled(super().from_state_dict(state_dict, prefix), 1 / self.reparam.active_scale)

    def flatten_for_export(self) -> Linear:
        """The layer with one axis `__IN__` and one axis `__OUT__`; one whose `In` and `Out` are one `Axis` each stays.

        Their order stays too: with `out_first` it is that of a PyTorch `Linear`, without that of a `Conv1D`. Axes
        beyond `In` and `Out`, such as those of stacked layers, stay in front.
        """
        if isinstance(self.In, Axis) and isinstance(self.Out, Axis):
            return self
        ins, outs = axes_of(self.In), axes_of(self.Out)
        weight = _merged(_merged(self.weight, ins, FLAT_IN), outs, FLAT_OUT)
        bias = None if self.bias is None else _merged(self.bias, outs, FLAT_OUT)
        In, Out = weight.resolve_axis(FLAT_IN), weight.resolve_axis(FLAT_OUT)
        return dataclasses.replace(self, weight=weight, bias=bias, In=In, Out=Out)

    def unflatten_from_export(self, template: Linear) -> Linear:
        """The layer with the axes of `template`, in its order."""
        if isinstance(template.In, Axis) and isinstance(template.Out, Axis):
            return self
        ins, outs = axes_of(template.In), axes_of(template.Out)
        weight = unflatten_axis(unflatten_axis(self.weight, FLAT_IN, ins), FLAT_OUT, outs)
        weight = reordered(weight, template.weight.axes)
        bias = self.bias
        if bias is not None and template.bias is not None:
            bias = reordered(unflatten_axis(bias, FLAT_OUT, outs), template.bias.axes)
        return dataclasses.replace(self, weight=weight, bias=bias, In=template.In, Out=template.Out)


def _scaled(layer: Linear, scale: float) -> Linear:
    return layer if scale == 1 else dataclasses.replace(layer, weight=layer.weight * scale)


def _merged(array: NamedArray, axes: tuple[Axis, ...], name: str) -> NamedArray:
    """The array with one axis in the place of `axes`; of size 1 where there are none."""
    return flatten_axes(array, axes, name) if axes else array.broadcast_axis(Axis(name, 1))


class MoELinear(eqx.Module):
    """A linear layer for a mixture of experts: each token is multiplied by the weight of its expert."""

    weight: NamedArray
    """Axes `Experts`, `In`, `Out`; the last two the other way round if made with `out_first=True`."""
    bias: NamedArray | None
    """Axis `Out`, and `Experts` if each has its own."""
    Experts: AxisSpec = eqx.field(static=True)
    """The axis of the experts."""
    In: Axis = eqx.field(static=True)
    """The input axis, which is summed over."""
    Out: Axis = eqx.field(static=True)
    """The output axis."""
    use_gmm: bool = eqx.field(static=True, default=False)

    @staticmethod
    def init(
        Experts: Axis,
        In: Axis,
        Out: Axis,
        *,
        key: jax.Array,
        use_bias: bool = True,
        out_first: bool = False,
        init_scale: float = 1.0,
        use_gmm: bool = False,
    ) -> MoELinear:
        """A layer with truncated normal weights of standard deviation `init_scale / sqrt(size of In)`, and bias 0.

        Args:
            Experts: the axis of the experts.
            In: the input axis.
            Out: the output axis.
            key: a random key.
            use_bias: whether there is a bias: one that all experts share. `bias` may also have the axis of the experts.
            out_first: whether the weight has its output axis before its input axis.
            init_scale: a factor on the initial weights.
            use_gmm: whether to multiply by `gmm_sharded`, which sums over a mesh axis that the input is spread over.

        Raises:
            AxisError: if two of the axes have the same name.
        """
        ins, outs = axes_of(In), axes_of(Out)
        for name in names_of(ins):
            if name in names_of(outs):
                raise errors.same_axis_in_and_out("MoELinear", name)
        axes = (*axes_of(Experts), *(outs + ins if out_first else ins + outs))
        scale = init_scale * LinearStandardParam.init_scale(In, Out)
        weight = random.truncated_normal(key, axes, -3.0, 3.0) * scale
        return MoELinear(weight, zeros(outs) if use_bias else None, Experts, In, Out, use_gmm)

    @on_any_mesh
    def __call__(self, inputs: NamedArray, group_sizes: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        """The product over `In`, for tokens that are sorted by their expert.

        Args:
            inputs: `In` and one more axis, that of the tokens: first all of expert 0, then all of expert 1, ...
            group_sizes: how many tokens each expert has, integers `[Experts]`. Tokens beyond their sum give zeros.
            key: not used.

        Returns:
            The axis of the tokens, then `Out`.

        Raises:
            AxisError: if the inputs do not have exactly these two axes, or `group_sizes` not exactly `Experts`.
        """
        (expert,), (source,), (target,) = axes_of(self.Experts), axes_of(self.In), axes_of(self.Out)
        require("MoELinear", "inputs", inputs, source, Experts=expert, In=source, Out=target)
        require("MoELinear", "group_sizes", group_sizes, expert, Experts=expert, In=source, Out=target)
        if len(inputs.axes) != 2:
            raise errors.needs_one_token_axis(source.name, inputs)
        if group_sizes.axes != (expert,):
            raise errors.different_axes("MoELinear", group_sizes, (expert,))
        token = next(axis for axis in inputs.axes if axis.name != source.name)
        dtype = jnp.promote_types(inputs.dtype, self.weight.dtype)
        rows = reordered(inputs, (token, source)).array.astype(dtype)
        weights = reordered(self.weight, (expert, source, target)).array.astype(dtype)
        product = gmm_sharded if self.use_gmm else lax.ragged_dot
        output = wrap(product(rows, weights, group_sizes.array), (token, target))
        if self.bias is not None:
            output = output + self._bias_of(token, group_sizes)
        return auto_sharded(output)

    def per_expert(self, inputs: NamedArray) -> NamedArray:
        """The product over `In` of the tokens that each expert has been given.

        Args:
            inputs: `Experts`, `In`, and any other axes.

        Returns:
            The axes of `inputs` without `In`, then `Out`.
        """
        output = dot(inputs, self.weight, axis=self.In)
        return auto_sharded(output if self.bias is None else output + self.bias)

    def _bias_of(self, token: Axis, group_sizes: NamedArray) -> NamedArray:
        """The bias of each token: the shared one, or that of its expert (zero beyond the last group)."""
        bias = self.bias
        assert bias is not None
        (expert,) = axes_of(self.Experts)
        if not bias.has_axis(expert.name):
            return bias
        ends = jnp.cumsum(group_sizes.array)
        owner = jnp.searchsorted(ends, jnp.arange(token.size), side="right")
        rows = reordered(bias, (expert, ...)).array.at[owner].get(mode="fill", fill_value=0)
        return wrap(rows, (token, *(axis for axis in bias.axes if axis.name != expert.name)))

    @property
    def out_first(self) -> bool:
        """Whether the weight has its output axis before its input axis."""
        return self.weight.axes[-1] == axes_of(self.In)[-1]


def gmm_sharded(lhs_: jax.Array, rhs_: jax.Array, group_sizes_: jax.Array, ar: bool = False) -> jax.Array:
    """The grouped product of unnamed arrays: consecutive groups of rows, each times its own matrix.

    Args:
        lhs_: `[rows, k]`.
        rhs_: `[groups, k, n]`.
        group_sizes_: integers `[groups]`; rows beyond their sum give zeros.
        ar: whether `k` is spread over the mesh axis `model`, inside a `jax.shard_map` that has it: then the parts of
            the product are summed over it.

    Returns: `[rows, n]`.
    """
    product = lax.ragged_dot(lhs_, rhs_, group_sizes_)
    return lax.psum(product, "model") if ar else product
