"""What a TPU is sent for a collective, beside what libtpu 0.0.42 compiled of programs of that one collective."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest

from passes.hardware.chip import CHIPS
from passes.hardware.network import Network
from passes.hardware.scatters import Scattered
from passes.hardware.sends import REDUCE, Printed, is_vector
from passes.sharding.mesh import DeviceMesh

SQUARE, SLICE, CUBE = "data=2,model=2", "data=4,model=2", "data=2,sequence=2,model=2"
GATHER, SCATTER = "all_gather", "reduce_scatter"


def sent(
    chip: str, mesh: str, kind: str, axes: str, shape: tuple[int, ...], at: int, item: int = 4, summed: bool = False
) -> str:
    """The kind that is sent for a collective of an array of this shape, which is cut, or was, along one dim.

    Args:
        shape: before it is scattered, after it is gathered.
    """
    network = Network(DeviceMesh.of(mesh), CHIPS[chip])
    assert network.sends is not None
    mask = network.mesh.mask(axes.split())
    parts = int(network.mesh.group(mask))
    cut = [size // (parts if i == at else 1) for i, size in enumerate(shape)]
    made, had = (cut, shape) if kind == SCATTER else (shape, cut)
    cuts = kind == SCATTER and len(shape) > 1
    scattered = Scattered(shape, at, cut[at], item, summed=summed) if cuts else None
    each = Printed(kind, mask, prod(shape) * item, bool(is_vector(made)), prod(had), False, scattered)
    apart = [bool(rate[mask]) for rate in (network.rates.unscattered, network.rates.squared)]
    found, volume, reason = network.sends.of(each, *apart)
    assert volume == prod(shape) * item and bool(reason) == (found != kind)
    return found


SCATTERED = [
    # An even number of tiles of 8 × 128 goes half each way round; an odd one does not.
    *[("v5e", SLICE, "data model", (64, lanes), 0) for lanes in (176, 256, 512)],
    *[("v5e", SLICE, "data model", (rows, 64), 1) for rows in (176, 256, 1024, 16384, 50176, 65536)],
    *[("v5e", SLICE, "data model", shape, 0) for shape in ((128, 384), (512, 768), (768, 3072), (16384, 64))],
    *[("v5e", SLICE, "data", (rows, 64), 1) for rows in (50304, 25152)],
    # Whole rows of lanes, of any number.
    *[("v5e", SLICE, "data model", (rows, 1024), 1) for rows in (8, 16, 24)],
    *[("v5e", SLICE, "data", (8, lanes), 1) for lanes in (512, 1536)],
    # On a square of four, halves of shards are what is scattered.
    *[(chip, SQUARE, "data model", shape, 0) for chip in ("v5e", "v5p") for shape in ((64, 256), (128, 128))],
    *[("v5p", CUBE, "data sequence", shape, 0) for shape in ((64, 256), (128, 384))],
    ("v5p", CUBE, "data", (32, 128), 0),
    # Of several dims.
    *[
        ("v5e", SLICE, "data model", shape, 0)
        for shape in ((1024, 12, 64), (768, 16, 128), (8, 100, 300), (16, 100, 300))
    ],
    *[("v5e", SLICE, "data model", shape, 1) for shape in ((3, 1024, 64), (4, 768, 256), (4, 768, 3072))],
    ("v5e", "data=8,model=4", "data model", (256, 256), 0),
    ("v5p", "data=4,sequence=4,model=2", "data sequence", (128, 256), 0),
    # With one element of a dim on each device: whole rows of lanes, in the layout of least room.
    *[("v5e", SLICE, "data", shape, 0) for shape in ((512, 1, 64), (512, 1, 2, 64), (1024, 1, 64))],
    *[("v5e", SLICE, "data", shape, 2) for shape in ((1, 64, 512), (1, 128, 512))],
    ("v5e", SLICE, "data", (1, 1024, 200), 1),
    ("v5p", CUBE, "data sequence", (512, 1, 64), 0),
    # Half empty in every layout.
    *[("v5e", SLICE, "data", shape, 2) for shape in ((2, 32, 64), (3, 48, 64), (6, 32, 64))],
    *[("v5e", SLICE, "data", shape, 0) for shape in ((64, 2, 16), (64, 3, 16), (32, 2, 8), (64, 12, 64))],
    *[("v5e", SLICE, "data model", shape, 2) for shape in ((2, 16, 64), (4, 16, 64))],
]
REDUCED = [
    *[("v5e", SLICE, "data model", (64, lanes), 0) for lanes in (128, 384)],
    *[("v5e", SLICE, "data model", (rows, 64), 1) for rows in (128, 384, 640, 50304)],
    *[("v5e", SLICE, axes, (rows, 64), 0) for axes, rows in (("data model", 50304), ("data", 50304), ("data", 25152))],
    *[("v5e", SLICE, "data model", shape, 0) for shape in ((64, 64), (32, 512), (768, 12, 64), (768, 3, 12, 64))],
    *[("v5e", SLICE, "data model", shape, 1) for shape in ((12, 768, 64), (3, 768, 64))],
    ("v5e", SLICE, "data", (50304, 32), 1),
    ("v5e", SLICE, "model", (50304, 16), 1),
    *[(chip, SQUARE, "data model", shape, 0) for chip in ("v5e", "v5p") for shape in ((32, 512), (64, 128))],
    *[("v5p", CUBE, "data sequence", shape, 0) for shape in ((64, 384), (32, 256))],
    ("v5p", CUBE, "data", (16, 128), 0),
    ("v5p", CUBE, "data sequence model", (512, 512), 0),  # a whole slice of three dims
    ("v5e", "data=4,model=4", "data model", (512, 512), 0),  # and of two alike
    ("v5e", "data=8,model=4", "data model", (256, 128), 0),
    ("v5p", "data=4,sequence=4,model=2", "data sequence", (128, 128), 0),
    ("v5e", SLICE, "data", (4096,), 0),
    *[("v5e", SLICE, "data", (64, 1, *others), 0) for others in ((16,), (2, 16), (32,), (64,), (128,))],
    *[("v5e", SLICE, "data", (rows, 1, 128), 0) for rows in (256, 768, 1024)],
    *[("v5e", SLICE, "data", shape, 1) for shape in ((1, 64, 176), (1, 64, 256), (1, 512, 128))],
    ("v5e", SLICE, "data", (1, 2, 16, 64), 3),
    ("v5e", SLICE, "data", (768, 1, 96), 0),
    ("v5p", CUBE, "data sequence", (64, 1, 16), 0),
    *[("v5e", SLICE, "data", shape, 2) for shape in ((2, 16, 64), (3, 16, 64), (6, 8, 64))],
    *[("v5e", SLICE, "model", shape, 0) for shape in ((64, 3, 16), (32, 2, 8))],
    ("v5e", SLICE, "data model", (4, 8, 64), 2),
]


@pytest.mark.parametrize(("chip", "mesh", "axes", "shape", "at"), SCATTERED)
def test_what_is_scattered(chip: str, mesh: str, axes: str, shape: tuple[int, ...], at: int) -> None:
    assert sent(chip, mesh, SCATTER, axes, shape, at) == SCATTER


@pytest.mark.parametrize(("chip", "mesh", "axes", "shape", "at"), REDUCED)
def test_what_is_reduced_in_place_of_being_scattered(
    chip: str, mesh: str, axes: str, shape: tuple[int, ...], at: int
) -> None:
    assert sent(chip, mesh, SCATTER, axes, shape, at) == REDUCE


@pytest.mark.parametrize(
    ("chip", "mesh", "rows", "wanted"),
    [
        *[("v5p", CUBE, rows, REDUCE) for rows in (16768, 24704, 25152, 25216)],  # of a prime number of tiles
        *[("v5p", CUBE, rows, SCATTER) for rows in (12416, 24832, 25088, 25344, 25728)],
        ("v5p", SQUARE, 25216, REDUCE),
        ("v5p", SQUARE, 25344, SCATTER),
        *[(chip, SQUARE, rows, SCATTER) for chip in ("v5e", "v6e") for rows in (16256, 25216)],
    ],
)
def test_over_a_square_pieces_must_come_out_even(chip: str, mesh: str, rows: int, wanted: str) -> None:
    axes = "data sequence" if mesh == CUBE else "data model"
    assert sent(chip, mesh, SCATTER, axes, (rows, 768), 1, item=2) == wanted


def test_a_sum_of_an_array_is_laid_out_as_that_is() -> None:
    """The gradients of the position embeddings of ViT, gpt2_small and gpt2_nano, as these steps were compiled."""
    for shape, wanted in (((197, 768), REDUCE), ((128, 64), SCATTER)):
        assert sent("v5e", SLICE, SCATTER, "data", shape, 1, summed=True) == wanted
    assert sent("v5e", SLICE, SCATTER, "data model", (197, 768), 1, summed=True) == REDUCE
    assert sent("v5e", SLICE, SCATTER, "data model", (1024, 768), 1, summed=True) == SCATTER


def test_vectors_are_gathered_in_whole_rows_of_lanes() -> None:
    kinds = [sent("v5e", SLICE, GATHER, "data", (size,), 0) for size in (4 * 64, 4 * 128, 4 * 192, 4 * 256)]
    assert kinds == [REDUCE, GATHER, REDUCE, GATHER]
    assert sent("v5e", SLICE, GATHER, "data", (64, 64), 0) == GATHER


@pytest.mark.parametrize(("chip", "mesh"), [("v5e", SLICE), ("v5p", CUBE)])
def test_what_lies_in_tiles_of_one_row_is_gathered_as_it_is(chip: str, mesh: str) -> None:
    """Weights that one product reads, in jit with nothing else; in bf16 and f32."""
    sends = Network(DeviceMesh.of(mesh), CHIPS[chip]).sends
    assert sends is not None
    alone = [(64, 1, 4), (64, 1, 16), (64, 1, 88), (64, 1, 128), (256, 1, 128), (64, 1, 1, 16)]
    paired = [(64, 16), (64, 2, 16), (64, 1, 136), (64, 1, 256), (64, 2, 1, 16), (64, 1, 2, 16), (64, 1, 1, 384)]
    assert all(sends.in_lone_rows(shape, 0) for shape in alone)
    assert not any(sends.in_lone_rows(shape, 0) for shape in paired)
    assert sends.in_lone_rows((1, 64, 1, 16), 1) and not sends.in_lone_rows((2, 64, 1, 16), 1)


@pytest.mark.parametrize(("chip", "mesh"), [("v5e", SLICE), ("v5p", CUBE)])
def test_slices_of_stacks_that_lie_in_tiles_of_one_row_are_gathered_as_they_are(chip: str, mesh: str) -> None:
    """Weights of a loop over layers, gathered in shards over four devices, as compiled: which of them in f32."""
    sends = Network(DeviceMesh.of(mesh), CHIPS[chip]).sends
    assert sends is not None
    alone = [(64, 2), (64, 4), (64, 8), (64, 12), (96, 8), (256, 8), (768, 88), (1600, 88), (384, 64), (64, 1, 4)]
    paired = [(64, 16), (64, 88), (512, 8), (1024, 4), (768, 128), (768, 136), (64, 2, 4), (64, 8, 8), (64, 2, 16)]
    assert all(sends.in_lone_slices(shape, 0, shape[0] // 4) for shape in alone)
    assert not any(sends.in_lone_slices(shape, 0, shape[0] // 4) for shape in paired)
    last = {(4, 64): True, (8, 64): True, (16, 64): True, (88, 64): False, (128, 64): False, (2, 16, 64): False}
    assert {shape: bool(sends.in_lone_slices(shape, len(shape) - 1, 16)) for shape in last} == last


def test_other_chips_send_what_is_printed() -> None:
    assert all(CHIPS[chip].compiler == "xla" for chip in ("a100", "h100", "h200"))
    assert Network(DeviceMesh.of("8"), CHIPS["h100"]).sends is None


def test_what_is_reduced_in_place_of_being_scattered_takes_twice_as_long() -> None:
    network = Network(DeviceMesh.of(CUBE), CHIPS["v5p"])
    volume, mask = 1 << 26, network.mesh.masks - 1
    scattered = Printed(SCATTER, mask, volume, scattered=Scattered((4096, 4096), 0, 512, 4))
    assert network.sent_seconds(scattered) == (network.seconds(REDUCE, mask, volume), 0.0)
    assert network.sent_seconds(scattered)[0] == pytest.approx(2 * network.seconds(SCATTER, mask, volume))
    gathered = Printed(GATHER, mask, volume, halved=True)
    assert network.sent_seconds(gathered) == (network.seconds(GATHER, mask, volume // 2), 0.0)


def test_what_is_reduced_is_waited_for() -> None:
    """Of v5e and v5p programs with libtpu's flags for it none of either runs inside of a fusion."""
    network, volume = Network(DeviceMesh.of("replica=2,data=4,model=2"), CHIPS["v5e"]), 1 << 26
    inside, over = network.mesh.mask(["data"]), network.mesh.mask(["replica", "data"])
    alone = network.seconds(SCATTER, inside, volume)
    each = Printed(SCATTER, inside, volume, scattered=Scattered((4096, 4096), 0, 1024, 4))
    assert network.sent_seconds(each, awaited=False) == (alone, alone)
    # What goes between slices is not.
    taken, waited = network.sent_seconds(Printed(SCATTER, over, volume), awaited=False)
    assert waited == alone < taken
    taken, waited = network.sent_seconds(Printed(REDUCE, inside, volume), awaited=False)
    assert waited == taken > alone


def test_a_gather_is_waited_for_but_behind_a_product() -> None:
    """Of eight layers, unrolled, of 2048 to 8192, on v5e, all gathers but the first run inside of fusions."""
    network = Network(DeviceMesh.of("replica=2,data=4,model=2"), CHIPS["v5e"])
    each = Printed(GATHER, network.mesh.mask(["data"]), 1 << 26)
    taken, waited = network.sent_seconds(each, awaited=False)
    assert waited == taken
    hops = network.seconds(GATHER, each.mask, 0)
    assert network.sent_seconds(each, awaited=False, beside=True) == (taken, hops)
    vector = replace(each, vector=True, shard=7)
    taken, waited = network.sent_seconds(vector, awaited=False, beside=True)
    assert waited == taken == network.seconds(REDUCE, each.mask, each.bytes, awaited=False)
    switched = Network(DeviceMesh.of("data=4,model=2"), CHIPS["h100"])
    assert switched.sent_seconds(each, awaited=False)[1] == 0.0
