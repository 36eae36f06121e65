"""The processes of one run, as what they have to agree on is written: by number, with a few words exchanged."""

from __future__ import annotations

from typing import Protocol


class Group(Protocol):
    """The processes of a run, seen from one of them."""

    @property
    def index(self) -> int:
        """The number of this process, from 0."""
        ...

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def exchange(self, topic: str, value: str = "") -> list[str]:
        """Wait until every process has come here and give each what all of them brought, in their order.

        Args:
            topic: what it is about. Every process comes to the same topics, and to each of them once.
            value: a few words of this process.

        Raises:
            WorkFailed: a process does not come.
        """
        ...


class Alone:
    """The one process of a run that has no other."""

    index = 0
    count = 1

    def exchange(self, topic: str, value: str = "") -> list[str]:
        return [value]


ALONE = Alone()
