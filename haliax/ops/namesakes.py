"""What of another library's arrays a NamedArray lacks: `x.T`, `x.reshape`, `x.relu` say what goes by name instead.

Each is a property that raises AttributeError, so that `hasattr` stays true to what there is. A `__getattr__` would say
the same and slow down every other attribute. Importing this module attaches them, after all else of haliax is there.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from haliax import errors
from haliax.core.array import NamedArray


def _refused(name: str, array: NamedArray) -> Any:
    raise errors.no_attribute(array, name)


ABSENT = frozenset(name for name in errors.names_with_a_hint() if not hasattr(NamedArray, name))
"""The names that are attached only to be refused."""


def _present(array: NamedArray) -> list[str]:
    """The names of the attributes, without those that are refused."""
    return sorted(set(object.__dir__(array)) - ABSENT)


_ATTACHED: dict[str, Any] = {name: property(partial(_refused, name)) for name in sorted(ABSENT)}
for _name, _value in (_ATTACHED | {"__dir__": _present}).items():
    setattr(NamedArray, _name, _value)
