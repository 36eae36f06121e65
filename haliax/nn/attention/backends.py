"""Which implementation an attention gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from haliax.nn.attention import blockwise, reference
from haliax.nn.attention.spec import Spec

BACKENDS: dict[str, Any] = {"reference": reference, "blockwise": blockwise}
"""Modules, each with the functions `attention`, `backward` and `tangent` of a spec and arrays."""


def chosen(spec: Spec, arrays: Sequence[Any], platform: str) -> Any:
    """The backend for a program that is compiled for a platform."""
    return BACKENDS["reference" if spec.backend == "auto" else spec.backend]
