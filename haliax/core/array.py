"""`NamedArray`: an array whose axes have names.

The class is a pair, an array and its axes, and nothing more. Its operators and methods are functions of the modules
of `haliax.ops` (`elementwise`, `reduce`, `contract`, `shape`, …), attached from one table by `haliax.ops.methods`; what
editors and type checkers see of them is in the generated stub `array.pyi`.

As a pytree it has one child, the array, and its axes are structure. The child may be anything that JAX puts there: a
tracer, a `jax.ShapeDtypeStruct`, a sharding, a gradient, None. Where it is an array of another shape, as a slice of
`jax.vmap` is, the axes are *stale*: using them is an error (see `haliax.core.stale`).

Inside a trace the array may be *held in another order* than that of its axes: a product gives its dimensions in the
order that suits the multiplication, and to transpose it at once would cost a copy that nobody may need. What goes by
name (elementwise functions, reductions, further products) works on the array as it is held; who asks for `array` gets
it transposed to the order of `axes`. So the order that is promised is the order that is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from haliax import errors
from haliax._compat import ConcreteArray
from haliax.axis import Axis, AxisSelection, AxisSpec, axes_of, check_distinct, ensure_tuple
from haliax.core import printing, staging
from haliax.core.annotations import NamedArrayMeta
from haliax.core.sizes import NamedShape
from haliax.core.stale import StaleAxes, fits, known_sizes, own_axes, remember_sizes

_shape_checks: ContextVar[bool] = ContextVar("haliax_shape_checks", default=True)


@dataclass(init=False, repr=False, eq=False)  # for `dataclasses.fields` and `replace`; nothing is generated
class NamedArray(metaclass=NamedArrayMeta):
    """An array with named axes: `NamedArray(jnp.ones((4, 8)), (Batch, Embed))`.

    `NamedArray["batch embed"]` is an annotation: see `haliax.core.annotations`.

    Args:
        array: a `jax.Array`, tracer, numpy array, number, or `jax.ShapeDtypeStruct`.
        axes: one `Axis` per dimension, in order; an `Axis` for one dimension, or a mapping from names to sizes.

    Raises:
        AxisError: if the axes do not fit the shape or a name is there twice.

    >>> Batch, Embed = hax.make_axes(batch=2, embed=3)
    >>> x = hax.NamedArray(jnp.ones((2, 3)), (Batch, Embed))
    >>> x
    f32[batch=2, embed=3] [[1. 1. 1.] [1. 1. 1.]]
    >>> x.sum("embed") + 1
    f32[batch=2] [4. 4.]
    """

    # `_node` is what JAX asks for most, the pytree node as a pair: its children, which are a tuple of the array,
    # `_StaleChildren` or `_Held`, and its structure, the axes.
    __slots__ = ("__weakref__", "_node", "axes")
    __hash__ = None  # type: ignore[assignment]  # == is elementwise

    array: Any
    axes: tuple[Axis, ...]

    def __init__(self, array: Any, axes: AxisSpec):
        if type(axes) is not tuple:
            axes = axes_of(axes)
        if not hasattr(array, "shape"):
            array = jnp.asarray(array) if isinstance(array, int | float | complex | list | np.generic) else array
        if _shape_checks.get():
            _check(getattr(array, "shape", None), axes)
        if staging.is_staging():
            array = staging.mark(array, tuple([axis.name for axis in axes]))
        _set_node(self, ((array,), axes))
        _set_axes(self, axes)

    def __setattr__(self, field: str, value: Any) -> None:
        raise errors.immutable(field)

    def __delattr__(self, field: str) -> None:
        raise errors.immutable(field)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unflatten, (own_axes(self.axes), (self.array,))

    @property
    def shape(self) -> dict[str, int]:
        """The sizes by name."""
        return NamedShape((axis.name, axis.size) for axis in self.axes)

    @property
    def dtype(self) -> Any:
        """The dtype of the array."""
        children = self._node[0]
        return (children.own if type(children) is _Held else self).array.dtype

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

    def __bool__(self) -> bool:
        if self.size != 1:
            raise errors.not_scalar(self)
        return bool(self.array.reshape(()) if self.axes else self.array)

    def __int__(self) -> int:
        return int(self.scalar())

    def __float__(self) -> float:
        return float(self.scalar())

    def __complex__(self) -> complex:
        return complex(self.scalar())

    def __repr__(self) -> str:
        return printing.array_text(self)

    __str__ = __repr__

    def __pdoc__(self, **_: Any) -> Any:
        import wadler_lindig

        return wadler_lindig.TextDoc(printing.shape_text(self))

    def __tree_pp__(self, **options: Any) -> Any:
        return self.__pdoc__(**options)

    def tree_flatten(self) -> tuple[tuple[Any], tuple[Axis, ...]]:
        """The child and the structure of the pytree node."""
        return (self.array,), own_axes(self.axes)

    @classmethod
    def tree_unflatten(cls, axes: tuple[Axis, ...], children: Sequence[Any]) -> NamedArray:
        """The pytree node with this structure and child; its axes are stale if that is an array of another shape."""
        return _unflatten(axes, children)


def _array(self: NamedArray) -> Any:
    """The array itself, whose dimensions are in the order of `axes`."""
    children = self._node[0]
    return children[0] if type(children) is tuple else next(iter(children))


NamedArray.array = property(_array)  # after `dataclass`, which would take it for the default of the field

_new: Callable[[type[NamedArray]], NamedArray] = object.__new__
_set_node = NamedArray._node.__set__  # type: ignore[attr-defined]
_set_axes = NamedArray.axes.__set__  # type: ignore[attr-defined]


class _StaleChildren(tuple[Any]):
    """The array of a NamedArray whose axes are stale."""

    __slots__ = ()


class _Held:
    """The array of `own`, transposed to the order of `axes` when it is asked for."""

    __slots__ = ("axes", "own")

    def __init__(self, own: NamedArray, axes: tuple[Axis, ...]):
        self.own, self.axes = own, axes

    def __iter__(self) -> Iterator[Any]:
        # Not kept: this may be inside of a trace within that of the array.
        yield jnp.transpose(self.own.array, [self.own.axes.index(axis) for axis in self.axes])


def wrap(array: Any, axes: tuple[Axis, ...]) -> NamedArray:
    """A NamedArray of a result whose axes are known to fit: unchecked, but marked while staging."""
    if staging.is_staging():
        array = staging.mark(array, tuple([axis.name for axis in axes]))
    return unchecked(array, axes)


def unchecked(array: Any, axes: tuple[Axis, ...]) -> NamedArray:
    """A NamedArray that is neither checked nor marked: where its names follow from those of operands, and for loops,
    whose slices have a dimension more or less.
    """
    if type(axes) is StaleAxes:
        axes.refuse()
    named_array = _new(NamedArray)
    _set_node(named_array, ((array,), axes))
    _set_axes(named_array, axes)
    return named_array


def _unflatten(axes: Any, children: Any) -> NamedArray:
    child: Any = children[0] if type(children) is tuple else None
    if type(child) is ConcreteArray and child.aval.shape == known_sizes(id(axes)):
        named_array = _new(NamedArray)
        _set_node(named_array, (children, axes))
        _set_axes(named_array, axes)
        return named_array
    return _unflatten_anything(axes, children)


def _unflatten_anything(axes: Any, children: Any) -> NamedArray:
    """The same where the axes are seen for the first time, or the child may be a tracer, no array, or of another
    shape.
    """
    if type(axes) is StaleAxes:
        axes = axes.own
    if type(children) is not tuple:
        children = tuple(children)
    (child,) = children
    if _is_stale(axes, child):
        children, axes = _StaleChildren(children), StaleAxes(axes, _shape_of(child))
    elif type(child) is ConcreteArray and type(axes) is tuple:
        remember_sizes(axes)
    named_array = _new(NamedArray)
    _set_node(named_array, (children, axes))
    _set_axes(named_array, axes)
    return named_array


def _is_stale(axes: tuple[Axis, ...], child: Any) -> bool:
    shape = _shape_of(child)
    if not isinstance(shape, tuple) or not _shape_checks.get():
        return False
    return isinstance(child, NamedArray) or not fits(axes, shape)


def _shape_of(child: Any) -> Any:
    return getattr(child.array if isinstance(child, NamedArray) else child, "shape", None)


def held(array: NamedArray) -> NamedArray:
    """The same with its axes in the order that the array is held in, so that nothing is transposed.

    Raises:
        AxisError: if its axes are stale.
    """
    children = array._node[0]
    if type(children) is tuple:
        return array
    return children.own if type(children) is _Held else array.axes.refuse()  # type: ignore[attr-defined]


def hold(array: NamedArray, axes: tuple[Axis, ...]) -> NamedArray:
    """The array as one whose axes are in the order `axes`. Inside a trace it is transposed only if someone asks."""
    if array.axes == axes:
        return array
    if not isinstance(array.array, Tracer):
        return unchecked(jnp.transpose(array.array, [array.axes.index(axis) for axis in axes]), axes)
    named_array = _new(NamedArray)
    _set_node(named_array, (_Held(array, axes), axes))
    _set_axes(named_array, axes)
    return named_array


_ARRAY_KEY = jax.tree_util.GetAttrKey("array")

jax.tree_util.register_pytree_with_keys(
    NamedArray,
    flatten_with_keys=lambda x: (((_ARRAY_KEY, x.array),), x.axes),
    unflatten_func=_unflatten,
    flatten_func=attrgetter("_node"),
)


def named(a: Any, axis: AxisSelection) -> NamedArray:
    """Gives the dimensions of an array names: `named(x, ("batch", "embed"))`, or with axes, whose sizes are checked.

    Args:
        a: an array or number with as many dimensions as there are axes; numpy arrays become JAX arrays.
        axis: an `Axis`, a name, a sequence of either, or a mapping from names to sizes.

    Raises:
        AxisError: if the axes do not fit the shape or a name is there twice.

    >>> hax.named(jnp.ones((2, 3)), ("batch", "embed"))
    f32[batch=2, embed=3] [[1. 1. 1.] [1. 1. 1.]]
    >>> hax.named([1, 2, 3], "position")
    i32[position=3] [1 2 3]
    """
    array = a.array if isinstance(a, NamedArray) else a
    if isinstance(array, np.ndarray | np.generic) or not hasattr(array, "shape"):
        array = jnp.asarray(array)
    return wrap(array, check_shape(array.shape, axis))


def raw_array_or_scalar(x: Any) -> Any:
    """The array of a NamedArray; anything else as it is."""
    return x.array if isinstance(x, NamedArray) else x


def check_shape(jnp_shape: Sequence[int], hax_axes: AxisSelection) -> tuple[Axis, ...]:
    """The axes of an array of this shape, whose names, or axes with their sizes, are `hax_axes`.

    Raises:
        AxisError: if there are more or fewer axes than dimensions, a size differs, or a name is there twice.
    """
    selectors = ensure_tuple(hax_axes)
    if len(selectors) != len(jnp_shape):
        raise errors.wrong_rank(jnp_shape, selectors)
    axes = tuple(
        Axis(selector, size) if isinstance(selector, str) else selector
        for selector, size in zip(selectors, jnp_shape, strict=True)
    )
    _check(tuple(jnp_shape), axes)
    return axes


def _check(shape: Any, axes: tuple[Axis, ...]) -> None:
    """Raises AxisError if the axes do not fit the shape, unless that is not one, or if a name is there twice."""
    if not isinstance(shape, tuple):
        return
    try:
        sizes = tuple([axis.size for axis in axes])
    except AttributeError:
        sizes = tuple([axis.size for axis in axes_of(axes)])  # says which of them is not an Axis
    if sizes != shape:
        raise errors.shape_mismatch(shape, axes)
    if len(axes) > 1:
        check_distinct(axes)


def are_shape_checks_enabled() -> bool:
    """Whether the constructor compares axes and shape."""
    return _shape_checks.get()


@contextmanager
def enable_shape_checks(enabled: bool = True) -> Iterator[bool]:
    """Within this context the constructor compares axes and shape, or with `False` does not; gives what it did before.

    >>> with hax.enable_shape_checks(False):
    ...     x = hax.NamedArray(jax.ShapeDtypeStruct((3, 2), jnp.float32), hax.make_axes(batch=2))
    >>> x.axes
    (Axis(name='batch', size=2),)
    """
    before = _shape_checks.get()
    token = _shape_checks.set(enabled)
    try:
        yield before
    finally:
        _shape_checks.reset(token)
