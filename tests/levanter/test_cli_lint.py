"""`levanter lint` and `levanter compile --emit` on a step of one's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from toy_step import STEP, levanter

from levanter.cli.compile import EMITTED
from passes.foreign.emit import FORMATS

pytestmark = pytest.mark.hurried


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.py").write_text(STEP)
    (tmp_path / "rules.yaml").write_text("fsdp_axis: [embed, mlp]\n")
    return tmp_path


def test_findings_and_both_prices(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, said = levanter(capsys, "lint rules.yaml toy.py:train --mesh data=4")
    assert (code, said) == (1, "error: 1 finding about sharding rules\n")
    lines = printed.splitlines()
    assert lines[:4] == [
        "rules.yaml:1: conflict: `mlp` and `embed` want mesh axis `data` in the same array: 2 arrays, such as `down` "
        "[mlp=4096,",
        "  embed=64]. A mesh axis shards one dim of an array; JAX refuses such an array.",
        "  fix: keep `embed: data`, whose axis 2 of 2 parameters have, and remove the others.",
        "",
    ]
    assert lines[4].startswith("By these rules a step takes ")
    assert any(line.startswith("By the planner's best it takes ") for line in lines)
    code, printed, _ = levanter(capsys, "lint rules.yaml toy.py:train --mesh data=4 --json")
    found = json.loads(printed)
    assert code == 1
    assert [each["code"] for each in found["findings"]] == ["conflict"]
    assert found["findings"][0]["arrays"] == ["down", "up"]
    assert found["theirs"]["step"] >= found["best"]["step"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "lint rules.yaml toy.py:train",
            "sharding rules are for a mesh: name it as they do, such as --mesh data=4,fsdp=8,tensor=4",
        ),
        ("lint absent.yaml toy.py:train --mesh 4", "cannot read the rules absent.yaml: no such file or directory"),
        ("lint rules.yaml toy.py:train --mesh 4 --name a", "--name a: write NAME=VALUE, such as --name q_heads=heads"),
    ],
)
def test_what_is_refused(here: Path, capsys: pytest.CaptureFixture[str], line: str, message: str) -> None:
    code, _, said = levanter(capsys, line)
    assert (code, said) == (2, f"error: {message}\n")


@pytest.mark.parametrize("kind", ["levanter", "maxtext", "flax", "partition-specs"])
def test_nothing_is_wrong_with_what_is_emitted(here: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    pins = "--pin batch=data --pin mlp=model --forbid embed=model"
    code, printed, said = levanter(capsys, f"compile toy.py:train --mesh 4x2 {pins} --save-plan p.yaml --emit {kind}")
    assert (code, said) == (0, "")
    name = "emitted.py" if kind == "flax" else "emitted.yaml"
    (here / name).write_text(printed)
    code, printed, said = levanter(capsys, f"lint {name} toy.py:train --mesh 4x2 --json")
    assert (code, said) == (0, "")
    found = json.loads(printed)
    assert found["findings"] == found["priced_otherwise"] == []
    code, printed, _ = levanter(capsys, "compile toy.py:train --plan p.yaml --json")
    plan = json.loads(printed)["plan"]
    assert found["theirs"]["plan"] == plan


def test_emit_offers_every_format() -> None:
    assert list(EMITTED) == list(FORMATS)
