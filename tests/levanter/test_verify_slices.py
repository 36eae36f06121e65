"""Collectives over several TPU slices: each is put together from what the compiler makes of it.

`two_slices.hlo` is what libtpu makes, for two slices of v5p:2x2x1, of a program of nine collectives over `replica`
(the slices), `data` and `model`; without attributes that nothing here reads.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from levanter.compiler.verify.hlo import collectives
from levanter.compiler.verify.hlo_text import parse
from levanter.compiler.verify.slices import groups_of
from levanter.compiler.verify.topology import Topology, mesh_devices
from passes.hardware.chip import chip_of
from passes.hardware.network import Network
from passes.sharding.mesh import DeviceMesh

TEXT = (Path(__file__).parents[1] / "golden" / "two_slices.hlo").read_text()
MESH = {"replica": 2, "data": 2, "model": 2}
INNER = {"data": 2, "replica": 2, "model": 2}
CHIPS = [100000, 100002, 100001, 100003, 200000, 200002, 200001, 200003]
ALL = ("replica", "data", "model")
F32 = 4


def found(text: str = TEXT, mesh: dict[str, int] = MESH) -> set[tuple[str, tuple[str, ...], int]]:
    return {(each.kind, each.mesh_axes, each.bytes) for each in collectives(text, mesh, CHIPS)}


def test_each_collective_of_a_program_for_two_slices_is_one() -> None:
    assert found() == {
        ("all_reduce", ALL, 64 * 256 * F32),  # scattered inside, reduced between slices, gathered inside
        ("all_reduce", ALL, (192 + 1) * F32),  # a vector and a scalar, joined and filled up to 256
        ("all_gather", ALL, 8 * 16 * 128 * F32),
        ("all_reduce", ("replica", "data"), 4 * 8 * F32),  # a gather of vectors: reduced amid zeros
        ("reduce_scatter", ALL, 64 * 512 * F32),
        ("all_to_all", ("replica", "data"), 64 * 128 * F32),
        ("permute", ALL, 24 * 128 * F32),
        ("reduce_scatter", ("data",), 128 * 256 * F32),  # shards of a gradient that are then
        ("all_reduce", ("replica",), 64 * 256 * F32),  # reduced between slices
    }


def test_parts_that_do_not_hand_over_by_moves_alone_are_collectives_of_their_own() -> None:
    moved = "%bitcast = f32[4,8,128] bitcast(%reduce-scatter.1)"
    assert moved in TEXT
    added = moved.replace("bitcast(%reduce-scatter.1)", "add(%reduce-scatter.1, %reduce-scatter.1)")
    apart = found(TEXT.replace(moved, added))
    assert ("all_reduce", ALL, 64 * 256 * F32) not in apart
    assert {
        ("reduce_scatter", ("data", "model"), 64 * 256 * F32),
        ("all_reduce", ("replica",), 16 * 256 * F32),
        ("all_gather", ("data", "model"), 64 * 256 * F32),
    } <= apart


def test_parts_whose_sizes_do_not_fit_are_collectives_of_their_own() -> None:
    gathered = "f32[64,256] all-gather("
    assert TEXT.count(gathered) == 1
    apart = found(TEXT.replace(gathered, "f32[32,256] all-gather("))
    assert ("all_gather", ("data", "model"), 32 * 256 * F32) in apart
    assert ("all_reduce", ALL, 64 * 256 * F32) not in apart


def test_the_axis_of_the_slices_may_stand_anywhere() -> None:
    axes = ("data", "replica", "model")
    assert ("all_reduce", axes, 64 * 256 * F32) in found(mesh={"data": 2, "replica": 2, "model": 2})


@pytest.mark.parametrize(
    ("target", "groups"),
    [
        ("{1,2}x{0:3}", [(0, 4), (1, 5), (2, 6), (3, 7)]),
        ("{1:2}x{0,2}", [(0, 4), (2, 6)]),
        ("{{100000,100001,200000,200001},{100002,100003,200002,200003}}", [(0, 2, 4, 6), (1, 3, 5, 7)]),
        ("{{100003->200000},{200003->100000}}", [(3, 4), (7, 0)]),
    ],
)
def test_targets(target: str, groups: list[tuple[int, ...]]) -> None:
    assert groups_of(target, CHIPS) == groups


def test_a_program_for_one_slice_has_no_parts() -> None:
    """Its partition ids count all chips of the mesh."""
    one = TEXT.replace("num_partitions=4", "num_partitions=8")
    assert parse(one).num_partitions == 8
    assert not any("replica" in axes for _, axes, _ in found(one))


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason='needs pip install "levanter-compiler[tpu]"')
def test_chips_in_the_order_of_a_mesh() -> None:
    topology = Topology("v5p", (2, 2, 1), 2)
    outer, inner = (Network(DeviceMesh.of(mesh), chip_of("v5p")) for mesh in (MESH, INNER))
    assert [chip.id for chip in mesh_devices(topology, outer)] == CHIPS
    assert [chip.id for chip in mesh_devices(topology, inner)] == [
        100000,
        100002,
        200000,
        200002,
        100001,
        100003,
        200001,
        200003,
    ]
