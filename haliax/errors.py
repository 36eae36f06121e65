"""Every wording of every error of haliax, each once.

A message says what is wrong, shows each operand with its named shape, and proposes the fix. The functions here build
the exceptions; the caller raises them. The user's own line, the innermost one outside of this library, is attached as a
note, so that it is read below the message in a traceback.
"""

from __future__ import annotations

import difflib
import linecache
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from haliax import pretty

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_LIBRARIES = tuple(f"{os.sep}site-packages{os.sep}{name}{os.sep}" for name in ("jax", "jaxlib", "equinox", "typeguard"))


class AxisError(ValueError):
    """Axes that do not fit: absent, twice there, of two sizes, or not broadcastable."""


class NamedTypeError(TypeError):
    """A value of the wrong kind where a NamedArray, a selector or an index is expected."""


def user_line() -> str | None:
    """`model.py:12: y = x + z` for the innermost line of the call stack that is not in a library."""
    frame = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        if not filename.startswith((_PACKAGE, "<")) and not any(part in filename for part in _LIBRARIES):
            code = linecache.getline(filename, frame.f_lineno).strip()
            return f"{os.path.basename(filename)}:{frame.f_lineno}: {code}"
        frame = frame.f_back
    return None


def _placed(error: Any) -> Any:
    line = user_line()
    if line is not None:
        error.add_note(line)
    return error


def _axis_error(message: str) -> AxisError:
    return _placed(AxisError(message))


def _type_error(message: str) -> NamedTypeError:
    return _placed(NamedTypeError(message))


def _shown(value: Any) -> str:
    """The named shape of a value, or `[batch=4]` for a bare sequence of axes."""
    if isinstance(value, tuple | list):
        return f"[{pretty.axes_text(value)}]"
    return pretty.shape_text(value)


def _all_shown(values: Iterable[Any]) -> str:
    return " and ".join(_shown(value) for value in values)


def _names(value: Any) -> list[str]:
    axes = value if isinstance(value, tuple | list) else getattr(value, "axes", ())
    return [axis if isinstance(axis, str) else axis.name for axis in axes]


def nearest(name: str, candidates: Iterable[str]) -> str:
    """`; did you mean `embed`?` where a candidate is near, else the empty string."""
    close = difflib.get_close_matches(name, list(candidates), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


# --- axes ---------------------------------------------------------------------------------------------------------


def axis_not_found(name: str, *owners: Any) -> AxisError:
    known = [known_name for owner in owners for known_name in _names(owner)]
    return _axis_error(f"axis `{name}` is not in {_all_shown(owners)}{nearest(name, known)}")


def wrong_axis_size(selector: Any, owner: Any) -> AxisError:
    return _axis_error(
        f"axis `{selector.name}` was asked for with size {selector.size}, but it has another size in {_shown(owner)}: "
        f"give the name alone, or resize the axis"
    )


def two_sizes(name: str, first_size: int, first: Any, second_size: int, second: Any) -> AxisError:
    return _axis_error(
        f"axis `{name}` has two sizes: {first_size} in {_shown(first)} and {second_size} in {_shown(second)}: "
        f"slice or rename one of them"
    )


def duplicate_axis(axes: Sequence[Any]) -> AxisError:
    names = _names(list(axes))
    twice = next(name for name in names if names.count(name) > 1)
    return _axis_error(f"axis `{twice}` is there twice in {_shown(list(axes))}: rename one of them")


def axis_without_size(axis: Any) -> AxisError:
    return _axis_error(f"a size is needed here, and `{axis}` has none: give Axis({axis!r}, size)")


def bad_axis_name(name: Any) -> NamedTypeError:
    return _type_error(f"the name of an axis is a string, not {name!r}: write Axis(name, size)")


def negative_axis_size(name: str, size: int) -> AxisError:
    return _axis_error(f"axis `{name}` cannot have the negative size {size}")


def axis_exists(name: str, owner: Any) -> AxisError:
    return _axis_error(f"axis `{name}` is already in {_shown(owner)}: choose another name, or rename that one first")


def shape_mismatch(shape: Sequence[int], axes: Sequence[Any]) -> AxisError:
    sizes = tuple(axis.size for axis in axes)
    hint = "" if sorted(shape) != sorted(sizes) else ": the same sizes in another order"
    return _axis_error(f"an array of shape {tuple(shape)} cannot have the axes {_shown(list(axes))}{hint}")


def wrong_rank(array: Any, names: Sequence[str]) -> AxisError:
    return _axis_error(f"{_shown(array)} has {len(array.shape)} dimensions, but {len(names)} names: {', '.join(names)}")


def not_broadcastable(*operands: Any) -> AxisError:
    return _axis_error(
        f"cannot broadcast {_all_shown(operands)}: none has all axes of the others; "
        f"say which you want with `broadcast_axis` or `broadcast_to`, or rename an axis"
    )


def unnamed_operand(named: Any, unnamed: Any) -> AxisError:
    return _axis_error(
        f"cannot broadcast {_shown(named)} with the unnamed {_shown(unnamed)}: name its axes with `haliax.named`"
    )


def different_axes(what: str, *operands: Any) -> AxisError:
    return _axis_error(f"{what} needs the same axes everywhere, not {_all_shown(operands)}")


def axes_missing_in_target(missing: Sequence[str], array: Any, target: Sequence[Any]) -> AxisError:
    return _axis_error(f"{_shown(array)} cannot become {_shown(list(target))}, which lacks `{missing[0]}`")


def not_divisible(what: str, size: int, parts: int) -> AxisError:
    return _axis_error(f"{what} of size {size} cannot be cut in parts of {parts}: it does not divide")


def sizes_do_not_sum(name: str, size: int, total: int) -> AxisError:
    return _axis_error(f"the parts of axis `{name}` have {total} elements together, but it has {size}")


def sizes_do_not_multiply(name: str, size: int, axes: Sequence[Any]) -> AxisError:
    return _axis_error(f"axis `{name}` of size {size} cannot be unflattened to {_shown(list(axes))}: wrong product")


def nothing_to_flatten(array: Any) -> AxisError:
    return _axis_error(f"flatten_axes of {_shown(array)} was given no axes to merge")


def one_for_each_axis(values: Any, names: Sequence[str]) -> AxisError:
    return _axis_error(f"{tuple(values)} must be one value for each of the axes {', '.join(f'`{n}`' for n in names)}")


def same_axis_in_and_out(module: str, name: str) -> AxisError:
    return _axis_error(
        f"{module} has `{name}` both in In and Out, and one array cannot have it twice: "
        f'give Out another name, Axis.alias("{name}_out"), and rename the result'
    )


def query_has_key_position(name: str, query: Any, key: Any) -> AxisError:
    return _axis_error(
        f"attention over `{name}`, which both the query {_shown(query)} and the key {_shown(key)} have: "
        f'rename it in the keys and values, rename({{"{name}": "key_{name}"}}), and attend over that'
    )


# --- kinds of values ----------------------------------------------------------------------------------------------


def not_named(function: str, value: Any) -> NamedTypeError:
    return _type_error(
        f"{function} needs a NamedArray, not {type(value).__name__} ({_shown(value)}): name it with `haliax.named`"
    )


def axis_of_unnamed(function: str, value: Any) -> AxisError:
    return _axis_error(f"{function} was given an axis by name, but {_shown(value)} has none: use `haliax.named` first")


def not_an_axis(value: Any) -> NamedTypeError:
    return _type_error(f"an axis is an Axis or a name, not {type(value).__name__} ({_shown(value)})")


def not_scalar(array: Any) -> AxisError:
    return _axis_error(f"{_shown(array)} is not a scalar: reduce its axes first")


def not_a_vector(function: str, array: Any) -> AxisError:
    return _axis_error(f"{function} needs an array with one axis, not {_shown(array)}")


def immutable(field: str) -> AttributeError:
    return _placed(AttributeError(f"a NamedArray does not change: `{field}` cannot be set; build a new one"))


def no_operands(function: str) -> NamedTypeError:
    return _type_error(f"{function} needs at least one NamedArray")


def matmul(first: Any, second: Any) -> NamedTypeError:
    return _type_error(
        f"@ does not say which axis of {_all_shown([first, second])} to sum over: write haliax.dot(a, b, axis=...)"
    )


def wrong_parameters(function: str, names: Sequence[str]) -> NamedTypeError:
    return _type_error(f"random.{function} takes {', '.join(['key', 'shape', *names, 'dtype'])}")


def targets_without_label(name: str, logits: Any, targets: Any) -> NamedTypeError:
    return _type_error(
        f"the targets {_shown(targets)} of logits {_shown(logits)} lack the axis `{name}`, so they must be integers: "
        f"give classes as integers, or probabilities with the axis `{name}`"
    )


def dropout_without_key() -> ValueError:
    return _placed(ValueError("dropout needs a random key: pass key=..., or inference=True to drop nothing"))


# --- indexing -----------------------------------------------------------------------------------------------------


def index_out_of_range(name: str, index: int, array: Any) -> IndexError:
    return _placed(IndexError(f"index {index} is out of range for axis `{name}` of {_shown(array)}"))


def slice_out_of_range(name: str, start: int, length: int, array: Any) -> IndexError:
    return _placed(
        IndexError(f"the slice from {start} of length {length} is out of range for axis `{name}` of {_shown(array)}")
    )


def slice_without_length(name: str, array: Any) -> NamedTypeError:
    return _type_error(
        f"a slice of axis `{name}` of {_shown(array)} needs a length: give length=..., or an Axis as new_axis"
    )


def bad_index(index: Any) -> NamedTypeError:
    return _type_error(
        f'cannot index with {_shown(index)}: use names, x["batch", 0] or x[{{"batch": 0}}], '
        f"with integers, slices or integer arrays"
    )


def layer_out_of_range(number: int, axis: Any) -> IndexError:
    return _placed(IndexError(f"there is no layer {number}: `{axis.name}` has {axis.size} layers"))


# --- patterns -----------------------------------------------------------------------------------------------------


def bad_pattern(pattern: str, problem: str) -> ValueError:
    return _placed(ValueError(f'the pattern "{pattern}" cannot be read: {problem}'))


def pattern_rank(pattern: str, words: int, array: Any) -> AxisError:
    return _axis_error(
        f'the pattern "{pattern}" lists {words} axes in order, but the array is {_shown(array)}: '
        f"put `...` for the others, or braces to go by name"
    )


def pattern_forgets(pattern: str, names: Sequence[str], array: Any) -> AxisError:
    return _axis_error(
        f'the right side of "{pattern}" forgets `{names[0]}` of {_shown(array)}: name it, or put `...` for the others'
    )


# --- loops --------------------------------------------------------------------------------------------------------


def nothing_to_map(function: str, axis: Any, operands: Sequence[Any]) -> AxisError:
    name = axis if isinstance(axis, str) else axis.name
    known = [known_name for operand in operands for known_name in _names(operand)]
    shown = _all_shown(operands[:6]) if operands else "no arrays at all"
    return _axis_error(f"{function} over `{name}`, which no argument has: it was given {shown}{nearest(name, known)}")


def leading_size(function: str, axis: Any, array: Any) -> AxisError:
    return _axis_error(
        f"{function} over `{axis.name}` of size {axis.size} maps the first dimension of an unnamed array, "
        f"but {_shown(array)} has another size there: name its axes, or exclude it (is_scanned, default, args)"
    )


def unknown_checkpoint_policy(name: str, known: Sequence[str]) -> ValueError:
    return _placed(
        ValueError(
            f"there is no checkpoint policy `{name}`: give True, False, a ScanCheckpointPolicy or one of "
            f"{', '.join(known)}{nearest(name, known)}"
        )
    )


# --- state dicts --------------------------------------------------------------------------------------------------


def array_without_name() -> ValueError:
    return _placed(ValueError("an array by itself has no name in a state dict: give a prefix"))


def missing_entry(name: str, names: Sequence[str]) -> KeyError:
    return _placed(KeyError(f"the state dict has no `{name}`{nearest(name, names)}"))


def entry_shape(name: str, shape: Sequence[int], expected: Sequence[int]) -> AxisError:
    return _axis_error(f"`{name}` of the state dict has shape {tuple(shape)}, where {tuple(expected)} is expected")


# --- partitioning -------------------------------------------------------------------------------------------------


def no_mapping(function: str) -> AxisError:
    return _axis_error(f"{function} needs an axis mapping: give one, or call it within `haliax.axis_mapping(...)`")


def no_mesh(function: str) -> AxisError:
    return _axis_error(f"{function} needs a mesh: call it within `haliax.partitioning.set_mesh(mesh)`")


def unknown_mesh_axis(name: str, mesh_axes: Sequence[str]) -> AxisError:
    known = ", ".join(f"`{axis}`" for axis in mesh_axes)
    return _axis_error(f"the mesh has no axis `{name}` (it has {known}){nearest(name, mesh_axes)}")
