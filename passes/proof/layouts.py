"""That every value is laid out as its type says, node by node, by the rules of the ops (`Op.spread`)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NoReturn

from ir import layout_errors
from ir.analysis.excerpt import excerpt
from ir.graph import Graph, Node, Operand
from ir.ops import entered, op_of
from ir.ops.rule import Piece
from ir.ops.spread import Misplaced, Spread, described, layout_of, state_text
from ir.text.print import print_op
from ir.types import TensorType
from passes.proof import errors


@dataclass(frozen=True)
class Assumption:
    """An operation without a rule: that its results are as their types say is assumed."""

    op: str
    source: str

    def __str__(self) -> str:
        return f"{self.op} ({self.source})" if self.source else self.op


def assumptions(graph: Graph, mesh: Mapping[str, int] | None = None) -> Iterator[Assumption]:
    """Goes through all nodes of a placed graph, bodies included, and gives those that have no rule.

    Args:
        mesh: the size of each mesh axis; None where it is not known, and sizes are not looked at.

    Raises `NotProved` at the first node whose results are not what its type says.
    """
    for i, value in enumerate(graph.inputs):
        path = graph.input_paths[i] if i < len(graph.input_paths) else ""
        _must(graph, f"input {path or value}", _ill_formed(value.type, mesh))
        if value.type.partial:
            _must(graph, f"input {path or value}", errors.input_is_partial(value.type.partial))
    yield from _nodes(graph, mesh)
    for i, operand in enumerate(graph.outputs):
        path = graph.output_paths[i] if i < len(graph.output_paths) else ""
        if operand.type.partial:
            _must(graph, f"output {path or operand}", errors.output_is_partial(operand.type.partial))
    for before, after in graph.carried:
        found, wanted = graph.outputs[after], graph.inputs[before]
        if not _lies_alike(wanted, found):
            path = graph.output_paths[after] if after < len(graph.output_paths) else str(found)
            _must(graph, f"output {path}", errors.carried_elsewhere(described(wanted), described(found)))


def _lies_alike(before: Operand, after: Operand) -> bool:
    """Whether state is sharded alike: dim by dim, or, where its dims come out in another order, name by name."""
    first, second = before.type, after.type
    if first.names == second.names or sorted(first.names) != sorted(second.names):
        return [dim.mesh for dim in first.dims] == [dim.mesh for dim in second.dims]
    return {dim.name: dim.mesh for dim in first.dims} == {dim.name: dim.mesh for dim in second.dims}


def _nodes(graph: Graph, mesh: Mapping[str, int] | None) -> Iterator[Assumption]:
    for position, node in enumerate(graph.nodes):
        for i, value in enumerate(node.outputs):
            if wrong := _ill_formed(value.type, mesh):
                _refute(graph, position, Piece("result", i), wrong)
        for body in entered(node):
            for value in body.inputs:
                _must(body, f"input {value}", _ill_formed(value.type, mesh))
            yield from _nodes(body, mesh)
        if not _follows(graph, position, node):
            yield Assumption(print_op(node), str(node.source or ""))


def _follows(graph: Graph, position: int, node: Node) -> bool:
    """Whether the results of a node are laid out as its rule says; False where it has none."""
    spread = _ruled(node)
    if isinstance(spread, Misplaced):
        _refute(graph, position, spread.piece, spread.what)
    if spread is None:
        return False
    for i, (rule, value) in enumerate(zip(spread, node.outputs, strict=True)):
        found = layout_of(value.type)
        if not rule.agrees(found):
            unpaid = tuple(axis for axis in rule.partial if axis not in found.partial)
            says = layout_errors.other_layout(_state(found, value.type), _state(rule, value.type), unpaid)
            _refute(graph, position, Piece("result", i), says)
    return True


def _ruled(node: Node) -> Sequence[Spread] | Misplaced | None:
    try:
        return op_of(node).spread(node)
    except Misplaced as misplaced:
        return misplaced


def _state(spread: Spread, type_: TensorType) -> str:
    return state_text(spread, type_)


def _ill_formed(type_: TensorType, mesh: Mapping[str, int] | None) -> str:
    """What is wrong with a layout by itself; empty where nothing is."""
    seen: set[str] = set()
    for axes in (*(dim.mesh for dim in type_.dims), type_.partial):
        for axis in axes:
            if axis in seen:
                return errors.axis_twice(axis)
            if mesh is not None and axis not in mesh:
                return layout_errors.unknown_axis(axis, tuple(mesh))
            seen.add(axis)
    for dim in type_.dims:
        count = prod(mesh[axis] for axis in dim.mesh) if mesh is not None else 1
        if dim.size % count:
            return layout_errors.does_not_divide(dim, count)
    return ""


def _must(graph: Graph, where: str, wrong: str) -> None:
    if wrong:
        raise errors.NotProved(graph.name, where, "", wrong)


def _refute(graph: Graph, position: int, piece: Piece, what: str) -> NoReturn:
    node = graph.nodes[position]
    if piece.part == "operand" and piece.index < len(node.inputs):
        what = errors.at_operand(str(node.inputs[piece.index]), piece.index, what)
    elif piece.part == "result" and piece.index < len(node.outputs):
        what = errors.at_result(str(node.outputs[piece.index]), what)
    shown = excerpt(graph, position, [piece])
    raise errors.NotProved(graph.name, print_op(node), str(node.source or ""), what, shown)
