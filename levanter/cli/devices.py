"""The devices of a mesh: the machine's accelerators, or as many CPU devices as the mesh has.

XLA splits the CPU into devices when a flag in the environment says so before JAX starts. The flag concerns the CPU
platform alone, so it does no harm where JAX then finds accelerators.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from levanter.cli import errors
from levanter.processes.errors import mesh_does_not_divide
from levanter.runtime.errors import too_few_threads

if TYPE_CHECKING:
    from levanter.compiler.question import DeviceMesh

MOST_CPU_DEVICES = 512
_FLAG = "--xla_force_host_platform_device_count"


def prepare(mesh: DeviceMesh, processes: int = 1) -> None:
    """Set the environment so that a CPU has enough devices for `mesh`; call it before JAX is imported.

    Args:
        processes: how many share out the devices of the mesh.

    Raises:
        UserError: more devices than a CPU can stand in for, where the platform is surely the CPU; or the processes
            cannot share them out evenly.
    """
    if mesh.devices % processes:
        raise mesh_does_not_divide(str(mesh), mesh.devices, processes)
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and "cpu" not in platforms.split(","):
        return
    needed = mesh.devices // processes
    if needed > MOST_CPU_DEVICES:
        if platforms == "cpu":
            raise errors.too_many_cpu_devices(str(mesh), needed, MOST_CPU_DEVICES)
        return
    os.environ["XLA_FLAGS"] = with_device_count(os.environ.get("XLA_FLAGS", ""), needed)


def with_device_count(flags: str, needed: int) -> str:
    """The XLA flags with at least `needed` CPU devices, every other flag kept as it was."""
    given = re.findall(rf"{_FLAG}=(\d+)", flags)
    count = max([needed, *map(int, given)])
    kept = [flag for flag in flags.split() if not flag.startswith(_FLAG)]
    return " ".join([*kept, f"{_FLAG}={count}"])


def require_threads(threads: int, enough: int) -> None:
    """Check that CPU devices get no more threads than an elastic run has, by having one each; this starts JAX.

    Args:
        enough: threads for any mesh that the run can have; more devices are refused for another reason.

    Raises:
        UserError: there are more devices.
    """
    import jax

    if jax.default_backend() == "cpu" and threads < jax.local_device_count() <= enough:
        raise too_few_threads(threads, jax.local_device_count(), enough)


def require(mesh: DeviceMesh) -> None:
    """Check that JAX has the devices of `mesh`; this starts JAX.

    Raises:
        UserError: it has fewer.
    """
    import jax

    found, needed = jax.device_count(), mesh.devices
    if found < needed:
        raise errors.too_few_devices(str(mesh), needed, found, jax.default_backend())
