"""What may stand behind the end of an axis that is longer in a graph than it is meant to be (`passes.pad_axes`).

A dim that is padded has places that stand for nothing. Of an op whose results depend place by place on its operands
they may hold anything. What is summed over must be 0 there, what a maximum is taken of the least number of its type.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ir.ops.dtypes import is_float
from ir.types import SUM

Filling = Mapping[str, str]
"""By the name of a dim of an operand, by what reduction its padding must change nothing. Of a dim that is not there the
padding may be anything."""

_PLAIN = {SUM: 0, "and": True, "or": False}


def neutral(reduction: str, dtype: str) -> Any:
    """The number that changes nothing in a reduction."""
    if reduction in _PLAIN:
        return np.dtype(dtype).type(_PLAIN[reduction])
    if is_float(dtype):
        return np.dtype(dtype).type(-np.inf if reduction == "max" else np.inf)
    if dtype == "bool":
        return np.bool_(reduction == "min")
    limits = np.iinfo(dtype)
    return np.dtype(dtype).type(limits.min if reduction == "max" else limits.max)
