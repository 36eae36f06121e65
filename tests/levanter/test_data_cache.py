"""The token cache: whole, checked, made once, taken up again where it was left, and never read for nothing."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levanter.data import TextDataConfig, TokenData, build, cache, chunks, cutting, records, views
from levanter.data.corpus import HELDOUT, TRAIN, Document
from levanter.data.split import BY_TAIL, document_side, survey, tail_start
from levanter.data.tokenizer import Gpt2Tokenizer
from levanter.errors import UserError

GPT2 = Gpt2Tokenizer()
END = 50256
WORDS = "one two three four five six seven eight nine ten eleven twelve"


@pytest.fixture
def text(tmp_path: Path) -> TextDataConfig:
    (tmp_path / "text.txt").write_text("\n".join(f"{i} {WORDS}" for i in range(100)))
    return TextDataConfig(paths=[str(tmp_path / "text.txt")], cache_dir=str(tmp_path / "cache"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a few hundred characters."""
    make_small(monkeypatch)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were just written count as old ones."""
    monkeypatch.setattr(records, "YOUNG_SECONDS", -1.0)


def make_small(patch: pytest.MonkeyPatch, chunk: int = 400, piece: int = 100) -> None:
    patch.setattr(chunks, "CHUNK", chunk)
    for module, name, value in (
        *((chunks, "PIECE", piece), (chunks, "TEXT_WEIGHT", 8)),
        *((cutting, "PIECE", piece), (cutting, "_CONTEXT", 32), (cutting, "_REACH", 40), (cutting, "_WORD", 120)),
    ):
        patch.setattr(module, name, value)


def build_quietly(config: Any, notices: list[str] | None = None) -> TokenData:
    notices = [] if notices is None else notices
    return build(config, seq_len=16, seed=0, batch_size=4, notify=notices.append)


def ids_of(data: TokenData) -> tuple[list[int], list[int]]:
    return np.asarray(data._tokens.train).tolist(), np.asarray(data._tokens.heldout).tolist()


class Counted:
    """Counts the calls of a function, or refuses them."""

    def __init__(self, call: Callable[..., Any], most: int = 10**9) -> None:
        self.call, self.most, self.calls = call, most, 0

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        self.calls += 1
        assert self.calls <= self.most
        return self.call(*arguments, **keywords)


def counted(patch: pytest.MonkeyPatch, module: Any, name: str, most: int = 10**9) -> Counted:
    found = Counted(getattr(module, name), most)
    patch.setattr(module, name, found)
    return found


# --- what is in it ---


@dataclass(frozen=True)
class Texts:
    """Documents of a test."""

    given: tuple[Document, ...]
    source: str = "the test"

    def documents(self) -> Iterator[Document]:
        yield from self.given


def expected(corpus: Texts, fraction: float) -> tuple[list[int], list[int]]:
    """The ids of both sides, by the rule as it is written down."""
    sides: dict[str, list[int]] = {TRAIN: [], HELDOUT: []}
    rule = survey(corpus, fraction).rule
    for document in corpus.documents():
        ids = [*GPT2.encode(document.text), END] if document.text else []
        if rule == BY_TAIL:
            at = tail_start(len(ids), fraction)
            sides[TRAIN] += ids[:at]
            sides[HELDOUT] += ids[at:]
        else:
            sides[document_side(document, fraction)] += ids
    return sides[TRAIN], sides[HELDOUT]


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(alphabet="ab c\n1é", max_size=30).map(lambda text: text * 9), min_size=1, max_size=30),
    side=st.sampled_from([None, TRAIN, HELDOUT]),
    fraction=st.sampled_from([0.05, 0.3]),
    starts=st.lists(st.integers(0, 2**31), min_size=1, max_size=5),
)
def test_the_ids_are_those_of_the_documents(
    texts: list[str], side: str | None, fraction: float, starts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    corpus = Texts(tuple(Document(text, side if i % 2 else None) for i, text in enumerate(texts)))
    if not any(texts):
        return
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        found = cache.cached_tokens(corpus, GPT2, fraction, tmp_path_factory.mktemp("cache"), lambda _: None)
        for tokens, ids in zip((found.train, found.heldout), expected(corpus, fraction), strict=True):
            assert np.asarray(tokens).tolist() == ids and len(tokens) == len(ids)
            assert tokens.counts(END + 1).tolist() == np.bincount(np.array(ids, int), minlength=END + 1).tolist()
            assert [0, *tokens.ends][-1] == len(ids) and all(np.diff(tokens.ends) > 0)
            if len(ids) >= 3:
                at = np.array(starts) % (len(ids) - 2)
                assert tokens.rows(at, 3).tolist() == [ids[i : i + 3] for i in at]


def test_the_ids_of_a_long_document_in_many_chunks(small: None, text: TextDataConfig, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffvoilà, 日本語 😀 ".encode("utf-16-le") * 60)
    whole = TextDataConfig(paths=[*text.paths, str(tmp_path / "a.txt")], cache_dir=text.cache_dir, heldout_fraction=0.1)
    data = build_quietly(whole)
    documents = tuple(whole.corpus().documents())
    assert ids_of(data) == expected(Texts(documents), 0.1)
    assert len(list((tmp_path / "cache" / "tokens" / "chunks").rglob("*.tokens"))) > 5


def test_identities_and_batches_are_those_of_older_versions(tmp_path: Path) -> None:
    """Checkpoints keep the identity, and a resumed run goes on with the batches that follow."""
    rng = random.Random(0)
    for i in range(40):
        (tmp_path / f"{i:02}.txt").write_text(" ".join(rng.choice(WORDS.split()) for _ in range(rng.randint(5, 500))))
    (tmp_path / "long.txt").write_bytes(("\ufeff" + "été 😀 " * 30_000).encode("utf-16-be"))
    found = {}
    for name, patterns, heldout in (
        ("documents", ["*[0-9].txt"], []),
        ("tails", ["*.txt"], []),
        ("source", ["[0-2]?.txt"], ["3?.txt"]),
    ):
        config = TextDataConfig(
            paths=[str(tmp_path / each) for each in patterns],
            heldout_paths=[str(tmp_path / each) for each in heldout],
            cache_dir=str(tmp_path / "cache"),
        )
        found[name] = told(build(config, seq_len=32, seed=3, batch_size=16, notify=lambda _: None))
    assert found == OLDER


def told(data: TokenData) -> tuple[str, str]:
    digest = hashlib.sha256()
    for step in (0, 1, 17, 999):
        for array in data.train_batch(step):
            digest.update(array.tobytes())
    for tokens, targets in data.heldout_batches(2, 4):
        digest.update(tokens.tobytes() + targets.tobytes())
    return data.identity[:16], digest.hexdigest()[:16]


OLDER = {
    "documents": ("db6e71009d21d706", "892339f81dbacd6c"),
    "tails": ("6d0c55d045ee9f1b", "c1a407b81b955cc8"),
    "source": ("a18c1ad292d1ec94", "9e85f0794bd510d7"),
}


# --- made once ---


def test_tokens_are_made_once(
    text: TextDataConfig, tmp_path: Path, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices: list[str] = []
    first = build_quietly(text, notices)
    assert notices == [f"tokenizing {text.paths[0]} (once; kept in {tmp_path}/cache/tokens)"]
    with monkeypatch.context() as patch:
        counted(patch, chunks, "stretches", most=0)  # neither text nor tokens are read
        counted(patch, chunks, "problem", most=0)
        counted(patch, views, "_trouble", most=0)
        second = build_quietly(text, notices)
    assert len(notices) == 1 and first.identity == second.identity
    assert np.array_equal(first.train_batch(7)[0], second.train_batch(7)[0])
    Path(text.paths[0]).write_text(WORDS * 100)
    assert build_quietly(text, notices).identity != first.identity
    assert len(notices) == 2


def test_a_file_that_was_just_written_is_read_once_more(text: TextDataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could have been written again within the resolution of its times."""
    made = counted(monkeypatch, chunks, "made")
    read = counted(monkeypatch, chunks, "stretches")
    build_quietly(text)
    build_quietly(text)
    assert (made.calls, read.calls) == (1, 2)
    monkeypatch.setattr(records, "YOUNG_SECONDS", -1.0)
    build_quietly(text)
    build_quietly(text)
    assert (made.calls, read.calls) == (1, 3)


@pytest.mark.parametrize("change", ["same size", "touched", "replaced"])
def test_a_file_that_has_changed_is_read(
    change: str, text: TextDataConfig, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = build_quietly(text)
    path = Path(text.paths[0])
    times = os.stat(path)
    content = path.read_text()
    if change == "same size":
        path.write_text(content.replace("one", "ten"))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif change == "touched":
        path.touch()
    else:
        (path.parent / "other").write_text(content[::-1])
        os.replace(path.parent / "other", path)
    read = counted(monkeypatch, chunks, "stretches")
    after = build_quietly(text)
    assert read.calls == 1 and (after.identity == before.identity) == (change == "touched")


def test_a_text_that_is_gone_is_not_needed(text: TextDataConfig, small: None, settled: None) -> None:
    before = build_quietly(text)
    path = Path(text.paths[0])
    content = path.read_text()
    path.unlink()
    notices: list[str] = []
    after = build_quietly(text, notices)
    assert ids_of(after) == ids_of(before) and after.identity == before.identity
    day = time.strftime("%Y-%m-%d")
    assert notices == [f"the text of {path} is gone or out of reach: using the tokens that were made of it on {day}"]
    for chunk in Path(str(text.cache_dir)).rglob("*.tokens"):
        chunk.unlink()
    with pytest.raises(UserError, match="^no such file: "):
        build_quietly(text)
    path.write_text(content)
    assert ids_of(build_quietly(text)) == ids_of(before)


def test_a_text_that_is_gone_in_part_is_refused_where_the_rest_has_changed(text: TextDataConfig, settled: None) -> None:
    other = Path(text.paths[0]).with_name("other.txt")
    other.write_text(WORDS * 20)
    both = TextDataConfig(paths=[*text.paths, str(other)], cache_dir=text.cache_dir)
    before = build_quietly(both)
    other.unlink()
    assert build_quietly(both).identity == before.identity
    Path(text.paths[0]).write_text(WORDS)
    with pytest.raises(UserError, match="^no such file: "):
        build_quietly(both)


def test_what_is_added_is_tokenized_and_no_more(
    small: None, tmp_path: Path, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(1)

    def write(name: str) -> None:
        (tmp_path / name).write_text(" ".join(rng.choice(WORDS.split()) for _ in range(20)))

    for i in range(60):
        write(f"{i:02}.txt")
    config = TextDataConfig(paths=[str(tmp_path / "*.txt")], cache_dir=str(tmp_path / "cache"))
    made = counted(monkeypatch, chunks, "made")
    build_quietly(config)
    all_chunks, made.calls = made.calls, 0
    assert all_chunks > 8
    for name in ("30b.txt", "99.txt"):
        write(name)
        (after,) = [build_quietly(config)]
        assert 1 <= made.calls <= 3
        made.calls = 0
        assert ids_of(after) == expected(Texts(tuple(config.corpus().documents())), 0.05)


def test_a_corpus_shares_its_chunks_with_another(
    text: TextDataConfig, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_quietly(text)
    counted(monkeypatch, chunks, "made", most=0)
    build_quietly(TextDataConfig(paths=text.paths, cache_dir=text.cache_dir, heldout_fraction=0.2))


def test_another_way_of_cutting_makes_other_tokens(text: TextDataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = build_quietly(text)
    made = counted(monkeypatch, chunks, "made")
    monkeypatch.setattr(cutting, "CODE", 99)
    after = build_quietly(text)
    assert made.calls == 1 and after.identity == before.identity


# --- whole ---


@pytest.mark.parametrize(
    ("pattern", "damage", "problem"),
    [
        ("chunks/*/*", "flip", "{name} does not match its checksum"),
        ("chunks/*/*", "header", "{name} cannot be read"),
        ("chunks/*/*", "cut", "{name} cannot be read"),
        ("chunks/*/*", "remove", "{name} is missing"),
        ("views/*/train.sources", "flip", "train.sources does not match its checksum"),
        ("views/*/heldout.ends", "cut", "heldout.ends does not match its checksum"),
        ("views/*/train.counts", "remove", "train.counts is missing"),
        ("views/*/manifest.json", "cut", "manifest.json cannot be read"),
        ("views/*/manifest.json", "remove", "manifest.json is missing"),
    ],
)
def test_a_damaged_cache_is_built_again(
    text: TextDataConfig, settled: None, pattern: str, damage: str, problem: str
) -> None:
    notices: list[str] = []
    before = ids_of(build_quietly(text))
    (path,) = (Path(str(text.cache_dir)) / "tokens").glob(pattern)
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        at = 3 if damage == "header" else len(content) // 2
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    after = build_quietly(text, notices)
    (view,) = (Path(str(text.cache_dir)) / "tokens" / "views").iterdir()
    assert notices[0] == f"the token cache {view} is damaged ({problem.format(name=path.name)}): building it again"
    assert ids_of(after) == before
    if damage != "remove" and path.name != "manifest.json":
        assert path.read_bytes() == content
    assert build_quietly(text, again := []).identity == after.identity and again == []


def test_a_cache_that_was_copied_is_checked_once(
    text: TextDataConfig, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_quietly(text)
    for path in (Path(str(text.cache_dir)) / "tokens").rglob("*"):
        os.utime(path, (1, 1))
    checked = counted(monkeypatch, views, "_trouble")
    build_quietly(text)
    assert checked.calls == 9  # four arrays for each side, and a chunk
    build_quietly(text)
    assert checked.calls == 9


BUILDER = """
import os, signal, sys
from levanter.data import TextDataConfig, build, chunks
chunks.CHUNK = 400
if len(sys.argv) > 3:  # die at the n-th of these calls
    left = int(sys.argv[3])
    def lethal(call):
        def counted(*arguments, **keywords):
            global left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **keywords)
        return counted
    os.fsync, os.rename, os.replace = lethal(os.fsync), lethal(os.rename), lethal(os.replace)
paths = sys.argv[1].split(",")
config = TextDataConfig(paths=paths, cache_dir=sys.argv[2])
print(build(config, seq_len=16, seed=0, batch_size=4).train_batch(0)[0].sum())
"""


def builder(config: TextDataConfig, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILDER, ",".join(config.paths), str(config.cache_dir), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_make_one_cache(text: TextDataConfig) -> None:
    results = [process.communicate(timeout=60) for process in [builder(text) for _ in range(2)]]
    assert results[0][0] == results[1][0] != ""
    assert sum(stderr.count("tokenizing") for _, stderr in results) == 1


@pytest.mark.parametrize("point", [1, 4, 14, 30, 45])
def test_a_killed_build_is_taken_up_where_it_was(
    point: int, tmp_path: Path, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 400)
    for i in range(20):
        (tmp_path / f"{i}.txt").write_text(f"{i} {WORDS} " * 4)
    paths = [str(tmp_path / f"{i}.txt") for i in range(20)]
    config = TextDataConfig(paths=paths, cache_dir=str(tmp_path / "cache"))
    killed = builder(config, str(point))
    killed.communicate(timeout=60)
    assert killed.returncode == -9
    folder = tmp_path / "cache" / "tokens"
    done = len(list(folder.rglob("*.tokens")))
    assert done >= point // 3 - 1 or done > 8  # three calls for each chunk, the last when it has its name
    made = counted(monkeypatch, chunks, "made")
    notices: list[str] = []
    data = build_quietly(config, notices)
    assert not any("damaged" in notice for notice in notices)
    assert made.calls + done == len(list(folder.rglob("*.tokens"))) > 8
    assert ids_of(data) == expected(Texts(tuple(config.corpus().documents())), 0.05)
    assert len(list((folder / "views").glob("*"))) == 1


def test_a_cache_that_cannot_be_written_is_said(text: TextDataConfig, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError) as caught:
        build_quietly(text)
    assert str(caught.value) == (
        f"cannot write the token cache in {tmp_path}/cache: Not a directory; "
        "choose another folder with --data.cache_dir FOLDER"
    )
