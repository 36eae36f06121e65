"""The step that a plan is for, kept with the plan so that it can be reported.

Only what the text form of a graph says is kept, and what the checker found in the graph as it was traced: no primitive,
no traceback, no array of JAX. So a plan stays plain data.
"""

from dataclasses import replace

from ir.graph import Constant, Graph, Node, Operand
from ir.ops import op_of
from passes.arithmetic import arithmetic
from passes.check_axes import axis_findings
from passes.planner.layouts import Subject


def subject_of(graph: Graph) -> Subject:
    """The subject that a canonical graph is."""
    return Subject(_bare(graph), tuple(_notes(graph)), arithmetic(graph).model)


def _bare(graph: Graph) -> Graph:
    nodes = tuple(_bare_node(node) for node in graph.nodes)
    return replace(graph, nodes=nodes, outputs=tuple(map(_bare_operand, graph.outputs)), trees=None)


def _bare_node(node: Node) -> Node:
    inputs, bodies = tuple(map(_bare_operand, node.inputs)), tuple(map(_bare, node.bodies))
    return replace(node, inputs=inputs, bodies=bodies, origin=None)


def _bare_operand(operand: Operand) -> Operand:
    return replace(operand, value=None) if isinstance(operand, Constant) else operand


def _notes(graph: Graph) -> list[str]:
    notes = [f"{each.severity}[{each.code}]: {each.what} ({each.source})" for each in axis_findings(graph)]
    opaque = sorted({node.fn for node in graph.walk() if not op_of(node).understood})
    return [*notes, f"no rule for {', '.join(opaque)}: replicated on every device"] if opaque else notes
