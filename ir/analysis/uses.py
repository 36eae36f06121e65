"""The index of a graph: who makes a value, who reads it, and how values cross the borders of bodies.

Numbers of values are unique in a graph with all its bodies, and a body uses nothing from outside it, so one index
serves all of them.
"""

from collections import Counter
from dataclasses import dataclass, field

from ir.graph import Graph, Node, Operand, Source, Value
from ir.ops import op_of


@dataclass
class Uses:
    """An index over a graph; built once, shared by all that ask.

    Attributes:
        nodes: every node, bodies included, in the order of the program.
        producer: the node that makes a value; a value without one is an input of the graph or of a body.
        readers: the nodes that read a value, each once, in the order of the program; values in the order in which they
            are first read.
        reads: how often a value is an operand or a result of its graph.
        feeds: for an input of a body what comes in from outside, and from the iteration before; for a result of a
            structured node what its bodies give.
        paths: where an input of the graph stands in the step's arguments.
    """

    graph: Graph
    nodes: list[Node] = field(default_factory=list[Node])
    producer: dict[int, Node] = field(default_factory=dict[int, Node])
    readers: dict[int, list[Node]] = field(default_factory=dict[int, list[Node]])
    reads: Counter[int] = field(default_factory=Counter[int])
    feeds: dict[int, list[Operand]] = field(default_factory=dict[int, list[Operand]])
    paths: dict[int, str] = field(default_factory=dict[int, str])

    @classmethod
    def of(cls, graph: Graph) -> "Uses":
        """The index of a verified graph, bodies included."""
        uses = cls(graph)
        uses.paths = {value.id: path for value, path in zip(graph.inputs, graph.input_paths, strict=False)}
        uses._scope(graph, bodies=True)
        return uses

    @classmethod
    def of_scope(cls, graph: Graph) -> "Uses":
        """The index of a graph, or of a body, without the bodies in it."""
        uses = cls(graph)
        uses._scope(graph, bodies=False)
        return uses

    def sources(self, value: Value) -> list[Value]:
        """What a value is made from: the operands of its node, or what crosses the border of a body to it."""
        if value.id in self.feeds:
            return [operand for operand in self.feeds[value.id] if isinstance(operand, Value)]
        node = self.producer.get(value.id)
        return list(node.value_inputs) if node is not None and not node.bodies else []

    def source_of(self, value: Value) -> Source | None:
        """The user's line that makes a value."""
        node = self.producer.get(value.id)
        return node.source if node is not None else None

    def _scope(self, graph: Graph, bodies: bool) -> None:
        for node in graph.nodes:
            self.nodes.append(node)
            for value in node.outputs:
                self.producer[value.id] = node
            for value in node.value_inputs:
                self.reads[value.id] += 1
                readers = self.readers.setdefault(value.id, [])
                if not readers or readers[-1] is not node:
                    readers.append(node)
            if bodies and node.bodies:
                self._cross(node)
                for body in node.bodies:
                    self._scope(body, bodies)
        self.reads.update(operand.id for operand in graph.outputs if isinstance(operand, Value))

    def _cross(self, node: Node) -> None:
        op = op_of(node)
        for _, fed in op.body_operands(node):
            for outside, inside, _ in fed:
                self.feeds.setdefault(inside.id, []).append(outside)
        for _, given in op.body_results(node):
            for inside, outside, _ in given:
                self.feeds.setdefault(outside.id, []).append(inside)
        for before, after in op.carries(node):
            self.feeds.setdefault(before.id, []).append(after)


def has_effects(node: Node) -> bool:
    """Whether a node, or one in its bodies, may do more than give its results."""
    return op_of(node).has_effects or any(has_effects(inner) for body in node.bodies for inner in body.nodes)


def live(graph: Graph) -> set[int]:
    """The values that a result or an effect is made from, those of bodies among them, and the results themselves."""
    used: set[int] = set()
    _live(graph, used)
    return used


def _live(graph: Graph, used: set[int]) -> None:
    used.update(operand.id for operand in graph.outputs if isinstance(operand, Value))
    for node in reversed(graph.nodes):
        if has_effects(node) or any(value.id in used for value in node.outputs):
            used.update(value.id for value in node.value_inputs)
            for body in node.bodies:
                _live(body, used)
