"""Chips of a TPU in the order in which a mesh is priced."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

from passes.hardware.arrange import arranged
from passes.hardware.chip import CHIPS
from passes.hardware.network import Network
from passes.sharding.mesh import DeviceMesh


@dataclass(frozen=True)
class Chip:
    """A chip as JAX describes one."""

    coords: tuple[int, int, int]
    slice_index: int = 0
    platform: str = "tpu"


def chips(*form, slices=1):
    """In another order than that of their coordinates."""
    found = [Chip(place, i) for i in range(slices) for place in product(*map(range, form))]
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))]


def grid(hardware, mesh, found):
    network = Network(DeviceMesh.of(mesh), CHIPS[hardware])
    return network, np.array(arranged(found, network), dtype=object).reshape(network.mesh.sizes)


@pytest.mark.parametrize(
    ("hardware", "mesh", "form"),
    [
        ("v5p", {"data": 16, "model": 4}, (4, 4, 4)),
        ("v5p", {"data": 8, "sequence": 4, "model": 4}, (8, 4, 4)),
        ("v5e", {"data": 4, "model": 2}, (2, 4, 1)),
        ("v5e", {"data": 32, "model": 8}, (16, 16, 1)),
    ],
)
def test_each_mesh_axis_goes_along_its_own_dims(hardware, mesh, form):
    """Each line along a mesh axis has as many places along each dim of the torus as the price says."""
    network, placed = grid(hardware, mesh, chips(*form))
    assert len({chip.coords for chip in placed.flat}) == placed.size
    for axis, parts in enumerate(network.torus.parts):
        for line in np.moveaxis(placed, axis, -1).reshape(-1, placed.shape[axis]):
            along = [len({chip.coords[dim] for chip in line}) for dim in range(3)]
            assert sorted(along) == sorted((*parts, 1)[:3])


def test_inner_axes_of_a_shared_dim_are_neighbours():
    _, placed = grid("v5e", {"data": 32, "model": 8}, chips(16, 16, 1))
    for line in placed:
        steps = [np.abs(np.subtract(a.coords, b.coords)).sum() for a, b in zip(line, line[1:], strict=False)]
        assert steps == [1] * 7


def test_replica_is_the_slices():
    _, placed = grid("v5e", {"replica": 2, "data": 4, "model": 2}, chips(2, 4, 1, slices=2))
    assert [{chip.slice_index for chip in each.flat} for each in placed] == [{0}, {1}]


@pytest.mark.parametrize("form", [(8, 1, 1), (2, 2, 2)])
def test_chips_of_another_form_stay_as_they_are(form):
    found = chips(*form)
    assert arranged(found, Network(DeviceMesh.of("4x2"), CHIPS["v5e"])) == found


def test_devices_without_a_place_stay_as_they_are():
    found = list("abcdefgh")
    assert arranged(found, Network(DeviceMesh.of("4x2"), CHIPS["v5e"])) == found
    assert arranged(found, Network(DeviceMesh.of("4x2"), CHIPS["h100"])) == found
