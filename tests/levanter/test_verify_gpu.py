"""Compiling for GPUs that are not there: which ones, what XLA is known to do, and the whole way where JAX's CUDA plugin
is installed."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from levanter.compiler.compile import report
from levanter.compiler.verify import errors, gpus
from levanter.compiler.verify.gpu_habits import JOINED, settled
from levanter.compiler.verify.gpus import GpuTopology, gpu_devices, gpus_for
from levanter.config import load
from levanter.errors import UserError

needs_plugin = pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda12_plugin") is None, reason='needs pip install "levanter-compiler[gpu]"'
)


@pytest.mark.parametrize(
    ("mesh", "name"),
    [
        ({"data": 1}, "h100:1x1"),
        ({"data": 4, "model": 2}, "h100:1x8"),
        ({"data": 4, "model": 8}, "h100:4x8"),
        ({"replica": 2, "data": 4, "model": 2}, "h100:2x8"),
        ({"data": 6}, "h100:1x6"),
    ],
)
def test_the_gpus_of_a_mesh(mesh: dict[str, int], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "require", lambda *_: None)
    found = gpus_for("H100", mesh)
    assert found.name == name
    assert GpuTopology.of_json(found.as_json()) == found


def test_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as caught:
        gpus_for("v5e", {"data": 8})
    assert str(caught.value) == (
        "`v5e` is not a GPU that steps are compiled for: give --hardware a100, h100, h200, "
        "or leave out --platform gpu to compile for CPU devices"
    )
    assert str(errors.unknown_gpus("h100:1x8", ValueError("bad\nmore"))) == (
        "JAX's CUDA plugin does not compile for h100:1x8 (bad): leave out --platform gpu to compile for CPU devices"
    )

    def missing(package: str) -> Any:
        raise ModuleNotFoundError(name=package)

    monkeypatch.setattr("levanter.optional.import_module", missing)
    with pytest.raises(UserError) as caught:
        gpus_for("h100", {"data": 8})
    assert str(caught.value) == (
        "compiling for a GPU needs the Python package `jax_cuda12_plugin`, which is not installed: "
        'run pip install "levanter-compiler[gpu]", or pip install -e ".[gpu]" in the checkout'
    )


def row(predicted: tuple[int, int], compiled: tuple[int, int]) -> dict[str, Any]:
    """A kind over `data`: (count, bytes) of both sides."""
    sizes = [{"bytes": 1, "predicted_count": predicted[0], "compiled_count": compiled[0], "dtypes": {}}]
    sides = {"predicted": predicted, "compiled": compiled}
    totals = {f"{side}_{key}": sides[side][i] for side in sides for i, key in enumerate(("count", "bytes"))}
    return {"kind": "all_reduce", "mesh_axes": ["data"], "sizes": sizes, **totals}


def test_joined_collectives_are_known_and_missing_bytes_are_not() -> None:
    found = settled([row((17, 68), (2, 68))])
    what, reason = found["all_reduce", ("data",)]
    assert reason == JOINED
    assert what == "all_reduce over data: 17 of 68 B predicted, 2 of 68 B compiled, in all"
    assert settled([row((17, 68), (2, 64))]) == {} == settled([row((2, 68), (2, 68))])


@needs_plugin
def test_the_plugin_takes_each_gpu() -> None:
    for chip, gpu in gpus.GPUS.items():
        found = gpu_devices(GpuTopology(chip, 2, 8))
        assert [device.id for device in found] == list(range(16))
        assert {device.device_kind for device in found} == {gpu.name}


@needs_plugin
def test_a_step_is_compiled_for_gpus() -> None:
    tiny = ["--model.seq_len=32", "--model.hidden_dim=32", "--model.num_layers=2", "--trainer.train_batch_size=8"]
    plan = {"batch": ["data"], "mlp": ["model"]}, {}
    mesh = {"data": 4, "model": 2}
    answer = report(load("gpt2_nano", tiny), mesh, "h100", by_hand=plan, verify=True, platform="gpu")
    verify = answer["verify"]
    assert (verify["platform"], verify["topology"], verify["surprises"]) == ("gpu", "h100:1x8", [])
    assert verify["peak"]["compiled"] > answer["memory"]["parameters"] > 0
    compiled = {(row["kind"], *row["mesh_axes"]) for row in verify["collectives"] if row["compiled_count"]}
    assert {("all_reduce", "data"), ("all_reduce", "model")} <= compiled
