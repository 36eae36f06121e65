"""`levanter check`: how a step and its arguments are named, what is printed, and the exit codes."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from levanter.cli.main import main

STEPS = """
import jax
import jax.numpy as jnp
from haliax import Axis, NamedArray


def shaped(names, *sizes):
    axes = tuple(Axis(name, size) for name, size in zip(names.split(), sizes))
    return NamedArray(jax.ShapeDtypeStruct(sizes, jnp.float32), axes)


def wrong(x, y):
    return x.array + y.array


def wrong_arguments():
    return shaped("batch embed", 4, 4), shaped("batch mlp", 4, 4)


def suspicious(x):
    return x.array - x.array[0]


suspicious_arguments = (shaped("batch embed", 4, 4),)


def right(x, scale=2.0):
    return x * scale


def example():
    return right, [shaped("batch embed", 4, 4)]


class Trainer:
    @staticmethod
    def step(x):
        return x + 1


one, many = shaped("batch", 4), (shaped("batch", 4),)


def no_pair():
    return right


def refuses(x):
    raise ValueError("not today")


refuses_arguments = many


def raises():
    raise RuntimeError("no data")
"""
REPORT = """\
error[elementwise]: add of `embed` with `mlp`: dims at the same place must be the same axis (both have size 4)
  {name}.py:13
    return x.array + y.array
           ^^^^^^^^^^^^^^^^^
  operands
    x: f32[batch=4, embed=4]
    y: f32[batch=4, mlp=4]
  names
    `embed` comes from x: f32[batch=4, embed=4]
    `mlp` comes from y: f32[batch=4, mlp=4]
  fix: if they are the same axis, call it one name; if not, this is not the dim you meant (rename 'mlp' or 'embed')

"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("steps")
    (folder / "steps_by_path.py").write_text(STEPS)
    (folder / "steps_by_name.py").write_text(STEPS)
    (folder / "breaks_on_import.py").write_text("import no_such_module_anywhere\n")
    return folder


@pytest.fixture
def check(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))

    def run(arguments: str) -> tuple[int, str, str]:
        code = main(["check", *arguments.split()])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_findings_are_printed_and_exit_1(check) -> None:
    assert check("steps_by_path.py:wrong") == (1, REPORT.format(name="steps_by_path"), "error: 1 axis error\n")


def test_a_module_by_its_name(check) -> None:
    assert check("steps_by_name:wrong") == (1, REPORT.format(name="steps_by_name"), "error: 1 axis error\n")


def test_a_warning_exits_1_until_it_is_silenced(check) -> None:
    code, printed, message = check("steps_by_name:suspicious")
    assert (code, printed.splitlines()[0], message) == (
        1,
        "warning[repeat]: one place of `batch` is repeated along `batch`, 4 times",
        "error: 1 warning\n",
    )
    assert check("steps_by_name:suspicious --ignore repeat") == (0, "no axis mistakes\n", "")
    assert check("steps_by_name:suspicious --ignore index,repeat") == (0, "no axis mistakes\n", "")


def test_json(check) -> None:
    code, printed, _ = check("steps_by_name:wrong --json")
    (found,) = json.loads(printed)["findings"]
    assert code == 1
    assert found == {
        "code": "elementwise",
        "severity": "error",
        "what": "add of `embed` with `mlp`: dims at the same place must be the same axis (both have size 4)",
        "source": "steps_by_name.py:13",
        "text": REPORT.format(name="steps_by_name").rstrip(),
    }
    assert json.loads(check("steps_by_name:example --json")[1]) == {"findings": []}


@pytest.mark.parametrize(
    "arguments",
    [
        "steps_by_name:example",
        "steps_by_path.py:example",
        "steps_by_name:right --arguments :many",
        "steps_by_name:right --arguments steps_by_path.py:many",
        "steps_by_name:right --arguments steps_by_name:suspicious_arguments",
        "steps_by_name:Trainer.step --arguments :many",
    ],
)
def test_ways_to_give_the_arguments(check, arguments: str) -> None:
    assert check(arguments) == (0, "no axis mistakes\n", "")


def test_a_configuration(check) -> None:
    assert check("--model gpt2_nano --model.num_layers 2") == (0, "no axis mistakes\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "nothing to check: name a step as MODULE:FUNCTION, or a configuration with --model or --config"),
        (
            "steps_by_name:wrong --model gpt2_nano",
            "a step and a configuration are given: each is a step to check, so keep one of them",
        ),
        (
            "--model gpt2_nano --arguments :many",
            "--arguments without a step: name the step too, as MODULE:FUNCTION",
        ),
        ("steps_by_name:wrong --mesh 4", "unexpected argument `--mesh 4`: see `levanter check --help`"),
        (
            "steps_by_name",
            "bad step `steps_by_name`: write MODULE:FUNCTION, such as my_model.train:step or my_model.py:step",
        ),
        ("none.py:step", "no file `none.py` (in `none.py:step`): check the path"),
        (
            "no_such_module:step",
            "cannot import the module of `no_such_module:step`: ModuleNotFoundError: "
            "No module named 'no_such_module' (--debug shows where)",
        ),
        (
            "breaks_on_import:step",
            "cannot import the module of `breaks_on_import:step`: ModuleNotFoundError: "
            "No module named 'no_such_module_anywhere' (--debug shows where)",
        ),
        ("steps_by_name:worng", "no `worng` in the module of `steps_by_name:worng`: did you mean `wrong`?"),
        (
            "steps_by_name:many",
            "`steps_by_name:many` is a tuple: name the function that is the step, or one that returns it",
        ),
        (
            "steps_by_name:no_pair",
            "`steps_by_name:no_pair` takes no arguments and returned a function: return (step, arguments)",
        ),
        (
            "steps_by_name:right",
            "no arguments for `steps_by_name:right`: define `right_arguments` beside it, a tuple of shapes or a "
            "function that returns one, or name them with --arguments MODULE:NAME",
        ),
        ("steps_by_name:raises", "calling `steps_by_name:raises` failed: RuntimeError: no data (--debug shows where)"),
        (
            "steps_by_name:right --arguments :one",
            "the arguments of `:one` are a NamedArray: give a tuple, one element for each argument",
        ),
        ("steps_by_name:refuses", "cannot trace `steps_by_name:refuses`: ValueError: not today (--debug shows where)"),
        (
            "steps_by_name:wrong --ignore repat",
            "no finding that can be silenced is called 'repat'; did you mean 'repeat'?",
        ),
    ],
)
def test_wrong_input_exits_2_with_one_line(check, arguments: str, message: str) -> None:
    assert check(arguments) == (2, "", f"error: {message}\n")


def test_what_a_module_prints_is_not_among_the_findings(check, folder: Path) -> None:
    (folder / "prints.py").write_text("print('hello')\n" + textwrap.dedent(STEPS))
    assert check("prints.py:example --json") == (0, '{\n  "findings": []\n}\n', "hello\n")
