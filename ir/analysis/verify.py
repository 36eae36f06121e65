"""The verifier: a graph is well formed. Run after every pass: a failure is a bug in the pass, not in the model."""

from ir.graph import Graph, Node, Value
from ir.kinds import KINDS, body_operands, body_results
from ir.types import TensorType


class MalformedGraph(Exception):
    """A graph that breaks the IR's own rules."""


def verify(graph: Graph) -> Graph:
    """The same graph. Raises `MalformedGraph` for an unknown kind, a use before definition, a value defined twice or
    used as another type, a body that does not fit what feeds it or what it gives, or paths and carried pairs that do
    not match inputs and outputs."""
    sides = (("inputs", graph.input_paths, graph.inputs), ("outputs", graph.output_paths, graph.outputs))
    for side, paths, values in sides:
        if paths and len(paths) != len(values):
            raise MalformedGraph(f"graph {graph.name}: {len(paths)} paths for {len(values)} {side}")
    for before, after in graph.carried:
        if not (0 <= before < len(graph.inputs) and 0 <= after < len(graph.outputs)):
            raise MalformedGraph(f"graph {graph.name}: carried pair ({before}, {after}) is out of range")
    _verify_scope(graph, set())
    return graph


def _verify_scope(graph: Graph, defined_anywhere: set[int]) -> None:
    defined: dict[int, TensorType] = {}

    def define(value: Value) -> None:
        if value.id in defined_anywhere:
            raise MalformedGraph(f"graph {graph.name}: {value} is defined twice")
        defined_anywhere.add(value.id)
        defined[value.id] = value.type

    for value in graph.inputs:
        define(value)
    for node in graph.nodes:
        if node.kind not in KINDS:
            raise MalformedGraph(f"graph {graph.name}: unknown kind {node.kind!r} (add it to ir.kinds)")
        for operand in node.value_inputs:
            if operand.id not in defined:
                raise MalformedGraph(f"graph {graph.name}: {node.kind} uses {operand}, which is not defined before it")
            if operand.type != defined[operand.id]:
                raise MalformedGraph(
                    f"graph {graph.name}: {node.kind} uses {operand} as {operand.type}, but it is {defined[operand.id]}"
                )
        if KINDS[node.kind].structured:
            _verify_bodies(graph, node)
        for body in node.bodies:
            _verify_scope(body, defined_anywhere)
        for value in node.outputs:
            define(value)
    for operand in graph.outputs:
        if isinstance(operand, Value) and operand.id not in defined:
            raise MalformedGraph(f"graph {graph.name}: returns {operand}, which is not defined")


def _verify_bodies(graph: Graph, node: Node) -> None:
    try:
        fed, given = body_operands(node), body_results(node)
    except (KeyError, ValueError) as problem:
        raise MalformedGraph(
            f"graph {graph.name}: the bodies of {node.kind}.{node.fn} do not fit its operands and results ({problem})"
        ) from problem
    for body, feeds in fed:
        for operand, value, scanned in feeds:
            outside = operand.type.shape[1:] if scanned else operand.type.shape
            if outside != value.type.shape:
                raise MalformedGraph(f"graph {graph.name}: {body.name} takes {value.type}, but is fed {operand.type}")
    for body, results in given:
        for operand, value, stacked in results:
            outside = value.type.shape[1:] if stacked else value.type.shape
            if outside != operand.type.shape:
                raise MalformedGraph(f"graph {graph.name}: {body.name} gives {operand.type} where {value.type} is made")
