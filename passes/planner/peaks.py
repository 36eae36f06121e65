"""The peak of memory as the largest of a few sums, over the same variables as the tables of time.

Between two allocations nothing is larger than after the first of them, and most moments hold less of everything than
another one: those that are left are rows of counts, by which the sizes of the entries of a `MemoryProgram` are
multiplied. A sum of smallest sizes is a bound on what any plan needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from passes.hardware.memory import ChipMemory
from passes.planner.memory import PAIRED, SORTS, MemoryProgram
from passes.planner.space import PlanSpace
from passes.planner.tables import Asked, Float

_FULLEST = 32
"""Moments that a bound on bytes looks at."""


@dataclass(frozen=True)
class Moments:
    """How many values there are at the moments that matter: [sort, moment, entry], by `Event.sort`."""

    sorts: Float
    chip: ChipMemory

    @classmethod
    def of(cls, program: MemoryProgram, chip: ChipMemory) -> "Moments":
        counts = np.zeros((SORTS, len(program.entries)))
        rows: dict[bytes, npt.NDArray[np.float64]] = {}
        for event in program.events:
            counts[event.sort, event.entry] += event.sign
            if event.sign > 0:
                rows.setdefault(counts.tobytes(), counts.copy())
        kept = np.stack(list(rows.values())) if rows else counts[None]
        kept = kept[_undominated(kept.reshape(len(kept), -1))]
        return cls(np.ascontiguousarray(kept.transpose(1, 0, 2)), chip)

    @classmethod
    def none(cls, chip: ChipMemory) -> "Moments":
        """One at which nothing is held."""
        return cls(np.zeros((SORTS, 1, 0)), chip)

    @property
    def entries(self) -> int:
        """How many entries there are."""
        return self.sorts.shape[2]

    @cached_property
    def counts(self) -> Float:
        """[moment, entry] how many values there are, on the chip as well."""
        found: Float = self.sorts.sum(axis=0)
        return found

    @cached_property
    def _pairs(self) -> bool:
        """Whether there are gradients beside parameters that stay on the chip."""
        return bool(self.sorts[PAIRED].any())

    def ordered(self, entries: Sequence[int]) -> "Moments":
        """The same with the entries in another order."""
        return Moments(self.sorts[:, :, entries], self.chip)

    def fullest(self, sizes: Float) -> "Moments":
        """Some of the moments, those at which most is held with entries of such sizes: what decides between plans is
        most often there."""
        if self.sorts.shape[1] <= _FULLEST:
            return self
        order = np.argsort(-self.held(sizes), kind="stable")[:_FULLEST]
        return Moments(self.sorts[:, order], self.chip)

    def held(self, sizes: Float) -> Float:
        """[entry, candidate] bytes → [moment, candidate] bytes in the memory of the device."""
        if not self.chip.on_chip:
            all_of_it: Float = self.counts @ sizes
            return all_of_it - self.chip.left_to_gradients(self.sorts[PAIRED] @ sizes) if self._pairs else all_of_it
        staying, *others = (each @ sizes for each in self.sorts)
        result: Float = staying + self.chip.off_chip(*others)
        return result

    def peak(self, sizes: Float) -> Float:
        """[entry, candidate] bytes → [candidate] bytes; of the least sizes there are, a bound."""
        return self.held(sizes).max(axis=0)


def _undominated(rows: Float) -> list[int]:
    """The rows that no other is at least as large as, everywhere."""
    order = np.argsort(-rows.sum(axis=1), kind="stable")
    kept: list[int] = []
    large = np.empty_like(rows)
    for i in order:
        if not (large[: len(kept)] >= rows[i]).all(axis=1).any():
            large[len(kept)] = rows[i]
            kept.append(int(i))
    return sorted(kept)


def sizes(program: MemoryProgram, chip: ChipMemory, space: PlanSpace) -> list[tuple[Asked, list[int]]]:
    """The entries of a memory program as functions of sharding rules that give bytes: those with dims of the same names
    and sizes together, one in each row, and which they are."""
    groups: dict[object, list[int]] = {}
    for i, entry in enumerate(program.entries):
        groups.setdefault(entry.depends_on, []).append(i)

    def asked(group: list[int]) -> Asked:
        return Asked.of(lambda rules: [program.entries[i].local(rules, chip) for i in group], space)

    return [(asked(group), group) for group in groups.values()]
