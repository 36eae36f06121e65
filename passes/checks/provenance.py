"""Where a name comes from: the chain of values that leads from a dim back to an argument that the user named.

Names spread through a step by unification, so a chain is found the way they spread: backward through what a value is
made from, and, where no argument has the name there, sideways through what it meets.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ir.graph import Source, Value
from ir.ops import op_of
from passes.checks.program import Program


@dataclass(frozen=True)
class Chain:
    """From an argument (or, where none has the name, the first value that does) to the place asked about.

    Attributes:
        start: the value at the beginning of the chain.
        path: where it stands in the step's arguments; empty where it is none.
        made: the first value with the name among those that the place asked about is made from.
        through: the user's lines on the way, in order.
        flows: whether each value is made from the one before; where not, the name was inferred from a meeting.
    """

    start: Value
    path: str
    made: Value
    through: tuple[Source, ...]
    flows: bool


def chain(program: Program, value: Value, name: str) -> Chain:
    """The shortest chain of values with a dim called `name` that ends at `value`."""
    back = _walk(value, name, program, program.sources)
    if back[0].id in program.paths:
        return Chain(back[0], program.paths[back[0].id], back[0], _lines(program, back), True)
    made = back[0]
    # A rename and a mark are where a name begins, whatever it meets later.
    if (node := program.producer.get(made.id)) is not None and op_of(node).relabels(node):
        return Chain(made, "", made, _lines(program, back), True)
    met = _walk(value, name, program, lambda each: _around(program, each))
    if met[0].id in program.paths:
        return Chain(met[0], program.paths[met[0].id], made, _lines(program, met), False)
    return Chain(made, "", made, _lines(program, back), False)


def _walk(value: Value, name: str, program: Program, neighbours: Callable[[Value], list[Value]]) -> list[Value]:
    """Breadth first from `value` over values that have the name: up to an argument, or else to the far end."""
    before: dict[int, Value | None] = {value.id: None}
    queue, last = deque([value]), value
    while queue:
        last = queue.popleft()
        if last.id in program.paths:
            break
        for other in neighbours(last):
            if other.id not in before and _has(other, name):
                before[other.id] = last
                queue.append(other)
    walked: list[Value] = []
    step: Value | None = last
    while step is not None:
        walked.append(step)
        step = before[step.id]
    return walked


def _has(value: Value, name: str) -> bool:
    """Whether a dim of the value has the name, or was merged from one that has, as `batch*position` was."""
    return any(name == each or name in each.split("*") for each in value.type.names)


def _around(program: Program, value: Value) -> list[Value]:
    """What a value is made from, what is made from it, and what it meets on the way."""
    near = program.sources(value)
    for node in program.readers.get(value.id, []):
        near += [*node.outputs, *node.value_inputs]
        near += [inside for body in node.bodies for inside in body.inputs if value in program.sources(inside)]
    return near


def _lines(program: Program, values: list[Value]) -> tuple[Source, ...]:
    """The lines that make the values, without repetition; the last value is the place asked about."""
    found = [source for value in values if (source := program.source_of(value)) is not None]
    return tuple(dict.fromkeys(found))
