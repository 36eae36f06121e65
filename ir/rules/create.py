"""Values from nothing: iota and random bits."""

from ir.rules.registry import Axes, Draft, Equation, rule


@rule("iota")
def iota(equation: Equation) -> Draft:
    """0, 1, 2, … along one dim."""
    dims = equation.fresh(equation.out_shapes[0])
    return Draft("iota", "", (dims,), {"along": Axes((dims[equation.integer("dimension")],))})


@rule("empty", "empty2")
def empty(equation: Equation) -> Draft:
    """An array whose contents do not matter."""
    return Draft("iota", "empty", (equation.fresh(equation.out_shapes[0]),))


_KEYS = ("random_seed", "random_wrap", "random_unwrap", "random_fold_in", "random_split", "random_clone")
_BITS = ("random_bits", "threefry2x32", "random_gamma", "rng_bit_generator")


@rule(*_KEYS, *_BITS)
def random(equation: Equation) -> Draft:
    """Keys and bits. Dims of the keys lead, those of the drawn block are new."""
    fn = equation.primitive.removeprefix("random_")
    if equation.primitive in ("threefry2x32", "random_gamma"):
        full = [d for d, shape in zip(equation.dims, equation.shapes, strict=True) if shape == equation.out_shapes[0]]
        for dims in full[1:]:
            equation.unifier.same_all(full[0], dims)
        dims = full[0] if full else equation.fresh(equation.out_shapes[0])
        return Draft("random", fn, (dims,) * len(equation.out_shapes))
    lead = equation.dims[0] if equation.dims else ()
    out: list[tuple[int, ...]] = []
    for shape in equation.out_shapes:
        kept = tuple(dim for dim, size in zip(lead, shape, strict=False) if equation.unifier.size_of(dim) == size)
        out.append(kept + equation.fresh(shape[len(kept) :]))
    return Draft("random", fn, tuple(out))
