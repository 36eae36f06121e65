"""The index of a graph, on one small enough to see through."""

import ir
from ir.analysis.uses import Uses, live

TEXT = """graph step {
  inputs
    %0: f32[batch=4]                                    x
    %1: f32[layers=3, batch=4]                          w
  %2: f32[batch=4] = map.mul(%0, %0)
  %3: f32[batch=4] = map.neg(%2)
  %4: f32[batch=4] = loop.scan(%2, %1) carries=1 constants=0 over=[layers=3] trips=3 body {
    inputs
      %5: f32[batch=4]
      %6: f32[batch=4]
    %7: f32[batch=4] = map.add(%5, %6)
    %8: f32[batch=4] = map.neg(%7)
    outputs
      %7
  }
  opaque.debug_callback(%0)
  outputs
    %4
    %2
}
"""
GRAPH = ir.verify(ir.parse(TEXT))
USES = Uses.of(GRAPH)


def ops(nodes):
    return [f"{node.kind}.{node.fn}" for node in nodes]


def test_who_makes_and_who_reads():
    assert ops(USES.nodes) == ["map.mul", "map.neg", "loop.scan", "map.add", "map.neg", "opaque.debug_callback"]
    assert ops(USES.readers[0]) == ["map.mul", "opaque.debug_callback"]
    assert ops(USES.readers[2]) == ["map.neg", "loop.scan"]
    assert ops([USES.producer[7]]) == ["map.add"]
    assert 0 not in USES.producer
    assert USES.paths == {0: "x", 1: "w"}


def test_how_often_a_value_is_read():
    assert [USES.reads[value] for value in (0, 2, 4, 3)] == [3, 3, 1, 0]


def test_what_crosses_the_borders_of_a_body():
    assert [str(each) for each in USES.feeds[5]] == ["%2", "%7"]
    assert [str(each) for each in USES.feeds[6]] == ["%1"]
    assert [str(each) for each in USES.sources(GRAPH.nodes[2].outputs[0])] == ["%7"]
    assert [str(each) for each in USES.sources(GRAPH.nodes[1].outputs[0])] == ["%2"]


def test_a_scope_by_itself():
    scope = Uses.of_scope(GRAPH)
    assert 7 not in scope.producer
    assert not scope.feeds


def test_what_a_result_or_an_effect_is_made_from():
    assert live(GRAPH) == {0, 1, 2, 4, 5, 6, 7}
