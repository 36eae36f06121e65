"""The rewriter: a graph is copied, scope by scope, and on the way nodes are left out, replaced, or put between.

A value of the old graph is read as what stands for it in the new one; numbers of new values are free in all of it.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from ir.graph import Graph, Node, Operand, Value


class Rewriter:
    """What the scopes of one graph share."""

    def __init__(self, graph: Graph) -> None:
        self._next = 1 + max((value.id for value in graph.values()), default=-1)

    def fresh(self, value: Value) -> Value:
        """A new value of the type of another."""
        self._next += 1
        return Value(self._next - 1, value.type)


class Scope:
    """One graph, or body, being copied: the nodes so far, and what stands for the values of the old one."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.values: dict[int, Value] = {}

    def define(self, old: Value, new: Value) -> Value:
        """From here on, `new` stands for `old`."""
        self.values[old.id] = new
        return new

    def read(self, operand: Operand) -> Operand:
        """What stands for an operand of the old graph: itself, where nothing else does."""
        return self.values.get(operand.id, operand) if isinstance(operand, Value) else operand

    def reads(self, operands: Iterable[Operand]) -> tuple[Operand, ...]:
        return tuple([self.read(operand) for operand in operands])

    def current(self, node: Node, body: Callable[[Graph], Graph]) -> Node:
        """The node with its operands as they are now, and its bodies rewritten."""
        return replace(node, inputs=self.reads(node.inputs), bodies=tuple([body(each) for each in node.bodies]))

    def append(self, node: Node) -> None:
        self.nodes.append(node)

    def finish(self, graph: Graph, **changes: Any) -> Graph:
        """The new graph: the nodes so far, and the results as they are now; `changes` are other fields of it."""
        return replace(graph, **{"nodes": tuple(self.nodes), "outputs": self.reads(graph.outputs), **changes})
