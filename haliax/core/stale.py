"""Axes that their array does not have any more.

A NamedArray is a pytree whose one child is the array, and JAX puts back whatever it made of the child: `jax.vmap`,
`jax.lax.map` and `jax.lax.scan` hand a function arrays with a dimension less and give back results with one more,
`jax.jacobian` gives derivatives with the dimensions of two arrays, `jax.shard_map` local blocks. None of them knows of
names. Such a value may pass through trees, be printed, and be asked for its `array`; but what its names say is wrong,
so every use of them is an error. The axes themselves are what raises it: they are equal to the tuple that they were,
as the structure of a tree has to be, and anything that looks into them is an error. So no function has to check.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, NoReturn

from haliax import errors
from haliax.axis import Axis


class StaleAxes(tuple[Axis, ...]):
    """The axes of an array of another shape.

    Args:
        axes: what the axes were.
        array_shape: the shape of the array that stands under them.
    """

    own: tuple[Axis, ...]
    array_shape: tuple[int, ...]

    def __new__(cls, axes: tuple[Axis, ...], array_shape: tuple[int, ...]) -> Any:
        stale = super().__new__(cls, axes)
        stale.own, stale.array_shape = axes, array_shape
        return stale

    def refuse(self, *_: Any) -> NoReturn:
        """Raises AxisError: which axes there are, which shape there is, and what to do."""
        raise errors.stale_axes(self.own, self.array_shape)

    def __reduce__(self) -> tuple[Any, ...]:
        return StaleAxes, (self.own, self.array_shape)

    __add__ = __bool__ = __contains__ = __getitem__ = __iter__ = __len__ = __mul__ = __rmul__ = refuse
    __radd__ = count = index = refuse
    __lt__ = __le__ = __gt__ = __ge__ = refuse


def own_axes(axes: Any) -> tuple[Axis, ...]:
    """The axes as a plain tuple, stale or not."""
    return axes.own if type(axes) is StaleAxes else axes


def fits(axes: tuple[Axis, ...], shape: tuple[Any, ...]) -> bool:
    """Whether an array of this shape can have the axes."""
    return len(axes) == len(shape) and all(axis.size == size for axis, size in zip(axes, shape, strict=True))


# To compare sizes one by one costs as much as making a NamedArray, and a call of a compiled function makes many from
# the same few tuples of axes. So their sizes are found by the identity of the tuple, which is kept alive beside them.
_MOST_KNOWN = 4096
_sizes: dict[int, tuple[int, ...]] = {}
_kept_alive: dict[int, tuple[Axis, ...]] = {}
_lock = Lock()

known_sizes: Callable[[int], tuple[int, ...] | None] = _sizes.get
"""The sizes of the axes with this `id`; None if they are not known."""


def remember_sizes(axes: tuple[Axis, ...]) -> None:
    """Makes the sizes of the axes known, for as long as there is room."""
    with _lock:
        if len(_sizes) >= _MOST_KNOWN:
            _sizes.clear()
            _kept_alive.clear()
        _kept_alive[id(axes)] = axes
        _sizes[id(axes)] = tuple([axis.size for axis in axes])
