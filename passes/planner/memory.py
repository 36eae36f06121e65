"""What a step allocates and frees on each device, in order, and the peak of it under sharding rules.

Values are counted by type and role, so a whole batch of candidate plans is evaluated at once. `allocations` writes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from ir.graph import Node, Value
from ir.ops import op_of
from passes.hardware.memory import PLAIN_MEMORY, ROWS_AT_HAND, ChipMemory
from passes.planner.rows import ALWAYS, Rows
from passes.sharding.iteration_space import space_of
from passes.sharding.mesh import DeviceMesh, same_masks
from passes.sharding.roles import Roles
from passes.sharding.rules import Layout, Role, ShardingRules, sizes_of

MemoryKind = Literal["parameters", "optimizer", "gradients", "activations", "temporaries"]
MEMORY_KINDS: tuple[MemoryKind, ...] = ("parameters", "optimizer", "gradients", "activations", "temporaries")


@dataclass(frozen=True, slots=True)
class Event:
    """`sign` times the bytes of an entry (a type in a role) come or go. What `stays` is there before or after the step,
    so it is in the memory of the device and not on the chip; what is `stacked` a loop reads or writes in every trip;
    what is `looped` a trip makes for itself; what is `paired` or `reduced` is a gradient that waits for the update
    (`ChipMemory.gradients_off_chip`)."""

    sign: int
    entry: int
    kind: MemoryKind
    stays: bool = False
    stacked: bool = False
    looped: bool = False
    paired: bool = False
    reduced: bool = False

    @property
    def sort(self) -> int:
        """0 for what is there before or after the step, 1 for what comes and goes, 2 for what a loop stacks, 3 for what
        is in its body, 4 and 5 for gradients that are paired or reduced."""
        if self.stays:
            return 0
        return 2 if self.stacked else 3 if self.looped else PAIRED if self.paired else 5 if self.reduced else 1


PAIRED = 4
"""The sort of gradients beside parameters that stay on the chip."""
SORTS = 6
"""How many sorts of events there are."""


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
    only where what each device makes in full is stored over all, beside its own part; when its last dim is
    innermost; whether it is the record of such copies; the name that must be sharded for it to be there, of what goes
    round then; and whether it stands for what is brought to the chip where it fits, or for what is not where it does
    not: while an operation reads its operands there, those of the next arrive, so half of the chip is for each; and
    whether it stands for a gradient that waits for the update, `made` in the layout in which it is stored and no
    larger than the chip, or for one that does not."""

    dims: tuple[tuple[str | None, int], ...]
    item: int
    role: Role
    copies: tuple[Place, ...] = ()
    over_all: bool = False
    by_rows: Rows | None = None
    record: bool = False
    around: str = ""
    at_hand: Literal["", "fits", "beyond"] = ""
    gradient: Literal["", "waits", "else"] = ""
    made: Place | None = None

    def local(self, rules: ShardingRules, chip: ChipMemory = PLAIN_MEMORY) -> Any:
        """Bytes on one device; of copies, of each that differs from what is stored and from the others."""
        layout = self.stored_in(rules)
        if self.gradient:
            return self._gradient(rules, chip, self.masks(layout))
        if self.copies:
            return self._copied(rules, chip, self.masks(layout))
        size = self.bytes_of(rules, chip, self.masks(layout))
        if self.at_hand:
            return size * ((2 * size <= chip.on_chip) == (self.at_hand == "fits"))
        return size * (layout.get(self.around, 0) != 0) if self.around else size

    def stored_in(self, rules: ShardingRules) -> Layout:
        """The layout that rules give it."""
        sizes: dict[str, int] = {}
        for name, size in self.dims:
            if name is not None:
                sizes.setdefault(name, size)
        return rules.layout(sizes, self.role)

    def masks(self, layout: Layout) -> list[Any]:
        """The mesh axes of each of its dims."""
        return [layout.get(name, 0) if name is not None else 0 for name in self.own_names()]

    def masks_in(self, rules: ShardingRules, place: Place, layout: Layout) -> list[Any]:
        """The mesh axes that each of its dims has in a place with this layout."""
        return [
            rules.mesh.fitted(size, layout.get(name, 0)) if own is not None and name is not None else 0
            for own, name, (_, size) in zip(self.own_names(), place.names, self.dims, strict=True)
        ]

    @property
    def depends_on(self) -> tuple[Any, ...]:
        """Equal for entries whose bytes are asked of rules in the same way."""
        return (
            tuple(dict(reversed(self.dims)).items()),
            self.role,
            self.copies,
            self.over_all,
            self.made,
            self.by_rows or ALWAYS,
        )

    def own_names(self) -> tuple[str | None, ...]:
        """The names of its dims, none for one whose name occurred before: that is not sharded."""
        return _first_names([name for name, _ in self.dims])

    def bytes_of(self, rules: ShardingRules, chip: ChipMemory, masks: Sequence[Any]) -> Any:
        """Bytes on one device where its dims are sharded so."""
        mesh = rules.mesh
        size: Any = self.item
        for (_, length), mask in zip(self.dims, masks, strict=True):
            size = size * (length // mesh.group(mask))
        if not chip.in_tiles or not self.dims:
            return size
        every = [_filled_up(chip, length, mesh) for _, length in self.dims]
        filled_up = [(across[mask], down[mask]) for (across, down), mask in zip(every, masks, strict=True)]
        if self.by_rows is None:
            return chip.room(size, filled_up)
        rows = chip.room(size, filled_up, True)
        if self.copies or self.by_rows == ALWAYS:
            return rows
        rows = rows * (rows > ROWS_AT_HAND)
        plain = chip.room(size, filled_up)
        return plain + (rows - plain) * self.by_rows.under(rules)

    def _gradient(self, rules: ShardingRules, chip: ChipMemory, stored: Sequence[Any]) -> Any:
        assert self.made is not None
        layout = rules.layout(dict(self.made.sizes), self.made.role, self.made.blocked)
        made = self.masks_in(rules, self.made, layout)
        size = self.bytes_of(rules, chip, stored)
        waits = same_masks(zip(made, stored, strict=True)) & (size <= max(chip.on_chip, chip.copies))
        return size * (waits == (self.gradient == "waits"))

    def _copied(self, rules: ShardingRules, chip: ChipMemory, stored: Sequence[Any]) -> Any:
        total: Any = 0
        there = [stored]
        for place in self.copies:
            fitted = self.masks_in(rules, place, rules.layout(dict(place.sizes), place.role, place.blocked))
            fresh: Any = np.ones((), bool)
            for other in there:
                fresh = fresh & ~same_masks(zip(fitted, other, strict=True))
            if self.over_all:
                alone = fresh & (sum(stored) == rules.mesh.masks - 1) & (sum(fitted) == 0)
                total = total + (self.bytes_of(rules, chip, fitted) - self.bytes_of(rules, chip, stored)) * alone
                continue
            size = self.bytes_of(rules, chip, fitted)
            if self.by_rows is not None:
                plain = replace(self, by_rows=None).bytes_of(rules, chip, fitted)
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
        if all(np.ndim(size) == 0 for size in sizes):
            return self._peak_of_one([int(size) for size in sizes], chip)
        total: list[Any] = [0] * SORTS
        highest: Any = 0
        for event in self.events:
            total[event.sort] = total[event.sort] + event.sign * sizes[event.entry]
            highest = np.maximum(highest, total[0] + chip.off_chip(*total[1:]))
        return highest, {}

    def _peak_of_one(self, sizes: Sequence[int], chip: ChipMemory) -> tuple[int, dict[MemoryKind, Any]]:
        """The peak of one plan, and what it is made of."""
        changes = np.zeros((SORTS, len(self.events) + 1), np.int64)
        for i, event in enumerate(self.events):
            changes[event.sort, i + 1] = event.sign * sizes[event.entry]
        staying, *others = changes.cumsum(axis=1)
        running = staying + chip.off_chip(*others)
        at = int(np.argmax(running))
        held: dict[tuple[MemoryKind, int], Any] = {}
        for event in self.events[:at]:
            key = (event.kind, event.sort)
            held[key] = held.get(key, 0) + event.sign * sizes[event.entry]
        return int(running[at]), _in_memory(held, chip)

    def held(self, rules: ShardingRules, chip: ChipMemory = PLAIN_MEMORY) -> list[tuple[MemoryKind, Entry, int]]:
        """What is held in the memory of the device when most is: of each kind, the entries and how many of each. Of
        what loops stack, the largest arrays that make up what has no room on the chip."""
        sizes = [int(entry.local(rules, chip)) for entry in self.entries]
        total, highest = [0] * SORTS, 0
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
                beside = int(chip.gradients_off_chip(total[1], *total[3:]))
                for sorts, room in (((2, 3), off - beside - total[1] * waits), ((4, 5), beside)):
                    _limit(found, sorts, room, sizes)
        merged: dict[tuple[MemoryKind, int], int] = {}
        for (kind, entry, _), count in found.items():
            if count:
                merged[kind, entry] = merged.get((kind, entry), 0) + count
        return [(kind, self.entries[entry], count) for (kind, entry), count in merged.items()]

    def on_chip(self, rules: ShardingRules, chip: ChipMemory) -> int:
        """The most that temporaries take on the chip: what has no part in the peak."""
        sizes = [int(entry.local(rules, chip)) for entry in self.entries]
        total, most = [0] * SORTS, 0
        for event in self.events:
            if not event.stays:
                total[event.sort] += event.sign * sizes[event.entry]
                most = max(most, sum(total) - int(chip.off_chip(*total[1:])))
        return most


@lru_cache(maxsize=1 << 12)
def _filled_up(chip: ChipMemory, length: int, mesh: DeviceMesh) -> tuple[Any, Any]:
    """[mask] → by how much a dim that is sharded over these mesh axes is filled up, as lanes and as rows."""
    return chip.filled_up(length // mesh.products)


def _limit(
    found: dict[tuple[MemoryKind, int, int], int], sorts: Sequence[int], room: int, sizes: Sequence[int]
) -> None:
    """Leaves of what is of some sorts the largest arrays that make up so many bytes."""
    for key in sorted((each for each in found if each[2] in sorts), key=lambda each: (each[2], -sizes[each[1]])):
        found[key] = min(found[key], -(-room // sizes[key[1]]) if sizes[key[1]] and room > 0 else 0)
        room -= found[key] * sizes[key[1]]


def _in_memory(held: Mapping[tuple[MemoryKind, int], Any], chip: ChipMemory) -> dict[MemoryKind, Any]:
    """What takes memory of the device, by kind: of what loops stack and make, and of gradients beside their parameters,
    what has no room on the chip."""
    waiting, stacked, looped, *gradients = (
        sum(size for (_, each), size in held.items() if each == sort) for sort in range(1, SORTS)
    )
    passing = waiting + looped > chip.on_chip
    beside = chip.gradients_off_chip(waiting, looped, *gradients)
    left = chip.off_chip(waiting, stacked, looped, *gradients) - beside - waiting * passing
    found: dict[MemoryKind, Any] = {}
    for kind in MEMORY_KINDS:
        found[kind] = held.get((kind, 0), 0) + passing * held.get((kind, 1), 0)
    for sorts, room in (((2, 3), left), ((4, 5), beside)):
        for sort in sorts:
            for kind in MEMORY_KINDS:
                taken = np.minimum(room, held.get((kind, sort), 0))
                room = room - taken
                found[kind] = found[kind] + taken
    return found


def _first_names(names: Sequence[str | None]) -> tuple[str | None, ...]:
    """The name of each dim, none for one whose name occurred before: that is not sharded."""
    return tuple(None if name in names[:i] else name for i, name in enumerate(names))
