"""Sources of rows: JSON lines, Parquet and data sets, from files, folders, patterns and URLs, compressed or not."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import itertools
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import fsspec
import numpy as np
import pytest

from levanter.data import DataConfig, HfDataConfig, JsonlDataConfig, ParquetDataConfig, TextDataConfig, build, records
from levanter.data.corpus import HELDOUT, TRAIN, Document, Reading, documents
from levanter.errors import UserError

pyarrow = pytest.importorskip("pyarrow")
TEXTS = ["one", "two\nlines", "日本語 \u2028 😀", ""]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(texts: list[Any], column: str = "text") -> bytes:
    return "".join(json.dumps({"id": 1, column: text}, ensure_ascii=False) + "\n" for text in texts).encode()


def found(config: DataConfig) -> list[str]:
    return [document.text for document in config.corpus().documents()]


def message(config: DataConfig) -> str:
    with pytest.raises(UserError) as caught:
        list(config.corpus().documents())
    return str(caught.value)


def zstd(content: bytes) -> bytes:
    return pyarrow.Codec("zstd").compress(content, asbytes=True)


def test_lines_of_json_compressed_or_not(here: Path) -> None:
    content = lines(TEXTS, "body")
    for name, packed in {
        "a.jsonl": content,
        "b.jsonl.gz": gzip.compress(content),
        "c.jsonl.bz2": bz2.compress(content),
        "d.ndjson.xz": lzma.compress(content),
        "e.jsonl.zst": zstd(content),
        "f.jsonl": content.rstrip(b"\n").replace(b"\n", b"\r\n\r\n"),
    }.items():
        (here / name).write_bytes(packed)
        assert found(JsonlDataConfig(paths=[name], column="body")) == TEXTS, name
    (here / "old").mkdir()
    (here / "old" / "g.jsonl").write_bytes(content)
    (here / "old" / ".hidden.jsonl").write_bytes(content)
    (here / "old" / "readme.txt").write_bytes(b"text")
    assert found(JsonlDataConfig(paths=["."], column="body")) == TEXTS * 7  # a folder, with those inside it
    sides = JsonlDataConfig(paths=["?.jsonl"], heldout_paths=["old"], column="body").corpus().documents()
    assert [(each.side, each.domain) for each in sides if each.text == "one"] == [
        (TRAIN, "a.jsonl"),
        (TRAIN, "f.jsonl"),
        (HELDOUT, "old/g.jsonl"),
    ]


def test_text_is_read_compressed_and_from_folders(here: Path) -> None:
    (here / "a.txt.zst").write_bytes(zstd("voilà".encode() * 600_000))
    (here / "b.txt.gz").write_bytes(gzip.compress("\ufeffée".encode("utf-16-le")))
    (here / "c.md").write_text("# title")
    assert found(TextDataConfig(paths=["."])) == ["voilà" * 600_000, "ée", "# title"]
    (here / "b.txt.gz").write_bytes(gzip.compress(b"text" * 999)[:-9])
    assert message(TextDataConfig(paths=["b.txt.gz"])).startswith("cannot read the file 'b.txt.gz' (data.paths): ")


@pytest.mark.parametrize(
    ("line", "where", "reason"),
    [
        (b'{"text": null}', ":2", "`text` is null, not text"),
        (b'{"text": 3.5}', ":2", "`text` is a number, not text"),
        (b'{"text": ["a"]}', ":2", "`text` is a list, not text"),
        (b'{"text": {"a": 1}}', ":2", "`text` is an object, not text"),
        (b'{"texts": "a"}', ":2", "it has no `text`; did you mean `texts`? (data.column)"),
        (b"{}", ":2", "it has no `text`"),
        (b'["text"]', ":2", "it is not a JSON object"),
        (b'"text"', ":2", "it is not a JSON object"),
        (b'{"text": "\\ud83d and no more"}', ":2", "it has half of a surrogate pair, which is no character"),
        (b'{"text": ' + b"9" * 5000 + b"}", ":2", "not JSON: a number has too many digits"),
        (b'{"text": "a"', ":2:13", "not JSON: expecting ',' delimiter"),
        (b'{"text": "a" "b"}', ":2:14", "not JSON: expecting ',' delimiter"),
        (b'{"text": "\xff"}', ":2:11", "not UTF-8"),
        (b'{"text": ' + b"[" * 200_000, ":2", "it is nested too deeply"),
        (b'{"text": "' + b"a" * 3000 + b'"}', ":2",
         "the line is longer than 0 MB; a text of its own can be longer (data.type text)"),
    ],
)  # fmt: skip
def test_a_bad_line_is_told_or_left_out(
    line: bytes, where: str, reason: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from levanter.data.sources.jsonl import corpus

    if len(line) < 100_000 and b"999" not in line:
        monkeypatch.setattr(corpus, "LARGEST_ROW", 2000)
        monkeypatch.setattr(corpus, "_BLOCK_BYTES", 100)
        monkeypatch.setattr(corpus, "_TOO_LONG", corpus._TOO_LONG.replace("64 MB", "0 MB"))
    (here / "rows.jsonl").write_bytes(lines(["first"]) + line + b"\n" + lines(["third"]))
    assert message(JsonlDataConfig(paths=["rows.jsonl"])) == (
        f"rows.jsonl{where}: {reason} (data.paths): correct the row, or leave bad rows out with --data.bad_rows skip"
    )
    reading = Reading()
    skipping = JsonlDataConfig(paths=["rows.jsonl"], bad_rows="skip").corpus()
    assert [each.text for each in documents(skipping.stretches(reading))] == ["first", "third"]  # type: ignore[attr-defined]
    assert (reading.skipped, reading.first_skipped) == (1, f"rows.jsonl{where}: {reason}")


def test_bad_rows_are_counted_at_every_start(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "YOUNG_SECONDS", -1.0)
    (here / "rows.jsonl").write_bytes(lines([*(f"{i} one two three" for i in range(200)), None, None]))
    config = JsonlDataConfig(paths=["rows.jsonl"], bad_rows="skip", cache_dir="cache")
    for _ in range(2):
        notices: list[str] = []
        build(config, seq_len=8, seed=0, batch_size=2, notify=notices.append)
        assert notices[-1] == (
            "2 bad rows of rows.jsonl are left out (data.bad_rows skip); the first: rows.jsonl:201: "
            "`text` is null, not text"
        )
    assert len(notices) == 1


def write_parquet(path: Path | Any, table: dict[str, list[Any]]) -> None:
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(table), path, row_group_size=3, compression="zstd")


def test_rows_of_parquet(here: Path) -> None:
    write_parquet(here / "a.parquet", {"id": list(range(4)), "body": TEXTS})
    assert found(ParquetDataConfig(paths=["*.parquet"], column="body")) == TEXTS
    assert message(ParquetDataConfig(paths=["a.parquet"])) == (
        "the file 'a.parquet' has no column 'text' (data.column): known: body, id"
    )
    assert message(ParquetDataConfig(paths=["a.parquet"], column="id")) == (
        "a.parquet, row 1: `id` is a number, not text (data.paths): "
        "correct the row, or leave bad rows out with --data.bad_rows skip"
    )
    write_parquet(here / "b.parquet", {"text": ["a", None, "b"]})
    assert found(ParquetDataConfig(paths=["b.parquet"], bad_rows="skip")) == ["a", "b"]
    write_parquet(here / "d.parquet", {"text": [b"\xff", b"b"]})
    assert message(ParquetDataConfig(paths=["d.parquet"])).startswith(
        "d.parquet, row 1: `text` is bytes that are not UTF-8 (data.paths): "
    )
    damaged = pyarrow.array([b"a", b"caf\xe9", b"b"]).view(pyarrow.string())
    write_parquet(here / "e.parquet", {"text": damaged})
    assert found(ParquetDataConfig(paths=["e.parquet"], bad_rows="skip")) == ["a", "b"]
    assert message(ParquetDataConfig(paths=["e.parquet"])).startswith(
        "e.parquet, row 2: `text` is bytes that are not UTF-8"
    )
    (here / "c.parquet").write_bytes(b"PAR1 no")
    assert message(ParquetDataConfig(paths=["c.parquet"])).startswith("cannot read the file 'c.parquet' (data.paths): ")


@pytest.mark.parametrize("size", [20, 5000])
def test_a_compressed_text_that_is_cut_off_is_refused(size: int, here: Path) -> None:
    whole = gzip.compress(np.random.default_rng(0).bytes(4000).hex().encode())
    (here / "a.txt.gz").write_bytes(whole[: min(size, len(whole) - 1)])
    assert message(TextDataConfig(paths=["a.txt.gz"])) == (
        "cannot read the file 'a.txt.gz' (data.paths): "
        "Compressed file ended before the end-of-stream marker was reached"
    )


@pytest.mark.parametrize(
    ("name", "kind"), [("a.jsonl", "jsonl"), ("a.ndjson.gz", "jsonl"), ("A.JSONL", "jsonl"), ("a.parquet", "parquet")]
)
def test_rows_are_not_trained_on_as_text(name: str, kind: str, here: Path) -> None:
    (here / name).write_bytes(b"{}")
    assert message(TextDataConfig(paths=[name])) == (
        f"the file '{name}' has rows and is not plain text (data.paths): read it with --data.type {kind}, "
        "which takes the text from one column of it (data.column)"
    )


def test_files_behind_urls(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "YOUNG_SECONDS", -1.0)
    memory = fsspec.filesystem("memory")
    rows = [f"{i} one two three four" for i in range(200)]
    try:
        with memory.open("/crawl/a.jsonl.gz", "wb") as file:
            file.write(gzip.compress(lines(rows[:100])))
        memory.pipe("/crawl/deep/b.jsonl", lines(rows[100:]))
        memory.pipe("/crawl/text/c.txt", b"plain text")
        for paths in (["memory://crawl"], ["memory://crawl/a.jsonl.gz", "memory://crawl/deep/*.jsonl"]):
            assert found(JsonlDataConfig(paths=paths)) == rows
        assert found(TextDataConfig(paths=["memory://crawl/text/*"])) == ["plain text"]
        assert message(TextDataConfig(paths=["memory://crawl/none"])) == (
            "there is nothing at 'memory://crawl/none' (data.paths): check the URL and what gives access to it"
        )
        config = JsonlDataConfig(paths=["memory://crawl"], cache_dir="cache")
        data = build(config, seq_len=8, seed=0, batch_size=2, notify=lambda _: None)
        memory.rm("/crawl", recursive=True)
        notices: list[str] = []
        again = build(config, seq_len=8, seed=0, batch_size=2, notify=notices.append)
        assert again.identity == data.identity and "memory://crawl is gone or out of reach" in notices[0]
    finally:
        memory.store.clear()
    assert message(TextDataConfig(paths=["nowhere://x"])).startswith(
        "cannot read the file 'nowhere://x' (data.paths): Protocol not known: nowhere"
    )


def test_errors_of_a_stores_own_are_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OutOfReach(Exception):
        """As `httpx` and `botocore` have them: of no kind that Python knows."""

    (here / "a.jsonl").write_text('{"text": "a"}\n')
    assert message(JsonlDataConfig(paths=["zip://b.jsonl::a.jsonl"])) == (
        "cannot read the file 'zip://b.jsonl::a.jsonl' (data.paths): File is not a zip file"
    )
    memory = fsspec.filesystem("memory")
    memory.pipe("/kept", b"PAR1")
    try:
        for config, method in itertools.product(
            (JsonlDataConfig, TextDataConfig, ParquetDataConfig), ("exists", "_open")
        ):
            with monkeypatch.context() as patched:
                patched.setattr(type(memory), method, Mock(side_effect=OutOfReach("no route")))
                assert message(config(paths=["memory:///kept"])) == (
                    "cannot read the file 'memory:///kept' (data.paths): no route"
                )
    finally:
        memory.store.clear()


@pytest.fixture
def datasets_cache(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", here / "cache")
    folder = here / "rows"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_in_batches(streaming: bool, datasets_cache: Path) -> None:
    (datasets_cache / "train.jsonl").write_bytes(lines(["one", None, "two"]))
    (datasets_cache / "validation.jsonl").write_bytes(lines(["three"]))
    config = HfDataConfig(id=str(datasets_cache), streaming=streaming, bad_rows="skip")
    assert list(config.corpus().documents()) == [
        Document("one", TRAIN),
        Document("two", TRAIN),
        Document("three", HELDOUT),
    ]
    assert message(HfDataConfig(id=str(datasets_cache), streaming=streaming)) == (
        f"the data set '{datasets_cache}', split train, row 2: `text` is null, not text (data.id): "
        "correct the row, or leave bad rows out with --data.bad_rows skip"
    )
    assert message(HfDataConfig(id=str(datasets_cache), streaming=streaming, column="texts")) == (
        "the data set has no column 'texts' (data.column): did you mean `text`?"
    )


def test_a_broken_file_of_a_data_set_is_told_as_that(datasets_cache: Path) -> None:
    (datasets_cache / "train.jsonl").write_bytes(lines(["one"]) + b'{"text": \n')
    told = message(HfDataConfig(id=str(datasets_cache), heldout_split=None))
    assert told.startswith(f"a file of the data set '{datasets_cache}' cannot be read (data.id, data.name): ")
    assert told.endswith("; --data.type jsonl reads JSON lines and names the line that is broken")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_that_was_saved_to_disk(streaming: bool, datasets_cache: Path) -> None:
    datasets = pytest.importorskip("datasets")
    saved = datasets.Dataset.from_dict({"meta": [{"text": text} for text in TEXTS]})
    saved.save_to_disk("saved")
    config = HfDataConfig(id="saved", column="meta.text", heldout_split=None, streaming=streaming)
    assert found(config) == TEXTS
    assert message(dataclasses.replace(config, train_split="test")) == (
        "the data set 'saved' has no split 'test' (data.train_split): known: train"
    )
    assert message(dataclasses.replace(config, column="meta.txet")) == (
        "the data set has no column 'meta.txet' (data.column): did you mean `meta.text`?"
    )


@pytest.mark.parametrize("streaming", [False, True])
def test_splits_that_were_saved_to_disk(streaming: bool, datasets_cache: Path) -> None:
    datasets = pytest.importorskip("datasets")
    sides = {"train": ["one", "two"], "test": ["three"]}
    datasets.DatasetDict(
        {name: datasets.Dataset.from_dict({"text": rows}) for name, rows in sides.items()}
    ).save_to_disk("saved")
    config = HfDataConfig(id="saved", heldout_split="test", streaming=streaming)
    assert list(config.corpus().documents()) == [
        Document("one", TRAIN),
        Document("two", TRAIN),
        Document("three", HELDOUT),
    ]
    assert message(HfDataConfig(id="saved", streaming=streaming)) == (
        "the data set 'saved' has no split 'validation' (data.heldout_split): known: test, train; "
        "--data.heldout_split null holds out a part of the training split"
    )


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_without_held_out_rows_says_how_to_hold_some_out(streaming: bool, datasets_cache: Path) -> None:
    (datasets_cache / "train.jsonl").write_bytes(lines(["one", "two"]))
    assert message(HfDataConfig(id=str(datasets_cache), streaming=streaming)) == (
        f"the data set '{datasets_cache}' has no split 'validation' (data.heldout_split): known: train; "
        "--data.heldout_split null holds out a part of the training split"
    )


def test_columns_below_others(here: Path) -> None:
    rows = [{"meta": {"inner": {"text": text}, "id": 1}} for text in TEXTS]
    (here / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert found(JsonlDataConfig(paths=["a.jsonl"], column="meta.inner.text")) == TEXTS
    write_parquet(here / "a.parquet", {"meta": [row["meta"] for row in rows]})
    assert found(ParquetDataConfig(paths=["a.parquet"], column="meta.inner.text")) == TEXTS
    # A column that has the whole name comes first, and names with dots may have others below them.
    (here / "b.jsonl").write_text(json.dumps({"a.b": "whole", "a": {"b": "below"}, "c.d": {"e": "deep"}}) + "\n")
    assert found(JsonlDataConfig(paths=["b.jsonl"], column="a.b")) == ["whole"]
    assert found(JsonlDataConfig(paths=["b.jsonl"], column="c.d.e")) == ["deep"]
    dotted = {"meta": {"a.b": "x", "a": {"b": "y", "c.d": {"e": "z"}}}}
    (here / "e.jsonl").write_text(json.dumps(dotted) + "\n")
    write_parquet(here / "e.parquet", {"meta": [dotted["meta"]]})
    for column, text in (("meta.a.b", "x"), ("meta.a.c.d.e", "z")):
        assert found(JsonlDataConfig(paths=["e.jsonl"], column=column)) == [text]
        assert found(ParquetDataConfig(paths=["e.parquet"], column=column)) == [text]
    (here / "c.jsonl").write_text('{"meta": null}\n{"meta": {"txet": "x"}}\n{"meta": {"text": 3}}\n[1]\n')
    reading = Reading()
    corpus = JsonlDataConfig(paths=["c.jsonl"], column="meta.text", bad_rows="skip").corpus()
    assert list(corpus.stretches(reading)) == [] and reading.skipped == 4
    assert message(JsonlDataConfig(paths=["c.jsonl"], column="meta.text")).startswith(
        "c.jsonl:1: it has no `meta.text`; did you mean `meta`? (data.column)"
    )
    assert message(ParquetDataConfig(paths=["a.parquet"], column="meta.iner.text")) == (
        "the file 'a.parquet' has no column 'meta.iner.text' (data.column): did you mean `meta.inner.text`?"
    )
    write_parquet(here / "d.parquet", {"meta": [{"text": "one"}, None, {"text": None}]})
    assert message(ParquetDataConfig(paths=["d.parquet"], column="meta.text")).startswith(
        "d.parquet, row 2: `meta.text` is null, not text"
    )


def test_text_that_is_stored_in_other_ways(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from levanter.data.sources.jsonl import corpus

    # Blocks that end within lines, characters and surrogate pairs.
    monkeypatch.setattr(corpus, "_BLOCK_BYTES", 61)
    for encoding in ("utf-16", "utf-32", "utf-8-sig"):
        (here / "a.jsonl").write_bytes((lines(TEXTS) * 100).decode().encode(encoding))
        assert found(JsonlDataConfig(paths=["a.jsonl"])) == TEXTS * 100, encoding
    (here / "a.jsonl").write_bytes(lines(TEXTS).decode().encode("utf-16")[:-1])
    assert message(JsonlDataConfig(paths=["a.jsonl"])).startswith("cannot read the file 'a.jsonl' (data.paths): ")
    write_parquet(here / "bytes.parquet", {"text": [text.encode() for text in TEXTS]})
    assert found(ParquetDataConfig(paths=["bytes.parquet"])) == TEXTS
    write_parquet(here / "no.parquet", {"text": [b"one", b"\xff"]})
    assert "row 2: `text` is bytes that are not UTF-8" in message(ParquetDataConfig(paths=["no.parquet"]))


def test_files_in_an_archive(here: Path) -> None:
    with zipfile.ZipFile(here / "all.zip", "w") as archive:
        archive.writestr("part one.jsonl", lines(TEXTS))
        archive.writestr("part two.jsonl", lines(["last"]))
    config = JsonlDataConfig(paths=[f"zip://part *.jsonl::file://{here}/all.zip"])
    assert found(config) == [*TEXTS, "last"]
    assert len(config.corpus().fingerprint().parts) == 2
