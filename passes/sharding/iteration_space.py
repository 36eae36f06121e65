"""What layouts an operation asks for, and in what state it leaves its results.

An operation is computed over its *iteration space*: all the names of its operands and results. The plan lays that space
out by the same rule as a value, so each mesh axis serves one name of it. Operands are brought to that layout
(restricted to their names); results come out of it, with a sum due over the mesh axes of reduced names, and are brought
to their own. A contraction over a sharded `mlp`, Megatron's all-reduce, the gathers of sequence parallelism and of
FSDP, the masked lookup in a sharded embedding are all this one rule.
"""

from dataclasses import dataclass

from ir.graph import Node, Value
from ir.ops import entered, op_of
from ir.types import TensorType
from passes.sharding.mesh import Mask
from passes.sharding.roles import Roles
from passes.sharding.rules import Layout, Role, Wish, sizes_of


@dataclass(frozen=True)
class Move:
    """One value on its way: from `source` (with sums over `due` to be made) to `target`; `cut_between`
    as in `passes.sharding.reshard`."""

    value: Value
    role: Role
    target_role: Role
    source: Layout
    due: tuple[Mask, ...]
    target: Layout
    cut_between: bool = True


@dataclass(frozen=True)
class Space:
    """The iteration space of a node: sizes by name, and the names that are reduced or must be whole."""

    sizes: dict[str, int]
    role: Role
    reduced: tuple[str, ...]
    blocked: tuple[str, ...]

    @property
    def key(self) -> tuple[object, ...]:
        """Two spaces with the same key ask the same of an operand, whatever the plan."""
        return (tuple(sorted(self.sizes.items())), self.role, tuple(sorted(self.blocked)))


def space_of(node: Node, roles: Roles) -> Space:
    """The iteration space of a node without bodies."""
    sizes: dict[str, int] = {}
    op = op_of(node)
    values = node.outputs if op.renames else (*node.outputs, *node.value_inputs)
    for value in values:
        for name, size in sizes_of(value.type).items():
            sizes.setdefault(name, size)
    return Space(sizes, _node_role(node, roles), op.reduced(node), op.blocked(node))


def _node_role(node: Node, roles: Roles) -> Role:
    op = op_of(node)
    if op.always_computes:
        return "compute"
    values = node.value_inputs if op.placed_by_operands else node.outputs
    tensors = [value for value in values if value.type.dims]
    return "storage" if tensors and all(roles[value.id] == "storage" for value in tensors) else "compute"


def value_layout(value: Value, roles: Roles, wish: Wish) -> Layout:
    """Where a value lies between the operations."""
    return wish.layout(sizes_of(value.type), roles[value.id])


def restricted(layout: Layout, type_: TensorType, wish: Wish) -> Layout:
    """The part of a layout that concerns the names of a value, as far as its own sizes allow."""
    return {name: wish.mesh.fitting(size)[layout.get(name, 0)] for name, size in sizes_of(type_).items()}


def operand_layout(node: Node, value: Value, layout: Layout, wish: Wish) -> Layout:
    """What the node, computed in `layout`, asks of an operand."""
    if not op_of(node).renames:
        return restricted(layout, value.type, wish)
    renamed = zip(value.type.dims, node.outputs[0].type.dims, strict=True)
    return {old.name: layout.get(new.name or "", 0) for old, new in renamed if old.name is not None}


def sums_due(space: Space, layout: Layout) -> tuple[Mask, ...]:
    """For each reduced name, the mesh axes over which the results of a node are partial sums."""
    return tuple(layout.get(name, 0) for name in space.reduced)


def operand_moves(node: Node, roles: Roles, wish: Wish) -> list[Move]:
    """How the operands of a node get to where it wants them. Scalars need no moving and are left out."""
    if not entered(node):
        space = space_of(node, roles)
        layout = wish.layout(space.sizes, space.role, space.blocked)
        return [
            Move(v, roles[v.id], space.role, value_layout(v, roles, wish), (), operand_layout(node, v, layout, wish))
            for v in node.value_inputs
            if v.type.dims
        ]
    moves: list[Move] = []
    for _, feeds in op_of(node).body_operands(node):
        for operand, inside, _ in feeds:
            if isinstance(operand, Value) and operand.type.dims:
                target = restricted(value_layout(inside, roles, wish), operand.type, wish)
                source = value_layout(operand, roles, wish)
                moves.append(Move(operand, roles[operand.id], roles[inside.id], source, (), target))
    return moves


def result_moves(node: Node, roles: Roles, wish: Wish) -> list[Move]:
    """How the results of a node without bodies get from where it computes them to where they lie."""
    if entered(node):
        return []
    space = space_of(node, roles)
    layout = wish.layout(space.sizes, space.role, space.blocked)
    due = sums_due(space, layout)
    moves: list[Move] = []
    for value in node.outputs:
        made, wanted = restricted(layout, value.type, wish), value_layout(value, roles, wish)
        moves.append(Move(value, space.role, roles[value.id], made, due, wanted, op_of(node).cut_after_each_sum))
    return moves


def body_result_moves(node: Node, roles: Roles, wish: Wish) -> list[tuple[int, list[Move | None]]]:
    """For each body whose results leave the node: its position, and per result how it gets to the result's place (None
    for constants and scalars)."""
    answer: list[tuple[int, list[Move | None]]] = []
    for body, results in op_of(node).body_results(node):
        position = next(i for i, candidate in enumerate(node.bodies) if candidate is body)
        moves: list[Move | None] = []
        for inside, outside, _ in results:
            if not isinstance(inside, Value) or not inside.type.dims:
                moves.append(None)
                continue
            target = restricted(value_layout(outside, roles, wish), inside.type, wish)
            source = value_layout(inside, roles, wish)
            moves.append(Move(inside, roles[inside.id], roles[outside.id], source, (), target))
        answer.append((position, moves))
    return answer
