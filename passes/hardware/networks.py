"""The physical networks that a mesh may have: the usual one, and those that are better for something.

Of two assignments of mesh axes one is never slower where no collective over any mesh axes takes longer: then the other
need not be looked at. A network on which each collective takes the least that it takes on any of several is a bound
that no plan on one of these can beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from passes.hardware.assignment import every_assignment
from passes.hardware.chip import Chip
from passes.hardware.network import Network, Rates
from passes.sharding.mesh import DeviceMesh

_ROUNDING = 1 + 1e-9


@lru_cache(maxsize=256)
def networks(mesh: DeviceMesh, chip: Chip) -> tuple[Network, ...]:
    """The usual network of a mesh, then those of other assignments on which some collective takes less than on each
    network before."""
    usual, *others = (Network(mesh, chip, each) for each in every_assignment(mesh, chip))
    rates = _all_rates(usual)
    kept: list[tuple[Network, Any]] = []
    for other in others:
        mine = _all_rates(other)
        if not any((its <= mine * _ROUNDING).all() for its in (rates, *(each for _, each in kept))):
            kept = [(each, its) for each, its in kept if not (mine <= its * _ROUNDING).all()]
            kept.append((other, mine))
    return (usual, *(each for each, _ in kept))


def _all_rates(network: Network) -> Any:
    return np.concatenate([getattr(network.rates, each.name) for each in fields(Rates)])


@dataclass(frozen=True)
class Bound(Network):
    """A network on which each collective takes the least that it takes on any of some.

    Attributes:
        of: those.
    """

    of: tuple[Network, ...] = ()

    @classmethod
    def below(cls, several: Sequence[Network]) -> Bound:
        """That of several networks of one mesh."""
        return cls(several[0].mesh, several[0].chip, several[0].given, tuple(several))

    @cached_property
    def rates(self) -> Rates:
        each = (np.min([getattr(one.rates, rate.name) for one in self.of], axis=0) for rate in fields(Rates))
        return Rates(*each)
