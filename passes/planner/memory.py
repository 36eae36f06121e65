"""How much memory a plan needs on each device, and when.

The graph is walked once in order. A value that exists in memory (see `traffic`) is allocated where it is made and freed
after its last reader; a loop's body adds its own values to what is live around it. State is updated in place (the step
donates it). The peak is the largest sum on the way. Values are counted by type and role, so a whole batch of candidate
plans is evaluated at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ir.graph import Graph, Node, Value
from ir.ops import entered, op_of
from passes.planner.traffic import traffic
from passes.sharding.roles import Roles
from passes.sharding.rules import Role, Wish, sizes_of

MemoryKind = Literal["parameters", "optimizer", "gradients", "activations", "temporaries"]
MEMORY_KINDS: tuple[MemoryKind, ...] = ("parameters", "optimizer", "gradients", "activations", "temporaries")


@dataclass(frozen=True, slots=True)
class Event:
    """`sign` times the bytes of an entry (a type in a role) come or go."""

    sign: int
    entry: int
    kind: MemoryKind


@dataclass(frozen=True, slots=True)
class Entry:
    """A distinct kind of value: its names with sizes, its bytes over all devices, its role."""

    sizes: tuple[tuple[str, int], ...]
    bytes: int
    role: Role

    def local(self, wish: Wish) -> Any:
        """Bytes on one device."""
        result: Any = self.bytes
        for mask in wish.layout(dict(self.sizes), self.role).values():
            result = result // wish.mesh.group(mask)
        return result


@dataclass
class MemoryProgram:
    """What is allocated and freed, in order."""

    entries: list[Entry] = field(default_factory=list[Entry])
    events: list[Event] = field(default_factory=list[Event])

    def peak(self, local: Callable[[Entry], Any]) -> tuple[Any, dict[MemoryKind, Any]]:
        """The peak, and what it is made of (the latter for single plans)."""
        sizes = [local(entry) for entry in self.entries]
        running: Any = 0
        highest: Any = 0
        parts: dict[MemoryKind, Any] = dict.fromkeys(MEMORY_KINDS, 0)
        at_peak = dict(parts)
        for event in self.events:
            change = event.sign * sizes[event.entry]
            running = running + change
            if np.ndim(running) == 0:
                parts[event.kind] += change
                if running > highest:
                    at_peak = dict(parts)
            highest = np.maximum(highest, running)
        return highest, at_peak


def memory_program(graph: Graph, roles: Roles) -> MemoryProgram:
    """The memory program of a whole step."""
    program = MemoryProgram()
    writer = _Writer(program, roles, _forward_readers(graph))
    state = {graph.inputs[before].id for before, _ in graph.carried}
    for value in graph.inputs:
        writer.allocate(value, writer.state_kind(value) if value.id in state else "activations")
    updated = {graph.outputs[after] for _, after in graph.carried}
    in_place = {operand.id for operand in updated if isinstance(operand, Value)}
    writer.scope(graph, in_place, scanned=False)
    return program


def _forward_readers(graph: Graph) -> set[int]:
    """Ids of the inputs that the forward or backward pass reads: parameters; other state is the optimizer's."""
    return {value.id for node in graph.nodes if node.phase != "update" for value in node.value_inputs}


class _Writer:
    def __init__(self, program: MemoryProgram, roles: Roles, parameters: set[int]) -> None:
        self.program = program
        self.roles = roles
        self.parameters = parameters
        self.index: dict[Entry, int] = {}

    def state_kind(self, value: Value) -> MemoryKind:
        return "parameters" if value.id in self.parameters else "optimizer"

    def entry(self, value: Value, role: Role) -> int:
        entry = Entry(tuple(sizes_of(value.type).items()), value.type.bytes, role)
        if entry not in self.index:
            self.index[entry] = len(self.program.entries)
            self.program.entries.append(entry)
        return self.index[entry]

    def allocate(self, value: Value, kind: MemoryKind) -> None:
        self.program.events.append(Event(1, self.entry(value, self.roles[value.id]), kind))

    def free(self, value: Value, kind: MemoryKind) -> None:
        self.program.events.append(Event(-1, self.entry(value, self.roles[value.id]), kind))

    def scope(self, graph: Graph, standing: set[int], scanned: bool) -> None:
        """The events of a body. Its inputs, and results in `standing`, are accounted for outside it."""
        kept = traffic(graph).kept
        last = _last_use(graph, kept)
        live: dict[int, tuple[Value, MemoryKind]] = {}
        for i, node in enumerate(graph.nodes):
            gathered = list(self._gathered(node))
            for value in gathered:
                self.program.events.append(Event(1, self.entry(value, "compute"), "temporaries"))
            for body in entered(node):
                self.scope(body, set(), op_of(node).scans(node))
            for value in node.outputs:
                if value.id in kept and value.id not in standing:
                    kind = self._kind(node, value, scanned)
                    self.allocate(value, kind)
                    live[value.id] = (value, kind)
            for value in gathered:
                self.program.events.append(Event(-1, self.entry(value, "compute"), "temporaries"))
            for identity in [identity for identity in live if last.get(identity, i) <= i]:
                self.free(*live.pop(identity))
        for value, kind in live.values():
            self.free(value, kind)

    def _gathered(self, node: Node) -> Iterator[Value]:
        """Stored operands that a contraction or a lookup needs whole for a moment."""
        if op_of(node).reads_whole_parameters and node.phase != "update":
            for value in node.value_inputs:
                if self.roles[value.id] == "storage":
                    yield value

    def _kind(self, node: Node, value: Value, scanned: bool) -> MemoryKind:
        if self.roles[value.id] == "storage":
            return "gradients" if node.phase == "backward" else "temporaries"
        return "temporaries" if scanned or node.phase != "forward" else "activations"


def _last_use(graph: Graph, kept: frozenset[int]) -> dict[int, int]:
    """Where each value is read last. A fused operation reads its operands when what it is fused into is computed."""
    last = {operand.id: len(graph.nodes) for operand in graph.outputs if isinstance(operand, Value)}
    for i, node in reversed(list(enumerate(graph.nodes))):
        fused = op_of(node).fusible and not any(value.id in kept for value in node.outputs)
        read = max([i, *(last.get(value.id, i) for value in node.outputs)]) if fused else i
        for value in node.value_inputs:
            last[value.id] = max(last.get(value.id, read), read)
    return last
