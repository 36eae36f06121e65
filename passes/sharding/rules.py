"""How a value is sharded: the sharding rules, shared by the planner's tables and the partitioner.

Names have a priority order. Going through the names of a value in that order, a name takes the mesh axes of its rule
that no earlier name of the value has taken, and that divide its size. In the storage role (parameters, gradients and
optimizer state at rest) a second round then gives the storage-only axes out of what is left, first to names that divide
by all of theirs, so a stored value is always a refinement of the same value in use: going from one to the other is an
all-gather, never a shuffle.

The order may be another one where a name is (`OrderWhere`): with `{"mlp": ("experts", "batch")}` the experts of a
mixture come before the batch in the products of their weights, and nowhere else, so tokens that are sharded over the
batch go to the devices of their experts and back by all-to-alls.

`ShardingRules` may hold single masks or arrays of candidates; the code is the same.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ir.names import is_part, whole
from ir.types import Dim, TensorType
from passes.sharding.mesh import DeviceMesh, Mask

Role = Literal["compute", "storage", "kept"]
"""How a value is laid out: as it is computed with; over the storage-only axes besides; or, of state that is not stored
over these, kept as it is computed with."""
Layout = dict[str, Mask]
Sizes = Mapping[str, int]
OrderWhere = Mapping[str, tuple[str, ...]]
"""Where an array or an operation has the name on the left and all of those on the right, these come first, in this
order."""


def in_order(names: Collection[str], order: Iterable[str], where: OrderWhere) -> list[str]:
    """The names of a shape that are in the order, as they come there."""
    found = [name for name in order if name in names]
    for there, several in where.items():
        if there in names and all(name in names for name in several):
            moved = [name for name in several if name in found]
            found = [*moved, *(name for name in found if name not in moved)]
    return found


@dataclass(frozen=True)
class ShardingRules:
    """Sharding rules: the mesh axes of each name, in priority order.

    `compute` are those it is sharded over in use, `extra` those that are added in storage (FSDP), in a priority order
    of its own. `order_where` says where the order is another one.
    """

    mesh: DeviceMesh
    order: tuple[str, ...]
    compute: Mapping[str, Mask]
    extra: Mapping[str, Mask]
    order_where: OrderWhere = field(default_factory=dict[str, tuple[str, ...]])

    def ordered(self, name: str, mask: int) -> tuple[str, ...]:
        """The mesh axes of a dim, outermost first. It is sharded over its compute axes first, so that gathering the
        storage-only ones leaves contiguous shards."""
        computed = int(self.compute.get(whole(name), 0))
        return self.mesh.names(mask & computed) + self.mesh.names(mask & ~computed)

    def layout(self, sizes: Sizes, role: Role, blocked: Iterable[str] = ()) -> Layout:
        """The mask of every name of a value (or of an operation's iteration space) with the given sizes.

        A blocked name is not sharded, but its mesh axes are not given to later names either: that would move those for
        the sake of one operation.
        """
        used: Mask = 0
        result: Layout = {}
        names = in_order(sizes, self.order, self.order_where)
        # A part is sharded like the axis that it was cut from, unless the rules name it.
        parts = {name: whole(name) for name in sizes if is_part(name) and name not in self.order}
        names += [name for name in parts if parts[name] in self.order and parts[name] not in sizes]
        for name in names:
            wanted = self.compute.get(parts.get(name, name), 0)
            taken = self.mesh.fitted(sizes[name], wanted & ~used)
            used = used | taken
            result[name] = taken
        if role == "storage":
            stored = [name for name in self.extra if name in result]
            # Of several names those that can have all of their storage axes come first.
            for name, whole_only in [(name, True) for name in stored if len(stored) > 1] + [(n, False) for n in stored]:
                asked = result[name] | (self.extra[name] & ~used)
                both = self.mesh.fitted(sizes[name], asked)
                # Where the two together do not divide the dim, it stays where it is used.
                follows = both == asked if whole_only else (both & result[name]) == result[name]
                taken = result[name] | both * follows
                used = used | taken
                result[name] = taken
        for name in blocked:
            if name in result:
                result[name] = result[name] & 0
        return result


def sizes_of(type_: TensorType) -> dict[str, int]:
    """Names and sizes of a value. Of a name that occurs twice only the first counts."""
    sizes: dict[str, int] = {}
    for dim in type_.dims:
        if dim.name is not None:
            sizes.setdefault(dim.name, dim.size)
    return sizes


def with_layout(type_: TensorType, layout: Layout, rules: ShardingRules, partial: int = 0) -> TensorType:
    """The type with its dims sharded over the mesh (single masks only)."""
    seen: set[str] = set()
    dims: list[Dim] = []
    for dim in type_.dims:
        axes: tuple[str, ...] = ()
        if dim.name is not None and dim.name not in seen:
            axes = rules.ordered(dim.name, int(layout.get(dim.name, 0)))
            seen.add(dim.name)
        dims.append(Dim(dim.name, dim.size, axes))
    return TensorType(type_.dtype, tuple(dims), rules.mesh.names(partial))
