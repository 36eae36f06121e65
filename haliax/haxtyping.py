"""Annotations with a dtype: `f32[NamedArray, "batch embed"]`, `Float[NamedArray, "batch ..."]`.

Each name here is subscribed with an array type and a spec of axes (see `haliax.core.annotations`), and gives what a
type checker reads as that array type. For NamedArrays it is `typing.Annotated[NamedArray, NamedArrayAxes(...)]`, which
`x.matches_axes(...)` checks; for other arrays it is the annotation of `jaxtyping`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, get_origin

import jax.numpy as jnp
import jaxtyping

from haliax import errors
from haliax.core.annotations import DTypeCategory as DTypeCategory
from haliax.core.annotations import NamedArrayAxes as NamedArrayAxes
from haliax.core.annotations import NamedArrayAxesSpec as NamedArrayAxesSpec
from haliax.core.annotations import parse_spec
from haliax.core.array import NamedArray


class _Annotation:
    """What is subscribed. `dtype` is a dtype or a category; `plain` its annotation in `jaxtyping`."""

    def __init__(self, dtype: Any = None, plain: Any = None):
        self.dtype = dtype
        self._plain = plain

    def __repr__(self) -> str:
        return f"haliax.haxtyping {getattr(self.dtype, '__name__', self.dtype)}"

    def __getitem__(self, item: Any) -> Any:
        if not isinstance(item, tuple) or isinstance(item[0], str):
            return self._named(item)
        array_type, *spec = item
        if len(spec) != 1:
            raise errors.bad_axes_annotation(item)
        if self._plain is not None and not _is_named(array_type):
            return self._plain[array_type, spec[0]]
        return self._named(spec[0])

    def _named(self, spec: Any) -> Any:
        axes = parse_spec(spec)
        return Annotated[NamedArray, axes if axes.dtype is not None else replace(axes, dtype=self.dtype)]


def _is_named(array_type: Any) -> bool:
    return get_origin(array_type) is Annotated or (isinstance(array_type, type) and issubclass(array_type, NamedArray))


if TYPE_CHECKING:  # these read to a type checker as `Annotated[NamedArray, "batch embed"]` does
    from typing import Annotated as Complex
    from typing import Annotated as Float
    from typing import Annotated as Int
    from typing import Annotated as Named
    from typing import Annotated as UInt
    from typing import Annotated as bf16
    from typing import Annotated as bool_
    from typing import Annotated as complex64
    from typing import Annotated as complex128
    from typing import Annotated as f16
    from typing import Annotated as f32
    from typing import Annotated as f64
    from typing import Annotated as i8
    from typing import Annotated as i16
    from typing import Annotated as i32
    from typing import Annotated as i64
    from typing import Annotated as u8
    from typing import Annotated as u16
    from typing import Annotated as u32
    from typing import Annotated as u64
else:
    Named = _Annotation()
    Float = _Annotation(DTypeCategory("float", jnp.floating), jaxtyping.Float)
    Complex = _Annotation(DTypeCategory("complex", jnp.complexfloating), jaxtyping.Complex)
    Int = _Annotation(DTypeCategory("int", jnp.signedinteger), jaxtyping.Int)
    UInt = _Annotation(DTypeCategory("uint", jnp.unsignedinteger), jaxtyping.UInt)
    bf16 = _Annotation(jnp.bfloat16, jaxtyping.BFloat16)
    f16 = _Annotation(jnp.float16, jaxtyping.Float16)
    f32 = _Annotation(jnp.float32, jaxtyping.Float32)
    f64 = _Annotation(jnp.float64, jaxtyping.Float64)
    i8 = _Annotation(jnp.int8, jaxtyping.Int8)
    i16 = _Annotation(jnp.int16, jaxtyping.Int16)
    i32 = _Annotation(jnp.int32, jaxtyping.Int32)
    i64 = _Annotation(jnp.int64, jaxtyping.Int64)
    u8 = _Annotation(jnp.uint8, jaxtyping.UInt8)
    u16 = _Annotation(jnp.uint16, jaxtyping.UInt16)
    u32 = _Annotation(jnp.uint32, jaxtyping.UInt32)
    u64 = _Annotation(jnp.uint64, jaxtyping.UInt64)
    bool_ = _Annotation(jnp.bool_, jaxtyping.Bool)
    complex64 = _Annotation(jnp.complex64, jaxtyping.Complex64)
    complex128 = _Annotation(jnp.complex128, jaxtyping.Complex128)
