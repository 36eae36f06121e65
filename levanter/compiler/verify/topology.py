"""The TPU slice that a plan is compiled for, with no TPU at hand.

`libtpu` describes the chips of any slice (`jax.experimental.topologies`), and a step compiled for them is compiled as
on the real ones. A slice has two or three dims, and the axes of the mesh lie along them as they are priced
(`passes.hardware.assignment`): what is compiled is what is planned for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

from levanter.compiler.verify import errors
from levanter.optional import require
from passes.hardware.arrange import arranged
from passes.hardware.assignment import SLOW_AXIS

if TYPE_CHECKING:
    from passes import Plan
    from passes.hardware.network import Network

TPUS = ("v4", "v5e", "v5p", "v6e")
"""Chips whose slices libtpu describes."""
_ONE_DEVICE_A_CHIP = {"v4": {"chip_config_name": "megacore"}}
_HOST_ALONG = (2, 2, 1)
"""The chips of one host along each dim, of the slices that can be had."""


@dataclass(frozen=True)
class Topology:
    """A TPU slice.

    Attributes:
        chip: which chips: v4, v5e, v5p or v6e.
        dims: how many of them along each dim.
        slices: how many slices of it, over a slower network.
    """

    chip: str
    dims: tuple[int, ...]
    slices: int = 1

    @property
    def name(self) -> str:
        """As libtpu has it: `v5e:4x2`."""
        return f"{self.chip}:{'x'.join(map(str, self.dims))}"

    @property
    def host_bounds(self) -> tuple[int, ...]:
        """The chips of one host along each of three dims."""
        dims = (*self.dims, 1)[:3]
        return tuple(host if size % host == 0 else 1 for size, host in zip(dims, _HOST_ALONG, strict=True))

    @property
    def is_whole_hosts(self) -> bool:
        """Whether it is made of whole hosts, as slices that can be had are."""
        return self.host_bounds == _HOST_ALONG

    def as_json(self) -> dict[str, Any]:
        """What `Topology.of_json` reads."""
        return {"platform": "tpu", **asdict(self)}

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Topology:
        return cls(data["chip"], tuple(data["dims"]), data["slices"])


def topology_of(plan: Plan) -> Topology:
    """The slice that a plan is compiled for: of the form that it is priced on, its dims in an order in which whole
    hosts make it up, where there is one.

    Raises:
        UserError: the chip is no TPU, libtpu is not installed, or the mesh has several slices and no axis for them.
    """
    chip, torus = plan.hardware.lower(), plan.physical.torus
    if chip not in TPUS or torus is None:
        raise errors.no_tpu(plan.hardware, TPUS)
    require("libtpu", "compiling for a TPU", "tpu")
    slices = plan.mesh.devices // plan.physical.islands.size
    if slices > 1 and slices != plan.mesh.as_dict().get(SLOW_AXIS):
        raise errors.unnamed_slices(plan.mesh.devices, slices, plan.physical.islands.size, chip)
    forms = [Topology(chip, dims, slices) for dims in dict.fromkeys(permutations(torus.form))]
    return next((each for each in forms if each.is_whole_hosts), forms[0])


def mesh_devices(topology: Topology, network: Network) -> list[Any]:
    """The described chips in the order of the mesh of a network, row-major, each mesh axis on its part of the slice.

    Raises:
        UserError: libtpu has no such slice.
    """
    from jax.experimental import topologies

    options: dict[str, Any] = dict(_ONE_DEVICE_A_CHIP.get(topology.chip, {}))
    if not topology.is_whole_hosts:
        options["chips_per_host_bounds"] = topology.host_bounds
    if topology.slices > 1:
        options["num_slices"] = topology.slices
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology.name, **options)
    except Exception as error:
        raise errors.unknown_topology(topology.name, error) from error
    found = sorted(described.devices, key=lambda chip: (getattr(chip, "slice_index", 0) or 0, chip.coords))
    if len(found) != network.mesh.devices:
        raise errors.topology_devices(topology.name, len(found), network.mesh.devices)
    return arranged(found, network)
