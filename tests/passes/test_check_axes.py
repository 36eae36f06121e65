"""Axis errors: what JAX runs without a word, because the sizes agree, is refused here, with these very words."""

import axis_mistakes as wrong
import jax
import jax.numpy as jnp
import pytest
from step_models import prepared, shaped, step_of, traced

import ir
import passes
from passes.check_axes import find_axis_errors

BE, BM, MB = shaped("batch embed", 4, 4), shaped("batch mlp", 4, 4), shaped("mlp batch", 4, 4)

SAME = "if they are the same axis, call it one name; if not, this is not the dim you meant (rename"


def line_of(mark: str) -> int:
    with open(wrong.__file__, encoding="utf-8") as file:
        (number,) = [i for i, line in enumerate(file, start=1) if mark in line]
    return number


FINDINGS = {
    "an addition": (
        wrong.adds_other_axes,
        (BE, BM),
        "add of `embed` with `mlp`: dims at the same place must be the same axis (both have size 4)\n"
        "  axis_mistakes.py:LINE\n"
        "    return x.array + y.array  # adds batch x embed to batch x mlp\n"
        "    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n"
        "  operands\n"
        "    f32[batch=4, embed=4]\n"
        "    f32[batch=4, mlp=4]\n"
        f"  fix: {SAME} 'mlp' or 'embed')",
        "# adds batch",
    ),
    "a contraction": (
        wrong.contracts_other_axes,
        (BE, shaped("mlp out", 4, 4)),
        "contraction of `embed` with `mlp`: only one axis can be summed with itself (both have size 4)\n"
        "  axis_mistakes.py:LINE\n"
        '    return jnp.einsum("be,em->bm", x.array, w.array)  # w is mlp x embed\n'
        "    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n"
        "  operands\n"
        "    f32[batch=4, embed=4]\n"
        "    f32[mlp=4, out=4]\n"
        f"  fix: {SAME} 'mlp' or 'embed')",
        "# w is mlp",
    ),
    "a scan's carry": (
        wrong.carries_other_axes,
        (BE, shaped("layers embed mlp", 3, 4, 4)),
        "a loop carries `embed` in and `mlp` out: a carry keeps its axes from one iteration to the next "
        "(both have size 4)\n"
        "  axis_mistakes.py:LINE\n"
        "    return lax.scan(layer, x.array, w.array)[0]  # the carry comes in as embed and leaves as mlp\n"
        "    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n"
        "  operands\n"
        "    f32[batch=4, embed=4]\n"
        "    f32[batch=4, mlp=4]\n"
        f"  fix: {SAME} 'mlp' or 'embed')",
        "# the carry comes",
    ),
    "a concatenation": (
        wrong.concatenates_other_axes,
        (BE, BM),
        "concatenation of `embed` with `mlp`: dims at the same place must be the same axis (both have size 4)\n"
        "  axis_mistakes.py:LINE\n"
        "    return jnp.concatenate([x.array, y.array], axis=0)  # batch x embed above batch x mlp\n"
        "    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n"
        "  operands\n"
        "    f32[batch=4, embed=4]\n"
        "    f32[batch=4, mlp=4]\n"
        f"  fix: {SAME} 'mlp' or 'embed')",
        "# batch x embed above",
    ),
    "a concatenation along two axes of other sizes": (
        wrong.concatenates_along_other_axes,
        (BE, shaped("batch mlp", 4, 3)),
        "concatenation of `embed` with `mlp`: dims at the same place must be the same axis\n"
        "  axis_mistakes.py:LINE\n"
        "    return jnp.concatenate([x.array, y.array], axis=1)  # batch x embed beside batch x mlp\n"
        "    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n"
        "  operands\n"
        "    f32[batch=4, embed=4]\n"
        "    f32[batch=4, mlp=3]\n"
        f"  fix: {SAME} 'mlp' or 'embed')",
        "# batch x embed beside",
    ),
    "attention with position twice": (
        wrong.attends_without_renaming,
        (shaped("position head_size", 4, 4), shaped("position head_size", 4, 4)),
        "`position` occurs twice in one result: its two occurrences cannot be told apart (both have size 4)\n"
        "  axis_mistakes.py:LINE\n"
        '    return jnp.einsum("ph,qh->pq", q.array, k.array)  # position twice\n'
        "    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n"
        "  operands\n"
        "    f32[position=4, head_size=4]\n"
        "    f32[position=4, head_size=4]\n"
        "  fix: rename one of them first, e.g. x.rename({'position': 'key_position'})",
        "# position twice",
    ),
    "branches": (
        wrong.branches_disagree,
        (jax.ShapeDtypeStruct((), bool), BE, BM),
        "branches return `mlp` and `embed` at the same place (both have size 4)\n"
        "  axis_mistakes.py:LINE\n"
        "    return lax.cond(p, lambda: (0.0, x.array), lambda: (1.0, y.array))  # embed or mlp\n"
        "    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n"
        "  operands\n"
        "    f32[batch=4, mlp=4]\n"
        "    f32[batch=4, embed=4]\n"
        f"  fix: {SAME} 'embed' or 'mlp')",
        "# embed or mlp",
    ),
    "a name that is not so": (
        wrong.marks_another_name,
        (BE,),
        "a value whose axis is `embed` is named `mlp` (both have size 4)\n"
        "  axis_mistakes.py:LINE\n"
        '    return NamedArray(jnp.sin(x.array), (x.axes[0], x.axes[1].alias("mlp")))  # was embed\n'
        "    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n"
        "  operands\n"
        "    f32[batch=4, embed=4]\n"
        "    f32[batch=4, mlp=4]\n"
        f"  fix: {SAME} 'mlp' or 'embed')",
        "# was embed",
    ),
}


@pytest.mark.parametrize("name", FINDINGS)
def test_a_mistake_is_found_and_worded(name):
    function, arguments, expected, mark = FINDINGS[name]
    jax.eval_shape(function, *arguments)  # JAX itself has nothing against it
    with pytest.raises(passes.AxisErrors) as caught:
        passes.check_axes(ir.trace(function, *arguments))
    expected = expected.replace("LINE", str(line_of(mark)))
    assert caught.value.findings == (expected,)
    assert str(caught.value) == f"1 axis error\n\n{expected}"


def test_a_forgotten_transpose_is_two_mistakes():
    findings = find_axis_errors(ir.trace(wrong.forgets_a_transpose, BE, shaped("embed batch", 4, 4)))
    assert [finding.split(":")[0] for finding in findings] == [
        "contraction of `batch` with `embed`",
        "contraction of `embed` with `batch`",
    ] or [finding.split(":")[0] for finding in findings] == [
        "contraction of `embed` with `batch`",
        "contraction of `batch` with `embed`",
    ]


def test_a_while_loop_that_transposes():
    findings = find_axis_errors(ir.trace(wrong.loops_with_other_axes, BE))
    assert [finding.split(":")[0] for finding in findings] == [
        "a loop carries `batch` in and `embed` out",
        "a loop carries `embed` in and `batch` out",
    ]


def test_all_findings_are_listed_once_in_order():
    graph = ir.trace(wrong.many_mistakes, BE, BM, MB)
    with pytest.raises(passes.AxisErrors) as caught:
        passes.check_axes(graph)
    findings = caught.value.findings
    assert len(findings) == len(set(findings)) >= 3
    assert str(caught.value).startswith(f"{len(findings)} axis errors\n\n{findings[0]}\n\n{findings[1]}")
    sources = [int(finding.splitlines()[1].rpartition(":")[2]) for finding in findings]
    assert sources[0] == line_of("# first")
    assert {line_of("# second, inside"), line_of("# third"), line_of("# more")} <= set(sources)


def test_state_that_changes_its_names():
    (finding,) = find_axis_errors(ir.trace(wrong.renames_state, {"w": BE, "b": BE}))
    assert finding == (
        "state.w: the step takes f32[batch=4, embed=4] and gives back f32[batch=4, mlp=4]\n"
        "  fix: state keeps its axes; rename the result, or transpose it back"
    )


def test_state_that_comes_back_transposed():
    (finding,) = find_axis_errors(ir.trace(wrong.transposes_state, {"w": shaped("batch embed", 4, 8)}))
    assert finding == (
        "state.w: the step takes f32[batch=4, embed=8] and gives back f32[embed=8, batch=4]\n"
        "  fix: state keeps its axes; rename the result, or transpose it back"
    )


def test_state_whose_label_stays_while_its_dims_change():
    findings = find_axis_errors(ir.trace(wrong.changes_state, {"w": BE}, BE))
    assert [finding.split(" (")[0] for finding in findings][:2] == [
        "a value whose axis is `embed` is named `batch`",
        "a value whose axis is `batch` is named `embed`",
    ]


def test_state_without_names_may_get_them():
    """An array without names is not held to the names that what replaces it happens to have."""
    plain = {"last": jax.ShapeDtypeStruct((4,), jnp.float32)}
    assert find_axis_errors(ir.trace(lambda state, x: {"last": x.array.sum(0)}, plain, BE)) == []


def test_sizes_that_differ_are_no_axis_error():
    ones = shaped("one embed", 1, 4)
    assert find_axis_errors(ir.trace(lambda x, y: x.array * y.array, BE, ones)) == []


def test_a_rename_makes_it_right():
    def attend(q, k):
        return jnp.einsum("ph,qh->pq", q.array, k.rename({"position": "key_position"}).array)

    qk = shaped("position head_size", 4, 4)
    assert find_axis_errors(ir.trace(attend, qk, qk)) == []


def test_without_the_file_the_line_is_named_and_not_shown():
    """A graph read back from its text knows lines, not paths."""
    graph = ir.parse(str(ir.trace(wrong.adds_other_axes, BE, BM)))
    (finding,) = find_axis_errors(graph)
    assert finding.splitlines()[1:3] == [f"  axis_mistakes.py:{line_of('# adds batch')}", "  operands"]


@pytest.mark.parametrize("name", ["raw", "named", "named_checkpoint", "mlp"])
def test_a_right_step_passes_unchanged(name):
    assert passes.check_axes(traced(name)) is traced(name)


def test_the_pipeline_refuses_before_it_plans():
    with pytest.raises(passes.AxisErrors):
        passes.run(ir.trace(wrong.adds_other_axes, BE, BM), {"data": 2})
    assert step_of("mlp") is step_of("mlp") and prepared("mlp") is prepared("mlp")
