"""`haliax.core.as_made`: transposes at the end of a function are moved out of it, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from haliax.core.as_made import as_made

RNG = np.random.default_rng(0)
X, Y, CUBE, WINDOWS = (RNG.normal(size=size).astype(np.float32) for size in ((3, 5), (5, 3), (2, 3, 5), (4, 5, 2)))
ROWS = np.array([[4], [0], [4], [2]], np.int32)


def the_head(x):
    """A product that is wanted transposed, the gradient of a lookup in the same table, and a weight for both."""
    table = jnp.zeros((5, 3)).at[ROWS[:, 0]].add(x[:, :4].T * 3.0)
    return 2.0 * (lax.optimization_barrier(x * x).T + table)


def windows_in_another_order(cube):
    """A scatter of windows [5, 2], which are [2, 5] in what is made."""
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=(1, 2), inserted_window_dims=(1,), scatter_dims_to_operand_dims=(1,)
    )
    made = jnp.transpose(jnp.exp(cube), (2, 1, 0))  # [5, 3, 2]
    return lax.scatter_add(-made, ROWS % 3, WINDOWS, numbers).astype(jnp.bfloat16)


def transposes(closed):
    return sum(each.primitive.name == "transpose" for each in closed.jaxpr.eqns)


@pytest.mark.parametrize(
    "function, arguments, orders, left",
    [
        (lambda x: x.T, [X], [(1, 0)], 0),
        (lambda x: (x + 1.0).T * 2.0, [X], [(1, 0)], 0),
        (lambda x, y: x.T + y, [X, Y], [(0, 1)], 1),
        (lambda x, y: x.T + x.T * y, [X, Y], [(1, 0)], 1),
        (lambda x, y: -(x.T * x.T) - y, [X, Y], [(1, 0)], 1),
        (the_head, [X], [(1, 0)], 1),
        (windows_in_another_order, [CUBE], [(2, 1, 0)], 1),
        (lambda c: jnp.transpose(c, (1, 2, 0)) / 3.0, [CUBE], [(1, 2, 0)], 0),
        (lambda c: jnp.transpose(jnp.transpose(c, (1, 2, 0)) / 3.0, (1, 2, 0)), [CUBE], [(1, 2, 0)], 1),
        (lambda x: (x.T, x.T), [X], [(1, 0), (1, 0)], 0),
        (lambda x: (jnp.float32(1.0), x), [X], [(), (0, 1)], 0),
        (lambda x: jnp.sum(x.T * 2.0), [X], [()], 1),
    ],
)
def test_each_number_is_made_by_the_same_operations_and_only_lies_elsewhere(function, arguments, orders, left):
    given = jax.make_jaxpr(function)(*arguments)
    made, found = as_made(given)
    assert found == orders
    assert transposes(made) == left <= transposes(given)
    wanted = jax.tree.leaves(jax.jit(function)(*arguments))
    got = jax.jit(jax.extend.core.jaxpr_as_fun(made))(*arguments)
    for array, order, whole in zip(got, found, wanted, strict=True):
        np.testing.assert_array_equal(np.asarray(lax.transpose(array, order)), np.asarray(whole))


def test_what_is_read_twice_is_made_once():
    def function(x):
        both = x.T * 2.0
        return both, both + 1.0

    made, orders = as_made(jax.make_jaxpr(function)(X))
    assert orders == [(0, 1), (0, 1)]
    assert [each.primitive.name for each in made.jaxpr.eqns] == ["transpose", "mul", "add"]


def test_a_long_sum_is_no_deep_recursion():
    def function(x):
        total = x.T
        for _ in range(3000):
            total = total + x.T
        return total

    made, orders = as_made(jax.make_jaxpr(function)(X))
    assert orders == [(1, 0)]
    assert transposes(made) == 0
