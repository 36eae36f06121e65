"""How many rows of which source: by weight to within two rows, and a pure function of the step.

The sources are the leaves of a tree that parts them two and two, the lightest first (Huffman's). Of k rows that reach a
fork, one side gets k times its share of the fork, rounded, and the other side the rest. Both only ever grow with k, by
one row at a time between them, so that each source's rows have numbers without a gap. Rounding adds at most half a row
a fork, and forks further up count for less: by how such a tree is made, no source is ever two rows away from its
share, however long the stage. Fractions are exact, so that nothing drifts.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from levanter.data.permutation import Permutation


class Shares:
    """The rows of every step.

    Args:
        names: the sources, in order.
        stages: from which step on there are which weights by name; the first from step 0.
        batch_size: rows of a step.
        seed: fixes which rows of a batch are of which source.
    """

    def __init__(
        self, names: Sequence[str], stages: Sequence[tuple[int, Mapping[str, float]]], batch_size: int, seed: int
    ) -> None:
        self._batch_size = batch_size
        self._seed = seed
        self._firsts = [first for first, _ in stages]
        self._names = list(names)
        self._trees = [_tree([Fraction(weights.get(name, 0)) for name in names]) for _, weights in stages]
        self._before = [[0] * len(names)]  # rows of each source before each stage
        for stage, (first, last) in enumerate(zip(self._firsts, self._firsts[1:], strict=False)):
            rows = self._counts(stage, (last - first) * batch_size)
            self._before.append([before + own for before, own in zip(self._before[-1], rows, strict=True)])

    def before(self, step: int) -> list[int]:
        """How many rows of each source there are in the steps before `step`."""
        stage = bisect_right(self._firsts, step) - 1
        own = self._counts(stage, (step - self._firsts[stage]) * self._batch_size)
        return [before + count for before, count in zip(self._before[stage], own, strict=True)]

    def rows(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """For each row of a step its source, and its number among all rows of that source: int64 [batch] each."""
        before, after = self.before(step), self.before(step + 1)
        sources = np.concatenate([np.full(b - a, i) for i, (a, b) in enumerate(zip(before, after, strict=True))])
        numbers = np.concatenate([np.arange(a, b, dtype=np.int64) for a, b in zip(before, after, strict=True)])
        order = Permutation(self._batch_size, f"rows of a mixture, seed {self._seed}, step {step}")
        at = order(np.arange(self._batch_size))
        return sources.astype(np.int64)[at], numbers[at]

    def _counts(self, stage: int, rows: int) -> list[int]:
        """How many of the first rows of a stage are of each source."""
        found = [0] * len(self._names)
        waiting: list[tuple[Node, int]] = [(self._trees[stage], rows)]
        while waiting:
            node, count = waiting.pop()
            if isinstance(node, int):
                found[node] = count
            else:
                first = int(count * node.share + Fraction(1, 2))
                waiting += [(node.first, first), (node.second, count - first)]
        return found


@dataclass(frozen=True)
class Fork:
    """A parting of rows: `share` of them to `first`, the rest to `second`."""

    share: Fraction
    first: Node
    second: Node


Node = int | Fork
"""A source by its number, or a fork."""


def _tree(weights: Sequence[Fraction]) -> Node:
    """Huffman's tree of sources with these weights."""
    nodes: list[tuple[Fraction, int, Node]] = [(weight, number, number) for number, weight in enumerate(weights)]
    heapq.heapify(nodes)
    made = len(nodes)  # of equal weights the earlier node comes first
    while len(nodes) > 1:
        (light, _, first), (heavy, _, second) = heapq.heappop(nodes), heapq.heappop(nodes)
        both = light + heavy
        heapq.heappush(nodes, (both, made, Fork(light / both if both else Fraction(0), first, second)))
        made += 1
    return nodes[0][2]
