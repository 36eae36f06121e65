"""A component is a folder and a line in the registry: nothing else in the package has to know of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from levanter import config, registry
from levanter.errors import UserError
from levanter.optim.config import OptimizerConfig
from levanter.registry import MODELS, OPTIMIZERS, SOURCES, TRACKERS, Registry

HEAVY = ("jax", "haliax", "equinox", "optax", "transformers", "datasets", "tensorstore", "wandb")


@pytest.mark.parametrize("kind", [MODELS, OPTIMIZERS, SOURCES, TRACKERS], ids=lambda kind: kind.kind)
def test_each_component_has_a_folder_with_its_config_beside_its_code(kind: Registry) -> None:
    for name, cls in kind.items():
        *folder, module = cls.__module__.split(".")
        assert (folder[-1], module) == (name, "config")
        code = Path(registry.__file__).parents[1].joinpath(*folder)
        assert {"__init__.py", "config.py"} < {file.name for file in code.glob("*.py")}


def test_listing_imports_no_component() -> None:
    program = (
        "import sys\nfrom levanter.registry import MODELS, OPTIMIZERS, SOURCES, TRACKERS\n"
        "print([list(kind) for kind in (MODELS, OPTIMIZERS, SOURCES, TRACKERS)])\n"
        "print([name for name in sys.modules if name.startswith('levanter.')])\n"
    )
    listed, modules = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert listed == str(
        [list(kind) for kind in (registry.MODELS, registry.OPTIMIZERS, registry.SOURCES, registry.TRACKERS)]
    )
    assert modules == "['levanter.version', 'levanter.errors', 'levanter.user_code', 'levanter.registry']"


TOY = {
    "toy_optimizer.py": """
from dataclasses import dataclass
from levanter.optim.config import OptimizerConfig

@dataclass(frozen=True)
class ToyConfig(OptimizerConfig):
    momentum: float = 0.9

    def build(self, num_train_steps, decays):
        raise NotImplementedError
""",
    "toy_source.py": """
from dataclasses import dataclass
from levanter.data.config import DataConfig

@dataclass(frozen=True)
class ToyConfig(DataConfig):
    words: int = 7

    def corpus(self):
        raise NotImplementedError
""",
    "toy_tracker.py": """
from dataclasses import dataclass
from levanter.trackers.config import TrackerConfig

@dataclass(frozen=True)
class ToyConfig(TrackerConfig):
    file: str = "toy.txt"
    enabled: bool = False

    @property
    def on(self):
        return self.enabled

    def open(self, run):
        from levanter.trackers.tracker import Tracker

        class Toy(Tracker):
            def log(self, step, metrics):
                (run.directory.path / self_file).write_text(f"{step} {sorted(metrics)}")

        self_file = self.file
        return Toy()
""",
}
READ = """
import sys
from levanter.registry import OPTIMIZERS, SOURCES, TRACKERS
OPTIMIZERS.add("toy", "toy_optimizer:ToyConfig")
SOURCES.add("toy", "toy_source:ToyConfig")
TRACKERS.add("toy", "toy_tracker:ToyConfig")
from levanter import config
loaded = config.load("gpt2_nano", sys.argv[1:])
assert config.loads(config.dump(loaded)) == loaded
print(loaded.optimizer, loaded.data.words, loaded.trackers.toy)
print([name for name in %r if name in sys.modules])
import io, pathlib
from rich.console import Console
from levanter.runtime.run_directory import RunDirectory
from levanter.trackers.config import TrackedRun
from levanter.trackers.trackers import open_trackers
run = TrackedRun(RunDirectory(pathlib.Path.cwd()), {}, 0, 9, Console(file=io.StringIO()))
with open_trackers(loaded.trackers, run) as all:
    all.log(3, {"loss": 1.0})
print(pathlib.Path("mine.txt").read_text())
"""


def test_a_component_from_elsewhere_is_read_dumped_and_used(tmp_path: Path) -> None:
    for name, text in TOY.items():
        (tmp_path / name).write_text(text)
    overrides = ["--optimizer.type=toy", "--optimizer.momentum=0.5", "--optimizer.warmup=3.0"]
    overrides += ["--data.type=toy", "--data.words=8", "--trackers.toy.enabled=true", "--trackers.toy.file=mine.txt"]
    done = subprocess.run(
        [sys.executable, "-c", READ % (HEAVY,), *overrides],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "ToyConfig(learning_rate=0.0006, warmup=3.0, lr_schedule='cosine', schedule_steps=None, min_lr_ratio=0.1, "
        "lr_decay=0.2, lr_cycles=4, ema=None, momentum=0.5) "
        "8 ToyConfig(file='mine.txt', enabled=True)",
        "[]",
        "3 ['loss']",
    ]


def test_a_name_means_one_component() -> None:
    kinds = Registry("toy", {"a": "x:A"})
    kinds.add("a", "x:A")
    with pytest.raises(UserError) as caught:
        kinds.add("a", "y:A")
    assert str(caught.value) == "two components of the kind toy are called `a`, x:A and y:A: rename one of them"


def test_an_incomplete_config_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bare(OptimizerConfig):
        pass

    OptimizerConfig.register_subclass("bare", Bare)
    try:
        with pytest.raises(UserError) as caught:
            config.loads("optimizer:\n  type: bare\n")
    finally:
        OPTIMIZERS.remove("bare")
    place = f"{__name__}:test_an_incomplete_config_says_what_it_lacks.<locals>.Bare"
    assert str(caught.value) == f"the optimizer {place} is incomplete: define `build` in it"
    with pytest.raises(UserError, match="unknown value `bare` for `optimizer.type`"):
        config.loads("optimizer:\n  type: bare\n")
