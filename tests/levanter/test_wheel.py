"""The built wheel, installed in an environment of its own and run far from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ("XLA_FLAGS", "PYTHONPATH")}
    environment |= {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(cwd / "cache")}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    program = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    run(sys.executable, "-c", program, folder, cwd=ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment that has the wheel, and our own dependencies without installing them again."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    # A folder named in a .pth file is searched, but .pth files in it are not read: an editable install stays unseen.
    packages = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = run(python, "-c", "import levanter; print(levanter.__file__)", cwd=folder)
    assert where.startswith(str(folder))
    return folder / "bin"


def test_the_wheel_holds_what_it_should(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {
        "haliax",
        "ir",
        "passes",
        "levanter",
    }
    configs = {Path(name).name for name in names if name.startswith("levanter/_configs/")}
    assert configs == {path.name for path in (ROOT / "config").glob("*.yaml")}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_compile_works_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    out = run(installed / "levanter", "compile", "--model", "gpt2_nano", "--mesh", "4x2", "--json", cwd=tmp_path)
    report = json.loads(out)
    assert (report["model"], report["mesh"]) == ("gpt2_nano", {"data": 4, "model": 2})
    assert {"plan", "parameters", "collectives", "memory", "time", "search", "runner_up"} <= set(report)


def test_train_works_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("It was the best of times, it was the worst of times. " * 200)
    small = {
        "model.num_layers": 1,
        "model.hidden_dim": 8,
        "model.num_heads": 2,
        "model.seq_len": 16,
        "data.type": "text",
        "data.paths": "[book.txt]",
        "trainer.num_train_steps": 2,
        "trainer.train_batch_size": 4,
        "trainer.eval_batches": 1,
        "trainer.sample_tokens": 4,
    }
    overrides = [f"--{name}={value}" for name, value in small.items()]
    run(installed / "levanter", "train", "--run-dir", "run", *overrides, cwd=tmp_path)
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(set(steps)) == 2
    checkpoint = max((tmp_path / "run" / "checkpoints").iterdir())
    digest = run(installed / "levanter", "checkpoint", "digest", checkpoint, cwd=tmp_path).strip()
    assert len(digest) == 64 and int(digest, 16) >= 0
