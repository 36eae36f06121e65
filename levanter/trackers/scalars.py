"""Numbers as text that is equal exactly when the bits are.

A float is written in the shortest form that reads back to the same bits *in its own precision*: the float32 nearest to
0.1 is `0.1`, not the 0.10000000149011612 that it becomes as a float64.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import SupportsFloat

import numpy as np

Scalar = SupportsFloat
"""A Python number, a numpy scalar, or an array of shape () of numpy or JAX."""


def plain(value: Scalar) -> bool | int | float:
    """`value`, a scalar of any kind, as a Python number whose `repr` is its shortest form."""
    if isinstance(value, bool | int | float) and not isinstance(value, np.generic):
        return value
    array = np.asarray(value)
    if array.shape != ():
        raise ValueError(f"a metric is one number, not an array of shape {array.shape}")
    if array.dtype.kind in "bui" or array.dtype == np.float64:
        return array.item()
    # The half precisions widen to float32 exactly; bfloat16 has no shortest form of its own in numpy.
    return float(str(array.astype(np.float32)[()]))


def record(step: int, metrics: Mapping[str, Scalar]) -> str:
    """One line of `metrics.jsonl`. What JSON has no number for is the string "NaN", "Infinity" or "-Infinity"."""
    values = {name: plain(value) for name, value in metrics.items()}
    return json.dumps({"step": step, **{name: _json_value(value) for name, value in values.items()}}) + "\n"


def _json_value(value: bool | int | float) -> bool | int | float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
