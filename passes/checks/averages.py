"""A mean over one axis of the data, then a sum over another: the weight of an example depends on the other axis's size.

A loss that is averaged over `position` and then summed over `batch` (or the other way round) grows with the batch, and
the learning rate with it. A sum first and a mean after it is the usual way to write a loss of several terms, and is let
be; so are sums over axes of the model.
"""

from collections.abc import Iterator
from math import isclose, prod

from ir.graph import Constant, Node, Value
from ir.ops import op_of
from passes.checks import errors
from passes.checks.finding import Finding, finding
from passes.checks.program import Program, spot

CODE = "mean-then-sum"
LINEAR = ("add", "sub", "neg", "convert_element_type", "mul", "named", "copy", "stop_gradient", "select_n", "add_any")
_CASTS = ("convert_element_type", "named")


def check(program: Program) -> Iterator[Finding]:
    """Each sum over an axis of the data of what is a mean over another one."""
    data = data_names(program)
    seen: set[object] = set()
    for node in program.nodes:
        if not is_sum(node, data) or (mean := divided(program, node)) is None:
            continue
        averaged = node.names("over")
        for later in _later_sums(program, mean, averaged, data):
            if spot(later) not in seen:
                seen.add(spot(later))
                what, fix = errors.mean_then_sum(averaged, later.names("over"), node.source)
                names = [(name, node.inputs[0]) for name in averaged]
                operands = [node.inputs[0], *later.inputs]
                yield finding(program, CODE, later, what, fix, operands, names, "warning")


def data_names(program: Program) -> set[str]:
    """Names of the arguments that are not state: the batch. A function without state has its parameters first."""
    graph = program.graph
    state = {before for before, _ in graph.carried}
    roots = [path.partition(".")[0] for path in graph.input_paths]
    if not state and len(set(roots)) > 1:
        state = {position for position, root in enumerate(roots) if root == roots[0]}
    return {name for i, value in enumerate(graph.inputs) if i not in state for name in value.type.names}


def is_sum(node: Node, data: set[str]) -> bool:
    """Whether a node of the forward pass is a sum over axes of the data alone."""
    over = node.names("over")
    return op_of(node).sums(node) and node.phase == "forward" and bool(over) and set(over) <= data


def divided(program: Program, total: Node) -> Value | None:
    """The mean that a sum becomes; None where it stays a sum."""
    size = prod(dim.size for dim in total.dims("over"))
    for value in _unchanged(program, total.outputs[0]):
        for node in program.readers.get(value.id, []):
            other = node.inputs[-1] if node.inputs[0] == value else node.inputs[0]
            if node.fn not in ("div", "mul") or not isinstance(other, Constant):
                continue
            factor = float(other.text)
            if isclose(factor, size if node.fn == "div" else 1 / size, rel_tol=1e-3):
                return node.outputs[0]
    return None


def _unchanged(program: Program, value: Value) -> list[Value]:
    """The value, and what it is after casts and dims of size 1."""
    found = [value]
    for each in found:
        for node in program.readers.get(each.id, []):
            if len(node.outputs) == 1:
                result = node.outputs[0]
                one_operand = len(node.inputs) == 1 and result.type.elements == each.type.elements
                op = op_of(node)
                kept = (op.is_elementwise and node.fn in _CASTS) or (op.stays_proportional and not op.transposes(node))
                if one_operand and kept:
                    found.append(result)
    return found


def _later_sums(program: Program, mean: Value, averaged: tuple[str, ...], data: set[str]) -> Iterator[Node]:
    """Sums that are no means, over other axes of the data, of what depends on the mean in proportion."""
    seen, queue = {mean.id}, [mean]
    while queue:
        value = queue.pop(0)
        for node in program.readers.get(value.id, []):
            if node.phase != "forward" or len(node.outputs) != 1:
                continue
            if is_sum(node, data) and not set(averaged) & set(node.names("over")) and not _normalized(program, node):
                yield node
            result, op = node.outputs[0], op_of(node)
            follows = (op.is_elementwise and node.fn in LINEAR) or op.stays_proportional
            # A mean that goes back to the size it was taken over is a statistic, as in a normalization.
            if follows and not set(averaged) & set(result.type.names) and result.id not in seen:
                seen.add(result.id)
                queue.append(result)


def _normalized(program: Program, total: Node) -> bool:
    """Whether a sum is divided, by its size or by anything else that is counted."""
    return divided(program, total) is not None or any(
        node.fn == "div" and node.inputs[0] == value
        for value in _unchanged(program, total.outputs[0])
        for node in program.readers.get(value.id, [])
    )
