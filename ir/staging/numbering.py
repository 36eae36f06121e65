"""From draft to graph: values get their numbers, dims their names, nodes their phase."""

from collections.abc import Mapping, Sequence
from typing import Any

from haliax.core.staging import renamed_p
from ir.graph import Attr, Graph, Node, Operand, Phase, Value
from ir.staging.derive import derive_names
from ir.staging.phases import Phases, phases_of
from ir.staging.primitives.registry import Axes, Plain
from ir.staging.proto import ProtoBody, ProtoNode, ProtoOperand, ProtoValue
from ir.staging.unify import DimClass, Unifier
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
    phases = phases_of(body, [body.outputs[position] for _, position in carried])
    inputs, nodes, outputs = _Numbering(unifier, phases).parts(body, "forward")
    return Graph(body.name, inputs, nodes, outputs, input_paths, output_paths, carried, trees)


class _Numbering:
    """Values in order of appearance. Dims and types are made once and shared."""

    def __init__(self, unifier: Unifier, phases: Phases) -> None:
        self.phases = phases
        self.roots = unifier.roots()
        made: dict[tuple[str | None, int], Dim] = {}
        facts = list(zip(derive_names(unifier), map(unifier.size_of, self.roots), strict=True))
        self.dims = [made.get(fact) or made.setdefault(fact, Dim(*fact)) for fact in facts]
        self.values: dict[ProtoValue, Value] = {}
        self.types: dict[tuple[str, tuple[DimClass, ...]], TensorType] = {}

    def value(self, proto: ProtoValue) -> Value:
        known = self.values.get(proto)
        if known is None:
            roots, dims = self.roots, self.dims
            key = proto.dtype, tuple([roots[dim] for dim in proto.dims])
            type_ = self.types.get(key)
            if type_ is None:
                type_ = self.types[key] = TensorType(proto.dtype, tuple([dims[dim] for dim in proto.dims]))
            known = self.values[proto] = Value(len(self.values), type_)
        return known

    def operands(self, protos: Sequence[ProtoOperand]) -> tuple[Operand, ...]:
        """Constants as they are, values that were defined before by their numbers."""
        values = self.values
        return tuple([values[each] if isinstance(each, ProtoValue) else each for each in protos])

    def attrs(self, attrs: Mapping[str, Axes | Plain]) -> dict[str, Attr]:
        return {
            key: tuple([self.dims[dim] for dim in attr.dims]) if isinstance(attr, Axes) else attr
            for key, attr in attrs.items()
        }

    def parts(self, body: ProtoBody, phase: Phase) -> tuple[tuple[Value, ...], tuple[Node, ...], tuple[Operand, ...]]:
        """Inputs, nodes and outputs of a body; `phase` is that of nodes that have none of their own."""
        inputs = tuple([self.value(value) for value in body.inputs])
        known = self.phases
        nodes = tuple(
            [self.node(node, known.get(node, phase)) for node in body.nodes if not self._changes_nothing(node)]
        )
        return inputs, nodes, self.operands(body.outputs)

    def _changes_nothing(self, node: ProtoNode) -> bool:
        """Whether a rename turned out to be none, because nothing ever named the occurrences of the axis: its result is
        its operand then."""
        if node.origin.primitive is not renamed_p or not isinstance(operand := node.inputs[0], ProtoValue):
            return False
        before, after = ([self.dims[dim] for dim in value.dims] for value in (operand, node.outputs[0]))
        if before == after:
            self.values[node.outputs[0]] = self.values[operand]
        return before == after

    def node(self, proto: ProtoNode, phase: Phase) -> Node:
        inputs = self.operands(proto.inputs)
        outputs = tuple(map(self.value, proto.outputs))
        attrs = self.attrs(proto.attrs) if proto.attrs else {}
        bodies: tuple[Graph, ...] = ()
        if proto.bodies:
            bodies = tuple([Graph(body.name, *self.parts(body, phase)) for body in proto.bodies])
        return Node(proto.kind, proto.fn, inputs, outputs, attrs, bodies, phase, proto.source, proto.origin)
