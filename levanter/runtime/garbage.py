"""Python's search for unreachable cycles, seldom while a command starts.

A command that trains imports a few hundred modules and traces its step: a million objects that stay. By default Python
looks through the young ones after each 700 new ones, and through all of them several times over, which costs a sixth of
the CPU time of the start and finds nothing. What stays is then set aside for good, so that no later search reads it.
"""

from __future__ import annotations

import gc

SELDOM = 400_000
"""New objects between two searches: some forty MB of them, and more than a start makes of a small model."""

_usual: list[tuple[int, int, int]] = []


def collect_seldom() -> None:
    """From now on search seldom. For the first lines of a process that is all ours."""
    _usual.append(gc.get_threshold())
    gc.set_threshold(SELDOM, *_usual[0][1:])


def collect_as_usual() -> None:
    """The start is over; does nothing where `collect_seldom` was not called."""
    if _usual:
        gc.freeze()
        gc.set_threshold(*_usual[0])
        _usual.clear()
