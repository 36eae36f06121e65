"""What each operation moves to and from memory: bytes on one device, of arrays as it computes with them.

A product reads a weight as it was gathered for it, and writes a gradient that is not yet scattered, whatever is stored.
Where temporaries stay on the chip, a product waits for none that has room there, beside as much of the next; what is
computed element by element is by XLA's estimates no faster there than memory is. A lookup reads rows: a table that lies
otherwise is copied for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ir.graph import Graph, Value
from ir.ops import entered, op_of
from ir.types import item_size
from passes.hardware.memory import ChipMemory
from passes.planner.rows import moved_by_rows
from passes.planner.traffic import Access, traffic
from passes.sharding.iteration_space import Space, operand_layout, restricted, space_of
from passes.sharding.mesh import same_masks
from passes.sharding.roles import Roles
from passes.sharding.rules import Layout, Role, ShardingRules, sizes_of

_TURNED = 0.75e12
"""Bytes per second that a copy writes of rows that lay along the other dim, by XLA's estimates: 4.5 ns for a tile on
v5e and 5.3 on v5p, whatever their memory."""


@dataclass(frozen=True, slots=True)
class AtHand:
    """When an array is on the chip: a temporary if so many of it, which a loop stacks, have room; what the step is
    given, in a role, only where it is read in another layout."""

    given: Role | None = None
    stacked: int = 1

    def under(self, size: Any, value: Value, computed: Layout, rules: ShardingRules, chip: ChipMemory) -> Any:
        """Whether it is, of so many bytes, where an operation has it in a layout."""
        fits = 2 * self.stacked * size <= chip.on_chip
        if self.given is None:
            return fits
        layout = rules.layout(sizes_of(value.type), self.given)
        return fits & ~same_masks((mask, layout.get(name, 0)) for name, mask in computed.items())


@dataclass(frozen=True, slots=True)
class Moved:
    """What an operation reads or writes, as it is sharded in the iteration space where that computes with it; whether
    its bytes are those of rows; and when none of them are waited for, if ever."""

    access: Access
    space: Space
    in_rows: bool = False
    at_hand: AtHand | None = None

    @property
    def value(self) -> Value:
        return self.access.value

    def bytes(self, rules: ShardingRules, chip: ChipMemory) -> Any:
        """On one device, less what is on the chip at hand."""
        size: Any = self.value.type.elements * item_size(self.value.type.dtype)
        layout = _computed(self.access, self.space, rules)
        for mask in layout.values():
            size = size // rules.mesh.group(mask)
        if self.in_rows and self.value.type.dims:
            last = self.value.type.dims[-1]
            length = last.size // rules.mesh.group(layout.get(last.name, 0) if last.name is not None else 0)
            size = chip.in_rows(size, length)
        if self.at_hand is not None:
            size = size * (1 - self.at_hand.under(size, self.value, layout, rules, chip))
        return size

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for what moves the same bytes under all rules: all of them, the names, and where these are others in
        the space those; of rows how long they are; when it is on the chip; and the space."""
        type_, node = self.value.type, self.access.node
        size, names = type_.elements * item_size(type_.dtype), tuple(sorted(sizes_of(type_).items()))
        last = tuple((dim.name or "", dim.size) for dim in type_.dims[-1:]) if self.in_rows else ()
        here = (self.at_hand.given or "", self.at_hand.stacked) if self.at_hand is not None else ()
        renamed = str(node.outputs[0].type) if op_of(node).renames and self.value not in node.outputs else ""
        return size, names, last, renamed, here, self.space.key


@dataclass(frozen=True, slots=True)
class Turned:
    """A table that is read or written row by row. Where it takes less room than with rows along the lanes it lies
    otherwise, and is copied."""

    access: Access
    space: Space

    def seconds(self, rules: ShardingRules, chip: ChipMemory) -> Any:
        """Those of the copy; none where there is none."""
        own = _computed(self.access, self.space, rules)
        size: Any = item_size(self.access.value.type.dtype)
        lengths: list[Any] = []
        for dim in self.access.value.type.dims:
            lengths.append(dim.size // rules.mesh.group(own.pop(dim.name, 0) if dim.name is not None else 0))
            size = size * lengths[-1]
        filled_up = [chip.filled_up(length) for length in lengths]
        rows, least = chip.room(size, filled_up, True), chip.room(size, filled_up)
        return rows * (rows > least) / _TURNED

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for what moves the same bytes under all rules."""
        type_ = self.access.value.type
        return item_size(type_.dtype), tuple((dim.name or "", dim.size) for dim in type_.dims), self.space.key


def _computed(access: Access, space: Space, rules: ShardingRules) -> Layout:
    """How a value is sharded where an operation of that iteration space computes with it."""
    layout = rules.layout(space.sizes, space.role, space.blocked)
    if access.value in access.node.outputs:
        return restricted(layout, access.value.type, rules)
    return operand_layout(access.node, access.value, layout, rules)


@dataclass(frozen=True)
class Moving:
    """What the operations of a graph move on a chip.

    Attributes:
        rows: the numbers of values of which whole rows of lanes are moved.
        stacked: of how many slices those are one that loops read or write slice by slice; of a chip on which no
            temporaries stay, none.
        given: the numbers of what the step is given, and of what loops read of that; none there either.
    """

    roles: Roles
    chip: ChipMemory
    rows: frozenset[int]
    stacked: Mapping[int, int]
    given: frozenset[int]

    @classmethod
    def of(cls, graph: Graph, roles: Roles, chip: ChipMemory) -> Moving:
        rows = moved_by_rows(graph, roles, chip)
        if not chip.on_chip:
            return cls(roles, chip, rows, {}, frozenset())
        return cls(roles, chip, rows, _stacked(graph), frozenset(_given(graph)))

    def in_scope(self, graph: Graph) -> list[tuple[Moved | Turned, ...]]:
        """What each node of a body reads and writes. And what is copied for it: a table once for all that look up in
        it, and the gradient of one before rows are added to it and behind that, where that is in the memory of the
        device."""
        found: list[tuple[Moved | Turned, ...]] = []
        copied: set[int] = set()
        spaces: dict[int, Space] = {}
        for position, (node, accesses) in enumerate(zip(graph.nodes, traffic(graph).moved, strict=True)):
            waits = self.chip.on_chip == 0 or not op_of(node).flops(node)
            moved: list[Moved] = []
            for each in accesses:
                if each.position not in spaces:
                    spaces[each.position] = space_of(each.node, self.roles)
                at_hand = None if waits else self._at_hand(each.value)
                moved.append(Moved(each, spaces[each.position], each.value.id in self.rows, at_hand))
            table = node.inputs[0] if self.chip.in_tiles and op_of(node).by_row(node) else None
            turned: list[Turned] = []
            if isinstance(table, Value) and table.id not in copied:
                writes = op_of(node).writes_into
                count = 1 if not writes else 2 if self.chip.copies_rows else 0
                turned = [Turned(Access(table, node, position), space_of(node, self.roles))] * count
                copied.update([table.id] if not writes else [])
            found.append((*moved, *turned))
        return found

    def _at_hand(self, value: Value) -> AtHand:
        """When a product has a value on the chip."""
        if value.id in self.given:
            return AtHand(self.roles[value.id])
        return AtHand(None, self.stacked.get(value.id, 1))


def _given(graph: Graph) -> set[int]:
    found = {value.id for value in graph.inputs}
    for node in graph.walk():
        carried = {before.id for before, _ in op_of(node).carries(node)}
        for _, feeds in op_of(node).body_operands(node) if entered(node) else ():
            pairs = [(outer, inner.id) for outer, inner, _ in feeds if inner.id not in carried]
            found.update(inner for outer, inner in pairs if isinstance(outer, Value) and outer.id in found)
    return found


def _stacked(graph: Graph) -> dict[int, int]:
    found: dict[int, int] = {}
    for node in [node for node in graph.walk() if op_of(node).scans(node)]:
        trips = node.count("trips", 1)
        for _, feeds in op_of(node).body_operands(node):
            found.update((inner.id, trips) for _, inner, scanned in feeds if scanned)
        for _, results in op_of(node).body_results(node):
            found.update((inner.id, trips) for inner, _, made in results if made and isinstance(inner, Value))
    return found
