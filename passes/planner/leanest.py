"""The plan that needs the least memory: the proof that nothing fits, and what is told of it then.

Branch and bound over single decisions: whether a name wishes for a mesh axis. Smallest sizes at each moment add up to
memory that no completion can do without (`passes.planner.peaks`), and that is known for either answer to each open
decision as well: an answer that cannot be leaner than the leanest plan so far is ruled out at once, and the decision
that raises the bound most comes next. What is left is no leaner, but for a thousandth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np
import numpy.typing as npt

from passes.planner.frontier import Frontier
from passes.planner.groups import MOST_ENTRIES, Function, Group, grouped, legal_group
from passes.planner.parts import HUGE
from passes.planner.peaks import Moments
from passes.planner.space import PlanSpace
from passes.planner.tables import EXTRA, Asked, Float
from passes.sharding.mesh import IntArray

LEANEST = 1e-3
"""How much leaner a plan must be than the leanest so far to be looked for."""

Decision = tuple[int, int]
"""A name, by its place, and a mesh axis."""
Lean = tuple[float, int, str | None, dict[str, int]]
"""Peak bytes, which space, the name that storage axes go to, and the mask of every name, `EXTRA` for storage."""


@dataclass(frozen=True, eq=False)
class _Table:
    """Values over the classes of each mesh axis, and for each the sets of the group's names that may still wish for it,
    with their classes. `values` is None where there are too many yet."""

    group: Group
    sets: tuple[IntArray, ...]
    values: Float | None
    there: tuple[IntArray, ...]

    @classmethod
    def of(cls, group: Group) -> "_Table":
        sets = tuple(np.flatnonzero(side.classes >= 0) for side in group.sides)
        return cls(group, sets, None, tuple(np.arange(len(side.chosen)) for side in group.sides))._filled()

    def _filled(self) -> "_Table":
        if self.values is None and prod(len(each) for each in self.there) <= MOST_ENTRIES:
            return replace(self, values=self.group.values(self.there))
        return self

    def classes(self, axis: int) -> IntArray:
        """The class of each set, by its place."""
        return np.searchsorted(self.there[axis], self.group.sides[axis].classes[self.sets[axis]])

    def cut(self, decisions: Mapping[Decision, bool]) -> "_Table":
        """What is left under some decisions."""
        sets, there, changed = list(self.sets), list(self.there), False
        values: Float | None = self.values
        for (name, axis), wished in decisions.items():
            if name in self.group.bits:
                place = self.group.bits.index(name)
                keep = (sets[axis] >> place & 1) == wished
                if not keep.all():
                    sets[axis], changed = sets[axis][keep], True
        if not changed:
            return self
        for axis, side in enumerate(self.group.sides):
            left = np.unique(side.classes[sets[axis]])
            if len(left) < len(there[axis]):
                if values is not None:
                    values = np.take(values, np.searchsorted(there[axis], left), axis=axis + 1)
                there[axis] = left
        return replace(self, sets=tuple(sets), values=values, there=tuple(there))._filled()

    @cached_property
    def least(self) -> Float:
        """[row] the smallest value that there is."""
        if self.values is None:
            return np.zeros(0 if self.group.at is None else len(self.group.at))
        values = self.values.reshape(len(self.values), -1)
        return values.min(axis=1) if values.shape[1] else np.full(len(values), np.inf)

    @cached_property
    def margins(self) -> Float:
        """[row, name, axis, wished] → how much more than the least it is if a name wishes for an axis or not."""
        found = np.zeros((len(self.least), len(self.group.bits), len(self.sets), 2))
        if self.values is None or not np.isfinite(self.least).all():
            return found
        for axis, sets in enumerate(self.sets):
            if len(self.there[axis]) > 1:
                others = tuple(other + 1 for other in range(len(self.sets)) if other != axis)
                of_set = (self.values.min(axis=others) - self.least[:, None])[:, None, self.classes(axis)]
                wishing = (sets[None, :] >> np.arange(len(self.group.bits))[:, None] & 1).astype(bool)
                found[:, :, axis, 0] = np.where(wishing, np.inf, of_set).min(axis=2)
                found[:, :, axis, 1] = np.where(wishing, of_set, np.inf).min(axis=2)
        return found

    @cached_property
    def open(self) -> npt.NDArray[np.bool_]:
        """[name, axis] whether what a name wishes may change the values."""
        found = np.zeros((len(self.group.bits), len(self.sets)), bool)
        for axis, sets in enumerate(self.sets):
            if len(self.there[axis]) > 1:
                wishing = (sets[None, :] >> np.arange(len(self.group.bits))[:, None] & 1).astype(bool)
                found[:, axis] = wishing.any(axis=1) & ~wishing.all(axis=1)
        return found


@dataclass(frozen=True)
class _Node:
    """What is left of the tables, of bytes and of what is legal at all, and what was decided."""

    space: PlanSpace
    place: int
    stored: str | None
    tables: tuple[_Table, ...]
    legal: tuple[_Table, ...]
    decided: Mapping[Decision, bool]

    def cut(self, decisions: Mapping[Decision, bool]) -> "_Node":
        tables, legal = (tuple(each.cut(decisions) for each in of) for of in (self.tables, self.legal))
        return replace(self, tables=tables, legal=legal, decided={**self.decided, **decisions})


class Leanest:
    """The search for the plan that needs the least memory."""

    def __init__(
        self,
        spaces: Sequence[PlanSpace],
        entries: Sequence[tuple[Asked, list[int]]],
        moments: Moments,
        names: Sequence[str],
        known: Lean,
    ) -> None:
        self.spaces = spaces
        self.entries = entries
        self.moments = moments
        self.names = names
        self.leanest = known

    def run(self) -> Lean:
        """The leanest plan."""
        frontier = Frontier(self.children)
        for place, space in enumerate(self.spaces):
            for node in self.roots(place, space):
                frontier.add(self.peak(node), node)
        while frontier:
            bound, node = frontier.next()
            if bound >= self.limit:
                break
            frontier.dive(node)
        return self.leanest

    @property
    def limit(self) -> float:
        """What a branch must do with less than."""
        return self.leanest[0] * (1 - LEANEST)

    def roots(self, place: int, space: PlanSpace) -> list[_Node]:
        """A node for every name that storage axes may go to."""
        functions: list[Function] = []
        for asked, group in self.entries:
            start = functions[-1].at[-1] + 1 if functions and functions[-1].at else 0
            functions.append(Function(asked, tuple(range(start, start + len(group)))))
        plain = [_Table.of(group) for group in grouped(space, functions, self.names)]
        legal = [_Table.of(group) for name in space.names if (group := legal_group(space, name, None, self.names))]
        found: list[_Node] = []
        for name in dict.fromkeys(choice.name for choice in space.storage_choices):
            tables, allowed = list(plain), list(legal)
            if name is not None:
                own = grouped(space, [each for each in functions if name in each.asked.stored], self.names, name)
                tables = [table for table in plain if name not in table.group.asked[0].stored]
                tables += [_Table.of(group) for group in own]
                if (group := legal_group(space, EXTRA, name, self.names)) is not None:
                    allowed.append(_Table.of(group))
            found.append(_Node(space, place, name, tuple(tables), tuple(allowed), {}))
        return found

    def sizes(self, node: _Node) -> Float:
        """[entry] the bytes that each takes at least."""
        least = np.zeros(self.moments.entries)
        for table in node.tables:
            least[table.group.at] = np.minimum(table.least, HUGE)
        return least

    def peak(self, node: _Node) -> float:
        """Bytes that no plan of a node can do without; infinite where none is legal."""
        if any(np.isinf(table.least).any() for table in node.legal):
            return np.inf
        return float(self.moments.peak(self.sizes(node)[:, None])[0])

    def answers(self, node: _Node) -> Float:
        """[name, axis, wished] → what no plan with this answer can do without."""
        shape = (len(self.names), len(node.space.mesh.axes), 2)
        least = self.sizes(node)
        rows = np.empty((len(least), *shape))
        rows[:] = least[:, None, None, None]
        for table in node.tables:
            if table.values is not None and table.group.at is not None:
                rows[table.group.at[:, None], np.array(table.group.bits, np.int64)] += table.margins
        found = self.moments.peak(np.minimum(rows, HUGE).reshape(len(least), -1)).reshape(shape)
        for table in node.legal:
            never = np.isinf(table.margins).any(axis=0)
            found[list(table.group.bits)] = np.where(never, np.inf, found[list(table.group.bits)])
        return found

    def children(self, node: _Node) -> list[tuple[float, _Node]]:
        """The two branches of a node that may have a leaner plan, with their bounds; none where it is one plan, which
        is kept."""
        while True:
            answers = self.answers(node)
            barred: npt.NDArray[np.bool_] = np.greater_equal(answers, self.limit)
            if barred.all(axis=2).any():
                return []
            places = zip(*np.nonzero(barred.any(axis=2)), strict=True)
            forced = {
                (int(i), int(j)): bool(barred[i, j, 0]) for i, j in places if (int(i), int(j)) not in node.decided
            }
            if not forced:
                break
            node = node.cut(forced)
        decision = self.next_decision(node, answers)
        if decision is None:
            self.keep(node)
            return []
        children = [node.cut({decision: wished}) for wished in (False, True)]
        return [(bound, child) for child in children if (bound := self.peak(child)) < self.limit]

    def next_decision(self, node: _Node, answers: Float) -> Decision | None:
        """The open decision that raises the bound most, whichever way it is made; None where nothing open matters."""
        is_open = np.zeros(answers.shape[:2], bool)
        for table in (*node.tables, *node.legal):
            is_open[list(table.group.bits)] |= table.open
        best: tuple[tuple[float, float, int, int], Decision] | None = None
        for i, j in zip(*np.nonzero(is_open), strict=True):
            least, most = sorted(answers[i, j].tolist())
            rises = (least, most, -int(i), -int(j))
            if best is None or rises > best[0]:
                best = (rises, (int(i), int(j)))
        return None if best is None else best[1]

    def keep(self, node: _Node) -> None:
        """The one plan that is left, where everything that matters is decided."""
        peak = self.peak(node)
        if peak < self.leanest[0]:
            masks = {name: int(np.bitwise_and.reduce(options)) for name, options in node.space.options.items()}
            masks[EXTRA] = 0
            for (i, axis), wished in node.decided.items():
                masks[self.names[i]] |= int(wished) << axis
            self.leanest = (peak, node.place, node.stored, masks)
