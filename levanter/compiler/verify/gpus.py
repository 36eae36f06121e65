"""The GPUs that a mesh is compiled for, with no GPU at hand.

JAX's CUDA plugin compiles for GPUs that it is told of (`jax.experimental.topologies` with a `target_config`), on a
machine without any. What XLA asks of a GPU stands here: NVIDIA's data sheets and "CUDA C++ programming guide", table of
technical specifications per compute capability. Devices are numbered host by host, the innermost axes of a mesh within
a host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from levanter.compiler.verify import errors
from levanter.optional import require
from passes.hardware.chip import chip_of


@dataclass(frozen=True)
class GpuModel:
    """A GPU as XLA asks of it. `lanes` are f32 units of a multiprocessor, `shared` the bytes of its shared memory, of
    which a block may have `shared_by_block`; `bandwidth` is bytes per second."""

    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    lanes: int
    shared: int
    shared_by_block: int
    cache: int
    clock_ghz: float
    memory: int
    bandwidth: int


GPUS = {
    "a100": GpuModel(
        "NVIDIA A100-SXM4-80GB", (8, 0), 108, 64, 167936, 166912, 41943040, 1.41, 85_899_345_920, 2_039_000_000_000
    ),
    "h100": GpuModel(
        "NVIDIA H100 80GB HBM3", (9, 0), 132, 128, 233472, 232448, 52428800, 1.98, 85_899_345_920, 3_352_000_000_000
    ),
    "h200": GpuModel(
        "NVIDIA H200", (9, 0), 132, 128, 233472, 232448, 62914560, 1.98, 151_397_597_184, 4_800_000_000_000
    ),
}
_TARGET = """gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: {gpu.shared_by_block}
  shared_memory_per_core: {gpu.shared}
  core_count: {gpu.multiprocessors}
  fpus_per_core: {gpu.lanes}
  memory_bandwidth: {gpu.bandwidth}
  l2_cache_size: {gpu.cache}
  clock_rate_ghz: {gpu.clock_ghz}
  device_memory_size: {gpu.memory}
  cuda_compute_capability {{ major: {gpu.compute_capability[0]} minor: {gpu.compute_capability[1]} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 2 }}
device_description_str: "{gpu.name}"
"""


@dataclass(frozen=True)
class GpuTopology:
    """GPUs of one kind: so many hosts with so many each."""

    chip: str
    hosts: int
    on_host: int

    @property
    def name(self) -> str:
        """`h100:2x8` is two hosts of eight."""
        return f"{self.chip}:{self.hosts}x{self.on_host}"

    def as_json(self) -> dict[str, Any]:
        """What `GpuTopology.of_json` reads."""
        return {"platform": "gpu", **asdict(self)}

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> GpuTopology:
        return cls(data["chip"], data["hosts"], data["on_host"])


def gpus_for(hardware: str, mesh: Mapping[str, int]) -> GpuTopology:
    """The GPUs that a mesh is compiled for: one host as long as its GPUs do, then whole hosts.

    Raises:
        UserError: the chip is no GPU that is known, or the CUDA plugin is not installed.
    """
    chip = hardware.lower()
    if chip not in GPUS:
        raise errors.no_gpu(hardware, GPUS)
    require("jax_cuda12_plugin", "compiling for a GPU", "gpu")
    count, host = prod(mesh.values()), chip_of(chip).host
    return GpuTopology(chip, count // host, host) if count % host == 0 else GpuTopology(chip, 1, count)


def gpu_devices(topology: GpuTopology) -> list[Any]:
    """The described GPUs, host by host.

    Raises:
        UserError: the plugin does not take them.
    """
    from jax.experimental import topologies

    try:
        described = topologies.get_topology_desc(
            platform="cuda",
            topology_name=topology.name,
            target_config=_TARGET.format(gpu=GPUS[topology.chip]),
            topology=f"1x{topology.hosts}x{topology.on_host}",
        )
    except Exception as error:
        raise errors.unknown_gpus(topology.name, error) from error
    return list(described.devices)
