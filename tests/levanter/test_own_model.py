"""A model of the user's own, named by its place: trained, planned, checked, explained, resumed, moved and changed."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from haliax import NamedArray
from levanter import config, user_code
from levanter.cli.main import main
from levanter.compiler.compile import compile_training, report
from levanter.compiler.graphs import check_config
from levanter.config import TrainConfig
from levanter.runtime import own_code
from levanter.runtime.run_directory import differences
from levanter.runtime.state import LmBatch, batch_axes, init_state, state_shape

pytestmark = pytest.mark.hurried

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own_model.py"
SMALL = (
    "--model.seq_len 16 --model.num_heads 4 --model.head_size 8 --model.num_layers 2 --trainer.train_batch_size 8 "
    "--trainer.num_train_steps 6 --trainer.sample_tokens 0 --trainer.eval_batches 0 --optimizer.learning_rate 3e-2 "
    "--optimizer.lr_schedule constant --optimizer.warmup 0 --data.type text --data.paths [text.txt] "
    "--data.cache_dir cache"
)
OWN_DATA = """
from dataclasses import dataclass

import optax

from levanter.data.config import DataConfig
from levanter.data.corpus import Document
from levanter.optim.config import OptimizerConfig
from levanter.optim.optimizer import Optimizer
from levanter.optim.schedule import learning_rate


@dataclass(frozen=True)
class Counting(DataConfig):
    '''Numbers in words.'''

    repeats: int = 100
    '''How often.'''

    @property
    def source(self):
        return "numbers in words"

    def corpus(self):
        return self

    def documents(self):
        yield from (Document("one two three four five\\n" * 20) for _ in range(self.repeats))


@dataclass(frozen=True)
class Momentum(OptimizerConfig):
    '''Gradient descent with momentum.'''

    momentum: float = 0.9
    '''How much of the last update is kept.'''

    def build(self, num_train_steps, decays):
        rate = learning_rate(self, num_train_steps)
        return Optimizer(optax.sgd(rate, momentum=self.momentum), rate)


class Forgotten(OptimizerConfig):
    momentum: float = 0.9


class Plain:
    pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    shutil.copy(EXAMPLE, tmp_path / "my_model.py")
    (tmp_path / "my_data.py").write_text(OWN_DATA)
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog and comes back again\n" * 200)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("my_model", "my_data")):
            del sys.modules[name]
    for name in [name for name in user_code._files if name.startswith(("my_model", "my_data"))]:
        del user_code._files[name]


def run(command: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(shlex.split(command))
    out, err = capsys.readouterr()
    return code, out, err


def losses(run_directory: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run_directory / "metrics.jsonl").read_text().splitlines()]


def example(*overrides: str) -> TrainConfig:
    return config.load(None, [*shlex.split(SMALL), *overrides], own=f"{EXAMPLE}:AveragesConfig")


def test_the_example_has_no_axis_mistake_and_is_planned_on_eight_devices() -> None:
    small = example("--model.vocab_size=512", "--trainer.train_batch_size=256")
    assert check_config(small, []) == []
    planned = report(small, {"data": 4, "model": 2}, "v5e")
    assert planned["search"]["optimal"]
    assert any(row["compute"] or row["storage"] for row in planned["axes"])


@pytest.mark.slow
def test_the_example_trains_to_the_same_losses_on_eight_devices_as_on_one() -> None:
    def trained(mesh: str) -> list[float]:
        this = example("--model.vocab_size=64", "--model.num_layers=1", f"--trainer.mesh={mesh}")
        compiled = compile_training(this)
        state, found = init_state(this, compiled.state_shardings), []
        tokens = np.random.default_rng(0).integers(0, 8, (8, 17)).cumsum(1) % 61
        for _ in range(6):
            pair = (each.astype(np.int32) for each in (tokens[:, :-1], tokens[:, 1:]))
            batch = LmBatch(*(NamedArray(each, batch_axes(this)) for each in pair))
            state, metrics = compiled.train_step(state, jax.device_put(batch, compiled.batch_shardings))
            found.append(float(metrics["loss"]))
        return found

    on_one, on_eight = trained("1"), trained("4x2")
    np.testing.assert_allclose(on_eight, on_one, rtol=2e-4)
    assert on_one[-1] < 0.9 * on_one[0]


@pytest.mark.slow
def test_a_run_resumes_where_its_file_has_moved_and_says_that_it_has_changed(folder: Path, capsys) -> None:
    code, out, err = run(f"train {SMALL} my_model.py:AveragesConfig --trainer.num_train_steps 3", capsys)
    assert (code, err.partition("tokenizing")[0]) == (0, "")
    own = folder / "runs" / "my_model"
    assert f"type: {folder}/my_model.py:AveragesConfig\n" in (own / "config.yaml").read_text()
    (folder / "lib").mkdir()
    (folder / "my_model.py").rename(folder / "lib" / "my_model.py")
    sys.modules.pop("my_model"), user_code._files.pop("my_model")
    code, out, err = run(f"train --config {own}/config.yaml --run-dir {own}", capsys)
    assert (code, out, err) == (
        2,
        "",
        f"error: `model.type` (runs/my_model/config.yaml:2): no file `{folder}/my_model.py`: check the path, or say "
        "where it is now with `--model.type PATH/my_model.py:AveragesConfig`\n",
    )
    moved = f"train --config {own}/config.yaml --run-dir {own} --model.type lib/my_model.py:AveragesConfig"
    (folder / "lib" / "my_model.py").write_text(EXAMPLE.read_text() + "# another line\n")
    code, out, err = run(f"{moved} --trainer.num_train_steps 6", capsys)
    assert (code, err) == (0, "")
    assert (
        f"my_model.py has changed since {own}/checkpoints/step-3 was saved: the run resumes with the code as it is "
        "now, and is not the run that it would have been\n"
    ) in out
    assert len(losses(own)) == 6


def test_code_that_has_moved_has_not_changed(folder: Path) -> None:
    here = config.load(None, own="my_model.py:AveragesConfig")
    saved = own_code.digests(here)
    assert list(saved) == ["my_model.py"]
    (folder / "lib").mkdir()
    (folder / "my_model.py").rename(folder / "lib" / "my_model.py")
    there = config.load(None, own="lib/my_model.py:AveragesConfig")
    assert own_code.changed(saved, there) == []
    (folder / "lib" / "my_model.py").write_text(EXAMPLE.read_text() + "# another line\n")
    assert own_code.changed(saved, there) == ["my_model.py"]
    assert own_code.digests(config.load("gpt2_nano")) == {}
    # Nor is it another run for its folder's sake.
    (folder / "config.yaml").write_text(config.dump(here))
    assert differences(folder, config.dump(there)) == []
    assert [each.name for each in differences(folder, config.dump(config.load("gpt2_nano")))] != []


def test_a_type_in_a_file_is_seen_from_that_file(folder: Path, capsys) -> None:
    (folder / "configs" / "deep").mkdir(parents=True)
    (folder / "configs" / "base.yaml").write_text("model:\n  type: ../my_model.py:AveragesConfig\n  num_heads: 2\n")
    (folder / "configs" / "deep" / "mine.yaml").write_text(
        "extends: ../base.yaml\ndata: {type: ../../my_data.py:Counting, repeats: 7}\n"
        "optimizer: {type: ../../my_data.py:Momentum}\n"
    )
    loaded = config.load(folder / "configs" / "deep" / "mine.yaml", ["--optimizer.momentum", "0.5"])
    assert (loaded.model.num_heads, loaded.data.repeats, loaded.optimizer.momentum) == (2, 7, 0.5)
    assert config.loads(config.dump(loaded)) == loaded
    assert state_shape(loaded).model.Vocab.size == 50304
    assert loaded.data.corpus().source == "numbers in words"


def test_a_module_names_it_too(folder: Path, capsys) -> None:
    (folder / "my_model_package").mkdir()
    (folder / "my_model_package" / "__init__.py").write_text("")
    shutil.copy(EXAMPLE, folder / "my_model_package" / "averages.py")
    loaded = config.load("gpt2_nano", ["--trainer.seed=3"], own="my_model_package.averages:AveragesConfig")
    assert (loaded.trainer.run_name, loaded.trainer.seed, loaded.trainer.train_batch_size) == ("averages", 3, 16)
    text = config.dump(loaded)
    assert "type: my_model_package.averages:AveragesConfig\n" in text
    assert config.loads(text) == loaded


@pytest.mark.slow
def test_the_commands_take_it(folder: Path, capsys) -> None:
    own = f"my_model.py:AveragesConfig {SMALL.partition(' --data')[0]}"
    assert run(f"check {own} --model.vocab_size 256", capsys) == (0, "no axis mistakes\n", "")
    code, out, err = run(f"compile --json --mesh 4x2 {own} --model.vocab_size 256", capsys)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["model"], found["seq_len"]) == ("my_model.py:AveragesConfig", 16)
    code, out, err = run(f"config {own} --explain", capsys)
    assert (code, err) == (0, "")
    assert (
        "  # Size of axis `heads`: averages in a layer, each at a pace of its own.\n"
        "  # A whole number, at least 1. Default: 8.\n  num_heads: 4\n"
    ) in out
    (folder / "explained.yaml").write_text(out)
    code, again, err = run("config --explain --config explained.yaml", capsys)
    assert (code, again, err) == (0, out, "")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "config my_model.py:AveragesConfig --model.num_haeds 3",
            "unknown option `--model.num_haeds`: did you mean `--model.num_heads`?",
        ),
        (
            "config my_model.py:AveragesConfig --model.hidden_dim 3",
            "unknown option `--model.hidden_dim`: it is a field of type `gpt2`, and this section is of type "
            "`{folder}/my_model.py:AveragesConfig`",
        ),
        (
            "config my_model.py:AveragesConfg",
            "`--model.type`: no `AveragesConfg` in the module of `{folder}/my_model.py:AveragesConfg`: did you mean "
            "`AveragesConfig`?",
        ),
        (
            "config my_modle.py:AveragesConfig",
            "`--model.type`: no file `{folder}/my_modle.py`: check the path, or say where it is now with "
            "`--model.type PATH/my_modle.py:AveragesConfig`",
        ),
        (
            "config --optimizer.type my_data.py:Forgotten",
            "`--optimizer.type`: the optimizer `{folder}/my_data.py:Forgotten` has no fields of its own. Write\n\n"
            "@dataclass(frozen=True)\nclass Forgotten(…):",
        ),
        (
            "config --data.type my_data.py:Plain",
            "`--data.type`: `{folder}/my_data.py:Plain` is not a config of the kind source of text. Write\n\n"
            "from levanter.data.config import DataConfig\n\n@dataclass(frozen=True)\nclass Plain(DataConfig):",
        ),
        (
            "train my_model.py:AveragesConfig other.py:Config",
            "unexpected argument `other.py:Config`: see `levanter train --help`",
        ),
        ("train gpt2_nano", "unexpected argument `gpt2_nano`: a field is set as `--section.field VALUE`"),
    ],
)
def test_what_is_refused(folder: Path, command: str, message: str, capsys) -> None:
    assert run(command, capsys) == (2, "", f"error: {message.format(folder=folder)}\n")
