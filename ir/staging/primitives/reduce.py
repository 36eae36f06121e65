"""Reductions, cumulative operations and sorts."""

from collections.abc import Sequence

from ir.staging.align import renaming
from ir.staging.primitives.registry import Axes, Dims, Draft, Equation, Plain, rule

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
    return reduced(equation, _REDUCE[equation.primitive], equation.ints("axes"))


def reduced(equation: Equation, fn: str, axes: Sequence[int]) -> Draft:
    """A reduction of one or several operands of the same dims over the dims at the positions `axes`."""
    operands = equation.dims[: len(equation.out_shapes)]
    for dims in operands[1:]:
        equation.unifier.same_all(operands[0], dims)
    over = Axes(tuple(operands[0][axis] for axis in axes))
    out = tuple(tuple(dim for axis, dim in enumerate(dims) if axis not in axes) for dims in operands)
    return Draft("reduce", fn, out, {"over": over})


@rule("reduce")
def reduce_by(equation: Equation) -> Draft:
    """A reduction by a function of the user's; initial values follow the operands."""
    return reduced(equation, "function", equation.ints("dimensions"))


_UNVMAP = {"unvmap_all": "and", "unvmap_any": "or", "unvmap_max": "max"}


@rule(*_UNVMAP)
def unvmap(equation: Equation) -> Draft:
    """Equinox's reductions to one number, also over what `vmap` added."""
    return reduced(equation, _UNVMAP[equation.primitive], range(len(equation.dims[0])))


@rule(*_CUMULATE)
def cumulate(equation: Equation) -> Draft:
    """Keeps all dims; the cumulated one must be replicated."""
    dims = equation.dims[0]
    return Draft("cumulate", equation.primitive, (dims,), {"along": Axes((dims[equation.integer("axis")],))})


@rule("sort")
def sort(equation: Equation) -> Draft:
    """Sorts all operands together along one dim."""
    first, renamed = equation.dims[0], dict[int, Dims]()
    for i, dims in enumerate(equation.dims[1:], start=1):
        if (new := renaming(equation.unifier, dims, first)) is not None:
            renamed[i] = new
    along = Axes((first[equation.integer("dimension")],))
    results = tuple(renamed.get(i, dims) for i, dims in enumerate(equation.dims))
    return Draft("sort", "sort", results, {"along": along}, renamed)


@rule("top_k", "approx_top_k")
def top_k(equation: Equation) -> Draft:
    """Values and indices of the k largest along one dim."""
    dims, shape = equation.dims[0], equation.out_shapes[0]
    axis = equation.integer("axis" if equation.primitive == "top_k" else "reduction_dimension", len(dims) - 1) % len(
        dims
    )
    kept = equation.unifier.made(shape[axis], "top_k")
    out = (*dims[:axis], kept, *dims[axis + 1 :])
    return Draft("sort", equation.primitive, (out, out), {"along": Axes((dims[axis],))})


@rule("sum_in_order")
def sum_in_order(equation: Equation) -> Draft:
    """Adds up along the first dim."""
    first, *rest = equation.dims[0]
    return Draft("sum_in_order", "", (tuple(rest),), {"over": Axes((first,))})


@rule("square_sum")
def square_sum(equation: Equation) -> Draft:
    """A number for the whole operand, which is cut along one dim."""
    dims = equation.dims[0]
    along: int | None = equation.params["along"]
    cut: Dims = () if along is None else (dims[along],)
    attrs: dict[str, Axes | Plain] = {"along": Axes(cut)}
    return Draft("square_sum", "", ((),), {**attrs, "pieces": equation.integer("pieces")})
