"""Which values make a round trip to memory, and which operation moves them.

XLA fuses elementwise chains, so only some values exist: results of contractions, reductions and the like, what those
read, and what leaves a body. On a TPU a product computes an elementwise chain that it reads on the way, so that chain
does not exist either, though each of several products computes it anew; libraries of products for CPUs and GPUs read
arrays.

What is computed together is a kernel: an operation that is not fused, with the chains that it reads; or elementwise
results, those with others that share an operand or read a result of theirs and need no operation in between that is not
fused (XLA's multi-output fusion; the update of a parameter with its moments is one). A kernel reads what it needs
once, and writes its results; another kernel that needs the same reads it again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ir.graph import Graph, Node, Value
from ir.ops import entered, op_of


@dataclass(frozen=True, slots=True)
class Access:
    """A value in memory, and the operation of a body that reads or writes it, the first of a kernel, with its
    position."""

    value: Value
    node: Node
    position: int


@dataclass(frozen=True)
class Traffic:
    """Of one body: `kept` are the ids of the values that exist in memory."""

    graph: Graph
    kept: frozenset[int]

    @cached_property
    def moved(self) -> tuple[tuple[Access, ...], ...]:
        """What is read and written: all of a kernel at the last node of it that writes anything."""
        return _moved(self.graph, self.kept)


def traffic(graph: Graph, into_products: bool = False, lanes: int = 1) -> Traffic:
    """What each node of a body (nested bodies apart) moves to and from memory.

    Args:
        lanes: of a tile, in which arrays are kept. What is regrouped so that no dim which fills the lanes stays as it
            was is moved between tiles, which no product does on the way.
        into_products: whether elementwise chains are computed inside of the products that read them. It says what
            exists; to compute a chain anew in each product takes about the time that its round trip would, as XLA's
            estimates have it, so the time of a step is taken without it.
    """
    moved_between_tiles = {node.outputs[0].id for node in graph.nodes if _moves_tiles(node, lanes)}
    kept = {value.id for value in graph.inputs}
    kept |= {operand.id for operand in graph.outputs if isinstance(operand, Value)}
    for node in graph.nodes:
        if not op_of(node).fusible:
            kept |= {value.id for value in node.outputs}
            if not (op_of(node).fuses_operands or (into_products and op_of(node).multiplies)):
                kept |= {value.id for value in node.value_inputs}
            elif op_of(node).multiplies:
                kept |= {value.id for value in node.value_inputs if value.id in moved_between_tiles}
    return Traffic(graph, frozenset(kept))


def _moves_tiles(node: Node, lanes: int) -> bool:
    if lanes == 1 or not (op_of(node).regroups(node) and node.value_inputs) or op_of(node).widens(node):
        return False
    dims = node.inputs[0].type.dims
    targets = op_of(node).targets(node) or [None] * len(dims)
    return not any([dim.size >= lanes for dim, target in zip(dims, targets, strict=True) if target is not None])


@dataclass
class _Kernel:
    """Elementwise results that are computed together.

    Attributes:
        elements: of each of them.
        nodes: the positions of those that write.
        reads, writes: by the numbers of values.
    """

    elements: int
    nodes: list[int] = field(default_factory=list[int])
    reads: dict[int, Access] = field(default_factory=dict[int, Access])
    writes: dict[int, Access] = field(default_factory=dict[int, Access])

    def add(self, position: int, reads: Mapping[int, Access], writes: Mapping[int, Access]) -> None:
        self.nodes.append(position)
        for access in reads.values():
            _note(access, self.reads)
        self.writes.update(writes)

    @property
    def moved(self) -> tuple[Access, ...]:
        read = (access for number, access in self.reads.items() if number not in self.writes)
        return (*read, *self.writes.values())


def _note(access: Access, found: dict[int, Access]) -> None:
    """Keep it, or what was found before if that is earlier."""
    known = found.get(access.value.id, access)
    found[access.value.id] = min(known, access, key=lambda each: each.position)


def _moved(graph: Graph, kept: frozenset[int]) -> tuple[tuple[Access, ...], ...]:
    needs = _Needs(graph, kept)
    moved: list[tuple[Access, ...]] = [()] * len(graph.nodes)
    kernels: dict[int, _Kernel] = {}  # by the values that they read or write, the last of each
    for i, node in enumerate(graph.nodes):
        if entered(node):
            continue
        written = [value for value in node.outputs if value.id in kept and value.type.dims]
        writes = {value.id: Access(value, node, i) for value in written}
        if not op_of(node).fusible:
            moved[i] = (*needs.read(i, node, op_of(node).fuses_operands).values(), *writes.values())
        elif writes:
            reads, elements = needs.read(i, node, True), node.outputs[0].type.elements
            around = (kernels[number] for number in reads if number in kernels)
            kernel = next((each for each in around if each.elements == elements and needs.meet(i, each.nodes)), None)
            kernel = kernel or _Kernel(elements)
            for position in kernel.nodes[-1:]:
                moved[position] = ()
            kernel.add(i, reads, writes)
            kernels.update(dict.fromkeys((*reads, *writes), kernel))
            moved[i] = kernel.moved
    return tuple(moved)


class _Needs:
    """What the nodes of a body are computed from.

    Attributes:
        apart: as bits, by position, the nodes that a node needs with one on the way that is not fused, or is not
            itself.
        behind: by the number of a value that is not in memory, what in memory it is computed from.
    """

    def __init__(self, graph: Graph, kept: frozenset[int]) -> None:
        self.apart: list[int] = []
        self.behind: dict[int, dict[int, Access]] = {}
        every: list[int] = []
        made: dict[int, int] = {}
        fused = [op_of(node).fusible for node in graph.nodes]
        for i, node in enumerate(graph.nodes):
            needed, apart = 1 << i, 0
            for at in {made[value.id] for value in node.value_inputs if value.id in made}:
                needed |= every[at]
                apart |= self.apart[at] if fused[at] else every[at]
            every.append(needed)
            self.apart.append(apart)
            made.update((value.id, i) for value in node.outputs)
            brief = [value.id for value in node.outputs if value.id not in kept]
            if fused[i] and brief:
                self.behind.update(dict.fromkeys(brief, self.read(i, node, True)))

    def meet(self, position: int, others: Iterable[int]) -> bool:
        """Whether a node needs others by way of fused ones alone, where it needs them."""
        return not any([self.apart[position] >> other & 1 for other in others])

    def read(self, position: int, node: Node, fuses: bool) -> dict[int, Access]:
        """What a node needs of memory, by the numbers of the values: its operands, or what those are computed from."""
        found: dict[int, Access] = {}
        for value in node.value_inputs:
            if fuses and value.id in self.behind:
                for access in self.behind[value.id].values():
                    _note(access, found)
            elif value.type.dims:
                _note(Access(value, node, position), found)
        return found
