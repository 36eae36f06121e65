"""Indices that look up what they do not count: token ids that index `vocab` in one place and `position` in another, or
`0, 1, 2, …` along the batch that index the positions.

What a gather, a scatter or a one-hot comparison looks up tells what its indices count. Followed back through casts,
broadcasts and the handling of negative numbers, one array of indices should count one thing.
"""

from collections.abc import Iterator

from ir.graph import Node, Operand, Value
from ir.names import unprimed
from ir.ops import op_of
from ir.union_find import Classes
from passes.checks import errors
from passes.checks.finding import Finding, finding
from passes.checks.patterns import columns, counter, elementwise, indices_of, narrow, plain
from passes.checks.program import Program, is_inserted, spot

CODE = "index"


def check(program: Program) -> Iterator[Finding]:
    """Each second axis that the same indices look up."""
    yield from _counters(program)
    aliases = _renamed(program)
    uses: dict[int, tuple[str, Node]] = {}
    seen: set[object] = set()
    for node in program.nodes:
        if node.phase != "forward":
            continue
        for name, indices in _lookups(program, node):
            root = indices_of(program, indices)
            if not isinstance(root, Value):
                continue
            other, first = uses.setdefault(root.id, (name, node))
            if aliases[unprimed(other)] != aliases[unprimed(name)] and (spot(node), other, name) not in seen:
                seen.add((spot(node), other, name))
                what, fix = errors.index(other, first.source, name)
                operands = dict.fromkeys([root, first.inputs[0], node.inputs[0]])
                names = [(other, first.inputs[0]), (name, node.inputs[0])]
                yield finding(program, CODE, node, what, fix, list(operands), names, "warning")


def _counters(program: Program) -> Iterator[Finding]:
    """Indices that count one axis and look up another one that stands beside it: in the array that is looked up
    (`h[n, arange(B)]` for `h[arange(B), n]`), or in the indices (places counted along the batch)."""
    seen: set[object] = set()
    for node in program.nodes:
        if node.phase != "forward":
            continue
        found = columns(program, node)
        for name, indices in found:
            counted = indices_of(program, indices)
            source = counter(program, counted) or _cumulated(program, counted)
            counts = source.names("along") if source is not None else ()
            if source is None or len(counts) != 1 or unprimed(counts[0]) == unprimed(name):
                continue
            beside = {other for other, _ in found} | set(source.outputs[0].type.names)
            both = counts[0] in beside and (name in source.outputs[0].type.names or len(found) > 1)
            if both and (spot(node), counts, name) not in seen:
                seen.add((spot(node), counts, name))
                what, fix = errors.counts(counts[0], name)
                operands = dict.fromkeys([node.inputs[0], *source.outputs])
                names = [(name, node.inputs[0]), (counts[0], source.outputs[0])]
                yield finding(program, CODE, node, what, fix, list(operands), names, "warning")


def _cumulated(program: Program, operand: Operand) -> Node | None:
    """The running sum behind an operand, less a constant."""
    less = elementwise(program, operand, "sub", "add")
    operand = plain(program, less.inputs[0]) if less is not None else operand
    node = program.producer.get(operand.id) if isinstance(operand, Value) else None
    return node if node is not None and op_of(node).accumulates else None


def _renamed(program: Program) -> Classes[str]:
    """Names of one axis: a rename gives it another."""
    same = Classes[str]()
    for node in program.nodes:
        if op_of(node).renames and not is_inserted(node):
            for old, new in zip(node.dims("old"), node.outputs[0].type.dims, strict=True):
                if old.name is not None and new.name is not None and old.name != new.name:
                    same.union(unprimed(old.name), unprimed(new.name))
    return same


def _lookups(program: Program, node: Node) -> Iterator[tuple[str, Operand]]:
    """(name, indices) of what a node looks up."""
    op = op_of(node)
    yield from op.lookups(node)
    if op.is_elementwise and node.fn == "eq" and len(node.inputs) == 2:
        for counted, indices in (node.inputs, node.inputs[::-1]):
            iota = counter(program, narrow(program, counted))
            if iota is not None and len(iota.names("along")) == 1:
                yield iota.names("along")[0], indices
