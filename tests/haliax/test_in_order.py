"""Sums in order: as they are stacked and then added, and as a loop adds them while it makes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from haliax.core.in_order import each_p, sum_of_each, tree_sum


def _bits(array: jax.Array) -> bytes:
    return np.asarray(array).tobytes()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 12, 16])
def test_a_loop_that_adds_as_it_goes_makes_the_bits_of_the_tree(count: int, dtype: str) -> None:
    numbers = np.random.default_rng(count).normal(size=(count, 3, 5)) * 10.0 ** np.arange(count)[:, None, None]
    stacked = jnp.asarray(numbers, dtype)
    closed = jax.make_jaxpr(lambda a, b: [a * b, jnp.sum(b)])(stacked[0], stacked[0])

    def made(summed: bool) -> list[jax.Array]:
        return each_p.bind(stacked[-1], stacked, jaxpr=closed, constants=1, summed=summed)

    for branch, stack in zip(
        jax.jit(made, static_argnums=0)(True), jax.jit(made, static_argnums=0)(False), strict=True
    ):
        assert _bits(branch) == _bits(tree_sum(stack))


def test_it_is_a_tree_and_not_one_sum_after_the_other() -> None:
    parts = jnp.asarray([1.0, 1e8, -1e8, 3.0], jnp.float32)
    assert float(sum_of_each(lambda each: each, parts)) == 0.0
    assert float(np.cumsum(np.asarray(parts), dtype=np.float32)[-1]) == 3.0
