"""Where axes go that an order with `...` does not name.

With one `...` they go there. With several, the axes are walked in the order that they have: each goes to the current
`...`, which a named axis moves on, to the first one behind its own place in the order, and past one that is in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from haliax import errors


def arranged(order: Sequence[Any], axes: Sequence[Any]) -> tuple[Any, ...]:
    """`axes` (each an `Axis` or a name) in the order: see `haliax.axis.rearrange_for_partial_order`."""
    names = [_name(axis) for axis in axes]
    named = {_position(axes, names, item): place for place, item in enumerate(order) if item is not Ellipsis}
    gaps = [place for place, item in enumerate(order) if item is Ellipsis]
    if len(named) + len(gaps) != len(order):
        raise errors.duplicate_axis([item for item in order if item is not Ellipsis])
    if not gaps and len(named) != len(axes):
        raise errors.incomplete_order(order, axes)

    filled: dict[int, list[Any]] = {place: [] for place in gaps}
    gap = 0
    for position, axis in enumerate(axes):
        if position not in named:
            filled[gaps[gap]].append(axis)
            continue
        later = [number for number, place in enumerate(gaps) if place > named[position]]
        if later:
            used = 1 if filled[gaps[gap]] and gap + 1 < len(gaps) else 0
            gap = max(gap + used, later[0])
    at = {place: [axes[position]] for position, place in named.items()} | filled
    return tuple(axis for place in range(len(order)) for axis in at[place])


def _name(axis: Any) -> str:
    return axis if isinstance(axis, str) else axis.name


def _position(axes: Sequence[Any], names: Sequence[str], selector: Any) -> int:
    name = _name(selector)
    if name not in names:
        raise errors.axis_not_found(name, axes)
    position = names.index(name)
    own = axes[position]
    if not isinstance(selector, str) and not isinstance(own, str) and own.size != selector.size:
        raise errors.wrong_axis_size(selector, axes)
    return position
