"""A graph as the checks read it: the index of its uses, and which names the user gave."""

from ir.analysis.uses import Uses as Program

__all__ = ["Program", "is_derived"]


def is_derived(name: str) -> bool:
    """Whether unification made the name, of what was merged, `a*b`, or split, `a/0`: no user calls it an axis."""
    return "*" in name or "/" in name
