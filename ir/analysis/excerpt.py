"""A node between its neighbours, with carets under pieces of it, for messages."""

from collections.abc import Sequence
from dataclasses import replace

from ir.graph import Constant, Graph, Node, Operand
from ir.ops.rule import Piece
from ir.text.print import OPERANDS_PER_LINE, print_attribute, print_node, print_op, print_type


def excerpt(graph: Graph, position: int, pieces: Sequence[Piece]) -> str:
    """Where the operands of a node are defined, the node before it, the node itself with carets, the node after it."""
    node = graph.nodes[position]
    read = {value.id for value in node.value_inputs}
    lines = [f"{value}: {print_type(value.type)}" for value in graph.inputs if value.id in read]
    near = [
        at
        for at, other in enumerate(graph.nodes)
        if abs(at - position) == 1 or (at < position and any(value.id in read for value in other.outputs))
    ]
    for at in [*(each for each in near if each < position), position, *(each for each in near if each > position)]:
        lines += marked(node, pieces) if at == position else _shown(graph.nodes[at])
    return "\n".join(f"  {line}".rstrip() for line in lines)


def _shown(node: Node) -> list[str]:
    return [line.split("  # ")[0].rstrip() for line in print_node(node).splitlines()]


def marked(node: Node, pieces: Sequence[Piece]) -> list[str]:
    """The lines of a node, its own source line included, each followed by carets where a piece stands on it."""
    lines = print_node(node).splitlines()
    found = [span for piece in pieces for span in [_span(node, lines, piece)] if span is not None]
    shown: list[str] = []
    for number, line in enumerate(lines):
        shown.append(line)
        spans = [(start, end) for at, start, end in found if at == number]
        if spans:
            width = max(end for _, end in spans)
            shown.append("".join("^" if any(s <= c < e for s, e in spans) else " " for c in range(width)))
    return shown


def _span(node: Node, lines: Sequence[str], piece: Piece) -> tuple[int, int, int] | None:
    """(line, start, end) of a piece in the text of a node; of the operation where the piece is not shown."""
    if piece.part == "result" and piece.index < len(node.outputs):
        value = node.outputs[piece.index]
        start = len(f"{value}: ")
        return piece.index, start, start + len(print_type(value.type))
    first = max(0, len(node.outputs) - 1)
    op = f"{print_op(node)}("
    start = lines[first].index(op, len(print_type(node.outputs[-1].type)) if node.outputs else 0)
    if piece.part == "operand" and piece.index < len(node.inputs):
        wrapped = len(node.inputs) > OPERANDS_PER_LINE
        row, place = divmod(piece.index, OPERANDS_PER_LINE) if wrapped else (0, piece.index)
        before = node.inputs[row * OPERANDS_PER_LINE : row * OPERANDS_PER_LINE + place]
        start = (2 if wrapped else start + len(op)) + sum(len(_text(operand)) + 2 for operand in before)
        return first + row + wrapped, start, start + len(_text(node.inputs[piece.index]))
    if piece.part == "attribute" and piece.key in node.attrs:
        text = f" {print_attribute(node, piece.key)}"
        for number in range(len(lines) - 1, first - 1, -1):
            at = lines[number].rfind(text)
            if at >= 0:
                return number, at + 1, at + len(text)
    return first, start, start + len(op) - 1


def _text(operand: Operand) -> str:
    """An operand as `print_node` shows it."""
    if isinstance(operand, Constant):
        sole = Node("", "", (operand,), ())
        return print_node(replace(sole, kind="_")).split("(", 1)[1].rsplit(")", 1)[0]
    return str(operand)
