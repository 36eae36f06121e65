"""The TPU slice that a mesh is compiled for, with no TPU at hand.

`libtpu` describes the chips of any slice (`jax.experimental.topologies`), and a step compiled for them is compiled as
on the real ones. A slice has two or three dims, which the axes of the mesh are laid out along: outermost first,
neighbours joined where there are more axes than dims. The axis `replica`, wherever it stands, is the slices themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from levanter.compiler.verify import errors
from levanter.optional import require
from passes.hardware.network import SLOW_AXIS

if TYPE_CHECKING:
    from passes import Plan

TORUS_DIMS = {"v4": 3, "v5e": 2, "v5p": 3, "v6e": 2}
"""How many dims a slice of each chip has."""
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
        along_mesh: whether the axes of the mesh are laid out along the dims, each in one of them.
    """

    chip: str
    dims: tuple[int, ...]
    slices: int = 1
    along_mesh: bool = True

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
        return cls(data["chip"], tuple(data["dims"]), data["slices"], data["along_mesh"])


def topology_for(hardware: str, mesh: Mapping[str, int]) -> Topology:
    """The slice that a mesh of a chip is compiled for.

    The mesh's own form where whole hosts make it up; else the squarest slice of as many chips that they do; for a mesh
    of fewer chips than that, its own form.

    Raises:
        UserError: the chip is no TPU, or libtpu is not installed.
    """
    if hardware.lower() not in TORUS_DIMS:
        raise errors.no_tpu(hardware, TORUS_DIMS)
    require("libtpu", "compiling for a TPU", "tpu")
    chip = hardware.lower()
    inside = [size for axis, size in mesh.items() if axis != SLOW_AXIS]
    slices, rank = mesh.get(SLOW_AXIS, 1), TORUS_DIMS[chip]
    own = Topology(chip, _folded(inside, rank), slices)
    if own.is_whole_hosts:
        return own
    squarest = sorted(_forms(prod(inside), rank), key=lambda dims: (max(dims), dims))
    others = (Topology(chip, dims[::-1], slices, along_mesh=False) for dims in squarest)
    return next((each for each in others if each.is_whole_hosts), own)


def topology_of(plan: Plan) -> Topology:
    """The slice that a plan is compiled for: that of its mesh, or of the form that it gives to the physical network.

    Raises:
        UserError: the chip is no TPU, or libtpu is not installed.
    """
    found = topology_for(plan.hardware, plan.mesh.as_dict())
    torus = plan.physical.torus
    if not plan.network or torus is None:
        return found
    slices = plan.mesh.devices // plan.physical.islands.size
    return Topology(found.chip, torus.form, slices, along_mesh=False)


def mesh_devices(topology: Topology, mesh: Mapping[str, int]) -> list[Any]:
    """The described chips in the order of a mesh, row-major.

    Raises:
        UserError: libtpu has no such slice.
    """
    inside = [size for axis, size in mesh.items() if axis != SLOW_AXIS]
    place = list(mesh).index(SLOW_AXIS) if SLOW_AXIS in mesh else 0
    chips = slices_in_order(topology, mesh).reshape(-1, *inside)
    return list(np.moveaxis(chips, 0, place).flatten())


def slices_in_order(topology: Topology, mesh: Mapping[str, int]) -> Any:
    """[slice, place] the chips of each slice in the order of the axes of a mesh inside of it.

    Raises:
        UserError: libtpu has no such slice.
    """
    from jax.experimental import mesh_utils, topologies

    options: dict[str, Any] = dict(_ONE_DEVICE_A_CHIP.get(topology.chip, {}))
    if not topology.is_whole_hosts:
        options["chips_per_host_bounds"] = topology.host_bounds
    if topology.slices > 1:
        options["num_slices"] = topology.slices
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology.name, **options)
    except Exception as error:
        raise errors.unknown_topology(topology.name, error) from error
    found = list(described.devices)
    if len(found) != prod(mesh.values()):
        raise errors.topology_devices(topology.name, len(found), prod(mesh.values()))
    by_slice: dict[int, list[Any]] = {}
    for chip in found:
        by_slice.setdefault(getattr(chip, "slice_index", 0) or 0, []).append(chip)
    inside = [size for axis, size in mesh.items() if axis != SLOW_AXIS]
    ordered = np.empty((len(by_slice), prod(inside)), object)
    for i, (_, chips) in enumerate(sorted(by_slice.items())):
        if topology.along_mesh:
            ordered[i] = sorted(chips, key=lambda chip: chip.coords)
        else:
            ordered[i] = mesh_utils.create_device_mesh(inside, chips, allow_split_physical_axes=True).flatten()
    return ordered


def _folded(sizes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Sizes above 1 as `rank` dims: filled up with ones, or neighbours joined so that the largest is smallest."""
    sizes = [size for size in sizes if size > 1]
    if len(sizes) <= rank:
        return (*sizes, *(1,) * (rank - len(sizes)))
    cuts = combinations(range(1, len(sizes)), rank - 1)
    ways = [[0, *cut, len(sizes)] for cut in cuts]
    joined = [tuple(prod(sizes[a:b]) for a, b in zip(way, way[1:], strict=False)) for way in ways]
    return min(joined, key=lambda dims: (max(dims), dims))


def _forms(count: int, rank: int) -> Iterator[tuple[int, ...]]:
    """All ways to write `count` as a product of `rank` sizes, smallest first."""
    if rank == 1:
        yield (count,)
        return
    for first in range(1, count + 1):
        if count % first == 0:
            for rest in _forms(count // first, rank - 1):
                if first <= rest[0]:
                    yield (first, *rest)
