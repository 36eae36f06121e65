"""The plan pass: from a graph, a mesh and a chip to the best plan, its runner-up and the reasons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from ir.graph import Graph
from ir.ops import entered
from ir.types import TensorType
from passes import errors, require
from passes.canonicalize import canonicalize
from passes.hardware.chip import Chip, chip_of
from passes.hardware.network import Network
from passes.planner.cost import Cost, step_seconds
from passes.planner.explain import reasons
from passes.planner.memory import MemoryProgram, memory_program
from passes.planner.plan import Plan, RunnerUp, Search
from passes.planner.search import Candidate, search
from passes.planner.space import PlanSpace, plan_space
from passes.planner.terms import Term, cost_terms
from passes.sharding.iteration_space import space_of
from passes.sharding.mesh import DeviceMesh, MeshLike
from passes.sharding.roles import Roles, assign_roles
from passes.sharding.rules import Role, Wish, sizes_of

Axes = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Problem:
    """All that the search knows of a graph on a mesh of a chip."""

    graph: Graph
    network: Network
    roles: Roles
    space: PlanSpace
    terms: list[Term]
    memory: MemoryProgram

    @classmethod
    def of(cls, graph: Graph, mesh: DeviceMesh, chip: Chip) -> "Problem":
        graph = canonicalize(graph)
        network = Network(mesh, chip)
        roles = assign_roles(graph)
        terms = cost_terms(graph, roles, network)
        return cls(graph, network, roles, plan_space(graph, mesh), terms, memory_program(graph, roles))

    def price(self, wish: Wish) -> tuple[Cost, int]:
        """Seconds by kind, and peak bytes, of a single plan."""
        total = Cost()
        for term in self.terms:
            total.add(term.price(wish), term.times)
        peak, _ = self.memory.peak(lambda entry: entry.local(wish))
        return total, int(peak)

    def named(self, candidate: Candidate) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
        """(compute, storage) of a candidate, without wishes that no value ever grants."""
        mesh = self.network.mesh
        extension = candidate.extension
        extra = {extension.host: extension.mask} if extension.host is not None else {}
        wish = Wish(mesh, self.space.order, candidate.masks, extra)
        shapes: dict[tuple[tuple[tuple[str, int], ...], Role], None] = {}
        for value in self.graph.values():
            shapes.setdefault((tuple(sizes_of(value.type).items()), self.roles[value.id]))
        for node in self.graph.walk():
            if not entered(node):
                space = space_of(node, self.roles)
                shapes.setdefault((tuple(space.sizes.items()), space.role))
        granted: dict[Role, dict[str, int]] = {"compute": {}, "storage": {}}
        for sizes, role in shapes:
            for name, mask in wish.layout(dict(sizes), role).items():
                granted[role][name] = granted[role].get(name, 0) | int(mask)
        used = granted["compute"]
        kept = granted["storage"]
        compute = {name: mesh.names(used[name]) for name in self.space.order if used.get(name)}
        storage = {name: mesh.names(kept[name]) for name in self.space.order if kept.get(name)}
        return compute, storage

    def does_not_fit(self, leanest: Candidate | None) -> errors.PlanError:
        """What the leanest plan needs memory for, and which axes to make smaller."""
        assert leanest is not None  # the space always has the plan that shards nothing
        extension, chip = leanest.extension, self.network.chip
        extra = {extension.host: extension.mask} if extension.host is not None else {}
        wish = Wish(self.network.mesh, self.space.order, leanest.masks, extra)
        peak, parts = self.memory.peak(lambda entry: entry.local(wish))
        carried = {before for before, _ in self.graph.carried}
        batch = [value.type for i, value in enumerate(self.graph.inputs) if i not in carried]
        model = [value.type for i, value in enumerate(self.graph.inputs) if i in carried]
        return errors.does_not_fit(
            int(peak),
            chip.capacity,
            chip.name,
            str(self.network.mesh),
            {kind: int(part) for kind, part in parts.items()},
            _sizes(batch),
            _sizes([max(model, key=lambda type_: type_.bytes)] if model else []),
        )


def _sizes(types: Sequence[TensorType]) -> dict[str, int]:
    return {name: size for type_ in types for name, size in sizes_of(type_).items()}


def plan(graph: Graph, mesh: MeshLike, hardware: str | Chip = "v5e") -> Plan:
    """The fastest plan of the space (see `passes.planner.space`) that fits in the chip's memory.

    Raises `PlanError` for a bad mesh, unknown hardware, or where nothing fits.
    """
    started = perf_counter()
    layout, chip = DeviceMesh.of(mesh), chip_of(hardware)
    problem = Problem.of(require.graph(graph, "plan"), layout, chip)
    best, leanest = search(problem.space, problem.terms, problem.memory, chip)
    if not best:
        raise problem.does_not_fit(leanest)
    compute, storage = problem.named(best[0])
    runner_up = None
    if len(best) > 1:
        runner_up = RunnerUp(*problem.named(best[1]), best[1].seconds, best[1].peak)
    found = Plan(
        layout,
        problem.space.order,
        compute,
        storage,
        chip.name,
        custom_chip=chip if isinstance(hardware, Chip) else None,
        search=Search(problem.space.plans, perf_counter() - started, optimal=True),
        runner_up=runner_up,
    )

    def reprice(changed_compute: Axes, changed_storage: Axes) -> tuple[float, int]:
        changed = Plan(layout, problem.space.order, changed_compute, changed_storage, chip.name)
        cost, peak = problem.price(changed.wish)
        return float(step_seconds(cost.compute, cost.activations, cost.hidden, chip.overlap)), peak

    why = reasons(problem.space.order, problem.space.fixed, compute, storage, best[0].seconds, chip.capacity, reprice)
    return replace(found, reasons=why)
