"""The tensor parallel plans that `transformers` has for its models, read for ours: every pattern finds its modules."""

from __future__ import annotations

import json
from typing import Any

import pytest
from folders import shape_of

from levanter.compiler.lint import modules_of
from levanter.hf.family import families
from passes.foreign.reading import Subject, read_rules
from passes.foreign.rules import Array, layout

transformers = pytest.importorskip("transformers")

SIZES = {
    **{"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64},
    **{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
}
KINDS = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "olmo2", "phi3")


def planned(kind: str) -> tuple[Any, dict[str, str]]:
    """Our config of a small model, and the plan of theirs."""
    theirs = transformers.models.auto.configuration_auto.CONFIG_MAPPING[kind](**SIZES)
    family = next(each for each in families() if kind in each.model_types)
    return family.config_from_hf(theirs.to_dict()), theirs.base_model_tp_plan


@pytest.mark.parametrize("kind", KINDS)
def test_every_pattern_finds_its_modules(kind: str) -> None:
    config, plan = planned(kind)
    model = shape_of(config)
    modules = list(modules_of(config, model))
    arrays = {f"model.{path}": axes for path, axes in _axes(model).items()}
    subject = Subject({}, {"data": 2, "tp": 2}, [Array(axes, path) for path, axes in arrays.items()], modules)
    rules = read_rules(json.dumps({"base_model_tp_plan": plan}), "plan.json", subject)
    assert rules.unknown == ()
    laid = {each.path: layout(rules, each, "parameters", subject.mesh).axes for each in subject.parameters}
    over = {path.removeprefix("model.blocks."): names for path, axes in laid.items() if (names := _over(axes))}
    mlp = "experts" if kind == "mixtral" else "mlp"
    assert {path: names for path, names in over.items() if path.startswith(f"{mlp}.")} == {
        f"{mlp}.{each}.weight": ["mlp"] for each in ("gate", "up", "down")
    }
    assert {path.split(".")[1] for path in over if path.startswith("attention.")} == {"q", "k", "v", "out"}


def _axes(model: Any) -> dict[str, dict[str, int]]:
    from levanter.hf.table import axes_of

    return {path: {axis.name: axis.size for axis in axes} for path, axes in axes_of(model).items()}


def _over(axes: Any) -> list[str]:
    return [name for name, mesh in axes.items() if mesh]
