"""Which values are kept row by row, as kernels take them: their last dim is innermost, so that it alone fills the lanes
of tiles, whatever is wasted by that.

XLA gives every other array the layout that wastes least. What a kernel reads it makes in that layout, and so it keeps
what a loop stacks of that: a stack of the queries of four layers with vectors of 16 elements is
`f32[4,16,128,4,16]{4,2,3,1,0:T(8,128)}`, eight times its bytes. The result of an attention is copied for those that
read it. A lookup reads rows, too: a table that lies otherwise is copied for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ir.graph import Graph, Node, Value
from ir.ops import entered, op_of
from ir.types import item_size
from passes.hardware.memory import ROWS_AT_HAND, ChipMemory
from passes.planner.traffic import Access, Traffic
from passes.sharding.iteration_space import Space, operand_layout, restricted, space_of
from passes.sharding.roles import Roles
from passes.sharding.rules import Layout, Role, ShardingRules, sizes_of

_TURNED = 0.75e12
"""Bytes per second that a copy writes of rows that lay along the other dim, by XLA's estimates: 4.5 ns for a tile on
v5e and 5.3 on v5p, whatever their memory."""


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


@dataclass(frozen=True, slots=True)
class Moved:
    """What an operation reads or writes, as it is sharded in the iteration space where that computes with it; and
    whether its bytes are those of rows."""

    access: Access
    space: Space
    in_rows: bool = False

    @property
    def value(self) -> Value:
        return self.access.value

    def bytes(self, rules: ShardingRules, chip: ChipMemory) -> Any:
        """On one device. Where temporaries stay on the chip, what is small there in rows takes no longer than its own
        bytes."""
        size: Any = self.value.type.elements * item_size(self.value.type.dtype)
        layout = _computed(self.access, self.space, rules)
        for mask in layout.values():
            size = size // rules.mesh.group(mask)
        if not self.in_rows or not self.value.type.dims:
            return size
        last = self.value.type.dims[-1]
        length = last.size // rules.mesh.group(layout.get(last.name, 0) if last.name is not None else 0)
        rows = chip.in_rows(size, length)
        return rows if not chip.on_chip else size + (rows - size) * (rows > ROWS_AT_HAND)

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for what moves the same bytes under all rules: all of them, the names, and where these are others in
        the space those; of rows how long they are; and the space."""
        type_, twin = self.value.type, _twin(self.access)
        size, names = type_.elements * item_size(type_.dtype), tuple(sorted(sizes_of(type_).items()))
        last = tuple((dim.name or "", dim.size) for dim in type_.dims[-1:]) if self.in_rows else ()
        return size, names, last, str(twin.type) if twin != self.value else "", self.space.key


@dataclass(frozen=True, slots=True)
class Turned:
    """A table that is read or written row by row. Where it takes less room than with rows along the lanes it lies
    otherwise, and is copied."""

    access: Access
    space: Space

    def seconds(self, rules: ShardingRules, chip: ChipMemory) -> Any:
        """Those of the copy; none where there is none."""
        own = _computed(self.access, self.space, rules)
        size: Any = item_size(self.access.value.type.dtype)
        lengths: list[Any] = []
        for dim in self.access.value.type.dims:
            lengths.append(dim.size // rules.mesh.group(own.pop(dim.name, 0) if dim.name is not None else 0))
            size = size * lengths[-1]
        filled_up = [chip.filled_up(length) for length in lengths]
        rows, least = chip.room(size, filled_up, True), chip.room(size, filled_up)
        return rows * (rows > least) / _TURNED

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for what moves the same bytes under all rules."""
        type_ = self.access.value.type
        return item_size(type_.dtype), tuple((dim.name or "", dim.size) for dim in type_.dims), (), "", self.space.key


def _twin(access: Access) -> Value:
    """The value under the names that it has in the iteration space of the operation."""
    renamed = op_of(access.node).renames and access.value in access.node.value_inputs
    return access.node.outputs[0] if renamed else access.value


def _computed(access: Access, space: Space, rules: ShardingRules) -> Layout:
    """How a value is sharded where an operation of that iteration space computes with it."""
    layout = rules.layout(space.sizes, space.role, space.blocked)
    if _twin(access) != access.value:
        return operand_layout(access.node, access.value, layout, rules)
    return restricted(layout, access.value.type, rules)


def moved_in(flow: Traffic, roles: Roles, chip: ChipMemory, rows: frozenset[int]) -> list[tuple[Moved | Turned, ...]]:
    """What each node of a body reads and writes. And what is copied for it: a table once for all that look up in it,
    and the gradient of one before rows are added to it and behind that, where that is in the memory of the device.

    Args:
        rows: the values of the graph that move in rows (`moved_by_rows`).
    """
    found: list[tuple[Moved | Turned, ...]] = []
    copied: set[int] = set()
    for position, (node, accesses) in enumerate(zip(flow.graph.nodes, flow.moved, strict=True)):
        moved = [Moved(each, space_of(each.node, roles), each.value.id in rows) for each in accesses]
        table = node.inputs[0] if chip.in_tiles and op_of(node).by_row(node) else None
        turned: list[Turned] = []
        if isinstance(table, Value) and table.id not in copied:
            writes = op_of(node).writes_into
            count = 1 if not writes else 2 if chip.copies_rows else 0
            turned = [Turned(Access(table, node, position), space_of(node, roles))] * count
            copied.update([table.id] if not writes else [])
        found.append((*moved, *turned))
    return found


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
