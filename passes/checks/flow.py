"""Which dim of an operand is which dim of a result, by position: the way of dims that have no name to go by.

A traced node remembers its primitive, which says so exactly; one that was read back from text is matched by names and
sizes in order.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ir.graph import Node, Operand
from ir.kinds import body_operands, body_results
from ir.types import Dim
from passes.checks.program import carries

Place = tuple[Operand, int]
"""A dim: a value, and the position of the dim."""

_IN_PLACE = ("map", "rename", "slice", "pad", "concat", "scatter", "cumulate", "sort")


def links(node: Node) -> Iterator[tuple[Place, Place]]:
    """Pairs of dims of operands and results (and of bodies) that are the same dim."""
    if node.bodies:
        yield from _crossing(node)
    elif node.kind in _IN_PLACE:
        for i, result in enumerate(node.outputs):
            operands = node.inputs if len(node.outputs) == 1 else node.inputs[i : i + 1] or node.inputs[:1]
            for operand in operands:
                if len(operand.type.dims) == len(result.type.dims):
                    yield from _paired(operand, range(len(operand.type.dims)), result)
    elif node.kind == "contract":
        yield from _contraction(node)
    elif node.outputs and node.inputs and (targets := _targets(node)) is not None:
        yield from _paired(node.inputs[0], targets, node.outputs[0])


def _paired(operand: Operand, targets: Sequence[int | None], result: Operand) -> Iterator[tuple[Place, Place]]:
    """`targets[i]` is where the operand's dim i is in the result."""
    for position, target in enumerate(targets):
        if target is not None and operand.type.dims[position].size == result.type.dims[target].size:
            yield (operand, position), (result, target)


def _crossing(node: Node) -> Iterator[tuple[Place, Place]]:
    for _, fed in body_operands(node):
        for outside, inside, stacked in fed:
            yield from _shifted(outside, inside, int(stacked))
    for _, given in body_results(node):
        for inside, outside, stacked in given:
            yield from _shifted(outside, inside, int(stacked))
    for before, after in carries(node):
        yield from _shifted(after, before, 0)


def _shifted(outside: Operand, inside: Operand, by: int) -> Iterator[tuple[Place, Place]]:
    for position in range(len(inside.type.dims)):
        yield (outside, position + by), (inside, position)


def _targets(node: Node) -> Sequence[int | None] | None:
    """For each dim of the first operand its place in the result; None for a kind that keeps no dims by position."""
    before, after = node.inputs[0].type.dims, node.outputs[0].type.dims
    params: Mapping[str, Any] = node.origin.params if node.origin is not None else {}
    if node.kind == "broadcast":
        return (
            list(map(int, params["broadcast_dimensions"]))
            if "broadcast_dimensions" in params
            else _matched(before, after)
        )
    if node.kind == "reduce":
        gone = set(map(int, params["axes"])) if "axes" in params else _gone(node, before)
        kept = iter(range(len(after)))
        return [None if position in gone else next(kept, None) for position in range(len(before))]
    if node.kind != "reshape":
        return None
    if node.fn == "transpose":
        if "permutation" not in params:
            return _matched(before, after)
        return [tuple(params["permutation"]).index(position) for position in range(len(before))]
    targets: list[int | None] = [None] * len(before)
    for left, right in groups([dim.size for dim in before], [dim.size for dim in after]):
        if len(left) == len(right) == 1:
            targets[left[0]] = right[0]
    return targets


def _gone(node: Node, before: Sequence[Dim]) -> set[int]:
    """Positions of the dims that a reduction removes, for a node without its primitive."""
    over = list(node.dims("over"))
    gone: set[int] = set()
    for position, dim in enumerate(before):
        if dim in over:
            over.remove(dim)
            gone.add(position)
    return gone


def _matched(before: Sequence[Dim], after: Sequence[Dim]) -> list[int | None]:
    """Each dim with the first free one of its name and size."""
    free = list(range(len(after)))
    targets: list[int | None] = []
    for dim in before:
        found = next((p for p in free if (after[p].name, after[p].size) == (dim.name, dim.size)), None)
        targets.append(found)
        if found is not None:
            free.remove(found)
    return targets


def _contraction(node: Node) -> Iterator[tuple[Place, Place]]:
    """Contracted and batch pairs, then what is left of each side. Without its primitive, names alone must do."""
    if node.origin is None or node.fn:  # windows and groups have numbers of their own
        return
    (left, right), result = node.inputs[:2], node.outputs[0]
    (left_over, right_over), (left_batch, right_batch) = node.origin.params["dimension_numbers"]
    for a, b in (*zip(left_over, right_over, strict=True), *zip(left_batch, right_batch, strict=True)):
        yield (left, a), (right, b)
    out = iter(range(len(result.type.dims)))
    yield from [((left, axis), (result, next(out))) for axis in left_batch]
    for operand, over, batch in ((left, left_over, left_batch), (right, right_over, right_batch)):
        free = [axis for axis in range(len(operand.type.dims)) if axis not in over and axis not in batch]
        yield from [((operand, axis), (result, next(out))) for axis in free]


def groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The positions on both sides of a reshape, cut into the smallest runs of equal product; size 1 is left out."""
    left = [position for position, size in enumerate(before) if size != 1]
    right = [position for position, size in enumerate(after) if size != 1]
    found: list[tuple[list[int], list[int]]] = []
    while left and right:
        taken, made = [left.pop(0)], [right.pop(0)]
        have, want = before[taken[0]], after[made[0]]
        while have != want and (left or right):
            if (have < want and left) or not right:
                taken.append(left.pop(0))
                have *= before[taken[-1]]
            else:
                made.append(right.pop(0))
                want *= after[made[-1]]
        found.append((taken, made))
    return found
