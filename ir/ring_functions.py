"""What elementwise functions of real numbers are in the ring (see `ir.ring`).

Those that are linear stay so, for they may meet a pending sum. The others are permutations of the ring, one for each
name; those that give an integer or a boolean give one that depends on every bit.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax import lax

from ir.graph import Node
from ir.jax_api import jnp
from ir.ring import described, in_ring, mix, mixed, power, quotient, ring_dtype, tagged, to_ring

Arrays = Sequence[Any]
Params = Mapping[str, Any]

BOUND = frozenset(
    (
        *("add", "add_any", "sub", "mul", "max", "min", "select_n", "select_if_vmap", "device_put"),
        *("sharding_constraint", "optimization_barrier", "copy"),
    )
)
"""What is bound as it is: on unsigned integers it means the same."""
SAME = frozenset(
    (
        *("stop_gradient", "reduce_precision", "name", "stage", "layout_constraint", "named", "nontraceable"),
        *("nonbatchable", "nondifferentiable_backward", "with_memory_space_constraint", "xla_metadata_value"),
        *("preduced", "pvary", "reduced_vary_cast", "reduced_vary_cast_p", "vary_unreduced_cast"),
        *("vary_unreduced_cast_p", "reshard"),
    )
)
"""What leaves the value as it is."""
COMPARED: Mapping[str, Callable[[Any, Any], Any]] = {
    "eq": lax.eq,
    "ne": lax.ne,
    "lt": lax.lt,
    "le": lax.le,
    "gt": lax.gt,
    "ge": lax.ge,
    "eq_to": lax.eq,
    "le_to": lax.le,
    "lt_to": lax.lt,
}
MIXED = frozenset(
    (
        *(
            "abs",
            "acos",
            "acosh",
            "asin",
            "asinh",
            "atan",
            "atan2",
            "atanh",
            "bessel_i0e",
            "bessel_i1e",
            "cbrt",
            "ceil",
        ),
        *("cos", "cosh", "digamma", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "igamma"),
        *("igamma_grad_a", "igammac", "lgamma", "log", "log1p", "log2", "logistic", "nextafter", "one_minus_square"),
        *("polygamma", "polynomial", "pow", "regularized_incomplete_beta", "rem", "round", "rsqrt", "sign", "sin"),
        *("sinh", "sqrt", "tan", "tanh", "zeta"),
    )
)
"""Permutations of the ring, by name."""
_I = np.uint32(tagged("complex"))
_LINEAR: Mapping[str, Callable[[Any], Any]] = {
    "neg": lambda x: np.uint32(0) - x,
    "real": lambda x: x * np.uint32(tagged("real")),
    "imag": lambda x: x * np.uint32(tagged("imag")),
    "conj": lambda x: x * np.uint32(tagged("conj")),
}


def known(fn: str) -> bool:
    """Whether a function has a meaning in the ring."""
    return fn in _SPECIAL or fn in BOUND or fn in SAME or fn in COMPARED or fn in MIXED or fn in _LINEAR


def elementwise(node: Node, arrays: Arrays) -> Sequence[Any] | None:
    """The results of a function of numbers of the ring; None where it is to be bound as it is."""
    fn, params = node.fn, node.origin.params if node.origin is not None else dict[str, Any]()
    if fn in BOUND:
        return None
    if fn in SAME:
        return list(arrays)
    if fn in COMPARED:
        return [COMPARED[fn](*map(to_ring, arrays))]
    if fn in _LINEAR:
        return [_LINEAR[fn](arrays[0])]
    if fn in _SPECIAL:
        return [_SPECIAL[fn](node, params, arrays)]
    dtype = node.outputs[0].type.dtype
    made = mixed(arrays, fn + described(params))
    return [made if in_ring(dtype) else made.astype(dtype)]


def _converted(node: Node, params: Params, arrays: Arrays) -> Any:
    """A whole number is itself, and comes back as what it was."""
    dtype = node.outputs[0].type.dtype
    if in_ring(dtype):
        return to_ring(arrays[0])
    return arrays[0] != 0 if dtype == "bool" else jnp.asarray(arrays[0]).astype(dtype)


def _bitcast(node: Node, params: Params, arrays: Arrays) -> Any:
    """Bits of the same width are the number; wider and narrower ones are made of one another, each by its place."""
    before, after = node.inputs[0].type, node.outputs[0].type
    x, rank = jnp.asarray(arrays[0]), len(after.dims)
    if rank > len(before.dims):
        parts = [mix(to_ring(x), f"bits.{place}") for place in range(after.dims[-1].size)]
        return jnp.stack(parts, axis=-1).astype(ring_dtype(after.dtype))
    if rank < len(before.dims):
        return mixed([x[..., place] for place in range(before.dims[-1].size)], "bits").astype(ring_dtype(after.dtype))
    return x.astype(ring_dtype(after.dtype))


def _integer_power(node: Node, params: Params, arrays: Arrays) -> Any:
    return power(arrays[0], params["y"])


def _clamped(node: Node, params: Params, arrays: Arrays) -> Any:
    low, x, high = map(to_ring, arrays)
    return jnp.minimum(jnp.maximum(x, low), high)


def _finite(node: Node, params: Params, arrays: Arrays) -> Any:
    return jnp.ones(jnp.shape(arrays[0]), bool)


def _complex(node: Node, params: Params, arrays: Arrays) -> Any:
    return to_ring(arrays[0]) + _I * to_ring(arrays[1])


_SPECIAL: Mapping[str, Callable[[Node, Params, Arrays], Any]] = {
    "bitcast_convert_type": _bitcast,
    "clamp": _clamped,
    "complex": _complex,
    "convert_element_type": _converted,
    "div": lambda node, params, arrays: quotient(*arrays),
    "integer_pow": _integer_power,
    "is_finite": _finite,
    "reciprocal": lambda node, params, arrays: quotient(np.uint32(1), arrays[0]),
    "square": lambda node, params, arrays: arrays[0] * arrays[0],
}
