"""random: keys and bits."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
from jax.extend.random import threefry2x32_p

from ir import errors
from ir._compat import equation_context
from ir.graph import Node
from ir.jax_api import jnp, lax
from ir.ops.dtypes import is_integer, is_key
from ir.ops.iota import counters
from ir.ops.op import Names, Op, names_of
from ir.ops.rule import Broken, Expected, Hole, Piece, Slot, must, operands, same_dtype
from ir.ops.spread import Spread, Walked, by_position, chosen, nothing_pending
from ir.ring import RING, digest, mixed, ring_dtype, touches
from ir.shards import Shards, bind_primitive

_KEYS = frozenset(("fold_in", "split", "clone"))
_BLOCKS = frozenset(("threefry2x32", "threefry4x32", "philox2x32", "philox4x32", "gamma"))
_WORDS = frozenset(("wrap", "unwrap"))
_BY_ELEMENT = frozenset(("fold_in", "clone", "seed", "threefry2x32", *_WORDS))
"""Members each of whose results depends on one element of each operand."""
_BITS = ("uint8", "uint16", "uint32", "uint64")


class Random(Op):
    """Dims of the keys lead, those of what is drawn are new."""

    kind = "random"

    def results(self, node: Node) -> Sequence[Expected]:
        operands(node, 1)
        must(bool(node.outputs), Piece("op"), errors.rule_needs("a result"))
        if node.fn in _BLOCKS:
            return _numbered(node)
        if node.fn == "bit_generator":
            must(len(node.outputs) == 2, Piece("op"), errors.rule_needs("a state and numbers"))
            state = node.inputs[0].type
            return [Expected((state.dtype,), state.dims), Expected(_BITS, node.outputs[1].type.dims)]
        if node.fn == "uniform":
            return [Expected((same_dtype(node, range(len(node.inputs))),), node.outputs[0].type.dims)]
        return [_drawn(node)]

    def spread(self, node: Node) -> Sequence[Spread]:
        """Element by element where each number depends on one of each operand; else each device needs all operands,
        and keeps its part of what they give."""
        due, rank = nothing_pending(node), max(len(operand.type.dims) for operand in node.inputs)
        if node.fn not in _BY_ELEMENT:
            Walked(node, [[None] * len(operand.type.dims) for operand in node.inputs])
            return [chosen(value.type) for value in node.outputs]
        out = len(node.outputs[0].type.dims)
        labels = by_position(node, rank)
        # The words of a key are no dim of keys.
        last = rank - 1 if node.fn == "wrap" else None
        labels = [[None if label == last else label for label in own] for own in labels]
        walked = Walked(node, labels)
        return [walked.result([p if p < rank else None for p in range(out)], due) for _ in node.outputs]

    def blocked(self, node: Node) -> Names:
        """Generators whose numbers depend on how many are drawn get their operands whole."""
        if node.fn in _BY_ELEMENT:
            return tuple(sorted(names_of(node.value_inputs) ^ names_of(node.outputs))) if node.fn in _WORDS else ()
        return tuple(sorted(names_of(node.value_inputs)))

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """The numbers of the whole array, whatever the mesh: each device makes those of its shard, or where a generator
        cannot, all, and keeps its own."""
        assert node.origin is not None
        if node.fn in _BY_ELEMENT:
            return bind_primitive(node, arrays, node.origin.params)
        if node.fn == "bits" and _by_counters(node) and any(dim.mesh for dim in node.outputs[0].type.dims):
            with equation_context(node.origin.context, node.origin.source_info):
                return [_bits(node, arrays[0], shards)]
        made = bind_primitive(node, arrays, node.origin.params)
        return [shards.part(array, value.type) for array, value in zip(made, node.outputs, strict=True)]

    def shadow(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """Bits are what they are in the step."""
        if not touches(node):
            return self.bind(node, arrays, shards)
        if node.fn != "gamma":
            results = [(value.type.shape, ring_dtype(value.type.dtype)) for value in node.outputs]
            made = digest(arrays, results, 0, node.fn)
            return [shards.part(array, value.type) for array, value in zip(made, node.outputs, strict=True)]
        words = jax.random.key_data(arrays[0]).sum(axis=-1, dtype=RING)
        return [mixed([words, arrays[1]], "gamma")]

    def covered(self, node: Node) -> bool:
        return node.fn == "gamma" or not touches(node)


def _by_counters(node: Node) -> bool:
    """Whether each number is a hash of the key and its own place, and of nothing else."""
    context = node.origin.context if node.origin is not None else None
    partitionable = getattr(context, "threefry_partitionable", True)
    return node.inputs[0].type.dtype == "key<fry>" and bool(partitionable)


def _bits(node: Node, keys: Any, shards: Shards) -> Any:
    """Random bits of one device's shard. Partitionable Threefry, as `jax.random.bits` has it: the two words of a key
    hash the two words of an element's place in what the key draws (Salmon et al. 2011, "Parallel random numbers: as
    easy as 1, 2, 3")."""
    assert node.origin is not None
    lead, width = keys.ndim, int(node.origin.params["bit_width"])
    type_ = node.outputs[0].type
    words = jax.random.key_data(keys)
    drawn = replace(type_, dims=type_.dims[lead:])
    shape = shards.shape(type_)
    first, second = [lax.broadcast_in_dim(words[..., i], shape, range(lead)) for i in (0, 1)]
    places = [lax.broadcast_in_dim(each, shape, range(lead, len(shape))) for each in counters(drawn, shards)]
    hash_: Any = threefry2x32_p
    high, low = hash_.bind(first, second, *places)
    if width == 64:
        return lax.shift_left(high.astype(jnp.uint64), jnp.uint64(32)) | low.astype(jnp.uint64)
    return (high ^ low).astype(f"uint{width}")


def _drawn(node: Node) -> Expected:
    first, out = node.inputs[0].type, node.outputs[0].type
    rank = len(out.dims)
    lead: tuple[Slot, ...] = first.dims
    if node.fn == "wrap":
        lead = lead[:rank]
        must(is_integer(first.dtype), Piece("operand"), errors.operand_dtype(first.dtype, "words of keys"))
    elif node.fn == "seed":
        must(is_integer(first.dtype), Piece("operand"), errors.operand_dtype(first.dtype, "an integer"))
    else:
        must(is_key(first.dtype), Piece("operand"), errors.operand_dtype(first.dtype, "a key"))
    if node.fn in ("wrap", "seed"):
        must(is_key(out.dtype), Piece("result"), errors.operand_dtype(out.dtype, "a key"))
        dtypes: tuple[str, ...] = (out.dtype,)
    elif node.fn in _KEYS:
        dtypes = (first.dtype,)
    elif node.fn in ("bits", "unwrap"):
        dtypes = _BITS if node.fn == "bits" else ("uint32",)
    else:
        raise Broken(Piece("op"), errors.rule_needs("a known function"))
    drawn = node.fn in ("bits", "split", "unwrap")
    new = max(0, rank - len(lead)) if drawn else 0
    return Expected(dtypes, (*lead, *[Hole()] * new))


def _numbered(node: Node) -> list[Expected]:
    """Number by number: what has the shape of the results has their dims."""
    shape = node.outputs[0].type.shape
    full = [operand.type.dims for operand in node.inputs if operand.type.shape == shape]
    dims: tuple[Slot, ...] = full[0] if full else node.outputs[0].type.dims
    dtype = node.inputs[-1].type.dtype
    return [Expected((dtype,), dims)] * len(node.outputs)
