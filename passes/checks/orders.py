"""Elements in another order than where they go: `(heads, size)` merged and `(size, heads)` split, a reshape where a
transpose is meant, copies beside each other where each element should be repeated.

A reshape moves no elements, and sizes agree whatever the order is. So every dim is followed with the factors that its
index is made of, see `passes.checks.element_order`.
"""

from collections.abc import Iterator

from ir import names
from ir.graph import Node, Operand
from ir.names import is_derived
from ir.order import Axis, Order, Part, text
from passes.checks import element_order, errors
from passes.checks.element_order import Found, Meeting, PartsMeet, Tear
from passes.checks.finding import Finding, finding
from passes.checks.program import Program, spot

ORDER, SPLIT_ORDER, REGROUP, PART = "order", "split-order", "regroup", "part"


def check(program: Program) -> Iterator[Finding]:
    """Each contradiction, of several on one line the first."""
    seen: set[tuple[object, str]] = set()
    for each in element_order.found(program.graph):
        code = _code(each)
        if (spot(each.node), code) not in seen:
            seen.add((spot(each.node), code))
            yield _worded(program, each, code)


def _code(each: Found) -> str:
    if isinstance(each, Tear):
        return REGROUP
    if isinstance(each, PartsMeet):
        return PART
    if isinstance(each, Meeting):
        shared = {atom.key for atom in each.first} & {atom.key for atom in each.second}
        return ORDER if any(isinstance(key, Axis) and not is_derived(key.name) for key in shared) else SPLIT_ORDER
    return ORDER if each.named else SPLIT_ORDER


def _worded(program: Program, each: Found, code: str) -> Finding:
    node = each.node
    if isinstance(each, Tear):
        what, fix = errors.torn([str(atom.name) for atom in each.torn], text(each.before), each.sizes)
        order = each.before
    elif isinstance(each, PartsMeet):
        what, fix = errors.parts_meet(*(_part(each_part) for each_part in (each.first, each.second)))
        order = (*each.first.whole, *each.second.whole)
    elif isinstance(each, Meeting):
        where = each.known.source if each.known is not None else None
        what, fix = errors.two_orders(text(each.first), where, text(each.second))
        order = (*each.first, *each.second)
    else:
        after = ", ".join(
            f"{dim.name if dim.name and not is_derived(dim.name) else '_'}={dim.size}" for dim in each.after
        )
        what, fix = errors.swapped(text(each.before), f"({after})")
        order = each.before
    operands = dict.fromkeys([*node.inputs, *node.outputs])
    return finding(
        program,
        code,
        node,
        what,
        fix,
        list(operands),
        _names(program, node, order),
        "error" if code == ORDER else "warning",
    )


def _part(part: Part) -> str:
    name = part.whole[0].label or part.whole[0].name if len(part.whole) == 1 else None
    return f"`{names.part(name or '_', part.extent)}`"


def _names(program: Program, node: Node, order: Order) -> list[tuple[str, Operand]]:
    """The names that an order tells of, each with a value of the node that has it."""
    found: list[tuple[str, Operand]] = []
    for name in dict.fromkeys(atom.name for atom in order if atom.name is not None):
        value = next((each for each in (*node.value_inputs, *node.outputs) if name in each.type.names), None)
        if value is not None:
            found.append((name, value))
        else:
            found += [(name, argument) for argument in program.graph.inputs if name in argument.type.names][:1]
    return found
