"""What collectives cost: the formulas of design §6, and the worked check that they come with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passes import DeviceMesh, PlanError
from passes.hardware.chip import CHIPS, chip_of
from passes.hardware.network import Network

MB = 10**6
KINDS = ("all_gather", "reduce_scatter", "all_reduce", "all_to_all")


def seconds(chip, mesh, axes, kind, volume):
    network = Network(DeviceMesh.of(mesh), CHIPS[chip])
    return float(network.seconds(kind, network.mesh.mask(axes), volume))


def test_the_worked_check():
    """v5e 8x4, 34 MB gathered over the axis of 4: 560 µs without wrap-around (680 measured)."""
    assert seconds("v5e", {"x": 8, "y": 4}, ["y"], "all_gather", 34 * MB) == pytest.approx(560e-6, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("chip", "size", "width"),
    [
        ("v5e", 4, 45e9),  # an open chain
        ("v5e", 8, 45e9),
        ("v5e", 16, 90e9),  # a ring: wraps at 16
        ("v4", 4, 90e9),  # wraps at multiples of 4
        ("v4", 2, 45e9),
        ("v5p", 8, 180e9),
        ("v6e", 16, 180e9),
        ("v6e", 8, 90e9),
    ],
)
def test_a_torus_axis(chip, size, width, kind):
    volume = 400 * MB
    gather = max(size / 2 * 1e-6, (size - 1) / size * volume / width)
    factor = {"all_gather": 1, "reduce_scatter": 1, "all_reduce": 2, "all_to_all": 0.25}[kind]
    assert seconds(chip, {"x": size}, ["x"], kind, volume) == pytest.approx(factor * gather, rel=1e-12)


def test_small_messages_cost_the_hops():
    assert seconds("v5e", {"x": 8}, ["x"], "all_gather", 8) == pytest.approx(4e-6)
    assert seconds("v5e", {"x": 8}, ["x"], "all_reduce", 8) == pytest.approx(8e-6)
    assert seconds("v5e", {"x": 8, "y": 4}, ["x", "y"], "all_gather", 8) == pytest.approx(6e-6)


def test_torus_axes_add_up():
    one = seconds("v5p", {"x": 8, "y": 8}, ["x"], "all_gather", 400 * MB)
    both = seconds("v5p", {"x": 8, "y": 8}, ["x", "y"], "all_gather", 400 * MB)
    assert one == pytest.approx(7 / 8 * 400 * MB / 180e9)
    assert both == pytest.approx(63 / 64 * 400 * MB / 360e9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("chip", "width"), [("a100", 300e9), ("h100", 370e9), ("h200", 370e9)])
def test_a_switched_node(chip, width, kind):
    n, volume = 8, 400 * MB
    gather = volume * (n - 1) / (n * width)
    factor = {"all_gather": 1, "reduce_scatter": 1, "all_reduce": 2, "all_to_all": 1 / n}[kind]
    assert seconds(chip, {"x": n}, ["x"], kind, volume) == pytest.approx(factor * gather, rel=1e-12)


def test_switched_bandwidth_does_not_add_up():
    whole = seconds("h100", {"x": 8}, ["x"], "all_gather", 400 * MB)
    assert seconds("h100", {"x": 4, "y": 2}, ["x", "y"], "all_gather", 400 * MB) == pytest.approx(whole)


def test_gpus_beyond_the_node_cross_the_slow_network():
    inside = seconds("h100", {"data": 2, "model": 8}, ["model"], "all_reduce", 400 * MB)
    across = seconds("h100", {"data": 2, "model": 8}, ["data"], "all_reduce", 400 * MB)
    assert across == pytest.approx(2 * (400 * MB / 2 / (400e9 / 8) + 1e-6))
    assert across > 4 * inside


def test_replica_is_the_slow_network_of_a_tpu():
    fast = seconds("v5e", {"replica": 2, "data": 4}, ["data"], "all_reduce", 400 * MB)
    slow = seconds("v5e", {"replica": 2, "data": 4}, ["replica"], "all_reduce", 400 * MB)
    assert slow == pytest.approx(2 * (400 * MB / 2 / (25e9 / 8) + 1e-6))
    # Hierarchical: reduce-scatter inside, all-reduce across what is left, all-gather inside.
    both = seconds("v5e", {"replica": 2, "data": 4}, ["replica", "data"], "all_reduce", 400 * MB)
    assert both == pytest.approx(fast + 2 * (100 * MB / 2 / (25e9 / 8) + 1e-6))


def test_an_axis_of_size_one_costs_nothing():
    for chip in CHIPS:
        for kind in KINDS:
            assert seconds(chip, {"x": 1, "y": 4}, ["x"], kind, 400 * MB) == 0.0
            with_it, without = (seconds(chip, {"x": 1, "y": 4}, axes, kind, 400 * MB) for axes in (["x", "y"], ["y"]))
            assert with_it == pytest.approx(without)


@given(st.sampled_from(sorted(CHIPS)), st.sampled_from(KINDS), st.integers(0, 10**10), st.integers(0, 10**10))
@settings(max_examples=100, deadline=None)
def test_more_bytes_never_cost_less_and_arrays_agree_with_numbers(chip, kind, first, second):
    network = Network(DeviceMesh.of({"replica": 2, "data": 4, "model": 8}), CHIPS[chip])
    masks, volumes = np.arange(network.mesh.masks), np.array([[min(first, second)], [max(first, second)]])
    table = network.seconds(kind, masks, volumes)
    assert (table[0] <= table[1]).all() and (table >= 0).all()
    for mask in masks:
        assert float(network.seconds(kind, int(mask), first)) == table[int(first > second), mask]


def test_chips_are_found_in_any_case():
    assert chip_of("H100") is CHIPS["h100"]
    assert chip_of(CHIPS["v4"]) is CHIPS["v4"]


def test_an_unknown_chip():
    with pytest.raises(PlanError) as caught:
        chip_of("v5f")
    assert str(caught.value) == "hardware 'v5f': known are v4, v5e, v5p, v6e, a100, h100, h200; did you mean 'v5p'?"
