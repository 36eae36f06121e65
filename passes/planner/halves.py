"""Which float32 values products take as bfloat16, and nothing else reads.

A TPU multiplies float32 as bfloat16 unless a precision is asked for, so its compiler brings such values there in half
the bytes; kernels, such as that of products in groups of rows, read them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ir.analysis.uses import Uses
from ir.graph import Graph, Node, Value
from ir.ops import entered, op_of
from ir.ops.op import params_of

_FACTORS = 3
"""The first operands of attention, which are multiplied: queries, keys, values."""


@dataclass(frozen=True)
class Halves:
    """Of a graph or a body, and the bodies in it.

    Attributes:
        readers: of values, by number.
        leaving: the values that leave a body.
        kernel: the chip's kernel for attention (`ChipMemory.kernel`): where it cannot run, attention is products, too.
            None where attention is left out.
    """

    readers: Mapping[int, list[Node]]
    leaving: frozenset[int]
    kernel: str | None = None
    known: dict[int, bool] = field(default_factory=dict[int, bool])

    @classmethod
    def of(cls, graph: Graph, kernel: str | None = None) -> Halves:
        scopes = [graph, *[body for node in graph.walk() for body in node.bodies]]
        leaving = {operand.id for scope in scopes for operand in scope.outputs if isinstance(operand, Value)}
        return cls(Uses.of(graph).readers, frozenset(leaving), kernel)

    def take(self, value: Value) -> bool:
        """Whether all that reads a value takes it as bfloat16."""
        if value.id not in self.known:
            readers = self.readers.get(value.id, [])
            self.known[value.id] = value.id not in self.leaving and all([self.read(node, value) for node in readers])
        return self.known[value.id]

    def read(self, node: Node, value: Value) -> bool:
        """Whether a node only multiplies a float32, and at JAX's default precision. What only delays it, or brings it
        to another place, leaves that to what comes next."""
        if value.type.dtype != "float32":
            return False
        if op_of(node).waits:
            return node.inputs[0] == value and self.take(node.outputs[0])
        if op_of(node).moves_data_only and not op_of(node).completes_sums:
            return self.take(node.outputs[0])
        if not entered(node):
            if self.kernel is not None and op_of(node).held(node):
                by_xla = op_of(node).by_kernel(node, self.kernel) is None
                return by_xla and value not in node.inputs[_FACTORS:]
            in_kernel = bool(op_of(node).by_rows(node))
            return op_of(node).multiplies and not in_kernel and params_of(node).get("precision") is None
        fed = [
            inside for _, feeds in op_of(node).body_operands(node) for operand, inside, _ in feeds if operand == value
        ]
        return all([self.take(inside) for inside in fed])


def is_uniform(node: Node) -> bool:
    """Whether what a node makes is one number everywhere."""
    return op_of(node).repeats_places and not node.value_inputs


def slices_of_stacks(graph: Graph) -> frozenset[int]:
    """The numbers of values that loops read as slices of stacks."""
    feeds = [feed for node in graph.walk() for _, of_body in op_of(node).body_operands(node) for feed in of_body]
    return frozenset(inside.id for _, inside, scanned in feeds if scanned)
