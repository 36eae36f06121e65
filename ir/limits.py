"""How deep and how wide a graph may be.

Graphs are walked by functions that call themselves for each body, about five calls a body, and Python allows a
thousand calls within calls. So bodies are counted and refused where a graph comes from (staging, parser) and where it
is given by hand (verifier, printer, passes), and nothing beyond has to fear the limit. A loop in a loop is two deep;
programs as people write them reach about ten.
"""

from ir.graph import Graph

DEEPEST = 64
"""Bodies within bodies."""

MOST_DIMS = 64
"""Dims of a value, and in a list of dims: as many as an array of NumPy has."""

LARGEST = 2**63 - 1
"""Sizes, positions and numbers of values: what XLA can count."""


def is_too_deep(graph: Graph) -> bool:
    """Whether the bodies of a graph are nested more than `DEEPEST` deep; without recursion."""
    level, depth = [graph], 0
    while level:
        if depth > DEEPEST:
            return True
        level = [body for each in level for node in each.nodes for body in node.bodies]
        depth += 1
    return False
