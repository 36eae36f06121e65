"""Finds axis errors: places where two names meet that are not the same axis, sizes agreeing or not.

Every finding says what was expected, the operands with their named types, the source line with a caret where the file
can be read, and the fix.
"""

import linecache
from dataclasses import dataclass

from ir.graph import Graph, Node
from ir.kinds import Mismatch, kind_of
from passes import errors


@dataclass(frozen=True)
class CheckAxes:
    """Pass: raises for axis errors, changes nothing."""

    def __call__(self, graph: Graph) -> Graph:
        """The same graph. Raises `AxisErrors` with every finding."""
        findings = find_axis_errors(graph)
        if findings:
            raise errors.AxisErrors(findings)
        return graph


def check_axes(graph: Graph) -> Graph:
    """The same graph. Raises `AxisErrors`, which lists every finding."""
    return CheckAxes()(graph)


def find_axis_errors(graph: Graph) -> list[str]:
    """All findings, in the order of the program, each once."""
    found: dict[str, None] = {}
    for node in graph.walk():
        for mismatch in kind_of(node).mismatches(node):
            found.setdefault(_worded(node, mismatch))
    for before, after in graph.carried:
        first, second = graph.inputs[before].type, graph.outputs[after].type
        if any(a.name and b.name and a.name != b.name for a, b in zip(first.dims, second.dims, strict=True)):
            found.setdefault(errors.state_changes_names(graph.input_paths[before], first, second))
    return list(found)


def _worded(node: Node, mismatch: Mismatch) -> str:
    types = [operand.type for operand in node.inputs]
    if mismatch.rule == "carry":
        body = node.bodies[-1]
        before, after = body.inputs[mismatch.operands[0]].type, body.outputs[mismatch.operands[1]].type
        types = [before, after]
    elif mismatch.rule == "branch":
        types = [body.outputs[mismatch.operands[0]].type for body in node.bodies]
    elif mismatch.rule == "named":
        types = [node.inputs[0].type, node.outputs[0].type]
    return errors.axis_error(mismatch, node.kind, node.fn, types, _where(node))


def _where(node: Node) -> str:
    if node.source is None:
        return "  (no source line)"
    line = linecache.getline(node.source.path, node.source.line).rstrip() if node.source.path else ""
    if not line.strip():
        return f"  {node.source}"
    code = line.strip()
    return f"  {node.source}\n    {code}\n    {'^' * len(code)}"
