"""Reductions, cumulative operations and sorts."""

from ir.rules.registry import Axes, Draft, Equation, rule

_REDUCE = {
    "reduce_sum": "sum",
    "reduce_max": "max",
    "reduce_min": "min",
    "reduce_prod": "prod",
    "reduce_and": "and",
    "reduce_or": "or",
    "reduce_xor": "xor",
    "argmax": "argmax",
    "argmin": "argmin",
}
_CUMULATE = ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")


@rule(*_REDUCE)
def reduce(equation: Equation) -> Draft:
    """Drops the reduced dims."""
    dims, axes = equation.dims[0], equation.ints("axes")
    over = Axes(tuple(dims[axis] for axis in axes))
    out = tuple(dim for axis, dim in enumerate(dims) if axis not in axes)
    return Draft("reduce", _REDUCE[equation.primitive], (out,), {"over": over})


@rule(*_CUMULATE)
def cumulate(equation: Equation) -> Draft:
    """Keeps all dims; the cumulated one must be whole on each device."""
    dims = equation.dims[0]
    return Draft("cumulate", equation.primitive, (dims,), {"along": Axes((dims[equation.integer("axis")],))})


@rule("sort")
def sort(equation: Equation) -> Draft:
    """Sorts all operands together along one dim."""
    for dims in equation.dims[1:]:
        equation.unifier.same_all(equation.dims[0], dims)
    along = Axes((equation.dims[0][equation.integer("dimension")],))
    return Draft("sort", "sort", equation.dims, {"along": along})


@rule("top_k")
def top_k(equation: Equation) -> Draft:
    """Values and indices of the k largest along one dim."""
    dims, shape = equation.dims[0], equation.out_shapes[0]
    axis = equation.integer("axis", len(dims) - 1) % len(dims)
    kept = equation.unifier.fresh(shape[axis])
    out = (*dims[:axis], kept, *dims[axis + 1 :])
    return Draft("sort", "top_k", (out, out), {"along": Axes((dims[axis],))})
