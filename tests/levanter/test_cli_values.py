"""Values on a mesh against one device, from the command line: `compile --verify=values` and `levanter verify`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from levanter.cli.main import main
from levanter.compiler import values
from levanter.compiler.target import Target
from levanter.compiler.user_shardings import placed_by
from levanter.compiler.values import values_of_plain_step
from levanter.errors import UserError

MODEL = """
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def loss(params, x):
    return jnp.mean(jax.nn.relu(x @ params["up"] + 1e-6 * params["bias"]) @ params["down"])


def step(params, x):
    value, grads = jax.value_and_grad(loss)(params, x)
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), value


def shape(*sizes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


step_arguments = ({"up": shape(16, 32), "bias": shape(32), "down": shape(32, 8)}, shape(8, 16))
step_names = {"*.up": "embed mlp", "*.down": "mlp out", "x": "batch embed"}


def places(mesh):
    params = {"up": P("data", "model"), "bias": P("model"), "down": P("model")}
    return (params, P("data")), (params, None)


patterns = {"params.up": "data model", "params.*": "model"}
prefixes = (P(), None)
three = 3
two_trees = ({"up": P()}, P()), None


def forward(params, x):
    return jax.nn.relu(x @ params["up"] + 1e-6 * params["bias"]) @ params["down"]


def forward_on(count):
    def body(params, x):
        y = jax.lax.psum(x @ params["up"] + count * 1e-6 * params["bias"], "model")
        return jax.nn.relu(y + (1 - count) * 1e-6 * params["bias"]) @ params["down"]

    mesh = Mesh(np.array(jax.devices()[:8]).reshape(4, 2), ("data", "model"))
    specs = ({"up": P("model"), "bias": P(), "down": P()}, P("data", "model"))
    return jax.shard_map(body, mesh=mesh, in_specs=specs, out_specs=P("data"), check_vma=False)


def bias_once(params, x):
    return forward_on(0)(params, x)


def bias_twice(params, x):
    return forward_on(1)(params, x)


def pinned(params, x):
    mesh = Mesh(np.array(jax.devices()[:8]).reshape(4, 2), ("data", "model"))
    up = jax.lax.with_sharding_constraint(params["up"], NamedSharding(mesh, P("data", "model")))
    return loss({**params, "up": up}, x)


def more(params, x):
    return forward(params, x), x


wide_arguments = (step_arguments[0], shape(8, 16, dtype=jnp.bfloat16))


def wide(params, x):
    return forward(params, x.astype(jnp.float32))


odd_arguments, odd_names = (shape(7, 3),), {"x": "rows columns"}
beside_shardings = {"x": "data"}


def odd(x):
    return x + 1.0


def beside(params, x):
    return forward(params, x)
"""


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_step.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)


# --- compile ----------------------------------------------------------------------------------------------------------


def test_compile_compares_values(capsys: pytest.CaptureFixture[str]) -> None:
    rules = ["--compute", "batch=data", "--compute", "mlp=model", "--storage", "embed=data"]
    assert main(["compile", "my_step.py:step", "--mesh", "4x2", "--verify=values", *rules]) == 0
    assert capsys.readouterr().out.endswith("\nvalues equal: 4 of 4 outputs\n")


def test_json_has_values_beside_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--verify=compiled,values", "--partitioner", "xla", "--json"]
    assert main(["compile", "my_step.py:step", "--mesh", "4x2", *words]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["values"] == {"outputs": 4, "equal": 4, "different": [], "not_covered": []}
    assert answer["verify"]["surprises"] == []


def test_verify_alone_keeps_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "--verify", "my_step.py:step", "--mesh", "2", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert "verify" in answer
    assert "values" not in answer


def test_verify_of_something_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "my_step.py:step", "--mesh", "2", "--verify=value"]) == 2
    assert capsys.readouterr().err == "error: --verify=value: write one or several of compiled, values\n"


@pytest.mark.slow
def test_the_training_step_of_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "--model", "gpt2_nano", "--mesh", "4x2", "--verify=values"]) == 0
    assert capsys.readouterr().out.endswith("\nvalues equal: 54 of 54 outputs\n")


# --- verify -----------------------------------------------------------------------------------------------------------


def verify(*words: str) -> int:
    return main(["verify", *words, "--mesh", "4x2"])


def found(step: str, *shardings: str, against: str | None = None) -> dict[str, Any]:
    """The answer of the process in which `levanter verify` computes, here in this one."""
    target = asdict(Target(f"my_step.py:{step}"))
    reference = None if against is None else f"my_step.py:{against}"
    request = {"target": target, "mesh": {"data": 4, "model": 2}, "shardings": shardings, "against": reference}
    return values_of_plain_step(request)


def test_a_step_under_shardings_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify("my_step.py:step", "--shardings", "my_step.py:places") == 0
    assert capsys.readouterr().out == "values equal: 4 of 4 outputs\n"


def test_a_fault_that_a_tolerance_hides(capsys: pytest.CaptureFixture[str]) -> None:
    """A bias of a millionth, added once on each of two devices."""
    assert verify("my_step.py:bias_twice", "--against", "my_step.py:forward") == 1
    out, err = capsys.readouterr()
    assert out == "values equal: 0 of 1 outputs\n  `output 0`: 64 of 64 elements differ, first at [0, 0]\n"
    assert err == (
        "error: 1 of 1 outputs have other values on the mesh than on one device: a collective, or what the compiler "
        "made of the layout, is wrong\n"
    )


def test_verify_has_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify("my_step.py:forward", "--json") == 0
    values = {"outputs": 1, "equal": 1, "different": [], "not_covered": []}
    assert json.loads(capsys.readouterr().out) == {"values": values}


def test_verify_needs_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify() == 2
    assert capsys.readouterr().err == (
        "error: nothing to verify: name a step as MODULE:FUNCTION, such as my_model.py:step\n"
    )


@pytest.mark.parametrize(
    "shardings",
    [
        ("my_step.py:patterns",),
        ("my_step.py:prefixes",),
        ("params.up=data model", "x=data,model"),
        (),
    ],
)
def test_shardings_have_several_forms(shardings: tuple[str, ...]) -> None:
    assert found("step", *shardings)["equal"] == 4


def test_a_step_may_say_its_shardings_itself() -> None:
    assert found("pinned")["equal"] == 1


def test_shardings_beside_the_step_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def recorded(given: Any, *rest: Any) -> Any:
        asked.append(given)
        return placed_by(given, *rest)

    monkeypatch.setattr(values, "placed_by", recorded)
    assert found("beside")["equal"] == 1
    assert asked == [{"x": "data"}]


def test_another_step_is_the_reference() -> None:
    assert found("bias_once", against="forward")["equal"] == 1
    assert found("bias_twice", against="forward")["different"] == [
        {"output": "output 0", "first": [0, 0], "elements": 64, "of": 64}
    ]


MISTAKES = {
    "no mesh axis": (
        ("step", "params.up=data modl"),
        "`params.up` is sharded over `modl`, which is not an axis of the mesh: did you mean `model`?",
    ),
    "no path": (
        ("step", "params.upp=data"),
        "the sharding of `params.upp` is for no argument: did you mean `params.up`?",
    ),
    "too many dims": (
        ("step", "params.bias=data model"),
        "`params.bias` has 1 dims and its sharding, `data model`, is for more: write a word for each dim",
    ),
    "an axis twice": (
        ("step", "params.down=model,data model"),
        "`params.down` is sharded over `model` twice: a mesh axis can be in one place only",
    ),
    "mixed": (
        ("step", "x=data", "my_step.py:places"),
        "--shardings x=data --shardings my_step.py:places: give patterns, PATH=AXES, or one place that holds "
        "shardings, MODULE:NAME",
    ),
    "no shardings": (
        ("step", "my_step.py:three"),
        "the shardings of `my_step.py:step` are a int: give a mapping from path patterns to mesh axes, such as "
        '{"params.*.kernel": "data model"}, or (in_shardings, out_shardings) as `jax.jit` takes them, or a function '
        "of the mesh that returns them",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(name: str) -> None:
    words, message = MISTAKES[name]
    with pytest.raises(UserError) as caught:
        found(*words)
    assert str(caught.value) == message


def test_a_reference_of_other_arrays() -> None:
    with pytest.raises(UserError) as caught:
        found("more", against="forward")
    assert str(caught.value) == (
        "`my_step.py:more` gives f32[8, 16] where `my_step.py:forward` gives nothing: a reference takes and gives the "
        "same arrays, in the same order"
    )
    with pytest.raises(UserError) as caught:
        found("wide", against="forward")
    assert str(caught.value) == (
        "`my_step.py:wide` takes bf16[8, 16] where `my_step.py:forward` takes f32[8, 16]: a reference takes and gives "
        "the same arrays, in the same order"
    )


@pytest.mark.parametrize(
    ("step", "shardings", "start"),
    [
        ("step", "my_step.py:two_trees", "the shardings of `my_step.py:step` do not fit the step: "),
        ("odd", "x=data", "JAX refuses the shardings of `my_step.py:odd`: "),
    ],
)
def test_shardings_that_do_not_fit(step: str, shardings: str, start: str) -> None:
    with pytest.raises(UserError) as caught:
        found(step, shardings)
    assert str(caught.value).startswith(start)
