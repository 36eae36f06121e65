"""Rules from JAX primitives to IR kinds, a file per family."""

from ir.staging.primitives import (
    attention,
    collective,
    contract,
    convolve,
    create,
    elementwise,
    index,
    linalg,
    reduce,
    ref,
    shape,
    window,
)
from ir.staging.primitives.registry import RULES, Axes, Draft, Equation, opaque

__all__ = [
    "RULES",
    "Axes",
    "Draft",
    "Equation",
    "attention",
    "collective",
    "contract",
    "convolve",
    "create",
    "elementwise",
    "index",
    "linalg",
    "opaque",
    "reduce",
    "ref",
    "shape",
    "window",
]
