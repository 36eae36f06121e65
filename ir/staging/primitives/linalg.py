"""Dense linear algebra and Fourier transforms: functions of whole matrices, batched over the dims in front.

Which dims of the results are which dims of the operands is in `ir.ops.linalg.FORMS`.
"""

from ir.ops import FORMS
from ir.staging.primitives.registry import Axes, Draft, Equation, carried_over, rule
from ir.staging.unify import DimClass


@rule(*FORMS)
def linalg(equation: Equation) -> Draft:
    """The dims that a form's letters stand for; those of the operands must be replicated."""
    operands, results = (side.split(",") for side in FORMS[equation.primitive].split("->"))
    return _formed(equation, operands, results)


@rule("triangular_solve")
def triangular_solve(equation: Equation) -> Draft:
    """Solves `a x = b`, or `x a = b`: one dim of `a` is contracted away from `b`, the other takes its place."""
    matrix = "ji" if equation.params["transpose_a"] else "ij"
    known, solved = ("ik", "jk") if equation.params["left_side"] else ("kj", "ki")
    return _formed(equation, [matrix, known], [solved])


@rule("fft")
def fft(equation: Equation) -> Draft:
    """Transformed dims keep their name; the size of the last one changes between real and complex."""
    dims, shape = equation.dims[0], equation.out_shape
    count = len(equation.ints("fft_lengths"))
    along = Axes(dims[len(dims) - count :])
    return Draft("linalg", "fft", (carried_over(equation, dims, shape),), {"along": along})


def _formed(equation: Equation, operands: list[str], results: list[str]) -> Draft:
    unifier = equation.unifier
    known: dict[tuple[str, int], DimClass] = {}
    along: dict[DimClass, None] = {}
    batch = equation.dims[0][: len(equation.dims[0]) - len(operands[0])]
    for dims, letters in zip(equation.dims, operands, strict=False):
        lead = len(dims) - len(letters)
        unifier.same_all(batch, dims[:lead])
        for dim, letter in zip(dims[lead:], letters, strict=True):
            unifier.same(known.setdefault((letter, unifier.size_of(dim)), dim), dim)
            along[dim] = None
    out: list[tuple[DimClass, ...]] = []
    for shape, letters in zip(equation.out_shapes, results, strict=False):
        sizes = shape[len(shape) - len(letters) :]
        dims = list(batch)
        for letter, size in zip(letters, sizes, strict=True):
            dim = known.get((letter, size))
            if dim is None:
                dim = known[letter, size] = unifier.made(size, equation.primitive)
            # A matrix over one space has it on two sides, of which one keeps the name.
            twice = any(unifier.alike(dim, other) for other in dims)
            dims.append(unifier.occurrence(dim, dims) if twice else dim)
        out.append(tuple(dims))
    return Draft("linalg", equation.primitive, tuple(out), {"along": Axes(tuple(along))})
