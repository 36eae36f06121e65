"""Operations that language models do without, on a mesh: what moves, and that the numbers are those of one device."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.scipy.linalg import solve_triangular
from step_models import filled, shaped

import ir
import passes
from ir.ops import op_of
from passes import Plan

NHWC = ("NHWC", "HWIO", "NHWC")
IMAGE = shaped("batch height width channels", 8, 8, 8, 4)
KERNEL = shaped("kernel_height kernel_width channels features", 3, 3, 4, 8)


def convolve(x, k, groups=1):
    return lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=NHWC, feature_group_count=groups)


CASES = {
    "a convolution contracts features": (
        convolve,
        (IMAGE, KERNEL),
        {"batch": "data", "channels": "model"},
        ["all_reduce"],
    ),
    "a convolution makes features": (convolve, (IMAGE, KERNEL), {"batch": "data", "features": "model"}, []),
    "space must be whole": (convolve, (IMAGE, KERNEL), {"height": "data"}, ["all_gather"]),
    "both gradients of a convolution": (
        jax.grad(lambda x, k: jnp.sum(convolve(x, k) ** 2), (0, 1)),
        (IMAGE, KERNEL),
        {"batch": "data", "features": "model"},
        ["all_reduce", "all_reduce"],
    ),
    "a depthwise convolution keeps features apart": (
        lambda x, k: convolve(x, k, 4),
        (IMAGE, shaped("kernel_height kernel_width one channels", 3, 3, 1, 4)),
        {"batch": "data", "channels": "model"},
        [],
    ),
    "pooling": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
        (IMAGE,),
        {"batch": "data", "channels": "model"},
        [],
    ),
    "a Fourier transform of each row of a batch": (
        lambda x: jnp.abs(jnp.fft.rfft(x, axis=1)),
        (shaped("batch position embed", 8, 8, 8),),
        {"batch": "data", "position": "model"},
        ["all_gather"],
    ),
    "a solve of each matrix of a batch": (
        lambda a, b: solve_triangular(a + 4 * jnp.eye(4), b, lower=True),
        (shaped("batch row column", 8, 4, 4), shaped("batch row right", 8, 4, 4)),
        {"batch": "data"},
        [],
    ),
    "a ragged product": (
        lambda x, w: lax.ragged_dot(x, w, jnp.full(4, 2, jnp.int32)),
        (shaped("batch embed", 8, 8), shaped("experts embed mlp", 4, 8, 8)),
        {"embed": "model", "mlp": "data"},
        ["all_reduce"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_placed_and_gives_the_same_numbers(name):
    function, arguments, rules, expected = CASES[name]

    def step(*values):
        return function(*(value.array for value in values))

    plan = Plan.by_hand({"data": 4, "model": 2}, {axis: [mesh] for axis, mesh in rules.items()})
    graph = passes.canonicalize(ir.trace(step, *arguments))
    placed = passes.partition(graph, plan)
    moves = [node.kind for node in placed.walk() if op_of(node).communicates]
    values = filled(arguments)
    lowered = passes.lower(graph, plan)
    for ours, plain in zip(jax.tree.leaves(lowered(*values)), jax.tree.leaves(jax.jit(step)(*values)), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=2e-5, atol=1e-5)
    compiled = lowered.lower(*values).compile().as_text()
    made = re.findall(r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)\(", compiled)
    assert moves == expected
    assert [kind.replace("-", "_") for kind in made] == expected
