"""The moment at which memory decides: what is held then is a bound of its own, besides seconds.

A sum of the least that each entry of memory takes is a weak bound, for no plan has the least of all of them. So what
is held at one moment is added up with the seconds, in a row of its own, and tightened as they are
(`passes.planner.parts`).
"""

from dataclasses import dataclass

import numpy as np

from passes.planner.tables import Float
from passes.sharding.mesh import IntArray


@dataclass(frozen=True, eq=False)
class Fullest:
    """[entry] what a byte of each takes of the memory that a plan may have at that moment."""

    shares: Float

    def of(self, sizes: Float, at: IntArray) -> Float | None:
        """[row, …] bytes of some entries → […] what they take together; None where nothing of them is held then."""
        shares = self.shares[at]
        held = np.flatnonzero(shares)
        if not len(held):
            return None
        found: Float = np.tensordot(shares[held], sizes[held], axes=1)
        return found
