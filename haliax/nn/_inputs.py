"""What layers say of an argument that does not fit: which layer, which argument, which axis."""

from __future__ import annotations

from typing import Any

from haliax import errors
from haliax.axis import Axis, AxisSelection, AxisSpec, ensure_tuple, names_of
from haliax.core.array import NamedArray


def require(layer: str, argument: str, array: Any, axes: AxisSelection, **shown: AxisSpec | None) -> None:
    """Raises if an argument of a layer is not a NamedArray with these axes.

    Args:
        layer: the layer or function, for the error.
        argument: the name of the argument, for the error.
        array: what was given.
        axes: the axes, or names, that it needs.
        shown: the axes that tell the layer apart, by the name of its field.

    Raises:
        NamedTypeError: if it is not a NamedArray.
        AxisError: if it lacks an axis, or has it with another size.
    """
    if not isinstance(array, NamedArray):
        raise errors.layer_needs_named(_called(layer, shown), argument, array)
    for needed in (axes,) if isinstance(axes, str | Axis) else ensure_tuple(axes):
        if isinstance(needed, str):
            if all(axis.name != needed for axis in array.axes):
                raise errors.layer_lacks_axis(_called(layer, shown), argument, needed, array)
        elif needed not in array.axes:
            if all(axis.name != needed.name for axis in array.axes):
                raise errors.layer_lacks_axis(_called(layer, shown), argument, needed.name, array)
            raise errors.layer_axis_size(_called(layer, shown), argument, needed, array)


def _called(layer: str, shown: dict[str, AxisSpec | None]) -> str:
    """`Linear(In=embed, Out=(heads, head_size))`."""
    fields = [f"{field}={_names(axes)}" for field, axes in shown.items() if axes is not None]
    return f"{layer}({', '.join(fields)})" if fields else layer


def _names(axes: AxisSpec) -> str:
    names = names_of(axes)
    return names[0] if len(names) == 1 else f"({', '.join(names)})"
