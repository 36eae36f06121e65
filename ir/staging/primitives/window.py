"""Windows that slide over dims: pooling and its derivatives.

Dims that the window moves along keep their name and must be replicated; the others are the same dims.
"""

from ir.staging.primitives.registry import Axes, Dims, Draft, Equation, carried_over, rule

_POOLS = {
    "reduce_window": "window",
    "reduce_window_sum": "window_sum",
    "reduce_window_max": "window_max",
    "reduce_window_min": "window_min",
    "select_and_gather_add": "window_select",
}


@rule(*_POOLS)
def pool(equation: Equation) -> Draft:
    """One result for each operand (`reduce_window` has an initial value for each behind them)."""
    operands = [dims for dims in equation.dims if dims]
    for dims in operands[1:]:
        equation.unifier.same_all(operands[0], dims)
    shape = equation.out_shapes[0]
    out = carried_over(equation, operands[0], shape)
    attrs = {"along": slid_over(equation, operands[0], shape)}
    return Draft("cumulate", _POOLS[equation.primitive], (out,) * len(equation.out_shapes), attrs)


@rule("select_and_scatter", "select_and_scatter_add")
def unpool(equation: Equation) -> Draft:
    """Sends the first operand (of the second one, in `select_and_scatter`) back to where the maxima of windows were."""
    added = equation.primitive.endswith("add")
    source, operand = equation.dims[:2] if added else (equation.dims[1], equation.dims[0])
    equation.unifier.same_all(source, operand)
    shape = tuple(equation.unifier.size_of(dim) for dim in source)
    fn = "window_scatter_add" if added else "window_scatter"
    return Draft("cumulate", fn, (operand,), {"along": slid_over(equation, operand, shape)})


def slid_over(equation: Equation, dims: Dims, small: tuple[int, ...]) -> Axes:
    """The dims along which the window does more than visit each place once."""
    wide, strides = equation.ints("window_dimensions"), equation.ints("window_strides")
    moves = zip(dims, wide, strides, small, strict=True)
    return Axes(tuple(d for d, w, s, size in moves if w > 1 or s > 1 or size != equation.unifier.size_of(d)))
