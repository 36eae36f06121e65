"""Contractions: `dot_general`, and its relatives for groups of rows of different lengths and for scaled blocks."""

from ir.staging.align import product
from ir.staging.primitives.registry import Axes, Draft, Equation, Plain, agreed, rule
from ir.staging.unify import DimClass

_Pair = tuple[tuple[int, ...], tuple[int, ...]]
"""Positions in the left and in the right operand."""


@rule("dot_general")
def dot_general(equation: Equation) -> Draft:
    """Contracted pairs and batch pairs are the same dim; the result is batch dims, left free dims, right free dims."""
    return _product(equation, "")


@rule("scaled_dot")
def scaled_dot(equation: Equation) -> Draft:
    """A product of blocks with a scale each: the third and the fourth operand. A block must not be cut."""
    return _product(equation, "scaled")


def _product(equation: Equation, fn: str) -> Draft:
    (left, right), unifier = equation.dims[:2], equation.unifier
    numbers: tuple[_Pair, _Pair] = equation.params["dimension_numbers"]
    (left_over, right_over), (left_batch, right_batch) = numbers
    for operand, scales in zip((left, right), equation.dims[2:], strict=False):
        unifier.same_all(operand, scales)
    pairs = [*zip(left_over, right_over, strict=True), *zip(left_batch, right_batch, strict=True)]
    right, renamed = product(unifier, left, right, pairs)
    if fn and renamed:
        renamed = {**renamed, 3: right}
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
    if fn:
        attrs["along"] = over
    return Draft("contract", fn, (tuple(out),), attrs, renamed)


@rule("ragged_dot_general")
def ragged_dot(equation: Equation) -> Draft:
    """A contraction in groups along the ragged dim. Free and ragged: each group of rows meets its own matrix.
    Contracted and ragged: each group of rows makes a matrix of its own, stacked in front."""
    left, right, groups = equation.dims[:3]
    numbers, unifier = equation.params["ragged_dot_dimension_numbers"], equation.unifier
    products: tuple[_Pair, _Pair] = numbers.dot_dimension_numbers
    (left_over, right_over), (left_batch, right_batch) = products
    ragged: int = numbers.lhs_ragged_dimensions[0]
    grouped: tuple[int, ...] = tuple(numbers.rhs_group_dimensions)
    pairs = [*zip(left_over, right_over, strict=True), *zip(left_batch, right_batch, strict=True)]
    attrs: dict[str, Axes | Plain] = agreed(equation, [(left[a], right[b]) for a, b in pairs])
    group = groups[-1]
    for axis in grouped:
        unifier.same(group, right[axis])
    out: list[DimClass] = [group] if ragged in left_over else []
    out += [left[a] for a in left_batch]
    out += [dim for axis, dim in enumerate(left) if axis not in left_over and axis not in left_batch]
    taken = {*right_over, *right_batch, *grouped}
    out += [dim for axis, dim in enumerate(right) if axis not in taken]
    attrs |= {"over": Axes(tuple(left[a] for a in left_over)), "along": Axes((left[ragged], group))}
    return Draft("contract", "ragged", (tuple(out),), attrs)
