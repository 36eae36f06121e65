"""What a text that is no graph is answered with: word by word."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ir.errors import ParseError
from ir.text.parse import parse

STEP = """\
graph step {
  inputs
    %0: f32[batch=32, embed=64]                         x
  -- forward --
  %1: f32[batch=32] = reduce.sum(%0) over=[embed=64]    # model.py:12
  outputs
    %1                                                  loss
}
"""

CASES = {
    "not a graph": (
        ("graph step", "grph step"),
        """\
expected `graph`, found `grph` (line 1, column 1): write `graph step { … }`
  1 | grph step {
    | ^^^^""",
    ),
    "an open bracket": (
        ("(%0)", "(%0]"),
        """\
expected `,` or `)`, found `]` (line 5, column 36): write `%3`, or `1.0:f32[]` for a constant
  5 |   %1: f32[batch=32] = reduce.sum(%0] over=[embed=64]    # model.py:12
    |                                    ^""",
    ),
    "a dim without a size": (
        ("[batch=32, ", "[batch, "),
        """\
expected `=`, found `,` (line 3, column 18): write `batch=32`, `batch=32@data` on a mesh, or `_=32` without a name
  3 |     %0: f32[batch, embed=64]                         x
    |                  ^""",
    ),
    "a size that is no integer": (
        ("batch=32, ", "batch=32.5, "),
        """\
expected a size, found `32.5` (line 3, column 19): write `batch=32`, `batch=32@data` on a mesh, or `_=32` without a name
  3 |     %0: f32[batch=32.5, embed=64]                         x
    |                   ^^^^""",
    ),
    "no type": (
        ("%1: f32[batch=32] =", "%1 ="),
        """\
expected `:`, found `=` (line 5, column 6): write `%2: f32[batch=32] = map.add(%0, %1)  # model.py:12`
  5 |   %1 = reduce.sum(%0) over=[embed=64]    # model.py:12
    |      ^""",
    ),
    "an undefined value": (
        ("(%0)", "(%0, %7)"),
        """\
%7 is not defined here (line 5, column 38): define it on a line above in the same body, make it an input of \
the body, or give its type, `%7:f32[]`
  5 |   %1: f32[batch=32] = reduce.sum(%0, %7) over=[embed=64]    # model.py:12
    |                                      ^^""",
    ),
    "a value defined twice": (
        ("  %1: f32", "  %0: f32"),
        """\
%0 is defined twice, first in line 3 (line 5, column 3): give one of the two a number that is not in use
  5 |   %0: f32[batch=32] = reduce.sum(%0) over=[embed=64]    # model.py:12
    |   ^^""",
    ),
    "an attribute given twice": (
        ("over=[embed=64]", "over=[embed=64] over=3"),
        """\
the attribute `over` is given twice (line 5, column 54): keep one of the two
  5 |   %1: f32[batch=32] = reduce.sum(%0) over=[embed=64] over=3    # model.py:12
    |                                                      ^^^^""",
    ),
    "an attribute without a value": (
        ("over=[embed=64]", "over="),
        """\
expected the value of an attribute, found `#` (line 5, column 47): write `over=[mlp=256]`, `trips=4` or `mode=fill`
  5 |   %1: f32[batch=32] = reduce.sum(%0) over=    # model.py:12
    |                                               ^""",
    ),
    "a misspelt phase": (
        ("-- forward --", "-- foward --"),
        """\
`foward` is not a phase (line 4, column 6): did you mean `forward`?
  4 |   -- foward --
    |      ^^^^^^""",
    ),
    "an unknown phase": (
        ("-- forward --", "-- warmup --"),
        """\
`warmup` is not a phase (line 4, column 6): known: forward, backward, update
  4 |   -- warmup --
    |      ^^^^^^""",
    ),
    "a source without a line": (
        ("# model.py:12", "# model.py"),
        """\
expected a source line, found `#` (line 5, column 57): write `# model.py:12`
  5 |   %1: f32[batch=32] = reduce.sum(%0) over=[embed=64]    # model.py
    |                                                         ^""",
    ),
    "a misspelt section": (
        ("  outputs\n", "  output\n"),
        """\
`output` is not a section (line 6, column 3): did you mean `outputs`?
  6 |   output
    |   ^^^^^^""",
    ),
    "no operands": (
        ("reduce.sum(%0)", "reduce.sum"),
        """\
expected `(`, found `over` (line 5, column 34): write `%2: f32[batch=32] = map.add(%0, %1)  # model.py:12`
  5 |   %1: f32[batch=32] = reduce.sum over=[embed=64]    # model.py:12
    |                                  ^^^^""",
    ),
    "a section in the wrong place": (
        ("  outputs\n", "  inputs\n"),
        """\
`inputs` does not stand here (line 6, column 3): a graph is written in the order: inputs, nodes, outputs, carried
  6 |   inputs
    |   ^^^^^^""",
    ),
    "a path of two words": (
        ("  loss", "  the loss"),
        """\
expected the end of the line, found `loss` (line 7, column 61): write `%2  loss`
  7 |     %1                                                  the loss
    |                                                             ^^^^""",
    ),
    "a path after a line without one": (
        ("  loss\n", "\n    %1  again\n"),
        """\
a path after a line without one (line 8, column 9): give the lines above a path too, or leave this one out
  8 |     %1  again
    |         ^^^^^""",
    ),
    "unequal ranges": (
        ("\n}", "\n  carried\n    inputs 0..1 -> outputs 0\n}"),
        """\
2 inputs are paired with 1 outputs (line 9, column 5): make the two ranges equally long
  9 |     inputs 0..1 -> outputs 0
    |     ^^^^^^^^^^^^^^^^^^^^^^^^""",
    ),
    "a string that does not end": (
        ("  loss", '  "loss'),
        """\
a string that does not end (line 7, column 57): close it with `"` on its line; a line break inside is `\\n`
  7 |     %1                                                  "loss
    |                                                         ^^^^^""",
    ),
    "an unknown escape": (
        ("  loss", r'  "lo\ss"'),
        r"""
`\s` means nothing in a string (line 7, column 57): write `\"`, `\\`, `\n`, `\t`, `\r` or a code point, `\u{e9}`
  7 |     %1                                                  "lo\ss"
    |                                                         ^^^^^^^""".strip("\n"),
    ),
    "an end too early": (
        ("\n}\n", "\n"),
        """\
expected `}`, found the end of the text (line 8, column 1): write `graph step { … }`
  8 | \n    | ^""",
    ),
    "more after the end": (
        ("\n}\n", "\n}\n}\n"),
        """\
expected the end of the text, found `}` (line 9, column 1): write `graph step { … }`
  9 | }
    | ^""",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_message(case):
    (right, wrong), message = CASES[case]
    assert right in STEP
    with pytest.raises(ParseError) as error:
        parse(STEP.replace(right, wrong, 1))
    assert str(error.value) == message
    assert f"(line {error.value.line}, column {error.value.column})" in message


def test_the_right_text_parses():
    assert parse(STEP).nodes[0].kind == "reduce"


def test_carets_stand_under_the_word_after_tabs_too():
    with pytest.raises(ParseError) as error:
        parse(STEP.replace("  %1: f32", "\t\t%0: f32"))
    assert str(error.value).splitlines()[-1] == "    | \t\t^^"


def test_windows_line_ends_blank_lines_comments_and_indentation_do_not_count():
    loose = "# a dump\n\n" + STEP.replace("  outputs", "\n# a remark\n      outputs") + "# the end"
    assert parse(loose) == parse(STEP)
    assert parse(loose.replace("\n", "\r\n")) == parse(STEP)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(STEP)), st.integers(0, 8), st.text('%0f[]{}()=:,.@#"-> \n\\inputsx', max_size=4))
def test_a_damaged_text_parses_or_is_answered(start, length, insertion):
    try:
        parse(STEP[:start] + insertion + STEP[start + length :])
    except ParseError as error:
        assert error.line >= 1 and error.column >= 1
