"""Passes over the named-axis IR: check, plan, partition, lower."""

from passes.canonicalize import canonicalize
from passes.check_axes import axis_findings, check_axes
from passes.errors import AxisErrors, AxisWarning, PlanError, UnknownCode
from passes.lower import device_mesh, input_shardings, lower
from passes.partition import partition
from passes.pipeline import run
from passes.planner.plan import Plan
from passes.planner.solve import plan
from passes.sharding.mesh import DeviceMesh

__all__ = [
    "AxisErrors",
    "AxisWarning",
    "DeviceMesh",
    "Plan",
    "PlanError",
    "UnknownCode",
    "axis_findings",
    "canonicalize",
    "check_axes",
    "device_mesh",
    "input_shardings",
    "lower",
    "partition",
    "plan",
    "run",
]
