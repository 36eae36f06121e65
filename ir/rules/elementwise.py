"""Elementwise primitives: every operand of full rank has the same dims as the result."""

from ir.rules.registry import Axes, Draft, Equation, rule

_NAMES = """
abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e bitcast_convert_type cbrt ceil clamp
clz complex conj convert_element_type copy copy_p cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge
gt igamma igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p log2 logistic lt lt_to max min mul
mul_no_nan name ne neg nextafter not one_minus_square optimization_barrier or polygamma polynomial population_count pow
pvary random_gamma_grad real reduce_precision regularized_incomplete_beta rem round rsqrt select_n sharding_constraint
shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor zeta
"""
ELEMENTWISE = _NAMES.split()


@rule(*ELEMENTWISE)
def elementwise(equation: Equation) -> Draft:
    """Operands are merged with the result dim by dim; scalars, and repeated dims of size 1, go with anything."""
    if len(equation.out_shapes) > 1:  # optimization_barrier: each result is its operand
        return Draft("map", equation.primitive, equation.dims)
    shape, unifier = equation.out_shape, equation.unifier
    full = [dims for dims in equation.dims if len(dims) == len(shape)]
    out: list[int] = []
    for position, size in enumerate(shape):
        column = [dims[position] for dims in full if unifier.size_of(dims[position]) == size]
        for dim in column[1:]:
            unifier.same(column[0], dim)
        out.append(column[0] if column else unifier.fresh(size))
    return Draft("map", equation.primitive, (tuple(out),))


@rule("named")
def named(equation: Equation) -> Draft:
    """A mark that agrees is dropped by the tracer; one that does not stays, as the place where two names meet."""
    (dims,) = equation.dims
    marked = tuple(
        equation.unifier.fresh(equation.unifier.size_of(dim), name)
        for dim, name in zip(dims, equation.params["names"], strict=True)
    )
    agreed = [equation.unifier.same(dim, mark) for dim, mark in zip(dims, marked, strict=True)]
    if all(agreed):
        return Draft("identity", "", (dims,))
    return Draft("map", "named", (tuple(d if ok else m for d, m, ok in zip(dims, marked, agreed, strict=True)),))


@rule("renamed")
def renamed(equation: Equation) -> Draft:
    """The cut: dims whose name changes get a new class, the others stay."""
    (dims,) = equation.dims
    unifier = equation.unifier
    result: list[int] = []
    for dim, old, new in zip(dims, equation.params["old"], equation.params["new"], strict=True):
        if old is not None:
            unifier.same(dim, unifier.fresh(unifier.size_of(dim), old))
        result.append(dim if old == new else unifier.fresh(unifier.size_of(dim), new))
    return Draft("rename", "", (tuple(result),), {"old": Axes(dims)})
