"""What a plan's mesh and a placed type are in JAX."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ir import jax_api
from ir.types import TensorType
from passes import errors, require
from passes.hardware.arrange import arranged
from passes.planner.layouts import Layouts


def device_mesh(plan: Layouts, devices: Sequence[Any] | Mesh | None = None) -> Mesh:
    """The JAX mesh of a plan, row-major over `devices` (default: the first of `jax.devices()`, chips of a TPU in the
    order in which the plan was priced, each mesh axis along its own dims of the torus).

    `devices` may be a sequence, an array of devices or a `jax.sharding.Mesh`, whose devices are taken in its order; a
    sequence under a plan that says which part of the physical network each mesh axis has (`network`) in that of the
    plan, GPUs being listed node by node.

    Raises `PlanError` where there are too few devices, or not as many are given as the mesh has.
    """
    wanted = require.plan(plan, "device_mesh").mesh.devices
    given = require.devices(devices, "device_mesh")
    found = given if given is not None else jax_api.devices()[:wanted]
    if len(found) != wanted:
        raise errors.wrong_devices(wanted, len(found), found[0].platform if found else "cpu")
    if given is None or (plan.network and not isinstance(devices, Mesh)):
        found = arranged(found, plan.physical) if plan.hardware or plan.custom_chip else found
    shape = np.array(found, dtype=object).reshape(plan.mesh.sizes)
    return Mesh(shape, plan.mesh.axes, axis_types=(AxisType.Auto,) * len(plan.mesh.axes))


def partition_spec(type_: TensorType) -> PartitionSpec:
    """The JAX partition spec of a placed type, an entry a dim."""
    entries = [dim.mesh[0] if len(dim.mesh) == 1 else dim.mesh or None for dim in type_.dims]
    return PartitionSpec(*entries)


def named_sharding(type_: TensorType, mesh: Mesh) -> NamedSharding:
    """The JAX sharding of a placed type."""
    return NamedSharding(mesh, partition_spec(type_))
