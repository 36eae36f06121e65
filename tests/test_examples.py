"""The examples: steps of other libraries, unedited and named from beside, and of models here, under a plan."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import ir
import passes

FOLDER = Path(__file__).resolve().parents[1] / "examples"
LIBRARIES = {
    "equinox_gru": "equinox",
    "flax_nnx": "flax.nnx",
    "haiku_transformer": "haiku",
    "plain_jnp": "jax",
    "vit_images": "levanter",
    "whisper_speech": "levanter",
}
AXES = {
    "equinox_gru": {"vocab": 96, "embed": 64, "hidden": 128, "gates": 384, "mlp": 512, "batch": 64, "position": 24},
    "flax_nnx": {
        "vocab": 96,
        "embed": 64,
        "heads": 4,
        "head_size": 16,
        "mlp": 256,
        "batch": 32,
        "position": 48,
    },
    "haiku_transformer": {
        "vocab": 96,
        "embed": 64,
        "heads_and_sizes": 64,
        "mlp": 256,
        "batch": 32,
        "position": 48,
    },
    "plain_jnp": {"vocab": 96, "embed": 64, "heads": 4, "head_size": 16, "mlp": 256, "batch": 32, "position": 48},
    "vit_images": {
        **{"batch": 32, "height": 32, "width": 32, "channels": 3, "patch_height": 8, "patch_width": 8, "labels": 8},
        **{"position": 17, "layers": 2, "embed": 64, "heads": 4, "head_size": 16, "mlp": 256},
    },
    "whisper_speech": {
        **{"batch": 128, "mel": 16, "frame": 48, "position": 16, "vocab": 32, "made": 64},
        **{"layers": 2, "embed": 64, "heads": 4, "head_size": 16, "mlp": 128},
    },
}


def example(name: str) -> ModuleType:
    pytest.importorskip(LIBRARIES[name])
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def traced(module: ModuleType) -> ir.Graph:
    return ir.trace(module.train_step, *module.train_step_arguments(), names=getattr(module, "train_step_names", None))


def test_every_example_is_tested() -> None:
    models = {"own_model"}  # a model and no step: tests/levanter/test_own_model.py
    assert {path.stem for path in FOLDER.glob("*.py")} == set(LIBRARIES) | models


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_few_names_name_every_array(name: str) -> None:
    graph = traced(example(name))
    assert ir.unnamed(graph) == {}
    named = {dim.name: dim.size for value in graph.inputs for dim in value.type.dims if dim.name is not None}
    assert named == AXES[name]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in ("vit_images", "whisper_speech") else name
        for name in LIBRARIES
    ],
)
def test_its_plan_shards_something(name: str) -> None:
    plan = passes.plan(traced(example(name)), "4x2")
    assert plan.compute
    assert plan.search is not None and plan.search.optimal


@pytest.mark.parametrize(
    "name", [name if name == "plain_jnp" else pytest.param(name, marks=pytest.mark.slow) for name in LIBRARIES]
)
def test_twenty_steps_under_a_plan_are_those_of_one_device(name: str) -> None:
    module = example(name)
    on_eight, on_one = module.train("4x2", steps=20), module.train(None, steps=20)
    np.testing.assert_allclose(on_eight, on_one, rtol=1e-3, atol=1e-4)
    assert on_eight[-1] < on_eight[0] / 3


@pytest.mark.parametrize("name", LIBRARIES)
def test_an_example_has_no_axis_mistake(name: str) -> None:
    assert [str(each) for each in passes.axis_findings(traced(example(name)))] == []
