"""What test modules hold when they are imported: named arrays of numpy numbers, so that nothing is compiled, and the
names that a module makes from a table.
"""

from __future__ import annotations

import ast
import inspect
from types import ModuleType
from typing import Any

import numpy as np

import haliax as hax
from haliax.axis import axis_size, axis_spec_to_tuple, to_jax_shape


def _named(numbers: np.ndarray, axes: Any) -> hax.NamedArray:
    axes = axis_spec_to_tuple(axes)
    return hax.named(numbers.reshape(to_jax_shape(axes)), axes)


def normal(seed: int, axes: Any) -> hax.NamedArray:
    """Standard normal float32 numbers."""
    return _named(np.random.default_rng(seed).normal(size=axis_size(axes)).astype(np.float32), axes)


def uniform(seed: int, axes: Any, low: float, high: float) -> hax.NamedArray:
    """Float32 numbers between `low` and `high`."""
    return _named(np.random.default_rng(seed).uniform(low, high, axis_size(axes)).astype(np.float32), axes)


def counting(axes: Any, dtype: Any = np.int32) -> hax.NamedArray:
    """0, 1, 2, … in the order of the axes."""
    return _named(np.arange(axis_size(axes), dtype=dtype), axes)


def made_by(module: ModuleType, maker: str) -> list[str]:
    """The public names that the source of a module gives to what `maker(…)` makes: `sin = unary(jnp.sin)`."""
    calls = [
        node
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith(f"{maker}(")
    ]
    names = [target.id for node in calls for target in node.targets if isinstance(target, ast.Name)]
    return sorted(name for name in names if not name.startswith("_"))
