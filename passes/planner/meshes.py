"""Which mesh to make of some devices: every factoring into mesh axes is planned, each with the parts of the physical
network that are best for it, and the fastest plan names the mesh.

`data` and `model` share the devices in every way. Where these are on several islands (slices or nodes), they do so too
inside of one, with `replica` between: then a state can be stored over one island alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ir.graph import Graph
from passes import errors
from passes.as_planned import as_planned
from passes.hardware.assignment import Words
from passes.hardware.chip import Chip, chip_of
from passes.hardware.network import SLOW_AXIS, Network
from passes.placing import placed
from passes.planner.constraints import Constraints, Given
from passes.planner.variants import best_plan, plan_alone
from passes.sharding.mesh import DeviceMesh
from passes.summary import memory, times


@dataclass(frozen=True)
class MeshTried:
    """A mesh and the seconds and peak bytes of its best plan, and the parts of the physical network that this gives to
    mesh axes, where these are not the usual ones; `refused` says why it has none."""

    mesh: DeviceMesh
    step: float | None = None
    peak: int | None = None
    refused: str = ""
    network: Words = ()


@dataclass(frozen=True)
class MeshChoice:
    """The mesh whose best plan is the fastest, and all that were tried, the fastest first, the refused last."""

    mesh: DeviceMesh
    tried: tuple[MeshTried, ...]


def factorings(devices: int, chip: Chip) -> Iterator[DeviceMesh]:
    """Every mesh of so many devices, those of few axes first."""
    yield DeviceMesh(("data",), (devices,))
    for outer, inner in _shared(devices):
        yield DeviceMesh(("data", "model"), (outer, inner))
    island = Network(DeviceMesh(("data",), (devices,)), chip).islands.size
    if 1 < island < devices:
        yield DeviceMesh((SLOW_AXIS, "data"), (devices // island, island))
        for outer, inner in _shared(island):
            yield DeviceMesh((SLOW_AXIS, "data", "model"), (devices // island, outer, inner))


def _shared(devices: int) -> list[tuple[int, int]]:
    """(data, model) with so many devices, and more than one along each."""
    return [(devices // inner, inner) for inner in range(2, devices // 2 + 1) if devices % inner == 0]


def choose_mesh(
    devices: int,
    hardware: str | Chip,
    graph_for: Callable[[DeviceMesh], Graph],
    refusals: tuple[type[Exception], ...] = (),
    time_limit: float | None = None,
    pin: Given | None = None,
    forbid: Given | None = None,
) -> MeshChoice:
    """The best mesh of some devices for a step.

    Args:
        graph_for: the canonical graph of the step on a mesh; it raises one of `refusals` where there is none.
        time_limit: seconds of the search on each mesh.
        pin, forbid: as in `passes.plan`; a mesh that lacks their axes is refused.

    Raises:
        PlanError: `devices` is less than 1, or no mesh has a plan that fits.
    """
    if devices < 1:
        raise errors.no_devices(devices)
    chip = chip_of(hardware)
    tried: list[MeshTried] = []
    for mesh in factorings(devices, chip):
        try:
            constraints = Constraints.of(pin, forbid, mesh)
            tried.append(_planned(graph_for(mesh), mesh, hardware, time_limit, constraints))
        except (errors.PlanError, *refusals) as error:
            tried.append(MeshTried(mesh, refused=str(error).partition("\n")[0]))
    # Fewer axes first where two take the same time.
    found = sorted((each for each in tried if each.step is not None), key=lambda each: (each.step, len(each.mesh.axes)))
    refused = [each for each in tried if each.step is None]
    if not found:
        raise errors.no_mesh_fits(devices, [(str(each.mesh), each.refused) for each in refused])
    return MeshChoice(found[0].mesh, (*found, *refused))


def _planned(
    graph: Graph, mesh: DeviceMesh, hardware: str | Chip, time_limit: float | None, constraints: Constraints
) -> MeshTried:
    alone = mesh.devices == 1
    if alone:
        plan = plan_alone(graph, mesh, hardware, constraints.remat)
    else:
        plan = best_plan(graph, mesh, hardware, time_limit, constraints)
    again = as_planned(graph, plan)
    done = placed(again, plan)
    return MeshTried(mesh, times(again, done, plan).step, memory(again, plan, done)["peak"], network=plan.network)


def rows(tried: Sequence[MeshTried]) -> list[dict[str, object]]:
    """What was tried, as JSON can hold it."""
    return [
        {
            "mesh": each.mesh.as_dict(),
            "step": each.step,
            "peak": each.peak,
            "refused": each.refused,
            "network": dict(each.network),
        }
        for each in tried
    ]
