"""How much memory a partitioned step needs on each CPU device, which is what stands in for the chips of a mesh.

XLA for CPUs keeps arrays as they are, and runs what is ready in the order in which it became ready (breadth first), so
gathers of parameters come early, and zeros that something is written into come first of all. So the partitioned graph
is walked in that order, with every collective and every copy at its place:

- Elementwise operations are computed in what reads them, but for those that take long (`exp`, `tanh`, divisions) and
  have several readers: XLA computes these once (`InstructionFusion::IsExpensive`).
- A gather or reduce-scatter is of arrays whose gathered dim is outermost, so that shards are one after the other; a
  product takes its first operand with the summed dims last. What is not so is copied.
- Products are of 32 bits at least, so 16-bit floats are held as those between operations.
- What is scattered into is changed in place. Stacks that a loop fills are there from the beginning.
- A loop that communicates takes its operands behind what was sent before it, and what is sent after it behind the loop
  (`passes.in_turn`): copies, but of what nothing else reads.
- All-reduces over the same devices are made at once, as late as the last of them, beside what they were.
- Attention, which has no kernel there, holds its scores; where a body has its gradient too, until that is computed.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from ir.graph import Graph, Node, Value
from ir.ops import entered, op_of
from ir.ops.spread import is_zero
from ir.types import Dim, TensorType, item_size
from passes.in_turn import sends

_Form = int | tuple[int, ...] | None
"""How an array stands in memory: as its dims do (None), with one of them outermost, or with some of them last."""
_Array = tuple[int, _Form]
"""A value, by number, in a form."""
_BEHIND = -1
"""Begins the form of a copy that waits for what is sent before it."""
_HELD = ()
"""In place of a form: what is held while a value is computed."""


def cpu_peak(placed: Graph, sizes: Mapping[str, int]) -> int:
    """Bytes on one device at the peak of a step, its state updated in place.

    Args:
        placed: the graph after partitioning, with types that say how values are sharded.
        sizes: of the mesh axes, by name.
    """
    arguments = sum(value.type.local_bytes(sizes) for value in placed.inputs)
    standing = {after.id for _, at in placed.carried if isinstance(after := placed.outputs[at], Value)}
    return arguments + _peak(placed, sizes, standing)


def _peak(graph: Graph, sizes: Mapping[str, int], standing: Iterable[int] = (), cut: Iterable[int] = ()) -> int:
    """The most that a body holds besides its inputs.

    Args:
        standing: results that have a place already: state that is updated in place, and what a loop stacks.
        cut: inputs of which every trip of a loop cuts a slice.
    """
    writer = _Writer(graph, sizes, set(standing), set(cut))
    kernels = _joined(writer.kernels)
    return _walked(kernels, _ready(kernels), writer)


@dataclass
class _Kernel:
    """What runs as one.

    Attributes:
        reads, makes: arrays.
        within: bytes that it holds while it runs.
        over: arrays that what it makes takes the place of, where nothing else reads them.
        joins: what tells all-reduces that are made at once.
    """

    reads: set[_Array]
    makes: list[_Array]
    within: int = 0
    over: tuple[_Array, ...] = ()
    joins: tuple[object, ...] = ()


# --- what runs ------------------------------------------------------------------------------------------------------


class _Writer:
    """The kernels of a body."""

    def __init__(self, graph: Graph, sizes: Mapping[str, int], standing: set[int], cut: set[int]) -> None:
        self.sizes = sizes
        self.alias: dict[int, Value] = {}
        self.nodes = list(self._flat(graph))
        self.values = {value.id: value for node in self.nodes for value in node.outputs}
        self.values.update((value.id, value) for value in graph.inputs)
        self.given = {value.id for value in graph.inputs}
        self.cut = cut
        self.leaving = {self.of(value).id for value in graph.outputs if isinstance(value, Value)}
        self.standing = {self.of(self.values[each]).id if each in self.values else each for each in standing}
        self.makers = {value.id: node for node in self.nodes for value in node.outputs}
        self.readers: dict[int, list[Node]] = {}
        for node in self.nodes:
            for value in {self.of(value).id for value in node.value_inputs}:
                self.readers.setdefault(value, []).append(node)
        self.merged = {number for node in self.nodes for number in self._merged(node)}
        self.kept = self._kept()
        self.forms: dict[int, _Form] = {}
        self.kernels: list[_Kernel] = []
        self.copies: set[_Array] = set()
        self.stacks: list[_Array] = []
        self.scores: dict[tuple[int, ...], tuple[_Array, int]] = {}
        self.sent: list[_Array] = []
        self.loop: list[_Array] = []
        for node in self.nodes:
            self._write(node)

    def _flat(self, graph: Graph) -> Iterator[Node]:
        """All nodes, those of bodies that run once in place among them; what only passes an array on is its alias."""
        for node in graph.nodes:
            if op_of(node).runs_once and entered(node):
                (body, feeds), (_, results) = op_of(node).body_operands(node)[0], op_of(node).body_results(node)[0]
                self.alias.update({inner.id: outer for outer, inner, _ in feeds if isinstance(outer, Value)})
                yield from self._flat(body)
                self.alias.update({outer.id: inner for inner, outer, _ in results if isinstance(inner, Value)})
            elif op_of(node).is_operand(node) and isinstance(source := node.inputs[0], Value):
                self.alias[node.outputs[0].id] = source
            else:
                yield node

    def of(self, value: Value) -> Value:
        """The value that has the memory of another one."""
        while value.id in self.alias:
            value = self.alias[value.id]
        return value

    def _kept(self) -> set[int]:
        """Values that are in memory as they are: all but those that are computed in what reads them."""
        kept = self.given | self.leaving
        for node in self.nodes:
            readers = self.readers.get(node.outputs[0].id, []) if node.outputs else []
            if not _fused(node) or (op_of(node).long_parts(node) and len(readers) > 1):
                kept |= {value.id for value in node.outputs} - self.merged
            if not _fused(node) and not op_of(node).fuses_operands:
                kept |= {self.of(each).id for each in node.value_inputs if self.wanted(node, each) is None}
        return kept - self.merged

    def _merged(self, node: Node) -> Iterator[int]:
        """Of a sum whose one operand is scattered into zeros: that, and the zeros. It scatters into the other."""
        if node.fn not in ("add", "add_any") or not op_of(node).is_elementwise:
            return
        for value in map(self.of, node.value_inputs):
            made = self.makers.get(value.id)
            if made is None or not op_of(made).writes_into or len(self.readers[value.id]) > 1:
                continue
            zeros = made.inputs[0]
            if isinstance(zeros, Value) and _is_zero(self.makers.get(self.of(zeros).id)):
                yield from (value.id, self.of(zeros).id)
                return

    def wanted(self, node: Node, value: Value) -> _Form:
        """The form in which a node that is not fused takes an operand."""
        op, dims = op_of(node), value.type.dims
        if op.multiplies and value is node.inputs[0]:
            over = node.dims("over")
            summed = tuple([i for i, dim in enumerate(dims) if any(_same(dim, each) for each in over)])
            behind = self._length(dims[summed[-1] + 1 :]) if summed else 1
            rest = [i for i in range(len(dims)) if i not in summed and summed and i > summed[0]]
            return summed if behind > 1 or self._length([dims[i] for i in rest]) > 1 else None
        if op.communicates and node.outputs:
            return self._outermost(value.type, node.outputs[0].type)
        return None

    def _outermost(self, before: TensorType, after: TensorType) -> _Form:
        """The dim that is outermost while it is gathered or scattered; None where it is so anyway."""
        for i, (a, b) in enumerate(zip(before.dims, after.dims, strict=True)):
            if a.mesh != b.mesh:
                return i if self._length(before.dims[:i]) > 1 else None
        return None

    def _length(self, dims: Iterable[Dim]) -> int:
        return prod(dim.size // prod(self.sizes[axis] for axis in dim.mesh) for dim in dims)

    def bytes(self, array: _Array) -> int:
        if array[1] == _HELD:
            return self._held(self.makers[array[0]])
        type_ = self.values[array[0]].type
        wide = 2 if item_size(type_.dtype) == 2 and "float" in type_.dtype else 1
        made = self.makers.get(array[0])
        parts = op_of(made).long_parts(made) if made is not None and array[0] not in self.leaving else 1
        return type_.local_bytes(self.sizes) * wide * max(1, parts)

    # --- reading

    def take(self, value: Value, form: _Form) -> _Array:
        """A value in a form that a kernel asks for, computed or copied first where it is not there so."""
        root = self.of(value)
        if form is None and (root.id not in self.kept or self.forms.get(root.id) is not None):
            value = root
        elif form is None or (value.id == root.id and root.id in self.kept and self.forms.get(root.id) == form):
            return root.id, self.forms.get(root.id)
        array = (value.id, form)
        if array not in self.copies:
            self.values.setdefault(value.id, value)
            self.copies.add(array)
            self.kernels.append(_Kernel(set(self.sources(root)), [array]))
        return array

    def sources(self, value: Value) -> Iterator[_Array]:
        """The arrays that a value is computed from, itself where it is in memory."""
        value = self.of(value)
        if value.id in self.kept:
            yield value.id, self.forms.get(value.id)
            return
        for operand in self.makers[value.id].value_inputs:
            yield from self.sources(operand)

    # --- writing

    def _write(self, node: Node) -> None:
        if _fused(node):
            for value in node.outputs:
                if value.id in self.kept:
                    self._fused(node, value)
            return
        if node.outputs and node.outputs[0].id in self.merged:
            return
        op = op_of(node)
        reads = {array for value in node.value_inputs for array in self._operand(node, value)}
        looped = bool(entered(node)) and sends(node)
        if looped or op.communicates:
            reads = self._behind(reads, self.sent if looped else self.loop)
        kernel = _Kernel(reads, [(value.id, None) for value in node.outputs], self._within(node))
        if op.communicates and node.outputs:
            form = self.wanted(node, node.value_inputs[0])
            kernel.makes = [(node.outputs[0].id, form)]
            self.forms[node.outputs[0].id] = form
            if op.completes_sums and not self._scatters(node):
                kernel.joins = (node.words("mesh"), node.outputs[0].type.dtype, op.reduction(node))
        if op.writes_into:
            kernel.over = tuple(self._operand(node, node.value_inputs[0]))[:1]
        stacked = {value.id for _, results in op.body_results(node) for _, value, each in results if each}
        if self._held(node):
            operands = tuple(self.of(value).id for value in node.value_inputs[:3])
            array, before = self.scores.setdefault(operands, ((node.outputs[0].id, _HELD), len(self.kernels)))
            if before < len(self.kernels):
                self.kernels[before].makes.append(array)
                kernel.reads.add(array)
        self.stacks += [array for array in kernel.makes if array[0] in stacked]
        self.kernels.append(kernel)
        if looped:
            self.sent = self.loop = list(kernel.makes)
        elif op.communicates:
            self.sent = [*self.sent, *kernel.makes]

    def _behind(self, arrays: set[_Array], before: Sequence[_Array]) -> set[_Array]:
        """The same arrays as a loop of no trip gives them, once all of `before` are there: copies, but of what nothing
        else reads (`passes.in_turn`)."""
        if not before:
            return arrays
        behind: set[_Array] = set()
        for number, form in sorted(arrays, key=str):
            array = (number, (_BEHIND, len(self.kernels), form if isinstance(form, int) else 0))
            self.kernels.append(_Kernel({(number, form), *before}, [array], over=((number, form),)))
            behind.add(array)
        return behind

    def _scatters(self, node: Node) -> bool:
        return node.inputs[0].type.dims != node.outputs[0].type.dims

    def _operand(self, node: Node, value: Value) -> Iterator[_Array]:
        form = self.wanted(node, value)
        if form is None and op_of(node).fuses_operands and self.of(value).id not in self.kept:
            yield from self.sources(value)
        else:
            yield self.take(value, form)

    def _fused(self, node: Node, value: Value) -> None:
        reads = {array for operand in node.value_inputs for array in self.sources(operand)}
        turned = [form for number, form in reads if isinstance(form, int) and self._alike(number, value)]
        self.forms[value.id] = turned[0] if turned and value.id not in self.leaving else None
        self.kernels.append(_Kernel(reads, [(value.id, self.forms[value.id])]))

    def _alike(self, number: int, value: Value) -> bool:
        return self.values[number].type.shape == value.type.shape

    def _within(self, node: Node) -> int:
        op = op_of(node)
        inside: list[int] = []
        for body in entered(node):
            feeds = [feeds for each, feeds in op.body_operands(node) if each is body]
            results = [results for each, results in op.body_results(node) if each is body]
            cut = [inner.id for each in feeds for _, inner, sliced in each if sliced]
            stacked = [inner.id for each in results for inner, _, into in each if into and isinstance(inner, Value)]
            inside.append(_peak(body, self.sizes, stacked, cut))
        return self._held(node) + max(inside, default=0)

    def _held(self, node: Node) -> int:
        return sum(4 * self._length(dims) for dims in op_of(node).held(node))


def _fused(node: Node) -> bool:
    return op_of(node).fusible or op_of(node).waits


def _is_zero(node: Node | None) -> bool:
    return node is not None and op_of(node).widens(node) and not node.value_inputs and is_zero(node.inputs[0])


def _same(dim: Dim, other: Dim) -> bool:
    return (dim.name, dim.size) == (other.name, other.size)


# --- when it runs ---------------------------------------------------------------------------------------------------


def _makers(kernels: list[_Kernel]) -> dict[_Array, int]:
    return {array: i for i, kernel in enumerate(kernels) for array in kernel.makes}


def _joined(kernels: list[_Kernel]) -> list[_Kernel]:
    """All-reduces that can be made at once are: those over the same devices that do not wait for one another."""
    makers = _makers(kernels)
    head = list(range(len(kernels)))

    def needed(start: int) -> set[int]:
        found: set[int] = set()
        left = [start]
        while left:
            for array in kernels[left.pop()].reads:
                above = makers.get(array)
                if above is not None and head[above] not in found:
                    found.add(head[above])
                    left.append(head[above])
        return found

    groups: dict[tuple[object, ...], list[int]] = {}
    for i, kernel in enumerate(kernels):
        for first in groups.get(kernel.joins, []) if kernel.joins else ():
            if first not in needed(i) and i not in needed(first):
                head[i] = first
                kernels[first].reads |= kernel.reads
                kernels[first].makes += kernel.makes
                break
        else:
            groups.setdefault(kernel.joins, []).append(i)
    return [kernel for i, kernel in enumerate(kernels) if head[i] == i]


def _ready(kernels: list[_Kernel]) -> Iterator[_Kernel]:
    """Kernels as they become ready."""
    makers = _makers(kernels)
    needs = [{makers[array] for array in kernel.reads if array in makers} - {i} for i, kernel in enumerate(kernels)]
    waiting = [len(each) for each in needs]
    users: dict[int, list[int]] = {}
    for i, each in enumerate(needs):
        for above in sorted(each):
            users.setdefault(above, []).append(i)
    queue = deque(i for i, missing in enumerate(waiting) if not missing)
    while queue:
        i = queue.popleft()
        yield kernels[i]
        for user in users.get(i, ()):
            waiting[user] -= 1
            if not waiting[user]:
                queue.append(user)


def _walked(kernels: list[_Kernel], order: Iterable[_Kernel], writer: _Writer) -> int:
    """The most that is held on the way."""
    left: dict[_Array, int] = {}
    for kernel in kernels:
        for array in kernel.reads:
            left[array] = left.get(array, 0) + 1
    live: dict[_Array, int] = {}

    def begin(array: _Array) -> None:
        if array[0] not in writer.standing and array not in live:
            live[array] = writer.bytes(array)

    for array in writer.stacks:
        begin(array)
    for array in left:
        if array[0] in writer.cut:
            begin(array)
    highest = sum(live.values())
    for kernel in order:
        for array in kernel.over:
            if left[array] == 1 and array in live and kernel.makes[0] not in live:
                del live[array]
        for array in kernel.makes:
            begin(array)
        highest = max(highest, sum(live.values()) + kernel.within)
        for array in kernel.reads:
            left[array] -= 1
        for array in (*kernel.reads, *kernel.makes):
            if not left.get(array) and array[0] not in writer.leaving:
                live.pop(array, None)
    return highest
