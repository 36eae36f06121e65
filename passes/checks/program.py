"""A graph as the checks read it: who makes a value, who reads it, and how values cross the borders of bodies."""

from dataclasses import dataclass, field

from ir.graph import Graph, Node, Operand, Source, Value
from ir.ops import op_of


@dataclass
class Program:
    """An index over a graph with all its bodies; built once, shared by all checks.

    Attributes:
        nodes: every node, bodies included, in the order of the program.
        producer: the node that makes a value; a value without one is an input of the graph or of a body.
        readers: the nodes that read a value.
        feeds: for an input of a body what comes in from outside, and from the iteration before; for a result of a
            structured node what its bodies give.
        paths: where an input of the graph stands in the step's arguments.
    """

    graph: Graph
    nodes: list[Node] = field(default_factory=list[Node])
    producer: dict[int, Node] = field(default_factory=dict[int, Node])
    readers: dict[int, list[Node]] = field(default_factory=dict[int, list[Node]])
    feeds: dict[int, list[Operand]] = field(default_factory=dict[int, list[Operand]])
    paths: dict[int, str] = field(default_factory=dict[int, str])

    @classmethod
    def of(cls, graph: Graph) -> "Program":
        """The index of a verified graph."""
        program = cls(graph)
        program.paths = {value.id: path for value, path in zip(graph.inputs, graph.input_paths, strict=False)}
        for node in graph.walk():
            program.nodes.append(node)
            program.producer |= dict.fromkeys((value.id for value in node.outputs), node)
            for value in node.value_inputs:
                program.readers.setdefault(value.id, []).append(node)
            if node.bodies:
                program._cross(node)
        return program

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


def is_derived(name: str) -> bool:
    """Whether unification made the name, of what was merged, `a*b`, or split, `a/0`: no user calls it an axis."""
    return "*" in name or "/" in name
