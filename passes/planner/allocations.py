"""How much memory a plan needs on each device, and when.

The graph is walked once in order. A value that exists in memory (see `traffic`) is allocated where it is made and freed
after its last reader; a loop's body adds its own values to what is live around it. State is updated in place (the step
donates it). A stored operand that a product needs gathered, and a gradient not yet scattered, are there in full for
as long as that takes. The peak is the largest sum on the way. Values are counted by type and role, so a whole batch of
candidate plans is evaluated at once.

What a chip makes of it (`ChipMemory`): a TPU keeps arrays in tiles, so that a dim of 64 takes the room of 128; and XLA
keeps temporaries in on-chip memory as long as all of them fit. Once they do not, it is left to what the body of a loop
makes for itself. What is there before and after the step is always in the memory of the device.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ir.graph import Graph, Node, Value
from ir.ops import entered, op_of
from ir.types import Dim, item_size
from passes.hardware.memory import PLAIN_MEMORY, ChipMemory
from passes.planner.crossings import Crossing, added_first, over_slices
from passes.planner.epilogues import NONE, epilogues
from passes.planner.halves import Halves
from passes.planner.lives import brought as brought_to_chip
from passes.planner.lives import last_use, scheduled
from passes.planner.memory import Entry, Event, MemoryKind, MemoryProgram, Place
from passes.planner.rows import ALWAYS, Rows, kept_by_rows
from passes.planner.traffic import traffic
from passes.sharding.iteration_space import node_role, reduced_in, space_of
from passes.sharding.mesh import DeviceMesh
from passes.sharding.roles import Roles, read_by_passes
from passes.sharding.rules import sizes_of

_At = dict[int, list[int]]
"""Entries, by number, by the position of a node."""


def memory_program(
    graph: Graph,
    roles: Roles,
    regather: bool = False,
    chip: ChipMemory = PLAIN_MEMORY,
    mesh: DeviceMesh | None = None,
) -> MemoryProgram:
    """The memory program of a whole step. Parameters that are gathered live from their first reader to their last one,
    or with `regather` to the last one of the forward pass, and again for those of the backward pass. With a `mesh` over
    several slices, what goes between them is counted."""
    program = MemoryProgram()
    writer = _Writer(program, roles, read_by_passes(graph), regather, chip, over_slices(mesh, chip))
    state = {graph.inputs[before].id for before, _ in graph.carried}
    held = [graph.inputs[before] for before, _ in graph.carried]
    writer.moments = any(value.type.dims and value.id not in writer.parameters for value in held)
    writer.rows = kept_by_rows(graph, writer.roles, chip)
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
        self,
        program: MemoryProgram,
        roles: Roles,
        parameters: set[int],
        regather: bool,
        chip: ChipMemory,
        over_slices: bool,
    ) -> None:
        self.over_slices = over_slices
        self.arriving: dict[int, Crossing] = {}
        self.chip = chip
        self.program = program
        self.roles = roles
        self.parameters = parameters
        self.regather = regather
        self.index: dict[Entry, int] = {}
        self.rows: Mapping[int, Rows] = {}
        self.stacked: set[int] = set()
        self.halved: set[int] = set()
        self.gradients: dict[int, Place] = {}
        self.moments = False
        self.at_hand: set[int] = set()
        self.loops = 0

    def state_kind(self, value: Value) -> MemoryKind:
        return "parameters" if value.id in self.parameters else "optimizer"

    def entry(self, value: Value, copies: Sequence[Place] = (), halved: bool = False, by_rows: bool = False) -> int:
        dims, item = _sizes(value.type.dims), item_size("bfloat16" if halved else value.type.dtype)
        rows = ALWAYS if by_rows else None if copies else self.rows.get(value.id)
        return self.numbered(Entry(dims, item, self.roles[value.id], tuple(copies), by_rows=rows))

    def numbered(self, entry: Entry) -> int:
        if entry not in self.index:
            self.index[entry] = len(self.program.entries)
            self.program.entries.append(entry)
        return self.index[entry]

    def allocate(self, value: Value, kind: MemoryKind, stays: bool = False) -> None:
        self.change(1, value, kind, stays)

    def free(self, value: Value, kind: MemoryKind) -> None:
        self.change(-1, value, kind)

    def change(self, sign: int, value: Value, kind: MemoryKind, stays: bool = False) -> None:
        entry = self.entry(value, halved=value.id in self.halved)
        if value.id not in self.at_hand and value.id in self.gradients:
            for part in ("waits", "else"):
                gradient = replace(self.program.entries[entry], made=self.gradients[value.id], gradient=part)
                self.add(sign, self.numbered(gradient), kind, gradient=part == "waits")
            return
        if value.id not in self.at_hand:
            self.add(sign, entry, kind, stays, value.id in self.stacked)
            return
        fits, beyond = (replace(self.program.entries[entry], at_hand=part) for part in ("fits", "beyond"))
        self.add(sign, self.numbered(fits), kind, at_hand=True)
        self.add(sign, self.numbered(beyond), kind)

    def bring(self, value: Value, kind: MemoryKind) -> None:
        """A value is brought to the chip, where it has room there."""
        self.free(value, kind)
        self.at_hand.add(value.id)
        self.allocate(value, kind)

    def add(
        self,
        sign: int,
        entry: int,
        kind: MemoryKind,
        stays: bool = False,
        stacked: bool = False,
        at_hand: bool = False,
        gradient: bool = False,
    ) -> None:
        how = at_hand or self.loops > 0, gradient and not self.moments, gradient and self.moments
        self.program.events.append(Event(sign, entry, kind, stays, stacked, *how))

    def scope(self, graph: Graph, standing: set[int], scanned: bool, outermost: bool = False) -> None:
        """The events of a body. Its inputs, and results in `standing`, are accounted for outside it."""
        graph = replace(graph, nodes=tuple(scheduled(graph.nodes, self.roles)))
        after = epilogues(graph, self.roles) if self.chip.into_products else NONE
        kept = after.kept(traffic(graph, self.chip.into_products, self.chip.tile[1]).kept)
        self.halved |= self._regrouped(graph, kept)
        if self.chip.halves_products:
            halves = Halves.of(graph, self.chip.kernel)
            self.halved |= {value.id for value in after.ends.values() if halves.take(value)}
        last, computed = last_use(graph, kept, after.computed)
        begun, ended = self._gathers(graph, computed)
        brought = brought_to_chip(graph, computed) if self.chip.on_chip and not self.loops else dict[int, list[int]]()
        added = added_first(graph.nodes) if self.over_slices else set[int]()
        loops = any(op_of(node).scans(node) for node in graph.nodes)
        pairs = outermost and not (self.moments if self.chip.copies else loops)
        live: dict[int, tuple[Value, MemoryKind]] = {}
        waiting: list[int] = []
        arrived: list[int] = []

        def begin(node: Node, values: Sequence[Value]) -> None:
            for value in (after.ends.get(value.id, value) for value in values):
                if value.id in kept and value.id not in standing and value.id not in live:
                    if pairs and self._is_gradient(node, value):
                        self.gradients[value.id] = Place.of(value, node, self.roles)
                    live[value.id] = (value, self._kind(node, value, scanned))
                    self.allocate(*live[value.id])

        for i, node in enumerate(graph.nodes):
            for identity in brought.get(i, ()):
                if identity in live and identity not in self.stacked:
                    self.bring(*live[identity])
            self.briefly([*self._scores(node), *self._going_round(node)])
            if node.phase == "update" and waiting:
                for number in waiting:
                    self.add(-1, number, "gradients")
                waiting = []
            if node.phase == "update":
                for number in arrived:
                    self.add(-1, number, "gradients", stays=True)
                arrived = []
            whole = [self.entry(value, [Place.of(value, node, self.roles)]) for value in self._unscattered(node)]
            for number in whole:
                self.sent(number)
            for number in (*begun.get(i, ()), *whole):
                self.add(1, number, "temporaries")
            if self.over_slices:
                sums = () if id(node) in added else self._sums(node)
                arrived += self.crossing(sums, begun.get(i, ()), outermost)
            stacks = stacked_results(node)
            self.stacked.update(stacks)
            begin(node, [value for value in node.outputs if value.id in stacks])
            self.loops += op_of(node).scans(node)
            for body in entered(node):
                self.scope(body, _placed_in(node, body, standing), op_of(node).scans(node))
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
        for number in arrived:
            self.add(-1, number, "gradients", stays=True)

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

    def _sums(self, node: Node) -> list[Crossing]:
        """The results of a node that are sums over names."""
        if entered(node) or node_role(node, self.roles) != "compute":
            return []
        found: list[Crossing] = []
        space = space_of(node, self.roles)
        for value in (value for value in node.outputs if value.type.dims):
            summed = reduced_in(node, space, value)
            if summed:
                entry, place = self.program.entries[self.entry(value)], Place.of(value, node, self.roles)
                found.append(Crossing(entry.dims, entry.item, entry.role, (place,), summed=summed))
        return found

    def crossing(self, sums: Sequence[Crossing], gathered: Sequence[int], outermost: bool) -> list[int]:
        """What is summed, and gathered, of several slices; the entries of gradients that wait there for the update."""
        arriving = [self.arriving[number] for number in gathered]
        for each in (*arriving, *sums):
            self.add(1, self.numbered(replace(each, part="records")), "temporaries", stays=True)
        wait: list[int] = []
        brief: list[int] = []
        for each in (*arriving, *sums):
            waits = each in sums and outermost and each.role == "storage" and self.chip.on_chip > 0
            parts = [each, replace(each, part="sent")] if each.summed else [each]
            (wait if waits else brief).extend([self.numbered(part) for part in parts])
        for number in (*brief, *wait):
            self.add(1, number, "gradients", stays=True)
        for number in brief:
            self.add(-1, number, "gradients", stays=True)
        return wait

    def _gathers(self, graph: Graph, computed: Sequence[int]) -> tuple[_At, _At]:
        """Where gathered copies of stored values begin and end: at the first and last node that reads them in use."""
        spans: dict[tuple[int, bool, bool], tuple[Value, dict[Place, None], int, int, bool]] = {}
        halves = Halves.of(graph)
        for i, node in enumerate(graph.nodes):
            for value, place in self._read_in_use(node):
                looked_up = value is node.inputs[0] and op_of(node).by_row(node) and not op_of(node).writes_into
                by_rows = self.chip.copies_rows and looked_up
                key = (value.id, self.regather and node.phase == "backward", by_rows)
                _, places, first, last, halved = spans.get(key, (value, {}, i, i, self.chip.halves_products))
                halved = halved and halves.read(node, value)
                last = first if by_rows else max(last, computed[i])
                spans[key] = (value, {**places, place: None}, first, last, halved)
        begun: _At = {}
        ended: _At = {}
        for (_, _, by_rows), (value, places, first, last, halved) in spans.items():
            number = self.entry(value, list(places), halved, by_rows)
            self.sent(number)
            if self.over_slices:  # in full: it is made narrow inside of a slice
                dims, item = _sizes(value.type.dims), item_size(value.type.dtype)
                self.arriving[number] = Crossing(dims, item, self.roles[value.id], tuple(places))
            begun.setdefault(first, []).append(number)
            ended.setdefault(last, []).append(number)
        return begun, ended

    def _regrouped(self, graph: Graph, kept: frozenset[int]) -> set[int]:
        """Values that are in memory only because their dims were regrouped, and that products take as bfloat16."""
        if not self.chip.halves_products:
            return set()
        made = [value for node in graph.nodes if op_of(node).fusible for value in node.outputs if value.id in kept]
        halves = Halves.of(graph, self.chip.kernel)
        return {value.id for value in made if halves.take(value)}

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

    def _is_gradient(self, node: Node, value: Value) -> bool:
        """Whether a node makes the gradient of a parameter."""
        computed = not entered(node) and node_role(node, self.roles) == "compute"
        stored = bool(value.type.dims) and self.roles[value.id] == "storage"
        return node.phase == "backward" and computed and stored and value.id not in self.stacked

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
        """What a node holds while it is computed: where a kernel does without, only if a mesh axis has what that needs
        replicated."""
        held = op_of(node).held(node)
        replicated = op_of(node).by_kernel(node, self.chip.kernel) if held else None
        around = ("",) if replicated is None else replicated
        return [Entry(_sizes(dims), 4, "compute", around=name) for dims in held for name in around]

    def _going_round(self, node: Node) -> Iterator[Entry]:
        """What a device has of others while keys go round: the one that it computes with, and the one that arrives."""
        for name in node.names("ring"):
            for value in (value for each in op_of(node).travels(node) for value in each):
                entry = Entry(_sizes(value.type.dims), item_size(value.type.dtype), "compute", around=name)
                yield from (entry, entry)

    def _kind(self, node: Node, value: Value, scanned: bool) -> MemoryKind:
        if self.roles[value.id] != "compute":
            return "gradients" if node.phase == "backward" else "temporaries"
        return "temporaries" if scanned or node.phase != "forward" else "activations"


def stacked_results(node: Node) -> set[int]:
    """Ids of the results that are stacked slices."""
    return {value.id for _, results in op_of(node).body_results(node) for _, value, stacked in results if stacked}


def _placed_in(node: Node, body: Graph, standing: set[int]) -> set[int]:
    """Ids of the results of a body that have a place outside: in a stack, or where the node's result has it."""
    of_body = [results for each, results in op_of(node).body_results(node) if each is body]
    once = op_of(node).runs_once
    placed = [
        inner for results in of_body for inner, outer, stacked in results if stacked or (once and outer.id in standing)
    ]
    return {value.id for value in placed if isinstance(value, Value)}


def _sizes(dims: Sequence[Dim]) -> tuple[tuple[str | None, int], ...]:
    return tuple((dim.name, dim.size) for dim in dims)
