"""Sums whose order is fixed, however many devices share the work: what makes a step elastic.

A floating-point sum depends on its order, and so does what a compiler makes of a product on the size of its operands.
Where the same work is cut into the same pieces, each piece goes through the same program, and the pieces are added in
the same order, the bits are the same whoever has which pieces. Three primitives say so to a trace:

- `each`: a function of every slice of some arrays, one slice after the other. Trips know nothing of one another, so
  that each device can make its own. What they give is stacked, or added in order as it is made (`summed`).
- `sum_in_order`: the slices of an array, added as a tree: neighbours, then neighbours of those, and so on. The slices
  that one device has are one branch of it.
- `square_sum`: the sum of all squares of an array, in pieces along one dim, which are added so.

XLA inlines a loop of one trip into what is around it and compiles that together, so a device makes two trips or more.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Primitive
from jax.interpreters import mlir

from haliax.core.as_made import Order, as_made
from haliax.core.merged import Target, merged, merging, run_merged

each_p = Primitive("each")
each_p.multiple_results = True
sum_in_order_p = Primitive("sum_in_order")
square_sum_p = Primitive("square_sum")


def sum_of_each(function: Callable[..., Any], *stacked: Any) -> Any:
    """The sum, always in the same order, of what `function` gives for each slice along the first dim of every array.

    Args:
        stacked: pytrees of arrays [n, …]; `function` takes the same of arrays […] and may close over traced values.

    Returns: the pytree that `function` gives.
    """
    leaves, structure = jax.tree.flatten(stacked)
    results: list[Any] = []

    def flat(*slices: Any) -> list[Any]:
        made, found = jax.tree.flatten(function(*jax.tree.unflatten(structure, slices)))
        results.append(found)
        return made

    closed = jax.make_jaxpr(flat)(*[jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for leaf in leaves])
    jaxpr, constants = closed.jaxpr, closed.consts
    taking = jaxpr.replace(
        constvars=(),
        invars=[*jaxpr.constvars, *jaxpr.invars],
        debug_info=jaxpr.debug_info.with_unknown_names(),
    )
    made = each_p.bind(*constants, *leaves, jaxpr=ClosedJaxpr(taking, ()), constants=len(constants), summed=False)
    return jax.tree.unflatten(results[-1], [sum_in_order_p.bind(array) for array in made])


def square_sum(array: Any, along: int | None, pieces: int) -> Any:
    """The sum of all squares of an array, always in the same order, a scalar.

    Args:
        along: the dim that is cut into pieces, which divide it. Without one, the array is cut as one long dim, and each
            device needs all of it.
        pieces: how many, at least two.
    """
    return square_sum_p.bind(array, along=along, pieces=pieces)


def tree_sum(array: Any) -> Any:
    """[n, …] → […]: pairs of neighbours are added for as long as there is an even number; then one after the other."""
    while array.shape[0] > 1 and array.shape[0] % 2 == 0:
        array = array[0::2] + array[1::2]
    total = array[0]
    for i in range(1, array.shape[0]):
        total = total + array[i]
    return total


def squares_in_pieces(array: Any, along: int | None, pieces: int) -> Any:
    """What `square_sum` computes."""
    shape = (-1,)
    if along is not None:
        array = jnp.moveaxis(array, along, 0)
        # Rows are added up first, which a compiler does with vectors; a sum of all at once goes number by number.
        shape = (array.shape[0] // pieces, math.prod(array.shape[1:]))
    flat = array.reshape(-1)
    flat = jnp.pad(flat, (0, -flat.size % pieces))
    size = flat.size // pieces

    def of_piece(at: Any) -> Any:
        piece = lax.dynamic_slice(flat, (at * size,), (size,)).reshape(shape)
        return jnp.sum(jnp.sum(lax.square(piece), axis=0))

    return tree_sum(lax.map(of_piece, jnp.arange(pieces)))


def _trips(*operands: Any, jaxpr: ClosedJaxpr, constants: int, summed: bool) -> Sequence[Any]:
    given, stacked = operands[:constants], operands[constants:]
    flat = [_flat(operand) for operand in given]
    made, orders = as_made(merged(jaxpr))

    def results(slices: Sequence[Any]) -> list[Any]:
        whole = [array.reshape(operand.shape) for array, operand in zip(flat, given, strict=True)]
        return [_flat(result) for result in run_merged(made, *whole, *slices)]

    arrays = _branch(results, stacked) if summed else lax.map(results, stacked)
    over = () if summed else stacked[0].shape[:1]
    shaped = [array.reshape((*over, *aval.shape)) for array, aval in zip(arrays, made.out_avals, strict=True)]
    return [_in_order(array, order) for array, order in zip(shaped, orders, strict=True)]


def _in_order(array: Any, order: Order) -> Any:
    """The last dims of an array in an order."""
    first = array.ndim - len(order)
    return lax.transpose(array, [*range(first), *(first + dim for dim in order)])


def _branch(function: Callable[[Sequence[Any]], list[Any]], stacked: Sequence[Any]) -> list[Any]:
    """`tree_sum` of what a function gives for each slice, added as it is made.

    A binary counter of partial sums: row l of `rows` is the sum of the last 2^l slices that wait for as many. A new
    slice takes up those of the rows below that are full, one after the other, so 2^k slices need k rows in memory.
    Of an odd multiple of 2^k the sums of as many are added one after the other, in one more row. The sum of all, which
    nothing waits for, ends in the last row.
    """
    count = stacked[0].shape[0]
    last = (count & -count).bit_length() - 1
    height = max(1, last + (count > 1 << last))
    shapes: list[Any] = jax.eval_shape(function, [jax.ShapeDtypeStruct(a.shape[1:], a.dtype) for a in stacked])
    rows = [lax.full((height, *each.shape), 0, each.dtype) for each in shapes]

    def trip(rows: list[Any], at: tuple[Any, Sequence[Any]]) -> tuple[list[Any], None]:
        position, slices = at
        done = position + 1
        row = jnp.minimum(lax.population_count((done & -done) - 1), last)
        sums = row + ((row == last) & (done > 1 << last))

        def add(state: tuple[Any, list[Any]]) -> tuple[Any, list[Any]]:
            below, values = state
            full = [lax.dynamic_index_in_dim(each, below, 0, False) for each in rows]
            return below + 1, [first + second for first, second in zip(full, values, strict=True)]

        made = lax.while_loop(lambda state: state[0] < sums, add, (jnp.int32(0), function(slices)))[1]
        row = jnp.minimum(row, height - 1)
        return [
            lax.dynamic_update_index_in_dim(each, value, row, 0) for each, value in zip(rows, made, strict=True)
        ], None

    rows = lax.scan(trip, rows, (jnp.arange(count, dtype=jnp.int32), stacked))[0]
    return [each[-1] for each in rows]


def _flat(array: Any) -> Any:
    """The array as one dim, of which there is one layout in memory: a product has other bits for another layout, and
    what is around a loop would have a say in that of what goes in and out."""
    return array.reshape(-1) if array.ndim > 1 else array


def _lower_each(context: Any, *operands: Any, **params: Any) -> Any:
    with merging(Target.of(context)):
        return mlir.lower_fun(_trips, multiple_results=True)(context, *operands, **params)


def _result_avals(*operands: Any, jaxpr: ClosedJaxpr, constants: int, summed: bool) -> list[Any]:
    over = () if summed else operands[constants].shape[:1]
    return [aval.update(shape=(*over, *aval.shape), weak_type=False) for aval in jaxpr.out_avals]


each_p.def_impl(lambda *operands, **params: jax.jit(partial(_trips, **params))(*operands))
each_p.def_abstract_eval(_result_avals)
mlir.register_lowering(each_p, _lower_each)
sum_in_order_p.def_impl(jax.jit(tree_sum))
sum_in_order_p.def_abstract_eval(lambda aval: aval.update(shape=aval.shape[1:], weak_type=False))
mlir.register_lowering(sum_in_order_p, mlir.lower_fun(tree_sum, multiple_results=False))
square_sum_p.def_impl(jax.jit(squares_in_pieces, static_argnums=(1, 2), static_argnames=("along", "pieces")))
square_sum_p.def_abstract_eval(lambda aval, **_: aval.update(shape=(), weak_type=False))
mlir.register_lowering(square_sum_p, mlir.lower_fun(squares_in_pieces, multiple_results=False))
