"""From draft to graph: values get their numbers, dims their names, nodes their phase."""

from collections.abc import Mapping
from typing import Any

from ir.graph import Attr, Constant, Graph, Node, Operand, Value
from ir.names import DimClass, Unifier
from ir.phases import assign_phases
from ir.proto import ProtoBody, ProtoNode, ProtoOperand, ProtoValue
from ir.rules.registry import Axes, Plain
from ir.types import Dim, TensorType


def finish(
    body: ProtoBody,
    unifier: Unifier,
    *,
    input_paths: tuple[str, ...],
    output_paths: tuple[str, ...],
    carried: tuple[tuple[int, int], ...],
    trees: Any,
) -> Graph:
    """The graph of a draft, numbered in the order in which it prints."""
    numbered = _Numbering(unifier).graph(body)
    graph = Graph(
        numbered.name, numbered.inputs, numbered.nodes, numbered.outputs, input_paths, output_paths, carried, trees
    )
    return assign_phases(graph)


class _Numbering:
    def __init__(self, unifier: Unifier) -> None:
        self.unifier = unifier
        self.values: dict[ProtoValue, Value] = {}

    def dim(self, dim: DimClass) -> Dim:
        return Dim(self.unifier.name_of(dim), self.unifier.size_of(dim))

    def value(self, proto: ProtoValue) -> Value:
        if proto not in self.values:
            dims = tuple(self.dim(dim) for dim in proto.dims)
            self.values[proto] = Value(len(self.values), TensorType(proto.dtype, dims))
        return self.values[proto]

    def operand(self, proto: ProtoOperand) -> Operand:
        return proto if isinstance(proto, Constant) else self.value(proto)

    def attrs(self, attrs: Mapping[str, Axes | Plain]) -> dict[str, Attr]:
        return {
            key: tuple(self.dim(dim) for dim in attr.dims) if isinstance(attr, Axes) else attr
            for key, attr in attrs.items()
        }

    def graph(self, body: ProtoBody) -> Graph:
        inputs = tuple(self.value(value) for value in body.inputs)
        nodes = tuple(self.node(node) for node in body.nodes)
        return Graph(body.name, inputs, nodes, tuple(self.operand(operand) for operand in body.outputs))

    def node(self, proto: ProtoNode) -> Node:
        inputs = tuple(self.operand(operand) for operand in proto.inputs)
        outputs = tuple(self.value(value) for value in proto.outputs)
        bodies = tuple(self.graph(body) for body in proto.bodies)
        phase = "backward" if proto.backward else "forward"
        return Node(
            proto.kind, proto.fn, inputs, outputs, self.attrs(proto.attrs), bodies, phase, proto.source, proto.origin
        )
