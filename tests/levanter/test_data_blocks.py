"""Training on a text that is still tokenized: the batches are those of a finished cache, whenever they are made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levanter.data import (
    HfDataConfig,
    JsonlDataConfig,
    MixtureDataConfig,
    TextDataConfig,
    TokenData,
    block_data,
    build,
    chunks,
    records,
)
from levanter.data.block_data import build_whole
from levanter.data.builder import Builder, Task
from levanter.data.cache import Cache
from levanter.data.corpus import Document
from levanter.data.packing import packed
from levanter.data.published import Follower, Published
from levanter.data.sources.chat.config import ChatDataConfig
from levanter.data.sources.jsonl.corpus import JsonlCorpus
from levanter.data.tokenizer import Gpt2Tokenizer
from levanter.data.tokens import ArrayTokens
from levanter.errors import UserError, WorkFailed

GPT2 = Gpt2Tokenizer()
ROOT = Path(__file__).resolve().parents[2]
PACKINGS = ("stream", "separate", "whole")
SEQ_LEN, BATCH, BLOCK = 16, 4, 16


class Gated:
    """Stands in for the process: tokenizes in a thread, so many chunks as `more` has let it."""

    permits = threading.Semaphore(0)
    open = False

    def __init__(self, task: Task) -> None:
        self.error: BaseException | None = None
        threading.Thread(target=self._work, args=(task,), daemon=True).start()

    def _work(self, task: Task) -> None:
        try:
            Cache(task.cache_dir, task.corpus, GPT2, task.heldout_fraction, lambda line: None, by_blocks=True).view()
        except BaseException as error:
            self.error = error

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    @classmethod
    def more(cls, chunks: int) -> None:
        for _ in range(chunks):
            cls.permits.release()


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Gated]]:
    """Chunks of some hundred characters, which come when a test says so; files that were just written are old ones."""
    monkeypatch.setattr(chunks, "CHUNK", 1500)
    monkeypatch.setattr(records, "YOUNG_SECONDS", -1.0)
    monkeypatch.setattr(block_data, "Builder", Gated)
    monkeypatch.setattr(block_data, "_POLL_SECONDS", 0.005)
    monkeypatch.setattr(block_data, "load_tokenizer", lambda name: GPT2)
    Gated.permits, Gated.open = threading.Semaphore(0), False
    make = chunks.made

    def made(*arguments: Any) -> Any:
        if not Gated.open:
            Gated.permits.acquire()
        return make(*arguments)

    monkeypatch.setattr(chunks, "made", made)
    yield Gated
    Gated.open = True
    Gated.more(10**4)


def rows_file(folder: Path, count: int = 150, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text(
        "".join(
            json.dumps({"text": f"{name} row {i} " + " ".join(f"{j} {i}" for j in range(i % 17))}) + "\n"
            for i in range(count)
        )
    )
    return path


def config_of(folder: Path, cache: str, **fields: Any) -> JsonlDataConfig:
    given = {"paths": [str(folder / "rows.jsonl")], "heldout_fraction": 0.4, "shuffle_block": BLOCK}
    return JsonlDataConfig(cache_dir=str(folder / cache), **{**given, **fields})


def built(config: Any) -> TokenData:
    return build(config, seq_len=SEQ_LEN, seed=3, batch_size=BATCH, notify=lambda line: None)


def same(left: Any, right: Any) -> bool:
    return len(left) == len(right) and all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("packing", PACKINGS)
def test_batches_do_not_depend_on_how_much_is_tokenized(tmp_path: Path, gated: type[Gated], packing: str) -> None:
    rows_file(tmp_path)
    gated.open = True
    build_whole(config_of(tmp_path, "finished", packing=packing), lambda line: None)
    finished = built(config_of(tmp_path, "finished", packing=packing))
    gated.open = False
    epoch = finished.num_train_windows // BATCH
    assert epoch > 3 * BLOCK // BATCH
    growing = _begun(gated, config_of(tmp_path, "growing", packing=packing))
    before = {}
    for step in [*range(0, epoch), epoch, epoch + 1, 2 * epoch - 1, 2 * epoch, 5 * epoch]:
        before[step] = _asked(gated, lambda step=step: growing.train_batch(step))
        assert same(before[step], finished.train_batch(step)), step
        assert growing.identity_at(step) == finished.identity_at(step)
    assert growing._all.growing.complete and growing.identity == finished.identity
    assert all(same(batch, growing.train_batch(step)) for step, batch in before.items())
    assert same(growing.heldout_rows(9), finished.heldout_rows(9))
    assert growing.unigram_loss() == finished.unigram_loss() > 0
    assert growing.num_train_tokens == finished.num_train_tokens > 0


def _begun(gated: type[Gated], config: Any) -> Any:
    return _asked(gated, lambda: built(config))


def _asked(gated: type[Gated], ask: Callable[[], Any]) -> Any:
    """An answer, for which as few chunks are let through as it takes."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(ask()), daemon=True)
    thread.start()
    deadline = time.time() + 60
    while thread.is_alive() and time.time() < deadline:
        thread.join(0.03)
        if thread.is_alive():
            gated.more(1)
    return found[0]


def test_the_first_block_is_all_that_the_first_steps_wait_for(tmp_path: Path, gated: type[Gated]) -> None:
    rows_file(tmp_path)
    growing = _begun(gated, config_of(tmp_path, "growing"))
    first = [growing.train_batch(step) for step in range(BLOCK // BATCH)]
    growing.heldout_batches(2, 2), growing.unigram_counts, growing.identity_at(BLOCK // BATCH)
    assert not growing._all.growing.complete
    with pytest.raises(InterruptedError):  # what the loop does where a signal comes

        def check() -> None:
            raise InterruptedError

        growing.while_waiting(check)
        growing.train_batch(BLOCK // BATCH + 5 * BLOCK)
    gated.open = True
    gated.more(100)
    # The blocks of an epoch: each sequence once, block after block.
    growing.while_waiting(lambda: None)
    whole = [growing.train_batch(step)[0] for step in range(growing.num_train_windows // BATCH)]
    assert same(whole[0], first[0][0])
    stream = packed("stream", growing._all.reached(1).tokens, SEQ_LEN, None)
    for block in range(len(whole) * BATCH // BLOCK):
        here = np.concatenate(whole[block * BLOCK // BATCH : (block + 1) * BLOCK // BATCH])
        there = stream.cut(np.arange(block * BLOCK, (block + 1) * BLOCK))[0]
        assert sorted(map(tuple, here)) == sorted(map(tuple, there)) and not np.array_equal(here, there)


def test_a_build_that_was_killed_and_begun_again_goes_on_with_the_same_text(tmp_path: Path, gated: type[Gated]) -> None:
    rows_file(tmp_path)
    config = config_of(tmp_path, "growing", packing="whole")
    growing = _begun(gated, config)
    path = growing._all.growing._list._path
    lines = path.read_text().splitlines()
    assert lines[0].startswith("build ") and len(lines) > 1
    # Another build writes the list anew; who has read the old one goes on behind it.
    path.write_text("build another\n" + "\n".join(lines[1:2]) + "\n")
    growing._all.growing.look()
    path.write_text("build another\n" + "\n".join([*lines[1:], "f" * 64]) + "\n")
    growing._all.growing._list.read()
    assert growing._all.growing._list.chunks == [*lines[1:], "f" * 64]
    path.write_text("build third\n" + "\n".join(["0" * 64, *lines[2:]]) + "\n")
    with pytest.raises(UserError, match="has changed while it was tokenized and trained on"):
        growing._all.growing._list.read()


def test_a_list_is_read_line_by_line_while_it_is_written(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "list", "rows")
    follower.read()
    assert follower.chunks == []
    with Published(tmp_path / "list") as published:
        published.add("a1")
        follower.read()
        assert follower.chunks == ["a1"] and follower.view is None
        published._file.write(b"a2")  # half a line
        follower.read()
        assert follower.chunks == ["a1"]
        published._file.write(b"\n")
        published.end("v")
    follower.read()
    assert follower.chunks == ["a1", "a2"] and follower.view == "v"
    shorter = Follower(tmp_path / "list", "rows")
    shorter.chunks = ["a1", "a2", "a3"]
    with pytest.raises(UserError, match="has changed"):
        shorter.read()


def test_named_heldout_text_is_tokenized_first(tmp_path: Path, gated: type[Gated]) -> None:
    rows_file(tmp_path)
    held = rows_file(tmp_path, 40, "held.jsonl")
    fields = {"heldout_paths": [str(held)], "heldout_fraction": 0.05}
    growing = _begun(gated, config_of(tmp_path, "growing", **fields))
    assert not growing._all.growing.complete
    gated.open = True
    gated.more(100)
    whole = built(config_of(tmp_path, "whole", **fields, shuffle_block=None))
    assert growing.num_heldout_tokens == whole.num_heldout_tokens
    assert same(growing.heldout_rows(20), whole.heldout_rows(20))
    assert growing.num_train_tokens == whole.num_train_tokens
    epoch = growing.num_train_windows  # from the second epoch on the order is the usual one
    assert same(growing.sequences(np.arange(epoch, epoch + 9)), whole.sequences(np.arange(epoch, epoch + 9)))


def test_a_mixture_waits_for_the_rows_that_it_takes(tmp_path: Path, gated: type[Gated]) -> None:
    rows_file(tmp_path)
    rows_file(tmp_path, 200, "other.jsonl")

    def mixture(cache: str) -> MixtureDataConfig:
        sources = {
            "a": config_of(tmp_path, cache),
            "b": config_of(tmp_path, cache, paths=[str(tmp_path / "other.jsonl")]),
        }
        return MixtureDataConfig(sources=sources, weights={"a": 3, "b": 1}, shuffle_block=5, packing="separate")

    assert [part.shuffle_block for part in mixture("x").parts().values()] == [BLOCK, BLOCK]
    growing = _begun(gated, mixture("growing"))
    early = {step: _asked(gated, lambda step=step: growing.train_batch(step)) for step in (0, 7, 20)}
    told = {step: _asked(gated, lambda step=step: growing.identity_at(step)) for step in (0, 7, 20)}
    gated.open = True
    gated.more(1000)
    build_whole(mixture("finished"), lambda line: None)
    finished = built(mixture("finished"))
    for step, batch in early.items():
        assert same(batch, finished.train_batch(step)) and told[step] == finished.identity_at(step)
    assert finished.identity_at(10**6) == finished.identity
    assert len(set(told.values())) > 1


def test_a_text_shorter_than_a_block_is_one_block(tmp_path: Path, gated: type[Gated]) -> None:
    rows_file(tmp_path)
    gated.open = True
    data = built(config_of(tmp_path, "cache", shuffle_block=10**6))
    count = data.num_train_windows
    seen = data.sequences(np.arange(count))[0]
    assert len({tuple(row) for row in seen}) == count
    assert data.num_heldout_tokens == built(config_of(tmp_path, "cache", shuffle_block=None)).num_heldout_tokens


def test_other_text_is_another_identity_from_the_block_on_that_has_it(
    tmp_path: Path, gated: type[Gated], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_file(tmp_path)
    gated.open = True
    write = records.write

    def late(*arguments: Any) -> None:  # the text changes while the first build, whose tokens are all there, still ends
        time.sleep(0.3)
        write(*arguments)

    monkeypatch.setattr(records, "write", late)
    first = built(config_of(tmp_path, "cache"))
    steps = range(0, first.num_train_windows // BATCH, BLOCK // BATCH)
    before = [first.identity_at(step) for step in steps]
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write(json.dumps({"text": "one more " * 40}) + "\n")
    second = built(config_of(tmp_path, "cache"))
    after = [second.identity_at(step) for step in steps]
    differs = [a != b for a, b in zip(before, after, strict=True)]
    assert not any(differs[:-2]) and first.identity != second.identity
    assert built(config_of(tmp_path, "cache", shuffle_block=BLOCK + 1)).identity_at(0) != before[0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(2, 12), st.data())
def test_rows_of_whole_documents_stay_when_more_come(lengths: list[int], seq_len: int, data: st.DataObject) -> None:
    ends = np.cumsum(lengths)
    ids = np.arange(1, ends[-1] + 1)
    whole = packed("whole", ArrayTokens(ids, ends), seq_len, 0)
    rows = None
    for stop in sorted(data.draw(st.lists(st.integers(0, len(lengths)), max_size=4))):
        some = ArrayTokens(ids[: ends[stop - 1] if stop else 0], ends[:stop])
        rows = packed("whole", some, seq_len, 0, ended=False, before=rows)
        assert rows.count <= whole.count and [rows.stop(i) for i in range(rows.count + 1)] == [
            whole.stop(i) for i in range(rows.count + 1)
        ]
    end = packed("whole", ArrayTokens(ids, ends), seq_len, 0, before=rows)
    assert end.count == whole.count and end.stop(end.count) == ends[-1]


def test_what_cannot_be_had_is_told(tmp_path: Path, gated: type[Gated]) -> None:
    rows_file(tmp_path)
    gated.open = True
    with pytest.raises(UserError) as found:
        built(config_of(tmp_path, "cache", heldout_fraction=0.0001))
    assert str(found.value).startswith(
        f"the held-out text beside the first 16 sequences of {tmp_path}/rows.jsonl is too"
    )
    with pytest.raises(UserError, match="data.shuffle_block is for text: conversations are tokenized before training"):
        ChatDataConfig(shuffle_block=5)
    with pytest.raises(UserError, match=r"data.shuffle_block is 0: it must be at least 1"):
        TextDataConfig(shuffle_block=0)
    with pytest.raises(UserError, match="the training text is too short"):
        (tmp_path / "tiny.jsonl").write_text('{"text": "a"}\n')
        built(config_of(tmp_path, "cache", paths=[str(tmp_path / "tiny.jsonl")]))
    assert HfDataConfig(shuffle_block=7).shuffle_block == 7


class OwnCorpus:
    """Of a class that another process cannot be given."""

    source = "my text"

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def documents(self) -> Iterator[Document]:
        for i in range(400):
            yield Document(f"text {i} " * 9)


def test_a_corpus_that_no_other_process_can_have_is_tokenized_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path, "cache")
    monkeypatch.setattr(JsonlDataConfig, "corpus", lambda self: OwnCorpus())
    data = built(config)
    assert data._all.growing.complete and data.num_train_windows > BLOCK


def test_the_process_tells_what_it_cannot_read_and_ends_with_who_began_it(tmp_path: Path) -> None:
    rows_file(tmp_path)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"text": null}\n')
    with pytest.raises(UserError, match=r"rows.jsonl:151: `text` is null, not text"):
        built(config_of(tmp_path, "cache", shuffle_block=10**6))
    fifo = tmp_path / "endless.jsonl"
    os.mkfifo(fifo)
    process = Builder(Task(JsonlCorpus((str(fifo),)), "gpt2", 0.1, tmp_path / "cache"))
    process.check()
    process._process.kill()
    process._process.wait()
    with pytest.raises(WorkFailed) as found:
        process.check()
    assert str(found.value) == (
        f"the process that tokenizes {fifo} was ended by signal 9; "
        "rerun the same command to resume from the last checkpoint"
    )
    other = Builder(Task(JsonlCorpus((str(fifo),)), "gpt2", 0.1, tmp_path / "cache"))
    other._process.stdin.close()  # as the system does with a pipe whose owner is gone
    assert other._process.wait(30) == 0
    other.close()


SLOW = """
import time
from dataclasses import dataclass
from pathlib import Path

from levanter.data import DataConfig
from levanter.data.corpus import Document


@dataclass(frozen=True)
class SlowCorpus:
    folder: str
    source: str = "a slow text"

    def documents(self):
        for i in range(240):
            Path(self.folder, "made").write_text(str(i))
            if not Path(self.folder, "fast").exists():
                time.sleep(0.1)
            yield Document(f"document {i}: " + "".join(f"{i} {j} of many words. " for j in range(40)))


@dataclass(frozen=True)
class SlowDataConfig(DataConfig):
    folder: str = "."

    def corpus(self):
        return SlowCorpus(self.folder)
"""
SMALL_CHUNKS = "import levanter.data.chunks\nlevanter.data.chunks.CHUNK = 3000\n"


def _command(folder: Path, run: str, cache: str, packing: str) -> list[str]:
    fields = f"""
        --model.seq_len 16 --model.hidden_dim 16 --model.num_layers 1 --model.num_heads 2
        --trainer.num_train_steps 150 --trainer.train_batch_size 8 --trainer.eval_every 20 --trainer.eval_batches 2
        --trainer.checkpoint.every_steps 10 --trainer.sample_tokens 0
        --data.type {folder}/slow_source.py:SlowDataConfig --data.folder {folder} --data.shuffle_block 100
        --data.packing {packing} --data.cache_dir {folder / cache} --data.heldout_fraction 0.1 --run-dir {folder / run}
    """
    return [sys.executable, "-m", "levanter.cli.main", "train", *fields.split()]


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["stream", "whole"])
def test_a_run_on_a_slow_text_killed_in_the_middle_has_the_losses_of_a_finished_cache(
    tmp_path: Path, packing: str
) -> None:
    """Training begins while the text is read; `kill -9` of it, twice, ends both processes; the same bits at the end."""
    (tmp_path / "slow_source.py").write_text(SLOW)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SMALL_CHUNKS)
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}"}

    def started(run: str, cache: str) -> subprocess.Popen[bytes]:
        with (tmp_path / f"{run}.log").open("ab") as log:
            return subprocess.Popen(
                _command(tmp_path, run, cache, packing), cwd=tmp_path, env=environment, stdout=log, stderr=log
            )

    def metrics(run: str) -> list[dict[str, Any]]:
        path = tmp_path / run / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def made() -> int:
        return int((tmp_path / "made").read_text() or -1)

    killed_at = []
    for least in (15, 45):
        process = started("slow", "growing")
        while process.poll() is None and (not (rows := metrics("slow")) or rows[-1]["step"] < least):
            time.sleep(0.1)
        killed_at.append(made())
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.5)
        still = made()
        time.sleep(0.7)
        assert made() == still, "the process that tokenizes has outlived the run"
    assert all(at < 239 for at in killed_at), killed_at
    assert started("slow", "growing").wait(300) == 0, (tmp_path / "slow.log").read_text()
    (tmp_path / "fast").touch()
    whole = started("whole", "finished")
    assert whole.wait(300) == 0
    kept = ("step", "loss", "grad_norm", "heldout_loss")
    slow, fast = ([{key: row.get(key) for key in kept} for row in metrics(run)] for run in ("slow", "whole"))
    assert slow == fast and len(slow) == 150
    log = (tmp_path / "slow.log").read_text()
    assert "waiting until the first 100 sequences of a slow text are tokenized" in log
