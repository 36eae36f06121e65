"""Whatever call a save fails or dies at, whatever of it the disk forgets: the old or the new checkpoint is whole."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from failing_disk import BROKEN, NO_ROOM, Died, Disk

from levanter import checkpoint, durable
from levanter.checkpoint import CheckpointConfig, Checkpointer, writing
from levanter.checkpoint.directory import prune
from levanter.errors import WorkFailed


def tree_of(step: int) -> dict[str, np.ndarray]:
    return {f"w{i}": np.full((8, 8), step + i, np.float32) for i in range(3)}


@pytest.fixture(scope="module")
def digests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("reference")
    paths = [checkpoint.save(folder, step, tree_of(step), {}) for step in (1, 2)]
    return {path.name: checkpoint.digest(path) for path in paths}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_THREADS", 1)  # so that every try makes the same calls


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "checkpoints", 1, tree_of(1), {})
    return tmp_path / "checkpoints"


def saved(folder: Path, disk: Disk) -> BaseException | None:
    """Step 2 is saved and step 1 deleted, on a failing disk; what came of it."""
    with disk.installed():
        try:
            path = checkpoint.save(folder, 2, tree_of(2), {}, block_bytes=64, file_bytes=512)
            prune(path.parent, 1)
        except (WorkFailed, Died, OSError) as error:
            return error
    return None


def whole(folder: Path, digests: dict[str, str]) -> str:
    """The checkpoint that a run would resume from; it is whole, and nothing else is said to be damaged."""
    problems: list[str] = []
    found = checkpoint.latest(folder, problems)
    assert found is not None and problems == []
    assert checkpoint.digest(found) == digests[found.name]
    return found.name


def resumes(folder: Path, name: str) -> None:
    with Checkpointer(folder, CheckpointConfig(keep=1), resumed_step=int(name[-1])) as saver:
        for step in (2, 3):
            saver.save(step, tree_of(step), {})
    assert [entry.name for entry in folder.iterdir()] == ["step-3"]


def calls_of(folder: Path, tmp_path: Path) -> int:
    shutil.copytree(folder, tmp_path / "count")
    disk = Disk(tmp_path / "count")
    assert saved(tmp_path / "count", disk) is None
    assert disk.calls > 40
    return disk.calls


def tries(folder: Path, tmp_path: Path, error: int | None, every_call: bool) -> Iterator[tuple[Path, Disk]]:
    calls = calls_of(folder, tmp_path)
    # Near the end, where the rename and the deletion are, one by one, and before that at intervals.
    points = range(1, calls + 1) if every_call else sorted({*range(1, calls, 5), *range(calls - 16, calls + 1)})
    for point in points:
        target = tmp_path / f"point-{point}"
        shutil.copytree(folder, target)
        yield target, Disk(target, point, error)


@pytest.mark.parametrize("every_call", [False, pytest.param(True, marks=pytest.mark.torture)])
def test_a_death_at_any_call(folder: Path, tmp_path: Path, digests: dict[str, str], every_call: bool) -> None:
    survivors = []
    for target, disk in tries(folder, tmp_path, None, every_call):
        assert isinstance(saved(target, disk), Died)
        survivors.append(whole(target, digests))
        resumes(target, survivors[-1])
    # It is the old one up to the rename and the new one from there on.
    assert survivors == sorted(survivors) and set(survivors) == {"step-1", "step-2"}


@pytest.mark.parametrize("every_call", [False, pytest.param(True, marks=pytest.mark.torture)])
@pytest.mark.parametrize("error", [NO_ROOM, BROKEN])
def test_an_error_at_any_call(
    folder: Path,
    tmp_path: Path,
    digests: dict[str, str],
    error: int,
    every_call: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    outcomes = set()
    for target, disk in tries(folder, tmp_path, error, every_call):
        problem = saved(target, disk)
        said = capsys.readouterr().err
        assert problem is None or isinstance(problem, WorkFailed)
        if problem is None:
            # Past the commit only a deletion can fail: that is a warning, and training continues.
            assert said == "" or said.startswith(f"cannot delete the old checkpoint {target}/")
        name = whole(target, digests)
        assert problem is not None or name == "step-2"
        resumes(target, name)
        outcomes.add((problem is None, said == ""))
    assert outcomes >= {(False, True), (True, False)}


@pytest.mark.parametrize("seed", [None, 0])
def test_what_is_not_flushed_may_be_lost(
    folder: Path, tmp_path: Path, digests: dict[str, str], seed: int | None
) -> None:
    lost_power(folder, tmp_path, digests, None if seed is None else random.Random(seed), every_call=False, times=1)


@pytest.mark.torture
def test_what_is_not_flushed_may_be_lost_in_many_ways(folder: Path, tmp_path: Path, digests: dict[str, str]) -> None:
    lost_power(folder, tmp_path, digests, random.Random(3), every_call=True, times=50)


def lost_power(
    folder: Path, tmp_path: Path, digests: dict[str, str], chance: random.Random | None, *, every_call: bool, times: int
) -> None:
    survivors = []
    for target, disk in tries(folder, tmp_path, None, every_call):
        assert isinstance(saved(target, disk), Died)
        for number in range(times):
            after = target.with_name(f"{target.name}-{number}")
            disk.after_power_loss(after, chance)
            survivors.append(whole(after, digests))
            resumes(after, survivors[-1])
    assert set(survivors) == {"step-1", "step-2"}


def test_a_save_that_returned_is_on_the_disk(folder: Path, tmp_path: Path, digests: dict[str, str]) -> None:
    with (disk := Disk(folder)).installed():
        checkpoint.save(folder, 2, tree_of(2), {})
    disk.after_power_loss(tmp_path / "after", None)
    assert whole(tmp_path / "after", digests) == "step-2"


def test_the_failing_disk_forgets_what_was_not_flushed(tmp_path: Path) -> None:
    """The tests above would pass on a disk that forgets nothing."""
    root = tmp_path / "root"
    root.mkdir()
    with (disk := Disk(root)).installed():
        durable.write_new(root / "a", [b"flushed, without a name"])
        durable.write_file(root / "b", b"flushed and named")
    disk.after_power_loss(tmp_path / "after", None)
    assert {entry.name: entry.read_bytes() for entry in (tmp_path / "after").iterdir()} == {
        "a": b"flushed, without a name",  # the folder was flushed for b
        "b": b"flushed and named",
    }
    with (disk := Disk(root)).installed():
        durable.write_new(root / "c", [b"flushed, without a name"])
    disk.after_power_loss(tmp_path / "later", None)
    assert not (tmp_path / "later" / "c").exists()
