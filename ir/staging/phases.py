"""Which part of a training step a node belongs to: forward, backward or update.

JAX writes `transpose(...)` into the name stack of what differentiation transposed: that is the backward pass. What
feeds it is forward; what depends on it is the update, and so is what only feeds the update or the new state (a
learning-rate schedule). The rest, metrics of the forward pass among it, is forward, and so is all of a step without a
backward pass.

A body has the phase of the node around, unless gradients are taken inside it, as in a loop over micro-batches. Such a
node is of the backward pass, for what it leaves is gradients, and the nodes of its body have phases of their own, as
those of a step have: sums of gradients, clipping, an update in a loop over whole steps are update. (What only feeds
those is forward there, as it may well be made of the batch.) Where the gradients are taken at what an update has made,
as a line search does, all stays update.
"""

from collections.abc import Iterable, Mapping, Sequence

from ir.graph import Phase
from ir.staging.proto import ProtoBody, ProtoNode, ProtoOperand, ProtoValue

BACKWARD_MARK = "transpose("

Phases = Mapping[ProtoNode, Phase]


def phases_of(body: ProtoBody, new_state: Iterable[ProtoOperand]) -> Phases:
    """The phase of each node of a step that has one of its own; the nodes of other bodies have that of the node around.

    Args:
        new_state: the results that are the state after the step.
    """
    flow = _Flow(body)
    found: dict[ProtoNode, Phase] = dict(zip(body.nodes, flow.step_phases(new_state), strict=True))
    flow.enter(found)
    return found


class _Flow:
    """What leads to what among the nodes of one body, and where its gradients are taken."""

    def __init__(self, body: ProtoBody) -> None:
        self.nodes = body.nodes
        self.maker = {value: i for i, node in enumerate(body.nodes) for value in node.outputs}
        self.sources = [self._makers(node.inputs) for node in body.nodes]
        self.inner: dict[int, list[_Flow]] = {}
        """The bodies of nodes that are backward because gradients are taken in them."""
        self.reading = list(self.sources)
        """As `sources`; of nodes in which gradients are taken, those that the gradients are taken at."""
        self.backward: list[bool] = []
        self.after: list[bool] = []
        for i, node in enumerate(body.nodes):
            if not node.backward and _differentiates(node):
                self._look_into(i, node)
            self.backward.append(node.backward or i in self.inner)
            self.after.append(self.backward[i] or any([self.after[source] for source in self.sources[i]]))
        self.before = self._leading_to(self.backward)

    def _makers(self, operands: Iterable[ProtoOperand]) -> list[int]:
        maker = self.maker
        return [maker[operand] for operand in operands if isinstance(operand, ProtoValue) and operand in maker]

    def _look_into(self, i: int, node: ProtoNode) -> None:
        flows = [_Flow(body) for body in node.bodies]
        sources: list[int] = []
        for body, flow in zip(node.bodies, flows, strict=True):
            read = flow.read_before()
            given = zip(node.inputs[len(node.inputs) - len(body.inputs) :], body.inputs, strict=True)
            sources += self._makers([operand for operand, value in given if value in read])
        if not any([self.after[source] for source in sources]):
            self.inner[i], self.reading[i] = flows, sources

    def read_before(self) -> set[ProtoOperand]:
        """What the forward and the backward pass read."""
        return {
            operand for node, leads in zip(self.nodes, self.before, strict=True) if leads for operand in node.inputs
        }

    def step_phases(self, new_state: Iterable[ProtoOperand]) -> list[Phase]:
        """The phases of a step that leaves this state."""
        made = set(self._makers(new_state))
        return self._phases(self._leading_to([late or i in made for i, late in enumerate(self.after)]))

    def _phases(self, feeding: Sequence[bool]) -> list[Phase]:
        if not any(self.backward):
            return ["forward"] * len(self.nodes)
        phases: list[Phase] = []
        for i, marked in enumerate(self.backward):
            update = not self.before[i] and (self.after[i] or feeding[i])
            phases.append("backward" if marked else "update" if update else "forward")
        return phases

    def enter(self, found: dict[ProtoNode, Phase]) -> None:
        """Adds the phases of the nodes of bodies in which gradients are taken."""
        for i, flows in self.inner.items():
            for body, flow in zip(self.nodes[i].bodies, flows, strict=True):
                found.update(zip(body.nodes, flow._phases(flow.after), strict=True))
                flow.enter(found)

    def _leading_to(self, marked: Sequence[bool]) -> list[bool]:
        """Which nodes are marked, or feed one that is, directly or not."""
        leading = list(marked)
        for i in range(len(leading) - 1, -1, -1):
            if leading[i]:
                for source in self.reading[i]:
                    leading[source] = True
        return leading


def _differentiates(node: ProtoNode) -> bool:
    """Whether gradients are taken in a body of the node."""
    return any(each.backward or _differentiates(each) for body in node.bodies for each in body.nodes)
