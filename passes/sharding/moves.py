"""The steps of a reshard as nodes have them: the type of the value after each, by position, and the attributes.

`reshard_steps` speaks of names and of sets of mesh axes; here shards are where they really are. The mesh axes of a dim
come in some order, outermost first, and a step that leaves them in another one than the layout asks for is followed by
a permute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from ir.graph import Attr
from ir.ops import OPS
from ir.shards import chunk_of
from ir.types import SUM, Dim, TensorType
from passes.sharding.iteration_space import Reshard
from passes.sharding.mesh import DeviceMesh
from passes.sharding.reshard import Step, reshard_steps
from passes.sharding.rules import ShardingRules, with_layout

PARAMETER = "parameter"
"""What is moving where state is brought to where it is computed with."""


@dataclass(frozen=True)
class Movement:
    """One node to be: its kind, the type of its result, its attributes."""

    kind: str
    type_: TensorType
    attrs: Mapping[str, Attr]


def moves(reshard: Reshard, type_: TensorType, rules: ShardingRules, over: Sequence[str]) -> list[Movement]:
    """What brings a value of a placed type where a reshard wants it.

    Args:
        over: the names over which pending reductions are made, one for each of `reshard.pending` that is not empty.
    """
    mesh = rules.mesh
    steps = list(
        reshard_steps(
            reshard.value.type,
            reshard.source,
            reshard.pending,
            reshard.target,
            mesh,
            reshard.reduction,
            rules.compute,
        )
    )
    found: list[Movement] = []
    for i, step in enumerate(steps):
        before, type_ = type_, _type_after(type_, step, steps[i + 1 : i + 2], rules)
        summed = OPS[step.kind].completes_sums
        attrs: dict[str, Attr] = {
            "axis": _summed_names(reshard, over, int(step.mask)) if summed else (step.name or "",),
            "mesh": _changed(before, type_, mesh) if OPS[step.kind].passes_on else mesh.names(int(step.mask)),
            "bytes": int(step.bytes),
            "moving": moving(reshard),
        }
        found.append(Movement(step.kind, type_, attrs))
    wanted = with_layout(reshard.value.type, reshard.target, rules)
    return found if type_ == wanted else [*found, reordering(reshard, type_, wanted, mesh)]


def reordering(reshard: Reshard, before: TensorType, after: TensorType, mesh: DeviceMesh) -> Movement:
    """A permute between two types whose dims have the same mesh axes in different orders."""
    changed = [dim for dim, other in zip(before.dims, after.dims, strict=True) if dim.mesh != other.mesh]
    attrs: dict[str, Attr] = {
        "axis": tuple([dim.name or "" for dim in changed]),
        "mesh": _changed(before, after, mesh),
        "bytes": after.local_bytes(mesh.as_dict()),
        "moving": moving(reshard),
    }
    return Movement("permute", after, attrs)


def _changed(before: TensorType, after: TensorType, mesh: DeviceMesh) -> tuple[str, ...]:
    """The mesh axes along which shards change places where dims get their mesh axes in another order: not those whose
    digit, in the number of a shard, stays what it is."""
    sizes = mesh.as_dict()
    found: set[str] = set()
    for one, other in zip(before.dims, after.dims, strict=True):
        for digits in product(*[range(sizes[axis]) for axis in one.mesh]):
            place = dict(zip(one.mesh, digits, strict=True))
            chunk = chunk_of(one.mesh, place, sizes)
            for axis in reversed(other.mesh):
                chunk, digit = divmod(chunk, sizes[axis])
                found.update([axis] if digit != place[axis] else [])
    return tuple([axis for axis in mesh.axes if axis in found])


def moving(reshard: Reshard) -> str:
    """What is on its way: a parameter, a gradient, or an activation. The cost model decides by it what may overlap."""
    if reshard.role != "compute" and reshard.target_role != "storage":
        return PARAMETER
    if reshard.target_role != "compute":
        return "gradient"
    return "activation"


def _summed_names(reshard: Reshard, over: Sequence[str], mask: int) -> tuple[str, ...]:
    """The names whose shards are summed over `mask`."""
    pending = [int(each) for each in reshard.pending if int(each)]
    return tuple(name for name, each in zip(over, pending, strict=True) if each & mask)


def _type_after(type_: TensorType, step: Step, following: Sequence[Step], rules: ShardingRules) -> TensorType:
    """The type of a value after a step."""
    seen: set[str] = set()
    dims: list[Dim] = []
    for dim in type_.dims:
        axes = dim.mesh
        if dim.name is not None and dim.name not in seen:
            seen.add(dim.name)
            mask = int(step.after.get(dim.name, 0))
            if not OPS[step.kind].passes_on:
                axes = rules.ordered(dim.name, mask)
                if OPS[step.kind].exchanges:  # in the order in which another dim loses them
                    axes = tuple([axis for each in type_.dims for axis in each.mesh if axis in axes])
                kept = tuple([axis for axis in dim.mesh if axis in axes])
                axes = kept + tuple([axis for axis in axes if axis not in kept])
            elif dim.name == step.name:
                # Before mesh axes leave, they are brought innermost.
                left = int(following[0].after.get(dim.name, 0)) & mask if following else mask
                axes = rules.ordered(dim.name, left) + rules.ordered(dim.name, mask & ~left)
        dims.append(replace(dim, mesh=axes))
    partial = rules.mesh.names(int(step.partial))
    return replace(type_, dims=tuple(dims), partial=partial, reduction=type_.reduction if partial else SUM)
