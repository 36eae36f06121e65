"""Lifting functions of plain arrays to named ones: what this package is made with, for functions of one's own."""

from haliax.elementwise import binary as wrap_elemwise_binary
from haliax.elementwise import unary as wrap_elemwise_unary
from haliax.reduce import reduction as wrap_reduction_call
from haliax.sorting import axiswise as wrap_axiswise_call
from haliax.typing import ReductionFunction as ReductionFunction
from haliax.typing import SimpleReductionFunction as SimpleReductionFunction

__all__ = ["wrap_axiswise_call", "wrap_elemwise_binary", "wrap_elemwise_unary", "wrap_reduction_call"]
