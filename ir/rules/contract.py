"""Contractions: `dot_general`."""

from ir.rules.registry import Axes, Draft, Equation, Plain, rule

_Pair = tuple[tuple[int, ...], tuple[int, ...]]
"""Positions in the left and in the right operand."""


@rule("dot_general")
def dot_general(equation: Equation) -> Draft:
    """Contracted pairs and batch pairs are the same dim; the result is batch dims, left free dims, right free dims."""
    (left, right), unifier = equation.dims, equation.unifier
    numbers: tuple[_Pair, _Pair] = equation.params["dimension_numbers"]
    (left_over, right_over), (left_batch, right_batch) = numbers
    for a, b in (*zip(left_over, right_over, strict=True), *zip(left_batch, right_batch, strict=True)):
        unifier.same(left[a], right[b])
    out = [left[a] for a in left_batch]
    out += [dim for axis, dim in enumerate(left) if axis not in left_over and axis not in left_batch]
    out += [dim for axis, dim in enumerate(right) if axis not in right_over and axis not in right_batch]
    over = Axes(tuple(left[a] for a in left_over))
    right_dims = Axes(tuple(right[b] for b in right_over))
    batch = Axes(tuple(left[a] for a in left_batch))
    right_batch_dims = Axes(tuple(right[b] for b in right_batch))
    agree = all(
        unifier.find(a) == unifier.find(b)
        for a, b in zip(over.dims + batch.dims, right_dims.dims + right_batch_dims.dims, strict=True)
    )
    attrs: dict[str, Axes | Plain] = {"over": over}
    if not agree:
        attrs |= {"with": right_dims, "batch": batch, "batch_with": right_batch_dims}
    return Draft("contract", "", (tuple(out),), attrs)
