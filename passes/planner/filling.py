"""What fills the memory of a device, and which name to shard next so that it holds less.

At the moment when most is held, arrays of the same axes and kind count together. What to shard next is found by trying:
each name over each further mesh axis, in use or at rest, also where the search does not look (a second name at rest).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from passes.hardware.chip import Chip
from passes.planner.cost import Cost, step_seconds
from passes.planner.memory import MEMORY_KINDS, MemoryKind, MemoryProgram
from passes.sharding.mesh import Mask
from passes.sharding.rules import Role, ShardingRules

if TYPE_CHECKING:
    from passes.planner.problem import Problem

MOST = 4
"""Of what fills a device, how much is told in a message."""


@dataclass(frozen=True)
class Filling:
    """Arrays that are held at the peak: their kind, their axes with their sizes, how many there are, and the bytes of
    all of them on one device."""

    kind: MemoryKind
    axes: Mapping[str, int]
    arrays: int
    bytes: int


@dataclass(frozen=True)
class NextName:
    """A name that is sharded over one mesh axis more: the bytes that it saves at the peak, the seconds that it costs in
    a step, and the peak that is left."""

    name: str
    role: Role
    mesh_axis: str
    saves: int
    costs: float
    peak: int


def filling(program: MemoryProgram, rules: ShardingRules, chip: Chip) -> list[Filling]:
    """What is held at the peak of a step, the most first."""
    found: dict[tuple[MemoryKind, tuple[tuple[str, int], ...]], tuple[int, int]] = {}
    for kind, entry, count in program.held(rules, chip.memory):
        sizes = tuple((name or f"_{i}", size) for i, (name, size) in enumerate(entry.dims))
        arrays, size = found.get((kind, sizes), (0, 0))
        found[kind, sizes] = arrays + count, size + count * int(entry.local(rules, chip.memory))
    rows = [Filling(kind, dict(axes), arrays, size) for (kind, axes), (arrays, size) in found.items() if size]
    return sorted(rows, key=lambda row: (-row.bytes, MEMORY_KINDS.index(row.kind), tuple(row.axes.items())))


def next_name(problem: Problem, rules: ShardingRules) -> NextName | None:
    """The name to shard next: of all that would make the step fit the fastest; where none would, that which takes the
    least time for what it saves. None where nothing saves anything."""
    sizes, movable = problem.graph.axis_sizes(), frozenset(problem.space.options)
    carried = [problem.graph.inputs[before].type for before, _ in problem.graph.carried]
    stored = frozenset(name for type_ in carried for name in type_.names)
    chip, before = problem.network.chip, problem.price(rules)
    seconds, peak = _seconds(before[0], chip), before[1]
    found: list[NextName] = []
    for name, role, axis, more in _further(rules, sizes, movable, stored):
        cost, left = problem.price(more)
        if left < peak:
            found.append(NextName(name, role, axis, peak - left, _seconds(cost, chip) - seconds, left))
    fitting = [each for each in found if each.peak <= chip.capacity < peak]
    if fitting:
        return min(fitting, key=lambda each: (each.costs, each.name, each.role, each.mesh_axis))
    worth = [each for each in found if 20 * each.saves >= peak] or found
    return min(worth, key=lambda each: (each.costs / each.saves, each.name, each.role, each.mesh_axis), default=None)


def _further(
    rules: ShardingRules, sizes: Mapping[str, int], movable: frozenset[str], stored: frozenset[str]
) -> Iterator[tuple[str, Role, str, ShardingRules]]:
    mesh = rules.mesh
    for name in (each for each in sizes if each in movable):
        used, extra = int(rules.compute.get(name, 0)), int(rules.extra.get(name, 0))
        for axis, size in mesh.as_dict().items():
            bit = mesh.mask((axis,))
            whole = used | extra | bit
            if size == 1 or (used | extra) & bit or int(mesh.fitting(sizes[name])[whole]) != whole:
                continue
            order = rules.order if name in rules.order else (*rules.order, name)
            yield name, "compute", axis, replace(rules, order=order, compute=_with(rules.compute, name, bit))
            if name in stored:
                yield name, "storage", axis, replace(rules, order=order, extra=_with(rules.extra, name, bit))


def _with(masks: Mapping[str, Mask], name: str, bit: int) -> dict[str, Mask]:
    return {**masks, name: masks.get(name, 0) | bit}


def _seconds(cost: Cost, chip: Chip) -> float:
    return float(step_seconds(cost.compute, cost.activations, cost.hidden, chip.overlap))
