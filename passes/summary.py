"""What a placed graph says in numbers: its collectives, its memory, its predicted time."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ir.graph import Graph, Node
from ir.ops import OPS, entered, op_of
from passes.hoist_gathers import kept_bytes
from passes.planner.allocations import memory_program
from passes.planner.beside import behind_products
from passes.planner.cost import operation_seconds
from passes.planner.filling import Filling, NextName, filling, next_name
from passes.planner.layouts import Layouts, Subject
from passes.planner.memory import MEMORY_KINDS
from passes.planner.moved import Moving
from passes.planner.problem import Problem
from passes.planner.regather import regathers
from passes.planner.rounds import KIND, goes_round, rounds
from passes.retype import laid_out
from passes.sent import Sending, Sent
from passes.sharding.moves import PARAMETER
from passes.sharding.pending import pending_bytes
from passes.sharding.roles import Roles, assign_roles

KEY = "key"
"""What is moving where values go round between devices while an operation computes."""
_Key = tuple[str, str, tuple[str, ...], int, str, str, str, Sent | None, bool]
"""(kind, axis, mesh axes, bytes, source, phase, what is moving, what is sent, whether behind a product) of a
collective."""


@dataclass(frozen=True)
class Collective:
    """Equal collectives of a step: `bytes` per group and occurrence (before reducing, after gathering), `count` with
    loop trips; what is `sent` for each, None where that is sent with another or nothing is; of all of them together the
    `seconds` of what is sent, and of these the `waited`: not beside operations, whatever comes next."""

    kind: str
    axis: str
    mesh_axes: tuple[str, ...]
    count: int
    bytes: int
    seconds: float
    waited: float
    source: str
    phase: str
    moving: str
    sent: Sent | None

    def row(self) -> dict[str, Any]:
        """As JSON can hold it: a row of docs/compile.md."""
        sent = {**asdict(self.sent), "mesh_axes": list(self.sent.mesh_axes)} if self.sent is not None else None
        return {**asdict(self), "mesh_axes": list(self.mesh_axes), "sent": sent}


@dataclass(frozen=True)
class Times:
    """Seconds of a step: arithmetic and memory, all communication, the part of it that is not hidden, the sum; and the
    share of parameters' and gradients' communication that is trusted to be hidden."""

    compute: float
    communication: float
    exposed: float
    step: float
    overlap: float

    @property
    def bound(self) -> str:
        """What most of the step waits for."""
        return "compute" if self.compute >= self.exposed else "communication"


def collectives(placed: Graph, plan: Layouts) -> list[Collective]:
    """The collectives of a step, equal ones together, in program order."""
    network = plan.physical
    merged: dict[_Key, int] = {}
    _collect(placed, 1, merged, plan.mesh.as_dict(), Sending.of(placed, plan))
    result: list[Collective] = []
    for key, count in merged.items():
        kind, axis, mesh_axes, volume, source, phase, moving, sent, beside = key
        seconds = waited = 0.0
        if sent is not None:
            how, mask = KIND if moving == KEY else sent.kind, plan.mesh.mask(sent.mesh_axes)
            seconds = float(network.seconds(how, mask, sent.bytes, awaited(moving))) * count
            if awaited(moving):
                waited = seconds
            elif moving != KEY:
                waited = float(network.waited_seconds(how, mask, sent.bytes, beside)) * count
        told = kind, axis, mesh_axes, count, volume, seconds, waited, source, phase, moving, sent
        result.append(Collective(*told))
    return result


def awaited(moving: str) -> bool:
    """Whether the next operation waits for a collective of what is moving."""
    return moving == "activation"


def _collect(graph: Graph, times: int, merged: dict[_Key, int], sizes: Mapping[str, int], sending: Sending) -> None:
    for node, behind in zip(graph.nodes, behind_products(graph), strict=True):
        if op_of(node).communicates:
            for kind, volume, sent in sending.for_node(node):
                key = _key(node, kind, volume, sent, behind and sending.sends is not None)
                merged[key] = merged.get(key, 0) + times
        for body in entered(node):
            _collect(body, times * node.count("trips", 1), merged, sizes, sending)
        for body, turns in op_of(node).rounds(node, sizes):
            _collect(body, times * turns, merged, sizes, sending)


def _key(node: Node, kind: str, volume: int, sent: Sent | None, behind: bool) -> _Key:
    names, source, moving = ",".join(node.words("axis")), str(node.source or ""), str(node.attrs["moving"])
    beside = behind and moving == PARAMETER and sent is not None and OPS[sent.kind].gathers
    return (kind, names, node.words("mesh"), volume, source, node.phase, moving, sent, beside)


def times(graph: Graph, placed: Graph, plan: Layouts) -> Times:
    """Predicted seconds of a step. `graph` is the canonical graph that was planned, `placed` the same with layouts."""
    cost = Problem.under(graph, plan).cost(plan.rules)
    found = collectives(placed, plan)
    exposed = sum(each.waited for each in found)
    ring = sum(each.seconds for each in found if each.moving == KEY)
    hidden = sum(each.seconds for each in found) - exposed - ring
    compute, overlap = float(cost.compute), plan.chip.overlap
    waited = exposed + waiting(graph, plan)
    visible = waited + hidden - min(overlap.state * hidden + overlap.activations * waited, compute)
    return Times(compute, exposed + ring + hidden, visible, compute + visible, overlap.state)


def waiting(graph: Graph, plan: Layouts) -> float:
    """Seconds of a step that devices wait for what goes round (`passes.planner.rounds`)."""
    if not any(goes_round(node) for node in graph.walk()):
        return 0.0
    roles, network = assign_roles(graph, stored=plan.stored), plan.physical
    return sum(
        float(rounds(node, seconds / trips, roles, plan.rules, network).exposed) * trips
        for node, seconds, trips in _Timed.of(graph, roles, plan).scope(graph, 1.0)
        if goes_round(node)
    )


@dataclass(frozen=True)
class Rate:
    """How fast a step goes, predicted.

    Attributes:
        examples: of a step: the size of the batch's leading axis; None where it has no batch.
        tokens: elements of the largest array of whole numbers in the batch; None where it has none.
        examples_per_second, tokens_per_second: over all devices.
        flops: operations that the model asks for in a step, on all devices, nothing counted twice.
        mfu: those as a share of what the chips could do in bf16 in that time ("model FLOPs utilization").
    """

    examples: int | None
    tokens: int | None
    examples_per_second: float | None
    tokens_per_second: float | None
    flops: int
    mfu: float


def rate(subject: Subject, plan: Layouts, step: float) -> Rate:
    """How fast a step of so many seconds is."""
    graph = subject.graph
    carried = {before for before, _ in graph.carried}
    batch = [value.type for i, value in enumerate(graph.inputs) if i not in carried and value.type.dims]
    examples = batch[0].dims[0].size if batch and carried else None
    counted = [type_.elements for type_ in batch if type_.dtype.startswith(("int", "uint")) and carried]
    tokens = max(counted, default=None)
    peak = plan.chip.flops * plan.mesh.devices

    def per_second(count: int | None) -> float | None:
        return count / step if count is not None and step else None

    mfu = subject.flops / (step * peak) if step else 0.0
    return Rate(examples, tokens, per_second(examples), per_second(tokens), subject.flops, mfu)


@dataclass(frozen=True)
class Operation:
    """The operations of one source line: `seconds` of all of them in a step, on one device, communication apart."""

    source: str | None
    seconds: float


def operation_times(graph: Graph, plan: Layouts) -> list[Operation]:
    """Predicted seconds by source line, the most first: how `Times.compute` is made up.

    Args:
        graph: the canonical graph that was planned.
    """
    found: dict[str | None, float] = {}
    for node, seconds in timed(graph, plan):
        source = str(node.source) if node.source is not None else None
        found[source] = found.get(source, 0.0) + seconds
    return [Operation(source, seconds) for source, seconds in sorted(found.items(), key=lambda item: -item[1])]


def timed(graph: Graph, plan: Layouts) -> Iterator[tuple[Node, float]]:
    """Every operation of a canonical graph, bodies included, with its seconds in a step, all trips of loops counted."""
    for node, seconds, _ in _Timed.of(graph, assign_roles(graph, stored=plan.stored), plan).scope(graph, 1.0):
        yield node, seconds


@dataclass(frozen=True)
class _Timed:
    roles: Roles
    plan: Layouts
    moving: Moving

    @classmethod
    def of(cls, graph: Graph, roles: Roles, plan: Layouts) -> "_Timed":
        return cls(roles, plan, Moving.of(graph, roles, plan.chip.memory))

    def scope(self, graph: Graph, times: float) -> Iterator[tuple[Node, float, float]]:
        """Every operation of a body that runs so often, its seconds in a step, and how often a device does it."""
        roles, plan = self.roles, self.plan
        for node, moved in zip(graph.nodes, self.moving.in_scope(graph), strict=True):
            if not entered(node):
                yield node, float(operation_seconds(node, moved, roles, plan.rules, plan.chip)) * times, times
            for body in entered(node):
                yield from self.scope(body, times * op_of(node).trips(node, plan.mesh.devices))


def what_fills(graph: Graph, plan: Layouts) -> list[Filling]:
    """What is held on one device when most is, the most first."""
    roles = assign_roles(graph, stored=plan.stored)
    program = memory_program(graph, roles, regathers(graph, plan, roles), plan.chip.memory, plan.mesh)
    return filling(program, plan.rules, plan.chip)


def advice(graph: Graph, plan: Layouts) -> NextName | None:
    """The name to shard next under a plan."""
    problem = Problem.under(graph, plan)
    return next_name(problem, plan.rules)


def memory(graph: Graph, plan: Layouts, placed: Graph | None = None) -> dict[str, int]:
    """Bytes on one device at the peak of a step, by kind; `peak` is their sum, `capacity` what the chip has, `on_chip`
    the most that temporaries take on the chip.

    Args:
        graph: the canonical graph that was planned.
        placed: the same after all passes; with it what is kept for loops is counted, pending sums and gathered values.
    """
    roles = assign_roles(graph, stored=plan.stored)
    chip = plan.chip.memory
    program = memory_program(graph, roles, regathers(graph, plan, roles), chip, plan.mesh)
    peak, parts = program.peak(plan.rules, chip)
    found = {kind: int(parts[kind]) for kind in MEMORY_KINDS}
    if placed is not None:
        sizes = plan.mesh.as_dict()
        found["gradients"] += pending_bytes(placed, sizes)
        planned = {value.id: value.type for value in laid_out(graph, plan, roles).values()}
        found["temporaries"] += kept_bytes(placed, planned, sizes)
    kept = sum(found.values()) - sum(int(parts[kind]) for kind in MEMORY_KINDS)
    on_chip = program.on_chip(plan.rules, chip)
    return {**found, "on_chip": on_chip, "peak": int(peak) + kept, "capacity": plan.chip.capacity}
