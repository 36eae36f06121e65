"""Plans to begin a search with: the better they are, the more of the space is ruled out before it is looked at.

First those that people write down: the batch over some of the mesh axes, and all other names over the others or over
all; with nothing stored, or one name over all mesh axes. Then those that differ from the best of these in one name.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from passes.planner.groups import remembering
from passes.planner.peaks import Moments
from passes.planner.space import PlanSpace, StorageAxes
from passes.planner.tables import Asked, Float
from passes.sharding.mesh import IntArray
from passes.sharding.rules import ShardingRules

Choice = tuple[StorageAxes, dict[str, int]]
"""Storage axes, and the mask of every name."""


def usual_plans(space: PlanSpace) -> Iterator[Choice]:
    """Plans that people write down."""
    every = space.mesh.masks - 1
    stored = _widest(space)
    first = next(iter(space.options), None)
    fitting = {name: _fitting(space, masks) for name, masks in space.options.items()}
    for over in range(space.mesh.masks):
        for rest in dict.fromkeys((every & ~over, every)):
            masks = {name: int(each[over if name == first else rest]) for name, each in fitting.items()}
            for choice in stored:
                yield choice, masks


def near_plans(space: PlanSpace, choice: Choice) -> Iterator[Choice]:
    """Plans that differ from one in a single name, or in how the batch and one name more are all that is in use."""
    stored, masks = choice
    every = space.mesh.masks - 1
    first = next(iter(space.options), None)
    fitting = {name: _fitting(space, options) for name, options in space.options.items()}
    for over in range(space.mesh.masks):
        for alone in fitting:
            wishes = {first: over, **({alone: every & ~over} if alone != first else {})}
            yield stored, {name: int(each[wishes.get(name, 0)]) for name, each in fitting.items()}
    for other in space.storage_choices:
        yield other, masks
    for name, options in space.options.items():
        for mask in options.tolist():
            if mask != masks[name]:
                yield stored, {**masks, name: mask}


def prices(
    space: PlanSpace,
    choices: Sequence[Choice],
    terms: Sequence[Asked],
    entries: Sequence[tuple[Asked, list[int]]],
    moments: Moments,
) -> tuple[Float, Float, list[tuple[float, float]]]:
    """Seconds and peak bytes of some plans, all at once; and of each term the least that it takes in any of them.

    Args:
        moments: with the entries in their order.
    """
    compute = {name: np.array([masks[name] for _, masks in choices]) for name in space.options}
    names = dict.fromkeys(stored.name for stored, _ in choices if stored.name is not None)
    extra = {
        name: np.array([stored.mask if stored.name == name else 0 for stored, _ in choices], np.int64) for name in names
    }
    rules = remembering(ShardingRules(space.mesh, space.order, compute, extra, space.order_where))
    total: Any = np.zeros((2, len(choices)))
    least: list[tuple[float, float]] = []
    for asked in terms:
        rows = asked.rows(rules)
        each = np.maximum(*rows)
        least.append((float(each.min()), float(each.max())))
        for row, more in zip(total, rows, strict=True):
            row += more
    sizes = [np.broadcast_to(row, len(choices)) for asked, _ in entries for row in asked.rows(rules)]
    peaks = moments.peak(np.stack(sizes).astype(np.float64)) if sizes else np.zeros(len(choices))
    return total.max(axis=0), peaks, least


def _widest(space: PlanSpace) -> list[StorageAxes]:
    """Of each stored name the choice of the most devices."""
    found: dict[str | None, StorageAxes] = {}
    for choice in space.storage_choices:
        before = found.get(choice.name)
        if before is None or space.mesh.group(choice.mask) > space.mesh.group(before.mask):
            found[choice.name] = choice
    return list(found.values())


def _fitting(space: PlanSpace, options: IntArray) -> IntArray:
    """[mask] → of the options within it that of the most devices; the first where none is."""
    found = np.full(space.mesh.masks, options[0])
    for mask in range(space.mesh.masks):
        within = options[(options & ~mask) == 0]
        if len(within):
            found[mask] = within[np.argmax(space.mesh.group(within))]
    return found
