"""Gathers, scatters and dynamic updates."""

from collections.abc import Sequence

from ir.staging.align import renaming
from ir.staging.primitives.registry import Axes, Dims, Draft, Equation, Plain, agreed, changed, rule
from ir.staging.unify import DimClass


@rule("gather")
def gather(equation: Equation) -> Draft:
    """Indexed dims go, window dims stay, the dims of the indices take the remaining places of the result."""
    (operand, indices), unifier = equation.dims[:2], equation.unifier
    numbers, sizes = equation.numbers, equation.ints("slice_sizes")
    paired = list(zip(numbers("operand_batching_dims"), numbers("start_indices_batching_dims"), strict=True))
    apart = agreed(equation, [(operand[operand_axis], indices[index_axis]) for operand_axis, index_axis in paired])
    found, indices = indices, _beside(equation, operand, _rows(equation, operand, indices, paired), paired)
    dropped = set(numbers("collapsed_slice_dims")) | set(numbers("operand_batching_dims"))
    windows = iter([(dim, sizes[axis]) for axis, dim in enumerate(operand) if axis not in dropped])
    batch = iter(indices[:-1])
    out: list[DimClass] = []
    for position in range(len(equation.out_shape)):
        if position in numbers("offset_dims"):
            dim, size = next(windows)
            out.append(dim if unifier.size_of(dim) == size else unifier.resized(dim, size))
        else:
            out.append(next(batch))
    along = Axes(tuple(operand[axis] for axis in numbers("start_index_map")))
    indexed = numbers("start_index_map")
    if len(indexed) == 1 and paired and len(indices) > 1:  # `take_along_axis`: a shuffle of each row
        unifier.shuffled(operand[indexed[0]], indices[-2])
    # A part longer than one place of an indexed dim, or a part at all of another one.
    cut = [axis for axis in indexed if sizes[axis] != 1]
    cut += [
        axis
        for axis, dim in enumerate(operand)
        if axis not in dropped and axis not in indexed and sizes[axis] != unifier.size_of(dim)
    ]
    whole = Axes(tuple(operand[axis] for axis in cut))
    attrs: dict[str, Axes | Plain] = {"along": along, **apart}
    if whole.dims:
        attrs["whole"] = whole
    return Draft("gather", "take", (tuple(out),), attrs, {} if indices == found else {1: indices})


def _beside(equation: Equation, operand: Dims, indices: Dims, paired: Sequence[tuple[int, int]]) -> Dims:
    """The dims of the indices so that they can stand beside what is left of the operand in the result."""
    unifier, numbers, sizes = equation.unifier, equation.numbers, equation.ints("slice_sizes")
    dropped = {*numbers("collapsed_slice_dims"), *numbers("operand_batching_dims")}
    taken = [dim for axis, dim in enumerate(operand) if axis not in dropped and sizes[axis] == unifier.size_of(dim)]
    new, rows = list(indices), {index_axis for _, index_axis in paired}
    for axis, dim in enumerate(indices[:-1]):
        if axis not in rows and any(unifier.alike(dim, other) for other in taken):
            new[axis] = unifier.occurrence(dim, [*taken, *new[:axis], *new[axis + 1 :]])
    return tuple(new)


@rule("scatter", *(f"scatter-{fn}" for fn in ("add", "mul", "min", "max", "sub")))
def scatter(equation: Equation) -> Draft:
    """The operand's dims; the updates' window dims are the operand's, the others those of the indices."""
    operand, indices, updates = equation.dims[:3]
    numbers, unifier = equation.numbers, equation.unifier
    inserted = set(numbers("inserted_window_dims")) | set(numbers("operand_batching_dims"))
    window = iter([dim for axis, dim in enumerate(operand) if axis not in inserted])
    paired = list(zip(numbers("operand_batching_dims"), numbers("scatter_indices_batching_dims"), strict=True))
    found, indices = indices, _rows(equation, operand, indices, paired)
    batch = iter(indices[:-1])
    whole: list[DimClass] = []
    pairs: list[tuple[DimClass, DimClass]] = []
    for position, dim in enumerate(updates):
        if position in numbers("update_window_dims"):
            target = next(window)
            pairs.append((target, dim))
            if unifier.size_of(dim) not in (1, unifier.size_of(target)):
                whole.append(target)
        else:
            pairs.append((next(batch), dim))
    pairs += [(operand[operand_axis], indices[index_axis]) for operand_axis, index_axis in paired]
    along = Axes(tuple(operand[axis] for axis in numbers("scatter_dims_to_operand_dims")))
    fn = equation.primitive.replace("scatter", "").strip("-_") or "set"
    attrs: dict[str, Axes | Plain] = {"along": along, **agreed(equation, pairs)}
    if whole:
        attrs["whole"] = Axes(tuple(whole))
    new = renaming(unifier, updates, tuple(target for target, _ in pairs[: len(updates)]))
    renamed = {1: indices} if indices != found else dict[int, Dims]()
    if new is not None:
        renamed[2] = new
    return Draft("scatter", fn, (operand,), attrs, renamed)


def _rows(equation: Equation, operand: Dims, indices: Dims, paired: Sequence[tuple[int, int]]) -> Dims:
    """The dims of the indices, where those that are paired with one of the operand's are that one."""
    unifier, new = equation.unifier, list(indices)
    for axis, index_axis in paired:
        if not unifier.same(operand[axis], indices[index_axis]) and unifier.kin(operand[axis], indices[index_axis]):
            new[index_axis] = operand[axis]
    return tuple(new)


@rule("dynamic_update_slice")
def dynamic_update_slice(equation: Equation) -> Draft:
    """The operand's dims; those that the update covers only in part must be replicated."""
    operand, update = equation.dims[:2]
    along = changed(equation, operand, equation.shapes[1])
    new = renaming(equation.unifier, update, operand)
    return Draft("slice", "update", (operand,), {"along": along}, {} if new is None else {1: new})
