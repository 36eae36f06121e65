"""Which part of a training step a node belongs to: forward, backward or update.

JAX writes `transpose(...)` into the name stack of what differentiation transposed: that is the backward pass. What feeds it
is forward; what depends on it is the update; what does neither is forward where it depends on a forward node (a metric)
and update elsewhere (a learning-rate schedule). A step without a backward pass is forward throughout.
"""

from dataclasses import replace

import networkx as nx

from ir.graph import Graph, Node, Phase

BACKWARD_MARK = "transpose("


def assign_phases(graph: Graph) -> Graph:
    """The graph with the phase of every node, bodies included. Draft nodes say `backward` or `forward` only."""
    backward = [i for i, node in enumerate(graph.nodes) if node.phase == "backward"]
    if not backward:
        return graph
    flow = dependencies(graph)
    before = _reachable(flow.reverse(copy=False), backward)
    after = _reachable(flow, backward)
    forward = [i for i in range(len(graph.nodes)) if i in before]
    beside = _reachable(flow, forward)
    phases: list[Phase] = []
    for i, node in enumerate(graph.nodes):
        if node.phase == "backward":
            phases.append("backward")
        elif i in before:
            phases.append("forward")
        elif i in after or i not in beside:
            phases.append("update")
        else:
            phases.append("forward")
    return graph.with_nodes(tuple(_with_phase(n, phase) for n, phase in zip(graph.nodes, phases, strict=True)))


def dependencies(graph: Graph) -> "nx.DiGraph[int]":
    """The graph of node positions: an edge from the producer of a value to each consumer (bodies are closed)."""
    producer = {value.id: i for i, node in enumerate(graph.nodes) for value in node.outputs}
    flow: nx.DiGraph[int] = nx.DiGraph()
    flow.add_nodes_from(range(len(graph.nodes)))
    flow.add_edges_from(
        (producer[value.id], i)
        for i, node in enumerate(graph.nodes)
        for value in node.value_inputs
        if value.id in producer
    )
    return flow


def _reachable(flow: "nx.DiGraph[int]", starts: list[int]) -> set[int]:
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
