"""The same indices look up two axes: token ids that index `vocab` in one place and `position` in another.

What a gather, a scatter or a one-hot comparison looks up tells what its indices count. Followed back through casts,
broadcasts and the handling of negative numbers, one array of indices should count one thing.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from networkx.utils import UnionFind

from ir.graph import Node, Operand, Value
from ir.ops import op_of
from passes import errors
from passes.checks.finding import Finding, finding
from passes.checks.patterns import counter, elementwise, narrow
from passes.checks.program import Program

if TYPE_CHECKING:
    Classes = UnionFind[str]
else:
    Classes = UnionFind  # only the type stubs of networkx know what its elements are

CODE = "index"


def check(program: Program) -> Iterator[Finding]:
    """Each second axis that the same indices look up."""
    aliases = _renamed(program)
    uses: dict[int, tuple[str, Node]] = {}
    seen: set[object] = set()
    for node in program.nodes:
        if node.phase != "forward":
            continue
        for name, indices in _lookups(program, node):
            root = _root(program, indices)
            if not isinstance(root, Value):
                continue
            other, first = uses.setdefault(root.id, (name, node))
            if aliases[other] != aliases[name] and (node.source, other, name) not in seen:
                seen.add((node.source, other, name))
                what, fix = errors.index(other, first.source, name)
                operands = dict.fromkeys([root, first.inputs[0], node.inputs[0]])
                names = [(other, first.inputs[0]), (name, node.inputs[0])]
                yield finding(program, CODE, node, what, fix, list(operands), names, "warning")


def _renamed(program: Program) -> Classes:
    """Names of one axis: a rename gives it another."""
    same = Classes()
    for node in program.nodes:
        if op_of(node).renames:
            for old, new in zip(node.dims("old"), node.outputs[0].type.dims, strict=True):
                if old.name is not None and new.name is not None:
                    same.union(old.name, new.name)
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


def _root(program: Program, indices: Operand) -> Operand:
    """The array of indices itself."""
    indices = narrow(program, indices)
    wrapped = elementwise(program, indices, "select_n")
    if wrapped is not None and len(wrapped.inputs) == 3:  # select(i < 0, i, i + size)
        plain_one, moved = narrow(program, wrapped.inputs[1]), elementwise(program, wrapped.inputs[2], "add")
        if moved is not None and narrow(program, moved.inputs[0]) == plain_one:
            return _root(program, plain_one)
    limited = elementwise(program, indices, "clamp", "max", "min")
    if limited is not None:
        bounded = [operand for operand in limited.inputs if operand.type.dims]
        if len(bounded) == 1:
            return _root(program, bounded[0])
    return indices
