"""Values from nothing: iota and random bits."""

from ir.staging.primitives.registry import Axes, Dims, Draft, Equation, rule


@rule("iota")
def iota(equation: Equation) -> Draft:
    """0, 1, 2, … along one dim."""
    dims = equation.made(equation.out_shapes[0], "iota")
    return Draft("iota", "", (dims,), {"along": Axes((dims[equation.integer("dimension")],))})


@rule("empty", "empty2")
def empty(equation: Equation) -> Draft:
    """An array whose contents do not matter."""
    return Draft("iota", "empty", (equation.made(equation.out_shapes[0], "empty"),))


@rule("iota_2x32_shape")
def counters(equation: Equation) -> Draft:
    """The high and the low words of 0, 1, 2, … over all places of a shape."""
    return Draft("iota", "counters", (equation.made(equation.out_shapes[0], "counters"),) * 2)


@rule("platform_index")
def platform_index(equation: Equation) -> Draft:
    """Which platform the program runs on: what `lax.platform_dependent` branches by."""
    return Draft("iota", "platform_index", ((),))


_KEYS = ("random_seed", "random_wrap", "random_unwrap", "random_fold_in", "random_split", "random_clone")
_BLOCKS = ("threefry2x32", "threefry4x32", "philox2x32", "philox4x32", "random_gamma")


@rule(*_KEYS, "random_bits")
def random(equation: Equation) -> Draft:
    """Keys and bits. Dims of the keys lead, those of the drawn block are new."""
    lead, shape = equation.dims[0], equation.out_shape
    for dims in equation.dims[1:]:
        equation.unifier.same_all(lead, dims)
    if equation.primitive == "random_wrap":
        lead = lead[: len(shape)]
    drawn = equation.made(shape[len(lead) :], "random")
    return Draft("random", equation.primitive.removeprefix("random_"), ((*lead, *drawn),))


@rule(*_BLOCKS)
def blocks(equation: Equation) -> Draft:
    """Number by number: what has the shape of the results has their dims."""
    shape = equation.out_shapes[0]
    full = [dims for dims, operand in zip(equation.dims, equation.shapes, strict=True) if operand == shape]
    for dims in full[1:]:
        equation.unifier.same_all(full[0], dims)
    dims: Dims = full[0] if full else equation.made(shape, "random")
    return Draft("random", equation.primitive.removeprefix("random_"), (dims,) * len(equation.out_shapes))


@rule("rng_uniform", "rng_bit_generator")
def generator(equation: Equation) -> Draft:
    """XLA's own generators: of the state (the first result of two), or of two bounds, nothing is in the numbers."""
    *state, numbers = equation.out_shapes
    drawn = equation.made(numbers, "random")
    return Draft("random", equation.primitive.removeprefix("rng_"), (*equation.dims[: len(state)], drawn))
