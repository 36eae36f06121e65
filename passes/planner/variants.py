"""The outer search: over whether keys go round, what the backward pass computes again, and what axes are padded to, the
best plan of each, and of these the fastest.

A step computes again nothing, all that its loops over layers make, or all but what products make of one name
(`passes.rematerialize`). Each is a graph of its own, whose best plan is found with proof, so the fastest of these plans
is the optimum of all of them. Names that keep the same values are one.

It is searched where it is asked for, and where a step as it is fits in no way. Keys that go round
(`passes.ring_attention`) are tried where the best plan of gathered keys shards the positions of an attention, and where
none fits, or only one that computes again; of their plans only faster ones are looked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from math import inf

from ir.graph import Graph, Operand
from ir.ops import op_of
from passes import errors, require
from passes.as_planned import as_planned
from passes.canonicalize import canonicalize
from passes.errors import gib
from passes.hardware.chip import Chip, chip_of
from passes.pad_axes import padded
from passes.placing import placed
from passes.planner.attention import AS_IT_IS as GATHERED
from passes.planner.attention import ATTENTION, RING
from passes.planner.constraints import ANY, PADDING, REMAT, Constraints, Given
from passes.planner.cost import step_seconds
from passes.planner.explain import longer
from passes.planner.fastest import fastest, step_of
from passes.planner.layouts import Search
from passes.planner.paddings import paddings, written
from passes.planner.plan import Plan
from passes.planner.problem import Problem
from passes.planner.remat import ALL, AS_IT_IS, NOTHING, Remat, shown
from passes.planner.solve import solve
from passes.planner.subject import subject_of
from passes.planner.time_left import TimeLeft, time_left
from passes.rematerialize import check_remat, rematerialized, saveable, what_is_saved
from passes.ring_attention import check_attention, in_rings, may_ring, ring_axes
from passes.sharding.iteration_space import space_of
from passes.sharding.mesh import DeviceMesh, MeshLike
from passes.sharding.roles import assign_roles
from passes.summary import memory, times

_EVEN = 0.005
_UNLIMITED = 1 << 60


def plan(
    graph: Graph,
    mesh: MeshLike,
    hardware: str | Chip = "v5e",
    *,
    time_limit: float | None = None,
    pin: Given | None = None,
    forbid: Given | None = None,
) -> Plan:
    """The fastest plan of the space (see `passes.planner.space`) that fits in the chip's memory.

    Args:
        pin: names that are sharded over just these mesh axes, in use or at rest: `{"embed": "data"}`; with
            `"stored"` the kinds of state that are stored (`STATE_KINDS`), or "any" for whichever of ZeRO-1, 2 and 3 is
            best, all if that is left out. With `"padding"` the names that are padded where the mesh does not divide
            them, or `any` for the one whose padding is worth it, if there is one. With `"remat"` what the backward
            pass computes again: `none`, `full`, names whose products are kept, or `any` for whichever is fastest. Left
            out, a step stays as it is if it fits. With `"attention"` `ring`, for keys that go round where positions are
            sharded, or `gathered`; left out, whichever is faster.
        forbid: names that do not take these mesh axes in either role: `{"vocab": "model"}`.
        time_limit: seconds of this process's time after which the best plan so far is taken; `plan.search` says by how
            much it could be slower than the optimum. Left out, the search goes on until the optimum is proven: only
            so does the plan not depend on how fast a machine is.

    Raises `PlanError` for a bad mesh, unknown hardware, pins that contradict each other or the step, or where nothing
    fits.
    """
    layout = DeviceMesh.of(mesh)
    constraints = Constraints.of(pin, forbid, layout)
    return best_plan(canonicalize(require.graph(graph, "plan")), layout, hardware, time_limit, constraints)


def best_plan(
    graph: Graph,
    layout: DeviceMesh,
    hardware: str | Chip,
    time_limit: float | None = None,
    constraints: Constraints | None = None,
) -> Plan:
    """The fastest plan of a canonical graph, with what it computes again.

    Raises:
        PlanError: nothing fits, or a name is of nothing that could be kept.
    """
    given, left = constraints or Constraints(), time_left(time_limit)
    if given.attention == RING:
        check_attention(graph, RING)
        return with_attention_reason(graph, _ringed(graph, layout, hardware, left, given), "pinned; ")
    if given.attention == ANY and layout.devices > 1 and may_ring(graph):
        return _fastest_attention(graph, layout, hardware, left, given)
    return _best(graph, layout, hardware, left, given)


def _best(
    graph: Graph,
    layout: DeviceMesh,
    hardware: str | Chip,
    left: TimeLeft,
    given: Constraints,
    limit: float = inf,
) -> Plan:
    """The best plan of a canonical graph whose attention is as it is; of those that take less than a limit."""
    if given.padding:
        return _padded(graph, layout, hardware, left, given)

    def solved(remat: Remat) -> Plan:
        found = solve(rematerialized(graph, remat), layout, hardware, left(), given, limit)
        return replace(found, remat=remat)

    if given.remat == (ANY,):
        found, _ = fastest({remat: partial(solved, remat) for remat in policies(graph)}, left)
        return with_reason(graph, found)
    if given.remat != AS_IT_IS:
        check_remat(graph, given.remat)
        return with_reason(graph, solved(given.remat), "pinned; ")
    try:
        return solved(AS_IT_IS)
    except errors.NothingFaster:
        raise
    except errors.DoesNotFit as error:
        others = [remat for remat in policies(graph) if remat != NOTHING]
        try:
            found, _ = fastest({remat: partial(solved, remat) for remat in others}, left)
        except errors.DoesNotFit:
            raise error from None
        return with_reason(graph, found, "nothing fits with none; ")


def _ringed(
    graph: Graph,
    layout: DeviceMesh,
    hardware: str | Chip,
    left: TimeLeft,
    given: Constraints,
    limit: float = inf,
) -> Plan:
    """The best plan of a canonical graph whose keys go round; of those that take less than a limit."""
    return replace(_best(in_rings(graph, RING), layout, hardware, left, given, limit), attention=RING)


def _fastest_attention(
    graph: Graph, layout: DeviceMesh, hardware: str | Chip, left: TimeLeft, given: Constraints
) -> Plan:
    """The best plan with keys gathered; or with keys that go round, where that may be faster, and is."""
    try:
        gathered = _best(graph, layout, hardware, left, given)
    except errors.DoesNotFit as error:
        try:
            found = _ringed(graph, layout, hardware, left, given)
        except errors.PlanError:
            raise error from None
        return with_attention_reason(graph, found, "nothing fits with keys gathered; ")
    again = gathered.remat not in (AS_IT_IS, NOTHING) and given.remat == AS_IT_IS
    if not again and not _shards_positions(gathered):
        return gathered
    if left() == 0.0:
        return _not_beaten(gathered, 0.0)
    try:
        ring = _ring_that_beats(graph, layout, hardware, left, given, gathered, again)
    except errors.NothingFaster as error:
        return _not_beaten(gathered, error.bound)
    except errors.PlanError:  # what is pinned is the axis of the keys
        return gathered
    if not _shards_positions(ring):  # nothing goes round
        return _not_beaten(gathered, step_of(gathered))
    found, _ = fastest({GATHERED: lambda: gathered, RING: lambda: ring})
    return with_attention_reason(graph, found) if found.attention else found


def _ring_that_beats(
    graph: Graph, layout: DeviceMesh, hardware: str | Chip, left: TimeLeft, given: Constraints, plan: Plan, again: bool
) -> Plan:
    """The best plan whose keys go round, of those that take less than another plan.

    Args:
        again: whether the other one computes something again because nothing else fits. Then this may, too.

    Raises:
        NothingFaster: there is none.
    """
    limit = _searched_for(plan)
    try:
        return _ringed(graph, layout, hardware, left, given, limit)
    except errors.NothingFaster:
        if not again:
            raise
    return _ringed(graph, layout, hardware, left, replace(given, remat=(ANY,)), limit)


def _searched_for(plan: Plan) -> float:
    """What a search took a plan to need, or what it needs if that is more: where more sums are joined than a search
    reckons with, a step is faster than it is priced."""
    assert plan.subject is not None
    cost = Problem.under(plan.subject.graph, plan).cost(plan.rules)
    priced = float(step_seconds(cost.compute, cost.activations, cost.hidden, plan.chip.overlap))
    return max(priced, step_of(plan))


def _not_beaten(plan: Plan, bound: float) -> Plan:
    """A plan, when others that none takes less than `bound` have been searched too."""
    if plan.search is None:
        return plan
    step = step_of(plan)
    found = step * (1 - plan.search.gap)
    return replace(plan, search=Search.joined([plan.search], step, min(bound, found) if bound < step else found))


def _shards_positions(plan: Plan) -> bool:
    """Whether a plan shards the positions of an attention whose keys could go round: those of its queries, or of its
    keys, as where there is no room for all of them on one device."""
    assert plan.subject is not None
    graph = plan.subject.graph
    roles, axes = assign_roles(graph, stored=plan.stored), ring_axes(graph)
    if any(plan.compute.get(keys) for keys in axes):
        return True
    nodes = [node for node in graph.walk() if op_of(node).goes_round]
    names = {*axes.values(), *(name for node in nodes for name in node.names("ring"))}
    spaces = (space_of(node, roles) for node in nodes)
    layouts = (plan.rules.layout(space.sizes, space.role, space.blocked) for space in spaces)
    return any(int(layout.get(name, 0)) for layout in layouts for name in names)


def with_attention_reason(graph: Graph, plan: Plan, before: str = "") -> Plan:
    """A plan of a canonical graph whose keys go round with the reason: what gathering them would cost under the same
    layouts.

    Args:
        before: words in front.
    """
    if not plan.attention:
        return plan
    why = _beside(graph, plan, "keys gathered", replace(plan, attention=GATHERED))
    return replace(plan, reasons={**plan.reasons, ATTENTION: before + why})


def _beside(graph: Graph, plan: Plan, what: str, other: Plan) -> str:
    """What another plan, one with `what`, needs where that is too much; else how long its step is beside this one's."""
    step, _ = _priced(graph, plan)
    its, peak = _priced(graph, other)
    if peak > plan.chip.capacity:
        return f"with {what} a device needs {gib(peak)} of {gib(plan.chip.capacity)}"
    change = its / step - 1 if step else 0.0
    less = f"{-change:.0%} less" if change < 0 else longer(change)
    return f"with {what} a step takes {less if abs(change) > _EVEN else 'the same time'}"


def _padded(graph: Graph, layout: DeviceMesh, hardware: str | Chip, left: TimeLeft, given: Constraints) -> Plan:
    """The best plan of a canonical graph some of whose axes may be padded.

    Raises:
        PlanError: nothing fits, or a name is of nothing that could be padded.
    """
    rest = replace(given, padding=())

    def solved(sizes: Mapping[str, int]) -> Plan:
        return replace(_best(padded(graph, sizes), layout, hardware, left, rest), padding=sizes)

    tried = {written(sizes): sizes for sizes in paddings(graph, layout, given)}
    found, steps = fastest({key: partial(solved, sizes) for key, sizes in tried.items()}, left)
    why = _why_padded(written(found.padding), steps, () in tried)
    return replace(found, reasons={**found.reasons, PADDING: why})


def _why_padded(chosen: tuple[str, ...], steps: Mapping[tuple[str, ...], float], may_be_none: bool) -> str:
    """What the step takes without padding; where that is the best, with it.

    Args:
        steps: seconds under each padding that fits, none among them.
    """
    others = {key: step for key, step in steps.items() if bool(key) != bool(chosen)}
    if not others:
        if chosen:
            return "nothing fits without" if may_be_none else "what is pinned cannot be had without"
        return "nothing else fits" if len(steps) > 1 else ""
    key = min(others, key=lambda key: others[key])
    change = others[key] / steps[chosen] - 1
    with_it = f"with {', '.join(key)}" if key else "without"
    return f"{with_it}, a step takes {longer(change) if change > _EVEN else 'the same time'}"


def plan_alone(graph: Graph, layout: DeviceMesh, hardware: str | Chip, remat: Remat = AS_IT_IS) -> Plan:
    """The plan of a canonical graph on one device, where there is nothing to shard.

    Args:
        remat: `any` is for the fastest policy that fits, and the leanest one where none does: any size may be tried.

    Raises:
        PlanError: a name is of nothing that could be kept.
    """

    def made(remat: Remat) -> Plan:
        subject = subject_of(rematerialized(graph, remat))
        return replace(Plan.by_hand(layout, {}, hardware=hardware, remat=remat), subject=subject)

    if remat != (ANY,):
        check_remat(graph, remat)
        return with_reason(graph, made(remat), "pinned; ")
    every = {remat: made(remat) for remat in policies(graph)}
    fitting = [remat for remat, plan in every.items() if fits(plan)]
    leanest = every.get(ALL, every[NOTHING])
    chosen = fastest({remat: partial(every.__getitem__, remat) for remat in fitting})[0] if fitting else leanest
    return replace(with_reason(graph, chosen), search=None)


def with_reason(graph: Graph, plan: Plan, before: str = "") -> Plan:
    """A plan of a canonical graph with the reason of its policy: what `none` would cost under the same layouts, and for
    `none` what `full` would.

    Args:
        before: words in front.
    """
    if plan.remat == AS_IT_IS:
        return plan
    other = ALL if plan.remat == NOTHING else NOTHING
    why = _beside(graph, plan, shown(other), replace(plan, remat=other))
    return replace(plan, reasons={**plan.reasons, REMAT: before + why})


def _priced(graph: Graph, plan: Plan) -> tuple[float, int]:
    again = as_planned(graph, plan)
    done = placed(again, plan)
    return times(again, done, plan).step, memory(again, plan, done)["peak"]


def unlimited_step(
    graph: Graph,
    layout: DeviceMesh,
    hardware: str | Chip,
    plan: Plan | None = None,
    pin: Given | None = None,
    forbid: Given | None = None,
) -> float:
    """Seconds of the fastest step of a canonical graph on a chip of unlimited memory, which none can beat.

    Args:
        plan: the one to follow, where it is given.
    """
    chip = replace(chip_of(hardware), capacity=_UNLIMITED)
    constraints = Constraints.of(pin, forbid, layout)
    if plan is None and layout.devices == 1 and not constraints.of_names:
        plan = plan_alone(graph, layout, chip, constraints.remat)
    elif plan is None:
        plan = best_plan(graph, layout, chip, None, constraints)
    step, _ = _priced(graph, replace(plan, custom_chip=chip))
    return step


def policies(graph: Graph) -> Iterator[Remat]:
    """What may be computed again of a canonical graph: nothing, all but what one name keeps, or all. Of names that keep
    the same one is tried: the rarest of those that the batch does not have."""
    yield NOTHING
    seen: set[frozenset[Operand]] = set()
    carried = {before for before, _ in graph.carried}
    given = {name for i, value in enumerate(graph.inputs) if i not in carried for name in value.type.names}
    often = Counter(name for value in graph.values() for name in set(value.type.names))
    for name in sorted(saveable(graph), key=lambda name: (name in given or not often[name], often[name], name)):
        saved = what_is_saved(graph, frozenset([name]))
        if saved not in seen:
            seen.add(saved)
            yield (name,)
    if seen:
        yield ALL


def fits(plan: Plan) -> bool:
    """Whether a plan that knows its step fits in the memory of its chip."""
    assert plan.subject is not None
    graph = plan.subject.graph
    needs = memory(graph, plan, placed(graph, plan))
    return needs["peak"] <= needs["capacity"]
