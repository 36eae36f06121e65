"""The kernels of a body, found by walking it anew for each: `passes.planner.traffic` goes through it once."""

from __future__ import annotations

from ir.graph import Graph, Node, Value
from ir.ops import entered, op_of

Arrays = dict[int, tuple[Value, Node]]
"""By number, what is read or written, and the first node that does it."""


def kernels(graph: Graph) -> list[tuple[Node, Arrays]]:
    """The last node of each kernel, and all that it reads or writes."""
    maker = {value.id: node for node in graph.nodes for value in node.outputs}
    position = {id(node): i for i, node in enumerate(graph.nodes)}
    there = _in_memory(graph)
    found: list[tuple[list[Node], Arrays, Arrays]] = []
    for node in graph.nodes:
        written = {value.id: (value, node) for value in node.outputs if value.id in there and value.type.dims}
        if entered(node) or (_fused(node) and not written):
            continue
        read = _read(node, _fused(node) or op_of(node).fuses_operands, there, maker, position)
        joined = _joined(node, read, found, maker) if _fused(node) else None
        if joined is None:
            joined = ([], {}, {})
            found.append(joined)
        nodes, reads, writes = joined
        nodes.append(node)
        for number, (value, reader) in read.items():
            before = reads.get(number, (value, reader))[1]
            reads[number] = value, min(reader, before, key=lambda each: position[id(each)])
        writes |= written
    return [(nodes[-1], reads | writes) for nodes, reads, writes in found]


def _fused(node: Node) -> bool:
    return op_of(node).fusible


def _in_memory(graph: Graph) -> set[int]:
    """What enters and leaves the body, what unfused operations make, and what those read that take arrays."""
    there = {value.id for value in graph.inputs} | {each.id for each in graph.outputs if isinstance(each, Value)}
    for node in graph.nodes:
        if not _fused(node):
            there |= {value.id for value in node.outputs}
            there |= set() if op_of(node).fuses_operands else {value.id for value in node.value_inputs}
    return there


def _read(node: Node, through: bool, there: set[int], maker: dict[int, Node], position: dict[int, int]) -> Arrays:
    """What a node needs that is in memory: for its operands that are not, what they need, and so on."""
    found: Arrays = {}
    asked = [(value, node) for value in reversed(node.value_inputs)]
    while asked:
        value, reader = asked.pop()
        if not through or value.id in there:
            before = found.get(value.id, (value, reader))[1]
            found[value.id] = value, min(reader, before, key=lambda each: position[id(each)])
        else:
            asked += [(each, maker[value.id]) for each in reversed(maker[value.id].value_inputs)]
    return {number: each for number, each in found.items() if each[0].type.dims}


def _joined(
    node: Node, read: Arrays, found: list[tuple[list[Node], Arrays, Arrays]], maker: dict[int, Node]
) -> tuple[list[Node], Arrays, Arrays] | None:
    """The kernel of fused results that a fused node is computed in: of those that touch what it reads."""
    for value in read:
        touching = [each for each in found if _fused(each[0][0]) and value in each[1] | each[2]]
        for kernel in touching[-1:]:
            alike = kernel[0][0].outputs[0].type.elements == node.outputs[0].type.elements
            if alike and not any(_apart(other, node, maker) for other in kernel[0]):
                return kernel
    return None


def _apart(first: Node, then: Node, maker: dict[int, Node]) -> bool:
    """Whether a node needs another by way of one that is not fused."""
    asked, seen = [(then, False)], set[tuple[int, bool]]()
    while asked:
        node, unfused = asked.pop()
        if node is first and unfused:
            return True
        for before in [maker[value.id] for value in node.value_inputs if value.id in maker]:
            way = (before, unfused or not _fused(before))
            if (id(before), way[1]) not in seen:
                seen.add((id(before), way[1]))
                asked.append(way)
    return False
