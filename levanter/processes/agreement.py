"""Steps that all processes agree on: when one of them is asked to stop, or finds that it is time to save.

A wish of any process reaches the first through the coordination service; the first names a step a little ahead, and
every process meets that step with the answer. No process can be further ahead of the first than that: it has read the
numbers of the step before the one that it has started, which are sums over all processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from levanter.processes.connected import Connected
from levanter.processes.group import Group

AHEAD = 3


class Agreement:
    """What is due at which step. Every process asks at every step, once."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._rounds: Counter[str] = Counter()
        self._wished: set[str] = set()

    def due(self, step: int, wishes: Collection[str]) -> set[str]:
        """What all processes do at this step.

        Args:
            step: steps done.
            wishes: what this process would do as soon as may be; asked again at each step until it is due.
        """
        group = self._group
        if not isinstance(group, Connected):
            return set(wishes)
        for wish in wishes:
            name = self._round(wish)
            if name not in self._wished:
                self._wished.add(name)
                group.put(f"wishes/{name}", "")
        named = group.below("due")
        if group.index == 0:
            for name in group.below("wishes"):
                if name not in named:
                    named[name] = str(step + AHEAD)
                    group.put(f"due/{name}", named[name])
        found = {
            wish for wish, rest in (name.rsplit(" ", 1) for name in named) if self._is_now(wish, rest, named, step)
        }
        self._rounds.update(found)
        return found

    def _round(self, wish: str) -> str:
        return f"{wish} {self._rounds[wish]}"

    def _is_now(self, wish: str, rest: str, named: dict[str, str], step: int) -> bool:
        name = f"{wish} {rest}"
        return name == self._round(wish) and int(named[name]) <= step
