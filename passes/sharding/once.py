"""What need not be done in every trip of a loop, before there are collectives: for the price of a plan.

`sums_once` are the sums that may wait to be reduced until a loop has added them up (`passes.defer_sums`): the way back
from a carry is that of `passes.sharding.pending`, but ends at sums over names, such as a contraction over the batch.
`gathers_once` are stored values that a loop may find gathered (`passes.hoist_gathers`). Whether it is done depends on
the plan and on memory; here all is done that may be.
"""

from dataclasses import dataclass, replace

from ir.graph import Graph, Node, Operand, Value
from ir.ops import entered, op_of
from ir.types import SUM, Dim, TensorType, item_size
from passes.sharding.iteration_space import node_role
from passes.sharding.pending import Attempt, Index, Stays, Step, constants, fits_readers
from passes.sharding.roles import Roles


@dataclass(frozen=True)
class Once:
    """How often a collective is made for each time that its value is there, of how many, stacked, at once, and the
    dtype that the value has then; None for its own."""

    share: float = 1.0
    stacked: int = 1
    dtype: str | None = None

    def moved(self, type_: TensorType) -> TensorType:
        """The type that goes between devices for a value of a type."""
        dims = type_.dims if self.stacked == 1 else (Dim(None, self.stacked), *type_.dims)
        return replace(type_, dims=dims, dtype=self.dtype or type_.dtype)


def once_in_loops(graph: Graph, roles: Roles) -> bool:
    """Whether there is anything that loops need not do in every trip."""
    return bool(sums_once(graph) or gathers_once(graph, roles))


def sums_once(graph: Graph) -> dict[int, Once]:
    """Of a graph before it is placed, the sums whose reductions may wait for the end of a loop, by number."""
    found: dict[int, Once] = {}
    _search_sums(graph, Index.of(graph), found)
    return found


def _search_sums(graph: Graph, index: Index, found: dict[int, Once]) -> None:
    for node in graph.nodes:
        sums: dict[int, Once] = {}
        for position in range(len(op_of(node).carries(node)) if entered(node) else 0):
            try:
                sums |= _Unplaced(index).sums_of(node, position)
            except Stays:
                continue
        found.update(sums)
        if not sums:
            for body in entered(node):
                _search_sums(body, index, found)


class _Unplaced(Attempt):
    """The way back from a carry before there are collectives: it ends at sums over names."""

    def __init__(self, index: Index) -> None:
        super().__init__(index)
        self.sums: dict[int, Once] = {}
        self.here = Once()

    def sums_of(self, loop: Node, position: int) -> dict[int, Once]:
        """The sums that a carry adds up. Raises `Stays`."""
        self.here = Once(1 / loop.count("trips", 1))
        if self.carry(loop, position) is None:
            raise Stays
        for value in self.values.values():
            if not fits_readers(value, self.index, self.values, self.dropped, {loop.outputs[position].id}):
                raise Stays
        # What is added up before it is reduced is reduced once, in the size in which it is added up.
        carry = loop.outputs[position].type
        left = carry.elements
        for number, once in self.sums.items():
            type_ = self.values[number].type
            left -= type_.elements * once.stacked
            share = once.share if left >= 0 else 0.0
            self.sums[number] = Once(share, once.stacked, _wider(carry.dtype, type_.dtype))
        return self.sums

    def structured(self, node: Node, result: Value) -> tuple[Step, ...] | None:
        around, trips = self.here, node.count("trips", 1)
        stacked = any(
            flag and outside == result for _, each in op_of(node).body_results(node) for _, outside, flag in each
        )
        self.here = Once(around.share / trips, around.stacked * (trips if stacked else 1))
        steps = super().structured(node, result)
        self.here = around
        return steps

    def way(self, operand: Operand) -> tuple[Step, ...] | None:
        node = self.index.producer.get(operand.id) if isinstance(operand, Value) else None
        if isinstance(operand, Value) and node is not None and op_of(node).reduced(node):
            if op_of(node).reduction(node) != SUM:
                raise Stays
            self.sums[operand.id] = self.here
            return self.mark(operand, ())
        return super().way(operand)


def gathers_once(graph: Graph, roles: Roles) -> dict[int, Once]:
    """Of a graph before it is placed, the stored values that need not be gathered in every trip, by number."""
    found: dict[int, Once] = {}
    _search_gathers(graph, Index.of(graph), roles, found)
    return found


def _search_gathers(graph: Graph, index: Index, roles: Roles, found: dict[int, Once]) -> None:
    for node in graph.nodes:
        for _, inside in constants(node):
            attempt = _Gathers(index, roles)
            if inside.id not in found and attempt.follow(inside, Once(1 / node.count("trips", 1))):
                found |= attempt.priced(inside)
        for body in entered(node):
            _search_gathers(body, index, roles, found)


class _Gathers:
    """The way from what a loop reads in every trip to the operations that compute with it."""

    def __init__(self, index: Index, roles: Roles) -> None:
        self.index = index
        self.roles = roles
        self.found: dict[int, Once] = {}
        self.gathered: dict[int, Value] = {}

    def priced(self, inside: Value) -> dict[int, Once]:
        """What is found, the gather itself counted at the first value that is computed with, in the size that it has
        outside."""
        priced = dict.fromkeys(self.found, Once(0.0))
        for value in list(self.gathered.values())[:1]:
            priced[value.id] = replace(self.found[value.id], dtype=_wider(inside.type.dtype, value.type.dtype))
        return priced

    def follow(self, value: Value, once: Once) -> bool:
        """Whether all that reads a stored value gathers it; `once` is for a gather of it before the outermost loop."""
        if self.roles[value.id] != "storage" or value.id in self.index.leaving:
            return False
        self.found[value.id] = once
        return all([self._reads(node, value, once) for node in self.index.readers.get(value.id, ())])

    def _reads(self, node: Node, value: Value, once: Once) -> bool:
        op = op_of(node)
        if not entered(node):
            alone = len(node.outputs) == 1 and len([each for each in node.inputs if each.type.dims]) == 1
            kept = alone and op.keeps_elements(node) and self.roles[node.outputs[0].id] == "storage"
            if kept:
                return self.follow(node.outputs[0], once)
            self.gathered[value.id] = value
            return node_role(node, self.roles) == "compute"
        trips = node.count("trips", 1)
        for body, feeds in op.body_operands(node):
            for at, (operand, inside, scanned) in enumerate(feeds):
                if operand != value:
                    continue
                within = Once(once.share / trips, once.stacked * (trips if scanned else 1))
                if op.is_carry(node, at) and body is node.bodies[-1]:
                    return False
                if self.roles[inside.id] == "compute":
                    self.gathered[value.id] = value
                elif not self.follow(inside, within):
                    return False
        return True


def _wider(dtype: str, than: str) -> str | None:
    """A dtype where its elements are larger than those of another one."""
    return dtype if item_size(dtype) > item_size(than) else None
