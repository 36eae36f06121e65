"""`kill -9` at any moment of a save leaves the old checkpoint or the new one, and what training gives away is not lost.

Real processes die at every kind of system call that a save makes, and at random moments.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from levanter import checkpoint
from levanter.checkpoint import CheckpointConfig, Checkpointer, checkpointer, writing
from levanter.errors import WorkFailed

# Saves step 2 beside step 1 and then deletes step 1, and dies at the n-th call below.
DYING = """
import os, signal, sys, threading
import numpy as np
from levanter import checkpoint
from levanter.checkpoint import writing

calls, counting = 0, threading.Lock()
def lethal(call):
    def counted(*arguments, **keywords):
        global calls
        with counting:
            calls += 1
            if calls == int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **keywords)
    return counted

config = checkpoint.CheckpointConfig(keep=1)
writing._THREADS = 1  # so that every try makes the same calls
with checkpoint.Checkpointer(sys.argv[1], config, resumed_step=1) as saver:
    for name in ("mkdir", "open", "write", "fsync", "close", "rename", "unlink", "rmdir"):
        setattr(os, name, lethal(getattr(os, name)))
    writing.hashlib = type("Hashes", (), {"sha256": staticmethod(lethal(writing.hashlib.sha256))})
    saver.save(2, {f"w{i}": np.full((64, 64), 2 + i, np.float32) for i in range(3)}, {})
print(calls)
"""

# Saves step after step, larger than one write, until it is killed.
SAVING = """
import sys
import numpy as np
from levanter import checkpoint

last = checkpoint.latest(sys.argv[1])
first = 0 if last is None else checkpoint.read_manifest(last).step
with checkpoint.Checkpointer(sys.argv[1], checkpoint.CheckpointConfig(keep=2), resumed_step=first) as saver:
    print("ready", flush=True)
    for step in range(first + 1, first + 1000):
        saver.save(step, {f"w{i}": np.full((1 << 18,), step, np.float32) for i in range(4)}, {})
"""


def run_dying(folder: Path, point: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", DYING, str(folder), str(point)], capture_output=True, text=True, timeout=60
    )


def tree_of(step: int) -> dict[str, np.ndarray]:
    return {f"w{i}": np.full((64, 64), step + i, np.float32) for i in range(3)}


def test_a_save_that_dies_leaves_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_THREADS", 1)  # what is deleted has as many files each time
    digests = {}
    for step in (1, 2):
        path = checkpoint.save(tmp_path / "reference", step, tree_of(step), {})
        digests[path.name] = checkpoint.digest(path)
    checkpoint.save(tmp_path / "whole", 1, tree_of(1), {})
    calls = int(run_dying(tmp_path / "whole", 0).stdout)
    assert calls > 30
    # The first and last calls one by one (the rename and the deletion are near the end), those between at intervals.
    points = sorted({1, 2, 3, 4, *range(5, calls, 7), *range(calls - 2, calls + 1)})
    survivors = []
    for point in points:
        folder = tmp_path / f"point-{point}"
        checkpoint.save(folder, 1, tree_of(1), {})
        assert run_dying(folder, point).returncode == -9
        problems: list[str] = []
        found = checkpoint.latest(folder, problems)
        assert found is not None and problems == []
        assert checkpoint.digest(found) == digests[found.name]
        survivors.append(found.name)
        with Checkpointer(folder, CheckpointConfig(keep=1), resumed_step=int(found.name[-1])) as saver:
            saver.save(2, tree_of(2), {})
            saver.save(3, tree_of(3), {})
        assert [entry.name for entry in folder.iterdir()] == ["step-3"]
    # It is the old one up to the rename and the new one from there on, and both were seen.
    assert survivors == sorted(survivors) and set(survivors) == {"step-1", "step-2"}


def test_death_at_random_moments(tmp_path: Path) -> None:
    killed_at_random(tmp_path, 5)


@pytest.mark.torture
def test_two_hundred_deaths(tmp_path: Path) -> None:
    killed_at_random(tmp_path, 200)


def killed_at_random(folder: Path, times: int) -> None:
    moments = random.Random(0)
    last = 0
    # More than so many only where the machine is so busy that nothing was saved yet.
    for patience in (*(1,) * times, 10, 30):
        if patience > 1 and last > 0:
            break
        with subprocess.Popen([sys.executable, "-c", SAVING, str(folder)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            time.sleep(patience * moments.uniform(0.02, 0.4))
            process.kill()
        problems: list[str] = []
        found = checkpoint.latest(folder, problems)
        assert problems == []
        if found is not None:
            step = checkpoint.read_manifest(found).step
            assert step >= last
            assert all((np.asarray(value) == step).all() for value in checkpoint.load(found).values())
            last = step
    assert last > 0


# --- saving while training goes on ---


def test_donated_buffers_are_saved_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stepped = threading.Event()

    def slow_save(*arguments, **keywords):  # so that the steps below run while it is in the air
        stepped.wait(60)
        return checkpoint.save(*arguments, **keywords)

    monkeypatch.setattr(checkpointer, "save", slow_save)
    step = jax.jit(lambda w: w * 2 + 1, donate_argnums=0)
    weights = jnp.arange(1 << 16, dtype=jnp.float32)
    with Checkpointer(tmp_path, CheckpointConfig(), resumed_step=None) as saver:
        expected = np.array(weights)
        saver.save(1, {"w": weights}, {})
        for _ in range(10):
            weights = step(weights)
        weights.block_until_ready()
        assert checkpoint.committed(tmp_path) == []
        stepped.set()
        assert saver.wait() == tmp_path / "step-1"
    assert np.array_equal(checkpoint.load(tmp_path / "step-1")["w"], expected)
    # What was loaded may be donated in its turn, and the file is not touched.
    step(checkpoint.load(tmp_path / "step-1")["w"]).block_until_ready()
    assert np.array_equal(checkpoint.load(tmp_path / "step-1")["w"], expected)


def test_the_error_of_a_save_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing_save(directory: Path, step: int, *rest: object, **keywords: object) -> Path:
        raise WorkFailed(f"no room for step {step}")

    monkeypatch.setattr(checkpointer, "save", failing_save)
    saver = Checkpointer(tmp_path, CheckpointConfig(), resumed_step=None)
    saver.save(1, {}, {})
    with pytest.raises(WorkFailed, match="^no room for step 1$"):
        saver.save(2, {}, {})
    with pytest.raises(WorkFailed, match="^no room for step 3$"), saver:
        saver.save(3, {}, {})
    with pytest.raises(KeyError, match="the loop's own"), Checkpointer(tmp_path, CheckpointConfig(), resumed_step=None):
        raise KeyError("the loop's own")


def test_when_a_save_is_due(tmp_path: Path) -> None:
    now = 0.0
    config = CheckpointConfig(every_steps=10, every_minutes=1.0, keep=3)
    with Checkpointer(tmp_path, config, resumed_step=20, clock=lambda: now) as saver:
        assert [step for step in range(20, 51) if saver.due(step)] == [30, 40, 50]
        now = 59.9
        assert not saver.due(21)
        now = 60.0
        assert saver.due(21)
        saver.save(21, {"w": np.zeros(1)}, {})
        assert not saver.due(21) and not saver.due(22)
        saver.wait()
        now = 120.0
        assert saver.due(22)
        saver.save(21, {"w": np.ones(1)}, {})  # that step is saved already
    assert [path.name for path in checkpoint.committed(tmp_path)] == ["step-21"]
    with Checkpointer(tmp_path, CheckpointConfig(every_steps=None, every_minutes=None), resumed_step=21) as saver:
        assert not any(saver.due(step) for step in range(0, 5000))
    # What is to stay for good is saved, whether or not the newest are saved at its multiples.
    for every, due in ((10, [10, 15, 20, 30]), (None, [15, 30])):
        config = CheckpointConfig(every_steps=every, every_minutes=None, keep_every=15)
        with Checkpointer(tmp_path / "kept", config, resumed_step=None) as saver:
            assert [step for step in range(31) if saver.due(step)] == due


def test_the_clock_does_not_wait_for_a_save_in_the_air(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written, now = threading.Event(), 0.0

    def slow_save(*arguments, **keywords):
        written.wait(30)
        return checkpoint.save(*arguments, **keywords)

    monkeypatch.setattr(checkpointer, "save", slow_save)
    config = CheckpointConfig(every_steps=10, every_minutes=1.0)
    with Checkpointer(tmp_path, config, resumed_step=None, clock=lambda: now) as saver:
        saver.save(1, {"w": np.zeros(1)}, {})
        now = 90.0
        assert not saver.due(2) and saver.due(10)  # a step that was asked for is saved all the same
        written.set()
        saver.wait()
        assert saver.due(3)


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    with Checkpointer(tmp_path, CheckpointConfig(keep=2), resumed_step=None) as saver:
        for step in (8, 9, 10, 11):
            saver.save(step, {"w": np.asarray(step)}, {})
        assert saver.wait() == tmp_path / "step-11"
    assert [path.name for path in checkpoint.committed(tmp_path)] == ["step-10", "step-11"]


def test_a_damaged_checkpoint_is_set_aside_when_the_run_goes_on(tmp_path: Path) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {"w": np.asarray(step)}, {})
    (tmp_path / "step-2" / "manifest.json").unlink()
    assert checkpoint.latest(tmp_path, []) == tmp_path / "step-1"
    with Checkpointer(tmp_path, CheckpointConfig(keep=1), resumed_step=1) as saver:
        saver.save(2, {"w": np.asarray(2)}, {})
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["step-2", "step-2.damaged"]
    assert checkpoint.latest(tmp_path) == tmp_path / "step-2"
