"""docs/checker.md: every example is run, and its report stands there word by word."""

import linecache
import re
from pathlib import Path

import pytest

import ir
import passes
from passes.check_axes import ERRORS, WARNINGS

TEXT = (Path(__file__).parents[2] / "docs" / "checker.md").read_text(encoding="utf-8")
PREAMBLE = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL).group(1)
EXAMPLES = {
    code: (program, report)
    for code, program, report in re.findall(
        r"### (\S+)\n.*?```python\n(.*?)```\n\n```text\n(.*?)\n```", TEXT, re.DOTALL
    )
}


def test_every_code_has_an_example_in_its_section():
    errors, _, silenced = TEXT.partition("## Warnings")
    assert sorted(re.findall(r"^### (\S+)", errors, re.MULTILINE)) == sorted(ERRORS)
    assert sorted(re.findall(r"^### (\S+)", silenced, re.MULTILINE)) == sorted(WARNINGS)
    assert set(EXAMPLES) == {*ERRORS, *WARNINGS}


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_gives_its_report(code, tmp_path):
    program, report = EXAMPLES[code]
    path = tmp_path / "example.py"
    path.write_text(program, encoding="utf-8")
    linecache.clearcache()
    names: dict[str, object] = {}
    exec(PREAMBLE, names)
    exec(compile(program, str(path), "exec"), names)
    graph = ir.trace(names["step"], *names["step_arguments"])
    assert "\n\n".join(map(str, passes.axis_findings(graph))) == report
    if code in WARNINGS:
        assert passes.axis_findings(graph, ignore=[code]) == []
