"""A step of the user's own on the command line: its companions, its names, its graph, its plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from levanter.cli.main import main

MODEL = """
import jax
import jax.numpy as jnp


def loss(params, batch):
    x = params["embedding"][batch["tokens"]]
    y = x + jnp.tanh(x @ params["up"]) @ params["down"]
    return jnp.mean((y @ params["head"] - batch["targets"]) ** 2)


def train(params, batch):
    value, grads = jax.value_and_grad(loss)(params, batch)
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), value


def shape(*sizes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


def arguments(vocab, embed, mlp, batch, position):
    params = {"embedding": shape(vocab, embed), "up": shape(embed, mlp), "down": shape(mlp, embed)}
    tokens = shape(batch, position, dtype=jnp.int32)
    return {**params, "head": shape(embed, 3)}, {"tokens": tokens, "targets": shape(batch, position, 3)}


def train_arguments():
    return arguments(96, 8, 32, 16, 4)


large = arguments(1024, 64, 256, 32, 128)


step_names = {"*.embedding": "vocab embed", "*.up": "embed mlp", "batch.tokens": "batch position"}
no_names = 3


def by_shape(path, shape):
    return "embed mlp" if shape == (8, 32) else None


def wrong(params, batch):
    return params["up"] + batch["square"]


def wrong_arguments():
    return {"up": shape(8, 8)}, {"square": shape(8, 8)}


wrong_names = {"*.up": "embed mlp", "*.square": "embed position"}


def example():
    return train, train_arguments(), step_names


other_arguments = ({"up": shape(4, 4)}, {"square": shape(4, 4)})
"""
IN_PLACE = """
import jax
import jax.numpy as jnp
import optax
from flax import nnx


class Mlp(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(64, 256, rngs=rngs)
        self.down = nnx.Linear(256, 64, rngs=rngs)

    def __call__(self, x):
        return self.down(nnx.relu(self.up(x)))


def loss(model, batch):
    return ((model(batch["x"]) - batch["y"]) ** 2).mean()


@nnx.jit
def train(model, optimizer, batch):
    value, grads = nnx.value_and_grad(loss)(model, batch)
    optimizer.update(model, grads)
    return value


def start():
    model = Mlp(nnx.Rngs(0))
    x = jnp.ones((4096, 64))
    return model, nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param), {"x": x, "y": x}


def train_arguments():
    return jax.eval_shape(start)


train_names = {"*.up.kernel": "embed mlp", "*.down.kernel": "mlp embed", "batch.*": "batch embed"}
"""
STARTING_FILE = """\
# Names of the arrays that {step} takes, one a dim; `_` is a dim without a name.
# 6 arrays, 2 with such a dim.
train_names = {{
    "params.down": "mlp embed",                                               # f32[32, 8]
    "params.embedding": "vocab embed",                                        # f32[96, 8]
    "params.head": "embed _",                                                 # f32[8, 3]
    "params.up": "embed mlp",                                                 # f32[8, 32]
    "batch.targets": "batch position _",                                      # f32[16, 4, 3]
    "batch.tokens": "batch position",                                         # i32[16, 4]
}}
"""
UNNAMED = (
    "2 arrays have no names, or not for every dim: `params.head: f32[embed=8, _=3]`, "
    "`batch.targets: f32[batch=16, position=4, _=3]`"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("any_step")
    (folder / "any_model.py").write_text(MODEL)
    (folder / "named_module.py").write_text(MODEL)
    (folder / "apart.py").write_text('train_names = {"*.up": "a b"}\n')
    (folder / "neither.py").write_text("")
    return folder


@pytest.fixture
def levanter(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))

    def run(arguments: str) -> tuple[int, str, str]:
        code = main(arguments.split())
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.parametrize("step", ["any_model.py:train", "named_module:train"])
def test_a_starting_file(levanter, step: str) -> None:
    assert levanter(f"names {step}") == (0, STARTING_FILE.format(step=step), "")


def test_a_starting_file_can_be_used_as_it_is_printed(levanter, folder: Path) -> None:
    _, printed, _ = levanter("names any_model.py:train")
    (folder / "started.py").write_text(printed)
    assert levanter("ir any_model.py:train --names started.py") == levanter("ir any_model.py:train")
    assert levanter("names any_model.py:train --names started.py") == (0, printed, "")


def test_check_finds_what_names_beside_the_step_say(levanter) -> None:
    code, printed, message = levanter("check any_model.py:wrong")
    assert (code, printed.splitlines()[0], message) == (
        1,
        "error[elementwise]: add of `mlp` with `position`: dims at the same place must be the same axis "
        "(both have size 8)",
        "error: 1 axis error\n",
    )


@pytest.mark.parametrize(
    "step", ["any_model.py:train", "any_model.py:example", "any_model.py:train --names :step_names"]
)
def test_check_says_what_has_no_name(levanter, step: str) -> None:
    assert levanter(f"check {step}") == (0, f"no axis mistakes\nnote: {UNNAMED}\n", "")
    assert json.loads(levanter(f"check {step} --json")[1]) == {"findings": [], "unnamed": UNNAMED}


@pytest.mark.parametrize(
    ("names", "type_"),
    [
        ("apart.py", "f32[a=8, b=32]"),
        ("apart:train_names", "f32[a=8, b=32]"),
        (":by_shape", "f32[embed=8, mlp=32]"),
    ],
)
def test_ways_to_give_the_names(levanter, names: str, type_: str) -> None:
    code, printed, _ = levanter(f"ir show any_model.py:train --names {names}")
    (line,) = [line for line in printed.splitlines() if line.endswith(" params.up")]
    assert (code, line.split(": ")[1].split("   ")[0]) == (0, type_)


def test_arguments_elsewhere(levanter) -> None:
    code, printed, _ = levanter("ir any_model.py:wrong --arguments :other_arguments")
    assert code == 0
    assert "%0: f32[embed=4, mlp=4]" in printed


def test_the_graph_of_a_step_stands_for_a_file(levanter, folder: Path) -> None:
    code, printed, _ = levanter("ir any_model.py:train")
    assert (code, printed.startswith("graph train {\n  inputs\n    %0: f32[mlp=32, embed=8]")) == (0, True)
    assert levanter("ir any_model.py:train -o train.ir") == (0, "", "")
    assert (folder / "train.ir").read_text() == printed
    assert levanter("ir diff train.ir any_model.py:train")[1].endswith("no changes\n")
    by_hand = "--pass plan --mesh 4x2 --compute batch=data"
    planned = levanter(f"ir run any_model.py:train {by_hand}")
    assert planned == levanter(f"ir run train.ir {by_hand}")
    assert planned[0] == 0
    assert "batch=16@data" in planned[1]


def test_compile_plans_a_step(levanter, folder: Path) -> None:
    code, printed, message = levanter("compile any_model.py:train --mesh 4x2 --hardware v5p --json --dump-ir dump")
    assert (code, message) == (0, "")
    report = json.loads(printed)
    assert (report["model"], report["mesh"], report["hardware"]) == (
        "any_model.py:train",
        {"data": 4, "model": 2},
        "v5p",
    )
    assert [each["path"] for each in report["parameters"]] == ["down", "embedding", "head", "up"]
    assert report["notes"] == [UNNAMED]
    assert len(list((folder / "dump").iterdir())) > 4
    assert "any_model.py:train on 8 × v5p" in levanter("compile any_model.py:train --mesh 4x2 --hardware v5p")[1]


def test_compile_on_one_device(levanter) -> None:
    code, printed, _ = levanter("compile any_model.py:train --json")
    assert (code, json.loads(printed)["devices"]) == (0, 1)


@pytest.mark.parametrize("step", ["any_model.py:train", "--model gpt2_nano --model.num_layers 2"])
def test_compile_takes_a_plan_by_hand(levanter, step: str) -> None:
    rules = "--compute batch=data --compute mlp=model --storage embed=data --storage nowhere=data"
    code, printed, message = levanter(f"compile {step} --mesh 4x2 {rules} --json")
    assert (code, message) == (0, "")
    report = json.loads(printed)
    assert report["plan"]["compute"] == {"batch": ["data"], "mlp": ["model"]}
    assert report["plan"]["storage"]["embed"] == ["data"]
    assert {each["reason"] for each in report["axes"]} == {"given"}
    (note,) = [note for note in report["notes"] if "nowhere" in note]
    assert note.startswith("the plan shards 'nowhere', an axis that graph ")


def test_compile_verifies_a_plan_by_hand(levanter) -> None:
    rules = "--compute batch=data,model --storage embed=data"
    code, printed, _ = levanter(f"compile any_model.py:train --arguments :large --mesh 4x2 {rules} --json --verify")
    assert (code, json.loads(printed)["verify"]["surprises"]) == (0, [])


def test_compile_verifies_a_step_that_updates_modules_in_place(levanter, folder: Path) -> None:
    pytest.importorskip("flax.nnx")
    (folder / "in_place.py").write_text(IN_PLACE)
    code, printed, message = levanter("compile in_place.py:train --mesh 4x2 --json --verify")
    assert (code, message) == (0, "")
    report = json.loads(printed)
    assert [each["path"] for each in report["parameters"]] == ["down.bias", "down.kernel", "up.bias", "up.kernel"]
    assert (report["notes"], report["verify"]["surprises"]) == ([], [])


def test_compile_verifies_a_step(levanter) -> None:
    code, printed, message = levanter("compile any_model.py:train --arguments :large --mesh 4x2 --json --verify")
    assert (code, message) == (0, "")
    verified = json.loads(printed)["verify"]
    assert verified["surprises"] == []
    assert verified["collectives"]


def test_what_the_python_api_says_is_what_the_command_prints(levanter) -> None:
    import passes
    from levanter.compiler.target import Target, load_step
    from levanter.compiler.user_step import graph_of

    printed = json.loads(levanter("compile any_model.py:train --mesh 4x2 --json")[1])
    said = json.loads(json.dumps(passes.plan(graph_of(load_step(Target("any_model.py:train"))), mesh="4x2").report()))
    for each in (printed, said):
        del each["model"], each["search"]["seconds"]
    printed["notes"].remove(UNNAMED)
    assert said == printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "check any_model.py:train --names :wrong_names",
            "the names of `any_model.py:train` do not fit its arguments:\n"
            "no array matches `*.square`: the arrays are `params.down`, `params.embedding`, `params.head`, "
            "`params.up`, `batch.targets`, `batch.tokens`",
        ),
        (
            "compile any_model.py:train --names :no_names",
            "the names of `:no_names` are a int: give a mapping from path patterns to names, such as "
            '{"*.mlp.up.kernel": "embed mlp"}, or a function of path and shape',
        ),
        (
            "ir any_model.py:train --names neither.py",
            "no names for `any_model.py:train` in `neither.py`: define `train_names` or `step_names` in it, or name "
            "them as MODULE:NAME",
        ),
        ("names any_model.py:train --names none.py", "no file `none.py` (in `none.py`): check the path"),
        ("compile --names none.py", "--names without a step: name the step too, as MODULE:FUNCTION"),
        ("compile --arguments :other", "--arguments without a step: name the step too, as MODULE:FUNCTION"),
        (
            "compile any_model.py:train --model gpt2_nano",
            "a step and a configuration are given: each is a step to plan, so keep one of them",
        ),
        (
            "compile any_model.py:train --batch-size 8",
            "--batch-size is of configurations and not of a step: the step's arguments say its sizes",
        ),
        (
            "compile any_model.py:train --model.num_layers 2",
            "unexpected argument `--model.num_layers 2`: see `levanter compile --help`",
        ),
        (
            "compile any_model.py:train --hardware v7",
            "hardware 'v7': known are v4, v5e, v5p, v6e, a100, h100, h200",
        ),
        (
            "compile any_model.py:train --mesh 4x2 --compute batch=modle",
            "compute of 'batch': mesh axis 'modle': this mesh has data, model; did you mean 'model'?",
        ),
        (
            "compile any_model.py:train --compute batch",
            "--compute batch: write NAME=VALUE, such as --compute mlp=model",
        ),
        ("names", "nothing to name: name a step as MODULE:FUNCTION, such as my_model.py:step"),
        ("ir show", "nothing to show: name a step as MODULE:FUNCTION, such as my_model.py:step"),
        ("ir any_model.py:tain", "no `tain` in the module of `any_model.py:tain`: did you mean `train`?"),
        ("ir shw", "unknown command `levanter ir shw`: did you mean `show`?"),
    ],
)
def test_wrong_input_exits_2(levanter, arguments: str, message: str) -> None:
    assert levanter(arguments) == (2, "", f"error: {message}\n")
