"""The search: the fastest plan of the space that fits in memory, with proof.

Branch and bound over the storage choices and the options of names. A node of the search tree has fixed some names; its
bound is the sum of the smallest entries of all tables under what is fixed, which no completion can beat. When few
enough plans are left in a branch they are all evaluated at once, exactly, as one array; the fastest of them are checked
for memory in order. What is never looked at is proven slower than what was kept, so the result is the optimum of the
whole space, and the runner-up is the next distinct price.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from passes import errors
from passes.hardware.chip import Chip, Overlap
from passes.planner.cost import step_seconds
from passes.planner.memory import MemoryProgram
from passes.planner.space import PlanSpace, StorageAxes
from passes.planner.terms import Term

LEAF = 1 << 17
CHUNK = 512
_DISTINCT = 1e-6
MOST_LAYOUTS = 1 << 24
"""Of one operation: all are priced, and their prices fill a few hundred megabytes."""

Float = npt.NDArray[np.float64]
Assignment = dict[str, int]


@dataclass(frozen=True)
class Candidate:
    """A complete plan: predicted seconds, peak bytes, storage choice, mask of every name with options."""

    seconds: float
    peak: int
    stored: StorageAxes
    masks: Assignment


@dataclass(frozen=True)
class Table:
    """Seconds over the options of some names, stacked as (operations, activations, parameters and gradients)."""

    names: tuple[str, ...]
    values: Float

    def fix(self, name: str, option: int) -> "Table":
        if name not in self.names:
            return self
        axis = self.names.index(name)
        rest = self.names[:axis] + self.names[axis + 1 :]
        return Table(rest, np.take(self.values, option, axis=axis + 1))

    def bound(self, overlap: Overlap) -> float:
        """The least that this table adds to any step."""
        compute, activations, hidden = self.values
        return float(np.min(compute + (1.0 - overlap.activations) * activations + (1.0 - overlap.state) * hidden))


def search(
    space: PlanSpace, terms: list[Term], memory: MemoryProgram, chip: Chip
) -> tuple[list[Candidate], Candidate | None]:
    """The best candidates in order of price (at most two, the second slower than the first), and the candidate with the
    smallest peak of all that were looked at. The list is empty where nothing fits."""
    return _Search(space, terms, memory, chip).run()


def tabulate(space: PlanSpace, terms: list[Term], stored: StorageAxes) -> list[Table]:
    """The tables of some terms under one storage choice, those over the same names added up."""
    total: dict[tuple[str, ...], Float] = {}
    for term in terms:
        names = tuple(name for name in space.names if name in term.names)
        shape = tuple(len(space.options[name]) for name in names)
        if prod(shape) > MOST_LAYOUTS:
            raise errors.too_many_layouts(names, prod(shape), MOST_LAYOUTS)
        values = total.setdefault(names, np.zeros((3, *shape)))
        cost = term.price(space.rules(stored, names))
        for row, part in enumerate((cost.compute, cost.activations, cost.hidden)):
            values[row] += part * term.times
    return _absorb([Table(names, values) for names, values in total.items()])


def _absorb(tables: list[Table]) -> list[Table]:
    """Adds every table to one over more names where there is one: fewer tables bound more tightly."""
    kept: list[Table] = []
    for table in sorted(tables, key=lambda table: (-len(table.names), table.names)):
        for i, wide in enumerate(kept):
            if set(table.names) <= set(wide.names):
                kept[i] = Table(wide.names, wide.values + _expand(table, wide.names))
                break
        else:
            kept.append(table)
    return kept


def _expand(table: Table, names: tuple[str, ...]) -> Float:
    """The table's values shaped to broadcast over `names` (in the same order)."""
    sizes = dict(zip(table.names, table.values.shape[1:], strict=True))
    return table.values.reshape(3, *(sizes.get(name, 1) for name in names))


class _Search:
    def __init__(self, space: PlanSpace, terms: list[Term], memory: MemoryProgram, chip: Chip) -> None:
        self.space = space
        self.memory = memory
        self.chip_memory = chip.memory
        self.capacity = chip.capacity
        self.overlap = chip.overlap
        self.free_terms = [term for term in terms if not term.stored]
        self.stored_terms = [term for term in terms if term.stored]
        self.best: list[Candidate] = []
        self.leanest: Candidate | None = None

    def run(self) -> tuple[list[Candidate], Candidate | None]:
        shared = tabulate(self.space, self.free_terms, StorageAxes(None, 0))
        branches: list[tuple[float, int, list[Table]]] = []
        indifferent: dict[str | None, list[Table]] = {}
        for i, stored in enumerate(self.space.storage_choices):
            name = stored.name
            if name not in indifferent:
                # A storage choice changes nothing for terms that do not mention its name.
                rest = [term for term in self.stored_terms if name not in term.names]
                indifferent[name] = _absorb(shared + tabulate(self.space, rest, StorageAxes(None, 0)))
            concerned = [term for term in self.stored_terms if name in term.names]
            tables = _absorb(indifferent[name] + tabulate(self.space, concerned, stored))
            branches.append((self.bound(tables), i, tables))
        for bound, i, tables in sorted(branches, key=lambda branch: branch[:2]):
            if bound < self.limit:
                self.branch(self.space.storage_choices[i], tables, {})
        return self.best, self.leanest

    def bound(self, tables: list[Table]) -> float:
        return sum(table.bound(self.overlap) for table in tables)

    @property
    def limit(self) -> float:
        """What a branch must beat: the second best so far."""
        return self.best[1].seconds if len(self.best) > 1 else np.inf

    def branch(self, stored: StorageAxes, tables: list[Table], fixed: Assignment) -> None:
        open_names = [name for name in self.space.names if name not in fixed]
        if prod(len(self.space.options[name]) for name in open_names) <= LEAF:
            self.leaf(stored, tables, fixed, tuple(open_names))
            return
        name = max(open_names, key=lambda n: (sum(n in table.names for table in tables), -open_names.index(n)))
        children: list[tuple[float, int, list[Table]]] = []
        for option in range(len(self.space.options[name])):
            narrowed = [table.fix(name, option) for table in tables]
            children.append((self.bound(narrowed), option, narrowed))
        for bound, option, narrowed in sorted(children, key=lambda child: child[:2]):
            if bound < self.limit:
                self.branch(stored, narrowed, fixed | {name: option})

    def leaf(self, stored: StorageAxes, tables: list[Table], fixed: Assignment, names: tuple[str, ...]) -> None:
        """Every plan of a branch at once."""
        shape = tuple(len(self.space.options[name]) for name in names)
        parts = np.zeros((3, *shape))
        for table in tables:
            parts += _expand(table, names)
        compute, activations, hidden = parts
        seconds: Float = step_seconds(compute, activations, hidden, self.overlap).reshape(-1)
        for indices in _chunks(seconds, self.limit):
            if seconds[indices[0]] >= self.limit:
                return
            options = dict(zip(names, np.unravel_index(indices, shape), strict=True)) if names else {}
            masks = {
                name: self.space.options[name][options[name] if name in options else np.full(len(indices), fixed[name])]
                for name in self.space.names
            }
            peaks = self.peaks(stored, masks, len(indices))
            least = int(np.argmin(peaks))
            for k in (least, *np.flatnonzero(peaks <= self.capacity)):
                chosen = {name: int(masks[name][k]) for name in self.space.names}
                candidate = Candidate(float(seconds[indices[k]]), int(peaks[k]), stored, chosen)
                if self.leanest is None or candidate.peak < self.leanest.peak:
                    self.leanest = candidate
                if candidate.peak <= self.capacity:
                    self.keep(candidate)

    def peaks(self, stored: StorageAxes, masks: dict[str, Any], count: int) -> Any:
        rules = self.space.rules(stored, self.space.names, chosen=masks)
        peak, _ = self.memory.peak(rules, self.chip_memory)
        return np.broadcast_to(peak, (count,))

    def keep(self, candidate: Candidate) -> None:
        """Ranks a candidate. Of equal prices the simplest plan is kept: the fewest axes used."""
        ranked = sorted([*self.best, candidate], key=_rank)
        second = next((c for c in ranked if c.seconds > ranked[0].seconds * (1 + _DISTINCT)), None)
        first = min((c for c in ranked if c.seconds <= ranked[0].seconds * (1 + _DISTINCT)), key=_simplicity)
        self.best = [first] if second is None else [first, second]


def _chunks(seconds: Float, limit: float) -> Iterator[npt.NDArray[np.int64]]:
    """Indices of plans below the limit, fastest first, a chunk at a time."""
    below = np.flatnonzero(seconds < limit)
    if below.size > 8 * CHUNK:
        head = below[np.argpartition(seconds[below], 4 * CHUNK)[: 4 * CHUNK]]
        head = head[np.argsort(seconds[head], kind="stable")]
        for start in range(0, len(head), CHUNK):
            yield head[start : start + CHUNK]
    order = below[np.argsort(seconds[below], kind="stable")]
    for start in range(4 * CHUNK if below.size > 8 * CHUNK else 0, len(order), CHUNK):
        yield order[start : start + CHUNK]


def _uses(candidate: Candidate) -> int:
    return sum(mask.bit_count() for mask in (*candidate.masks.values(), candidate.stored.mask))


def _rank(candidate: Candidate) -> tuple[Any, ...]:
    return (candidate.seconds, *_simplicity(candidate))


def _simplicity(candidate: Candidate) -> tuple[Any, ...]:
    name = candidate.stored.name or ""
    return (_uses(candidate), tuple(sorted(candidate.masks.items())), name, candidate.stored.mask)
