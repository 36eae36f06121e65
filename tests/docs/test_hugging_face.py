"""The blocks of docs/hugging_face.md run, one after the other, and show what the page says."""

from __future__ import annotations

from pathlib import Path

import pages
import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "hugging_face.md"


def test_the_page_of_hugging_face(request: pytest.FixtureRequest) -> None:
    pages.held(PAGE, request.config.getoption("--update-golden"))


def test_its_example_of_a_configuration_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import jax

    from levanter import config
    from levanter.hf import export_model, open_folder
    from levanter.models.check import build
    from levanter.models.llama.config import LlamaConfig
    from levanter.runtime.state import flat_names

    (example,) = pages.fenced(PAGE.read_text(encoding="utf-8"), "yaml")
    llama = LlamaConfig(vocab_size=64, hidden_dim=8, intermediate_dim=8, num_layers=1, num_heads=2, num_kv_heads=2)
    model = build(llama, jax.random.key(0))
    export_model(tmp_path / "meta-llama" / "Llama-3.2-1B", llama, flat_names(model), model)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(example.text)
    read = config.load(tmp_path / "mine.yaml")
    assert (read.model.seq_len, read.model.vocab_size) == (2048, 64)
    assert open_folder("meta-llama/Llama-3.2-1B").family is LlamaConfig.hf()
