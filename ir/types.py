"""Types of IR values: a dtype and named dimensions, each with its place on the device mesh.

`f32[batch=32@data, embed=64]` is a float32 value of 32 by 64 elements whose `batch` is split over the mesh axis
`data`. A dimension without a name prints as `_=3`. A value that still has to be summed over a mesh axis says so:
`f32[embed=64] partial(model)`; where it is not a sum, by what it is still to be reduced: `partial(max: model)`. Sizes
are global: never the size of one device's shard.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ir.names import is_made

_SHORT = {
    "bool": "bool",
    "bfloat16": "bf16",
    "float16": "f16",
    "float32": "f32",
    "float64": "f64",
    "complex64": "c64",
    "complex128": "c128",
    "int4": "i4",
    "int8": "i8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
    "uint4": "u4",
    "uint8": "u8",
    "uint16": "u16",
    "uint32": "u32",
    "uint64": "u64",
}
SUM, IN_ORDER = "sum", "in_order"
REDUCTIONS = (SUM, "max", "min", "and", "or", IN_ORDER)
"""What may be pending over mesh axes: reductions that collectives make. `in_order` is a sum in a fixed order."""
SUMS = (SUM, IN_ORDER)
"""Those of them that are sums, so that each device can be left one shard of the result."""
_LONG = {short: long for long, short in _SHORT.items()}
_ITEM_SIZE = {"bool": 1, "bfloat16": 2, "complex64": 8, "complex128": 16, "int4": 1, "uint4": 1}


def short_dtype(dtype: str) -> str:
    """`float32` → `f32`; a dtype without a short form (a PRNG key, an fp8 format) is its own."""
    return _SHORT.get(dtype, dtype)


def long_dtype(short: str) -> str:
    """`f32` → `float32`: the inverse of `short_dtype`."""
    return _LONG.get(short, short)


def item_size(dtype: str) -> int:
    """Bytes of one element of `dtype` (a threefry key has two 32-bit words)."""
    if dtype in _ITEM_SIZE:
        return _ITEM_SIZE[dtype]
    if dtype.startswith("key<"):
        return 8
    if dtype.startswith("float8"):
        return 1
    digits = "".join(character for character in dtype if character.isdigit())
    return max(1, int(digits) // 8) if digits else 4


@dataclass(frozen=True, slots=True)
class Dim:
    """One dimension: its name (None where no name reached it), its global size, the mesh axes it is split over."""

    name: str | None
    size: int
    mesh: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.name or '_'}={self.size}"
        return text + ("@" + ",".join(self.mesh) if self.mesh else "")


@dataclass(frozen=True, slots=True)
class TensorType:
    """The type of an IR value. `partial` names the mesh axes over which a reduction, `reduction`, is pending."""

    dtype: str
    dims: tuple[Dim, ...] = ()
    partial: tuple[str, ...] = ()
    reduction: str = SUM

    def __str__(self) -> str:
        text = f"{short_dtype(self.dtype)}[{', '.join(map(str, self.dims))}]"
        return text + (f" partial({self.pending_text(', '.join(self.partial))})" if self.partial else "")

    def pending_text(self, axes: str) -> str:
        """Mesh axes, behind the reduction that is pending over them where it is not a sum."""
        return axes if self.reduction == SUM else f"{self.reduction}: {axes}"

    @property
    def names(self) -> tuple[str, ...]:
        """The names it has that a plan may speak of, in physical order: dimensions without a name, and axes that the
        step made itself, are left out."""
        return tuple(dim.name for dim in self.dims if dim.name is not None and not is_made(dim.name))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(dim.size for dim in self.dims)

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes of the whole value, over all devices, one copy."""
        return self.elements * item_size(self.dtype)

    def local_bytes(self, sizes: Mapping[str, int]) -> int:
        """Bytes of one device's shard, on a mesh of these sizes."""
        return self.bytes // math.prod(sizes[axis] for dim in self.dims for axis in dim.mesh)

    def size_of(self, name: str) -> int:
        """The size of the dimension called `name`. Raises KeyError where there is none."""
        for dim in self.dims:
            if dim.name == name:
                return dim.size
        raise KeyError(name)
