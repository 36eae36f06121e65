"""What collectives cost, with a worked check of the formulas, and chips as data."""

from dataclasses import replace
from math import prod

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from step_models import prepared

import haliax
import ir
import passes
from passes import DeviceMesh, PlanError, summary
from passes.hardware.chip import CHIPS, Overlap, chip_of
from passes.hardware.network import Network
from passes.hardware.torus import torus_of
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
    ("chip", "size", "width", "hops"),
    [
        ("v5e", 2, 45e9, 1),  # one link
        ("v5e", 4, 90e9, 2),  # 2 x 2
        ("v5e", 8, 90e9, 4),  # 2 x 4: open chains
        ("v5e", 16, 90e9, 6),
        ("v5e", 256, 180e9, 16),  # 16 x 16: both dims close
        ("v4", 2, 45e9, 1),
        ("v4", 8, 135e9, 3),  # 2 x 2 x 2
        ("v4", 64, 270e9, 6),  # a cube of 4: all dims close
        ("v5p", 2048, 540e9, 20),  # 16 x 16 x 8
        ("v6e", 256, 360e9, 16),
        ("v6e", 64, 180e9, 14),  # 8 x 8: nothing closes
    ],
)
def test_one_mesh_axis_owns_all_dims_of_the_torus(chip, size, width, hops, kind):
    volume = 400 * MB
    gather = max(hops * 1e-6, (size - 1) / size * volume / width)
    factor = {"all_gather": 1, "reduce_scatter": 1, "all_reduce": 2, "all_to_all": 0.25}[kind]
    assert seconds(chip, {"x": size}, ["x"], kind, volume) == pytest.approx(factor * gather, rel=1e-12)


def test_the_data_axis_of_a_pod():
    """A gather of 117 MB over data=2048 of a v5p, 16 x 16 x 8 of its torus, takes 217 µs. Beside model=4 its slice is
    16 x 16 x 32, and four such groups share the links of the long dim: 4.5 of them are there for each, not 6."""
    for mesh, links in (({"data": 2048}, 6), ({"data": 2048, "model": 4}, 4.5)):
        taken = seconds("v5p", mesh, ["data"], "all_gather", 117 * MB)
        assert taken == pytest.approx(217e-6 * 6 / links, rel=0.005)


@pytest.mark.parametrize(
    ("chip", "sizes", "form", "parts"),
    [
        ("v5p", (2048, 4), (32, 16, 16), ((8, 16, 16), (4, 1, 1))),
        ("v5p", (2240, 4), (16, 20, 28), ((16, 20, 7), (1, 1, 4))),  # all of a pod
        ("v5p", (16, 16), (16, 4, 4), ((16, 1, 1), (1, 4, 4))),
        ("v5e", (16, 16), (16, 16), ((16, 1), (1, 16))),
        ("v5e", (8, 4), (8, 4), ((8, 1), (1, 4))),
        ("v5e", (32, 8), (16, 16), ((16, 2), (1, 8))),  # the second dim is shared
    ],
)
def test_how_mesh_axes_lie(chip, sizes, form, parts):
    torus = torus_of(sizes, CHIPS[chip].slice, CHIPS[chip].wraps_at)
    assert sorted(torus.form) == sorted(form)
    assert sorted(zip(*torus.parts, strict=True)) == sorted(zip(*parts, strict=True))  # dims in any order


def test_a_chain_of_chips_that_are_no_neighbours_has_a_share_of_the_links():
    """32 x 8 on 16 x 16: the inner axis is 8 neighbours; of the outer one, 2 are 8 apart on that dim, both ways."""
    volume = 400 * MB
    outer, inner = (seconds("v5e", {"x": 32, "y": 8}, [axis], "all_gather", volume) for axis in "xy")
    assert outer == pytest.approx(31 / 32 * volume / (90e9 + 2 * 45e9 / 8))
    assert inner == pytest.approx(7 / 8 * volume / 45e9)


@given(st.lists(st.sampled_from([1, 2, 3, 4, 6, 8]), min_size=1, max_size=4), st.sampled_from(["v4", "v5e", "v5p"]))
@settings(max_examples=60, deadline=None)
def test_every_chip_of_a_slice_is_in_one_place(sizes, chip):
    torus = torus_of(sizes, CHIPS[chip].slice, CHIPS[chip].wraps_at)
    assert [prod(parts) for parts in torus.parts] == sizes
    assert [prod(column) for column in zip(*torus.parts, strict=True)] == list(torus.form)
    # Over all axes together it does not matter how they share dims.
    assert torus.links(range(len(sizes))) == sum(
        2 if torus.closes(dim) else 1 for dim, n in enumerate(torus.form) if n > 1
    )


def test_small_messages_cost_the_hops():
    assert seconds("v5e", {"x": 8}, ["x"], "all_gather", 8) == pytest.approx(4e-6)
    assert seconds("v5e", {"x": 8}, ["x"], "all_reduce", 8) == pytest.approx(8e-6)
    assert seconds("v5e", {"x": 8, "y": 4}, ["x", "y"], "all_gather", 8) == pytest.approx(10e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_small_messages_cost_the_launch_on_gpus(kind):
    assert seconds("h100", {"x": 8}, ["x"], kind, 4) == pytest.approx(10e-6, rel=1e-4)
    assert seconds("h100", {"x": 2, "y": 8}, ["x"], kind, 4) == pytest.approx(10e-6, rel=1e-4)
    assert seconds("h100", {"x": 16}, ["x"], kind, 4) == pytest.approx(20e-6, rel=1e-4)


def test_torus_axes_add_up():
    one = seconds("v5p", {"x": 16, "y": 16}, ["x"], "all_gather", 400 * MB)
    both = seconds("v5p", {"x": 16, "y": 16}, ["x", "y"], "all_gather", 400 * MB)
    assert one == pytest.approx(15 / 16 * 400 * MB / 180e9)
    assert both == pytest.approx(255 / 256 * 400 * MB / 540e9)


def test_small_collectives_that_nothing_waits_for_are_sent_as_one():
    """Eight all-reduces of 10 KB are launched as one; libtpu joins them, and joins no all-gathers."""
    mesh, volume = DeviceMesh.of({"x": 8}), 10_000
    for chip, kind, combines in (
        ("v5e", "all_reduce", True),
        ("v5e", "all_gather", False),
        ("h100", "all_reduce", True),
        ("h100", "all_gather", True),
        ("h100", "all_to_all", False),
    ):
        network = Network(mesh, CHIPS[chip])
        alone, free = (float(network.seconds(kind, 1, volume, awaited)) for awaited in (True, False))
        assert 8 * free == pytest.approx(alone, rel=0.05) if combines else free == alone
        large = 100 * MB  # these are sent one by one
        assert network.seconds(kind, 1, large, False) == pytest.approx(network.seconds(kind, 1, large, True))


LAUNCH = 10e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("chip", "width"), [("a100", 300e9), ("h100", 370e9), ("h200", 370e9)])
def test_a_switched_node(chip, width, kind):
    n, volume = 8, 400 * MB
    gather = volume * (n - 1) / (n * width)
    factor = {"all_gather": 1, "reduce_scatter": 1, "all_reduce": 2, "all_to_all": 1 / n}[kind]
    assert seconds(chip, {"x": n}, ["x"], kind, volume) == pytest.approx(LAUNCH + factor * gather, rel=1e-12)


def test_switched_bandwidth_does_not_add_up():
    whole = seconds("h100", {"x": 8}, ["x"], "all_gather", 400 * MB)
    assert seconds("h100", {"x": 4, "y": 2}, ["x", "y"], "all_gather", 400 * MB) == pytest.approx(whole)


def test_gpus_beyond_the_node_cross_the_slow_network():
    inside = seconds("h100", {"data": 2, "model": 8}, ["model"], "all_reduce", 400 * MB)
    across = seconds("h100", {"data": 2, "model": 8}, ["data"], "all_reduce", 400 * MB)
    assert across == pytest.approx(LAUNCH + 2 * 400 * MB / 2 / (400e9 / 8))
    assert across > 4 * inside


def test_one_axis_over_two_nodes_costs_what_two_axes_do():
    """1 GB over 16 GPUs: 3.6 ms, written as 16, 2x8, 4x4 or 8x2."""
    for mesh in ({"x": 16}, {"x": 2, "y": 8}, {"x": 4, "y": 4}, {"x": 8, "y": 2}):
        found = seconds("h100", mesh, list(mesh), "all_gather", 1000 * MB)
        assert found == pytest.approx(2 * LAUNCH + 1000 * MB * (7 / 8 / 370e9 + 1 / 2 / 8 / 50e9))
        assert found == pytest.approx(3.6e-3, rel=0.015)


def test_nodes_that_are_used_in_part():
    """12 GPUs are two nodes of 6; axes that do not fill nodes go by the node with the fewest of a group."""
    whole = seconds("h100", {"x": 12}, ["x"], "all_gather", 1200 * MB)
    assert whole == pytest.approx(2 * LAUNCH + 1200 * MB * (5 / 6 / 370e9 + 1 / 2 / 6 / 50e9))
    assert seconds("h100", {"x": 4, "y": 3}, ["x", "y"], "all_gather", 1200 * MB) == pytest.approx(whole)
    # Of 3 x 4 the second row is two GPUs on each node; all others are on one, and the slowest counts.
    row = seconds("h100", {"x": 3, "y": 4}, ["y"], "all_gather", 1200 * MB)
    assert row == pytest.approx(2 * LAUNCH + 1200 * MB * (3 / 4 / 370e9 + 1 / 2 / 2 / 50e9))
    assert seconds("h100", {"x": 6}, ["x"], "all_gather", 1200 * MB) == pytest.approx(
        LAUNCH + 1200 * MB * 5 / 6 / 370e9
    )


def test_what_has_no_room_in_a_slice_is_several():
    """512 v5e are two slices of 16 x 16 chips, with the slow network between them."""
    found = seconds("v5e", {"x": 512}, ["x"], "all_gather", 400 * MB)
    assert found == pytest.approx(10e-6 + 400 * MB * (255 / 256 / 180e9 + 1 / 2 / 256 / (25e9 / 8)))
    assert found == pytest.approx(seconds("v5e", {"replica": 2, "x": 256}, ["replica", "x"], "all_gather", 400 * MB))


def test_replica_is_the_slow_network_of_a_tpu():
    fast = seconds("v5e", {"replica": 2, "data": 4}, ["data"], "all_reduce", 400 * MB)
    slow = seconds("v5e", {"replica": 2, "data": 4}, ["replica"], "all_reduce", 400 * MB)
    assert slow == pytest.approx(10e-6 + 2 * 400 * MB / 2 / (25e9 / 8))
    # Hierarchical: reduce-scatter inside, all-reduce across what is left, all-gather inside.
    both = seconds("v5e", {"replica": 2, "data": 4}, ["replica", "data"], "all_reduce", 400 * MB)
    assert both == pytest.approx(fast + 10e-6 + 2 * 100 * MB / 2 / (25e9 / 8))


def test_products_go_at_the_speed_of_what_they_multiply():
    """On a TPU float32 is multiplied as bf16 is, which is what XLA compiles by default (libtpu: 1,083,068 cycles
    for 4096 x 4096 in bf16, 1,105,216 in float32); on a GPU in TF32, at half the speed."""
    assert [CHIPS["h100"].rate(size) for size in (1, 2, 4)] == [1.979e15, 9.9e14, 4.95e14]
    assert [CHIPS["v5e"].rate(size) for size in (1, 2, 4)] == [3.94e14, 1.97e14, 1.97e14]
    axes = haliax.Axis("batch", 8192), haliax.Axis("embed", 8192), haliax.Axis("mlp", 8192)

    def compute(dtype):
        x, w = (haliax.named(jax.ShapeDtypeStruct((8192, 8192), dtype), each) for each in (axes[:2], axes[1:]))
        graph = ir.trace(lambda x, w: haliax.dot(x, w, axis=axes[1]), x, w)
        plan = passes.Plan.by_hand("1", {}, hardware="h100")
        return summary.times(graph, passes.run(graph, "1", plan=plan).placed, plan).compute

    assert compute("bfloat16") == pytest.approx(2 * 8192**3 / 9.9e14)
    assert compute("float32") == pytest.approx(2 * 8192**3 / 4.95e14)


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
    assert {name: c.slice for name, c in CHIPS.items() if not c.switched} == {
        "v4": (16, 16, 16),
        "v5e": (16, 16),
        "v5p": (16, 20, 28),
        "v6e": (16, 16),
    }
    assert {name: c.traffic_rate for name, c in CHIPS.items() if c.traffic_rate != c.memory_bandwidth} == {
        "v5p": 1.983e12
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
    assert first.traffic_rate == first.memory_bandwidth
    write(ROW)
    assert chip_of("my.yaml") == replace(first, name="my.yaml")  # one chip needs no name
    assert first.device_kind == ()
    for written, kinds in (("cpu", ("cpu",)), ("[H20, NVIDIA H20]", ("H20", "NVIDIA H20"))):
        write(ROW + f"  device_kind: {written}\n")
        assert chip_of("my.yaml").device_kind == kinds
    assert first.memory.kernel == ""
    write(ROW + "  attention_kernel: cudnn\n")
    assert chip_of("my.yaml").memory.kernel == "cudnn"
    assert first.compiler == "xla"
    write(ROW + "  compiler: libtpu\n")
    assert chip_of("my.yaml").compiler == "libtpu"


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
            ROW + "  slice: 16 by 16\n",
            "my.yaml:h20",
            "my.yaml:10: `slice` of chip `h20` is `16 by 16`; expected chips along each dim, such as 16x16",
        ),
        (
            ROW + "  device_kind: [A, [B]]\n",
            "my.yaml:h20",
            "my.yaml:10: `device_kind` of chip `h20` is `A`; expected what JAX calls such a device, or a list",
        ),
        (
            ROW + "  device_kind: {}\n",
            "my.yaml:h20",
            "my.yaml:10: `device_kind` of chip `h20` is `a section`; expected what JAX calls such a device, or a list",
        ),
        (
            ROW + "  attention_kernel: flash\n",
            "my.yaml:h20",
            "my.yaml:10: `attention_kernel` of chip `h20` is `flash`; expected splash or cudnn",
        ),
        (
            ROW + "  compiler: gcc\n",
            "my.yaml:h20",
            "my.yaml:10: `compiler` of chip `h20` is `gcc`; expected xla or libtpu",
        ),
        (
            ROW + "  launch_us: -1\n",
            "my.yaml:h20",
            "my.yaml:10: `launch_us` of chip `h20` is `-1`; expected a number of at least 0",
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


def test_a_bad_row_is_refused_where_it_is_asked_for(write):
    bad = ROW.replace("h20", "h21").replace("96", "-96")
    write(ROW + bad)
    assert chip_of("my.yaml:h20").capacity == 96e9
    with pytest.raises(PlanError, match="my.yaml:13: `memory_gb` of chip `h21` is `-96`; expected a number above 0"):
        chip_of("my.yaml:h21")
