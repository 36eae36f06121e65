"""Which values are kept row by row, as kernels take them: their last dim is innermost, so that it alone fills the lanes
of tiles, whatever is wasted by that.

XLA gives every other array the layout that wastes least. What a kernel reads it makes in that layout, and so it keeps
what a loop stacks of that: a stack of the queries of four layers with vectors of 16 elements is
`f32[4,16,128,4,16]{4,2,3,1,0:T(8,128)}`, eight times its bytes. The result of an attention is copied for those that
read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ir.graph import Graph, Node, Value
from ir.ops import entered, op_of
from passes.hardware.memory import ChipMemory
from passes.sharding.iteration_space import space_of
from passes.sharding.roles import Roles
from passes.sharding.rules import Role, ShardingRules


@dataclass(frozen=True, slots=True)
class Rows:
    """When a value is kept row by row: while names are replicated in an iteration space of such sizes, role and blocked
    names; without any, always."""

    replicated: tuple[str, ...] = ()
    sizes: tuple[tuple[str, int], ...] = ()
    role: Role = "compute"
    blocked: tuple[str, ...] = ()

    @classmethod
    def of(cls, node: Node, roles: Roles, kernel: str) -> Rows | None:
        """Of what a kernel takes; None where none computes the node."""
        if not op_of(node).held(node):
            return ALWAYS
        replicated = op_of(node).by_kernel(node, kernel)
        if replicated is None:
            return None
        space = space_of(node, roles)
        return cls(replicated, tuple(sorted(space.sizes.items())), space.role, tuple(sorted(space.blocked)))

    def under(self, rules: ShardingRules) -> Any:
        """Whether it is, under these rules."""
        if not self.replicated:
            return np.True_
        layout = rules.layout(dict(self.sizes), self.role, self.blocked)
        taken: Any = np.asarray(0)
        for name in self.replicated:
            taken = taken | layout.get(name, 0)
        return taken == 0


ALWAYS = Rows()


def kept_by_rows(graph: Graph, roles: Roles, chip: ChipMemory) -> dict[int, Rows]:
    """By the numbers of values: operands and results of kernels, what is computed from them element by element, and
    what loops read and stack of them. Nothing where arrays are not kept in tiles."""
    found: dict[int, Rows] = {}
    if chip.in_tiles:
        _note(graph, roles, chip.kernel, found)
    return found


def moved_by_rows(graph: Graph, roles: Roles, chip: ChipMemory) -> frozenset[int]:
    """The numbers of values of which whole rows of lanes are read and written: those, the results of kernels, and what
    is fused between these and an operation that is not, as long as the last dim is the same. Where positions are
    sharded, so that XLA computes an attention itself, most of what it reads and writes lies so, too."""
    found = set(kept_by_rows(graph, roles, chip))
    for scope in (graph, *[body for node in graph.walk() for body in node.bodies]) if found else ():
        for node in scope.nodes:
            if op_of(node).by_rows(node) and Rows.of(node, roles, chip.kernel) is not None:
                found.update(value.id for value in node.outputs)
            _pass_on(node, node.value_inputs, node.outputs, found)
        made = {value.id for node in scope.nodes for value in node.outputs}
        for node in reversed(scope.nodes):
            _pass_on(node, node.outputs, [value for value in node.value_inputs if value.id in made], found)
    return frozenset(found)


def _pass_on(node: Node, values: Sequence[Value], others: Sequence[Value], found: set[int]) -> None:
    """From some values of a fused node to others with the same last dim."""
    if op_of(node).fusible and not entered(node):
        for value in values:
            for other in others if value.id in found else ():
                if other.type.dims and other.type.dims[-1:] == value.type.dims[-1:]:
                    found.add(other.id)


def _note(graph: Graph, roles: Roles, kernel: str, found: dict[int, Rows]) -> None:
    for node in graph.nodes:
        taken = op_of(node).by_rows(node)
        rows = Rows.of(node, roles, kernel) if taken else None
        if rows is None and op_of(node).is_elementwise:
            taken = node.outputs
            rows = next((found[value.id] for value in node.value_inputs if value.id in found), None)
        if rows is not None:
            found.update(dict.fromkeys((value.id for value in taken), rows))
        for body, feeds in op_of(node).body_operands(node) if entered(node) else ():
            pairs = [(outer.id, inner.id) for outer, inner, _ in feeds if isinstance(outer, Value)]
            found.update({inner: found[outer] for outer, inner in pairs if outer in found})
            _note(body, roles, kernel, found)
            found.update({outer: found[inner] for outer, inner in pairs if inner in found})
        for _, results in op_of(node).body_results(node):
            for inner, outer, _ in results:
                if isinstance(inner, Value) and inner.id in found:
                    found[outer.id] = found[inner.id]
