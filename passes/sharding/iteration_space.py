"""What layouts an operation asks for, and how its results are sharded when it has made them.

An operation is computed over its *iteration space*: all the names of its operands and results. The plan lays that space
out by the same rule as a value, so each mesh axis serves one name of it. Operands are brought to that layout
(restricted to their names); results come out of it, with a pending reduction over the mesh axes of reduced names, and
are resharded to their own. A contraction over a sharded `mlp`, Megatron's all-reduce, the gathers of sequence
parallelism and of FSDP, the masked lookup in a sharded embedding are all this one rule.
"""

from dataclasses import dataclass

from ir.graph import Node, Value
from ir.ops import entered, op_of
from ir.types import SUM, TensorType
from passes.sharding.mesh import Mask
from passes.sharding.roles import Roles
from passes.sharding.rules import Layout, Role, ShardingRules, sizes_of


@dataclass(frozen=True)
class Reshard:
    """One value resharded: from `source` (with reductions over `pending` to be made) to `target`; `summed`: one that is
    a sum of an array, which no product makes."""

    value: Value
    role: Role
    target_role: Role
    source: Layout
    pending: tuple[Mask, ...]
    target: Layout
    reduction: str = SUM
    summed: bool = False


@dataclass(frozen=True)
class Space:
    """The iteration space of a node: sizes by name, and the names that are reduced or must be replicated."""

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
            sizes[name] = max(size, sizes.get(name, 0))
    return Space(sizes, node_role(node, roles), op.reduced(node), op.replicated(node))


def node_role(node: Node, roles: Roles) -> Role:
    """The role that a node without bodies is computed in."""
    op = op_of(node)
    if op.always_computes:
        return "compute"
    values = node.value_inputs if op.placed_by_operands else node.outputs
    tensors = [value for value in values if value.type.dims]
    return "storage" if tensors and all(roles[value.id] == "storage" for value in tensors) else "compute"


def value_layout(value: Value, roles: Roles, rules: ShardingRules) -> Layout:
    """How a value is sharded between the operations."""
    return rules.layout(sizes_of(value.type), roles[value.id])


def restricted(layout: Layout, type_: TensorType, rules: ShardingRules) -> Layout:
    """The part of a layout that concerns the names of a value, as far as its own sizes allow."""
    return {name: rules.mesh.fitting(size)[layout.get(name, 0)] for name, size in sizes_of(type_).items()}


def _crossing(type_: TensorType, other: Value, roles: Roles, rules: ShardingRules) -> Layout:
    """How a value must be sharded to be, on the other side of the border of a body, `other`: as that is, dim by dim,
    but for the one in front that a loop scans over, where only one of the two has it. The two may have two names for
    one dim."""
    layout = value_layout(other, roles, rules)
    longest = max(len(type_.dims), len(other.type.dims))
    dims, others = ((None,) * (longest - len(each.dims)) + each.dims for each in (type_, other.type))
    found: Layout = {name: 0 for name in type_.names}
    taken: set[str] = set()
    for dim, there in zip(dims, others, strict=True):
        if dim is not None and dim.name is not None and dim.name not in taken:
            taken.add(dim.name)
            if there is not None and there.name is not None and there.size == dim.size:
                found[dim.name] = layout.get(there.name, 0)
    return found


def operand_layout(node: Node, value: Value, layout: Layout, rules: ShardingRules) -> Layout:
    """What the node, computed in `layout`, asks of an operand."""
    if not op_of(node).renames:
        return restricted(layout, value.type, rules)
    found: Layout = {}
    used: set[str] = set()
    for old, new in zip(value.type.dims, node.outputs[0].type.dims, strict=True):
        if old.name is not None:
            found.setdefault(old.name, layout.get(new.name, 0) if new.name is not None and new.name not in used else 0)
        used.update([new.name] if new.name is not None else [])
    return found


def reduced_in(node: Node, space: Space, result: Value) -> tuple[str, ...]:
    """The names over which a result of the node is a sum."""
    return space.reduced if len(node.outputs) == 1 else op_of(node).reduced_in(node, result)


def pending_reductions(reduced: tuple[str, ...], layout: Layout) -> tuple[Mask, ...]:
    """For each reduced name, the mesh axes over which a result is partial."""
    return tuple(layout.get(name, 0) for name in reduced)


def operand_reshards(
    node: Node, roles: Roles, rules: ShardingRules, only: Value | None = None, space: Space | None = None
) -> list[Reshard]:
    """How the operands of a node, or `only` one of them, are resharded to what it asks for. Scalars need none of it and
    are left out. `space` is its own one where that is known."""
    if not entered(node):
        space = space or space_of(node, roles)
        layout = rules.layout(space.sizes, space.role, space.blocked)
        return [
            Reshard(
                v, roles[v.id], space.role, value_layout(v, roles, rules), (), operand_layout(node, v, layout, rules)
            )
            for v in node.value_inputs
            if v.type.dims and (only is None or v.id == only.id)
        ]
    return [reshard for reshard in body_reshards(node, roles, rules, only) if reshard is not None]


def body_reshards(node: Node, roles: Roles, rules: ShardingRules, only: Value | None = None) -> list[Reshard | None]:
    """For each operand of a node with bodies how it is resharded to what they are fed; None for scalars and constants,
    for what no body is fed, and where `only` one is asked for, for all others."""
    reshards: list[Reshard | None] = [None] * len(node.inputs)
    shared = op_of(node).shares_trips
    for body, positions in zip(node.bodies, op_of(node).feeding(node), strict=True):
        for position, inside in zip(positions, body.inputs, strict=True):
            operand = node.inputs[position]
            if isinstance(operand, Value) and operand.type.dims and (only is None or operand.id == only.id):
                target = _crossing(operand.type, inside, roles, rules)
                source = value_layout(operand, roles, rules)
                if shared and op_of(node).slices_of(node, position):
                    target |= {name: source.get(name, 0) for name in operand.type.names[:1]}
                reshards[position] = Reshard(operand, roles[operand.id], roles[inside.id], source, (), target)
    return reshards


def result_reshards(node: Node, roles: Roles, rules: ShardingRules, space: Space | None = None) -> list[Reshard]:
    """How the results of a node without bodies are resharded from how it computes them to how they are kept. `space` is
    its own one where that is known."""
    if entered(node):
        return []
    space = space or space_of(node, roles)
    layout = rules.layout(space.sizes, space.role, space.blocked)
    reshards: list[Reshard] = []
    for value in node.outputs:
        pending = pending_reductions(reduced_in(node, space, value), layout)
        made, wanted = restricted(layout, value.type, rules), value_layout(value, roles, rules)
        reduction = op_of(node).reduction(node)
        summed = op_of(node).sums(node)
        reshards.append(Reshard(value, space.role, roles[value.id], made, pending, wanted, reduction, summed))
    return reshards


def body_result_reshards(node: Node, roles: Roles, rules: ShardingRules) -> list[tuple[int, list[Reshard | None]]]:
    """For each body whose results leave the node: its position, and per result how it gets to the result's place (None
    for constants and scalars)."""
    answer: list[tuple[int, list[Reshard | None]]] = []
    for body, results in op_of(node).body_results(node):
        position = next(i for i, candidate in enumerate(node.bodies) if candidate is body)
        reshards: list[Reshard | None] = []
        for inside, outside, _ in results:
            if not isinstance(inside, Value) or not inside.type.dims:
                reshards.append(None)
                continue
            target = _crossing(inside.type, outside, roles, rules)
            source = value_layout(inside, roles, rules)
            reshards.append(Reshard(inside, roles[inside.id], roles[outside.id], source, (), target))
        answer.append((position, reshards))
    return answer
