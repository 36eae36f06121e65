"""`NamedArray`: an array whose axes have names.

The class is a pair, an array and its axes, and nothing more. Its operators and methods are functions of the modules
around (`elementwise`, `reduce`, `contract`, `shape`, …), attached from one table by `haliax.methods`; what editors and
type checkers see of them is in the generated stub `array.pyi`.

As a pytree it has one child, the array, and its axes are structure. Flattening and unflattening do no checks, so the
child may be anything that JAX puts there: a tracer, a `jax.ShapeDtypeStruct`, a sharding, a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from haliax import errors, pretty, staging
from haliax.axis import Axis, check_distinct

_shape_checks: ContextVar[bool] = ContextVar("haliax_shape_checks", default=True)


class NamedArray:
    """An array with named axes: `NamedArray(jnp.ones((4, 8)), (Batch, Embed))`.

    Args:
        array: a `jax.Array`, tracer, numpy array, number, or `jax.ShapeDtypeStruct`.
        axes: one `Axis` per dimension, in order.

    Raises:
        AxisError: if the axes do not fit the shape or a name is there twice.
    """

    __slots__ = ("__weakref__", "array", "axes")
    __hash__ = None  # type: ignore[assignment]  # == is elementwise

    def __init__(self, array: Any, axes: Sequence[Axis]):
        if isinstance(axes, Axis):
            axes = (axes,)
        axes = tuple(axes)
        if not hasattr(array, "shape"):
            array = jnp.asarray(array) if isinstance(array, int | float | complex | list | np.generic) else array
        if _shape_checks.get():
            check_shape(array, axes)
        if staging.is_staging():
            array = staging.mark(array, tuple([axis.name for axis in axes]))
        _set_array(self, array)
        _set_axes(self, axes)

    def __setattr__(self, field: str, value: Any) -> None:
        raise errors.immutable(field)

    def __delattr__(self, field: str) -> None:
        raise errors.immutable(field)

    def __reduce__(self) -> tuple[Any, ...]:
        return _make, (self.array, self.axes)

    @property
    def shape(self) -> dict[str, int]:
        """The sizes by name."""
        return {axis.name: axis.size for axis in self.axes}

    @property
    def dtype(self) -> Any:
        """The dtype of the array."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.axes)

    @property
    def size(self) -> int:
        """How many elements there are."""
        return int(np.prod([axis.size for axis in self.axes], dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """The size of the array in bytes."""
        return self.size * self.array.dtype.itemsize

    def scalar(self) -> Any:
        """The array of a NamedArray without axes.

        Raises:
            AxisError: if it has axes.
        """
        if self.axes:
            raise errors.not_scalar(self)
        return self.array

    def item(self) -> Any:
        """The only element, as a Python number."""
        return self.array.item()

    def tolist(self) -> Any:
        """The numbers as nested lists."""
        return np.asarray(self.array).tolist()

    def tobytes(self, order: Any = "C") -> bytes:
        """The bytes of the array."""
        return np.asarray(self.array).tobytes(order)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        numbers = np.asarray(self.array)
        return numbers.astype(dtype) if dtype is not None and numbers.dtype != dtype else numbers

    def __bool__(self) -> bool:
        return bool(self._only())

    def __int__(self) -> int:
        return int(self._only())

    def __float__(self) -> float:
        return float(self._only())

    def __complex__(self) -> complex:
        return complex(self._only())

    def _only(self) -> Any:
        if self.size != 1:
            raise errors.not_scalar(self)
        return self.array.reshape(()) if self.axes else self.array

    def __repr__(self) -> str:
        return pretty.array_text(self)

    __str__ = __repr__

    def __pdoc__(self, **_: Any) -> Any:
        import wadler_lindig

        return wadler_lindig.TextDoc(pretty.shape_text(self))

    def __tree_pp__(self, **options: Any) -> Any:
        return self.__pdoc__(**options)

    def tree_flatten(self) -> tuple[tuple[Any], tuple[Axis, ...]]:
        """The child and the structure of the pytree node."""
        return (self.array,), self.axes

    @classmethod
    def tree_unflatten(cls, axes: tuple[Axis, ...], children: Sequence[Any]) -> NamedArray:
        """The pytree node with this structure and child; nothing is checked."""
        return _unflatten(axes, children)


_new: Callable[[type[NamedArray]], NamedArray] = object.__new__
_set_array = NamedArray.array.__set__  # type: ignore[attr-defined]
_set_axes = NamedArray.axes.__set__  # type: ignore[attr-defined]


def wrap(array: Any, axes: tuple[Axis, ...]) -> NamedArray:
    """A NamedArray of a result whose axes are known to fit: unchecked, but marked while staging."""
    if staging.is_staging():
        array = staging.mark(array, tuple([axis.name for axis in axes]))
    named_array = _new(NamedArray)
    _set_array(named_array, array)
    _set_axes(named_array, axes)
    return named_array


def _make(array: Any, axes: tuple[Axis, ...]) -> NamedArray:
    named_array = _new(NamedArray)
    _set_array(named_array, array)
    _set_axes(named_array, axes)
    return named_array


def _unflatten(axes: tuple[Axis, ...], children: Any) -> NamedArray:
    named_array = _new(NamedArray)
    _set_array(named_array, children[0])
    _set_axes(named_array, axes)
    return named_array


_ARRAY_KEY = jax.tree_util.GetAttrKey("array")

jax.tree_util.register_pytree_with_keys(
    NamedArray,
    flatten_with_keys=lambda x: (((_ARRAY_KEY, x.array),), x.axes),
    unflatten_func=_unflatten,
    flatten_func=lambda x: ((x.array,), x.axes),
)


def unchecked(array: Any, axes: tuple[Axis, ...]) -> NamedArray:
    """A NamedArray that is neither checked nor marked: for loops, whose slices have a dimension more or less."""
    return _make(array, axes)


def named(array: Any, axis: Any) -> NamedArray:
    """Gives the dimensions of an array names: `named(x, ("batch", "embed"))`, or with axes, whose sizes are checked.

    Args:
        array: an array or number with as many dimensions as there are axes.
        axis: an `Axis`, a name, a sequence of either, or a mapping from names to sizes.

    Raises:
        AxisError: if the axes do not fit the shape or a name is there twice.
    """
    from haliax.axis import ensure_tuple

    if isinstance(array, NamedArray):
        array = array.array
    if not hasattr(array, "shape"):
        array = jnp.asarray(array)
    selectors = ensure_tuple(axis)
    if len(selectors) != len(array.shape):
        sized = [s if isinstance(s, Axis) else Axis(s, 0) for s in selectors]
        raise errors.wrong_rank(array, [a.name for a in sized])
    axes = tuple(
        Axis(selector, size) if isinstance(selector, str) else selector
        for selector, size in zip(selectors, array.shape, strict=True)
    )
    return NamedArray(array, axes)


def check_shape(array: Any, axes: Sequence[Axis]) -> None:
    """Raises AxisError if the axes do not fit the shape of the array or a name is there twice."""
    shape = getattr(array, "shape", None)
    if shape is None or not isinstance(shape, tuple):
        return
    if tuple([axis.size for axis in axes]) != shape:
        raise errors.shape_mismatch(shape, axes)
    if len(axes) > 1:
        check_distinct(axes)


def are_shape_checks_enabled() -> bool:
    """Whether the constructor compares axes and shape."""
    return _shape_checks.get()


@contextmanager
def enable_shape_checks(enabled: bool = True) -> Iterator[None]:
    """Within this context the constructor compares axes and shape, or with `False` does not."""
    token = _shape_checks.set(enabled)
    try:
        yield
    finally:
        _shape_checks.reset(token)
