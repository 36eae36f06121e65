"""A graph as the checks read it: the index of its uses, and nothing else."""

from ir.analysis.uses import Uses as Program

__all__ = ["Program"]
