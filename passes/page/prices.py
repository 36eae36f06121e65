"""The cost of every plan of a space as tables that travel in a page, which prices them again by looking up.

They are the tables of the search (`passes.planner.groups`): for each mesh axis, which sets of names that wish for it
differ to an operation, and the cost for each combination. A page adds up one entry of each table. What is sent is split
by kind of collective: the same terms are priced on networks that charge for one kind alone, or one for each collective.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ir.ops import OPS
from passes.hardware.network import Network
from passes.planner.groups import Group, group_of
from passes.planner.memory import MEMORY_KINDS
from passes.planner.peaks import sizes
from passes.planner.problem import Problem
from passes.planner.tables import EXTRA, Asked
from passes.planner.terms import Term, cost_terms
from passes.sharding.mesh import Mask
from passes.sharding.rules import ShardingRules

Row = dict[str, Any]


@dataclass(frozen=True)
class _OneKind(Network):
    """A network on which only collectives of one kind take time, or each takes one second."""

    kind: str = ""
    counted: bool = False

    def seconds(self, kind: str, mask: Mask, volume: Mask, awaited: bool = True) -> Any:
        taken = super().seconds(kind, mask, volume, awaited)
        # What goes round is sent by permutes.
        share = {self.kind: 1.0}.get("permute" if OPS[kind].one_way else kind, 0.0)
        return (np.asarray(taken) > 0) * share if self.counted else taken * share


def prices(problem: Problem, regather: bool) -> Row | None:
    """What a page needs to price every plan of a space; None where there are too many ways of being laid out."""
    network, space = problem.network, problem.space
    kinds = sorted(kind for kind, op in OPS.items() if op.communicates and not op.one_way)
    split = [
        cost_terms(
            problem.graph, problem.roles, _OneKind(network.mesh, network.chip, network.given, kind, counted), regather
        )
        for kind in kinds
        for counted in (False, True)
    ]
    asked = [_asked(term, [each[i] for each in split], problem) for i, term in enumerate(problem.terms)]
    entries = sizes(problem.memory, network.chip.memory, space)
    stored = list(dict.fromkeys(choice.names for choice in space.storage_choices if len(choice.names) < 2))
    time = _Shared(problem, asked, summed=True)
    memory = _Shared(problem, [each for each, _ in entries], summed=False)
    try:
        of_time = {"".join(names): time.under(names) for names in stored}
        of_memory = {"".join(names): memory.under(names) for names in stored}
    except _TooLarge:
        return None
    return {
        "kinds": kinds,
        "tables": time.rows,
        "of": of_time,
        "entries": memory.rows,
        "entriesOf": of_memory,
        "places": [group for _, group in entries],
        "events": [[e.sign, e.entry, MEMORY_KINDS.index(e.kind), e.sort] for e in problem.memory.events],
        "memoryKinds": list(MEMORY_KINDS),
        "overlap": {"state": network.chip.overlap.state, "activations": network.chip.overlap.activations},
        "capacity": network.chip.capacity,
        "onChip": min(network.chip.memory.on_chip, 2**52),
        "copies": min(network.chip.memory.copies, 2**52),
    }


def _asked(term: Term, split: Sequence[Term], problem: Problem) -> Asked:
    """Seconds of computing, of activations and of state that are sent; then of each kind of collective the seconds and
    how many there are."""

    def rows(rules: ShardingRules) -> list[Any]:
        cost = term.price(rules)
        found = [cost.compute, cost.activations, cost.hidden]
        for each in split:
            sent = each.price(rules)
            found.append(sent.activations + sent.hidden + sent.covered)
        return [term.times * each for each in found]

    return Asked.of(rows, problem.space, term.seen)


MOST_NUMBERS = 10_000_000
"""Of all tables of a page, which then has about 20 MB; rows of zeros do not count."""
_FIRST_CODE, _CODES = 0x5D, 0xD000
"""Code points that stand for places in a list: from `]` on, without what JSON or HTML reads as something else."""


class _TooLarge(Exception):
    """A table that the search does not fill either, until enough is decided; or more numbers than a page may have."""


class _Shared:
    """Tables under each name that may be stored over axes of its own. Those over the same classes are one, their values
    added up where they are `summed`; what does not mention the stored name is shared."""

    def __init__(self, problem: Problem, asked: Sequence[Asked], summed: bool) -> None:
        self.problem = problem
        self.asked = asked
        self.summed = summed
        self.rows: list[Row] = []
        self.tables: dict[int, Row] = {}
        self.known: dict[tuple[int, ...], int] = {}
        self.numbers = 0

    def under(self, stored: tuple[str, ...]) -> list[int]:
        """The positions of the tables; where they are not summed, one for each that was asked for."""
        groups: dict[Any, list[tuple[int, Row]]] = {}
        for i, each in enumerate(self.asked):
            own = bool(each.stored & {*stored})
            if not own and i not in self.tables:
                self.tables[i] = _row(group_of(each, self.problem.space, ()))
            row = _row(group_of(each, self.problem.space, stored)) if own else self.tables[i]
            key = (own, str(row["names"]), str(row["classes"])) if self.summed else i
            groups.setdefault(key, []).append((i if not own else -1 - i, row))
        return [self.position(group) for group in groups.values()]

    def position(self, group: Sequence[tuple[int, Row]]) -> int:
        """Where the sum of some tables is."""
        key = tuple(number for number, _ in group)
        shared = all(number >= 0 for number in key)
        if shared and key in self.known:
            return self.known[key]
        total = np.sum([np.array(row["values"]) for _, row in group], axis=0)
        values = [_packed(row) for row in total]
        self.rows.append({**group[0][1], "values": values})
        self.numbers += sum(total[0].size for row in values if row)
        if self.numbers > MOST_NUMBERS:
            raise _TooLarge
        if shared:
            self.known[key] = len(self.rows) - 1
        return len(self.rows) - 1


def _packed(row: Any) -> Any:
    """The values of a row: the different ones, and a character for each place that says which of them is there; a list
    where they are too many, and 0 for a row of zeros."""
    values, which = np.unique([float(f"{each:.12g}") for each in row.tolist()], return_inverse=True)
    if not values.any():
        return 0
    if len(values) > _CODES:
        return values[which].tolist()
    return {"of": values.tolist(), "at": "".join(chr(_FIRST_CODE + int(each)) for each in which)}


def _row(group: Group) -> Row:
    """A table as JSON: its names (`+` for storage), for each mesh axis the class of each set of them (-1: none), and
    the values, one list a row; 0 where a name cannot have the mesh axes."""
    found = group.all_values
    if found is None:
        raise _TooLarge
    values = np.where(np.isfinite(found), found, 0.0)
    return {
        "names": ["+" if name == EXTRA else name for name in group.names],
        "classes": [[int(each) for each in side.classes] for side in group.sides],
        "counts": [len(side.chosen) for side in group.sides],
        "values": [[float(each) for each in row.reshape(-1)] for row in values],
    }
