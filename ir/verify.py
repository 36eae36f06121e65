"""The verifier: a graph is well formed. Run after every pass; a failure is a bug in the pass, not in the user's model."""

from ir.graph import Constant, Graph, Value
from ir.kinds import KINDS, body_operands


class MalformedGraph(Exception):
    """A graph that breaks the IR's own rules."""


def verify(graph: Graph) -> Graph:
    """The same graph. Raises `MalformedGraph` for an unknown kind, a use before definition, a value defined twice, a body
    whose inputs do not fit what feeds them, or paths and carried pairs that do not match inputs and outputs."""
    if graph.input_paths and len(graph.input_paths) != len(graph.inputs):
        raise MalformedGraph(f"graph {graph.name}: {len(graph.input_paths)} paths for {len(graph.inputs)} inputs")
    for before, after in graph.carried:
        if before >= len(graph.inputs) or after >= len(graph.outputs):
            raise MalformedGraph(f"graph {graph.name}: carried pair ({before}, {after}) is out of range")
    _verify_scope(graph, set())
    return graph


def _verify_scope(graph: Graph, defined_anywhere: set[int]) -> None:
    defined: set[int] = set()

    def define(value: Value) -> None:
        if value.id in defined_anywhere:
            raise MalformedGraph(f"graph {graph.name}: {value} is defined twice")
        defined_anywhere.add(value.id)
        defined.add(value.id)

    for value in graph.inputs:
        define(value)
    for node in graph.nodes:
        if node.kind not in KINDS:
            raise MalformedGraph(f"graph {graph.name}: unknown kind {node.kind!r} (add it to ir.kinds)")
        for operand in node.inputs:
            if isinstance(operand, Value) and operand.id not in defined:
                raise MalformedGraph(f"graph {graph.name}: {node.kind} uses {operand}, which is not defined before it")
        if KINDS[node.kind].structured:
            for body, feeds in body_operands(node):
                for operand, value, scanned in feeds:
                    outside = operand.type.shape[1:] if scanned else operand.type.shape
                    if outside != value.type.shape:
                        raise MalformedGraph(
                            f"graph {graph.name}: {body.name} takes {value.type}, but is fed {operand.type}"
                        )
        for body in node.bodies:
            _verify_scope(body, defined_anywhere)
        for value in node.outputs:
            define(value)
    for operand in graph.outputs:
        if not isinstance(operand, Constant) and operand.id not in defined:
            raise MalformedGraph(f"graph {graph.name}: returns {operand}, which is not defined")
