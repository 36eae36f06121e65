"""Which carries of a loop may be partial: all that is added to them comes from reductions over the same mesh axes.

Found backwards from what a trip leaves in a carry: through sums, both addends; through what is linear, its operand; out
of bodies, what leaves them; until each way ends at the collectives that complete a pending sum. All ways must have the
same collectives, and what lies on them must have no other reader.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ir.analysis.uses import Uses
from ir.graph import Constant, Graph, Node, Operand, Value
from ir.ops import entered, op_of
from ir.ops.spread import Misplaced, is_zero, layout_of
from ir.types import SUM, Dim, TensorType

Gained = tuple[tuple[str | None, tuple[str, ...]], ...]
"""Names of dims, and the mesh axes over which a collective shards them."""
Start = tuple[int, int]
"""A carry: the number of its loop's first result, and which of the carries it is."""


@dataclass(frozen=True)
class Step:
    """A collective, or a slice, that can wait."""

    node: Node
    gained: Gained

    @property
    def key(self) -> tuple[object, ...]:
        return self.node.kind, self.node.words("mesh"), self.gained

    def after(self, type_: TensorType) -> TensorType:
        """What it makes of a value."""
        wanted = dict(self.gained)
        dims: list[Dim] = []
        for dim in type_.dims:
            dims.append(replace(dim, mesh=dim.mesh + wanted.pop(dim.name, ())))
        paid = self.node.words("mesh") if op_of(self.node).completes_sums else ()
        return replace(type_, dims=tuple(dims), partial=tuple([axis for axis in type_.partial if axis not in paid]))


def step_of(node: Node) -> Step:
    """What a collective, or a slice, does."""
    pairs = zip(node.value_inputs[0].type.dims, node.outputs[0].type.dims, strict=True)
    return Step(node, tuple([(b.name, b.mesh[len(a.mesh) :]) for a, b in pairs if len(b.mesh) > len(a.mesh)]))


def pending(type_: TensorType, axes: set[str], partial: tuple[str, ...]) -> TensorType:
    """The type of a value before the steps that shard it over some mesh axes and complete its sum over others."""
    dims = [replace(dim, mesh=tuple([axis for axis in dim.mesh if axis not in axes])) for dim in type_.dims]
    return replace(type_, dims=tuple(dims), partial=partial)


@dataclass(frozen=True)
class Deferral:
    """A carry that may be partial.

    Attributes:
        loop: the node of the outermost loop that carries it.
        position: which of its results it is.
        types: by number, the types of all values that become partial.
        dropped: by the number of its result, the operand of each collective that is left out.
        starts: carries that start from zeros, which become zeros on each device.
        partial: the type of the loop's result.
        steps: what is done to it after the loop.
        completed: the results of the collectives that are left out.
        nodes: those that compute with pending sums.
    """

    loop: Node
    position: int
    types: Mapping[int, TensorType]
    dropped: Mapping[int, Value]
    starts: frozenset[Start]
    partial: TensorType
    steps: tuple[Step, ...]
    completed: tuple[Value, ...]
    nodes: tuple[Node, ...]

    @property
    def result(self) -> Value:
        return self.loop.outputs[self.position]

    def extra_bytes(self, kept: Mapping[int, TensorType], sizes: Mapping[str, int]) -> int:
        """What it costs in memory on each device; `kept` are the types of results of bodies."""
        inner = [(self.types[number], type_) for number, type_ in kept.items() if number in self.types]
        pairs = [(self.partial, self.result.type), *inner]
        return sum(wide.local_bytes(sizes) - narrow.local_bytes(sizes) for wide, narrow in pairs)


def pending_bytes(graph: Graph, sizes: Mapping[str, int]) -> int:
    """What a placed graph keeps on each device because loops add up sums that are pending: their bytes beyond those of
    the reduced sums."""
    found = 0
    moved = {node.inputs[0]: node.outputs[0] for node in graph.nodes if op_of(node).moves_data_only}
    for node in graph.nodes:
        found += sum(pending_bytes(body, sizes) for body in entered(node))
        for value in node.outputs if entered(node) else ():
            if value.type.partial:
                last: Operand = value
                while last in moved:
                    last = moved[last]
                found += value.type.local_bytes(sizes) - (0 if last == value else last.type.local_bytes(sizes))
    return found


def deferrals(graph: Graph) -> list[Deferral]:
    """All carries of a placed graph that may be partial, in the order of the program; of loops in loops the outer
    one's."""
    index = Index.of(graph)
    found: list[Deferral] = []
    _search(graph, index, found)
    return together(found, index)


def together(found: Sequence[Deferral], index: "Index") -> list[Deferral]:
    """As many of them as can be done together: where a collective is left out, all that reads its result has a way to a
    carry that may be partial, and computes with pending sums of the types that they all make."""
    kept = list(found)
    while True:
        types = {number: type_ for each in kept for number, type_ in each.types.items()}
        dropped = {number: source for each in kept for number, source in each.dropped.items()}
        results = {each.result.id for each in kept}
        fitting = [
            each
            for each in kept
            if all(fits_readers(value, index, types, dropped, results) for value in each.completed)
            and all(on_pending(node, types, dropped) for node in each.nodes)
        ]
        if len(fitting) == len(kept):
            return kept
        kept = fitting


def _search(graph: Graph, index: "Index", found: list[Deferral]) -> None:
    for node in graph.nodes:
        taken = False
        for position in range(len(op_of(node).carries(node)) if entered(node) else 0):
            try:
                found.append(Attempt(index).outermost(node, position))
                taken = True
            except Stays:
                continue
        if not taken:
            for body in entered(node):
                _search(body, index, found)


def constants(node: Node) -> Iterator[tuple[int, Value]]:
    """Positions of operands of a loop that are the same in every trip, and what they are called inside."""
    op = op_of(node)
    if not entered(node) or node.count("trips", 1) < 2:
        return
    body = node.bodies[-1]
    feeds = dict((id(each), fed) for each, fed in op.body_operands(node))[id(body)]
    for at, (operand, inside, scanned) in enumerate(feeds):
        if isinstance(operand, Value) and not scanned and not op.is_carry(node, at):
            yield len(node.inputs) - len(body.inputs) + at, inside


class Stays(Exception):
    """The carry cannot be partial."""


@dataclass(frozen=True)
class Index:
    """Makers and readers of the values of all bodies, and where results of bodies come out."""

    producer: Mapping[int, Node]
    readers: Mapping[int, Sequence[Node]]
    leaving: Mapping[int, Sequence[Value | None]]
    """By a value's number, what it is outside of its body; None where that is no one value."""

    @classmethod
    def of(cls, graph: Graph) -> "Index":
        uses = Uses.of(graph)
        leaving: dict[int, list[Value | None]] = {}

        def leave(operand: Operand, outside: Value | None) -> None:
            if isinstance(operand, Value):
                leaving.setdefault(operand.id, []).append(outside)

        for operand in graph.outputs:
            leave(operand, None)
        for node in uses.nodes:
            results = {id(body): [outside for _, outside, _ in given] for body, given in op_of(node).body_results(node)}
            for body in node.bodies:
                outside = results.get(id(body), [None] * len(body.outputs))
                for operand, value in zip(body.outputs, outside, strict=True):
                    leave(operand, value)
        return cls(uses.producer, uses.readers, leaving)


def zeros_behind(value: Value, producer: Mapping[int, Node]) -> Node | None:
    """The node that makes zeros of which a value is, or is a shard; None where it is none."""
    node = producer.get(value.id)
    while node is not None and op_of(node).slices_shards:
        node = producer.get(node.value_inputs[0].id)
    zeros = node is not None and op_of(node).stays_proportional and all(map(is_zero, node.inputs))
    return node if zeros else None


class Attempt:
    """The way back from one carry."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.known: dict[int, tuple[Step, ...] | None] = {}
        """By a value's number the steps that are left out on the way to it; None for zeros, which fit any."""
        self.values: dict[int, Value] = {}
        self.dropped: dict[int, Value] = {}
        """By the number of the result, the operand of each collective that is left out."""
        self.completed: dict[int, Value] = {}
        """Their results, by number."""
        self.starts: set[Start] = set()
        self.nodes: list[Node] = []
        self.partial: tuple[str, ...] = ()

    def outermost(self, loop: Node, position: int) -> Deferral:
        """The carry of a loop that is in no other that could carry it. Raises `Stays`."""
        steps = self.carry(loop, position)
        if not steps:
            raise Stays
        result = loop.outputs[position]
        for value in self.values.values():
            if not fits_readers(value, self.index, self.values, self.dropped, {result.id}):
                raise Stays
        axes = {axis for step in steps for _, gained in step.gained for axis in gained}
        types = {number: pending(value.type, axes, self.partial) for number, value in self.values.items()}
        if not all(on_pending(node, types, self.dropped) for node in self.nodes):
            raise Stays
        partial = type_ = pending(result.type, axes, self.partial)
        for step in steps:
            type_ = step.after(type_)
        if type_ != result.type:
            raise Stays
        completed = tuple([self.completed[number] for number in self.dropped])
        starts, nodes = frozenset(self.starts), tuple(self.nodes)
        return Deferral(loop, position, types, self.dropped, starts, partial, steps, completed, nodes)

    def carry(self, loop: Node, position: int) -> tuple[Step, ...] | None:
        """The steps on the way to a carry, which is marked as partial inside of the loop."""
        op, body = op_of(loop), loop.bodies[-1]
        before, after = op.carries(loop)[position]
        at = body.inputs.index(before)
        self.mark(before, None)
        for other in loop.bodies[:-1]:  # the condition of a `while` is given the carries too
            self.mark(other.inputs[at - len(body.inputs)], None)
        steps = self.way(after)
        initial = loop.inputs[at - len(body.inputs)]
        if isinstance(initial, Value) and zeros_behind(initial, self.index.producer) is None:
            return self.joined([steps, self.way(initial)])
        if isinstance(initial, Constant) and not is_zero(initial):
            raise Stays
        if isinstance(initial, Value):
            self.starts.add((loop.outputs[0].id, position))
        return steps

    def mark(self, value: Value, steps: tuple[Step, ...] | None) -> tuple[Step, ...] | None:
        self.known[value.id] = steps
        self.values[value.id] = value
        return steps

    def way(self, operand: Operand) -> tuple[Step, ...] | None:
        """The steps on the way to a value, all of which are marked or left out. Raises `Stays`."""
        if not isinstance(operand, Value):
            raise Stays
        if operand.id in self.known:
            return self.known[operand.id]
        node = self.index.producer.get(operand.id)
        if node is None:
            raise Stays
        if op_of(node).moves_data_only:
            return self.moved(node, operand)
        return self.mark(operand, self.structured(node, operand) if entered(node) else self.linear(node))

    def moved(self, node: Node, result: Value) -> tuple[Step, ...]:
        """The way to what a collective gives."""
        op, source = op_of(node), node.value_inputs[0]
        if not (op.completes_sums or op.slices_shards) or source.type.reduction != SUM:
            raise Stays
        maker = self.index.producer.get(source.id)
        first = maker is None or not op_of(maker).moves_data_only
        if first and op.slices_shards:
            earlier = self.way(source)
            if earlier is None:
                raise Stays
        elif first:
            earlier = ()
            if self.partial not in ((), source.type.partial):
                raise Stays
            self.partial = source.type.partial
        else:
            earlier = self.way(source) or ()
        steps = (*earlier, step_of(node))
        self.known[result.id] = steps
        self.dropped[result.id] = source
        self.completed[result.id] = result
        return steps

    def structured(self, node: Node, result: Value) -> tuple[Step, ...] | None:
        """The way to what comes out of bodies."""
        position = node.outputs.index(result)
        if position < len(op_of(node).carries(node)):
            return self.carry(node, position)
        given = op_of(node).body_results(node)
        return self.joined([self.way(inside) for _, each in given for inside, outside, _ in each if outside == result])

    def linear(self, node: Node) -> tuple[Step, ...] | None:
        """The way through what is linear."""
        values = [(i, each) for i, each in enumerate(node.inputs) if isinstance(each, Value)]
        counts = {i: len(self.index.readers[each.id]) for i, each in values}
        # Of two factors the one that nothing else reads is the more likely sum.
        for positions in dict.fromkeys([tuple(counts), *((i,) for i in sorted(counts, key=lambda i: counts[i]))]):
            if not positions or not linear_in(node, positions):
                continue
            before = dict(self.known), dict(self.values), dict(self.dropped), set(self.starts), self.partial
            try:
                steps = self.joined([self.way(node.inputs[i]) for i in positions])
                self.nodes.append(node)
                return steps
            except Stays:
                self.known, self.values, self.dropped, self.starts, self.partial = before
        raise Stays

    def joined(self, ways: Sequence[tuple[Step, ...] | None]) -> tuple[Step, ...] | None:
        """The steps that all ways have."""
        known = [way for way in ways if way is not None]
        if len({tuple(step.key for step in way) for way in known}) > 1:
            raise Stays
        return known[0] if known else None


def on_pending(node: Node, types: Mapping[int, TensorType], dropped: Mapping[int, Value]) -> bool:
    """Whether a node runs on pending sums of these types; one whose result is none runs as it did."""

    def placed(operand: Operand) -> Operand:
        while isinstance(operand, Value) and operand.id in dropped:
            operand = dropped[operand.id]
        return replace(operand, type=types.get(operand.id, operand.type)) if isinstance(operand, Value) else operand

    made = node.outputs[0]
    if made.id not in types:
        return True
    return runs_on(replace(node, inputs=tuple(map(placed, node.inputs)), outputs=(replace(made, type=types[made.id]),)))


def fits_readers(
    value: Value, index: Index, pending: Collection[int], dropped: Collection[int], results: Collection[int]
) -> bool:
    """Whether nothing reads a value that wants it whole.

    Args:
        pending: numbers of the values that are pending sums.
        dropped: of the results of collectives that are left out.
        results: of what loops give, which is completed after them.
    """
    for node in index.readers.get(value.id, ()):
        made = node.outputs[0].id if node.outputs else None
        if made in dropped:
            continue
        if entered(node):
            if not all(inside.id in pending for inside in _fed(node, value)):
                return False
        elif made not in pending:
            return False
    leaving = index.leaving.get(value.id, ())
    return all(outside is not None and (outside.id in pending or outside.id in results) for outside in leaving)


def linear_in(node: Node, positions: Sequence[int]) -> bool:
    """Whether a node makes, of operands that are pending sums, one."""
    if len(node.outputs) != 1:
        return False
    result = node.outputs[0]
    operands = [
        replace(operand, type=_whole(operand.type, ("pending",) if i in positions else ()))
        for i, operand in enumerate(node.inputs)
    ]
    made = replace(result, type=_whole(result.type, ("pending",)))
    return runs_on(replace(node, inputs=tuple(operands), outputs=(made,)))


def _whole(type_: TensorType, partial: tuple[str, ...]) -> TensorType:
    """A type that no mesh axis splits, partial over some."""
    return TensorType(type_.dtype, tuple([Dim(dim.name, dim.size) for dim in type_.dims]), partial)


def runs_on(node: Node) -> bool:
    """Whether a node makes of its operands what the types of its results say."""
    try:
        made = op_of(node).spread(node)
    except Misplaced:
        return False
    return made is not None and all(
        each.agrees(layout_of(value.type)) for each, value in zip(made, node.outputs, strict=True)
    )


def _fed(node: Node, value: Value) -> Iterator[Value]:
    """What a value is called in the bodies of a node."""
    for _, feeds in op_of(node).body_operands(node):
        for operand, inside, _ in feeds:
            if operand == value:
                yield inside
