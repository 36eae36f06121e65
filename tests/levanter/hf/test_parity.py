"""Every family against `transformers`: logits, files and bytes; it writes and checks the table of docs/models.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the reference is PyTorch's: pip install -e '.[parity]'")

from parity import Family, compare, note


def gpt2(**fields: Any) -> Any:
    from transformers import GPT2Config

    sizes = {"vocab_size": 99, "n_positions": 48, "n_embd": 32, "n_layer": 3, "n_head": 4}
    return GPT2Config(**sizes, bos_token_id=1, eos_token_id=2, **fields)


FAMILIES = [
    Family("gpt2", gpt2, 48),
    Family("gpt2, untied", lambda: gpt2(tie_word_embeddings=False, n_inner=96), 48),
]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_agrees_with_transformers(family: Family, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    found = compare(family, tmp_path)
    assert found.difference < 1e-4
    assert found.loads and found.identical and found.planned
    note(found, request.config.getoption("--update-golden"))
