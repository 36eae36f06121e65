"""Passes over the named-axis IR: check, plan, partition, prove, lower."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from passes.canonicalize import canonicalize
    from passes.check_axes import axis_findings, check_axes
    from passes.errors import AxisErrors, AxisWarning, BadOption, PlanError, PlanWarning, UnknownCode, UnknownPass
    from passes.hardware.chip import Chip
    from passes.lower import Partitioner, input_shardings, lower, lower_placed
    from passes.partition import partition
    from passes.pipeline import PIPELINE, run
    from passes.planner.plan import Plan
    from passes.planner.variants import plan
    from passes.proof.errors import NotProved
    from passes.proof.proof import Proof
    from passes.prove import prove
    from passes.shadow import shadow, shadow_placed
    from passes.sharding.jax_mesh import device_mesh
    from passes.sharding.mesh import DeviceMesh
    from passes.values import compare_values

__all__ = [
    "PIPELINE",
    "AxisErrors",
    "AxisWarning",
    "BadOption",
    "Chip",
    "DeviceMesh",
    "NotProved",
    "Partitioner",
    "Plan",
    "PlanError",
    "PlanWarning",
    "Proof",
    "UnknownCode",
    "UnknownPass",
    "axis_findings",
    "canonicalize",
    "check_axes",
    "compare_values",
    "device_mesh",
    "input_shardings",
    "lower",
    "lower_placed",
    "partition",
    "plan",
    "prove",
    "run",
    "shadow",
    "shadow_placed",
]

# A configuration names a mesh and a chip before JAX is imported, so a name is imported when it is first asked for.
_HOMES = {
    "PIPELINE": "passes.pipeline",
    "AxisErrors": "passes.errors",
    "AxisWarning": "passes.errors",
    "BadOption": "passes.errors",
    "Chip": "passes.hardware.chip",
    "DeviceMesh": "passes.sharding.mesh",
    "Partitioner": "passes.lower",
    "Plan": "passes.planner.plan",
    "PlanError": "passes.errors",
    "PlanWarning": "passes.errors",
    "NotProved": "passes.proof.errors",
    "Proof": "passes.proof.proof",
    "UnknownCode": "passes.errors",
    "UnknownPass": "passes.errors",
    "axis_findings": "passes.check_axes",
    "canonicalize": "passes.canonicalize",
    "check_axes": "passes.check_axes",
    "compare_values": "passes.values",
    "device_mesh": "passes.sharding.jax_mesh",
    "input_shardings": "passes.lower",
    "lower": "passes.lower",
    "lower_placed": "passes.lower",
    "partition": "passes.partition",
    "plan": "passes.planner.variants",
    "prove": "passes.prove",
    "run": "passes.pipeline",
    "shadow": "passes.shadow",
    "shadow_placed": "passes.shadow",
}


class _Passes(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(_HOMES[name]), name)
        setattr(self, name, found)
        return found

    def __setattr__(self, name: str, value: object) -> None:
        # Importing the module `passes.lower` must not hide the function `passes.lower`.
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Passes
