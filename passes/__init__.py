"""Passes over the named-axis IR: check, plan, partition, lower."""

from passes.canonicalize import canonicalize
from passes.check_axes import axis_findings, check_axes
from passes.errors import AxisErrors, AxisWarning, BadOption, PlanError, UnknownCode, UnknownPass
from passes.lower import device_mesh, input_shardings, lower, lower_placed
from passes.mesh import DeviceMesh
from passes.partition import partition
from passes.pipeline import PIPELINE, run
from passes.planner.plan import Plan
from passes.planner.solve import plan

__all__ = [
    "PIPELINE",
    "AxisErrors",
    "AxisWarning",
    "BadOption",
    "DeviceMesh",
    "Plan",
    "PlanError",
    "UnknownCode",
    "UnknownPass",
    "axis_findings",
    "canonicalize",
    "check_axes",
    "device_mesh",
    "input_shardings",
    "lower",
    "lower_placed",
    "partition",
    "plan",
    "run",
]
