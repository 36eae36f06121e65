"""The planning problem of a graph on a mesh of a chip: the space of plans, and what each of them costs."""

from dataclasses import dataclass

from ir.graph import Graph
from ir.kinds import entered
from passes.layout import Role, Wish, sizes_of
from passes.mesh import DeviceMesh
from passes.placement import space_of
from passes.planner.cost import Cost
from passes.planner.hardware import Chip, Network
from passes.planner.memory import MemoryProgram, memory_program
from passes.planner.search import Candidate
from passes.planner.space import PlanSpace, plan_space
from passes.planner.terms import Term, cost_terms
from passes.roles import Roles, assign_roles


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
        """The problem of a canonical graph."""
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
