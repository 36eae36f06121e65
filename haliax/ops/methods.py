"""The one table of what is attached to `NamedArray`: its operators and methods are functions of this package.

A method *is* the function; its first parameter is the array. Importing this module attaches them all.
`python -m haliax.ops.stubs` writes the stub `array.pyi`, which shows them to editors and type checkers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from haliax import _compat
from haliax.core import axis_of
from haliax.core.array import NamedArray
from haliax.ops import align, contract, einops, elementwise, foreign, indexing, reduce, shape, sorting, updating

_NAMES = (
    (align, "broadcast_axis broadcast_to"),
    (axis_of, "axis_indices axis_size has_axis matches_axes resolve_axis"),
    (contract, "dot"),
    (einops, "rearrange"),
    (elementwise, "astype clip conj conjugate copy round"),
    (indexing, "slice take"),
    (reduce, "all any argmax argmin max mean min prod product ptp std sum trace var"),
    (shape, "flatten flatten_axes ravel rename split unbind unflatten_axis"),
    (sorting, "argsort cumprod cumsum sort"),
    (updating, "updated_slice"),
)

METHODS: dict[str, Callable[..., Any]] = {
    name: getattr(module, name) for module, names in _NAMES for name in names.split()
}

PROPERTIES: dict[str, Callable[..., Any]] = {
    "at": updating.at,
    "imag": elementwise.imag,
    "real": elementwise.real,
}

OPERATORS: dict[str, Callable[..., Any]] = {
    "__abs__": elementwise.abs,
    "__array__": foreign.numbers,
    "__array_ufunc__": elementwise.numpy_ufunc,
    "__eq__": elementwise.equal,
    "__ge__": elementwise.greater_equal,
    "__getitem__": indexing.getitem,
    "__gt__": elementwise.greater,
    "__invert__": elementwise.invert,
    "__le__": elementwise.less_equal,
    "__lt__": elementwise.less,
    "__matmul__": contract.matmul,
    "__ne__": elementwise.not_equal,
    "__neg__": elementwise.negative,
    "__pos__": elementwise.positive,
}


# What Python, numpy and JAX ask of arrays, and a NamedArray refuses or answers by name; no stub shows these.
ANSWERS: dict[str, Any] = {
    "__array_function__": foreign.numpy_function,
    "__contains__": foreign.contains,
    "__iter__": foreign.iterate,
    "__jax_array__": property(foreign.jax_array),
    "__len__": foreign.length,
}

# Each of these is attached twice: as `__add__`, and with its operands the other way round as `__radd__`.
ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": elementwise.add,
    "and": elementwise.bitwise_and,
    "divmod": elementwise.divmod,
    "floordiv": elementwise.floor_divide,
    "lshift": elementwise.left_shift,
    "mod": elementwise.mod,
    "mul": elementwise.multiply,
    "or": elementwise.bitwise_or,
    "pow": elementwise.power,
    "rshift": elementwise.right_shift,
    "sub": elementwise.subtract,
    "truediv": elementwise.true_divide,
    "xor": elementwise.bitwise_xor,
}


def _reflected(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def reflected(self: NamedArray, other: Any) -> Any:
        return function(other, self)

    return reflected


def attached() -> dict[str, Any]:
    """Everything that is attached to `NamedArray`, by name."""
    table: dict[str, Any] = {**METHODS, **OPERATORS, **ANSWERS}
    table |= {name: property(function, doc=function.__doc__) for name, function in PROPERTIES.items()}
    table |= {f"__{name}__": function for name, function in ARITHMETIC.items()}
    table |= {f"__r{name}__": _reflected(function) for name, function in ARITHMETIC.items()}
    table["__rmatmul__"] = _reflected(contract.matmul)
    return table


for _name, _function in attached().items():
    setattr(NamedArray, _name, _function)
_compat.refuse_in_primitives(NamedArray, foreign.refuse_in_primitive)
