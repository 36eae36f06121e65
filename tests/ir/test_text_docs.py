"""The examples of docs/ir.md are what the printer prints, and there is one for each op kind."""

from pathlib import Path

import pages
import pytest

from ir.analysis.verify import verify
from ir.errors import ParseError
from ir.ops import OPS
from ir.text.parse import parse
from ir.text.print import print_graph

DOCUMENT = (Path(__file__).parents[2] / "docs" / "ir.md").read_text(encoding="utf-8")
EXAMPLES = [block.text for block in pages.fenced(DOCUMENT, "ir")]
GRAPHS = [parse(example) for example in EXAMPLES]


@pytest.mark.parametrize("example", EXAMPLES, ids=[graph.name for graph in GRAPHS])
def test_example(example):
    graph = verify(parse(example))
    assert print_graph(graph) == example
    assert parse(print_graph(graph)) == graph


def test_one_example_for_each_kind():
    assert sorted(graph.name for graph in GRAPHS[1:]) == sorted(OPS)
    for graph in GRAPHS[1:]:
        assert graph.name in {node.kind for node in graph.walk()}


def test_the_message_shown():
    (message,) = pages.fenced(DOCUMENT, "text")
    with pytest.raises(ParseError) as error:
        parse("graph g {\n  inputs\n    %0: f32[batch=4)  x\n}\n")
    assert f"{error.value}\n" == message.text
