"""What is generated and how text is judged, beside `transformers` with the same weights: two random models."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from levanter.cli.main import main
from levanter.data import load_tokenizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.hurried

PROMPTS = ["The", "In the beginning of the year", "one two three four five six seven"]
TOKENS = 12
SIZES = {"vocab_size": 50257, "bos_token_id": 50256, "eos_token_id": 50256}


def gpt2() -> Any:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**SIZES, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.4)
    )


def llama() -> Any:
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            **SIZES,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=48,
            max_position_embeddings=64,
            initializer_range=0.4,
        )
    )


@pytest.fixture(scope="module", params=[gpt2, llama], ids=["gpt2", "llama"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a tokenizer, as `transformers` writes it."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp(request.param.__name__)
    request.param().eval().save_pretrained(folder)
    for name, content in load_tokenizer("gpt2").files().items():
        (folder / name).write_bytes(content)
    return folder


def theirs(folder: Path) -> tuple[Any, Any]:
    return transformers.AutoModelForCausalLM.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder)


def answer(command: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(command) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_greedy_tokens_are_those_of_transformers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, tokenizer = theirs(folder)
    prompts = [part for prompt in PROMPTS for part in ("--prompt", prompt)]
    given = ["generate", str(folder), *prompts, "--greedy", "--max-tokens", str(TOKENS), "--json"]
    found = answer(given, capsys)["results"]
    for prompt, ours in zip(PROMPTS, found, strict=True):
        ids = tokenizer(prompt, return_tensors="pt")
        drawn = model.generate(**ids, do_sample=False, max_new_tokens=TOKENS, pad_token_id=50256)[0]
        expected = drawn[ids["input_ids"].shape[1] :].tolist()
        assert ours["tokens"] == [token for token in expected if token != 50256]
        assert ours["text"] == tokenizer.decode(drawn, skip_special_tokens=True)[len(prompt) :]


def test_perplexity_is_that_of_transformers(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, tokenizer = theirs(folder)
    text = "The quick brown fox jumps over the lazy dog, and comes back again. " * 12
    (tmp_path / "fox.txt").write_text(text)
    given = ["eval", str(folder), "--domain", f"fox={tmp_path}/fox.txt", "--stride", "16", "--json"]
    found = answer(given, capsys)["perplexity"]
    ids = tokenizer(text, return_tensors="pt")["input_ids"][0]
    nats, count = 0.0, 0
    for start in range(1, len(ids), 16):
        stop = min(start + 16, len(ids))
        begin = max(0, stop - 65)
        with torch.no_grad():
            scores = model(ids[None, begin : stop - 1]).logits[0].double().log_softmax(-1)
        nats -= scores[start - begin - 1 :].gather(-1, ids[start:stop, None]).sum().item()
        count += stop - start
    assert (found["tokens"], found["bytes"]) == (count, len(text))
    assert found["loss"] == pytest.approx(nats / count, rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(text), rel=1e-5)
    assert [each["domain"] for each in found["domains"]] == ["fox"]
