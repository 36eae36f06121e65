"""Broadcasts, transposes, reshapes, slices, pads, concatenations."""

from collections.abc import Sequence

from ir.ops import groups
from ir.staging.align import Columns, aligned
from ir.staging.primitives.registry import Axes, Dims, Draft, Equation, Plain, carried_over, changed, rule
from ir.staging.unify import DimClass


@rule("broadcast_in_dim")
def broadcast_in_dim(equation: Equation) -> Draft:
    """Operand dims keep their class where they keep their size; the others are new."""
    dims, shape = equation.dims[0], equation.out_shape
    kept = {
        position: dim
        for dim, position in zip(dims, equation.ints("broadcast_dimensions"), strict=True)
        if equation.unifier.size_of(dim) == shape[position]
    }
    out = tuple(
        kept[position] if position in kept else equation.unifier.made(size, "broadcast")
        for position, size in enumerate(shape)
    )
    return Draft("broadcast", "", (out,))


@rule("transpose")
def transpose(equation: Equation) -> Draft:
    """The same dims in another physical order."""
    dims = equation.dims[0]
    return Draft("reshape", "transpose", (tuple(dims[axis] for axis in equation.ints("permutation")),))


@rule("squeeze")
def squeeze(equation: Equation) -> Draft:
    """Drops dims of size 1."""
    axes = {axis % max(1, len(equation.dims[0])) for axis in equation.ints("dimensions")}
    out = tuple(dim for axis, dim in enumerate(equation.dims[0]) if axis not in axes)
    return Draft("reshape", "squeeze", (out,))


@rule("rev")
def reverse(equation: Equation) -> Draft:
    """Reverses dims, which must be replicated."""
    dims = equation.dims[0]
    along = Axes(tuple(dims[axis] for axis in equation.ints("dimensions")))
    return Draft("slice", "reverse", (dims,), {"along": along})


@rule("reshape")
def reshape(equation: Equation) -> Draft:
    """One-to-one where sizes agree, merges and splits of neighbouring dims elsewhere."""
    dims, shape = equation.dims[0], equation.out_shape
    attrs: dict[str, Axes | Plain] = {}
    if equation.params.get("dimensions") is not None:
        read = equation.ints("dimensions")
        dims = tuple(dims[axis] for axis in read)
        if read != tuple(sorted(read)):
            attrs["order"] = Axes(dims)
    out, whole = reshaped(equation, dims, shape)
    if whole:
        attrs["along"] = Axes(whole)
    return Draft("reshape", "reshape", (out,), attrs)


def reshaped(equation: Equation, dims: Dims, shape: Sequence[int]) -> tuple[Dims, Dims]:
    """Dims after a reshape, and the operand dims that were merged or split."""
    unifier = equation.unifier
    out = [unifier.fresh(size) for size in shape]
    whole: list[DimClass] = []
    for left, right in groups([unifier.size_of(dim) for dim in dims], shape):
        if len(left) == len(right) == 1:
            out[right[0]] = dims[left[0]]
        elif left and right:
            taken = [dims[position] for position in left]
            whole += taken
            merged = taken[0] if len(taken) == 1 else unifier.merge_of(taken)
            made = [merged] if len(right) == 1 else unifier.split_of(merged, [shape[position] for position in right])
            out[right[0] : right[-1] + 1] = made
    for position, dim in enumerate(out):
        if any(unifier.alike(dim, other) for other in out[:position]):
            out[position] = unifier.occurrence(dim, [*out[:position], *out[position + 1 :]])
    return tuple(out), tuple(whole)


@rule("slice")
def slice_(equation: Equation) -> Draft:
    """Dims that are cut are parts of what they were."""
    dims, shape, unifier = equation.dims[0], equation.out_shape, equation.unifier
    starts, stops = equation.ints("start_indices"), equation.ints("limit_indices")
    steps = equation.ints("strides") if equation.params["strides"] is not None else (1,) * len(dims)
    extents = zip(starts, stops, steps, strict=True)
    out = tuple(
        dim if unifier.size_of(dim) == size else unifier.part_of(dim, extent)
        for dim, size, extent in zip(dims, shape, extents, strict=True)
    )
    return Draft("slice", "static", (out,), {"along": changed(equation, dims, shape)})


@rule("dynamic_slice")
def dynamic_slice(equation: Equation) -> Draft:
    """Dims that are cut keep their name, unless what they meet has another, and lose their class."""
    dims, shape = equation.dims[0], equation.out_shape
    return Draft("slice", "dynamic", (carried_over(equation, dims, shape),), {"along": changed(equation, dims, shape)})


@rule("pad")
def pad(equation: Equation) -> Draft:
    """Padded dims keep their name, unless what they meet has another, and lose their class."""
    dims, shape = equation.dims[0], equation.out_shape
    paddings = zip(dims, equation.params["padding_config"], strict=True)
    along = Axes(tuple(dim for dim, padding in paddings if tuple(padding) != (0, 0, 0)))
    return Draft("pad", "", (carried_over(equation, dims, shape),), {"along": along})


@rule("concatenate")
def concatenate(equation: Equation) -> Draft:
    """All dims but the concatenated one are merged."""
    axis, unifier = equation.integer("dimension"), equation.unifier
    columns = [list(column) for column in zip(*equation.dims, strict=True)]
    parts = columns.pop(axis)
    if len(parts) == 1:
        return Draft("concat", "", (equation.dims[0],), {"along": Axes((parts[0],))})
    out, renamed = aligned(unifier, equation.dims, columns)
    new = unifier.join_of(parts, equation.out_shape[axis])
    if any(unifier.alike(new, other) for other in out):
        new = unifier.occurrence(new, out)
    return Draft("concat", "", ((*out[:axis], new, *out[axis:]),), {"along": Axes((parts[0],))}, renamed)


@rule("tile")
def tile(equation: Equation) -> Draft:
    """A value beside copies of itself. A repeated dim is no longer what it was: it loses its name."""
    dims, shape = equation.dims[0], equation.out_shape
    out = tuple(
        dim if equation.unifier.size_of(dim) == size else equation.unifier.made(size, "tile")
        for dim, size in zip(dims, shape, strict=True)
    )
    return Draft("concat", "tile", (out,), {"along": changed(equation, dims, shape)})


@rule("split")
def split(equation: Equation) -> Draft:
    """Static slices side by side along one dim."""
    dims, axis, unifier = equation.dims[0], equation.integer("axis"), equation.unifier
    out: list[Dims] = []
    start = 0
    for shape in equation.out_shapes:
        stop = start + shape[axis]
        cut = (
            dims[axis] if shape[axis] == unifier.size_of(dims[axis]) else unifier.part_of(dims[axis], (start, stop, 1))
        )
        out.append((*dims[:axis], cut, *dims[axis + 1 :]))
        start = stop
    return Draft("slice", "split", tuple(out), {"along": Axes((dims[axis],))})


@rule("stack")
def stack(equation: Equation) -> Draft:
    """Values of the same dims along a new one, which is a part of neither and so replicated."""
    axis, unifier = equation.integer("axis"), equation.unifier
    columns: Columns = [list(column) for column in zip(*equation.dims, strict=True)]
    first, renamed = aligned(unifier, equation.dims, columns)
    new = unifier.made(equation.out_shape[axis], "stack")
    return Draft("concat", "stack", ((*first[:axis], new, *first[axis:]),), {"along": Axes((new,))}, renamed)


@rule("unstack")
def unstack(equation: Equation) -> Draft:
    """The places of one dim side by side, each without it."""
    dims, axis = equation.dims[0], equation.integer("axis")
    rest = (*dims[:axis], *dims[axis + 1 :])
    return Draft("slice", "unstack", (rest,) * len(equation.out_shapes), {"along": Axes((dims[axis],))})
