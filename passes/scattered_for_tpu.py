"""What is reduce-scattered on a TPU, written so that its compiler sends it so, in as many bytes as are printed.

XLA chooses how an array lies, and libtpu reduce-scatters one only where its shards are whole tiles as it lies; else it
reduces all of it on every device, which are twice the bytes. Two of these choices are taken from them:

- What a scatter writes lies in the order of its dims, and so does a sum of an array, as the gradients of embeddings do.
  Where shards are no whole tiles in that order and are in another, the program says that other; to copy the array costs
  a read and a write of the memory of one device, less than the network takes for as many bytes.
- A matrix whose rows are cut goes in pieces (`passes.hardware.pieces`), and where these come out uneven its shards are
  filled up, and what was filled in is shifted to the next device. Around a ring a stack of shards, of which each
  device gets one, goes in pieces of any tiles; over a square its lanes are cut instead.

The values are the same, and the operations are.
"""

from __future__ import annotations

from dataclasses import replace

from ir.graph import Attr, Graph, Node, Value
from ir.ops import op_of
from ir.rewrite import Scope
from passes.planner.layouts import Layouts
from passes.sent import Sending


def scattered_for_tpu(graph: Graph, plan: Layouts) -> Graph:
    """A placed graph, bodies included, whose reduce-scatters are written as the chip of a plan keeps them."""
    if plan.physical.sends is None:
        return graph
    return _written(graph, Sending.of(graph, plan))


def _written(graph: Graph, sending: Sending) -> Graph:
    makers = {value.id: node for node in graph.nodes for value in node.outputs}
    scope = Scope()
    for node in graph.nodes:
        now = scope.current(node, lambda body: _written(body, sending))
        if op_of(node).scatters and op_of(node).communicates:
            order, stacked = sending.written(node, _lies_by_rows(node.value_inputs[0], makers, sending))
            more: dict[str, Attr] = {**({"layout": order} if order else {}), **({"stacked": True} if stacked else {})}
            now = replace(now, attrs={**now.attrs, **more})
        scope.append(now)
    return scope.finish(graph)


def _lies_by_rows(value: Value, makers: dict[int, Node], sending: Sending) -> bool:
    """Whether a value lies in the order of its dims: what a scatter writes, a sum of an array, and what is computed of
    these place by place."""
    left, seen = [value], set[int]()
    while left:
        each = left.pop()
        node = makers.get(each.id)
        if each.id in seen or node is None:
            continue
        seen.add(each.id)
        if op_of(node).writes_into or each.id in sending.summed:
            return True
        if op_of(node).is_elementwise:
            left += [operand for operand in node.value_inputs if operand.type.elements == value.type.elements]
    return False
