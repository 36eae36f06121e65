"""Groups of parameters: which ones a pattern or axes mean, and what is different for them.

Settings are looked up by the names of parameters, once for each tree that is asked about, so they work for parameters,
gradients and moments alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from haliax import NamedArray
from levanter.optim import errors
from levanter.optim.config import ParameterGroup
from levanter.optim.optimizer import Decays
from levanter.paths import map_named, matches, named_leaves

GROUPS = "optimizer.groups"


@dataclass(frozen=True)
class Settings:
    """What groups say of one parameter; None is what they leave to the optimizer."""

    learning_rate: float | None = None
    weight_decay: float | None = None


def settings_of(groups: Sequence[ParameterGroup], tree: Any) -> Any:
    """The tree with `Settings` in the place of every array; of two groups for one thing the later one counts."""

    def settings(name: str, leaf: Any) -> Settings:
        mine = [group for group in groups if belongs(group, name, leaf)]
        rates = [group.learning_rate for group in mine if group.learning_rate is not None]
        decays = [group.weight_decay for group in mine if group.weight_decay is not None]
        return Settings(rates[-1] if rates else None, decays[-1] if decays else None)

    return map_named(settings, tree)


def decay_rates(groups: Sequence[ParameterGroup], weight_decay: float, decays: Decays, tree: Any) -> Any:
    """The tree with the rate of weight decay in the place of every array."""

    def rate(name: str, leaf: Any, settings: Settings, decays: Any) -> float:
        if settings.weight_decay is not None:
            return settings.weight_decay
        return weight_decay if decays else 0.0

    return map_named(rate, tree, settings_of(groups, tree), _at_named(decays(tree), tree))


def frozen_parts(patterns: Sequence[str], groups: Sequence[ParameterGroup], tree: Any) -> Any:
    """The tree with True in the place of every array that is not trained.

    Raises:
        UserError: a pattern or an entry of the groups fits no parameter.
    """
    check_groups(groups, tree)
    names = named_leaves(tree)
    for pattern in patterns:
        if not any(matches(name, pattern) for name in names):
            raise errors.no_parameter("trainer.frozen", pattern, sorted(names))

    def frozen(name: str, leaf: Any) -> bool:
        mine = [group for group in groups if group.frozen and belongs(group, name, leaf)]
        return bool(mine) or any(matches(name, pattern) for pattern in patterns)

    return map_named(frozen, tree)


def check_groups(groups: Sequence[ParameterGroup], tree: Any) -> None:
    """Whether every group has a parameter.

    Raises:
        UserError: one has none.
    """
    names = named_leaves(tree)
    known = {axis for leaf in names.values() for axis in _axes_of(leaf)}
    for group in groups:
        if any(belongs(group, name, leaf) for name, leaf in names.items()):
            continue
        for axis in (group.axes or "").split():
            if axis not in known:
                raise errors.no_axis(GROUPS, axis, known)
        if group.match is not None and not any(matches(name, group.match) for name in names):
            raise errors.no_parameter(GROUPS, group.match, sorted(names))
        raise errors.no_parameter_with(GROUPS, group.match or "*", group.axes or "")


def belongs(group: ParameterGroup, name: str, leaf: Any) -> bool:
    """Whether a parameter is in a group."""
    of_axes = group.axes is None or set(group.axes.split()) <= set(_axes_of(leaf))
    return of_axes and (group.match is None or matches(name, group.match))


def _axes_of(leaf: Any) -> tuple[str, ...]:
    return tuple(axis.name for axis in leaf.axes) if isinstance(leaf, NamedArray) else ()


def _at_named(mask: Any, tree: Any) -> Any:
    """A mask with one bool for each `NamedArray` of `tree`, where it has one inside it."""
    return map_named(lambda name, leaf, decays: decays.array if isinstance(decays, NamedArray) else decays, tree, mask)
