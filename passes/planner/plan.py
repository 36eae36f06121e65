"""A plan: which name goes on which mesh axes, in two roles, in which order, and what it is predicted to cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ir.types import TensorType
from passes import errors
from passes.hardware.chip import Chip, chip_of
from passes.sharding.mesh import DeviceMesh, MeshLike
from passes.sharding.rules import Role, Wish, sizes_of, with_layout


@dataclass(frozen=True)
class Search:
    """How the plan was found: how many plans the space has, and whether the result is proven the best of them."""

    plans: int
    seconds: float
    optimal: bool


@dataclass(frozen=True)
class RunnerUp:
    """The next best plan that is predicted slower, and what it would cost."""

    compute: Mapping[str, tuple[str, ...]]
    storage: Mapping[str, tuple[str, ...]]
    step: float
    peak: int


@dataclass(frozen=True)
class Plan:
    """Layouts by name on a mesh.

    `order` is the order in which names are served; `compute` and `storage` map names to mesh axes (names that are whole
    are absent). `storage` repeats the compute axes and adds the storage-only ones.
    """

    mesh: DeviceMesh
    order: tuple[str, ...]
    compute: Mapping[str, tuple[str, ...]]
    storage: Mapping[str, tuple[str, ...]]
    hardware: str = ""
    reasons: Mapping[str, str] = field(default_factory=dict[str, str])
    search: Search | None = None
    runner_up: RunnerUp | None = None
    custom_chip: Chip | None = field(default=None, repr=False)

    @classmethod
    def by_hand(
        cls,
        mesh: MeshLike,
        compute: Mapping[str, str | Sequence[str]],
        storage: Mapping[str, str | Sequence[str]] | None = None,
        hardware: str | Chip = "v5e",
    ) -> "Plan":
        """A plan of your own; names are served in the order in which `compute`, then `storage`, lists them.

        A name goes on one mesh axis (`{"batch": "data"}`) or on several (`{"batch": ("replica", "data")}`). A name that
        the graph does not have, or whose size its mesh axes do not divide, is a `PlanWarning` where the plan is used.

        Raises `PlanError` for an axis that the mesh does not have, a bad mesh and unknown hardware.
        """
        layout, chip = DeviceMesh.of(mesh), chip_of(hardware)
        used = _axes_by_name("compute", compute, layout)
        kept = _axes_by_name("storage", {} if storage is None else storage, layout)
        merged = {name: tuple(dict.fromkeys((*used.get(name, ()), *axes))) for name, axes in kept.items()}
        return cls(
            layout,
            tuple(dict.fromkeys((*used, *kept))),
            used,
            {**used, **merged},
            chip.name,
            custom_chip=chip if isinstance(hardware, Chip) else None,
        )

    @property
    def chip(self) -> Chip:
        """The chip that the plan is for."""
        return self.custom_chip or chip_of(self.hardware)

    @cached_property
    def wish(self) -> Wish:
        """The plan in the form that the layout rule reads."""
        # On a mesh axis of one device nothing is split: it must not show as a collective of one.
        idle = self.mesh.mask([axis for axis, size in self.mesh.as_dict().items() if size == 1])
        compute = {name: self.mesh.mask(axes) & ~idle for name, axes in self.compute.items()}
        stored = {name: self.mesh.mask(axes) & ~idle for name, axes in self.storage.items()}
        extra = {name: mask & ~compute.get(name, 0) for name, mask in stored.items() if mask & ~compute.get(name, 0)}
        return Wish(self.mesh, self.order, compute, extra)

    def placed(self, type_: TensorType, role: Role) -> TensorType:
        """The type of a value with its layout under this plan."""
        return with_layout(type_, self.wish.layout(sizes_of(type_), role), self.wish)


def _axes_by_name(role: str, rules: Any, mesh: DeviceMesh) -> dict[str, tuple[str, ...]]:
    """Sharding rules as the user wrote them, each name with a tuple of mesh axes."""
    if not isinstance(rules, Mapping):
        raise errors.rules_kind(role, rules)
    found: dict[str, tuple[str, ...]] = {}
    entries: Mapping[Any, Any] = rules
    for name, written in entries.items():
        axes: Any = (written,) if isinstance(written, str) else written
        if not isinstance(name, str) or not isinstance(axes, Sequence):
            raise errors.rule_kind(role, name, written)
        listed: list[Any] = list(axes)
        if not all(isinstance(axis, str) for axis in listed):
            raise errors.rule_kind(role, name, written)
        for axis in listed:
            if axis not in mesh.axes:
                raise errors.rule_mesh_axis(role, name, axis, mesh.axes)
        if len(set(listed)) < len(listed):
            raise errors.rule_axis_twice(role, name, written)
        found[name] = tuple(listed)
    return found
