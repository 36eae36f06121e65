"""What collectives cost, with a worked check of the formulas, and chips as data."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from step_models import prepared

import passes
from passes import DeviceMesh, PlanError, summary
from passes.hardware.chip import CHIPS, Overlap, chip_of
from passes.hardware.network import Network
from passes.planner.cost import step_seconds

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


# Chips as data.

ROW = """\
h20:
  source: https://example.com/h20.pdf, page 3
  bf16_tflops: 148
  memory_gb: 96
  hbm_gb_per_s: 4000
  network: switched
  link_gb_per_s: 450
  host_chips: 8
  host_gb_per_s: 4e2
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda text: (tmp_path / "my.yaml").write_text(text)


def test_the_numbers_of_the_chips_that_ship():
    """The plans of today stand on these."""
    assert {name: (c.flops, c.capacity, c.memory_bandwidth, c.link) for name, c in CHIPS.items()} == {
        "v4": (2.75e14, 32 * 10**9, 1.2e12, 45e9),
        "v5e": (1.97e14, 16 * 10**9, 8.1e11, 45e9),
        "v5p": (4.59e14, 96 * 10**9, 2.8e12, 90e9),
        "v6e": (9.20e14, 32 * 10**9, 1.6e12, 90e9),
        "a100": (3.1e14, 80 * 10**9, 2.0e12, 300e9),
        "h100": (9.9e14, 80 * 10**9, 3.4e12, 370e9),
        "h200": (9.9e14, 141 * 10**9, 4.8e12, 370e9),
    }
    assert {name: (c.wraps_at, c.slow_per_host, c.host) for name, c in CHIPS.items()} == {
        "v4": (4, 25e9, 4),
        "v5e": (16, 25e9, 8),
        "v5p": (4, 25e9, 4),
        "v6e": (16, 25e9, 8),
        "a100": (0, 200e9, 8),
        "h100": (0, 400e9, 8),
        "h200": (0, 400e9, 8),
    }
    assert {(c.overlap.state, c.overlap.activations) for c in CHIPS.values()} == {(0.8, 0.0)}
    assert all(c.source.startswith("https://") for c in CHIPS.values())


def test_a_chip_of_your_own(write):
    write(ROW + ROW.replace("h20", "h21").replace("148", "296") + "  overlap_state: 0.5\n")
    first, second = chip_of("my.yaml:h20"), chip_of("my.yaml:h21")
    assert (first.flops, first.capacity, first.memory_bandwidth) == (1.48e14, 96 * 10**9, 4e12)
    assert (first.link, first.switched, first.slow_per_host, first.host) == (450e9, True, 400e9, 8)
    assert (first.source, first.overlap.state) == ("https://example.com/h20.pdf, page 3", 0.8)
    assert (second.flops, second.overlap.state) == (2.96e14, 0.5)
    write(ROW)
    assert chip_of("my.yaml") == replace(first, name="my.yaml")  # one chip needs no name


def test_a_plan_for_a_chip_of_your_own(write):
    """The plan finds its chip again, by the file or as the chip itself."""
    write(ROW)
    graph = prepared("mlp")
    by_file = passes.plan(graph, "4x2", "my.yaml:h20")
    itself = passes.plan(graph, "4x2", replace(chip_of("my.yaml:h20"), name="mine"))
    assert (by_file.hardware, itself.hardware) == ("my.yaml:h20", "mine")
    assert by_file.chip.capacity == itself.chip.capacity == 96 * 10**9
    result = passes.run(graph, "4x2", plan=itself)
    assert summary.memory(result.graph, itself)["capacity"] == 96 * 10**9


def test_overlap_is_the_chips(write):
    """All of the state's communication hidden, or none: the step differs by what the chip trusts."""
    graph = prepared("mlp")
    seconds = {}
    for share in (0.0, 0.5, 1.0):
        write(ROW + f"  overlap_state: {share}\n")
        plan = passes.Plan.by_hand("8", {"batch": "data"}, hardware="my.yaml:h20")
        result = passes.run(graph, "8", plan=plan)
        times = summary.times(result.graph, result.placed, plan)
        assert times.overlap == share
        seconds[share] = times.step
    assert seconds[0.0] > seconds[0.5] >= seconds[1.0]


def test_activations_may_overlap_too():
    assert step_seconds(10.0, 4.0, 2.0, Overlap(0.8, 0.0)) == 10 + 4 + 2 - 0.8 * 2
    assert step_seconds(10.0, 4.0, 2.0, Overlap(0.8, 0.5)) == 10 + 4 + 2 - (0.8 * 2 + 0.5 * 4)
    assert step_seconds(1.0, 4.0, 2.0, Overlap(1.0, 1.0)) == 1 + 4 + 2 - 1


@pytest.mark.parametrize(
    ("text", "hardware", "message"),
    [
        (ROW, "my.yaml:h2", "hardware 'my.yaml:h2': my.yaml has h20; did you mean 'h20'?"),
        (
            ROW + ROW.replace("h20", "h21"),
            "my.yaml",
            "hardware 'my.yaml': my.yaml has h20, h21; say which, as in my.yaml:h20",
        ),
        (ROW, "mine.yaml:h20", "hardware 'mine.yaml:h20': cannot read mine.yaml: no such file or directory"),
        (
            ROW.replace("hbm_gb_per_s", "hbm_gbs"),
            "my.yaml:h20",
            "my.yaml:5: unknown key `hbm_gbs` of chip `h20`; did you mean `hbm_gb_per_s`?",
        ),
        (
            ROW.replace("  memory_gb: 96\n", "").replace("  source: https://example.com/h20.pdf, page 3\n", ""),
            "my.yaml:h20",
            "my.yaml:1: chip `h20` lacks `source`, `memory_gb`",
        ),
        (
            ROW.replace("switched", "torus"),
            "my.yaml:h20",
            "my.yaml:1: chip `h20` lacks `ring_multiple`",
        ),
        (
            ROW.replace("96", "-96"),
            "my.yaml:h20",
            "my.yaml:4: `memory_gb` of chip `h20` is `-96`; expected a number above 0",
        ),
        (
            ROW.replace("96", "96 GB"),
            "my.yaml:h20",
            "my.yaml:4: `memory_gb` of chip `h20` is `96 GB`; expected a number above 0",
        ),
        (
            ROW.replace("chips: 8", "chips: 8.5"),
            "my.yaml:h20",
            "my.yaml:8: `host_chips` of chip `h20` is `8.5`; expected a whole number of at least 1",
        ),
        (
            ROW + "  overlap_state: 80\n",
            "my.yaml:h20",
            "my.yaml:10: `overlap_state` of chip `h20` is `80`; expected a share from 0 to 1",
        ),
        (
            ROW.replace("switched", "ring"),
            "my.yaml:h20",
            "my.yaml:6: `network` of chip `h20` is `ring`; expected torus or switched",
        ),
        (
            ROW + "  memory_gb: 80\n",
            "my.yaml:h20",
            "my.yaml:10: `memory_gb` of chip `h20` is given twice (first at line 4); remove one of them",
        ),
        (ROW + ROW, "my.yaml:h20", "my.yaml:10: chip `h20` is given twice (first at line 1); remove one of them"),
        (
            "h20: 5\n",
            "my.yaml:h20",
            "my.yaml:1: chip `h20` is not a section of keys and values, such as `memory_gb: 80`",
        ),
        (
            "",
            "my.yaml:h20",
            "my.yaml: it holds no chips; write `NAME:` and below it `source:`, `bf16_tflops:` and so on",
        ),
        ("a: [\n", "my.yaml:a", "my.yaml:2: not valid YAML: expected the node content, but found '<stream end>'"),
    ],
)
def test_a_chip_file_that_is_wrong(write, text, hardware, message):
    write(text)
    with pytest.raises(PlanError) as caught:
        chip_of(hardware)
    assert str(caught.value) == message
