"""opaque: a primitive without a rule: replicated, and reported. It may have no result."""

from collections.abc import Sequence
from typing import Any

from ir.graph import Node
from ir.jax_api import lax
from ir.ops.op import Names, Op, all_names, params_of
from ir.ops.rule import Expected
from ir.ring import digest, ring_dtype, touches
from ir.shards import Shards

_REFERENCES = frozenset(("new_ref", "ref", "freeze", "get", "swap", "addupdate"))
_CALLS = frozenset(("io_callback",))
_TRACED_AGAIN = frozenset(("linear_solve",))
"""Primitives (Lineax's) that are traced when they are lowered, and then compare the structures of their operands with
those that they were bound with: inside of a `shard_map` those say over which mesh axes they vary, and differ."""


class Opaque(Op):
    """Nothing is known but what its results are said to be."""

    kind = "opaque"
    understood = False
    has_effects = True
    always_computes = True

    def results(self, node: Node) -> Sequence[Expected]:
        return [Expected((), None) for _ in node.outputs]

    def is_whole(self, node: Node) -> bool:
        """What changes an array in place has no shards; a host function that may do more than answer runs once; what is
        traced again is so outside of a `shard_map`."""
        return node.fn in _REFERENCES or node.fn in _CALLS or _name(node) in _TRACED_AGAIN

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """Every device computes the same; what has no result (`jax.debug.print`) one device does for all."""
        if node.outputs or not shards.sizes:
            return super().bind(node, arrays, shards)

        def once() -> None:
            super(Opaque, self).bind(node, arrays, shards)

        lax.cond(shards.index(tuple(shards.sizes)) == 0, once, lambda: None)
        return []

    def blocked(self, node: Node) -> Names:
        return all_names(node)

    def shadow(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """Some function of all operands; what has no results is left out."""
        if node.fn in _REFERENCES or (node.outputs and not touches(node)):
            return super().shadow(node, arrays, shards)
        results = [(value.type.shape, ring_dtype(value.type.dtype)) for value in node.outputs]
        return digest(arrays, results, 0, node.fn)

    def covered(self, node: Node) -> bool:
        return node.fn in _REFERENCES or not node.outputs or not touches(node)


def _name(node: Node) -> str:
    """The name of the primitive; where Equinox mapped one over a batch (`vprim`), of that one."""
    mapped = params_of(node).get("prim")
    return node.fn if mapped is None else str(mapped)
