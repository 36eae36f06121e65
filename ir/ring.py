"""Arithmetic in Z/2³², in which a step can be computed exactly: sums of shards are the sum, whatever their order.

A real or complex number of the step stands as one number of the ring, a `uint32`; integers, booleans and keys stay what
they are. What is linear in the step is linear in the ring: `+`, `−`, `×`, products, sums, scatter-adds, and division by
a value. Every other function of real numbers is a permutation polynomial of the ring, another one for each name
(R. Rivest, "Permutation polynomials modulo 2^w", 2001: `x(2x + odd) + constant` is one). Order is that of unsigned
integers. So two programs that compute the same sums of the same products in another order, on one device or on many,
agree to the bit; one that adds a term twice, or not at all, or of the wrong shard, does not.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax import lax

from ir.graph import Node
from ir.jax_api import jnp
from ir.types import TensorType

RING = "uint32"
_REAL = ("float", "bfloat", "complex")
_MASK = 0xFFFFFFFF
_WHOLE = 2.0**31
_LEAST, _MOST = np.uint32(0), np.uint32(_MASK)


def in_ring(dtype: str) -> bool:
    """Whether a value of this dtype is a number of the ring."""
    return dtype.startswith(_REAL) and dtype != "float0"


def ring_dtype(dtype: str) -> str:
    """What a value of this dtype is in the ring's program."""
    return RING if in_ring(dtype) else dtype


def ring_type(type_: TensorType) -> TensorType:
    """The type of a value in the ring's program: the same dims in the same places."""
    return replace(type_, dtype=RING) if in_ring(type_.dtype) else type_


def in_ring_node(node: Node, params: Mapping[str, Any]) -> Node:
    """The node between values of the ring, whose primitive has these parameters."""
    inputs = tuple([replace(operand, type=ring_type(operand.type)) for operand in node.inputs])
    outputs = tuple([replace(value, type=ring_type(value.type)) for value in node.outputs])
    origin = None if node.origin is None else replace(node.origin, params=params)
    return replace(node, inputs=inputs, outputs=outputs, origin=origin)


def touches(node: Node) -> bool:
    """Whether a node takes or gives real numbers; one that does not is in the ring what it is in the step."""
    return any([in_ring(each.type.dtype) for each in (*node.inputs, *node.outputs)])


def tagged(tag: str) -> int:
    """A fixed odd number for a name."""
    return zlib.crc32(tag.encode()) | 1


def mix(x: Any, tag: str) -> Any:
    """A permutation of the ring, one for each tag."""
    odd = tagged(tag)
    return x * (x * np.uint32(2) + np.uint32(odd)) + np.uint32(odd >> 3)


def unmixed(y: Any, tag: str) -> Any:
    """The inverse of `mix`: `x = (y − c − 2x²) / odd`, of which each step makes one more bit right."""
    odd = tagged(tag)
    inverse, rest = np.uint32(pow(odd, -1, 1 << 32)), y - np.uint32(odd >> 3)
    x = jnp.zeros_like(y)
    for _ in range(32):
        x = (rest - x * x * np.uint32(2)) * inverse
    return x


def mixed(arrays: Sequence[Any], tag: str) -> Any:
    """One function of several arrays, element by element, each of which matters by its place."""
    parts = [mix(to_ring(array), f"{tag}.{place}") for place, array in enumerate(arrays)]
    return parts[0] if len(parts) == 1 else mix(sum(parts[1:], parts[0]), tag)


def to_ring(x: Any) -> Any:
    """Integers and booleans as numbers of the ring: a homomorphism, so that sums and products stay what they are."""
    x = jnp.asarray(x)
    return x if x.dtype == np.uint32 else x.astype(np.uint32)


def signed(x: Any) -> Any:
    """The same bits as signed integers, which add and multiply alike: XLA's CPU compiler hands products of matrices of
    these, and not of others, to a library that is fast."""
    return lax.bitcast_convert_type(x, np.int32)


def unsigned(x: Any) -> Any:
    """The inverse of `signed`."""
    return lax.bitcast_convert_type(x, np.uint32)


def quotient(x: Any, y: Any) -> Any:
    """`x / y`, linear in `x` as division is."""
    return to_ring(x) * mix(to_ring(y), "div")


def power(x: Any, exponent: int) -> Any:
    """`x ** exponent`: a product, or what is divided by it."""
    if exponent < 0:
        return quotient(np.uint32(1), power(x, -exponent))
    result: Any = None
    square = x
    while exponent:
        if exponent & 1:
            result = square if result is None else result * square
        exponent >>= 1
        square = square * square if exponent else square
    return jnp.ones_like(x) if result is None else result


def literal(value: Any) -> Any:
    """A number written in the program, or an array of them: a whole number is itself, so that zeros add nothing and
    ones scale nothing; the infinities are the ends of the order; any other has an odd number of its own."""
    array: Any = np.asarray(value)
    if np.iscomplexobj(array):
        return (literal(array.real) + np.uint32(tagged("complex")) * literal(array.imag)).astype(np.uint32)
    number = array.astype(np.float32) if array.dtype.itemsize <= 4 else array.astype(np.float64)
    finite = np.isfinite(number)
    whole = finite & (np.abs(number) < _WHOLE) & (number == np.round(np.where(finite, number, 0.5)))
    exact = np.where(whole, number, 0).astype(np.int64).astype(np.uint32)
    bits = np.ascontiguousarray(number.astype(np.float32)).view(np.uint32).reshape(array.shape)
    other = np.where(number == np.inf, _MOST, np.where(number == -np.inf, _LEAST, _scrambled(bits)))
    return np.where(whole, exact, other).astype(np.uint32)


def _scrambled(bits: Any) -> Any:
    """Bits of floats as odd numbers that share no pattern (the finalizer of MurmurHash3)."""
    mixed_ = bits.astype(np.uint64)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed_ = ((mixed_ ^ (mixed_ >> np.uint64(shift))) * np.uint64(factor)) & np.uint64(_MASK)
    return ((mixed_ ^ (mixed_ >> np.uint64(16))) | np.uint64(1)).astype(np.uint32)


def positions(shape: Sequence[int], tag: str) -> Any:
    """A fixed number for each place of a shape, no pattern in them."""
    count = int(np.prod(shape, dtype=np.int64))
    places = lax.iota(np.uint32, count) if count else jnp.zeros((0,), np.uint32)
    return mix(mix(places * np.uint32(0x9E3779B1), tag), "positions").reshape(tuple(shape))


def digest(arrays: Sequence[Any], results: Sequence[tuple[Sequence[int], Any]], batch: int, tag: str) -> list[Any]:
    """Some function of the whole of some arrays, each place of each, by itself for every place of their first `batch`
    dims: what a function that can only be computed from whole arrays is in the ring.

    Args:
        arrays: the operands; all have the same first `batch` dims.
        results: shape and dtype of each result; integers count places from 0, so that they may be indices.
        batch: how many dims in front are no matter of the function.
        tag: its name.
    """
    total: Any = np.uint32(tagged(tag))
    for place, array in enumerate(arrays):
        number = to_ring(_bits(array))
        weights = positions(number.shape[batch:], f"{tag}.{place}")
        total = total + (number * weights).sum(axis=tuple(range(batch, number.ndim)), dtype=np.uint32)
    made: list[Any] = []
    for place, (shape, dtype) in enumerate(results):
        own = tuple(shape[batch:])
        if jnp.issubdtype(dtype, np.bool_) or jnp.issubdtype(dtype, np.integer) and dtype != np.uint32:
            made.append(
                jnp.broadcast_to(lax.iota(np.uint32, shape[-1]) if shape else np.uint32(0), shape).astype(dtype)
            )
            continue
        lead = jnp.reshape(total, (*jnp.shape(total), *[1] * len(own)))
        made.append(mix(lead * positions(own, f"{tag}.result{place}"), f"{tag}.{place}"))
    return made


def _bits(array: Any) -> Any:
    """Keys as their words."""
    array = jnp.asarray(array)
    return jax.random.key_data(array) if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) else array


def described(params: Mapping[str, Any]) -> str:
    """What of the parameters of an elementwise function says which function it is."""
    kept = {key: each for key, each in params.items() if isinstance(each, int | float | str) and key != "accuracy"}
    return "".join(f" {key}={each}" for key, each in sorted(kept.items()))
