"""Compiling for a TPU slice that is not there: which slice, what its program says, and the whole way where libtpu is
installed."""

from __future__ import annotations

import importlib.util
from math import prod
from typing import Any

import numpy as np
import pytest

from levanter.compiler.compile import report
from levanter.compiler.verify import errors, topology
from levanter.compiler.verify.cycles import beside_cycles, estimated_cycles
from levanter.compiler.verify.topology import Topology, mesh_devices, topology_of
from levanter.config import load
from levanter.errors import UserError
from passes import Plan
from passes.sharding.mesh import DeviceMesh
from passes.summary import Operation

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason='needs pip install "levanter-compiler[tpu]"'
)
PROGRAM = """HloModule jit_step, is_scheduled=true

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[], f32[8]{0:T(128)}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[8]{0:T(128)S(1)} get-tuple-element(%p), index=1
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %twice = f32[8]{0:T(128)} fusion(%x), kind=kLoop, calls=%f, metadata={op_name="mul" source_file="model.py" \
source_line=3}, backend_config={"window_config":{"estimated_cycles":"100"}}
  ROOT %t = (s32[], f32[8]{0:T(128)}) tuple(%next, %twice)
}

%condition (q: (s32[], f32[8])) -> pred[] {
  %q = (s32[], f32[8]{0:T(128)}) parameter(0)
  %j = s32[] get-tuple-element(%q), index=0
  %n = s32[] constant(4)
  ROOT %less = pred[] compare(%j, %n), direction=LT
}

%f (a: f32[8]) -> f32[8] {
  %a = f32[8] parameter(0)
  ROOT %m = f32[8] multiply(%a, %a), backend_config={"window_config":{"estimated_cycles":"7"}}
}

ENTRY %main (w: f32[8]) -> f32[8] {
  %w = f32[8]{0:T(128)} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[8]{0:T(128)}) tuple(%zero, %w)
  %loop = (s32[], f32[8]{0:T(128)}) while(%start), condition=%condition, body=%body
  %y = f32[8]{0:T(128)} get-tuple-element(%loop), index=1
  %sorted = f32[8]{0:T(128)} sort(%y), dimensions={0}, to_apply=%f
  ROOT %last = f32[8]{0:T(128)} copy(%sorted), backend_config={"window_config":{"estimated_cycles":"50"}}
}
"""


def test_cycles_are_summed_by_source_line_with_the_trips_of_loops() -> None:
    found = estimated_cycles(PROGRAM)
    assert found.total == 450 and found.uncounted == 1
    assert found.by_source == {"model.py:3": 400, None: 50}


def test_the_plan_is_set_beside_the_cycles() -> None:
    beside = beside_cycles([Operation("model.py:3", 3e-6), Operation("model.py:9", 1e-6)], PROGRAM)
    sources = beside.pop("sources")
    assert beside == {"predicted_seconds": 4e-6, "compiled_cycles": 450, "uncounted": 1}
    assert [row["source"] for row in sources] == ["model.py:3", None, "model.py:9"]
    assert sources[0] == {
        "source": "model.py:3",
        "predicted_seconds": 3e-6,
        "predicted_share": 0.75,
        "compiled_cycles": 400,
        "compiled_share": 400 / 450,
    }


def plan_on(hardware: str, mesh: dict[str, int], network: tuple[tuple[str, str], ...] = ()) -> Plan:
    return Plan(DeviceMesh.of(mesh), ("batch",), {}, {}, hardware, network=network)


@pytest.mark.parametrize(
    ("hardware", "mesh", "name", "slices"),
    [
        ("v5e", {"data": 4, "model": 2}, "v5e:4x2", 1),
        ("V5E", {"data": 2, "model": 4}, "v5e:2x4", 1),
        ("v5e", {"data": 8}, "v5e:4x2", 1),
        ("v5e", {"data": 2, "sequence": 2, "model": 2}, "v5e:4x2", 1),
        ("v5e", {"data": 16, "model": 4}, "v5e:8x8", 1),
        ("v5e", {"data": 2}, "v5e:2x1", 1),
        ("v5p", {"data": 2, "sequence": 2, "model": 2}, "v5p:2x2x2", 1),
        ("v5p", {"data": 8}, "v5p:2x2x2", 1),
        ("v5p", {"data": 4, "model": 2}, "v5p:2x2x2", 1),
        ("v5p", {"data": 12}, "v5p:2x2x3", 1),
        ("v5p", {"replica": 2, "data": 4, "model": 2}, "v5p:2x2x2", 2),
        ("v4", {"data": 64}, "v4:4x4x4", 1),
        ("v6e", {"data": 1}, "v6e:1x1", 1),
    ],
)
def test_a_plan_is_compiled_for_the_slice_that_it_is_priced_on(
    monkeypatch: pytest.MonkeyPatch, hardware: str, mesh: dict[str, int], name: str, slices: int
) -> None:
    monkeypatch.setattr(topology, "require", lambda *_: None)
    plan = plan_on(hardware, mesh)
    found = topology_of(plan)
    assert (found.name, found.slices) == (name, slices)
    assert plan.physical.torus is not None and sorted(found.dims) == sorted(plan.physical.torus.form)
    assert Topology.of_json(found.as_json()) == found


def test_a_plan_that_says_where_its_axes_lie_is_compiled_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology, "require", lambda *_: None)
    network = (("data", "4x1x1"), ("model", "1x2x1"))
    assert topology_of(plan_on("v5p", {"data": 4, "model": 2}, network)).name == "v5p:4x2x1"


def test_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as caught:
        topology_of(plan_on("h100", {"data": 8}))
    assert str(caught.value) == (
        "`h100` is not a TPU whose slices are known: give --hardware v4, v5e, v5p, v6e, "
        "or leave out --platform tpu to compile for CPU devices"
    )
    monkeypatch.setattr(topology, "require", lambda *_: None)
    with pytest.raises(UserError) as caught:
        topology_of(plan_on("v5e", {"data": 512}))
    assert str(caught.value) == (
        "512 chips are 2 slices of 256 v5e, and no axis of the mesh is these slices: "
        "give --mesh an axis `replica` of 2, such as replica=2,data=256"
    )
    assert str(errors.unknown_topology("v5e:3x1", ValueError("not divisible\nmore"))) == (
        "libtpu describes no slice v5e:3x1 (not divisible): give a --mesh that fits one, such as 4x2 for v5e"
    )
    assert str(errors.topology_devices("v4:2x2x1", 8, 4)) == (
        "the slice v4:2x2x1 has 8 devices and the mesh 4: give a --mesh of as many"
    )


def test_without_libtpu_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> Any:
        raise ModuleNotFoundError(name=package)

    monkeypatch.setattr("levanter.optional.import_module", missing)
    with pytest.raises(UserError) as caught:
        topology_of(plan_on("v5e", {"data": 4, "model": 2}))
    assert str(caught.value) == (
        "compiling for a TPU needs the Python package `libtpu`, which is not installed: "
        'run pip install "levanter-compiler[tpu]", or pip install -e ".[tpu]" in the checkout'
    )


@needs_libtpu
@pytest.mark.parametrize("hardware", topology.TPUS)
@pytest.mark.parametrize("mesh", [{"data": 4, "model": 2}, {"data": 8}, {"data": 1}, {"replica": 2, "data": 4}])
def test_libtpu_describes_the_slice_in_the_order_of_the_mesh(hardware: str, mesh: dict[str, int]) -> None:
    plan = plan_on(hardware, mesh)
    chips = mesh_devices(topology_of(plan), plan.physical)
    assert len({chip.id for chip in chips}) == len(chips) == prod(mesh.values())
    torus = plan.physical.torus
    if mesh == {"data": 4, "model": 2} and torus is not None and len(torus.form) == 2:
        assert [tuple(chip.coords)[:2] for chip in chips] == [(x, y) for x in range(4) for y in range(2)]


@needs_libtpu
def test_the_chips_of_a_mesh_axis_lie_along_its_dims() -> None:
    """`data=16` of `16x4` has one dim of 8x8 and half of the other, whose inner part `model` has."""
    plan = plan_on("v5e", {"data": 16, "model": 4})
    chips = np.array(mesh_devices(topology_of(plan), plan.physical), object).reshape(16, 4)
    for group in chips:
        assert len({chip.coords[0] for chip in group}) == 1
        assert sorted(chip.coords[1] % 4 for chip in group) == [0, 1, 2, 3]


@needs_libtpu
def test_a_step_is_compiled_for_a_slice() -> None:
    tiny = ["--model.seq_len=32", "--model.hidden_dim=32", "--model.num_layers=2", "--trainer.train_batch_size=8"]
    plan = {"batch": ["data"], "mlp": ["model"]}, {}
    mesh = {"data": 4, "model": 2}
    answer = report(load("gpt2_nano", tiny), mesh, "v5e", by_hand=plan, verify=True, platform="tpu")
    verify = answer["verify"]
    assert (verify["platform"], verify["topology"]) == ("tpu", "v5e:4x2")
    assert verify["peak"]["compiled"] > answer["memory"]["parameters"] > 0
    assert verify["cycles"]["compiled_cycles"] > 0
    rows = {row["source"]: row for row in verify["cycles"]["sources"]}
    assert any(row["predicted_seconds"] > 0 and row["compiled_cycles"] > 0 for row in rows.values())
    compiled = {(row["kind"], *row["mesh_axes"]) for row in verify["collectives"] if row["compiled_count"]}
    assert {("all_reduce", "data"), ("all_reduce", "model")} <= compiled
