"""Arithmetic in Z/2³², and what every kind of operation is in it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from coverage_rows import FAMILIES, rows
from typeguard import suppress_type_checks

import ir
from ir import ring
from ir.ring_functions import known
from ir.staging.primitives.elementwise import ELEMENTWISE
from passes.ring_inputs import ring_inputs
from passes.shadow import alone, not_covered
from passes.values import flat

_SHIFTS = ("shift_left", "shift_right_arithmetic", "shift_right_logical")
INTEGERS_ALONE = {"and", "not", "or", "xor", "clz", "population_count", "mulhi", *_SHIFTS}
"""Elementwise functions that real numbers have not."""
_SPARSE = ("bcoo_fromdense", "bcoo_dot_general", "bcoo_dot_general_sampled", "bcoo_todense")
_ROWS = ("bcsr_fromdense", "bcsr_todense", "bcsr_extract")
_CALLS = ("pure_callback", "io_callback", "ffi_call", "pallas_call", "linear_call", "scaled_matmul_wrapper")
WITHOUT = {"random.uniform", *(f"opaque.{name}" for name in (*_SPARSE, *_ROWS, *_CALLS))}
"""What of the coverage tables has no meaning of its own in the ring: other people's code, and numbers that are no
function of a key."""
NOT_ALONE = ("pbroadcast", "ragged_all_to_all")
"""Collectives of a `shard_map` that `vmap` does not know, so that one device cannot stand in for several."""


def numbers(*values):
    return np.asarray(values, np.uint32)


def test_a_function_is_a_permutation():
    places = jnp.arange(1 << 16, dtype=jnp.uint32)
    for tag in ("exp", "tanh", "rsqrt"):
        low = np.asarray(ring.mix(places, tag)) & 0xFFFF  # what 16 bits become depends on them alone
        assert len(set(low.tolist())) == 1 << 16


def test_functions_of_two_names_differ():
    x = jnp.arange(64, dtype=jnp.uint32)
    assert not np.any(np.asarray(ring.mix(x, "exp")) == np.asarray(ring.mix(x, "log")))


def test_whole_numbers_are_themselves():
    written = ring.literal(np.asarray([0.0, -0.0, 1.0, -1.0, 128.0, -3.0], np.float32))
    np.testing.assert_array_equal(written, np.asarray([0, 0, 1, -1, 128, -3]).astype(np.uint32))


def test_infinities_are_the_ends_of_the_order():
    np.testing.assert_array_equal(ring.literal(np.asarray([-np.inf, np.inf])), numbers(0, 2**32 - 1))


def test_other_numbers_are_odd_and_each_its_own():
    """Odd, so that nothing is lost in a product with one."""
    written = ring.literal(np.asarray([0.5, 0.25, 0.1, 1e-5, 1e12, np.nan, -0.5, 3.4e38], np.float32))
    assert len(set(written.tolist())) == len(written)
    assert np.all(written % 2 == 1)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_a_number_is_the_same_in_every_width(dtype):
    assert ring.literal(np.asarray(0.5, dtype)) == ring.literal(np.float32(0.5))


def test_division_is_linear_in_what_is_divided():
    x, y, z = (jnp.asarray(numbers(each)) for each in (123456789, 987654321, 3))
    np.testing.assert_array_equal(ring.quotient(x + y, z), ring.quotient(x, z) + ring.quotient(y, z))


def test_a_power_is_a_product():
    x = jnp.asarray(numbers(7, 2**31 + 5))
    np.testing.assert_array_equal(ring.power(x, 3), x * x * x)
    np.testing.assert_array_equal(ring.power(x, 0), numbers(1, 1))


def test_a_digest_depends_on_every_place_of_its_own_batch_alone():
    x = np.random.default_rng(0).integers(0, 2**32, (3, 4, 5), dtype=np.uint32)
    whole = np.asarray(ring.digest([x], [((3, 2, 2), np.uint32)], 1, "inverse")[0])
    for place in np.ndindex(4, 5):
        y = x.copy()
        y[(1, *place)] ^= 1
        changed = np.asarray(ring.digest([y], [((3, 2, 2), np.uint32)], 1, "inverse")[0]) != whole
        assert changed[1].all()
        assert not changed[[0, 2]].any()


def test_products_are_those_of_the_ring():
    rng = np.random.default_rng(1)
    a, b = (rng.integers(0, 2**32, (4, 4), dtype=np.uint32) for _ in range(2))
    graph = ir.trace(lambda x, y: x @ y, jnp.ones((4, 4)), jnp.ones((4, 4)))
    (found,) = alone(flat(graph))(a, b)
    wide = a.astype(object) @ b.astype(object)
    np.testing.assert_array_equal(found, np.vectorize(lambda n: n % 2**32)(wide).astype(np.uint32))


def test_every_elementwise_function_has_a_meaning():
    assert {fn for fn in ELEMENTWISE if not known(fn)} == INTEGERS_ALONE


def test_what_is_equal_in_floats_is_equal_in_the_ring():
    """Ways to write the same sums of products."""
    rng = np.random.default_rng(2)
    x = rng.integers(0, 2**32, (4, 6), dtype=np.uint32)
    pairs = [
        (lambda x: x**2, lambda x: x * x),
        (lambda x: x.sum((0, 1)), lambda x: x.reshape(2, 12).sum(0).sum()),
        (lambda x: (x + x) - x, lambda x: x),
        (lambda x: x.mean(0), lambda x: x.sum(0) / 4.0),
        (lambda x: jnp.einsum("ab,ab->a", x, x), lambda x: jnp.square(x).sum(1)),
        (lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), lambda x: x),
    ]
    for first, second in pairs:
        ours, theirs = (alone(flat(ir.trace(f, jnp.ones((4, 6)))))(x)[0] for f in (first, second))
        np.testing.assert_array_equal(ours, theirs)


def test_a_loop_that_real_numbers_end_has_a_last_trip():
    graph = ir.trace(lambda x: jax.lax.while_loop(lambda y: y < 1e9, lambda y: y * 0.5 + 1.0, x), jnp.float32(1.0))
    assert alone(flat(graph))(np.uint32(5))[0].dtype == np.uint32


@pytest.mark.parametrize("family", [*(pytest.param(each, marks=pytest.mark.slow) for each in FAMILIES), "sorting"])
def test_every_function_of_the_tables_has_a_meaning(family):
    for row in rows(family):
        if any(name in row.expression for name in NOT_ALONE):
            continue
        for function in (row, *([row.gradient] if row.differentiable else [])):
            with suppress_type_checks():
                graph = ir.trace(function, *row.types)
                jax.eval_shape(alone(flat(graph)), *ring_inputs(graph))
            assert {name for name, _ in not_covered(graph)} <= WITHOUT, row.expression
