"""The same graph with other types of its values: laid out on a mesh by a plan, or laid out nowhere."""

from collections.abc import Callable
from dataclasses import replace

from ir.graph import Graph, Node, Operand, Value
from ir.types import Dim, TensorType
from passes.planner.layouts import Layouts
from passes.sharding.iteration_space import value_layout
from passes.sharding.roles import Roles
from passes.sharding.rules import with_layout


def laid_out(graph: Graph, plan: Layouts, roles: Roles) -> Graph:
    """The graph with every value where the plan puts it between the operations."""
    rules = plan.rules
    return _retyped(graph, lambda value: with_layout(value.type, value_layout(value, roles, rules), rules))


def without_layout(graph: Graph) -> Graph:
    """The graph as it was before it was laid out."""
    return _retyped(graph, lambda value: whole(value.type))


def whole(type_: TensorType) -> TensorType:
    """The type of a value that no mesh axis splits."""
    return TensorType(type_.dtype, tuple(Dim(dim.name, dim.size) for dim in type_.dims))


def _retyped(graph: Graph, type_of: Callable[[Value], TensorType]) -> Graph:
    known: dict[int, Value] = {}

    def value(old: Value) -> Value:
        # Types that do not change keep the value itself, and a value is looked at once.
        if old.id not in known:
            new = type_of(old)
            known[old.id] = old if new == old.type else replace(old, type=new)
        return known[old.id]

    def operand(old: Operand) -> Operand:
        return value(old) if isinstance(old, Value) else old

    def node(old: Node) -> Node:
        inputs, outputs = tuple(map(operand, old.inputs)), tuple(map(value, old.outputs))
        return replace(old, inputs=inputs, outputs=outputs, bodies=tuple(map(body, old.bodies)))

    def body(old: Graph) -> Graph:
        inputs, outputs = tuple(map(value, old.inputs)), tuple(map(operand, old.outputs))
        return replace(old, inputs=inputs, nodes=tuple(map(node, old.nodes)), outputs=outputs)

    return body(graph)
