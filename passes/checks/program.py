"""A graph as the checks read it: the index of its uses, and nothing else."""

from ir.analysis.uses import Uses as Program
from ir.graph import Node

__all__ = ["Program", "is_inserted", "spot"]


def spot(node: Node) -> object:
    """The place in the program of a node: what is found twice at one is told once."""
    return node.source.spot if node.source is not None else None


def is_inserted(node: Node) -> bool:
    """Whether a rename is of staging's own, from one occurrence of an axis to another: see `ir.staging.align`."""
    old = node.origin.params.get("old") if node.origin is not None else None
    return old is not None and all(name is None for name in old)
