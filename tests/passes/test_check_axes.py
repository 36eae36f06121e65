"""How the checker reports: all findings, each mistake once, with where its names come from; and what it lets be.

The kinds of mistakes and their words are in `test_check_axes_findings.py`.
"""

import re
import warnings
from pathlib import Path

import axis_mistakes as wrong
import jax
import jax.numpy as jnp
import pytest
from step_models import shaped, traced
from typeguard import suppress_type_checks

import ir
import passes
from haliax import NamedArray
from levanter.config import load
from levanter.config.files import model_names
from levanter.runtime.state import batch_shape, state_shape, train_step_of

BE, BM, MB = shaped("batch embed", 4, 4), shaped("batch mlp", 4, 4), shaped("mlp batch", 4, 4)


def findings_of(function, *arguments, ignore=()):
    return passes.axis_findings(ir.trace(function, *arguments), ignore)


def line_of(mark: str) -> int:
    lines = Path(wrong.__file__).read_text(encoding="utf-8").splitlines()
    (number,) = [i for i, line in enumerate(lines, start=1) if mark in line]
    return number


def test_a_finding_says_what_where_who_whence_and_the_fix():
    """Through two lines and a loop, back to the arguments."""
    line = line_of("# the weight is embed")
    (finding,) = findings_of(wrong.multiplies_by_a_transposed_weight, BE, shaped("embed mlp", 4, 4))
    assert str(finding) == (
        "error[contract]: contraction of `embed` with `mlp`: only one axis can be summed with itself "
        "(both have size 4)\n"
        f"  axis_mistakes.py:{line}\n"
        "    return hidden @ w.array.T  # the weight is embed x mlp already\n"
        "           ^^^^^^^^^^^^^^^^^^\n"
        "  operands\n"
        f"    f32[batch=4, embed=4]  (axis_mistakes.py:{line - 1})\n"
        f"    f32[mlp=4, embed=4]  (axis_mistakes.py:{line})\n"
        "  names\n"
        f"    `embed` comes from x: f32[batch=4, embed=4], through axis_mistakes.py:{line - 1}\n"
        f"    `mlp` comes from w: f32[embed=4, mlp=4], through axis_mistakes.py:{line}\n"
        "  fix: if they are the same axis, call it one name; if not, this is not the dim you meant "
        "(rename 'mlp' or 'embed')"
    )
    assert (finding.code, finding.severity, finding.source.line) == ("contract", "error", line)


def test_the_error_lists_every_error():
    graph = ir.trace(wrong.many_mistakes, BE, BM, MB)
    with pytest.raises(passes.AxisErrors) as caught:
        passes.check_axes(graph)
    findings = caught.value.findings
    assert list(findings) == passes.axis_findings(graph)
    assert str(caught.value) == f"{len(findings)} axis errors\n\n" + "\n\n".join(map(str, findings))
    lines = [finding.source.line for finding in findings]
    assert lines[:3] == [line_of("# first"), line_of("# second, inside"), line_of("# third")]
    assert set(lines[3:]) == {line_of("# more")}


def test_one_error_is_counted_as_one():
    with pytest.raises(passes.AxisErrors, match=r"^1 axis error\n\nerror\[elementwise\]: add of"):
        passes.check_axes(ir.trace(wrong.adds_other_axes, BE, BM))


def test_a_warning_is_no_error():
    graph = ir.trace(wrong.repeats_the_first, BE)
    with pytest.warns(passes.AxisWarning, match=r"^warning\[repeat\]: one place of `batch` is repeated"):
        assert passes.check_axes(graph) is graph
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert passes.check_axes(graph, ignore=["repeat"]) is graph


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("repat", "no finding that can be silenced is called 'repat'; did you mean 'repeat'?"),
        (
            "xyz",
            "no finding that can be silenced is called 'xyz'; known are softmax-axis, mean-then-sum, mean-of-means, "
            "repeat, index, split-order, regroup, part, beside, order",
        ),
        (
            "contract",
            "'contract' is an error, which is fixed and not silenced; "
            "what can be silenced is softmax-axis, mean-then-sum, mean-of-means, repeat, index, split-order, regroup, "
            "part, beside, order",
        ),
    ],
)
def test_only_a_warning_can_be_silenced(code, message):
    with pytest.raises(passes.UnknownCode, match=f"^{re.escape(message)}$"):
        passes.check_axes(traced("mlp"), ignore=[code])


# --- one mistake is one finding ---------------------------------------------------------------------------------------


def test_what_follows_from_a_mistake_is_not_reported_again():
    def step(x, y, z):
        a = x.array + y.array  # the mistake
        b = jnp.tanh(a) * y.array
        return b - y.array + z.array, x.array * b

    (finding,) = findings_of(step, BE, BM, shaped("batch mlp", 4, 4))
    assert finding.code == "elementwise"


def test_the_same_two_names_meeting_elsewhere_are_reported():
    def step(x, y):
        return jnp.sin(x.array) + y.array, jnp.cos(x.array) * y.array

    def twice(x, y):
        first = jnp.sin(x.array) + y.array
        return first, jnp.cos(x.array) * y.array

    assert [each.what.split(" of")[0] for each in findings_of(twice, BE, BM)] == ["add", "mul"]
    assert len(findings_of(step, BE, BM)) == 1  # two of a kind on one line are one


def test_a_layer_that_is_wrong_is_wrong_once_however_many_there_are():
    def step(x, weights):
        for weight in weights:
            x = jnp.tanh(x.array if isinstance(x, NamedArray) else x) @ weight.array
        return x

    assert len(findings_of(step, BE, [shaped("mlp embed", 4, 4)] * 6)) == 1


def test_a_name_that_was_inferred_from_a_wrong_use():
    """Nothing names the noise but its uses; the first is the odd one out, and the two others say so once."""

    def step(key, x, y):
        noise = jax.random.normal(key, (4,))
        return noise + x.array, noise * y.array, noise - y.array

    key = jax.eval_shape(lambda: jax.random.key(0))
    (finding,) = findings_of(step, key, shaped("embed", 4), shaped("mlp", 4))
    assert "`embed` is inferred from a meeting with x: f32[embed=4]" in str(finding)


def test_a_rename_is_where_a_name_begins():
    def step(x, y):
        z = x.rename({"embed": "mlp"})
        return jnp.sin(z.array) + y.array

    (finding,) = findings_of(step, BE, BE)
    assert "`mlp` first appears in f32[batch=4, mlp=4], test_check_axes.py:" in str(finding)


def test_names_are_followed_out_of_loops_and_through_merges():
    def step(x, w):
        def layer(carry, scale):
            return jnp.tanh(carry) * scale, None

        y, _ = jax.lax.scan(layer, x.array.reshape(4, 6), jnp.ones(3))
        return y.reshape(4, 2, 3) + w.array

    (finding,) = findings_of(step, shaped("batch heads size", 4, 2, 3), shaped("batch groups size", 4, 2, 3))
    assert "`heads` comes from x: f32[batch=4, heads=2, size=3], through" in str(finding)


def test_a_long_way_is_cut_short():
    def step(x, y):
        a = jnp.sin(x.array)
        b = jnp.cos(a)
        c = jnp.tan(b)
        d = jnp.exp(c)
        return d + y.array

    (finding,) = findings_of(step, BE, BM)
    first = Path(__file__).read_text().splitlines().index("        a = jnp.sin(x.array)") + 1
    way = f"test_check_axes.py:{first}, test_check_axes.py:{first + 1}, …, test_check_axes.py:{first + 3}"
    assert f"`embed` comes from x: f32[batch=4, embed=4], through {way}" in str(finding)


# --- what there is no source for --------------------------------------------------------------------------------------


HEADS = shaped("batch heads head_size", 2, 4, 8), shaped("heads head_size embed", 4, 8, 16)
TABLES = shaped("vocab embed", 4, 2), shaped("position embed", 3, 2)
KEYS = shaped("key_position embed", 4, 8)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (wrong.adds_other_axes, (BE, BM)),
        (wrong.looks_up_positions_by_token, (shaped("batch", 2, dtype=jnp.int32), *TABLES)),
        (wrong.merges_and_splits, HEADS),
        (wrong.reshapes_for_transposing, HEADS),
        (wrong.attends_over_queries, (shaped("position embed", 4, 8), KEYS, KEYS)),
    ],
)
def test_a_graph_read_back_from_text_is_checked_by_names(function, arguments):
    """It knows lines, not paths of files or primitives."""
    graph = ir.trace(function, *arguments)
    again = passes.axis_findings(ir.parse(str(graph)))
    assert [each.code for each in again] == [each.code for each in passes.axis_findings(graph)] != []
    assert str(again[0]).splitlines()[1:3] == [f"  {again[0].source}", "  operands"]


def test_without_a_line_it_says_so():
    graph = ir.parse(
        "graph g {\n inputs\n %0: f32[a=2]\n %1: f32[b=2]\n %2: f32[a=2] = map.add(%0, %1)\n outputs\n %2\n}\n"
    )
    (finding,) = passes.axis_findings(graph)
    assert str(finding).splitlines()[1:5] == ["  (no source line)", "  operands", "    f32[a=2]", "    f32[b=2]"]


# --- real models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["raw", "named", "named_checkpoint", "mlp"])
def test_a_right_step_passes_unchanged(name):
    assert passes.check_axes(traced(name)) is traced(name)
    assert passes.axis_findings(traced(name)) == []


def test_a_right_step_read_back_from_text_is_let_be():
    with suppress_type_checks():  # each of some ten thousand tokens is checked, and the tests of the parser do that
        graph = ir.parse(str(traced("raw")))
    assert passes.axis_findings(graph) == []


OTHER_SIZES = (
    *("gpt2_base", "gpt2_medium", "gpt2_small", "gpt2_xl", "llama2_7b", "llama3_1b", "llama3_405b", "llama3_70b"),
    *("llama3_base", "mistral_7b", "mixtral_8x7b", "smollm2_135m"),
)
"""Configs of families that a smaller one stands for."""


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=[pytest.mark.slow] * (each in OTHER_SIZES)) for each in model_names()]
)
def test_every_shipped_config_is_free_of_findings(name):
    config = load(name, [])
    assert findings_of(train_step_of(config), state_shape(config), batch_shape(config)) == []


def test_state_without_names_may_get_them():
    """An array without names is not held to the names that what replaces it happens to have."""
    plain = {"last": jax.ShapeDtypeStruct((4,), jnp.float32)}
    assert findings_of(lambda state, x: {"last": x.array.sum(0)}, plain, BE) == []


def test_the_pipeline_refuses_before_it_plans():
    with pytest.raises(passes.AxisErrors):
        passes.run(ir.trace(wrong.adds_other_axes, BE, BM), {"data": 2})
