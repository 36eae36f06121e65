"""delay: the operand, but not before another value is there. What is made of it is made then, and need not be kept."""

from collections.abc import Iterator, Sequence
from typing import Any

from ir.graph import Node
from ir.jax_api import jnp, lax
from ir.ops.move import Move
from ir.ops.rule import Expected, Fault, like, operands
from ir.ops.spread import Spread, layout_of
from ir.shards import Shards


class Delay(Move):
    """The second operand is what is waited for. Without it a compiler would merge what is made of the delayed value
    with what was made of the value itself before."""

    kind = "delay"
    attributes = frozenset()
    waits = True

    def results(self, node: Node) -> Sequence[Expected]:
        value, _ = operands(node, 2, 2)
        return [like(value.type)]

    def faults(self, node: Node) -> Iterator[Fault]:
        yield from super(Move, self).faults(node)

    def lays(self, gained: set[str], lost: set[str], paid: set[str], mesh: set[str]) -> str:
        return ""

    def spread(self, node: Node) -> Sequence[Spread]:
        """The very same value."""
        return [layout_of(node.inputs[0].type)]

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """A choice that always falls on the operand, by a number that only the other value tells. XLA drops
        `optimization_barrier` on CPUs, and then merges what it had kept apart."""
        value, other = arrays
        first = lax.reshape(lax.slice(other, (0,) * other.ndim, (1,) * other.ndim), ())
        if jnp.issubdtype(first.dtype, jnp.inexact):
            first = lax.convert_element_type(jnp.isnan(first), jnp.int32)
        ready = (first.astype(jnp.uint32) & 1) <= 1
        return [jnp.where(ready, value, jnp.zeros_like(value))]
