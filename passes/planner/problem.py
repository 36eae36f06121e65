"""The planning problem of a graph on a mesh of a chip: the space of plans, and what each of them costs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ir.graph import Graph
from ir.names import is_part, whole
from ir.ops import entered
from ir.types import TensorType
from passes import errors
from passes.hardware.chip import Chip
from passes.hardware.network import Network
from passes.planner.allocations import memory_program
from passes.planner.candidate import Candidate
from passes.planner.cost import Cost
from passes.planner.filling import MOST, NextName, filling, next_name
from passes.planner.layouts import Layouts
from passes.planner.memory import MemoryProgram
from passes.planner.regather import regathers
from passes.planner.space import PlanSpace, plan_space
from passes.planner.terms import Term, cost_terms
from passes.planner.undivided import undivided_batch, undivided_state
from passes.sharding.iteration_space import space_of
from passes.sharding.mesh import DeviceMesh
from passes.sharding.roles import Roles, assign_roles
from passes.sharding.rules import OrderWhere, Role, ShardingRules, sizes_of
from passes.sharding.state import STATE_KINDS, StateKind


@dataclass(frozen=True)
class Problem:
    """All that the search knows of a graph on a mesh of a chip.

    Attributes:
        regather: parameters are gathered again in the backward pass.
    """

    graph: Graph
    network: Network
    roles: Roles
    space: PlanSpace
    terms: list[Term]
    regather: bool

    @classmethod
    def of(
        cls,
        graph: Graph,
        mesh: DeviceMesh,
        chip: Chip,
        regather: bool = False,
        once: bool = True,
        stored: Collection[StateKind] = STATE_KINDS,
        order_where: OrderWhere | None = None,
        network: Network | None = None,
    ) -> "Problem":
        """The problem of a canonical graph.

        Args:
            regather: parameters are gathered again in the backward pass.
            once: what loops need not do in every trip is done once (`passes.sharding.once`).
            stored: the kinds of state that storage axes shard.
            order_where: where the order of names is another one than that of the space.
            network: the physical network; left out, the usual one of the mesh.
        """
        network = Network(mesh, chip) if network is None else network
        roles = assign_roles(graph, stored=stored)
        terms = cost_terms(graph, roles, network, regather, once)
        space = replace(plan_space(graph, mesh), order_where=order_where or {})
        return cls(graph, network, roles, space, terms, regather)

    @classmethod
    def under(cls, graph: Graph, plan: Layouts) -> "Problem":
        """The problem that a plan of a canonical graph answers, with what it gathers again and what it stores."""
        again = regathers(graph, plan, assign_roles(graph, stored=plan.stored))
        how: dict[str, Any] = {"stored": plan.stored, "order_where": plan.order_where, "network": plan.physical}
        return cls.of(graph, plan.mesh, plan.chip, again, **how)

    @cached_property
    def memory(self) -> MemoryProgram:
        """What a step allocates and frees."""
        return memory_program(self.graph, self.roles, self.regather, self.network.chip.memory, self.network.mesh)

    def cost(self, rules: ShardingRules) -> Cost:
        """Seconds of a single plan, by kind."""
        total = Cost()
        for term in self.terms:
            total.add(term.price(rules), term.times)
        return total

    def price(self, rules: ShardingRules) -> tuple[Cost, int]:
        """Seconds by kind, and peak bytes, of a single plan."""
        peak, _ = self.memory.peak(rules, self.network.chip.memory)
        return self.cost(rules), int(peak)

    def named(self, candidate: Candidate) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
        """(compute, storage) of a candidate, without rules that no value ever follows."""
        mesh = self.network.mesh
        rules = self.rules(candidate)
        granted: dict[Role, dict[str, int]] = {"compute": {}, "storage": {}}
        for sizes, role in self.shapes:
            for name, mask in rules.layout(dict(sizes), role).items():
                at = granted["storage" if role == "storage" else "compute"]
                at[name] = at.get(name, 0) | int(mask)
        used, kept = granted["compute"], granted["storage"]
        # Of several stored names each array has the first in an order of their own; what is computed with comes before.
        several = candidate.stored.names if len(candidate.stored.names) > 1 else ()
        order = (*(name for name in self.space.order if name not in several), *several)
        extra = {name: mask for name in order if (mask := kept.get(name, 0) & ~used.get(name, 0))}
        followed = ShardingRules(mesh, self.space.order, used, extra, candidate.order_where)
        if self.laid_out(followed) != self.laid_out(rules):
            # A rule that is not followed here may decide who takes a mesh axis there, or in which order a dim is
            # sharded over its own: then all are said.
            used = dict(candidate.masks)
            kept = {name: mask | (rules.extra.get(name, 0)) for name, mask in used.items()}
            kept |= {name: mask for name, mask in rules.extra.items() if name not in used}
        compute = {name: mesh.names(used[name]) for name in self.space.order if used.get(name)}
        storage = {name: mesh.names(kept[name]) for name in order if kept.get(name)}
        # A part that is left out is sharded as the axis that it was cut from.
        parts = [name for name in self.space.order if is_part(name) and not (used.get(name) or kept.get(name))]
        compute |= {name: () for name in parts if used.get(whole(name)) or kept.get(whole(name))}
        return compute, storage

    def laid_out(self, rules: ShardingRules) -> list[dict[str, tuple[str, ...]]]:
        """The mesh axes of each name, outermost first, in everything that is laid out."""
        layouts = (rules.layout(dict(sizes), role) for sizes, role in self.shapes)
        return [{name: rules.ordered(name, int(mask)) for name, mask in layout.items()} for layout in layouts]

    def rules(self, candidate: Candidate) -> ShardingRules:
        """The sharding rules of a candidate."""
        mesh, extra = self.network.mesh, candidate.stored.extra
        return ShardingRules(mesh, self.space.order, candidate.masks, extra, candidate.order_where)

    @cached_property
    def shapes(self) -> tuple[tuple[tuple[tuple[str, int], ...], Role], ...]:
        """Names and sizes of everything that is laid out, and its role."""
        return laid_out_shapes(self.graph, self.roles)

    def does_not_fit(self, leanest: Candidate | None) -> errors.PlanError:
        """What the leanest plan needs memory for, and which axes to make smaller."""
        assert leanest is not None  # the space always has the plan that shards nothing
        chip = self.network.chip
        peak, parts = self.memory.peak(self.rules(leanest), chip.memory)
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
            self.advice(self.rules(leanest)) + "".join(f"\n{each}" for each in self.undivided()),
        )

    def undivided(self) -> list[str]:
        """Mesh axes that do not divide the batch, or anything of the state, and what would."""
        mesh = self.network.mesh
        return [*undivided_batch(self.graph, mesh), *undivided_state(self.graph, mesh)]

    def advice(self, rules: ShardingRules) -> str:
        """What fills a device under a plan that does not fit, by name, and what to shard next."""
        rows = filling(self.memory, rules, self.network.chip)
        return errors.what_fills(
            [(each.kind, each.axes, each.arrays, each.bytes) for each in rows[:MOST]], len(rows)
        ) + ("" if (found := next_name(self, rules)) is None else _told(found, self.network.chip.capacity))


def laid_out_shapes(graph: Graph, roles: Roles) -> tuple[tuple[tuple[tuple[str, int], ...], Role], ...]:
    """Names and sizes of every value and every iteration space, each once, and its role."""
    found: dict[tuple[tuple[tuple[str, int], ...], Role], None] = {}
    for value in graph.values():
        found.setdefault((tuple(sizes_of(value.type).items()), roles[value.id]))
    for node in graph.walk():
        if not entered(node):
            space = space_of(node, roles)
            found.setdefault((tuple(space.sizes.items()), space.role))
    return tuple(found)


def _told(found: NextName, capacity: int) -> str:
    return errors.shard_next(found.name, found.role, found.mesh_axis, found.saves, found.costs, found.peak <= capacity)


def _sizes(types: Sequence[TensorType]) -> dict[str, int]:
    return {name: size for type_ in types for name, size in sizes_of(type_).items()}
