"""Which part of a training step a node belongs to: forward, backward or update.

JAX writes `transpose(...)` into the name stack of what differentiation transposed: that is the backward pass. What
feeds it is forward; what depends on it is the update, and so is what only feeds the update or the new state (a
learning-rate schedule). The rest, metrics of the forward pass among it, is forward, and so is all of a step without a
backward pass.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import networkx as nx

from ir.graph import Graph, Node, Phase, Value

if TYPE_CHECKING:
    Flow = nx.DiGraph[int]
else:
    Flow = nx.DiGraph  # only the type stubs of networkx know what its nodes are

BACKWARD_MARK = "transpose("


def assign_phases(graph: Graph) -> Graph:
    """The graph with the phase of every node, bodies included. Draft nodes say `backward` or `forward` only."""
    backward = [i for i, node in enumerate(graph.nodes) if node.phase == "backward"]
    if not backward:
        return graph
    flow = dependencies(graph)
    before = _reachable(flow.reverse(copy=False), backward)
    after = _reachable(flow, backward)
    state = (graph.outputs[position] for _, position in graph.carried)
    state_ids = {operand.id for operand in state if isinstance(operand, Value)}
    updates = [
        i for i, node in enumerate(graph.nodes) if i in after or any(value.id in state_ids for value in node.outputs)
    ]
    feeding = _reachable(flow.reverse(copy=False), updates)
    phases: list[Phase] = []
    for i, node in enumerate(graph.nodes):
        if node.phase == "backward":
            phases.append("backward")
        elif i not in before and (i in after or i in feeding):
            phases.append("update")
        else:
            phases.append("forward")
    return graph.with_nodes(tuple(_with_phase(n, phase) for n, phase in zip(graph.nodes, phases, strict=True)))


def dependencies(graph: Graph) -> Flow:
    """The graph of node positions: an edge from the producer of a value to each consumer (bodies are closed)."""
    producer = {value.id: i for i, node in enumerate(graph.nodes) for value in node.outputs}
    flow: Flow = nx.DiGraph()
    flow.add_nodes_from(range(len(graph.nodes)))
    flow.add_edges_from(
        (producer[value.id], i)
        for i, node in enumerate(graph.nodes)
        for value in node.value_inputs
        if value.id in producer
    )
    return flow


def _reachable(flow: Flow, starts: list[int]) -> set[int]:
    seen: set[int] = set(starts)
    stack = list(starts)
    while stack:
        for following in flow.successors(stack.pop()):
            if following not in seen:
                seen.add(following)
                stack.append(following)
    return seen


def _with_phase(node: Node, phase: Phase) -> Node:
    bodies = tuple(body.with_nodes(tuple(_with_phase(n, phase) for n in body.nodes)) for body in node.bodies)
    return replace(node, phase=phase, bodies=bodies)
