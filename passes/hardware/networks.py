"""The physical networks that a mesh may have: the usual one, and those that are better for something.

Of two assignments of mesh axes one is never slower where no collective over any mesh axes takes longer: then the other
need not be looked at. Nor where that is so once mesh axes of one size have changed places: what a plan has on the one
axis, another plan has on the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from itertools import permutations
from typing import Any

import numpy as np

from passes.hardware.assignment import every_assignment
from passes.hardware.chip import Chip
from passes.hardware.network import Network, Rates
from passes.sharding.mesh import DeviceMesh, IntArray, Mask

_ROUNDING = 1 + 1e-9


@dataclass(frozen=True)
class Networks(Network):
    """Several networks of a mesh, to be priced at once: all that collectives take has a dim in front, the network."""

    several: tuple[Network, ...] = ()

    @classmethod
    def of_all(cls, several: Sequence[Network]) -> Networks:
        """Those of one mesh."""
        return cls(several[0].mesh, several[0].chip, None, tuple(several))

    @cached_property
    def rates(self) -> Rates:
        """[network, mask] → what collectives take."""
        names = [each.name for each in fields(Rates)]
        return Rates(**{name: np.stack([getattr(each.rates, name) for each in self.several]) for name in names})

    def of(self, rate: Any, mask: Mask) -> Any:
        """[network, …] one of the rates over the axes of some masks."""
        return rate[:, np.atleast_1d(mask)]


@lru_cache(maxsize=256)
def networks(mesh: DeviceMesh, chip: Chip, alike: bool = True) -> tuple[Network, ...]:
    """The usual network of a mesh, then those of other assignments on which some collective takes less than on each
    network before.

    Args:
        alike: whether mesh axes of one size may change places. Not so where names are pinned to mesh axes.
    """
    usual, *others = (Network(mesh, chip, each) for each in every_assignment(mesh, chip))
    places = list(_places(mesh)) if alike else [np.arange(mesh.masks)]
    usual_rates = _rates(usual)
    kept: list[tuple[Network, Any]] = []
    for other in others:
        mine = _rates(other)
        if not any(_never_slower(its, mine, places) for its in (usual_rates, *(each for _, each in kept))):
            kept = [(each, its) for each, its in kept if not _never_slower(mine, its, places)]
            kept.append((other, mine))
    return (usual, *(each for each, _ in kept))


def _never_slower(these: Any, those: Any, places: list[IntArray]) -> bool:
    return any(bool((these[:, masks] <= those * _ROUNDING).all()) for masks in places)


def _rates(network: Network) -> Any:
    """[rate, mask]"""
    return np.stack([np.asarray(getattr(network.rates, each.name)) for each in fields(Rates)])


def _places(mesh: DeviceMesh) -> Iterator[IntArray]:
    """[mask] → the mask where mesh axes of one size have changed places, in every way."""
    axes = range(len(mesh.axes))
    for order in permutations(axes):
        if all(mesh.sizes[place] == mesh.sizes[axis] for axis, place in enumerate(order)):
            yield np.array([sum(1 << order[axis] for axis in axes if mask >> axis & 1) for mask in range(mesh.masks)])
