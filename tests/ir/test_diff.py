"""`ir.changes`: what differs between two graphs, by names. Numbers of values and lines of code do not count."""

from pathlib import Path

import pytest
import step_models
from step_models import hand_plan, prepared, raw_gpt, traced
from typeguard import suppress_type_checks

import ir
from passes import pipeline

BEFORE = """
graph step {
  inputs
    %0: f32[batch=8, embed=4]  x
    %1: f32[embed=4, mlp=16]  params.up
  -- forward --
  %2: f32[batch=8, mlp=16] = contract(%0, %1) over=[embed=4]  # model.py:3
  %3: f32[batch=8, mlp=16] = map.tanh(%2)  # model.py:4
  %4: f32[batch=8, mlp=16] = map.exp(%2)  # model.py:5
  %5: f32[batch=8, mlp=16] = map.add(%3, %4)  # model.py:6
  %6: f32[] = reduce.sum(%5) over=[batch=8, mlp=16]  # model.py:7
  outputs
    %6  loss
}
"""


def edited(*replacements: tuple[str, str]) -> str:
    """The report on BEFORE and BEFORE with parts of its text replaced, without the header."""
    text = BEFORE
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    lines = ir.changes(ir.parse(BEFORE), ir.parse(text)).text().splitlines()
    assert lines[:2] == ["--- before", "+++ after"]
    return "\n".join(line.rstrip() for line in lines[2:])


def test_renumbering_is_no_change():
    again = BEFORE.replace("%2", "%12").replace("%3", "%2").replace("%5", "%3")
    changes = ir.changes(ir.parse(BEFORE), ir.parse(again))
    assert not changes
    assert changes.text("a.ir", "b.ir") == "--- a.ir\n+++ b.ir\nno changes\n"


def test_other_lines_are_no_change():
    assert edited(("model.py:6", "model.py:16"), ("model.py:7", "model.py:17")) == "no changes"


def test_an_operation_that_changed_stands_below_what_it_was():
    assert edited(("map.tanh", "map.sin")) == (
        "1 changed\n"
        "\n"
        "-- forward --\n"
        "- f32[batch=8, mlp=16] = map.tanh(contract:3)                                           # model.py:4\n"
        "+ f32[batch=8, mlp=16] = map.sin(contract:3)                                            # model.py:4"
    )


def test_an_operation_in_place_of_others():
    assert edited(
        ("  %3: f32[batch=8, mlp=16] = map.tanh(%2)  # model.py:4\n", ""),
        ("%4: f32[batch=8, mlp=16] = map.exp(%2)  # model.py:5", "%4: f32[mlp=16] = reduce.max(%2) over=[batch=8]"),
        ("map.add(%3, %4)", "broadcast(%4)"),
    ) == (
        "1 changed, 3 removed, 2 added\n"
        "\n"
        "-- forward --\n"
        "- f32[batch=8, mlp=16] = map.tanh(contract:3)                                           # model.py:4\n"
        "- f32[batch=8, mlp=16] = map.exp(contract:3)                                            # model.py:5\n"
        "- f32[batch=8, mlp=16] = map.add(map.tanh:4, map.exp:5)                                 # model.py:6\n"
        "+ f32[mlp=16] = reduce.max(contract:3) over=[batch=8]\n"
        "+ f32[batch=8, mlp=16] = broadcast(reduce.max)                                          # model.py:6\n"
        "- f32[] = reduce.sum(map.add:6) over=[batch=8, mlp=16]                                  # model.py:7\n"
        "+ f32[] = reduce.sum(broadcast:6) over=[batch=8, mlp=16]                                # model.py:7"
    )


def test_an_attribute_that_changed():
    assert edited(("over=[embed=4]", "over=[embed=4] precision=high")) == (
        "1 changed\n"
        "\n"
        "-- forward --\n"
        "- f32[batch=8, mlp=16] = contract(x, params.up) over=[embed=4]                          # model.py:3\n"
        "+ f32[batch=8, mlp=16] = contract(x, params.up) over=[embed=4] precision=high           # model.py:3"
    )


def test_an_operation_that_stands_elsewhere():
    first, second = BEFORE.splitlines()[7:9]
    assert edited((f"{first}\n{second}", f"{second}\n{first}")) == (
        "1 moved\n"
        "\n"
        "-- forward --\n"
        "> f32[batch=8, mlp=16] = map.tanh(contract:3)                                           # model.py:4"
    )


def test_what_is_computed_once_and_what_is_unused():
    more = (
        "  %7: f32[batch=8, mlp=16] = map.tanh(%2)  # model.py:9\n  %8: f32[mlp=16] = reduce.max(%7) over=[batch=8]\n"
    )
    before = ir.parse(BEFORE.replace("  outputs", more + "  outputs"))
    lines = ir.changes(before, ir.parse(BEFORE)).text().splitlines()
    assert [line.rstrip() for line in lines[2:]] == [
        "2 removed",
        "",
        "-- forward --",
        "- f32[batch=8, mlp=16] = map.tanh(contract:3)                                           "
        "# model.py:9  computed once now",
        "- f32[mlp=16] = reduce.max(map.tanh:9) over=[batch=8]                                   unused",
    ]


def test_collectives_and_layouts():
    placed = (
        ("%1: f32[embed=4, mlp=16]", "%1: f32[embed=4@data, mlp=16]"),
        ("  -- forward --\n", "  -- forward --\n  %9: f32[embed=4, mlp=16] = all_gather(%1) axis=embed mesh=[data]\n"),
        ("contract(%0, %1)", "contract(%0, %9)"),
        ("%6: f32[] =", "%6: f32[] partial(model) ="),
    )
    assert edited(*placed) == (
        "1 added, 2 layouts changed\n"
        "\n"
        "-- forward --\n"
        "+ f32[embed=4, mlp=16] = all_gather(params.up) axis=embed mesh=[data]\n"
        "\n"
        "layouts\n"
        "  embed: replicated -> @data in 1 value, first: input params.up\n"
        "  pending reduction over: nothing -> model in 1 value, first: reduce.sum:7"
    )


def test_arguments_results_and_state():
    assert edited(
        ("  params.up\n", "  params.up\n    %7: i32[]  count\n"),
        ("    %6  loss\n", "    %5  loss\n  carried\n    inputs 0 -> outputs 0\n"),
    ) == (
        "1 changed, 2 added\n"
        "\n"
        "arguments and results\n"
        "+ input count: i32[]\n"
        "- output loss: f32[] = reduce.sum:7\n"
        "+ output loss: f32[batch=8, mlp=16] = map.add:6\n"
        "+ carried input 0 -> output 0"
    )


@pytest.mark.parametrize("name", ["mlp", "raw"])
def test_a_graph_and_what_is_read_back_are_the_same(name):
    with suppress_type_checks():  # the tests of the parser have them on
        again = ir.parse(str(traced(name)))
    assert not ir.changes(traced(name), again)


def test_what_the_passes_change(golden):
    canonical = prepared("mlp")
    placed = pipeline.place(canonical, hand_plan("mixed"))
    texts = [
        ir.changes(traced("mlp"), canonical).text("01-check_axes.ir", "02-canonicalize.ir"),
        ir.changes(canonical, placed).text("02-canonicalize.ir", "03-partition.ir"),
    ]
    golden("\n".join(texts), "diff_mlp.txt")


def test_passes_that_only_take_away_or_only_add():
    canonical = prepared("raw")
    assert {line.mark for line in ir.changes(traced("raw"), canonical).lines} == {"-"}
    placed = ir.changes(canonical, pipeline.place(canonical, hand_plan("mixed_sp")))
    assert {line.mark for line in placed.lines} == {"+"}
    (scan,) = {line.scope for line in placed.lines if line.phase == "forward" and line.scope}
    assert scan == f"in body of loop.scan (step_models.py:{line_of('jax.lax.scan(jax.checkpoint(block)')})"


def line_of(code: str) -> int:
    lines = Path(step_models.__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, start=1) if code in line)


def test_a_model_that_was_edited_differs_where_it_was_edited():
    """Other sizes are other types; the operations are the same, and so none is new."""
    step = raw_gpt(vocab=128)
    changes = ir.changes(traced("raw"), ir.trace(*step))
    assert changes
    assert all(line.is_edit for line in changes.lines)
