"""A run that meets a number that is not finite: it stops and says where from, skips the update, or goes back."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from rescued import configured, records, trained, write_files

from levanter.config import load
from levanter.errors import WorkFailed
from levanter.runtime.command import Command

pytestmark = pytest.mark.hurried


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path)
    return tmp_path


def refusal(*arguments: Any) -> str:
    with pytest.raises(WorkFailed) as caught:
        trained(*arguments)
    return str(caught.value)


def test_it_stops_and_says_where_the_number_comes_from_and_what_to_do(folder: Path) -> None:
    run = folder / "run"
    command = Command(("train", "--config", str(folder / "tiny.yaml"), "--run-dir", str(run)))
    said = refusal(configured(folder), command).splitlines()
    line = next(
        i for i, text in enumerate((folder / "poisoned.py").read_text().splitlines(), 1) if "bad_factor, 1" in text
    )
    assert said[0] == "training diverged: loss is nan at step 9."
    assert re.fullmatch(
        r"the first array that is not finite: float32\[batch=4, position=16\], made by `select\w*` "
        rf"at poisoned.py:{line} \(forward\)",
        said[1],
    )
    ways = [shlex.split(text)[1:] for text in said[3::2]]
    assert said[2] == "to go on:" and len(ways) == 3
    assert ["--trainer.initialize_from", str(run / "checkpoints" / "step-5")] == ways[0][-6:-4]

    # The advice works: the second and the third resume this run, the first starts another one.
    def follow(arguments: list[str]) -> Path:
        config = load(folder / "tiny.yaml", _overrides(arguments))
        trained(config)
        return Path(str(config.trainer.run_dir))

    assert [each["step"] for each in records(follow(ways[1]))] == list(range(1, 25))
