"""What a branch and bound has yet to look at: the smallest bound comes first, and of equal ones the earliest."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Frontier(Generic[_T]):
    """Branches that wait.

    Args:
        children: the parts of a branch, each with its bound; none of one that has been looked at to its end.
        late: whether there is no time left: then all parts of a branch wait.
    """

    def __init__(self, children: Callable[[_T], list[tuple[float, _T]]], late: Callable[[], bool]) -> None:
        self._children = children
        self._late = late
        self._waiting: list[tuple[float, int, _T]] = []
        self._numbers = count()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, bound: float, branch: _T) -> None:
        heappush(self._waiting, (bound, next(self._numbers), branch))

    def next(self) -> tuple[float, _T]:
        """The branch with the smallest bound, which waits no longer."""
        bound, _, branch = heappop(self._waiting)
        return bound, branch

    def dive(self, branch: _T) -> None:
        """Goes from a branch to its end at once, by the best part of each: what is found there rules out others."""
        children = self._children(branch)
        while children:
            children.sort(key=lambda child: child[0])
            late = self._late()
            for bound, other in children if late else children[1:]:
                self.add(bound, other)
            if late:
                return
            children = self._children(children[0][1])
