"""How many times a `while` loop runs, read from its program.

JAX's `scan` and `fori_loop` become `while (i < n)` with `i` starting at a constant and growing by a constant each time.
The bound and the start may also be handed in through the loop's own state, unchanged, or through the state of the loop
around it, so constants are looked up through tuples, copies and enclosing loops.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from levanter.compiler.verify.hlo_text import Computation, Instruction, Module

_KNOWN = re.compile(r'known_trip_count"?\s*:\s*\{"?n"?\s*:\s*"?(\d+)')
_SAME_VALUE = frozenset({"copy", "bitcast", "convert", "reshape"})


@dataclass(frozen=True)
class Scope:
    """A computation as it is being run: `caller` is the `while` whose condition or body it is, if it is one."""

    computation: Computation
    caller: Instruction | None = None
    outer: Scope | None = None


def trip_count(module: Module, scope: Scope, loop: Instruction) -> int | None:
    """How many times the body of `loop`, an instruction of `scope`, runs; None when its program does not say."""
    known = _KNOWN.search(loop.attribute_text)
    if known:
        return int(known.group(1))
    condition = module.computations[loop.attributes["condition"].lstrip("%")]
    body = module.computations[loop.attributes["body"].lstrip("%")]
    test = condition.root
    if test.opcode != "compare":
        return None
    index = _state_index(condition, test.operands[0])
    bound = _constant(module, Scope(condition, loop, scope), test.operands[1])
    if index is None or bound is None:
        return None
    start = _initial(module, scope, loop, index)
    step = _step(module, Scope(body, loop, scope), index)
    if start is None or not step:
        return None
    direction = test.attributes.get("direction", "")
    ends = {"LT": bound, "LE": bound + 1, "GT": bound, "GE": bound - 1, "NE": bound}
    if direction not in ends or (direction in ("LT", "LE")) != (step > 0) and direction != "NE":
        return None
    return max(0, -(-(ends[direction] - start) // step))


def _state_index(computation: Computation, name: str) -> int | None:
    """Which element of the loop's state the value is, or None when it is none."""
    instruction = _source(computation, name)
    if instruction.opcode != "get-tuple-element":
        return None
    if computation.instructions[instruction.operands[0]].opcode != "parameter":
        return None
    return int(instruction.attributes["index"])


def _step(module: Module, scope: Scope, index: int) -> int | None:
    """By how much the body changes element `index` of the state, or None when it is not by a constant."""
    body = scope.computation
    update = _source(body, _element(body, body.root, index))
    if update.opcode not in ("add", "subtract"):
        return None
    left, right = update.operands
    if _state_index(body, left) == index:
        amount = _constant(module, scope, right)
    elif _state_index(body, right) == index and update.opcode == "add":
        amount = _constant(module, scope, left)
    else:
        return None
    return -amount if amount is not None and update.opcode == "subtract" else amount


def _constant(module: Module, scope: Scope, name: str) -> int | None:
    """The integer a value always has, or None when that is not plain from the program."""
    instruction = _source(scope.computation, name)
    if instruction.opcode == "constant":
        return int(instruction.argument) if re.fullmatch(r"-?\d+", instruction.argument) else None
    index = _state_index(scope.computation, name)
    if index is None or scope.caller is None or scope.outer is None:
        return None
    body = module.computations[scope.caller.attributes["body"].lstrip("%")]
    if _state_index(body, _element(body, body.root, index)) != index:
        return None
    return _initial(module, scope.outer, scope.caller, index)


def _initial(module: Module, scope: Scope, loop: Instruction, index: int) -> int | None:
    """The constant that element `index` of a loop's state starts with."""
    state = scope.computation.instructions[loop.operands[0]]
    return _constant(module, scope, _element(scope.computation, state, index))


def _element(computation: Computation, value: Instruction, index: int) -> str:
    """The name of element `index` of a tuple value, through barriers; the tuple itself where that is unknown."""
    names: Mapping[str, Instruction] = computation.instructions
    while value.opcode in ("opt-barrier", "copy"):
        value = names[value.operands[0]]
    return value.operands[index] if value.opcode == "tuple" else value.name


def _source(computation: Computation, name: str) -> Instruction:
    """The instruction whose value `name` is, through copies and scalar conversions."""
    instruction = computation.instructions[name]
    while instruction.opcode in _SAME_VALUE:
        instruction = computation.instructions[instruction.operands[0]]
    return instruction
