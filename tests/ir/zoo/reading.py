"""A graph as a reviewer reads it: what goes in, the operations that cost something, and a digest of the whole text.

An operation stands for all that are alike, with their number, and has types where the text has numbers of values: so an
operation more changes one line, and not all that follow. Elementwise operations, broadcasts and the like are counted.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator

from ir.graph import Constant, Graph, Node
from ir.ops import entered, op_of
from ir.text.print import print_attributes, print_op, print_type

PHASES = ("forward", "backward", "update")


def reading(graph: Graph, text: str) -> str:
    """The reading of a graph whose whole text is `text`."""
    state = {before for before, _ in graph.carried}
    lines = [f"{len(text.splitlines())} lines, sha256 {hashlib.sha256(text.encode()).hexdigest()}", "", "batch"]
    lines += [
        f"  {path}: {print_type(value.type)}"
        for i, (value, path) in enumerate(zip(graph.inputs, graph.input_paths, strict=True))
        if i not in state
    ]
    lines += ["", "model"]
    lines += [
        f"  {path.removeprefix('state.model.')}: {print_type(value.type)}"
        for value, path in zip(graph.inputs, graph.input_paths, strict=True)
        if path.startswith("state.model.")
    ]
    for phase in PHASES:
        nodes = [(depth, node) for depth, node in walk(graph, 0) if node.phase == phase]
        plain = sum(op_of(node).fusible for _, node in nodes)
        lines += ["", f"{phase}: {len(nodes)} operations, {plain} of them fused"]
        alike = Counter((depth, shown(node)) for depth, node in nodes if not op_of(node).fusible)
        lines += [f"{'  ' * (depth + 1)}{times} × {line}" for (depth, line), times in alike.items()]
    return "\n".join(lines)


def walk(graph: Graph, depth: int) -> Iterator[tuple[int, Node]]:
    """Every node, with how many regions it stands in."""
    for node in graph.nodes:
        yield depth, node
        for body in entered(node):
            yield from walk(body, depth + 1)


def shown(node: Node) -> str:
    """`f32[batch=4, mlp=8] = contract(f32[batch=4, embed=2], f32[mlp=8, embed=2]) over=[embed=2]`."""
    if entered(node):
        return f"{print_op(node)}{print_attributes(node)}: {len(node.inputs)} operands, {len(node.outputs)} results"
    operands = [str(each) if isinstance(each, Constant) else print_type(each.type) for each in node.inputs]
    results = [print_type(value.type) for value in node.outputs]
    return f"{', '.join(results)} = {print_op(node)}({', '.join(operands)}){print_attributes(node)}"
