"""The verifier: a graph is well formed, and every node is what the rule of its op makes of its operands.

Run after every pass: a failure is a bug in the pass, not in the model. A graph that holds an axis mistake of the user's
is well formed; `passes.check_axes` finds it.
"""

from ir import errors
from ir.analysis.excerpt import excerpt
from ir.errors import MalformedGraph
from ir.graph import Constant, Graph, Node, Value
from ir.limits import DEEPEST, LARGEST, is_too_deep
from ir.ops import OPS, Op
from ir.text.print import print_op
from ir.types import TensorType

__all__ = ["MalformedGraph", "verify"]


def verify(graph: Graph) -> Graph:
    """The same graph.

    Raises:
        MalformedGraph: an unknown kind, a use before definition, a value defined twice or used as another type, paths
            or carried pairs that do not match inputs and outputs, bodies nested too deep (see `ir.limits`), or a node
            whose operands, attributes, bodies and results are not what the rule of its op says; the message shows such
            a node between its neighbours, with carets under what is wrong.
    """
    sides = (("inputs", graph.input_paths, graph.inputs), ("outputs", graph.output_paths, graph.outputs))
    for side, paths, values in sides:
        if paths and len(paths) != len(values):
            raise errors.paths_for(graph.name, len(paths), len(values), side)
    for before, after in graph.carried:
        if not (0 <= before < len(graph.inputs) and 0 <= after < len(graph.outputs)):
            raise errors.carried_out_of_range(graph.name, before, after)
    if is_too_deep(graph):
        raise errors.graph_too_deep(graph.name, DEEPEST)
    _Scope(set()).graph(graph)
    for before, after in graph.carried:
        old, new = graph.inputs[before].type, graph.outputs[after].type
        if old.dtype != new.dtype or sorted(old.shape) != sorted(new.shape):
            raise errors.carried_changes(graph.name, before, after, str(old), str(new))
    return graph


class _Scope:
    """What is defined so far; numbers of values are unique in the whole graph."""

    def __init__(self, everywhere: set[int]) -> None:
        self.everywhere = everywhere
        self.defined: dict[int, TensorType] = {}

    def graph(self, graph: Graph) -> None:
        """A graph, or the body of a node."""
        for value in graph.inputs:
            self.define(graph, value)
        for position, node in enumerate(graph.nodes):
            self.node(graph, position, node)
        for operand in graph.outputs:
            if isinstance(operand, Constant):
                continue
            known = self.defined.get(operand.id)
            if known is None:
                raise errors.undefined_result(graph.name, str(operand))
            if known is not operand.type and known != operand.type:
                raise errors.other_use(graph.name, "the result", str(operand), str(operand.type), str(known))

    def node(self, graph: Graph, position: int, node: Node) -> None:
        op = OPS.get(node.kind)
        if op is None:
            raise errors.unknown_kind(graph.name, node.kind, list(OPS))
        defined = self.defined
        for operand in node.inputs:
            if isinstance(operand, Constant):
                continue
            known = defined.get(operand.id)
            if known is None:
                raise errors.undefined_operand(graph.name, node.kind, str(operand))
            if known is not operand.type and known != operand.type:
                raise errors.other_use(graph.name, node.kind, str(operand), str(operand.type), str(known))
        for body in node.bodies:
            _Scope(self.everywhere).graph(body)
        self.follows(graph, position, node, op)
        for value in node.outputs:
            self.define(graph, value)

    def follows(self, graph: Graph, position: int, node: Node, op: Op) -> None:
        """The node is what its rule says."""
        if not (faults := list(op.faults(node))):
            return
        shown = excerpt(graph, position, [fault.piece for fault in faults])
        raise errors.malformed_node(graph.name, print_op(node), [fault.what for fault in faults], shown)

    def define(self, graph: Graph, value: Value) -> None:
        if value.id in self.everywhere:
            raise errors.value_defined_twice(graph.name, str(value))
        for dim in value.type.dims:
            if not 0 <= dim.size <= LARGEST:
                raise errors.impossible_dim(graph.name, str(value), str(dim))
        self.everywhere.add(value.id)
        self.defined[value.id] = value.type
