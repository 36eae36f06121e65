"""A graph as the checks read it: the index of its uses, and nothing else."""

from ir.analysis.uses import Uses as Program
from ir.graph import Node

__all__ = ["Program", "spot"]


def spot(node: Node) -> object:
    """The place in the program of a node: what is found twice at one is told once."""
    return node.source.spot if node.source is not None else None
