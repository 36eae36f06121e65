"""What goes between slices, counted by hand: a weight of 512 × 256 float32, half a megabyte, on two slices of two."""

import jax
import jax.numpy as jnp
import pytest

import ir
import passes
from passes.hardware.memory import PLAIN_MEMORY, ChipMemory
from passes.planner.allocations import memory_program
from passes.planner.crossings import Crossing
from passes.planner.meshes import SLOW_AXIS
from passes.sharding.mesh import DeviceMesh
from passes.sharding.roles import assign_roles

MESH = {SLOW_AXIS: 2, "data": 2}
CHIP = ChipMemory(2**27, (8, 128))
FULL = 512 * 256 * 4


def program_of(twice: bool = False, mesh=MESH, chip=CHIP):
    def loss(weights, x):
        made = jnp.tanh(x @ weights)
        return jnp.mean(jnp.square(made @ weights.T if twice else made))

    def step(weights, x):
        return weights - jax.grad(loss)(weights, x)

    arguments = jax.ShapeDtypeStruct((512, 256), jnp.float32), jax.ShapeDtypeStruct((64, 512), jnp.float32)
    graph = passes.canonicalize(ir.trace(step, *arguments, names={"weights": "embed mlp", "x": "batch embed"}))
    return memory_program(graph, assign_roles(graph), chip=chip, mesh=DeviceMesh.of(mesh))


def crossing(program, compute, storage):
    """(part, bytes) of what crosses, in the order in which it comes."""
    rules = passes.Plan.by_hand(MESH, compute, storage).rules
    found = [(program.entries[event.entry], event.sign) for event in program.events]
    entries = [entry for entry, sign in found if isinstance(entry, Crossing) and sign > 0]
    return [(each.part, int(size)) for each in entries if (size := each.local(rules, CHIP))]


@pytest.mark.parametrize(
    "compute, storage, parts",
    [
        # Each device of a slice sends half of the sum that the slice has made, and has it of the other.
        ({"batch": [SLOW_AXIS, "data"]}, {}, [("records", 3 * 2**14), ("arrived", FULL // 2), ("sent", FULL // 2)]),
        ({"batch": [SLOW_AXIS]}, {}, [("records", 3 * 2**14), ("arrived", FULL), ("sent", FULL)]),
        ({"batch": ["data"]}, {}, []),
        ({"batch": ["data"]}, {"mlp": ["data"]}, []),
        # Gathered between slices first; of the sum each slice keeps its half.
        (
            {"batch": [SLOW_AXIS, "data"]},
            {"embed": [SLOW_AXIS, "data"]},
            [
                *[("records", 3 * 2**14), ("arrived", FULL // 2)],
                *[("records", 3 * 2**14), ("arrived", FULL // 4), ("sent", FULL // 2)],
            ],
        ),
    ],
)
def test_what_crosses(compute, storage, parts):
    assert crossing(program_of(), compute, storage) == parts


def test_gradients_of_one_parameter_are_added_before_they_cross():
    assert [part for part, _ in crossing(program_of(twice=True), {"batch": [SLOW_AXIS]}, {})].count("sent") == 1


def test_what_arrives_waits_in_memory_for_the_update():
    plan = passes.Plan.by_hand(MESH, {"batch": [SLOW_AXIS]}, {})
    peak, parts = program_of().peak(plan.rules, CHIP)
    assert parts["gradients"] == 2 * FULL
    alone, _ = program_of(mesh={"data": 4}).peak(plan.rules, CHIP)
    assert peak - alone == 2 * FULL + 3 * 2**14


@pytest.mark.parametrize("mesh, chip", [({"data": 4}, CHIP), (MESH, PLAIN_MEMORY)])
def test_one_slice_and_other_chips_have_none_of_it(mesh, chip):
    assert not any(isinstance(each, Crossing) for each in program_of(mesh=mesh, chip=chip).entries)
