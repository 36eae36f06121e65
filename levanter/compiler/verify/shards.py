"""Tells whether an all-reduced value is only read in shards, which makes the pair a reduce-scatter.

The SPMD partitioner never writes `reduce-scatter`: it writes an all-reduce and a `dynamic-slice` whose start indices it
computes from `partition-id` with small tables. TPU and GPU compilers fuse the two later; XLA:CPU does not. So the pair
is recognized here, by evaluating the start indices for every partition at once: the slices are shards of the reduced
value exactly when the members of each group take different places.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from levanter.compiler.verify.errors import elided_constant
from levanter.compiler.verify.groups import Groups
from levanter.compiler.verify.hlo_text import Computation, Instruction

_SAME_DATA = frozenset({"copy", "bitcast", "convert", "reshape", "transpose", "pad"})
_ARITHMETIC: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.floor_divide,
    "remainder": np.remainder,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "and": np.bitwise_and,
}


def read_in_shards(
    computation: Computation, reduced: Instruction, element: int, groups: Groups, num_partitions: int
) -> bool:
    """Whether every use of a reduced value (result `element` of a variadic one) is this device's shard of it."""
    return _only_shards(computation, reduced, element if reduced.is_tuple else None, groups, num_partitions)


def _only_shards(
    computation: Computation, value: Instruction, element: int | None, groups: Groups, partitions: int
) -> bool:
    """Follows `value` (or one element of it, when it is a tuple) to the instructions that really read it."""
    if value.is_root:
        return False
    found = False
    for user in computation.users[value.name]:
        if element is not None and user.opcode == "get-tuple-element":
            if int(user.attributes["index"]) != element:
                continue
            shards = _only_shards(computation, user, None, groups, partitions)
        elif element is not None and user.opcode in ("opt-barrier", "copy"):
            shards = _only_shards(computation, user, element, groups, partitions)
        elif element is None and user.opcode == "tuple" and user.operands.count(value.name) == 1:
            shards = _only_shards(computation, user, user.operands.index(value.name), groups, partitions)
        elif element is None and user.opcode in _SAME_DATA | {"opt-barrier"} and user.operands[0] == value.name:
            shards = _only_shards(computation, user, None, groups, partitions)
        elif element is None and user.opcode == "dynamic-slice" and user.operands[0] == value.name:
            shards = _is_shard(computation, user, groups, partitions)
        else:
            shards = False
        if not shards:
            return False
        found = True
    return found


def _is_shard(computation: Computation, cut: Instruction, groups: Groups, partitions: int) -> bool:
    """Whether the devices of each group cut out different places."""
    starts = [_per_partition(computation, name, partitions) for name in cut.operands[1:]]
    known = [start for start in starts if start is not None]
    if len(known) != len(starts) or not known:
        return False
    places = np.stack(known, axis=1)
    return all(len({tuple(places[member]) for member in group}) == len(group) for group in groups)


def _per_partition(computation: Computation, name: str, partitions: int) -> np.ndarray | None:
    """The integer that a scalar has on each partition; None when it depends on data."""
    instruction = computation.instructions[name]
    if instruction.opcode == "partition-id":
        return np.arange(partitions)
    if instruction.opcode == "constant":
        table = _table(instruction)
        return np.full(partitions, table[0]) if table is not None and table.size == 1 else None
    if instruction.opcode in ("reshape", "copy", "bitcast", "convert"):
        return _per_partition(computation, instruction.operands[0], partitions)
    if instruction.opcode == "dynamic-slice":
        table = _table(computation.instructions[instruction.operands[0]])
        index = _per_partition(computation, instruction.operands[1], partitions)
        if table is None or index is None or len(instruction.operands) != 2:
            return None
        return table[np.clip(index, 0, table.size - 1)]
    if instruction.opcode in _ARITHMETIC:
        values = [_per_partition(computation, operand, partitions) for operand in instruction.operands]
        known = [value for value in values if value is not None]
        return _ARITHMETIC[instruction.opcode](*known) if len(known) == len(values) else None
    return None


def _table(instruction: Instruction) -> np.ndarray | None:
    """The integers of a constant of at most one dimension; None for anything else."""
    if instruction.opcode != "constant" or not instruction.shapes or len(instruction.shapes[0].dims) > 1:
        return None
    if "..." in instruction.argument:
        raise elided_constant(instruction.name)
    if not re.fullmatch(r"[-\d{},\s]+", instruction.argument):
        return None
    return np.array([int(number) for number in re.findall(r"-?\d+", instruction.argument)])
