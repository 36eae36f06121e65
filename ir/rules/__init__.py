"""Rules from JAX primitives to IR kinds, a file per family."""

from ir.rules import contract, create, elementwise, index, reduce, shape
from ir.rules.registry import RULES, Axes, Draft, Equation, opaque

__all__ = [
    "RULES",
    "Axes",
    "Draft",
    "Equation",
    "contract",
    "create",
    "elementwise",
    "index",
    "opaque",
    "reduce",
    "shape",
]
