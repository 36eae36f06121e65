"""Which node of one graph is which node of another: by what they compute, not by their numbers.

A node's *meaning* is its operation on the meanings of its operands; the meaning of an argument is its path. Where only
the layout or the line differs, or a collective was put between, the meaning is the same. Nodes of equal meaning are the
same node, those at the same line first; of the rest, those that do alike at the same line, in order.
"""

from collections import defaultdict, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from ir.graph import Attr, Constant, Graph, Node, Operand
from ir.ops import OPS
from ir.types import Dim, TensorType


def is_move(node: Node) -> bool:
    """Whether a node only moves its operand to another place on the mesh: the value stays what it is."""
    return node.kind in OPS and OPS[node.kind].moves_data_only


def bare(type_: TensorType) -> TensorType:
    """A type without its layout."""
    return TensorType(type_.dtype, tuple(Dim(dim.name, dim.size) for dim in type_.dims))


@dataclass
class Meanings:
    """Numbers for meanings, shared by the graphs that are compared: equal numbers, equal meaning."""

    numbers: dict[Hashable, int] = field(default_factory=dict[Hashable, int])

    def of(self, key: Hashable) -> int:
        return self.numbers.setdefault(key, len(self.numbers))

    def graph(self, graph: Graph, known: dict[int, int], place: Hashable = ()) -> tuple[int, ...]:
        """Notes the meaning of every value of a graph in `known`; returns those of its outputs."""
        for position, value in enumerate(graph.inputs):
            path = graph.input_paths[position] if graph.input_paths else position
            known[value.id] = self.of(("input", place, path, bare(value.type)))
        for node in graph.nodes:
            self.node(node, known)
        return tuple(self.operand(operand, known) for operand in graph.outputs)

    def node(self, node: Node, known: dict[int, int]) -> None:
        operands = tuple(self.operand(operand, known) for operand in node.inputs)
        if is_move(node):
            known |= {value.id: operands[0] for value in node.outputs}
            return
        # What a body means does not depend on where it stands: its inputs are known by position.
        computing = () if node.kind in OPS and OPS[node.kind].goes_round else node.bodies
        bodies = tuple(self.graph(body, known, ("body", i)) for i, body in enumerate(computing))
        types = tuple(bare(value.type) for value in node.outputs)
        meaning = self.of((*operation(node), operands, types, bodies))
        known |= {value.id: self.of((meaning, i)) for i, value in enumerate(node.outputs)}

    def operand(self, operand: Operand, known: dict[int, int]) -> int:
        if isinstance(operand, Constant):
            return self.of(("constant", operand.text, operand.type))
        return known[operand.id] if operand.id in known else self.of(("unknown", operand.id))


def operation(node: Node) -> tuple[Hashable, ...]:
    """What a node does, without what it does it to, and where."""
    return node.kind, node.fn, tuple((key, _bare_attr(node.attrs[key])) for key in sorted(node.attrs))


def _bare_attr(value: Attr) -> Hashable:
    if isinstance(value, tuple):
        return tuple(Dim(each.name, each.size) if isinstance(each, Dim) else each for each in value)
    return repr(value)


@dataclass(frozen=True)
class Pairing:
    """The nodes of two lists, two and two. `moved` are pairs that stand in another order than the rest."""

    pairs: tuple[tuple[int, int], ...]
    moved: frozenset[tuple[int, int]]


def pair(before: Sequence[Node], after: Sequence[Node], first: dict[int, int], second: dict[int, int]) -> Pairing:
    """The nodes of `before` and `after` that are the same; `first` and `second` are the meanings of their values."""
    pairs: list[tuple[int, int]] = []
    left, right = list(range(len(before))), list(range(len(after)))
    for key in (_at_line, _meaning):
        keys = [key(before[i], first) for i in left], [key(after[i], second) for i in right]
        left, right = _taken(pairs, left, right, _by_key(*keys))
    for likeness in (_alike, _similar):
        keys = [likeness(before[i]) for i in left], [likeness(after[i]) for i in right]
        blocks = SequenceMatcher(None, *keys, autojunk=False).get_matching_blocks()
        found = [(block.a + i, block.b + i) for block in blocks for i in range(block.size)]
        left, right = _taken(pairs, left, right, found)
    pairs.sort()
    in_order = _longest_rising([b for _, b in pairs])
    return Pairing(tuple(pairs), frozenset(each for i, each in enumerate(pairs) if i not in in_order))


def _taken(
    pairs: list[tuple[int, int]], left: list[int], right: list[int], found: Sequence[tuple[int, int]]
) -> tuple[list[int], list[int]]:
    """Adds what was found, by positions in `left` and `right`, to the pairs; returns what is left of the two."""
    pairs += [(left[a], right[b]) for a, b in found]
    gone, there = {a for a, _ in found}, {b for _, b in found}
    return [x for i, x in enumerate(left) if i not in gone], [x for i, x in enumerate(right) if i not in there]


def _at_line(node: Node, known: dict[int, int]) -> Hashable:
    return _meaning(node, known), node.source, node.phase


def _meaning(node: Node, known: dict[int, int]) -> Hashable:
    values = tuple(known[value.id] for value in node.outputs)
    # A move has the meaning of its operand; a node without results is known by what it does.
    return (node.kind, node.words("mesh"), values) if is_move(node) else values or operation(node)


def _alike(node: Node) -> Hashable:
    return (*operation(node), node.source, tuple(bare(value.type) for value in node.outputs))


def _similar(node: Node) -> Hashable:
    return node.kind, node.source, len(node.outputs)


def _by_key(before: Sequence[Hashable], after: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Equal keys in order, the first with the first."""
    there: defaultdict[Hashable, deque[int]] = defaultdict(deque)
    for position, key in enumerate(after):
        there[key].append(position)
    return [(position, there[key].popleft()) for position, key in enumerate(before) if there[key]]


def _longest_rising(numbers: Sequence[int]) -> set[int]:
    """Positions of the longest subsequence that rises (patience sorting)."""
    tops: list[int] = []
    below: list[int | None] = []
    for position, number in enumerate(numbers):
        low, high = 0, len(tops)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if numbers[tops[middle]] < number else (low, middle)
        below.append(tops[low - 1] if low else None)
        tops[low : low + 1] = [position]
    found: set[int] = set()
    at = tops[-1] if tops else None
    while at is not None:
        found.add(at)
        at = below[at]
    return found
