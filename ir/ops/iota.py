"""iota: 0, 1, 2, … along one dim, and what else comes from nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ir import errors
from ir.graph import Node
from ir.ops.dtypes import family
from ir.ops.op import Op, params_of
from ir.ops.rule import Expected, Piece, listed, must, operands, words
from ir.ring import RING, touches
from ir.types import short_dtype

_NUMBERS = frozenset(("axis_index", "platform_index"))


class Iota(Op):
    """`counters` are the two words of 0, 1, 2, … over a whole shape, `axis_index` a device's place on a mesh axis."""

    kind = "iota"
    attributes = frozenset(("along", "mesh"))
    fusible = True
    counts = True

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

    def ring_params(self, node: Node) -> Mapping[str, Any]:
        params = params_of(node)
        return {**params, "dtype": np.dtype(RING)} if touches(node) and "dtype" in params else params
