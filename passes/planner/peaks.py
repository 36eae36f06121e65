"""The peak of memory as the largest of a few sums, over the same variables as the tables of time.

Between two allocations nothing is larger than after the first of them, and most moments hold less of everything than
another one: those that are left are rows of counts, by which the sizes of the entries of a `MemoryProgram` are
multiplied. A sum of smallest sizes is a bound on what any plan needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from passes.hardware.memory import ChipMemory
from passes.planner.memory import SORTS, MemoryProgram
from passes.planner.space import PlanSpace
from passes.planner.tables import Asked, Float

_FULLEST = 32
"""Moments that a bound on bytes looks at."""


@dataclass(frozen=True)
class Moments:
    """How many values of each entry there are at the moments that matter: [moment, entry], those that are in the
    memory of the device before or after the step, those that pass, those that loops stack, those in
    their bodies, and gradients beside their parameters."""

    staying: Float
    passing: Float
    stacked: Float
    looped: Float
    paired: Float
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
        return cls(*(kept[:, sort] for sort in range(SORTS)), chip)

    @property
    def entries(self) -> int:
        """How many entries there are."""
        return self.staying.shape[1]

    @property
    def counts(self) -> Float:
        """[moment, entry] how many values there are, on the chip as well."""
        return self.staying + self.passing + self.stacked + self.looped + self.paired

    def ordered(self, entries: Sequence[int]) -> "Moments":
        """The same with the entries in another order."""
        return Moments(*(each[:, entries] for each in self._sorts), self.chip)

    def fullest(self, sizes: Float) -> "Moments":
        """Some of the moments, those at which most is held with entries of such sizes: what decides between plans is
        most often there."""
        if len(self.staying) <= _FULLEST:
            return self
        order = np.argsort(-self.held(sizes), kind="stable")[:_FULLEST]
        return Moments(*(each[order] for each in self._sorts), self.chip)

    @property
    def _sorts(self) -> tuple[Float, ...]:
        return self.staying, self.passing, self.stacked, self.looped, self.paired

    def held(self, sizes: Float) -> Float:
        """[entry, candidate] bytes → [moment, candidate] bytes in the memory of the device."""
        staying, *others = (each @ sizes for each in self._sorts)
        result: Float = staying + self.chip.off_chip(*others)
        return result

    def peak(self, sizes: Float) -> Float:
        """[entry, candidate] bytes → [candidate] bytes; of the least sizes there are, a bound."""
        return self.held(sizes).max(axis=0)


def _undominated(rows: Float) -> list[int]:
    """The rows that no other is at least as large as, everywhere."""
    order = np.argsort(-rows.sum(axis=1), kind="stable")
    kept: list[int] = []
    for i in order:
        if not kept or not (rows[kept] >= rows[i]).all(axis=1).any():
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
