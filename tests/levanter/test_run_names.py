"""Where runs are kept by default: each command has a directory, and finds it again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from levanter import config
from levanter.errors import UserError
from levanter.runtime.run_directory import Difference, open_run
from levanter.runtime.run_names import beside, default_directory


def text(*overrides: str) -> str:
    return config.dump(config.load("gpt2_nano", overrides))


LOWER = ["--optimizer.learning_rate", "1e-3"]


def run(root: Path, overrides: Sequence[str] = (), step: int | None = 1) -> str:
    """Start a run as `levanter train` does, with a checkpoint after `step` steps; the name of its directory."""
    path, _ = default_directory(root, "nano", text(*overrides))
    with open_run(path, text(*overrides)) as opened:
        if step is not None:
            (opened.checkpoints_path / f"step-{step}").mkdir(exist_ok=True)
    return path.name


def test_every_command_finds_its_directory_again(tmp_path: Path) -> None:
    for _ in range(2):
        assert run(tmp_path) == "nano"
        assert run(tmp_path, LOWER) == "nano-learning_rate=1e-3"
        assert run(tmp_path, ["--trainer.mesh", "4x2"]) == "nano-mesh=4x2"
        assert run(tmp_path, [*LOWER, "--trainer.seed", "3"]) == "nano-learning_rate=1e-3-seed=3"


def test_what_may_change_stays_the_same_run(tmp_path: Path) -> None:
    assert run(tmp_path) == "nano"
    assert run(tmp_path, ["--trainer.num_train_steps", "900", "--trackers.console.log_every", "3"]) == "nano"


def test_a_shorter_run_is_not_one_that_is_past_its_end(tmp_path: Path) -> None:
    assert run(tmp_path, step=400) == "nano"
    shorter = ["--trainer.num_train_steps", "200"]
    assert run(tmp_path, shorter) == run(tmp_path, shorter, step=200) == "nano-num_train_steps=200"


def test_the_reason_is_said(tmp_path: Path) -> None:
    run(tmp_path)
    assert default_directory(tmp_path, "nano", text()) == (tmp_path / "nano", None)
    assert default_directory(tmp_path, "nano", text(*LOWER))[1] == (
        f"{tmp_path}/nano holds another run (optimizer.learning_rate: 0.006 → 0.001): "
        f"this one is kept in {tmp_path}/nano-learning_rate=1e-3"
    )


def test_a_run_without_a_checkpoint_protects_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, step=None) == "nano"
    assert run(tmp_path, LOWER, step=None) == "nano"
    assert run(tmp_path, LOWER) == run(tmp_path, LOWER) == "nano"


def test_a_run_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    with open_run(tmp_path / "nano", text()):
        assert run(tmp_path, LOWER) == "nano-learning_rate=1e-3"
        with pytest.raises(UserError, match="^another process is writing the run directory "):
            run(tmp_path)
    # The first run ended before its first checkpoint; the second one is still where it was.
    assert run(tmp_path, LOWER) == "nano-learning_rate=1e-3"


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    run(tmp_path)
    with open_run(tmp_path / "nano-seed=1", text(*LOWER)) as taken:
        (taken.checkpoints_path / "step-1").mkdir()
    assert run(tmp_path, ["--trainer.seed", "1"]) == "nano-seed=1-2"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"optimizer.learning_rate": 1e-3}, "r-learning_rate=1e-3"),
        ({"optimizer.learning_rate": 0.5}, "r-learning_rate=0.5"),
        ({"optimizer.learning_rate": 0.00065}, "r-learning_rate=6.5e-4"),
        ({"optimizer.warmup": 100.0}, "r-warmup=100"),
        ({"optimizer.max_grad_norm": None}, "r-max_grad_norm=none"),
        ({"model.tie_word_embeddings": False}, "r-tie_word_embeddings=False"),
        ({"data.paths": ["a/b.txt", "c"]}, "r-paths=a_b.txt,c"),
        ({"data.type": "hf", "data.id": "x", "data.rows": "lines"}, "r-data=hf"),
        ({"a": 1, "b": 2, "c": 3}, "r-a=1-b=2-c=3"),
    ],
)
def test_directories_are_named_after_what_differs(changes: dict[str, Any], name: str) -> None:
    assert beside(Path("runs/r"), [Difference(key, 0, value) for key, value in changes.items()]).name == name


def test_many_differences_make_a_short_name_of_their_own() -> None:
    names = {
        beside(Path("r"), [Difference(key, 0, value) for key in "abcd"]).name for value in (1, 2)
    } | {beside(Path("r"), [Difference("a", 0, "x" * 300 + end)]).name for end in "yz"}  # fmt: skip
    assert len(names) == 4 and max(map(len, names)) < 90
