"""opaque: a primitive without a rule: replicated, and reported. It may have no result."""

from collections.abc import Mapping, Sequence
from typing import Any

from ir.graph import Node
from ir.ops.op import Names, Op, all_names
from ir.ops.rule import Expected
from ir.ring import digest, ring_dtype, touches

_IN_PLACE = frozenset(("new_ref", "ref", "get", "swap", "addupdate", "freeze"))
"""Reads and writes of arrays that are changed in place, of any numbers."""


class Opaque(Op):
    """Nothing is known but what its results are said to be."""

    kind = "opaque"
    understood = False
    has_effects = True
    always_computes = True

    def results(self, node: Node) -> Sequence[Expected]:
        return [Expected((), None) for _ in node.outputs]

    def blocked(self, node: Node) -> Names:
        return all_names(node)

    def shadow(self, node: Node, arrays: Sequence[Any], shards: Mapping[str, int]) -> Sequence[Any]:
        """Some function of all operands; what has no results is left out."""
        if node.fn in _IN_PLACE or (node.outputs and not touches(node)):
            return super().shadow(node, arrays, shards)
        results = [(value.type.shape, ring_dtype(value.type.dtype)) for value in node.outputs]
        return digest(arrays, results, 0, node.fn)

    def covered(self, node: Node) -> bool:
        return node.fn in _IN_PLACE or not node.outputs or not touches(node)
