"""How much arithmetic a step is: what its model asks for, and what is done besides to save memory.

The share of a chip's peak that is reached is told of what the model asks for (MFU, "model FLOPs utilization"; Chowdhery
et al., 2022, appendix B), so that computing something twice makes no number better.
"""

from __future__ import annotations

from dataclasses import dataclass

from ir.graph import Graph, Node
from ir.ops import entered, op_of

AGAIN = "rematted_computation"
"""How JAX names the scope of what `jax.checkpoint` computes once more."""


@dataclass(frozen=True)
class Arithmetic:
    """Floating-point operations of the products of a step, over all devices.

    Attributes:
        model: those of the model's forward and backward pass.
        again: those that are done once more in the backward pass (gradient checkpointing, attention's scores).
    """

    model: int
    again: int

    @property
    def all(self) -> int:
        """What the devices do."""
        return self.model + self.again


def arithmetic(graph: Graph) -> Arithmetic:
    """The arithmetic of a staged step, trips of loops counted. Products count, as everywhere in the planner; in a graph
    that was read from a text nothing is known to be computed again but the scores of attention."""
    every, again = _counted(graph, 1, within=False)
    return Arithmetic(every - again, again)


def _counted(graph: Graph, times: int, within: bool) -> tuple[int, int]:
    every = again = 0
    for node in graph.nodes:
        inside = within or _is_again(node)
        done = op_of(node).flops(node) * times
        every += done
        again += done if inside else op_of(node).flops_again(node) * times
        for body in entered(node):
            more, more_again = _counted(body, times * node.count("trips", 1), inside)
            every, again = every + more, again + more_again
    return every, again


def _is_again(node: Node) -> bool:
    info = node.origin.source_info if node.origin is not None else None
    return info is not None and AGAIN in str(info.name_stack)
