"""The plans of a branch that is small, priced one by one.

Parts of a branch have no name in common, so a plan is one of each, and takes what these take together. Where memory
does not matter, of the plans of a part that take the same the simplest stands for all.
"""

from collections.abc import Sequence

import numpy as np

from passes.planner.branch import Branch
from passes.planner.groups import BOUNDS, FULL, worst
from passes.planner.parts import Part
from passes.planner.peaks import Moments
from passes.planner.roots import Root
from passes.planner.tables import EXTRA, Float
from passes.sharding.mesh import IntArray

_TOGETHER = 1 << 20
"""Sums that are made at once."""
_MANY = 1 << 12
"""Plans from which on one stands for all of the same price."""
_DIGITS = 1e9
"""To how many parts of the largest two prices are the same."""


def combined(branch: Branch, root: Root, limit: float) -> tuple[Float, IntArray]:
    """[bound, plan] the seconds of the plans that take less than `limit`, and [axis, part, plan] the position of the
    set of each part."""
    least = rest = branch.least
    total: Float = np.zeros((BOUNDS, 1))
    plans: IntArray = np.zeros((len(branch.parts[0].sets), 0, 1), np.int64)
    for part in branch.parts:
        rest = rest - part.least
        prices = part.prices()
        there = np.flatnonzero(worst(prices + (least - part.least)[:, None]) < limit)
        sets = np.stack(np.unravel_index(there, tuple(len(each) for each in part.sets)))
        prices = prices[:, there]
        if not branch.sized and len(there):
            kept = _one_of_each(part, root, prices, sets)
            prices, sets = prices[:, kept], sets[:, kept]
        mine, its = _below(total, prices, np.array([*[limit] * (BOUNDS - 1), FULL]) - rest)
        total = total[:, mine] + prices[:, its]
        plans = np.concatenate([plans[:, :, mine], sets[:, None, its]], axis=1)
        if not branch.sized and len(mine) > _MANY:
            first = _distinct(total)
            total, plans = total[:, first], plans[:, :, first]
    return total, plans


def _below(some: Float, others: Float, limit: Float) -> tuple[IntArray, IntArray]:
    """The pairs of two lists of seconds that add up to less than a limit, each by its two positions."""
    mine: list[IntArray] = [np.zeros(0, np.int64)]
    its: list[IntArray] = [np.zeros(0, np.int64)]
    step = max(1, _TOGETHER // max(1, others.shape[1]))
    for start in range(0, some.shape[1], step):
        both = some[:, start : start + step, None] + others[:, None, :]
        one, other = np.nonzero((both < limit[:, None, None]).all(axis=0))
        mine.append(one + start)
        its.append(other)
    return np.concatenate(mine), np.concatenate(its)


def _one_of_each(part: Part, root: Root, prices: Float, sets: IntArray) -> IntArray:
    """Of plans of a part that cost the same the simplest."""
    order = by_simplicity(root, [own[mine] for own, mine in zip(part.sets, sets, strict=True)])
    return order[_distinct(prices[:, order])]


def _distinct(prices: Float) -> IntArray:
    """The first of each price, whatever memory it takes."""
    seconds = prices[:-1]
    scale = max(float(seconds.max()), 1e-300) / _DIGITS
    _, first = np.unique(np.rint(seconds / scale), axis=1, return_index=True)
    return np.sort(first)


def peaks_of(part: Part, moments: Moments, sets: IntArray) -> Float:
    """[plan] the peaks of some plans of a part, each given by the position of its set for each mesh axis."""
    rows = np.zeros((moments.entries, sets.shape[1]))
    for table in part.sizes:
        rows[table.at] = table.of(list(sets))
    return moments.peak(rows)


def wishing(branch: Branch, plans: IntArray) -> list[IntArray]:
    """[plan] for each mesh axis, the names that wish for it as bits, of [axis, part, plan] positions."""
    found: list[IntArray] = []
    for axis, places in enumerate(plans):
        total = np.zeros(plans.shape[2], np.int64)
        for part, place in zip(branch.parts, places, strict=True):
            total |= part.sets[axis][place]
        found.append(total)
    return found


def masks_of(root: Root, sets: Sequence[IntArray]) -> list[IntArray]:
    """[plan] for each name, the mesh axes that it wishes for."""
    found: list[IntArray] = []
    for bit, name in enumerate(root.names):
        # What a name wishes for in each of its options may be nowhere open to be decided.
        always = 0 if name == EXTRA else int(np.bitwise_and.reduce(root.space.options[name]))
        mask = np.full(len(sets[0]), always)
        for axis, each in enumerate(sets):
            mask |= (each >> bit & 1) << axis
        found.append(mask)
    return found


def by_simplicity(root: Root, sets: Sequence[IntArray]) -> IntArray:
    """The positions of some plans, the simplest first: that of the fewest axes."""
    masks = masks_of(root, sets)
    uses = sum((np.bitwise_count(mask).astype(np.int64) for mask in masks), np.zeros(len(masks[0]), np.int64))
    by_name = sorted(range(len(masks) - 1), key=lambda bit: root.names[bit])
    return np.lexsort([masks[-1], *(masks[bit] for bit in reversed(by_name)), uses])
