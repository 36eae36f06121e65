"""Where documents come from, how they are split, and what is said when they are not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levanter.data import DataConfig, HfDataConfig, SotuDataConfig, TextDataConfig
from levanter.data.corpus import HELDOUT, TRAIN, Document
from levanter.data.split import document_side, survey, tail_start
from levanter.errors import UserError


@dataclass(frozen=True)
class Texts:
    """Documents of a test."""

    texts: tuple[str, ...]
    source: str = "the test"

    def documents(self) -> Iterator[Document]:
        yield from (Document(text) for text in self.texts)


def message(config: DataConfig) -> str:
    with pytest.raises(UserError) as caught:
        list(config.corpus().documents())
    return str(caught.value)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_default_corpus_is_whole_and_in_order() -> None:
    documents = list(SotuDataConfig().corpus().documents())
    assert len(documents) > 240
    assert sum(len(document.text) for document in documents) > 12_000_000
    assert documents[0].text.startswith("Fellow-Citizens of the Senate and House of Representatives:")
    assert documents == list(SotuDataConfig().corpus().documents())


def test_files_come_in_the_order_named_and_patterns_by_path(here: Path) -> None:
    for name in ("z.txt", "b.txt", "a.txt", "held.md"):
        (here / name).write_text(f"text of {name}")
    found = TextDataConfig(paths=["z.txt", "[ab].txt"]).corpus().documents()
    assert [document.text for document in found] == ["text of z.txt", "text of a.txt", "text of b.txt"]
    found = TextDataConfig(paths=["z.txt"], heldout_paths=["*.md"]).corpus().documents()
    assert list(found) == [
        Document("text of z.txt", TRAIN, "z.txt"),
        Document("text of held.md", HELDOUT, "held.md"),
    ]


def test_a_byte_order_mark_is_not_text(here: Path) -> None:
    (here / "a.txt").write_bytes(b"\xef\xbb\xbfHello")
    assert [document.text for document in TextDataConfig(paths=["a.txt"]).corpus().documents()] == ["Hello"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_byte_order_mark_says_the_encoding(here: Path, encoding: str) -> None:
    mark = "" if encoding.endswith("sig") else "\ufeff"
    (here / "a.txt").write_bytes((mark + "voilà, 日本語 😀").encode(encoding))
    assert [document.text for document in TextDataConfig(paths=["a.txt"]).corpus().documents()] == ["voilà, 日本語 😀"]


def test_text_that_is_not_what_its_mark_says_is_refused(here: Path) -> None:
    (here / "torn.txt").write_bytes("\ufeffab".encode("utf-16-le")[:-1])
    assert message(TextDataConfig(paths=["torn.txt"])) == (
        "the file 'torn.txt' is not UTF-16 text (data.paths, byte 4): "
        "convert it, for example with iconv -f latin1 -t utf-8"
    )


def test_what_is_wrong_with_files_is_said(here: Path) -> None:
    (here / "empty.txt").write_text(" \n")
    (here / "latin.txt").write_bytes("voilà".encode("latin-1"))
    (here / "folder").mkdir()
    assert message(TextDataConfig()) == (
        "no text is named (data.paths): give at least one file, such as --data.paths '[books/*.txt]'"
    )
    assert message(TextDataConfig(paths=["gone.txt"])) == (
        f"no such file: 'gone.txt' (data.paths, from the working directory {here}): check the path"
    )
    assert message(TextDataConfig(paths=["latin.txt"], heldout_paths=["*.gone"])) == (
        f"no file matches '*.gone' (data.heldout_paths, from the working directory {here}): check the pattern"
    )
    assert message(TextDataConfig(paths=["folder/"])) == (
        "the folder 'folder/' has no file that ends in .txt or .text or .md (data.paths): "
        "name those that are meant by a pattern, such as folder/**/*"
    )
    assert message(TextDataConfig(paths=["empty.txt"])) == (
        "the file 'empty.txt' is empty (data.paths): take it off the list or give it text"
    )
    assert message(TextDataConfig(paths=["latin.txt"])) == (
        "the file 'latin.txt' is not UTF-8 text (data.paths, byte 4): "
        "convert it, for example with iconv -f latin1 -t utf-8"
    )


def test_what_is_wrong_with_the_config_is_said() -> None:
    with pytest.raises(UserError, match=r"^data\.heldout_fraction is 1\.5: it must be below 1$"):
        SotuDataConfig(heldout_fraction=1.5)
    with pytest.raises(UserError, match=r"^data\.rows is 'line': use one of documents, lines$"):
        HfDataConfig(rows="line")


def write_rows(folder: Path, **splits: list[str]) -> None:
    for split, texts in splits.items():
        lines = [json.dumps({"text": text, "other": 1}) + "\n" for text in texts]
        (folder / f"{split}.jsonl").write_text("".join(lines))


def test_a_data_set_of_the_datasets_library(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", here / "cache")
    rows = here / "rows"
    rows.mkdir()
    write_rows(rows, train=["one", "two\n"], validation=["three"])
    found = list(HfDataConfig(id=str(rows)).corpus().documents())
    assert found == [Document("one", TRAIN), Document("two\n", TRAIN), Document("three", HELDOUT)]
    found = list(HfDataConfig(id=str(rows), heldout_split=None, rows="lines").corpus().documents())
    assert found == [Document("one\ntwo\n", None)]
    assert message(HfDataConfig(id=str(rows), column="texts")) == (
        "the data set has no column 'texts' (data.column): did you mean `text`?"
    )
    assert message(HfDataConfig(id=str(rows), train_split="training")) == (
        f"the data set '{rows}' has no split 'training' (data.train_split): did you mean `train`?"
    )


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text(min_size=1, max_size=20), max_size=10), seed=st.randoms())
def test_the_side_of_a_document_depends_on_its_text_alone(texts: list[str], seed: object) -> None:
    sides = [document_side(Document(text), 0.5) for text in texts]
    assert set(sides) <= {TRAIN, HELDOUT}
    assert sides == [document_side(Document(text), 0.5) for text in texts]
    # Whatever is held out at a fraction stays held out at a larger one.
    for text in texts:
        assert document_side(Document(text), 0.2) == TRAIN or document_side(Document(text), 0.5) == HELDOUT


def test_the_share_held_out_is_about_the_fraction() -> None:
    sides = [document_side(Document(f"document {i}"), 0.05) for i in range(5000)]
    assert 0.04 < sides.count(HELDOUT) / 5000 < 0.06


def test_what_the_source_says_comes_first() -> None:
    assert [document_side(Document("x", side), 0.5) for side in (TRAIN, HELDOUT)] == [TRAIN, HELDOUT]


def test_the_rule_follows_the_corpus() -> None:
    assert survey(Texts(tuple(f"document {i}" for i in range(1000))), 0.05).rule == "documents"
    assert survey(Texts(("a single long document",)), 0.05).rule == "tails"
    assert survey(SotuDataConfig().corpus(), 0.05).rule == "documents"
    assert (tail_start(100, 0.05), tail_start(3, 0.05), tail_start(0, 0.5)) == (95, 3, 0)


def test_the_hash_of_a_corpus_knows_where_documents_end() -> None:
    hashes = {survey(Texts(texts), 0.5).sha256 for texts in (("ab", "c"), ("a", "bc"), ("abc",), ("c", "ab"))}
    assert len(hashes) == 4
