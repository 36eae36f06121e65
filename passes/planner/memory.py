"""How much memory a plan needs on each device, and when.

The graph is walked once in order. A value that exists in memory (see `traffic`) is allocated where it is made and freed
after its last reader; a loop's body adds its own values to what is live around it. State is updated in place (the step
donates it). A stored operand that a product needs gathered, and a gradient not yet scattered, are there in full for
as long as that takes. The peak is the largest sum on the way. Values are counted by type and role, so a whole batch of
candidate plans is evaluated at once.

What a chip makes of it (`ChipMemory`): a TPU keeps arrays in tiles, so that a dim of 64 takes the room of 128; and XLA
keeps temporaries in on-chip memory as long as all of them fit. Once they do not, those that would save most are too
large for it, so all are counted in the memory of the device. What is there before and after the step always is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from ir.graph import Graph, Node, Value
from ir.ops import entered, op_of
from ir.ops.op import params_of
from ir.types import Dim, item_size
from passes.hardware.memory import PLAIN_MEMORY, ChipMemory
from passes.planner.traffic import traffic
from passes.sharding.iteration_space import node_role, space_of
from passes.sharding.mesh import same_masks
from passes.sharding.roles import Roles, read_by_passes
from passes.sharding.rules import Role, ShardingRules, sizes_of

MemoryKind = Literal["parameters", "optimizer", "gradients", "activations", "temporaries"]
MEMORY_KINDS: tuple[MemoryKind, ...] = ("parameters", "optimizer", "gradients", "activations", "temporaries")


_At = dict[int, list[int]]
"""Entries, by number, by the position of a node."""


@dataclass(frozen=True, slots=True)
class Event:
    """`sign` times the bytes of an entry (a type in a role) come or go. What `stays` is there before or after the step,
    so it is in the memory of the device and not on the chip; what is `stacked` a loop reads or writes in every trip;
    what is `looped` a trip makes for itself."""

    sign: int
    entry: int
    kind: MemoryKind
    stays: bool = False
    stacked: bool = False
    looped: bool = False

    @property
    def sort(self) -> int:
        """0 for what is there before or after the step, 1 for what comes and goes, 2 for what a loop stacks, 3 for what
        is in its body."""
        return 0 if self.stays else 2 if self.stacked else 3 if self.looped else 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where an operation has a value: the names of its dims there, and the names and sizes, role and blocked names of
    the iteration space that says how they are sharded."""

    names: tuple[str | None, ...]
    sizes: tuple[tuple[str, int], ...]
    role: Role
    blocked: tuple[str, ...] = ()

    @classmethod
    def of(cls, value: Value, node: Node, roles: Roles) -> "Place":
        """Where a node without bodies has an operand or a result."""
        space = space_of(node, roles)
        twin = node.outputs[0] if op_of(node).renames else value
        names = _first_names([dim.name for dim in twin.type.dims])
        return cls(names, tuple(sorted(space.sizes.items())), space.role, tuple(sorted(space.blocked)))

    @classmethod
    def inside(cls, value: Value, twin: Value, roles: Roles) -> "Place":
        """Where a body has an operand that is `twin` in it: dim by dim, from the last."""
        dims = value.type.dims
        twins = twin.type.dims[max(0, len(twin.type.dims) - len(dims)) :]
        pairs = zip(((None,) * (len(dims) - len(twins)) + twins), dims, strict=True)
        names = [there.name if there is not None and there.size == dim.size else None for there, dim in pairs]
        return cls(_first_names(names), tuple(sorted(sizes_of(twin.type).items())), roles[twin.id])


@dataclass(frozen=True, slots=True)
class Entry:
    """A distinct kind of value: its dims (name and size), the bytes of an element, and its role; where it stands for
    whole copies of a stored one, gathered or not yet scattered, the places that these are in; whether they are there
    only where what each device makes in full is stored over all, beside its own part; whether its last dim is
    innermost; and whether it is the record of such copies."""

    dims: tuple[tuple[str | None, int], ...]
    item: int
    role: Role
    copies: tuple[Place, ...] = ()
    over_all: bool = False
    by_rows: bool = False
    record: bool = False

    def local(self, rules: ShardingRules, chip: ChipMemory = PLAIN_MEMORY) -> Any:
        """Bytes on one device; of copies, of each that differs from what is stored and from the others."""
        sizes: dict[str, int] = {}
        for name, size in self.dims:
            if name is not None:
                sizes.setdefault(name, size)
        layout = rules.layout(sizes, self.role)
        masks = [layout.get(name, 0) if name is not None else 0 for name in self._names()]
        if self.copies:
            return self._copied(rules, chip, masks)
        return self._bytes(rules, chip, masks)

    def _names(self) -> tuple[str | None, ...]:
        return _first_names([name for name, _ in self.dims])

    def _bytes(self, rules: ShardingRules, chip: ChipMemory, masks: Sequence[Any]) -> Any:
        lengths = [size // rules.mesh.group(mask) for (_, size), mask in zip(self.dims, masks, strict=True)]
        return chip.bytes(lengths, self.item, self.by_rows)

    def _copied(self, rules: ShardingRules, chip: ChipMemory, stored: Sequence[Any]) -> Any:
        total: Any = 0
        there = [stored]
        for place in self.copies:
            layout = rules.layout(dict(place.sizes), place.role, place.blocked)
            fitted = [
                rules.mesh.fitted(size, layout.get(name, 0)) if own is not None and name is not None else 0
                for own, name, (_, size) in zip(self._names(), place.names, self.dims, strict=True)
            ]
            fresh: Any = np.ones((), bool)
            for other in there:
                fresh = fresh & ~same_masks(zip(fitted, other, strict=True))
            if self.over_all:
                alone = fresh & (sum(stored) == rules.mesh.masks - 1) & (sum(fitted) == 0)
                total = total + (self._bytes(rules, chip, fitted) - self._bytes(rules, chip, stored)) * alone
                continue
            size = self._bytes(rules, chip, fitted)
            if self.by_rows:
                plain = replace(self, by_rows=False)._bytes(rules, chip, fitted)
                late: Any = sum(fitted[:-1]) == 0
                size = size * late + plain * (1 - late)
                fresh = fresh | (size > plain)
            total = total + (chip.record if self.record else size) * fresh
            there.append(fitted)
        return total


@dataclass
class MemoryProgram:
    """What is allocated and freed, in order."""

    entries: list[Entry] = field(default_factory=list[Entry])
    events: list[Event] = field(default_factory=list[Event])

    def peak(self, rules: ShardingRules, chip: ChipMemory = PLAIN_MEMORY) -> tuple[Any, dict[MemoryKind, Any]]:
        """The peak, and what it is made of (the latter for single plans)."""
        sizes = [entry.local(rules, chip) for entry in self.entries]
        held: dict[tuple[MemoryKind, int], Any] = {}
        at_peak = dict(held)
        total: list[Any] = [0, 0, 0, 0]
        highest: Any = 0
        for event in self.events:
            change = event.sign * sizes[event.entry]
            total[event.sort] = total[event.sort] + change
            running = total[0] + chip.off_chip(*total[1:])
            if np.ndim(running) == 0:
                key = (event.kind, event.sort)
                held[key] = held.get(key, 0) + change
                if running > highest:
                    at_peak = dict(held)
            highest = np.maximum(highest, running)
        return highest, _in_memory(at_peak, chip)

    def held(self, rules: ShardingRules, chip: ChipMemory = PLAIN_MEMORY) -> list[tuple[MemoryKind, Entry, int]]:
        """What is held in the memory of the device when most is: of each kind, the entries and how many of each. Of
        what loops stack, the largest arrays that make up what has no room on the chip."""
        sizes = [int(entry.local(rules, chip)) for entry in self.entries]
        total, highest, off = [0, 0, 0, 0], 0, 0
        counts: dict[tuple[MemoryKind, int, int], int] = {}
        found = dict(counts)
        for event in self.events:
            key = (event.kind, event.entry, event.sort)
            counts[key] = counts.get(key, 0) + event.sign
            total[event.sort] += event.sign * sizes[event.entry]
            off = int(chip.off_chip(*total[1:]))
            if total[0] + off > highest:
                highest = total[0] + off
                waits = total[1] + total[3] > chip.on_chip
                found = {key: count for key, count in counts.items() if count and (waits or key[2] != 1)}
                left = off - total[1] * waits
                for key in sorted((each for each in found if each[2] > 1), key=lambda each: (each[2], -sizes[each[1]])):
                    found[key] = min(found[key], -(-left // sizes[key[1]]) if sizes[key[1]] and left > 0 else 0)
                    left -= found[key] * sizes[key[1]]
        merged: dict[tuple[MemoryKind, int], int] = {}
        for (kind, entry, _), count in found.items():
            if count:
                merged[kind, entry] = merged.get((kind, entry), 0) + count
        return [(kind, self.entries[entry], count) for (kind, entry), count in merged.items()]

    def on_chip(self, rules: ShardingRules, chip: ChipMemory) -> int:
        """The most that temporaries take on the chip: what has no part in the peak."""
        sizes = [int(entry.local(rules, chip)) for entry in self.entries]
        total, most = [0, 0, 0, 0], 0
        for event in self.events:
            if not event.stays:
                total[event.sort] += event.sign * sizes[event.entry]
                most = max(most, sum(total) - int(chip.off_chip(*total[1:])))
        return most


def _in_memory(held: Mapping[tuple[MemoryKind, int], Any], chip: ChipMemory) -> dict[MemoryKind, Any]:
    """What takes memory of the device, by kind: of what loops stack and make, what has no room on the chip."""
    waiting, stacked, looped = (sum(size for (_, each), size in held.items() if each == sort) for sort in (1, 2, 3))
    passing = waiting + looped > chip.on_chip
    left = chip.off_chip(waiting, stacked, looped) - waiting * passing
    found = {kind: held.get((kind, 0), 0) + passing * held.get((kind, 1), 0) for kind in MEMORY_KINDS}
    for sort in (2, 3):
        for kind in MEMORY_KINDS:
            taken = np.minimum(left, held.get((kind, sort), 0))
            left = left - taken
            found[kind] = found[kind] + taken
    return found


def memory_program(
    graph: Graph, roles: Roles, regather: bool = False, chip: ChipMemory = PLAIN_MEMORY
) -> MemoryProgram:
    """The memory program of a whole step. Parameters that are gathered live from their first reader to their last one,
    or with `regather` to the last one of the forward pass, and again for those of the backward pass."""
    program = MemoryProgram()
    writer = _Writer(program, roles, read_by_passes(graph), regather, chip)
    state = {graph.inputs[before].id for before, _ in graph.carried}
    writer.kernels(graph)
    if chip.record:
        writer.records(graph)
    for value in graph.inputs:
        writer.allocate(value, writer.state_kind(value) if value.id in state else "activations", stays=True)
    updated = [(graph.inputs[before], graph.outputs[after]) for before, after in graph.carried]
    in_place = {
        after.id for before, after in updated if isinstance(after, Value) and roles[after.id] == roles[before.id]
    }
    writer.scope(graph, in_place, scanned=False, outermost=True)
    return program


class _Writer:
    def __init__(
        self, program: MemoryProgram, roles: Roles, parameters: set[int], regather: bool, chip: ChipMemory
    ) -> None:
        self.chip = chip
        self.program = program
        self.roles = roles
        self.parameters = parameters
        self.regather = regather
        self.index: dict[Entry, int] = {}
        self.by_rows: set[int] = set()
        self.stacked: set[int] = set()
        self.halved: set[int] = set()
        self.loops = 0

    def state_kind(self, value: Value) -> MemoryKind:
        return "parameters" if value.id in self.parameters else "optimizer"

    def entry(self, value: Value, copies: Sequence[Place] = (), halved: bool = False, by_rows: bool = False) -> int:
        dims, item = _sizes(value.type.dims), item_size("bfloat16" if halved else value.type.dtype)
        by_rows = by_rows or (value.id in self.by_rows and not copies)
        return self.numbered(Entry(dims, item, self.roles[value.id], tuple(copies), by_rows=by_rows))

    def numbered(self, entry: Entry) -> int:
        if entry not in self.index:
            self.index[entry] = len(self.program.entries)
            self.program.entries.append(entry)
        return self.index[entry]

    def allocate(self, value: Value, kind: MemoryKind, stays: bool = False) -> None:
        self.add(1, self.entry(value, halved=value.id in self.halved), kind, stays, value.id in self.stacked)

    def free(self, value: Value, kind: MemoryKind) -> None:
        self.add(-1, self.entry(value, halved=value.id in self.halved), kind, stacked=value.id in self.stacked)

    def add(self, sign: int, entry: int, kind: MemoryKind, stays: bool = False, stacked: bool = False) -> None:
        self.program.events.append(Event(sign, entry, kind, stays, stacked, self.loops > 0))

    def scope(self, graph: Graph, standing: set[int], scanned: bool, outermost: bool = False) -> None:
        """The events of a body. Its inputs, and results in `standing`, are accounted for outside it."""
        graph = replace(graph, nodes=tuple(_scheduled(graph.nodes, self.roles)))
        kept = traffic(graph, self.chip.into_products, self.chip.tile[1]).kept
        self.halved |= self._regrouped(graph, kept)
        last, computed = _last_use(graph, kept)
        begun, ended = self._gathers(graph, computed)
        live: dict[int, tuple[Value, MemoryKind]] = {}
        waiting: list[int] = []

        def begin(node: Node, values: Sequence[Value]) -> None:
            for value in values:
                if value.id in kept and value.id not in standing:
                    live[value.id] = (value, self._kind(node, value, scanned))
                    self.allocate(*live[value.id])

        for i, node in enumerate(graph.nodes):
            self.briefly(self._scores(node))
            if node.phase == "update" and waiting:
                for number in waiting:
                    self.add(-1, number, "gradients")
                waiting = []
            whole = [self.entry(value, [Place.of(value, node, self.roles)]) for value in self._unscattered(node)]
            for number in whole:
                self.sent(number)
            for number in (*begun.get(i, ()), *whole):
                self.add(1, number, "temporaries")
            stacks = stacked_results(node)
            self.stacked.update(stacks)
            begin(node, [value for value in node.outputs if value.id in stacks])
            self.loops += op_of(node).scans(node)
            for body in entered(node):
                self.scope(body, _stacked_in(node, body), op_of(node).scans(node))
            self.loops -= op_of(node).scans(node)
            if op_of(node).writes_into:
                for value in node.value_inputs[:1]:
                    if value.id in live and last.get(value.id, i) <= i:
                        self.free(*live.pop(value.id))
            begin(node, [value for value in node.outputs if value.id not in stacks])
            for number in (*whole, *ended.get(i, ())):
                self.add(-1, number, "temporaries")
            if self.chip.reduces_at_once and outermost:
                made = [self.program.entries[number] for number in whole]
                stored = [entry for entry in made if entry.role == "storage"]
                late = [self.numbered(replace(entry, over_all=True)) for entry in stored]
                for number in late:
                    self.add(1, number, "gradients")
                waiting += late
            for identity in [identity for identity in live if last.get(identity, i) <= i]:
                self.free(*live.pop(identity))
        for value, kind in live.values():
            self.free(value, kind)
        for number in waiting:
            self.add(-1, number, "gradients")

    def kernels(self, graph: Graph) -> None:
        """Notes which values are kept row by row: those of kernels, what is computed from them element by element, and
        what a loop stacks of them."""
        for node in graph.nodes:
            self.by_rows.update(value.id for value in op_of(node).by_rows(node))
            if op_of(node).is_elementwise and any(value.id in self.by_rows for value in node.value_inputs):
                self.by_rows.update(value.id for value in node.outputs)
            if not entered(node):
                continue
            for body, feeds in op_of(node).body_operands(node):
                pairs = [(outer.id, inner.id) for outer, inner, _ in feeds if isinstance(outer, Value)]
                self.by_rows.update(inner for outer, inner in pairs if outer in self.by_rows)
                self.kernels(body)
                self.by_rows.update(outer for outer, inner in pairs if inner in self.by_rows)
            for _, results in op_of(node).body_results(node):
                for inner, outer, _ in results:
                    if isinstance(inner, Value) and inner.id in self.by_rows:
                        self.by_rows.add(outer.id)

    def records(self, graph: Graph) -> None:
        """All state is copied to the chip and back; what is not fused has several results where it can."""
        unfused = sum(not op_of(node).fusible and not op_of(node).runs_once for node in graph.walk())
        count = 2 * len(graph.carried) + unfused
        entry = Entry(((None, count * self.chip.record // 4),), 4, "compute")
        self.add(1, self.numbered(entry), "temporaries", stays=True)

    def sent(self, number: int) -> None:
        """What a loop gathers or scatters it sends while it computes, which has a record."""
        if self.chip.record and self.loops:
            record = replace(self.program.entries[number], record=True)
            self.add(1, self.numbered(record), "temporaries", stays=True)

    def _gathers(self, graph: Graph, computed: Sequence[int]) -> tuple[_At, _At]:
        """Where gathered copies of stored values begin and end: at the first and last node that reads them in use."""
        spans: dict[tuple[int, bool, bool], tuple[Value, dict[Place, None], int, int, bool]] = {}
        for i, node in enumerate(graph.nodes):
            for value, place in self._read_in_use(node):
                by_rows = self.chip.copies_rows and op_of(node).by_row(node) and value is node.inputs[0]
                key = (value.id, self.regather and node.phase == "backward", by_rows)
                _, places, first, last, halved = spans.get(key, (value, {}, i, i, self.chip.halves_products))
                halved = halved and _read_in_halves(node, value, graph)
                last = first if by_rows else max(last, computed[i])
                spans[key] = (value, {**places, place: None}, first, last, halved)
        begun: _At = {}
        ended: _At = {}
        for (_, _, by_rows), (value, places, first, last, halved) in spans.items():
            number = self.entry(value, list(places), halved, by_rows)
            self.sent(number)
            begun.setdefault(first, []).append(number)
            ended.setdefault(last, []).append(number)
        return begun, ended

    def _regrouped(self, graph: Graph, kept: frozenset[int]) -> set[int]:
        """Values that are in memory only because their dims were regrouped, and that products take as bfloat16."""
        if not self.chip.halves_products:
            return set()
        made = [value for node in graph.nodes if op_of(node).fusible for value in node.outputs if value.id in kept]
        return {value.id for value in made if _halved(value, graph)}

    def _read_in_use(self, node: Node) -> Iterator[tuple[Value, Place]]:
        """Operands that a node computes with elsewhere than they are, and where: stored ones, and activations whose
        dims take other mesh axes among the names that the node sums over."""
        if not entered(node):
            if node_role(node, self.roles) == "compute":
                for value in node.value_inputs:
                    if value.type.dims and (self.roles[value.id] == "storage" or self._shares_axes(node, value)):
                        yield value, Place.of(value, node, self.roles)
            return
        for _, feeds in op_of(node).body_operands(node):
            for operand, inside, _ in feeds:
                if isinstance(operand, Value) and self.roles[operand.id] == "storage" != self.roles[inside.id]:
                    yield operand, Place.inside(operand, inside, self.roles)

    def _unscattered(self, node: Node) -> Iterator[Value]:
        """What is made in full before each device keeps its part of the sum: gradients, and activations of products."""
        if not entered(node) and node_role(node, self.roles) == "compute":
            for value in node.outputs:
                if value.type.dims and (self.roles[value.id] == "storage" or self._shares_axes(node, value)):
                    yield value

    def _shares_axes(self, node: Node, value: Value) -> bool:
        """Whether a product has names that an operand or result of it lacks, which may take its mesh axes there."""
        return op_of(node).multiplies and space_of(node, self.roles).sizes != sizes_of(value.type)

    def briefly(self, entries: Sequence[Entry]) -> None:
        """All of these at once, and gone again."""
        numbers = [self.numbered(entry) for entry in entries]
        for sign in (1, -1):
            for number in numbers:
                self.add(sign, number, "temporaries")

    def _scores(self, node: Node) -> list[Entry]:
        """What a node holds while it is computed."""
        held = op_of(node).held(node) if self.chip.holds_scores else ()
        return [Entry(_sizes(dims), 4, "compute") for dims in held]

    def _kind(self, node: Node, value: Value, scanned: bool) -> MemoryKind:
        if self.roles[value.id] != "compute":
            return "gradients" if node.phase == "backward" else "temporaries"
        return "temporaries" if scanned or node.phase != "forward" else "activations"


def _read_in_halves(node: Node, value: Value, graph: Graph) -> bool:
    """Whether a node of a body only multiplies a float32, and at JAX's default precision: a TPU takes that as bfloat16.
    What only delays it leaves that to what comes next."""
    if value.type.dtype != "float32":
        return False
    if op_of(node).waits:
        return node.inputs[0] == value and _halved(node.outputs[0], graph)
    if not entered(node):
        return op_of(node).multiplies and params_of(node).get("precision") is None
    for body, feeds in op_of(node).body_operands(node):
        if not all([_halved(inside, body) for operand, inside, _ in feeds if operand == value]):
            return False
    return True


def _halved(value: Value, graph: Graph) -> bool:
    readers = [node for node in graph.nodes if value in node.inputs]
    return value not in graph.outputs and all([_read_in_halves(node, value, graph) for node in readers])


def stacked_results(node: Node) -> set[int]:
    """Ids of the results that are stacked slices."""
    return {value.id for _, results in op_of(node).body_results(node) for _, value, stacked in results if stacked}


def _stacked_in(node: Node, body: Graph) -> set[int]:
    """Ids of the results of a body that it writes straight into a stack."""
    of_body = [results for each, results in op_of(node).body_results(node) if each is body]
    return {inner.id for results in of_body for inner, _, stacked in results if stacked and isinstance(inner, Value)}


def _first_names(names: Sequence[str | None]) -> tuple[str | None, ...]:
    """The name of each dim, none for one whose name occurred before: that is not sharded."""
    return tuple(None if name in names[:i] else name for i, name in enumerate(names))


def _sizes(dims: Sequence[Dim]) -> tuple[tuple[str | None, int], ...]:
    return tuple((dim.name, dim.size) for dim in dims)


def _scheduled(nodes: Sequence[Node], roles: Roles) -> list[Node]:
    """Nodes in the order in which XLA computes them: of the two gradients of a product that of the activations comes
    first, wherever it stands, since the parameter that it reads need not be held for the other."""
    found = list(nodes)
    for i, node in enumerate(found):
        if not (op_of(node).multiplies and any(roles[value.id] == "storage" for value in node.outputs)):
            continue
        made = {value.id for value in node.outputs}
        end = i + 1
        while end < len(found) and any(value.id in made for value in found[end].value_inputs):
            made.update(value.id for value in found[end].outputs)
            end += 1
        other = found[end] if end < len(found) else node
        shared = {value.id for value in node.value_inputs} & {value.id for value in other.value_inputs}
        on = any(roles[value.id] == "compute" for value in other.outputs)
        if op_of(other).multiplies and on and shared and other.phase == node.phase == "backward":
            found[i : end + 1] = [other, *found[i:end]]
    return found


def _last_use(graph: Graph, kept: frozenset[int]) -> tuple[dict[int, int], list[int]]:
    """Where each value is read last, and where each node is computed: a fused operation, with what it is fused into."""
    computed = list(range(len(graph.nodes)))
    last = {operand.id: len(graph.nodes) for operand in graph.outputs if isinstance(operand, Value)}
    for i, node in reversed(list(enumerate(graph.nodes))):
        fused = op_of(node).fusible and not any(value.id in kept for value in node.outputs)
        read = max([i, *(last.get(value.id, i) for value in node.outputs)]) if fused else i
        for value in node.value_inputs:
            last[value.id] = max(last.get(value.id, read), read)
        computed[i] = min(read, len(graph.nodes) - 1)
    return last, computed
