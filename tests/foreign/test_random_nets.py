"""Steps of convolutions, norms and a mixer, drawn at random: on one device each is what `jax.jit` makes of it.

Without an error of rounding: XLA is given the same program, and some are run as well.
"""

import jax
import pytest

pytest.importorskip("flax")
pytest.importorskip("equinox")

from corpus.case import Step, leaves
from corpus.random_nets import drawn_step
from program_text import program_text
from typeguard import suppress_type_checks

import ir
import passes
from passes import Plan

ONE_DEVICE = Plan.by_hand({"data": 1}, {})
SEEDS = range(24)
RUN = range(0, 24, 6)


def lowered(step: Step):
    with suppress_type_checks():
        return passes.lower(ir.trace(step.function, *step.arguments, names=step.names), ONE_DEVICE)


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=pytest.mark.foreign if seed else ()) for seed in SEEDS])
def test_it_is_the_program_that_jit_compiles(seed):
    step = drawn_step(seed)
    assert program_text(lowered(step), *step.arguments) == program_text(jax.jit(step.function), *step.arguments)


@pytest.mark.foreign
@pytest.mark.parametrize("seed", RUN)
def test_it_leaves_the_same_bits(seed):
    step = drawn_step(seed)
    arguments = jax.jit(step.initial)()
    ours, plain = leaves(lowered(step)(*arguments)), leaves(jax.jit(step.function)(*arguments))
    assert [array.tobytes() for array in ours] == [array.tobytes() for array in plain]
