"""The device mesh as the planner sees it: named axes, and sets of axes as bit masks.

A mask is an integer whose bit i stands for mesh axis i. All layout arithmetic works on masks, single ones (a Python
int) or whole arrays of candidates (numpy), with the same code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from passes import errors
from passes.sharding.mesh_forms import checked_sizes, read_mesh

Mask = Any  # an int, or an integer array of candidates
IntArray = npt.NDArray[np.int64]


def same_masks(pairs: Iterable[tuple[Mask, Mask]]) -> Any:
    """Whether all of the pairs are equal; of arrays of candidates, for which of them."""
    same: Any = np.ones((), bool)
    for mine, other in pairs:
        same = same & (np.asarray(mine) == np.asarray(other))
    return same


class JaxMesh(Protocol):
    """A `jax.sharding.Mesh` or `AbstractMesh`: what is read of it."""

    @property
    def axis_names(self) -> tuple[Any, ...]: ...

    @property
    def shape(self) -> Any: ...


@dataclass(frozen=True)
class DeviceMesh:
    """Mesh axes in order, outermost (slowest network) first, and how many devices lie along each.

    Raises `PlanError` where an axis occurs twice or a size is not a whole number of at least 1.
    """

    axes: tuple[str, ...]
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        shown = dict(zip(self.axes, self.sizes, strict=False))
        sizes = checked_sizes(shown, self.axes, self.sizes)
        object.__setattr__(self, "axes", tuple(sizes))
        object.__setattr__(self, "sizes", tuple(sizes.values()))

    @classmethod
    def of(cls, mesh: MeshLike) -> DeviceMesh:
        """From any way of writing a mesh (see `passes.sharding.mesh_forms`): `{"data": 4, "model": 2}`, `"4x2"`,
        `"replica=2,data=16,sequence=4,model=4"`, a `jax.sharding.Mesh`, or a `DeviceMesh` itself.

        Raises `PlanError` where it is none of these, has no axes, or a size is not a whole number of at least 1.
        """
        if isinstance(mesh, DeviceMesh):
            return mesh
        sizes = read_mesh(mesh)
        return cls(tuple(sizes), tuple(sizes.values()))

    def __str__(self) -> str:
        """The mesh as `of` reads it back: `data=4,model=2`."""
        return ",".join(f"{axis}={size}" for axis, size in zip(self.axes, self.sizes, strict=True))

    @property
    def devices(self) -> int:
        return int(self.products[-1])

    @cached_property
    def masks(self) -> int:
        """How many masks there are: 2 ** number of axes."""
        return 1 << len(self.axes)

    @cached_property
    def products(self) -> IntArray:
        """[mask] → number of devices in a group along the mask's axes."""
        return np.array(
            [
                int(np.prod([size for i, size in enumerate(self.sizes) if mask >> i & 1], dtype=np.int64))
                for mask in range(self.masks)
            ],
            dtype=np.int64,
        )

    def group(self, mask: Mask) -> Any:
        """Devices in a group along a mask's axes: an int, or an array for an array of masks."""
        return self.products[mask]

    def fitting(self, size: int) -> IntArray:
        """[mask] → the largest part of the mask, outer axes first, whose group divides a dim of `size`."""
        if size not in self._fitting:
            self._fitting[size] = self._compute_fitting(size)
        return self._fitting[size]

    def fitted(self, size: int, mask: Mask) -> Any:
        """`fitting(size)[mask]`."""
        return mask if size % self.devices == 0 and size > 0 else self.fitting(size)[mask]

    @cached_property
    def _fitting(self) -> dict[int, IntArray]:
        return {}

    def _compute_fitting(self, size: int) -> IntArray:
        result = np.zeros(self.masks, dtype=np.int64)
        for mask in range(self.masks):
            kept = 0
            for i in range(len(self.axes)):
                wider = kept | (1 << i)
                if mask >> i & 1 and size > 0 and size % int(self.products[wider]) == 0:
                    kept = wider
            result[mask] = kept
        return result

    def names(self, mask: int) -> tuple[str, ...]:
        """The axes of a mask, in mesh order."""
        return tuple(axis for i, axis in enumerate(self.axes) if mask >> i & 1)

    def mask(self, names: Sequence[str]) -> int:
        """The mask of some axes. Raises `PlanError` for a name that is not a mesh axis."""
        result = 0
        for name in names:
            if name not in self.axes:
                raise errors.unknown_mesh_axis(name, self.axes)
            result |= 1 << self.axes.index(name)
        return result

    def as_dict(self) -> dict[str, int]:
        return dict(zip(self.axes, self.sizes, strict=True))


MeshLike: TypeAlias = DeviceMesh | str | Mapping[str, int] | JaxMesh
"""What `DeviceMesh.of` takes, and with it every function that takes a mesh."""
