"""Dims merged in one order and split in another: `(heads, head_size)` flattened, `(head_size, heads)` unflattened.

A merge and a split are two ways to write one dim as a product. The dim has no name, mostly, so it is followed by
position from where it is made to where it is used; two products of the same dim must have their factors in one order.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ir.graph import Node, Operand, Value
from ir.names import is_derived
from ir.ops import Place, factors, op_of
from ir.union_find import Classes
from passes import errors
from passes.checks.finding import Finding, Severity, finding
from passes.checks.program import Program

Key = str | tuple[int, int]
"""What tells dims apart: the name, or for a dim without one the first place on its way."""


@dataclass(frozen=True)
class _Product:
    """One dim as a product of others, in order; `parts` and `sizes` are its factors."""

    node: Node
    whole: Key
    parts: tuple[Key, ...]
    sizes: tuple[int, ...]
    merges: bool

    @property
    def named(self) -> bool:
        """Whether the user named every factor."""
        return all(map(_is_given, self.parts))

    def __str__(self) -> str:
        names = [part if _is_given(part) else "_" for part in self.parts]
        return "(" + ", ".join(f"{name}={size}" for name, size in zip(names, self.sizes, strict=True)) + ")"


def _is_given(key: Key) -> bool:
    return isinstance(key, str) and not is_derived(key)


def check(program: Program) -> Iterator[Finding]:
    """Each product that contradicts an earlier one of the same dim or of the same factors."""
    reshapes = [node for node in program.nodes if op_of(node).regroups(node) and node.phase == "forward"]
    if not reshapes:
        return
    known: list[_Product] = []
    seen: set[object] = set()
    keys = _Keys(program)
    for node in reshapes:
        for product in _products(node, keys):
            for other in known:
                severity = _contradiction(other, product)
                if severity is not None and (node.source, other.node.source) not in seen:
                    seen.add((node.source, other.node.source))
                    yield _worded(program, other, product, severity)
                    break
            known.append(product)


class _Keys:
    """Which dims without a name are the same dim."""

    def __init__(self, program: Program) -> None:
        self.same = Classes[tuple[int, int]]()
        for node in program.nodes:
            for first, second in op_of(node).links(node):
                if self._unnamed(first) and self._unnamed(second):
                    self.same.union(self._place(first), self._place(second))

    def __call__(self, operand: Operand, position: int) -> Key:
        dim = operand.type.dims[position]
        if dim.name is None:
            return self.same[self._place((operand, position))]
        return dim.name if _is_given(dim.name) else f"{dim.name}={dim.size}"

    def _unnamed(self, place: Place) -> bool:
        operand, position = place
        dim = operand.type.dims[position]
        return isinstance(operand, Value) and dim.name is None and dim.size != 1

    def _place(self, place: Place) -> tuple[int, int]:
        operand, position = place
        return (operand.id if isinstance(operand, Value) else -1), position


def _products(node: Node, keys: _Keys) -> Iterator[_Product]:
    operand, result = node.inputs[0], node.outputs[0]
    for left, right in factors(operand.type.shape, result.type.shape):
        if len(left) == len(right) == 1:
            continue
        # A reshape that should have been a transpose is a merge and a split in one.
        before, after = [keys(operand, p) for p in left], [keys(result, p) for p in right]
        whole = before[0] if len(left) == 1 else after[0] if len(right) == 1 else (node.outputs[0].id, -1 - right[0])
        if len(left) > 1:
            yield _Product(node, whole, tuple(before), tuple(operand.type.shape[p] for p in left), True)
        if len(right) > 1:
            yield _Product(node, whole, tuple(after), tuple(result.type.shape[p] for p in right), False)


def _contradiction(first: _Product, second: _Product) -> Severity | None:
    same_parts = sorted(map(str, first.parts)) == sorted(map(str, second.parts))
    if same_parts and first.parts != second.parts:
        if first.whole == second.whole:
            return "error" if first.named else "warning"
        both_named = _is_given(first.whole) and _is_given(second.whole)  # two dims, on purpose
        return "warning" if first.merges != second.merges and not both_named else None
    # A dim that has a name of its own may well be two products (heads, and groups to normalize); a merged one is not.
    is_permuted = sorted(first.sizes) == sorted(second.sizes) and first.sizes != second.sizes
    nameless = not any(map(_is_given, first.parts)) or not any(map(_is_given, second.parts))
    return (
        "warning" if is_permuted and nameless and first.whole == second.whole and not _is_given(first.whole) else None
    )


def _worded(program: Program, first: _Product, second: _Product, severity: Severity) -> Finding:
    what, fix = errors.other_order(str(first), first.merges, first.node.source, str(second), second.merges)
    operands = dict.fromkeys([first.node.inputs[0], first.node.outputs[0], second.node.inputs[0], *second.node.outputs])
    names = [
        (part, value)
        for product in (first, second)
        for value in [product.node.inputs[0] if product.merges else product.node.outputs[0]]
        for part in product.parts
        if isinstance(part, str) and _is_given(part)
    ]
    code = "order" if severity == "error" else "split-order"
    return finding(program, code, second.node, what, fix, list(operands), names, severity)
