"""`levanter config --explain`: a configuration that explains itself and can be read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from levanter import config
from levanter.config import kinds
from levanter.config.explain import explain, field_docs


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["--data.type", "text", "--data.paths", "[a.txt, 'b: c.txt']", "--trainer.mesh", "4x2"],
        ["--data.type", "hf", "--trainer.run_name", "1e-3", "--optimizer.max_grad_norm", "null"],
    ],
)
def test_what_it_prints_is_the_same_configuration(overrides: list[str], tmp_path: Path) -> None:
    loaded = config.load("gpt2_nano", overrides)
    file = tmp_path / "explained.yaml"
    file.write_text(explain(loaded), encoding="utf-8")
    assert config.load(file) == loaded


def test_every_field_has_a_meaning() -> None:
    missing = [
        f"{section}.{field}" if section else field
        for section, _, cls in kinds.sections(config.TrainConfig)
        for field, kind in kinds.members(cls).items()
        if kinds.section(kind) is None and not field_docs(cls).get(field)
    ]
    assert missing == [], "write a docstring below the field"


def test_a_field_is_told_with_its_meaning_choices_and_default() -> None:
    text = explain(config.load("gpt2_nano"))
    assert (
        "  # One of cosine, linear, constant, wsd, inverse_sqrt, cosine_cycles. Default: cosine.\n"
        "  lr_schedule: cosine\n"
    ) in text
    assert "\nadapter: null\n# adapter:\n#   # Which kind: one of lora" in text and "\n#   rank: 8\n" in text
    assert (
        "\n  # Which kind: one of chat, hf, jsonl, mixture, parquet, sotu, text, or MODULE:CLASS or FILE.py:CLASS of "
        "one's own.\n  type: sotu\n" in text
    )
    assert "  # A number, at least 0 and below 1. Default: 0.0.\n  dropout: 0.0\n" in text
    minutes = text.partition("    # Most minutes between checkpoints; null saves by steps alone.\n")[2]
    assert minutes.startswith("    # A number, above 0, or null. Default: 10.0.\n    every_minutes: 10.0\n")
    assert max(map(len, text.splitlines())) <= 120
