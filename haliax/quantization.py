"""Products in 8 bits: operations for `Linear(dot_general=…)`, and the state that they keep.

**fp8** with delayed scaling (Micikevicius et al., "FP8 Formats for Deep Learning", arXiv:2209.05433). Inputs and
weights are rounded to e4m3 and the gradient of the output to e5m2, each divided by a scale so that its largest
magnitude falls on the largest number of the format. That magnitude is not known before the array is, so the scale is
that of the largest one in a history of the last steps. The rounded arrays are given to a product in higher precision;
XLA may make one product in fp8 of them where the hardware has it.

**int8** with dynamic scaling, as AQT does it: each operand is divided by its largest magnitude over the contracted
axes, and rounded to `[-127, 127]`; the product is one of integers, summed in int32.

The scales and histories are found in the backward pass. So they come out as the *gradient* of the operation, which is
an `OverwriteWithGradient`: `partition_for_grad_overwrite` takes such gradients apart from the others, and
`apply_updates` puts them in the place of the old state.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from haliax import errors
from haliax.nn.linear import Linear
from haliax.nn.scan import Stacked
from haliax.ops.dot_general import DefaultDotGeneralOp as DefaultDotGeneralOp
from haliax.ops.dot_general import DotGeneralOp as DotGeneralOp

T = TypeVar("T")
INPUT_FORMAT, GRADIENT_FORMAT = jnp.float8_e4m3fn, jnp.float8_e5m2
INT8_LARGEST = 127.0


class OverwriteWithGradient(eqx.Module):
    """A module whose "gradient" is its next state: see `partition_for_grad_overwrite` and `apply_updates`."""


def partition_for_grad_overwrite(grad: T) -> tuple[T, T]:
    """The gradient as two trees of its structure, each with None where the other has something.

    Returns:
        What is to be overwritten (the state of every `OverwriteWithGradient`), and the gradients of the rest:

            overwrites, gradients = partition_for_grad_overwrite(gradients)
            updates, state = optimizer.update(gradients, state, model)
            model = apply_updates(model, updates, overwrites)
    """
    overwrites = jax.tree.map(lambda x: x if _is_state(x) else None, grad, is_leaf=_is_state)
    gradients = jax.tree.map(lambda x: None if _is_state(x) else x, grad, is_leaf=_is_state)
    return overwrites, gradients


def apply_updates(tree: T, updates: Any, overwrites: Any) -> T:
    """The tree with each leaf replaced by its overwrite, if it has one, or else with its update added.

    Args:
        tree: a model.
        updates: what to add, None where nothing is added.
        overwrites: what to put in the place of what was there, None where nothing is.
    """

    def applied(overwrite: Any, update: Any, old: Any) -> Any:
        if overwrite is not None:
            return overwrite
        return old if update is None else jax.tree.map(_added, update, old, is_leaf=_is_none)

    return jax.tree.map(applied, overwrites, updates, tree, is_leaf=lambda x: x is None or _is_state(x))


def _added(update: Any, old: Any) -> Any:
    return old if update is None else old + update


def _is_none(value: Any) -> bool:
    return value is None


def _is_state(value: Any) -> bool:
    return isinstance(value, OverwriteWithGradient)


# --- fp8 ----------------------------------------------------------------------------------------------------------


class Fp8DotGeneralOp(OverwriteWithGradient):
    """The product of operands that are rounded to fp8, with delayed scaling.

    One operation serves one product a step, because its gradient is its next state.
    """

    input_scale: jax.Array
    output_grad_scale: jax.Array
    kernel_scale: jax.Array
    input_amax_history: jax.Array
    output_grad_amax_history: jax.Array
    kernel_amax_history: jax.Array
    compute_dtype: Any = eqx.field(static=True, default=None)

    @classmethod
    def init(cls, amax_history_length: int = 1024, compute_dtype: Any = None) -> Fp8DotGeneralOp:
        """An operation with scales of 1 and empty histories.

        Args:
            amax_history_length: how many steps the largest magnitude is looked for in.
            compute_dtype: of the product; by default what `jnp` would promote the operands to.
        """
        # An array for each, because a step that donates its arguments takes none twice.
        scales = [jnp.ones((1,), jnp.float32) for _ in range(3)]
        histories = [jnp.zeros((amax_history_length,), jnp.float32) for _ in range(3)]
        state: Any = (*scales, *histories, compute_dtype)
        return cls(*state)

    def __call__(
        self, lhs: Any, rhs: Any, dimension_numbers: Any, precision: Any = None, preferred_element_type: Any = None
    ) -> jax.Array:
        """The product of `lhs`, an input, and `rhs`, a weight; the arguments are those of `jax.lax.dot_general`."""
        dtype = preferred_element_type or jnp.promote_types(lhs.dtype, rhs.dtype)
        compute_dtype = self.compute_dtype or dtype
        left = _rounded(lhs.astype(compute_dtype), self.input_scale, self.input_amax_history)
        right = _rounded(rhs.astype(compute_dtype), self.kernel_scale, self.kernel_amax_history)
        product = lax.dot_general(left, right, dimension_numbers, precision)
        product = _with_rounded_gradient(product, self.output_grad_scale, self.output_grad_amax_history)
        return product.astype(dtype)


def _next_scale(scale: jax.Array, history: jax.Array, fp8: Any) -> jax.Array:
    """The scale that puts the largest magnitude of the history on the largest number of the format."""
    largest = jnp.max(history)
    is_known = (largest > 0) & jnp.isfinite(largest)
    return jnp.where(is_known, largest / jnp.finfo(fp8).max.astype(jnp.float32), scale)


def _next_history(array: jax.Array, history: jax.Array) -> jax.Array:
    """The history, whose first place is that of the last step, with the largest magnitude of this step."""
    largest = jnp.max(jnp.abs(array)).astype(history.dtype)
    return jnp.roll(history, -1).at[0].set(largest)


def _through_fp8(array: jax.Array, scale: jax.Array, fp8: Any) -> jax.Array:
    """The array rounded to fp8 in units of the scale; what is too large becomes the largest number of the format."""
    largest = jnp.finfo(fp8).max.astype(array.dtype)
    units = scale.astype(array.dtype)
    return jnp.clip(array / units, -largest, largest).astype(fp8).astype(array.dtype) * units


@jax.custom_vjp
def _rounded(array: jax.Array, scale: jax.Array, history: jax.Array) -> jax.Array:
    """The array rounded to the format of inputs. Its gradient passes; those of scale and history are the next ones."""
    return _through_fp8(array, _next_scale(scale, history, INPUT_FORMAT), INPUT_FORMAT)


def _rounded_forward(array: jax.Array, scale: jax.Array, history: jax.Array) -> tuple[jax.Array, Any]:
    new_scale = _next_scale(scale, history, INPUT_FORMAT)
    return _through_fp8(array, new_scale, INPUT_FORMAT), (new_scale, _next_history(array, history))


_rounded.defvjp(_rounded_forward, lambda state, cotangent: (cotangent, *state))


@jax.custom_vjp
def _with_rounded_gradient(array: jax.Array, scale: jax.Array, history: jax.Array) -> jax.Array:
    """The array itself. Its gradient is rounded to the format of gradients on the way back."""
    return array


def _rounded_backward(state: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[Any, ...]:
    scale, history = state
    new_scale = _next_scale(scale, history, GRADIENT_FORMAT)
    return _through_fp8(cotangent, new_scale, GRADIENT_FORMAT), new_scale, _next_history(cotangent, history)


_with_rounded_gradient.defvjp(lambda array, scale, history: (array, (scale, history)), _rounded_backward)


# --- int8 ---------------------------------------------------------------------------------------------------------


class Int8DotGeneralOp(OverwriteWithGradient):
    """The product of operands that are rounded to int8, with dynamic scaling. It has no state.

    Its gradients are those of the product of the rounded operands, in floating point.
    """

    @classmethod
    def init(cls) -> Int8DotGeneralOp:
        """The operation; it has no parameters."""
        return cls()

    def __call__(
        self, lhs: Any, rhs: Any, dimension_numbers: Any, precision: Any = None, preferred_element_type: Any = None
    ) -> jax.Array:
        """The product; the arguments are those of `jax.lax.dot_general`. There is one precision, so it is ignored."""
        dtype = preferred_element_type or jnp.promote_types(lhs.dtype, rhs.dtype)
        numbers = tuple(tuple(tuple(map(int, dims)) for dims in pair) for pair in dimension_numbers)
        return _int8_product(lhs.astype(dtype), rhs.astype(dtype), numbers)


def _to_int8(array: jax.Array, contracted: Sequence[int]) -> tuple[jax.Array, jax.Array]:
    """Integers in `[-127, 127]` and the float32 scale they are in units of, of size 1 along the contracted axes."""
    numbers = array.astype(jnp.float32)
    largest = jnp.max(jnp.abs(numbers), axis=tuple(contracted), keepdims=True, initial=0.0)
    scale = jnp.where(largest > 0, largest / INT8_LARGEST, 1.0)
    return jnp.round(numbers / scale).astype(jnp.int8), scale


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _int8_product(lhs: jax.Array, rhs: jax.Array, dimension_numbers: Any) -> jax.Array:
    return _int8_forward(lhs, rhs, dimension_numbers)[0]


def _int8_forward(lhs: jax.Array, rhs: jax.Array, dimension_numbers: Any) -> tuple[jax.Array, Any]:
    (left, left_scale), (right, right_scale) = map(_to_int8, (lhs, rhs), dimension_numbers[0])
    total = lax.dot_general(left, right, dimension_numbers, preferred_element_type=jnp.int32)
    # The scales have size 1 along the contracted axes, so their product is the scale of each element.
    units = lax.dot_general(left_scale, right_scale, dimension_numbers)
    return (total * units).astype(lhs.dtype), (left, left_scale, right, right_scale)


def _int8_backward(dimension_numbers: Any, rounded: tuple[jax.Array, ...], cotangent: jax.Array) -> tuple[Any, Any]:
    left, left_scale, right, right_scale = rounded
    lhs, rhs = (left * left_scale).astype(cotangent.dtype), (right * right_scale).astype(cotangent.dtype)
    _, pull_back = jax.vjp(lambda a, b: lax.dot_general(a, b, dimension_numbers), lhs, rhs)
    return pull_back(cotangent)


_int8_product.defvjp(_int8_forward, _int8_backward)


# --- whole models -------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class QuantizationConfig:
    """Which linear layers of a model compute in 8 bits, and how.

    Raises:
        ContradictionError: for both fp8 and int8.
    """

    targets: list[str] | str | None = None
    """Which layers: None for all; a list of names, each the last part of a layer's path; or a pattern (a regular
    expression) for the beginning of the path, such as `.*mlp`. A path is like `blocks.stacked.mlp.layers.0`; for a
    layer in a `Stacked` the part from `stacked` on counts as a path too."""
    amax_history_length: int = 1024
    """For fp8: how many steps the largest magnitude is looked for in."""
    compute_dtype: Any = None
    """For fp8: the dtype of the product of the rounded operands."""
    fp8: bool = False
    """Whether to compute in fp8."""
    int8: bool = False
    """Whether to compute in int8."""

    def __post_init__(self) -> None:
        if self.fp8 and self.int8:
            raise errors.two_quantizations()

    def selects(self, *paths: Sequence[str]) -> bool:
        """Whether a layer that may be called by any of these paths is one of the targets."""
        if self.targets is None:
            return True
        if isinstance(self.targets, str):
            pattern = re.compile(self.targets)
            return any(pattern.match(".".join(path)) is not None for path in paths)
        return any(path[-1] in self.targets for path in paths if path)

    def operation(self) -> Any:
        """A new operation of the kind that is asked for."""
        if self.int8:
            return Int8DotGeneralOp.init()
        return Fp8DotGeneralOp.init(self.amax_history_length, self.compute_dtype)


def quantize_linear_layers(tree: T, config: QuantizationConfig) -> T:
    """The tree whose `Linear` layers, those that the config selects, compute in fp8 or int8.

    Layers inside a `Stacked` have state for each layer of the stack.
    """
    return _quantized(tree, config, (), (), ()) if config.fp8 or config.int8 else tree


@dataclasses.dataclass
class Fp8Config:
    """Which linear layers compute in fp8: the published form of a `QuantizationConfig(fp8=True)`."""

    amax_history_length: int = 1024
    compute_dtype: Any = None
    targets: list[str] | str | None = None


def fp8_linear_layers(tree: T, config: Fp8Config | None = None) -> T:
    """The tree whose `Linear` layers, those that the config selects, compute in fp8."""
    own = Fp8Config() if config is None else config
    return quantize_linear_layers(
        tree, QuantizationConfig(own.targets, own.amax_history_length, own.compute_dtype, fp8=True)
    )


def _quantized(
    tree: Any, config: QuantizationConfig, path: tuple[str, ...], local: tuple[str, ...], stack: tuple[int, ...]
) -> Any:
    """The tree at `path`, which is `local` below the innermost stack; the stacks around it have these sizes."""

    def at(key_path: Any, node: Any) -> Any:
        names = tuple(_key_name(key) for key in key_path)
        if isinstance(node, Stacked):
            sizes, inner = (*stack, node.Block.size), ("stacked",)
            stacked = _quantized(node.stacked, config, (*path, *names, *inner), inner, sizes)
            return dataclasses.replace(node, stacked=stacked)
        if not isinstance(node, Linear) or not config.selects((*path, *names), (*local, *names)):
            return node
        operation = jax.tree.map(lambda x: jnp.broadcast_to(x, (*stack, *x.shape)), config.operation())
        return dataclasses.replace(node, dot_general=operation)

    return jax.tree_util.tree_map_with_path(at, tree, is_leaf=lambda x: isinstance(x, Linear | Stacked))


def _key_name(key: Any) -> str:
    """`weight`, `0`, … for one key of a path in a tree."""
    return jax.tree_util.keystr((key,), simple=True)
