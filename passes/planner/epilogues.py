"""What a product computes after itself, before it writes its result.

XLA computes elementwise what alone reads a product together with it: bias, residual and the gradient of an activation
are the epilogue of the product, and what is in memory is the end of it, not the product. What else it reads is then
read once, there, and need not wait for the readers of its end. A value of wider elements is left to its readers, as is
one that also needs a later product.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush

from ir.graph import Graph, Node, Value
from ir.ops import op_of
from ir.types import item_size
from passes.sharding.roles import Roles


@dataclass(frozen=True)
class Epilogues:
    """Those of the products of a body.

    Attributes:
        ends: by the id of a product's result, what it writes in its place.
        computed: by the ids of the values of epilogues, the position of their product.
    """

    ends: Mapping[int, Value]
    computed: Mapping[int, int]

    def kept(self, kept: Collection[int]) -> frozenset[int]:
        """The ids of the values that exist in memory, of those that do where nothing is computed after products."""
        return frozenset(kept) - set(self.ends) | {value.id for value in self.ends.values()}


def epilogues(graph: Graph, roles: Roles) -> Epilogues:
    """The epilogues of the products of a body, nested bodies apart."""
    body = _Body.of(graph, roles)
    ends: dict[int, Value] = {}
    computed: dict[int, int] = {}
    for i, node in enumerate(graph.nodes):
        if op_of(node).multiplies and not op_of(node).fusible and len(node.outputs) == 1:
            values = body.epilogue(i, node.outputs[0])
            if values:
                ends[node.outputs[0].id] = values[-1]
                computed |= {value.id: i for value in values}
    return Epilogues(ends, computed)


NONE = Epilogues({}, {})


@dataclass(frozen=True)
class _Body:
    """Attributes:
    nodes: in their order.
    roles: of values.
    readers: the positions of the nodes that read a value; that of none, behind them all, where it leaves the body.
    made: the position of the last node that is not fused and that a value needs.
    """

    nodes: tuple[Node, ...]
    roles: Roles
    readers: Mapping[int, list[int]]
    made: Mapping[int, int]

    @classmethod
    def of(cls, graph: Graph, roles: Roles) -> "_Body":
        readers: dict[int, list[int]] = {}
        made: dict[int, int] = {}
        for i, node in enumerate(graph.nodes):
            for operand in node.value_inputs:
                readers.setdefault(operand.id, []).append(i)
            needed = [made.get(each.id, -1) for each in node.value_inputs]
            made |= {value.id: max(needed, default=-1) if op_of(node).fusible else i for value in node.outputs}
        for operand in graph.outputs:
            if isinstance(operand, Value):
                readers.setdefault(operand.id, []).append(len(graph.nodes))
        return cls(tuple(graph.nodes), roles, readers, made)

    def epilogue(self, product: int, result: Value) -> list[Value]:
        """What is computed of a product's result, to the last value that stands for all of that: nothing else of it is
        read. Nothing where there is none."""
        found: list[Value] = []
        whole = 0
        left = list(dict.fromkeys(self.readers.get(result.id, ())))
        while left:
            at = heappop(left)
            while left and left[0] == at:
                heappop(left)
            if at == len(self.nodes) or not self._continues(self.nodes[at], product, result):
                break
            value = self.nodes[at].outputs[0]
            found.append(value)
            if not left:
                whole = len(found)
            for reader in self.readers.get(value.id, ()):
                heappush(left, reader)
        return found[:whole]

    def _continues(self, node: Node, product: int, result: Value) -> bool:
        """Whether a node that reads of an epilogue is a part of it."""
        if not op_of(node).is_elementwise or not op_of(node).fusible or len(node.outputs) != 1:
            return False
        value = node.outputs[0]
        return (
            node.phase == self.nodes[product].phase
            and value.type.elements == result.type.elements
            and item_size(value.type.dtype) <= item_size(result.type.dtype)
            and self.roles[value.id] == self.roles[result.id]
            and self.made.get(value.id, -1) <= product
        )
