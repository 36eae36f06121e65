"""Elementwise primitives: every operand of full rank has the same dims as the result."""

from collections.abc import Sequence

from ir.staging.align import aligned
from ir.staging.primitives.registry import Axes, Dims, Draft, Equation, rule
from ir.staging.unify import Unifier

_NAMES = """
abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz complex conj
convert_element_type copy cos cosh device_put digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma
igamma_grad_a igammac imag integer_pow is_finite layout_constraint le le_to lgamma log log1p log2 logistic lt lt_to max
min mul mulhi name ne neg nextafter nonbatchable nondifferentiable_backward nontraceable not one_minus_square
optimization_barrier or polygamma polynomial population_count pow preduced pvary real reciprocal reduce_precision
reduced_vary_cast reduced_vary_cast_p regularized_incomplete_beta rem reshard round rsqrt select_if_vmap select_n
sharding_constraint shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stage stop_gradient
sub tan tanh vary_unreduced_cast vary_unreduced_cast_p with_memory_space_constraint xla_metadata_value xor zeta
"""
ELEMENTWISE = _NAMES.split()


@rule(*ELEMENTWISE)
def elementwise(equation: Equation) -> Draft:
    """Operands are merged with the result dim by dim; scalars, and repeated dims of size 1, go with anything."""
    if len(equation.out_shapes) > 1:  # optimization_barrier, device_put: each result is its operand
        return Draft("map", equation.primitive, equation.dims)
    shape, unifier = equation.out_shape, equation.unifier
    every, shapes = equation.dims, equation.shapes
    full = [dims for dims, own in zip(every, shapes, strict=True) if own == shape]
    if full and len(full) + shapes.count(()) >= len(shapes) and _are_one(unifier, full):  # as nearly always
        return Draft("map", equation.primitive, (full[0],))
    columns = [
        [
            dims[position] if len(own) == len(shape) and own[position] == size else None
            for dims, own in zip(every, shapes, strict=True)
        ]
        for position, size in enumerate(shape)
    ]
    for column, size in zip(columns, shape, strict=True):
        if not any(dim is not None for dim in column):
            column.append(unifier.fresh(size))
    out, renamed = aligned(unifier, every, columns)
    return Draft("map", equation.primitive, (out,), renamed=renamed)


def _are_one(unifier: Unifier, values: Sequence[Dims]) -> bool:
    """Merges values dim by dim; whether they have the same dims then."""
    first = values[0]
    for dims in values[1:]:
        if dims != first and not all([a == b or unifier.same(a, b) for a, b in zip(first, dims, strict=True)]):
            return False
    return True


@rule("bitcast_convert_type")
def bitcast(equation: Equation) -> Draft:
    """The same bits as another type: a wider or narrower one takes or gives a last dim."""
    (dims,), shape = equation.dims, equation.out_shape
    if len(shape) > len(dims):
        dims = (*dims, equation.unifier.made(shape[-1], "bits"))
    return Draft("map", equation.primitive, (dims[: len(shape)],))


@rule("named")
def named(equation: Equation) -> Draft:
    """A mark that agrees is dropped by the tracer; one that does not stays, as the place where two names meet."""
    (dims,), unifier = equation.dims, equation.unifier
    pairs = list(zip(dims, equation.params["names"], strict=True))
    agreed = [unifier.call(dim, name) for dim, name in pairs]
    if all(agreed):
        return Draft("", "", (dims,))
    out = tuple([d if ok else unifier.fresh(unifier.size_of(d), n) for (d, n), ok in zip(pairs, agreed, strict=True)])
    if all(unifier.kin(old, new) for old, new in zip(dims, out, strict=True)):
        return Draft("rename", "", (out,), {"old": Axes(dims)})
    return Draft("map", "named", (out,))


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
