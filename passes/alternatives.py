"""Where else a name could be: each other choice of its mesh axes, priced alone as the plan is, the rest unchanged.

It is the whole step under the other plan that is priced, collective by collective, so what it costs is what
`levanter compile` would say of that plan.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any, Literal

from ir.graph import Graph
from passes import placing, summary
from passes.as_planned import as_planned
from passes.hardware.networks import networks
from passes.pad_axes import padded
from passes.planner.attention import ATTENTION, RING
from passes.planner.constraints import ANY, NETWORK, PADDING, REMAT, STORED, Constraints
from passes.planner.errors import does_not_divide, explained_name
from passes.planner.explain import Axes, reasons
from passes.planner.layouts import Layouts, Search
from passes.planner.orders import ORDER, orders
from passes.planner.paddings import paddings, written
from passes.planner.remat import AS_IT_IS
from passes.planner.space import plan_space, scanned_names
from passes.planner.variants import policies
from passes.rematerialize import rematerialized
from passes.report.changes import collectives_changed
from passes.report.units import each_part, ordered
from passes.ring_attention import in_rings
from passes.sharding.roles import assign_roles
from passes.sharding.rules import Role
from passes.sharding.state import STAGES

MOST_AXES = 3
"""Of a mesh for which all sets of axes are tried; on one with more, one and two at a time."""


@dataclass(frozen=True)
class Alternative:
    """Another choice for a name: sharded over `axes` in a role, none being replicated.

    `refused` says why that cannot be; otherwise there are the seconds and the peak of the step, and how its collectives
    differ from the plan's (`passes.report.changes`). `taken_by` are other names of the same arrays that have some of
    the further mesh axes, `taken`; `padded` is the size that the name is padded to for this. In the role of state,
    `axes` are the kinds of it that are stored, in that of the order they say where that is another one, in that of
    remat they are the policy, in that of microbatches their number, in those of moments and gradients their dtype, in
    that of padding names with sizes, in that of network mesh axes with their parts, in that of attention the word
    for it.
    """

    role: (
        Role
        | Literal["state", "order", "remat", "microbatches", "moments", "gradients", "padding", "network", "attention"]
    )
    axes: tuple[str, ...]
    refused: str = ""
    times: Mapping[str, float] | None = None
    memory: Mapping[str, int] | None = None
    collectives: tuple[Mapping[str, Any], ...] = ()
    taken_by: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    padded: int = 0


@dataclass(frozen=True)
class Explanation:
    """A name, where it is and why, what the step costs so, and where else the name could be."""

    name: str
    size: int
    compute: tuple[str, ...]
    storage: tuple[str, ...]
    reason: str
    times: Mapping[str, float]
    memory: Mapping[str, int]
    alternatives: tuple[Alternative, ...]


def explanation(graph: Graph, plan: Layouts, name: str) -> Explanation:
    """Why a name of a canonical graph is where a plan has it, and what each alternative costs; of `stored` and `remat`
    the same for these choices.

    Raises:
        PlanError: the graph has no such name.
    """
    sizes = graph.axis_sizes()
    if name == ATTENTION and name not in sizes:
        return _of_attention(graph, plan)
    graph = in_rings(graph, plan.attention)
    if name == REMAT and name not in sizes:
        return _of_remat(graph, plan)
    if name == PADDING and name not in sizes:
        return _of_padding(graph, plan)
    own, graph = graph, as_planned(graph, plan)
    if name == STORED and name not in sizes:
        return _of_state(graph, plan)
    if name == ORDER and name not in sizes:
        return _of_order(graph, plan)
    if name == NETWORK and name not in sizes:
        return _of_network(graph, plan)
    if name not in sizes:
        raise explained_name(name, tuple(sizes), graph.name)
    times, memory, collectives = _priced(graph, plan)
    compute, storage = plan.compute.get(name, ()), plan.storage.get(name, ())
    reason = _reason(graph, plan, name, times["step"])
    found: list[Alternative] = []
    scanned = name in scanned_names(graph)
    for role, axes in () if scanned else _choices(graph, plan, name):
        mask = plan.mesh.mask(axes)
        if int(plan.mesh.fitting(sizes[name])[mask]) != mask:
            where = ",".join(f"{axis}={plan.mesh.as_dict()[axis]}" for axis in axes)
            found.append(Alternative(role, axes, does_not_divide(sizes[name], where, int(plan.mesh.group(mask)))))
            if role == "compute":
                found.append(_in_padding(own, plan, name, axes, collectives))
            continue
        other_times, other_memory, others = _priced(graph, _changed(plan, name, role, axes))
        different = tuple(collectives_changed(collectives, others))
        taken = tuple(axis for axis in axes if axis not in (compute if role == "compute" else storage))
        takers = tuple(each for each in _beside(graph, name, role) if set(plan.compute.get(each, ())) & set(taken))
        found.append(Alternative(role, axes, "", other_times, other_memory, different, takers, taken if takers else ()))
    return Explanation(name, sizes[name], compute, storage, reason, times, memory, tuple(found))


def _in_padding(
    graph: Graph, plan: Layouts, name: str, axes: tuple[str, ...], collectives: list[dict[str, Any]]
) -> Alternative:
    """A name on mesh axes that divide it when it is padded."""
    group = int(plan.mesh.group(plan.mesh.mask(axes)))
    size = -(-graph.axis_sizes()[name] // group) * group
    other = replace(_changed(plan, name, "compute", axes), padding={**plan.padding, name: size})
    times, memory, others = _priced(as_planned(graph, other), other)
    different = tuple(collectives_changed(collectives, others))
    return Alternative("compute", axes, "", times, memory, different, padded=size)


def _of_state(graph: Graph, plan: Layouts) -> Explanation:
    """What it costs to store other kinds of state over the storage axes."""
    times, memory, collectives = _priced(graph, plan)
    found: list[Alternative] = []
    for kinds in (*STAGES, ()):
        if kinds != plan.stored:
            other_times, other_memory, others = _priced(graph, replace(plan, stored=kinds))
            different = tuple(collectives_changed(collectives, others))
            found.append(Alternative("state", kinds, "", other_times, other_memory, different))
    return Explanation(STORED, 0, (), plan.stored, "", times, memory, tuple(found))


def _of_order(graph: Graph, plan: Layouts) -> Explanation:
    """What it costs to have names in other orders: in that of the plan everywhere, or in another one somewhere."""
    times, memory, collectives = _priced(graph, plan)
    space = plan_space(graph, plan.mesh)
    found: list[Alternative] = []
    for where in orders(graph, assign_roles(graph, stored=plan.stored), space):
        if where != plan.order_where:
            search = plan.search or Search(0, 0.0, False)
            other_times, other_memory, others = _priced(graph, replace(plan, order_where=where, search=search))
            different = tuple(collectives_changed(collectives, others))
            found.append(Alternative("order", (ordered(where),), "", other_times, other_memory, different))
    here = (ordered(plan.order_where),)
    return Explanation(ORDER, 0, (), here, plan.reasons.get(ORDER, ""), times, memory, tuple(found))


def _of_network(graph: Graph, plan: Layouts) -> Explanation:
    """What it costs that mesh axes have other parts of the physical network."""
    times, memory, _ = _priced(graph, plan)
    here, mesh = plan.physical.assignment, plan.mesh
    found: list[Alternative] = []
    for network in networks(mesh, plan.chip, alike=False):
        if network.assignment != here:
            words = network.assignment.words(mesh)
            search = plan.search or Search(0, 0.0, False)
            other_times, other_memory, _ = _priced(graph, replace(plan, network=words, search=search))
            found.append(Alternative(NETWORK, each_part(words), "", other_times, other_memory))
    reason = plan.reasons.get(NETWORK, "")
    return Explanation(NETWORK, 0, (), each_part(here.words(mesh)), reason, times, memory, tuple(found))


def _of_remat(graph: Graph, plan: Layouts) -> Explanation:
    """What it costs to compute again something else in the backward pass."""
    graph = padded(graph, plan.padding)
    made = ((remat, rematerialized(graph, remat)) for remat in policies(graph) if remat != plan.remat)
    others = (each for each in made if plan.remat != AS_IT_IS or each[1] is not graph)
    here = rematerialized(graph, plan.remat)
    return of_graphs(REMAT, plan.remat, plan.reasons.get(REMAT, ""), here, replace(plan, remat=AS_IT_IS), others)


def _of_padding(graph: Graph, plan: Layouts) -> Explanation:
    """What it costs to pad nothing, or an axis to another size, under the same layouts."""
    found: dict[tuple[str, ...], Graph] = {}
    ways = paddings(graph, plan.mesh, Constraints(padding=(ANY,)))
    for sizes in [{**plan.padding, **each} if each else each for each in ways]:
        if sizes != plan.padding:
            found[written(sizes)] = rematerialized(padded(graph, sizes), plan.remat)
    here, chosen = as_planned(graph, plan), written(plan.padding)
    return of_graphs(
        PADDING, chosen, plan.reasons.get(PADDING, ""), here, replace(plan, padding={}, remat=AS_IT_IS), found.items()
    )


def _of_attention(graph: Graph, plan: Layouts) -> Explanation:
    """What it costs to gather keys, or to have them go round."""
    others = {way: as_planned(graph, replace(plan, attention=way)) for way in ("", RING) if way != plan.attention}
    here, price = as_planned(graph, plan), replace(plan, padding={}, remat=AS_IT_IS)
    ways = [((way,) if way else (), other) for way, other in others.items() if other is not here]
    reason = plan.reasons.get(ATTENTION, "")
    return of_graphs(ATTENTION, (plan.attention,) if plan.attention else (), reason, here, price, ways)


def of_graphs(
    name: Literal["remat", "microbatches", "moments", "gradients", "padding", "attention"],
    chosen: tuple[str, ...],
    reason: str,
    graph: Graph,
    plan: Layouts,
    others: Iterable[tuple[tuple[str, ...], Graph]],
) -> Explanation:
    """What it costs to compute a step in another way, under the same layouts.

    Args:
        chosen, graph: the way that was chosen, and the canonical graph of it.
        others: other ways, each with its graph.
    """
    times, memory, collectives = _priced(graph, plan)
    # Nothing is said of layouts that another graph cannot follow: that is what the price shows.
    quiet = replace(plan, search=plan.search or Search(0, 0.0, False))
    found: list[Alternative] = []
    for way, other in others:
        other_times, other_memory, theirs = _priced(other, quiet)
        different = tuple(collectives_changed(collectives, theirs))
        found.append(Alternative(name, way, "", other_times, other_memory, different))
    return Explanation(name, 0, (), chosen, reason, times, memory, tuple(found))


def _reason(graph: Graph, plan: Layouts, name: str, step: float) -> str:
    """Why a name is where it is, as the alternatives are priced; what was decided before the search stays in front."""
    given = plan.reasons.get(name, "given")
    if name not in plan.compute and name not in plan.storage:
        return given
    decided = re.match(r"(?:(?:pinned to|forbidden on) [^;]+; )*", given)

    def reprice(compute: Axes, storage: Axes) -> tuple[float, int]:
        search = plan.search or Search(0, 0.0, False)
        times, memory, _ = _priced(graph, replace(plan, compute=compute, storage=storage, search=search))
        return times["step"], memory["peak"]

    found = reasons((name,), {}, plan.compute, plan.storage, step, plan.chip.capacity, reprice)[name]
    return f"{decided[0] if decided else ''}{found}"


def _priced(graph: Graph, plan: Layouts) -> tuple[dict[str, float], dict[str, int], list[dict[str, Any]]]:
    placed = placing.placed(graph, plan)
    times = asdict(summary.times(graph, placed, plan))
    collectives = [each.row() for each in summary.collectives(placed, plan)]
    return times, summary.memory(graph, plan, placed), collectives


def _choices(graph: Graph, plan: Layouts, name: str) -> Iterator[tuple[Role, tuple[str, ...]]]:
    """Every other set of mesh axes for a name, in use and, if the state has it, at rest."""
    axes = [axis for axis, size in plan.mesh.as_dict().items() if size > 1]
    most = len(axes) if len(axes) <= MOST_AXES else 2
    sets = [each for count in range(most + 1) for each in combinations(axes, count)]
    used = plan.compute.get(name, ())
    kept = tuple(axis for axis in plan.storage.get(name, ()) if axis not in used)
    for each in sets:
        if set(each) != set(used):
            yield "compute", each
    state = {each for before, _ in graph.carried for each in graph.inputs[before].type.names}
    if name in state:
        for each in sets:
            if not set(each) & set(used) and set(each) != set(kept):
                yield "storage", each


def _beside(graph: Graph, name: str, role: Role) -> list[str]:
    """The names that share an array with a name: of the state, or any."""
    carried = [graph.inputs[before] for before, _ in graph.carried]
    arrays = carried if role == "storage" else graph.values()
    found = dict.fromkeys(each for value in arrays if name in value.type.names for each in value.type.names)
    return [each for each in found if each != name]


def _changed(plan: Layouts, name: str, role: Role, axes: tuple[str, ...]) -> Layouts:
    used = axes if role == "compute" else plan.compute.get(name, ())
    extra = axes if role == "storage" else plan.storage.get(name, ())
    kept = (*used, *(axis for axis in extra if axis not in used))
    order = plan.order if name in plan.order else (*plan.order, name)
    compute, storage = _with(plan.compute, name, used), _with(plan.storage, name, kept)
    # Nothing is said of rules that are in vain here: that is what the price shows.
    search = plan.search or Search(0, 0.0, False)
    return replace(plan, order=order, compute=compute, storage=storage, search=search)


def _with(rules: Mapping[str, tuple[str, ...]], name: str, axes: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    found = {each: over for each, over in rules.items() if each != name}
    return {**found, name: axes} if axes else found
