"""iota: 0, 1, 2, … along one dim, and what else comes from nothing."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ir import errors
from ir.graph import Node
from ir.jax_api import jnp, lax
from ir.ops.dtypes import family
from ir.ops.op import Op, params_of
from ir.ops.padding import Filling
from ir.ops.rule import Expected, Piece, listed, must, operands, words
from ir.ops.spread import Spread, chosen
from ir.ring import RING, touches
from ir.shards import Shards, bind_primitive
from ir.types import TensorType, short_dtype

_NUMBERS = frozenset(("axis_index", "platform_index"))


class Iota(Op):
    """`counters` are the two words of 0, 1, 2, … over a whole shape, `axis_index` a device's place on a mesh axis."""

    kind = "iota"
    attributes = frozenset(("along", "mesh"))
    fusible = True
    counts = True
    pads = True

    def results(self, node: Node) -> Sequence[Expected]:
        operands(node, 0, 0)
        must(bool(node.outputs), Piece("op"), errors.rule_needs("a result"))
        dims = node.outputs[0].type.dims
        if node.fn in _NUMBERS:
            if node.fn == "axis_index":
                words(node, "mesh")
            return [Expected(("int32",), ())]
        if node.fn == "counters":
            return [Expected(("uint32",), dims)] * 2
        if not node.fn:
            along = listed(node, "along", dims, "the result")
            must(len(along) == 1, Piece("attribute", key="along"), errors.rule_needs("one dim"))
            dtype = node.outputs[0].type.dtype
            must(family(dtype) > 0, Piece("result"), errors.operand_dtype(short_dtype(dtype), "a number"))
        return [Expected((), dims)]

    def spread(self, node: Node) -> Sequence[Spread] | None:
        """Each device counts its part. Where a device is on the mesh is no value of the step."""
        return None if node.fn in _NUMBERS else [chosen(value.type) for value in node.outputs]

    def padding(self, node: Node, names: Collection[str]) -> Sequence[Filling] | None:
        """The numbers of a whole shape depend on all of its sizes."""
        return None if node.fn else []

    def local(self, node: Node, params: dict[str, Any], shards: Shards) -> Mapping[str, Any]:
        return {**params, "shape": shards.shape(node.outputs[0].type)} if "shape" in params else params

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """Numbers go on from where those of the devices before this one end."""
        assert node.origin is not None
        type_, params = node.outputs[0].type, node.origin.params
        if node.fn == "counters":
            return counters(type_, shards)
        if "shape" not in params:
            return bind_primitive(node, arrays, params)
        (numbers,) = bind_primitive(node, arrays, self.local(node, dict(params), shards))
        counted = None if node.fn else type_.dims[int(params["dimension"])]
        if counted is None or not counted.mesh:
            return [numbers]
        return [numbers + jnp.asarray(shards.start(counted), numbers.dtype)]

    def ring_params(self, node: Node) -> Mapping[str, Any]:
        params = params_of(node)
        return {**params, "dtype": np.dtype(RING)} if touches(node) and "dtype" in params else params


def counters(type_: TensorType, shards: Shards) -> tuple[Any, Any]:
    """The high and the low 32 bits of the place, in row-major order, of each element of one device's shard."""
    shape = shards.shape(type_)
    high, low = jnp.zeros(shape, jnp.uint32), jnp.zeros(shape, jnp.uint32)
    stride = 1
    for position in reversed(range(len(shape))):
        dim = type_.dims[position]
        place = lax.broadcasted_iota(jnp.uint32, shape, position) + jnp.asarray(shards.start(dim), jnp.uint32)
        if type_.elements >= 1 << 32:
            more, less = _product(place, stride)
            total = low + less
            high = high + more + (total < low).astype(jnp.uint32)
            low = total
        else:
            low = low + place * np.uint32(stride)
        stride *= dim.size
    return high, low


def _product(place: Any, stride: int) -> tuple[Any, Any]:
    """The high and the low 32 bits of 32-bit numbers times a constant of up to 64 bits, by halves of 16 bits."""
    half = np.uint32(0xFFFF)
    above, below = place >> 16, place & half
    top, upper, lower = np.uint32(stride >> 32), np.uint32(stride >> 16 & 0xFFFF), np.uint32(stride & 0xFFFF)
    first, second, third = below * lower, above * lower, below * upper
    middle = (first >> 16) + (second & half) + (third & half)
    low = (first & half) | (middle << 16)
    return above * upper + (second >> 16) + (third >> 16) + (middle >> 16) + place * top, low
