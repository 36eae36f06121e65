"""Configurations: reading, building on one another, overriding, and round trips."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from levanter import config
from levanter.config.document import parse_value, read
from levanter.errors import UserError


@pytest.mark.parametrize("name", config.model_names())
def test_every_shipped_config_loads_and_round_trips(name: str, tmp_path: Path) -> None:
    loaded = config.load(name)
    written = tmp_path / "config.yaml"
    written.write_text(config.dump(loaded))
    assert config.load(written) == config.loads(config.dump(loaded)) == loaded
    assert loaded.trainer.run_name == name


def test_the_shipped_models_are_the_sizes_they_are_known_for() -> None:
    assert {"gpt2_nano", "gpt2_nano_wikitext", "gpt2_small", "gpt2_medium", "gpt2_xl"} <= set(config.model_names())
    sizes = {}
    for name in ("gpt2_small", "gpt2_medium", "gpt2_xl"):
        model = config.load(name).model
        embed, layers = model.hidden_dim, model.num_layers  # type: ignore[attr-defined]
        sizes[name] = round((50257 * embed + 1024 * embed + layers * 12 * embed * embed) / 1e6)
    assert sizes == {"gpt2_small": 124, "gpt2_medium": 355, "gpt2_xl": 1557}


def test_overrides_reach_every_kind_of_field() -> None:
    loaded = config.load(
        "gpt2_nano",
        [
            *("--optimizer.learning_rate", "1e-3"),
            "--trainer.num_train_steps=7",
            *("--model.tie_word_embeddings", "false"),
            *("--optimizer.max_grad_norm", "null"),
            *("--trainer.checkpoint.keep", "5"),
            *("--trainer.run_name", "2026-01-01"),
            *("--data.type", "text"),
            *("--data.paths", "[a.txt, 'b c.txt', 12]"),
        ],
    )
    assert loaded.optimizer.learning_rate == 1e-3
    assert loaded.trainer.num_train_steps == 7
    assert loaded.model.tie_word_embeddings is False  # type: ignore[attr-defined]
    assert loaded.optimizer.max_grad_norm is None  # type: ignore[attr-defined]
    assert loaded.trainer.checkpoint.keep == 5
    assert loaded.trainer.run_name == "2026-01-01"
    assert loaded.data.paths == ["a.txt", "b c.txt", "12"]  # type: ignore[attr-defined]


def test_the_last_of_two_overrides_wins() -> None:
    overrides = ["--trainer.seed", "1", "--trainer.seed", "2"]
    assert config.load("gpt2_nano", overrides).trainer.seed == 2


def test_a_negative_number_is_a_value() -> None:
    with pytest.raises(UserError, match="trainer.seed is -1"):
        config.load("gpt2_nano", ["--trainer.seed", "-1"])


@pytest.mark.parametrize("text", ["0012", "1e-3", "1.50", "true", "12"])
def test_text_that_looks_like_a_number_stays_as_it_was_written(text: str, tmp_path: Path) -> None:
    assert config.load("gpt2_nano", ["--trainer.run_name", text]).trainer.run_name == text
    file = tmp_path / "c.yaml"
    file.write_text(f"trainer:\n  run_name: {text}\n")
    assert config.load(file).trainer.run_name == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("6.0e-4", 0.0006), ("10", 10), ("no", "no"), ("012", "012"), ("1:30", "1:30"), ("~", None)],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_a_file_extends_another_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("model:\n  hidden_dim: 64\n  num_heads: 4\ntrainer:\n  seed: 3\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mine.yaml").write_text("extends: ../base.yaml\nmodel:\n  num_heads: 8\n")
    assert read(tmp_path / "sub" / "mine.yaml").values == {
        "model": {"hidden_dim": 64, "num_heads": 8},
        "trainer": {"seed": 3},
    }


def test_another_type_replaces_the_section_of_the_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("data:\n  type: hf\n  id: some/set\n")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\ndata:\n  type: text\n  paths: [a.txt]\n")
    assert read(tmp_path / "mine.yaml").values["data"] == {"type": "text", "paths": ["a.txt"]}
    assert config.load(tmp_path / "base.yaml", ["--data.type", "sotu"]).data == config.load("gpt2_nano").data


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "nothing.yaml").write_text("# nothing set\n")
    loaded = config.load(tmp_path / "nothing.yaml")
    assert loaded.model == config.TrainConfig().model


def test_reading_a_config_does_not_import_jax() -> None:
    program = (
        "import sys\nfrom levanter import config\nconfig.load('gpt2_nano')\n"
        "heavy = {'jax', 'haliax', 'equinox', 'optax', 'transformers', 'datasets', 'tensorstore', 'wandb'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


@given(
    learning_rate=st.floats(min_value=0, max_value=1e3),
    name=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1),
    steps=st.integers(1, 2**31 - 1),
    grad_norm=st.none() | st.floats(min_value=1e-300, max_value=1e300),
)
def test_any_value_survives_dump_and_load(
    learning_rate: float, name: str, steps: int, grad_norm: float | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = {
        "optimizer": {"learning_rate": learning_rate, "max_grad_norm": grad_norm},
        "trainer": {"run_name": name, "num_train_steps": steps},
    }
    folder = tmp_path_factory.mktemp("configs")
    (folder / "a.yaml").write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    first = config.load(folder / "a.yaml")
    assert (first.optimizer.learning_rate, first.trainer.run_name) == (learning_rate, name)
    (folder / "b.yaml").write_text(config.dump(first), encoding="utf-8")
    assert config.load(folder / "b.yaml") == first


OWN = """
from dataclasses import dataclass
from levanter.models import ModelConfig

@dataclass(frozen=True)
class Windowed(ModelConfig):
    reach: float = float("inf")
    start: float = float("-inf")

    def build(self, Vocab, *, key):
        raise NotImplementedError
"""


@pytest.mark.parametrize("text", [None, ".inf", "-.inf", "inf", "1e400", "2.5"])
def test_a_field_without_a_range_may_be_infinite(text: str | None, tmp_path: Path) -> None:
    (tmp_path / "windowed.py").write_text(OWN)
    given = [] if text is None else [f"--model.reach={text}"]
    first = config.load(None, given, own=f"{tmp_path}/windowed.py:Windowed")
    assert first.model.reach == (float("inf") if text is None else float(text.replace(".inf", "inf")))
    assert config.loads(config.dump(first)) == first


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_the_numbers_of_a_list_are_finite(number: str) -> None:
    with pytest.raises(UserError) as refused:
        config.load("llama_nano", [f"--model.rope.long_factors=[1.0, .{number}]"])
    assert str(refused.value) == (
        f"model.rope.long_factors is [1.0, {number}]: it must be a list of numbers, each a finite number"
    )
