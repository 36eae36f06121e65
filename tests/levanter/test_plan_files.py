"""The file of a plan on the command line and in a configuration: written, read, refused, kept by a run."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typeguard import suppress_type_checks

sys.path.insert(0, str(Path(__file__).parent))

from toy_step import STEP, levanter

from levanter.compiler.compile import compile_training
from levanter.compiler.plan_files import plan_followed
from levanter.config import TrainConfig, dump, load, loads
from levanter.errors import UserError
from levanter.runtime.command import Command
from levanter.runtime.record import Record, as_of, read, written
from levanter.runtime.run_directory import differences
from levanter.runtime.trainer import train

pytestmark = pytest.mark.hurried

TINY = "tiny.yaml"
CONFIG = """\
model: {seq_len: 16, hidden_dim: 16, num_heads: 2, num_layers: 1, vocab_size: 50257, vocab_multiple: 1}
data: {type: text, paths: [numbers.txt], cache_dir: cache}
optimizer: {learning_rate: 0.01}
trainer: {train_batch_size: 4, num_train_steps: 4, eval_every: 0, eval_batches: 0, sample_tokens: 0}
"""
PLAN = """\
model: gpt2_nano
mesh: data=2,model=2
sizes: {batch: 4, embed: 16}
compute:
  batch: [data]
storage:
  embed: [model]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.py").write_text(STEP)
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / TINY).write_text(CONFIG)
    return tmp_path


def test_a_plan_is_written_and_followed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "compile toy.py:train --mesh 4x2 --pin mlp=model --forbid batch=model --save-plan toy.yaml --json"
    code, printed, said = levanter(capsys, line)
    assert (code, said) == (0, "")
    chosen = json.loads(printed)
    assert chosen["plan"]["compute"]["mlp"] == ["model"] and "model" not in chosen["plan"]["compute"].get("batch", [])
    # The mesh and the chip are those of the file, where none are given, and what is written again is the same.
    code, printed, said = levanter(capsys, "compile toy.py:train --plan toy.yaml --save-plan again.yaml --json")
    assert (code, said) == (0, "")
    followed = json.loads(printed)
    same = ("mesh", "hardware", "plan", "collectives", "memory", "time", "regather", "parameters")
    assert [followed[key] for key in same] == [chosen[key] for key in same]
    text = Path("toy.yaml").read_text()
    assert Path("again.yaml").read_text() == text.replace("pinned to model; ", "")
    assert text.splitlines()[0] == "# How the training step of toy.py:train is sharded over 8 × v5e."
    assert yaml.safe_load(text)["model"] == "toy.py:train"
    # Edited, it is another plan; the note says what it was made for.
    Path("toy.yaml").write_text(
        text.replace("toy.py:train", "other").replace("mlp: 4096", "mlp: 32").replace("v5e", "h100")
    )
    code, printed, said = levanter(capsys, "compile toy.py:train --plan toy.yaml --hardware v5p --json")
    assert json.loads(printed)["notes"][-3:] == [
        "toy.yaml was made for other and is used for toy.py:train: the figures here are those of toy.py:train",
        "toy.yaml was made for other sizes: `mlp` was 32 and is 4096",
        "toy.yaml was made for h100, and the figures here are those of v5p",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "compile toy.py:train --pin embed",
            "--pin embed: write NAME=VALUE, such as --pin embed=data",
        ),
        (
            "compile toy.py:train --mesh 4x2 --pin embed=",
            "--pin embed=: write what it is to be, such as --pin embed=data; a name is replicated where every mesh "
            "axis is forbidden to it: --forbid embed=data,model",
        ),
        (
            "compile toy.py:train --mesh 4x2 --compute batch=",
            "--compute batch=: write NAME=VALUE, such as --compute mlp=model",
        ),
        ("compile toy.py:train --forbid =x", "--forbid =x: write NAME=VALUE, such as --forbid vocab=model"),
        (
            "compile toy.py:train --mesh 4x2 --pin embed=data --pin embed=model",
            "--pin embed is given twice, data and model: give all its mesh axes at once, --pin embed=data,model, or "
            "keep one",
        ),
        (
            "compile toy.py:train --mesh 4x2 --pin embd=data",
            "pin of 'embd': 'train' has no axis of that name; did you mean 'embed'?",
        ),
        (
            "compile toy.py:train --mesh 4x2 --pin embed=data --forbid embed=data",
            "'embed' is pinned to data and forbidden there; remove one of the two",
        ),
        (
            "compile toy.py:train --plan plan.yaml --pin embed=data",
            "a whole plan is given, and embed=data pinned: pins are for the search; edit the plan, or leave it out",
        ),
        (
            "compile toy.py:train --plan plan.yaml --compute batch=data",
            "two plans are given, plan.yaml and one by hand: leave out --plan, or --compute and --storage",
        ),
        (
            "compile toy.py:train --plan plan.yaml --mesh 4x2",
            "plan.yaml is a plan for the mesh data=2,model=2, and --mesh is data=4,model=2: leave out --mesh, or plan "
            "for this one with --save-plan FILE in place of --plan",
        ),
        ("compile toy.py:train --plan no.yaml", "cannot read the plan no.yaml: no such file or directory"),
        (
            "compile toy.py:train --plan plan.yaml --save-plan no/p.yaml",
            "cannot write `no/p.yaml`: no such file or directory: name another file for --save-plan",
        ),
        (
            "compile toy.py:train --plan plan.yaml --html no/p.html",
            "cannot write `no/p.html`: no such file or directory: name another file for --html",
        ),
        (
            "compile --plan plan.yaml --compute batch=data",
            "two plans are given, plan.yaml and one by hand: leave out --plan, or --compute and --storage",
        ),
        (
            "train --plan plan.yaml --mesh 8",
            "trainer.plan: plan.yaml is a plan for the mesh data=2,model=2, and trainer.mesh is data=8: leave out "
            "--mesh, or give --trainer.plan null and let `levanter compile --mesh data=8 --save-plan FILE` plan for "
            "this "
            "one",
        ),
        (
            "train --plan no.yaml",
            "`--trainer.plan`: cannot read the plan no.yaml: no such file or directory",
        ),
    ],
)  # fmt: skip
def test_wrong_input_exits_2(here: Path, capsys: pytest.CaptureFixture[str], line: str, message: str) -> None:
    assert levanter(capsys, line) == (2, "", f"error: {message}\n")


def test_a_configuration_names_the_file_beside_it(here: Path) -> None:
    folder = here / "configs"
    folder.mkdir()
    (folder / "mine.yaml").write_text("trainer: {plan: ours.yaml}\n")
    (folder / "ours.yaml").write_text(PLAN.replace("storage:", "regather: true\nhardware: v5p\nstorage:"))
    config = load(folder / "mine.yaml")
    plan = config.trainer.plan
    assert plan is not None
    assert (plan.compute, plan.storage, plan.regather) == ({"batch": ["data"]}, {"embed": ["model"]}, "true")
    assert (config.trainer.mesh, config.trainer.hardware, plan.source) == ("data=2,model=2", "v5p", "configs/ours.yaml")
    assert loads(dump(config)) == config
    # What is written wins over the file, and the command line over both.
    assert load(folder / "mine.yaml", ["--trainer.hardware", "h100"]).trainer.hardware == "h100"
    assert load(folder / "mine.yaml", ["--trainer.plan", "plan.yaml"]).trainer.plan.source == "plan.yaml"
    assert load(folder / "mine.yaml", ["--trainer.plan", "null"]).trainer.plan is None
    # A file need not say what it was made for, and what it says is kept as YAML that reads back.
    (folder / "ours.yaml").write_text("mesh: 2x2\ncompute: {batch: data}\n")
    plain = load(folder / "mine.yaml")
    assert plain.trainer.plan.model is None and plain.trainer.mesh == "data=2,model=2" and loads(dump(plain)) == plain
    (folder / "ours.yaml").write_text(PLAN.replace("[data]", "[dta]"))
    with pytest.raises(UserError) as caught:
        load(folder / "mine.yaml")
    assert str(caught.value) == (
        "`trainer.plan` (configs/mine.yaml:1): configs/ours.yaml: compute of 'batch': mesh axis 'dta': this mesh has "
        "data, model; did you mean 'data'?"
    )


def test_what_a_resume_changes_of_a_plan(here: Path) -> None:
    config = load("gpt2_nano", ["--trainer.plan", "plan.yaml"])
    (here / "config.yaml").write_text(written(dump(config), Record()))
    # Another name of the file is no change.
    (here / "plan.yaml").rename(here / "same.yaml")
    assert differences(here, dump(load("gpt2_nano", ["--trainer.plan", "same.yaml"])), ()) == []
    (here / "same.yaml").write_text(PLAN.replace("[model]", "[data, model]") + "regather: true\n")
    edited = load("gpt2_nano", ["--trainer.plan", "same.yaml"])
    (found,) = differences(here, dump(edited), ())
    assert str(found) == "trainer.plan: regather=auto storage.embed=model → regather=true storage.embed=data,model"
    assert differences(here, dump(edited)) == []  # it may change
    chosen = load("gpt2_nano", ["--trainer.mesh", "2x2"])
    without = [each for each in differences(here, dump(chosen), ()) if each.name == "trainer.plan"]
    assert [str(each) for each in without] == [
        "trainer.plan: compute.batch=data storage.embed=model → chosen by the planner"
    ]
    # The history gives back the plan of an earlier step.
    kept = Record().resumed(2, {found.name: (found.before, found.now)})
    text, _ = as_of(written(dump(edited), kept), kept, 1)
    plan = loads(text).trainer.plan
    assert plan is not None and (plan.storage, plan.regather) == ({"embed": ["model"]}, "auto")


def test_a_training_step_is_laid_out_by_the_plan_of_its_configuration(here: Path) -> None:
    compiled = compile_training(load(here / TINY, ["--trainer.plan", "plan.yaml", "--trainer.hardware", "v5p"]))
    assert (compiled.plan.compute, compiled.plan.chip.name) == ({"batch": ("data",)}, "v5p")
    specs = {str(each.spec) for each in _leaves(compiled.state_shardings)}
    assert any("model" in each for each in specs) and not any("data" in each for each in specs)
    assert plan_followed(compiled) == [
        "the plan is that of plan.yaml",
        "plan.yaml was made for v5e, and the figures here are those of v5p",
    ]


def test_a_run_follows_the_plan_that_was_saved(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command that writes the file to a run, and to its resume, which reads what the run has kept of it."""
    (here / "numbers.txt").write_text("one two three four five six seven eight. " * 300)
    line = f"compile --config {TINY} --mesh data=2 --pin embed=data --save-plan saved.yaml --json"
    code, printed, said = levanter(capsys, line)
    assert (code, said) == (0, "")
    storage = {name: tuple(axes) for name, axes in json.loads(printed)["plan"]["storage"].items()}
    assert storage["embed"] == ("data",)
    for steps in (1, 2):
        options = ["--trainer.plan=saved.yaml", "--trainer.run_dir=run", f"--trainer.num_train_steps={steps}"]
        out = io.StringIO()
        with suppress_type_checks():
            state = train(load(Path(TINY), options), Console(file=out, width=400))
        assert "the plan is that of saved.yaml\n" in out.getvalue()
        assert any("data" in str(leaf.sharding.spec) for leaf in _leaves(state.model))
    assert "resuming from run/checkpoints/step-1\n" in out.getvalue()
    assert read(Path("run/config.yaml").read_text()).history[0].changed.keys() == {"trainer.num_train_steps"}
    assert load(Path("run/config.yaml")).trainer.plan == load(Path(TINY), options).trainer.plan


@pytest.mark.slow
def test_a_run_follows_a_plan_and_keeps_it(here: Path) -> None:
    """On four devices, with the parameters in shards; resumed with an edited plan, the values are the same."""
    (here / "numbers.txt").write_text(
        "".join(f"The number {number} comes after {number - 1}.\n" for number in range(400))
    )
    (here / "plan.yaml").write_text(PLAN.replace("gpt2_nano", "llama"))

    def run(directory: str, *options: str) -> tuple[list[float], str]:
        every = "--trainer.checkpoint.every_steps=2"
        config: TrainConfig = load(Path(TINY), [f"--trainer.run_dir={directory}", every, *options])
        out = io.StringIO()
        with suppress_type_checks():
            state = train(config, Console(file=out, width=400), Command(("train",)))
        placed = {str(leaf.sharding.spec) for leaf in _leaves(state.model)}
        if config.trainer.plan is not None:
            assert any("model" in each for each in placed)
        lines = (Path(directory) / "metrics.jsonl").read_text().splitlines()
        return [json.loads(each)["loss"] for each in lines], out.getvalue()

    expected, _ = run("alone")
    losses, said = run(
        "planned", "--trainer.plan=plan.yaml", "--trainer.num_train_steps=2", "--optimizer.schedule_steps=4"
    )
    assert said.startswith("the plan is that of plan.yaml\n")
    assert read(Path("planned/config.yaml").read_text()).history == ()
    assert load(Path("planned/config.yaml")).trainer.plan.storage == {"embed": ["model"]}
    (here / "plan.yaml").write_text(PLAN.replace("[model]", "[data, model]"))
    losses, said = run("planned", "--trainer.plan=plan.yaml", "--optimizer.schedule_steps=4")
    assert "trainer.plan: storage.embed=model → storage.embed=data,model (recorded in planned/config.yaml)" in said
    assert "the values are those of the checkpoint, laid out anew" in said
    assert losses == pytest.approx(expected, rel=1e-5)
    (entry,) = read(Path("planned/config.yaml").read_text()).history
    assert entry.step == 2 and entry.changed["trainer.plan"][0]["storage"] == {"embed": ["model"]}


def _leaves(tree: object) -> list:
    import jax

    return jax.tree.leaves(tree)


def test_plan_diff_prices_both_for_the_step_they_were_made_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = PLAN.replace("gpt2_nano", "toy.py:train").replace("sizes: {batch: 4, embed: 16}\n", "")
    (here / "a.yaml").write_text(text)
    (here / "b.yaml").write_text(text.replace("embed: [model]", "embed: [data, model]"))
    code, printed, said = levanter(capsys, "plan diff a.yaml b.yaml --json")
    assert (code, said) == (0, "")
    found = json.loads(printed)
    assert (found["names_of"], found["question"]) == (["a.yaml", "b.yaml"], {})
    assert found["names"] == [{"name": "embed", "role": "storage", "axes": [["model"], ["model", "data"]]}] or found[
        "names"
    ] == [{"name": "embed", "role": "storage", "axes": [["model"], ["data", "model"]]}]
    for position, name in enumerate(("a.yaml", "b.yaml")):
        report = json.loads(levanter(capsys, f"compile toy.py:train --plan {name} --json")[1])
        assert report["time"]["step"] == found["time"]["step"][position]
        assert report["memory"]["peak"] == found["memory"]["peak"][position]
    code, printed, said = levanter(capsys, "plan diff a.yaml b.yaml toy.py:train --hardware h100")
    assert (code, said) == (0, "")
    assert printed.splitlines()[1:3] == [
        "a.yaml → b.yaml  the second beside the first",
        "  embed  stored over data × model, not over model",
    ]
    assert " gained, " in printed and "  step " in printed


@pytest.mark.parametrize(
    ("model", "line", "message"),
    [
        (
            "mine",
            "plan diff a.yaml a.yaml",
            "a.yaml was made for `mine`: name the step to price both plans for, with --model or --config, or as "
            "MODULE:FUNCTION",
        ),
        (
            "''",
            "plan diff a.yaml a.yaml",
            "a.yaml does not say what it was made for: name the step to price both plans for, with --model or "
            "--config, or "
            "as MODULE:FUNCTION",
        ),
        ("x", "plan diff a.yaml no.yaml", "cannot read the plan no.yaml: no such file or directory"),
        ("x", "plan diff a.yaml", "Missing argument 'B': see `levanter plan diff --help`"),
        ("x", "plan dif a.yaml a.yaml", "unknown command `levanter plan dif`: did you mean `diff`?"),
        (
            "toy.py:train",
            "plan diff a.yaml b.yaml",
            "b.yaml: compute of 'bach': the step has no axis of that name; did you mean 'batch'? (b.yaml was made for "
            "llama)",
        ),
        (
            "x",
            "compile toy.py:train --mesh 2x2 --compute batch=data --explain embd",
            "nothing to explain of 'embd': 'train' has no axis of that name; did you mean 'embed'?",
        ),
    ],
)  # fmt: skip
def test_wrong_input_of_diff_and_explain(
    here: Path, capsys: pytest.CaptureFixture[str], model: str, line: str, message: str
) -> None:
    (here / "a.yaml").write_text(PLAN.replace("gpt2_nano", model))
    (here / "b.yaml").write_text("model: llama\nmesh: data=2,model=2\ncompute: {bach: [data]}\n")
    assert levanter(capsys, line) == (2, "", f"error: {message}\n")


def test_a_name_is_explained(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = "--mesh 2x2 --compute batch=data --storage embed=data --explain embed"
    code, printed, _ = levanter(capsys, f"compile toy.py:train {rules}")
    assert code == 0
    lines = [line.strip() for line in printed.splitlines()]
    start = lines.index("Explained: embed  embed has size 64 and is stored over data.")
    assert lines[start + 1].startswith("Why: stored on data: ")
    report = json.loads(levanter(capsys, f"compile toy.py:train {rules} --json")[1])
    (found,) = report["explained"]
    assert (found["name"], found["storage"]) == ("embed", ["data"])
    assert found["times"]["step"] == report["time"]["step"]
    assert {"role", "axes", "refused", "times", "memory", "collectives"} <= found["alternatives"][0].keys()
