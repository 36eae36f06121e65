"""Copying a graph: what is replaced is read as what stands for it, in results and in bodies' operands too."""

import ir
from ir.rewrite import Rewriter, Scope

GRAPH = ir.parse("""graph step {
  inputs
    %0: f32[batch=4]
  %1: f32[batch=4] = map.copy(%0)
  %2: f32[batch=4] = call.checkpoint(%1) body {
    inputs
      %3: f32[batch=4]
    %7: f32[batch=4] = map.copy(%3)
    outputs
      %7
  }
  outputs
    %2
    %1
}
""")


def without_copies(graph):
    scope = Scope()
    for node in graph.nodes:
        if node.fn == "copy":
            scope.define(node.outputs[0], scope.read(node.inputs[0]))
        else:
            scope.append(scope.current(node, without_copies))
    return scope.finish(graph)


def test_a_rewrite():
    assert str(ir.verify(without_copies(GRAPH))) == str(
        ir.parse("""graph step {
  inputs
    %0: f32[batch=4]
  %2: f32[batch=4] = call.checkpoint(%0) body {
    inputs
      %3: f32[batch=4]
    outputs
      %3
  }
  outputs
    %2
    %0
}
""")
    )


def test_new_numbers_are_free_in_the_whole_graph():
    rewriter = Rewriter(GRAPH)
    assert [str(rewriter.fresh(GRAPH.inputs[0])) for _ in range(2)] == ["%8", "%9"]
