"""Numbers that are written in a graph."""

from typing import Any

import numpy as np

from ir.graph import Constant
from ir.types import TensorType


def literal_of(value: Any, dtype: str) -> Constant:
    """A number, as a graph writes it: by the shortest text that reads back as the same number in its dtype (JAX's own
    scalars print more than that)."""
    scalar = value.item() if hasattr(value, "item") else value
    text = repr(scalar)
    if isinstance(scalar, float):
        text = str(np.dtype(dtype).type(scalar)) if dtype in ("float16", "float32") else repr(float(scalar))
    elif isinstance(scalar, int) and not isinstance(scalar, bool):
        text = repr(int(scalar))
    elif isinstance(scalar, complex):
        text = repr(complex(scalar))
    return Constant(text, TensorType(dtype), value)
