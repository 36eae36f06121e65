"""A mean of means that have unequal weights: `((a * b).sum(1) / b.sum(1)).mean()` for `(a * b).sum() / b.sum()`.

Each example counts the same whatever its length is, so a position of a short one counts more than one of a long one; of
microbatches, the gradient depends on how the batch was cut. It may be meant, so it is a warning of its own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ir.graph import Constant, Node, Operand, Value
from ir.ops import op_of
from passes.checks import errors
from passes.checks.averages import LINEAR, data_names, divided
from passes.checks.finding import Finding, finding
from passes.checks.patterns import elementwise, narrow, plain, total
from passes.checks.program import Program, spot

CODE = "mean-of-means"

_Leaving = tuple[Node, Value, bool]
"""A loop, the result outside that a value of its body becomes, and whether it is stacked there."""


@dataclass(frozen=True)
class _Ratio:
    """A weighted mean over some names."""

    node: Node
    over: tuple[str, ...]
    weights: Value


def check(program: Program) -> Iterator[Finding]:
    """Each weighted mean that is averaged over what its weights differ along."""
    data, leaving = data_names(program), _leaving(program)
    seen: set[object] = set()
    for ratio in _ratios(program):
        for node, along in _averaged(program, ratio, data, leaving):
            if spot(node) not in seen:
                seen.add(spot(node))
                what, fix = errors.mean_of_means(ratio.over, along, ratio.node.source)
                names = [(name, ratio.weights) for name in ratio.over if name in ratio.weights.type.names]
                yield finding(program, CODE, node, what, fix, [ratio.weights, *node.inputs], names, "warning")


def _ratios(program: Program) -> Iterator[_Ratio]:
    for node in program.nodes:
        if node.fn != "div" or node.phase != "forward" or not op_of(node).is_elementwise:
            continue
        above, below = total(program, narrow(program, node.inputs[0])), _counted(program, node.inputs[1])
        if above is None or below is None or set(above.names("over")) != set(below.names("over")):
            continue
        weights = narrow(program, below.inputs[0])
        if isinstance(weights, Value) and weights.type.dims and _weighs(program, above.inputs[0], weights):
            yield _Ratio(node, below.names("over"), weights)


def _counted(program: Program, operand: Operand) -> Node | None:
    """The sum that is divided by, before it was kept away from 0."""
    operand = narrow(program, operand)
    kept = elementwise(program, operand, "max", "add", "clamp")
    if kept is not None:
        whole = [narrow(program, each) for each in kept.inputs]
        sums = [found for each in whole if (found := total(program, each)) is not None]
        return sums[0] if len(sums) == 1 else None
    return total(program, operand)


def _weighs(program: Program, operand: Operand, weights: Value) -> bool:
    """Whether a value is something times the weights, or something where they are true."""
    operand = plain(program, operand)
    product = elementwise(program, operand, "mul")
    if product is not None:
        return any(narrow(program, each) == weights for each in product.inputs)
    chosen = elementwise(program, operand, "select_n")
    return chosen is not None and narrow(program, chosen.inputs[0]) == weights


def _averaged(
    program: Program, ratio: _Ratio, data: set[str], leaving: Mapping[int, list[_Leaving]]
) -> Iterator[tuple[Node, tuple[str, ...]]]:
    """Where the mean is averaged further, and the names over which: through what is in proportion to it."""
    seen, queue = {ratio.node.outputs[0].id}, [ratio.node.outputs[0]]
    varies = set(ratio.weights.type.names) - set(ratio.over)
    for value in queue:
        for node in program.readers.get(value.id, []):
            if node.phase != "forward" or node.bodies or len(node.outputs) != 1:
                continue
            over, op = set(node.names("over")), op_of(node)
            if op.sums(node) and over and over <= varies | data and divided(program, node) is not None:
                if over & varies:
                    yield node, node.names("over")
                continue
            result = node.outputs[0]
            if ((op.is_elementwise and node.fn in LINEAR) or op.stays_proportional) and result.id not in seen:
                seen.add(result.id)
                queue.append(result)
        for loop, outside, stacked in leaving.get(value.id, []):
            over_loop = loop.names("over")
            if stacked and outside.id not in seen:
                varies |= set(over_loop)
                seen.add(outside.id)
                queue.append(outside)
            elif not stacked and _divided_by(program, outside, loop.count("trips", 0)):
                yield ratio.node, over_loop


def _leaving(program: Program) -> dict[int, list[_Leaving]]:
    """The loops that each value of a body leaves as a result."""
    found: dict[int, list[_Leaving]] = {}
    for node in program.nodes:
        if node.bodies and op_of(node).scans(node):
            for _, given in op_of(node).body_results(node):
                for inside, outside, stacked in given:
                    if isinstance(inside, Value):
                        found.setdefault(inside.id, []).append((node, outside, stacked))
    return found


def _divided_by(program: Program, value: Value, trips: int) -> bool:
    """Whether a sum over the trips of a loop becomes their mean."""
    for node in program.readers.get(value.id, []):
        if node.fn in ("div", "mul") and len(node.inputs) == 2 and isinstance(other := node.inputs[1], Constant):
            factor = float(other.text)
            if trips > 1 and abs((factor if node.fn == "div" else 1 / factor if factor else 0) - trips) < 1e-3 * trips:
                return True
    return False
