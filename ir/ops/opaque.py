"""opaque: a primitive without a rule: replicated, and reported. It may have no result."""

from collections.abc import Sequence

from ir.graph import Node
from ir.ops.op import Names, Op, all_names
from ir.ops.rule import Expected


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
