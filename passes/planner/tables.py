"""On what of all sharding rules a function of them depends, so that it is a small table with a dim for each mesh axis.

A plan decides for each mesh axis which names wish for it, and in each shape that an operation lays out the first of
them in the order has it. So of all sets of names that may wish for an axis few differ: those of one *class* give it to
the same name in every shape. Four names on four mesh axes have 65,536 combinations of wishes, but 5 classes for each
axis: 625 entries.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from passes import errors
from passes.planner.space import PlanSpace
from passes.sharding.mesh import IntArray, Mask
from passes.sharding.rules import Layout, Role, ShardingRules, Sizes, in_order

Float = npt.NDArray[np.float64]

MOST_NAMES = 14
"""That one operation may have with a choice: all sets of them are listed for each mesh axis."""
_WORD = 62
"""Bits that a number has room for."""
EXTRA = "+"
"""Among the names that wish for a mesh axis: the name that is stored on it besides."""

Shape = tuple[tuple[str, int], ...]


class _Recording(ShardingRules):
    """Sharding rules that keep in mind what they were asked for."""

    asked: dict[tuple[Shape, Role], None]

    def layout(self, sizes: Sizes, role: Role, blocked: Iterable[str] = ()) -> Layout:
        self.asked[tuple(sizes.items()), role] = None
        return super().layout(sizes, role, blocked)


@dataclass(frozen=True, eq=False)
class Asked:
    """A function of sharding rules, and what it depends on.

    Attributes:
        rows: its values under some rules, as arrays that broadcast to one shape.
        shapes: those that it lays out, with their roles.
        seen: the names whose mesh axes matter to it; None where all of those do.
        lent: names of which it matters what they wish for, also where they do not get it.
    """

    rows: Callable[[ShardingRules], Sequence[Any]]
    shapes: tuple[tuple[Shape, Role], ...]
    seen: frozenset[str] | None = None
    lent: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        rows: Callable[[ShardingRules], Sequence[Any]],
        space: PlanSpace,
        seen: Iterable[str] | None = None,
        lent: tuple[str, ...] = (),
    ) -> "Asked":
        rules = _Recording(space.mesh, space.order, dict.fromkeys(space.names, 0), {}, space.order_where)
        object.__setattr__(rules, "asked", {})
        try:
            rows(rules)
        except OverflowError:
            names_of(rules.asked, space)
            raise
        return cls(rows, tuple(rules.asked), None if seen is None else frozenset(seen), lent)

    @cached_property
    def stored(self) -> frozenset[str]:
        """The names whose storage axes have a part in it."""
        return frozenset(name for shape, role in self.shapes if role == "storage" for name, _ in shape)


@dataclass(frozen=True)
class Side:
    """Of all sets of some names, as bits, the class of each: -1 where it cannot wish for the mesh axis; and of each
    class the smallest set."""

    classes: IntArray
    chosen: IntArray


def names_of(shapes: Iterable[tuple[Shape, Role]], space: PlanSpace) -> list[str]:
    """The names with a choice that some shapes have. Raises `PlanError` where there are too many."""
    there = {name for shape, _ in shapes for name, _ in shape}
    names = [name for name in space.names if name in there]
    if len(names) > MOST_NAMES:
        raise errors.too_many_names(names, MOST_NAMES)
    return names


def able_names(space: PlanSpace, names: tuple[str, ...], extra: tuple[str, ...], axis: int) -> tuple[int, int]:
    """The names that can wish for a mesh axis, and those that cannot but do so, as bits."""
    able = bound = 0
    for i, name in enumerate(names):
        some, always = (space.storing(extra), 0) if name == EXTRA else space.wishes[name]
        able |= (some >> axis & 1) << i
        bound |= (always >> axis & 1) << i
    return able, bound


def side_of(
    asked: Asked, space: PlanSpace, names: tuple[str, ...], extra: tuple[str, ...], able: int, bound: int
) -> Side:
    """The classes of the sets of some names.

    Args:
        able: the names that can wish for the mesh axis, as bits.
        bound: those that cannot but do so.
    """
    sets = np.arange(1 << len(names))
    sets = sets[(sets & ~able == 0) & (sets & bound == bound)]
    wishes = {name: (sets >> i & 1).astype(bool) for i, name in enumerate(names)}
    rows = {wishes[name].tobytes(): wishes[name] for name in asked.lent if name in wishes}
    for shape, role in asked.shapes:
        for row in _candidates(dict(shape), role, asked.seen, space, wishes, extra):
            rows.setdefault(row.tobytes(), row)
    found = np.full(1 << len(names), -1)
    if not rows:
        found[sets] = 0
        return Side(found, sets[:1])
    first, classes = _columns(list(rows.values()))
    found[sets] = classes
    return Side(found, sets[first])


def _columns(rows: Sequence[npt.NDArray[np.bool_]]) -> tuple[IntArray, IntArray]:
    """Of columns of bits the first of each that is distinct, in ascending order, and of all which of these each is."""
    if len(rows) <= _WORD:
        weights = 1 << np.arange(len(rows))[::-1]
        _, first, which = np.unique(weights @ np.stack(rows), return_index=True, return_inverse=True)
    else:
        packed = np.packbits(np.stack(rows), axis=0).T
        _, first, which = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    return first, which.reshape(-1)


def _candidates(
    sizes: Sizes,
    role: Role,
    seen: frozenset[str] | None,
    space: PlanSpace,
    wishes: Mapping[str, npt.NDArray[np.bool_]],
    extra: tuple[str, ...],
) -> Iterator[npt.NDArray[np.bool_]]:
    """For each name that may get a mesh axis in a shape, whether it wishes for it and none before it is sure to have
    it. One is sure to have it where the shape has room for each of its options; whether any other gets it depends on
    its other mesh axes too, and where all of these agree the layout does. A name that is not seen is told from others
    only where it cannot have every combination of its mesh axes: another one in its place might not be legal."""
    there = in_order(sizes, space.order, space.order_where)
    sure = {name: has_room(space, name, sizes[name]) for name in there}
    free = np.ones_like(next(iter(wishes.values()))) if wishes else np.ones(1, bool)
    stored = [name for name in extra if name in sizes] if role == "storage" else []
    matter = seen is None or not all(sure.values()) or len(stored) > 1
    for name in there:
        if name in wishes:
            if matter or seen is None or name in seen or not any_go_together(space.options[name]):
                yield wishes[name] & free
            if sure[name]:
                free = free & ~wishes[name]
    if stored and EXTRA in wishes:
        yield wishes[EXTRA] & free


def any_go_together(options: IntArray) -> bool:
    """Whether a name can have any of its mesh axes together, besides those that it has in each of its options."""
    every, always = int(np.bitwise_or.reduce(options)), int(np.bitwise_and.reduce(options))
    return len(options) == 1 << (every & ~always).bit_count()


def has_room(space: PlanSpace, name: str, size: int) -> bool:
    if (name, size) not in space.room:
        options = space.options.get(name)
        space.room[name, size] = options is None or bool((space.mesh.fitting(size)[options] == options).all())
    return space.room[name, size]


def rules_of(
    names: tuple[str, ...], extra: tuple[str, ...], chosen: Sequence[IntArray]
) -> tuple[dict[str, Mask], dict[str, Mask]]:
    """Compute and storage axes of the names over a grid with a dim for each mesh axis, along which `chosen` sets of
    them wish for it."""
    compute = {name: _mask(chosen, i) for i, name in enumerate(names)}
    return compute, (dict.fromkeys(extra, compute.pop(EXTRA)) if extra else {})


def _mask(chosen: Sequence[IntArray], bit: int) -> IntArray:
    total: Any = np.zeros((1,) * len(chosen), dtype=np.int64)
    for axis, sets in enumerate(chosen):
        shape = [1] * len(chosen)
        shape[axis] = -1
        total = total | ((sets >> bit & 1) << axis).reshape(shape)
    return total


def legal(space: PlanSpace, compute: Mapping[str, Mask], added: Mapping[str, Mask]) -> npt.NDArray[np.bool_]:
    """Whether each name can have its mesh axes, or these and others: of a class the smallest set of names may lack what
    a name wishes for and does not get."""
    found: Any = np.True_
    for name, mask in compute.items():
        found = found & _within(space.options[name], space)[mask]
    for mask in [*added.values()][:1]:
        options = np.array([choice.mask for choice in space.storage_choices if choice.names == tuple(added)])
        found = found & _within(np.append(options, 0), space)[mask]
    return np.asarray(found)


def _within(options: IntArray, space: PlanSpace) -> npt.NDArray[np.bool_]:
    """[mask] whether one of those has all of it."""
    return ((np.arange(space.mesh.masks)[:, None] & ~options) == 0).any(axis=1)
