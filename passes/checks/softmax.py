"""A softmax over the wrong axis, where what stands around it says which was meant.

Three things say so: attention weights that are summed over another axis than the one that they sum to one over;
log-probabilities that are picked along another axis; a mask that is constant along the axis, so that it masks whole
rows.
"""

from collections.abc import Iterator
from dataclasses import replace

from ir.graph import Node, Operand, Value
from ir.ops import op_of
from passes.checks import errors
from passes.checks.finding import Finding, finding
from passes.checks.patterns import Normalized, columns, counter, elementwise, indices_of, narrow, normalized, plain
from passes.checks.program import Program

CODE = "softmax-axis"
_KEEPS = ("mul", "neg", "select_n", "convert_element_type", "named", "stop_gradient", "copy", "div")


def check(program: Program) -> Iterator[Finding]:
    """Each softmax that is used along another axis than its own."""
    for softmax in normalized(program):
        if softmax.names:
            found = next(_uses(program, softmax), None) or _masked(program, softmax)
            if found is not None:
                yield found


def _uses(program: Program, softmax: Normalized) -> Iterator[Finding]:
    """Uses along other axes, followed through elementwise operations that keep what sums to one."""
    seen, queue = {softmax.at.id}, [softmax]
    while queue:
        softmax = queue.pop(0)
        value = softmax.at
        for node in program.readers.get(value.id, []):
            if node.phase != "forward":
                continue
            if _totals(node, value, softmax):
                what, fix = errors.softmax_total(softmax.names)
                names = [(name, softmax.at) for name in softmax.names]
                yield finding(program, CODE, node, what, fix, node.inputs, names, "warning")
            along = _used_along(program, node, value, softmax)
            if along:
                what, fix = errors.softmax_axis(softmax.names, along, picked=not op_of(node).multiplies)
                names = [(name, softmax.at) for name in (*softmax.names, *along)]
                yield finding(program, CODE, softmax.node, what, fix, node.inputs, names, "warning")
            for moved in _same_rows(node, softmax):
                if moved.at.id not in seen:
                    seen.add(moved.at.id)
                    queue.append(moved)


def _totals(node: Node, value: Value, softmax: Normalized) -> bool:
    """Whether the weights themselves are summed over what they sum to one over."""
    is_plain = softmax.node.fn == "div" and value == softmax.node.outputs[0]
    return is_plain and op_of(node).sums(node) and set(node.names("over")) == set(softmax.names)


def _same_rows(node: Node, softmax: Normalized) -> Iterator[Normalized]:
    """The weights after a node that keeps what sums to one, with the names that they have there."""
    op = op_of(node)
    if op.renames:
        now = {old.name: new.name for old, new in zip(node.dims("old"), node.outputs[0].type.dims, strict=True)}
        names = tuple(now.get(name) or name for name in softmax.names)
        yield replace(softmax, at=node.outputs[0], names=names)
        return
    keeps = (op.is_elementwise and node.fn in _KEEPS) or op.reorders(node)
    if keeps and set(softmax.names) <= set(node.outputs[0].type.names):
        yield replace(softmax, at=node.outputs[0])


def _used_along(program: Program, node: Node, value: Value, softmax: Normalized) -> tuple[str, ...]:
    """The names along which a node uses the value, where none of them is the softmax's own."""
    along: tuple[str, ...] = ()
    op = op_of(node)
    if op.multiplies:
        payload = [operand for operand in node.inputs if operand != value]
        over = node.names("over")
        # A weighted mean of nothing but the weights (a masked mean of probabilities) is no attention.
        brings = any(set(operand.type.names) - set(over) - set(value.type.names) for operand in payload)
        along = over if brings or softmax.node.fn == "sub" else ()
    elif op.picks and node.inputs[0] == value:
        rows = {name for name, indices in columns(program, node) if _counts(program, name, indices)}
        along = tuple(name for name in node.names("along") if name not in rows)
    elif op.sums(node) and (
        _is_one_hot_pick(program, value, node.names("over")) or _is_weighted(program, value, softmax)
    ):
        along = node.names("over")
    own = set(softmax.names)
    return along if along and not own & set(along) and own <= set(value.type.names) else ()


def _counts(program: Program, name: str, indices: Operand) -> bool:
    """Whether indices are 0, 1, 2, … along the axis that they look up: each row for itself."""
    source = counter(program, indices_of(program, indices))
    return source is not None and source.names("along") == (name,)


def _is_weighted(program: Program, value: Value, softmax: Normalized) -> bool:
    """Whether the value is log-probabilities times the probabilities of what was to be found."""
    node = program.producer.get(value.id)
    if softmax.node.fn != "sub" or node is None or node.fn != "mul":
        return False
    return all(isinstance(operand, Value) and set(softmax.names) <= set(operand.type.names) for operand in node.inputs)


def _is_one_hot_pick(program: Program, value: Value, over: tuple[str, ...]) -> bool:
    """Whether the value is something masked, or multiplied, by a comparison with 0, 1, 2, … along the summed axis."""
    node = program.producer.get(value.id)
    if node is None or node.fn not in ("mul", "select_n") or len(over) != 1:
        return False
    for operand in node.inputs:
        equal = elementwise(program, narrow(program, operand), "eq")
        counted = [] if equal is None else [narrow(program, each) for each in equal.inputs]
        if any((iota := counter(program, each)) is not None and iota.names("along") == over for each in counted):
            return True
    return False


def _masked(program: Program, softmax: Normalized) -> Finding | None:
    """Logits that are masked by something that does not vary along the softmax's axis."""
    select = _select(program, softmax.logits)
    if select is None:
        return None
    mask = narrow(program, select.inputs[0])
    names = mask.type.names
    if not names or set(names) & set(softmax.names) or not set(names) < set(select.outputs[0].type.names):
        return None
    what, fix = errors.softmax_mask(softmax.names, names)
    explained = [(name, softmax.at) for name in softmax.names]
    return finding(program, CODE, softmax.node, what, fix, [mask, *softmax.node.inputs[:1]], explained, "warning")


def _select(program: Program, logits: Operand) -> Node | None:
    """The select behind the logits of a softmax, which come after their maximum was taken away."""
    logits = plain(program, logits)
    less = elementwise(program, logits, "sub")
    if less is not None:
        logits = plain(program, less.inputs[0])
    return elementwise(program, logits, "select_n")
