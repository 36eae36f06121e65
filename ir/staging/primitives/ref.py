"""Arrays that are changed in place (`jax.new_ref`): a reference has the dims of its array.

Reads and writes of all of it, or of whole dims, keep them; of an index or a part, the dims that are left are new.
"""

from ir.staging.primitives.registry import Dims, Draft, Equation, rule


@rule("new_ref", "ref", "freeze")
def same_dims(equation: Equation) -> Draft:
    """The dims of the operand."""
    return Draft("opaque", equation.primitive, (equation.dims[0],))


@rule("get")
def read(equation: Equation) -> Draft:
    return Draft("opaque", "get", (_read(equation, equation.out_shape),))


@rule("swap", "addupdate")
def write(equation: Equation) -> Draft:
    """What is written has the dims that are read there."""
    shape = equation.shapes[1]
    dims = _read(equation, shape)
    equation.unifier.same_all(dims, equation.dims[1])
    return Draft("opaque", equation.primitive, (dims,) * len(equation.out_shapes))


def _read(equation: Equation, shape: tuple[int, ...]) -> Dims:
    return equation.dims[0] if shape == equation.shapes[0] else equation.fresh(shape)
