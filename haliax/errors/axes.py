"""Errors about axes: absent, twice there, of other sizes than expected, not to be broadcast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from haliax.errors.base import (
    AxisError,
    AxisSizeError,
    AxisTypeError,
    NamedTypeError,
    all_shown,
    axis_error,
    names_in,
    placed,
    shown,
    type_error,
)
from haliax.errors.suggest import nearest


def axis_not_found(name: str, *owners: Any) -> AxisError:
    known = [known_name for owner in owners for known_name in names_in(owner)]
    return axis_error(f"axis `{name}` is not in {all_shown(owners)}{nearest(name, known)}")


def wrong_axis_size(selector: Any, owner: Any) -> AxisSizeError:
    return placed(
        AxisSizeError(
            f"axis `{selector.name}` was asked for with size {selector.size}, but it has another size in "
            f"{shown(owner)}: give the name alone, or resize the axis"
        )
    )


def two_sizes(name: str, first_size: int, first: Any, second_size: int, second: Any) -> AxisError:
    return axis_error(
        f"axis `{name}` has two sizes: {first_size} in {shown(first)} and {second_size} in {shown(second)}: "
        f"slice or rename one of them"
    )


def duplicate_axis(axes: Sequence[Any]) -> AxisError:
    names = names_in(list(axes))
    twice = next(name for name in names if names.count(name) > 1)
    return axis_error(f"duplicate axis `{twice}` in {shown(list(axes))}: rename one of them")


def axis_without_size(axis: Any) -> AxisTypeError:
    return placed(AxisTypeError(f"axis `{axis}` needs a size here: give Axis({axis!r}, size)"))


def bad_axes_annotation(spec: Any) -> NamedTypeError:
    return type_error(
        f'{spec!r} does not describe axes: write "batch ... embed", ("batch", ..., "embed") or, for any order, '
        f'{{"batch", "embed", ...}}, with names and at most one `...`'
    )


def incomplete_order(order: Sequence[Any], axes: Sequence[Any]) -> AxisError:
    missing = next(name for name in names_in(list(axes)) if name not in names_in(list(order)))
    return axis_error(
        f"the order {shown(list(order))} of {shown(list(axes))} leaves out `{missing}`: "
        f"name it, or put `...` for the others"
    )


def nothing_satisfies() -> ValueError:
    return placed(ValueError("no element satisfies the predicate"))


def bad_axis_name(name: Any) -> NamedTypeError:
    return type_error(f"the name of an axis must be a string, not {name!r}: write Axis(name, size)")


def negative_axis_size(name: str, size: int) -> AxisError:
    return axis_error(f"axis `{name}` cannot have size {size}: sizes must be at least 0")


def bad_axis_size(name: str, size: Any) -> NamedTypeError:
    whole = f": write Axis({name!r}, {int(size)})" if isinstance(size, float) and size.is_integer() else ""
    given = shown(size) if hasattr(size, "shape") else repr(size)
    return type_error(f"the size of axis `{name}` must be an integer, not {type(size).__name__} ({given}){whole}")


def traced_axis_size(name: str) -> NamedTypeError:
    return type_error(
        f"the size of axis `{name}` is traced, and the shapes of a compiled function must be known: "
        f"pass the size as a Python integer, static under jit"
    )


def shape_mismatch(shape: Sequence[int], axes: Sequence[Any]) -> AxisError:
    sizes = tuple(axis.size for axis in axes)
    hint = "give them in the order of the dimensions" if sorted(shape) == sorted(sizes) else "their sizes differ"
    return axis_error(f"an array of shape {tuple(shape)} cannot have the axes {shown(list(axes))}: {hint}")


def stale_axes(axes: Sequence[Any], shape: Sequence[int]) -> AxisError:
    """Of a NamedArray that JAX gave an array of another shape: see `haliax.core.stale`."""
    owner = f"the axes {shown(list(axes))} are not those of the array, whose shape is {tuple(shape)}"
    if len(shape) == len(axes):
        return axis_error(
            f"{owner}: it was sliced without its names, as jax.shard_map and jax.tree.map do. "
            f"Slice by name, or name what there is: haliax.named(x, {_as_code(names_in(list(axes)))})"
        )
    if len(shape) > len(axes):
        return axis_error(
            f"{owner}: it was given dimensions without names, as the results of jax.vmap, jax.lax.scan and "
            "jax.jacobian are. Map by name (haliax.vmap, haliax.map, haliax.scan), or name them all: "
            "haliax.named(x, (...))"
        )
    gone = _taken_away(axes, shape)
    if gone is None:
        which, axis, left = "", "axis", "(...)"
    else:
        which, axis = f"over `{gone}` ", f'"{gone}"'
        left = _as_code([name for name in names_in(list(axes)) if name != gone])
    return axis_error(
        f"{owner}: it was sliced without its names, as jax.vmap, jax.lax.map, jax.lax.scan and eqx.filter_vmap do. "
        f"To map {which}by name, use haliax.vmap(f, {axis}), haliax.map(f, {axis}), haliax.scan(f, {axis}) or "
        f"haliax.nn.Stacked; or name what is left: haliax.named(x, {left})"
    )


def _taken_away(axes: Sequence[Any], shape: Sequence[int]) -> str | None:
    """The name of the one axis without which the others have this shape; None if there is none or several."""
    sizes = [axis.size for axis in axes]
    gone = [axis.name for at, axis in enumerate(axes) if sizes[:at] + sizes[at + 1 :] == list(shape)]
    return gone[0] if len(gone) == 1 else None


def _as_code(names: Sequence[str]) -> str:
    inside = ", ".join(f'"{name}"' for name in names)
    return f"({inside},)" if len(names) == 1 else f"({inside})"


def wrong_rank(shape: Sequence[int], axes: Sequence[Any]) -> AxisError:
    return axis_error(
        f"an array of shape {tuple(shape)} cannot have the axes {shown(list(axes))}: give one for each dimension"
    )


def not_broadcastable(*operands: Any) -> AxisError:
    return axis_error(
        f"cannot broadcast {all_shown(operands)}: none has all axes of the others; "
        f"say which you want with `broadcast_axis` or `broadcast_to`, or rename an axis"
    )


def unnamed_operand(named: Any, unnamed: Any) -> AxisError:
    return axis_error(
        f"cannot broadcast {shown(named)} with the unnamed {shown(unnamed)}: name its axes with `haliax.named`"
    )


def not_an_operand(function: str, operand: Any) -> NamedTypeError:
    return type_error(f"{function} takes arrays and numbers, not {type(operand).__name__} ({operand!r})")


def where_needs(what: str) -> ValueError:
    return placed(ValueError(f"where(condition, x, y) or where(condition, fill_value=..., new_axis=...): {what}"))


def different_axes(what: str, *operands: Any) -> AxisError:
    return axis_error(
        f"{what} needs the same axes everywhere, not {all_shown(operands)}: rename, slice or broadcast one of them"
    )


def axes_missing_in_target(missing: Sequence[str], array: Any, target: Sequence[Any]) -> AxisError:
    return axis_error(
        f"{shown(array)} cannot become {shown(list(target))}, which lacks `{missing[0]}`: reduce or index that first"
    )


def not_divisible(what: str, size: int, parts: int) -> AxisError:
    return axis_error(f"{what} of size {size} cannot be cut into parts of {parts}: {size} is not divisible by {parts}")


def sizes_do_not_sum(name: str, size: int, total: int) -> AxisError:
    return axis_error(
        f"the parts of axis `{name}` have {total} elements in total, but the axis has {size}: "
        f"give sizes that sum to {size}"
    )


def sizes_do_not_multiply(name: str, size: int, axes: Sequence[Any]) -> AxisError:
    product = math.prod(axis.size for axis in axes)
    return axis_error(
        f"axis `{name}` has size {size}, and {shown(list(axes))} have {product} elements in total: "
        f"give sizes that multiply to {size}"
    )


def one_for_each_axis(values: Any, names: Sequence[str]) -> AxisError:
    return axis_error(f"{tuple(values)} must be one value for each of the axes {', '.join(f'`{n}`' for n in names)}")


def same_axis_in_and_out(module: str, name: str) -> AxisError:
    return axis_error(
        f"{module} has `{name}` both in In and Out, and one array cannot have it twice: "
        f'give Out another name, Axis.alias("{name}_out"), and rename the result'
    )


def needs_one_token_axis(name: str, array: Any) -> AxisError:
    return axis_error(
        f"MoELinear needs `{name}` and one axis of tokens, not {shown(array)}: merge the others with `flatten_axes`"
    )


def query_has_key_position(name: str, query: Any, key: Any) -> AxisError:
    return axis_error(
        f"attention over `{name}`, which both the query {shown(query)} and the key {shown(key)} have: "
        f'rename it in the keys and values, rename({{"{name}": "key_{name}"}}), and attend over that'
    )


def which_query_position(free: Sequence[str], query: Any) -> AxisError:
    some = f"`{'`, `'.join(free)}` are all" if free else "none is"
    return axis_error(
        f"attend: the mask goes by position, and of the axes that only the query {shown(query)} has {some} "
        f'a candidate: say which one it is, QPos="..."'
    )


def unknown_backend(backend: Any, known: Sequence[str]) -> ValueError:
    return placed(ValueError(f"attend: backend {backend!r} is not one of {', '.join(known)}"))


def mask_not_boolean(mask: Any) -> NamedTypeError:
    return type_error(
        f"attend: `mask` must be boolean, not {shown(mask)}: True where attention is allowed, as in `mask > 0`"
    )


def backend_refuses(backend: str, why: str) -> ValueError:
    return placed(ValueError(f'attend: backend {backend!r} cannot do this: {why}; leave the choice to backend="auto"'))


def mask_without_keys(argument: str, keys: str, mask: Any) -> AxisError:
    return axis_error(
        f"attend: `{argument}`, {shown(mask)}, lacks `{keys}`: a mask says which keys are seen; if it is of the "
        f'positions of the queries, and these are those of the keys, rename it, rename({{...: "{keys}"}})'
    )
