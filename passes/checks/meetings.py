"""Two names meet that should be one: in a sum, a contraction, a concatenation, a loop's carry, a mark.

One mistake is one finding. What comes out of a meeting is *confused*: it has one of the two names and may as well have
the other, so the same two names meeting there again say nothing new. And autodiff repeats what the forward pass did:
two names that met there come back in the backward pass and in the update.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ir.graph import Node, Operand, Value
from ir.names import is_derived, same_axis, unprimed
from ir.ops import Mismatch, op_of
from passes.checks import errors
from passes.checks.finding import Finding, finding
from passes.checks.program import Program, spot
from passes.checks.provenance import chain

Pair = frozenset[str]


def check(program: Program) -> Iterator[Finding]:
    """Every meeting, in the order of the program; of several alike on one line the first."""
    known = _Known(program)
    for node in program.nodes:
        new = [
            (mismatch, *ends)
            for mismatch in op_of(node).mismatches(node)
            if _counts(program, node, mismatch)
            and not known.explains(node, mismatch, *(ends := op_of(node).ends(node, mismatch)))
        ]
        if new and known.is_first(node, [mismatch for mismatch, _, _ in new]):
            yield _worded(program, node, new)
        for mismatch, first, second in new:
            known.add(node, mismatch, first, second)
    yield from _state(program, known)


def _counts(program: Program, node: Node, mismatch: Mismatch) -> bool:
    """Whether two names that meet are a mistake at all."""
    if is_derived(mismatch.first) or is_derived(mismatch.second):
        return False
    op = op_of(node)
    return not (op.is_elementwise and not op.relabels(node) and _symmetrizes(program, node))


def _symmetrizes(program: Program, node: Node) -> bool:
    """Whether a node adds a matrix and its transpose, as JAX does before and after it factorizes one."""
    transposed = {
        maker.inputs[0]
        for operand in node.value_inputs
        if (maker := program.producer.get(operand.id)) is not None and op_of(maker).transposes(maker)
    }
    if not transposed & set(node.inputs):
        return False
    near = [node]
    for each in near:
        near += [
            reader
            for value in each.outputs
            for reader in program.readers.get(value.id, [])
            if _may_factorize(reader) and reader.source == node.source and reader not in near
        ]
    return node.phase == "backward" or any(op_of(each).factorizes for each in near)


def _may_factorize(node: Node) -> bool:
    op = op_of(node)
    return op.is_elementwise or op.factorizes


@dataclass
class _Known:
    """What has been said: which values are confused, and about which names."""

    program: Program
    confused: dict[int, set[tuple[str, str]]] = field(default_factory=dict[int, set[tuple[str, str]]])
    forward: set[Pair] = field(default_factory=set[Pair])
    pairs: set[Pair] = field(default_factory=set[Pair])
    lines: set[tuple[object, str, frozenset[Pair]]] = field(default_factory=set[tuple[object, str, frozenset[Pair]]])

    def explains(self, node: Node, mismatch: Mismatch, first: Operand, second: Operand) -> bool:
        """Whether this meeting follows from one before."""
        a, b = unprimed(mismatch.first), unprimed(mismatch.second)
        if node.phase != "forward" and frozenset((a, b)) in self.forward:
            return True
        return self.may_be(first, a, b) or self.may_be(second, b, a)

    def may_be(self, operand: Operand, name: str, other: str) -> bool:
        """Whether the dim called `name` comes out of a meeting with `other`."""
        if not isinstance(operand, Value) or not self.confused:
            return False
        seen, queue = {operand.id}, deque([operand])
        while queue:
            value = queue.popleft()
            if (name, other) in self.confused.get(value.id, ()):
                return True
            for source in self.program.sources(value):
                if source.id not in seen and name in map(unprimed, source.type.names):
                    seen.add(source.id)
                    queue.append(source)
        return False

    def is_first(self, node: Node, mismatches: Sequence[Mismatch]) -> bool:
        """Whether its line has not been reported for the same names (a line is many operations, or many layers)."""
        pairs = frozenset(frozenset((unprimed(m.first), unprimed(m.second))) for m in mismatches)
        key = (spot(node), mismatches[0].rule, pairs)
        if node.source is not None and key in self.lines:
            return False
        self.lines.add(key)
        return True

    def add(self, node: Node, mismatch: Mismatch, first: Operand, second: Operand) -> None:
        a, b = unprimed(mismatch.first), unprimed(mismatch.second)
        self.pairs.add(frozenset((a, b)))
        if node.phase == "forward":
            self.forward.add(frozenset((a, b)))
        results = [*node.outputs, *(before for before, _ in op_of(node).carries(node))]
        # A name that no argument brought was inferred from a use, which may be the wrong one of its uses.
        for operand, name in ((first, mismatch.first), (second, mismatch.second)):
            if isinstance(operand, Value) and not (found := chain(self.program, operand, name)).flows:
                results.append(found.made)
        for value in results:
            self.confused.setdefault(value.id, set()).update(((a, b), (b, a)))


def _worded(program: Program, node: Node, met: Sequence[tuple[Mismatch, Operand, Operand]]) -> Finding:
    mismatches = [mismatch for mismatch, _, _ in met]
    _, first, second = met[0]
    op = op_of(node)
    operands = [first, second] if node.bodies or op.relabels(node) else list(node.inputs)
    names = [(name, value) for m, a, b in met for name, value in ((m.first, a), (m.second, b))]
    fix = _fix_of_state(program, node, met) or errors.meeting_fix(mismatches, first.type, second.type)
    what = errors.meeting(mismatches, op.meetings[mismatches[0].rule], node.fn or node.kind)
    return finding(program, mismatches[0].rule, node, what, fix, operands, names)


def _fix_of_state(program: Program, node: Node, met: Sequence[tuple[Mismatch, Operand, Operand]]) -> str | None:
    """The fix where the two sides of an update are two pieces of state: one belongs to the other."""
    if node.phase != "update":
        return None
    state = {program.graph.inputs[before].id for before, _ in program.graph.carried}
    for mismatch, first, second in met:
        if isinstance(first, Value) and isinstance(second, Value):
            ends = chain(program, first, mismatch.first), chain(program, second, mismatch.second)
            if all(end.start.id in state for end in ends) and ends[0].path != ends[1].path:
                return errors.state_fix(ends[0].path, ends[1].path)
    return None


def _state(program: Program, known: _Known) -> Iterator[Finding]:
    """State that comes out of the step with other names, or its dims in another order, than it went in."""
    graph = program.graph
    for before, after in graph.carried:
        value, result = graph.inputs[before], graph.outputs[after]
        met = [
            (a.name, b.name)
            for a, b in zip(value.type.dims, result.type.dims, strict=True)
            if a.name and b.name and not same_axis(a.name, b.name)
        ]
        if all(frozenset(pair) in known.pairs or known.may_be(result, pair[1], pair[0]) for pair in met):
            continue
        path = graph.input_paths[before] if graph.input_paths else str(value)
        what, fix = errors.state_changes(path, value.type, result.type)
        node = program.producer.get(result.id) if isinstance(result, Value) else None
        names = [(name, operand) for a, b in met for name, operand in ((a, value), (b, result))]
        yield finding(program, "state", node, what, fix, [value, result], names)
