"""random: keys and bits."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from ir import errors
from ir.graph import Node
from ir.ops.dtypes import is_integer, is_key
from ir.ops.op import Op
from ir.ops.rule import Broken, Expected, Hole, Piece, Slot, must, operands, same_dtype
from ir.ring import RING, digest, mixed, ring_dtype, touches

_KEYS = frozenset(("fold_in", "split", "clone"))
_BLOCKS = frozenset(("threefry2x32", "threefry4x32", "philox2x32", "philox4x32", "gamma"))
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

    def shadow(self, node: Node, arrays: Sequence[Any], shards: Mapping[str, int]) -> Sequence[Any]:
        """Bits are what they are in the step."""
        if not touches(node):
            return self.bind(node, arrays, shards)
        if node.fn != "gamma":
            results = [(value.type.shape, ring_dtype(value.type.dtype)) for value in node.outputs]
            return digest(arrays, results, 0, node.fn)
        words = jax.random.key_data(arrays[0]).sum(axis=-1, dtype=RING)
        return [mixed([words, arrays[1]], "gamma")]

    def covered(self, node: Node) -> bool:
        return node.fn == "gamma" or not touches(node)


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
