"""Which part of a training step a node belongs to: forward, backward or update.

JAX writes `transpose(...)` into the name stack of what differentiation transposed: that is the backward pass. What
feeds it is forward; what depends on it is the update, and so is what only feeds the update or the new state (a
learning-rate schedule). The rest, metrics of the forward pass among it, is forward, and so is all of a step without a
backward pass.
"""

from collections.abc import Iterable, Sequence

from ir.graph import Phase
from ir.staging.proto import ProtoNode, ProtoOperand, ProtoValue

BACKWARD_MARK = "transpose("


def phases_of(nodes: Sequence[ProtoNode], new_state: Iterable[ProtoOperand]) -> list[Phase]:
    """The phase of each node of a step; the nodes of a body have that of the node around.

    Args:
        nodes: of the outermost body, each after those it reads from.
        new_state: the results that are the state after the step.
    """
    backward = [node.backward for node in nodes]
    if not any(backward):
        return ["forward"] * len(nodes)
    maker = {value: i for i, node in enumerate(nodes) for value in node.outputs}
    sources = [[maker[v] for v in node.inputs if isinstance(v, ProtoValue) and v in maker] for node in nodes]
    before = _leading_to(backward, sources)
    after: list[bool] = []
    for i, marked in enumerate(backward):
        after.append(marked or any([after[source] for source in sources[i]]))
    kept = {maker[value] for value in new_state if isinstance(value, ProtoValue) and value in maker}
    feeding = _leading_to([late or i in kept for i, late in enumerate(after)], sources)
    phases: list[Phase] = []
    for i, marked in enumerate(backward):
        update = not before[i] and (after[i] or feeding[i])
        phases.append("backward" if marked else "update" if update else "forward")
    return phases


def _leading_to(marked: Sequence[bool], sources: Sequence[Sequence[int]]) -> list[bool]:
    """Which nodes are marked, or feed one that is, directly or not."""
    leading = list(marked)
    for i in range(len(leading) - 1, -1, -1):
        if leading[i]:
            for source in sources[i]:
                leading[source] = True
    return leading
