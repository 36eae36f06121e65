"""When XLA computes the operations of a body, and how long it keeps what they read."""

from collections.abc import Mapping, Sequence

from ir.graph import Graph, Node, Value
from ir.ops import op_of
from passes.sharding.roles import Roles


def scheduled(nodes: Sequence[Node], roles: Roles) -> list[Node]:
    """Nodes in the order in which XLA computes them: of the two gradients of a product that of the activations comes
    first, wherever it stands, since the parameter that it reads need not be held for the other."""
    found = list(nodes)
    for i, node in enumerate(found):
        if not (op_of(node).multiplies and any(roles[value.id] == "storage" for value in node.outputs)):
            continue
        made = {value.id for value in node.outputs}
        end = i + 1
        while end < len(found) and any(value.id in made for value in found[end].value_inputs):
            made.update(value.id for value in found[end].outputs)
            end += 1
        other = found[end] if end < len(found) else node
        shared = {value.id for value in node.value_inputs} & {value.id for value in other.value_inputs}
        on = any(roles[value.id] == "compute" for value in other.outputs)
        if op_of(other).multiplies and on and shared and other.phase == node.phase == "backward":
            found[i : end + 1] = [other, *found[i:end]]
    return found


def last_use(graph: Graph, kept: frozenset[int], after: Mapping[int, int]) -> tuple[dict[int, int], list[int]]:
    """Where each value is read last, and where each node is computed: a fused operation, with what it is fused into.

    Args:
        after: by the ids of values, the position of the product that they are computed with (`Epilogues.computed`).
    """
    computed = list(range(len(graph.nodes)))
    last = {operand.id: len(graph.nodes) for operand in graph.outputs if isinstance(operand, Value)}
    for i, node in reversed(list(enumerate(graph.nodes))):
        fused = op_of(node).fusible and not any(value.id in kept for value in node.outputs)
        read = max([i, *(last.get(value.id, i) for value in node.outputs)]) if fused else i
        read = after.get(node.outputs[0].id, read) if node.outputs else read
        for value in node.value_inputs:
            last[value.id] = max(last.get(value.id, read), read)
        computed[i] = min(read, len(graph.nodes) - 1)
    return last, computed


def brought(graph: Graph, computed: Sequence[int]) -> dict[int, list[int]]:
    """Where values are brought to the chip, ids by the position of a node: what operations one after another read until
    nothing reads it any more is brought there for the first of them."""
    rank: list[int] = []
    for node in graph.nodes:
        rank.append((rank[-1] if rank else 0) + (not op_of(node).fusible))
    reads: dict[int, list[int]] = {}
    for i, node in enumerate(graph.nodes):
        for value in node.value_inputs:
            reads.setdefault(value.id, []).append(computed[i])
    leaving = {operand.id for operand in graph.outputs if isinstance(operand, Value)}
    found: dict[int, list[int]] = {}
    for identity, positions in reads.items():
        first, *earlier = sorted(set(positions), reverse=True)
        for position in earlier:
            if rank[first] - rank[position] > 1:
                break
            first = position
        if identity not in leaving:
            found.setdefault(first, []).append(identity)
    return found
