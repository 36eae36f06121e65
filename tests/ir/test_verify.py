"""The verifier refuses each way in which a graph can be malformed, and nothing else."""

from dataclasses import replace

import pytest
from step_models import prepared

import ir
from ir.graph import Constant, Graph, Node, Value
from ir.types import Dim, TensorType

V = TensorType("float32", (Dim("batch", 4),))
X, Y, Z = (Value(i, V) for i in range(3))
ADD = Node("map", "add", (X, X), (Y,))


def graph(nodes=(ADD,), inputs=(X,), outputs=(Y,), **fields):
    return Graph("step", inputs, nodes, outputs, **fields)


def scan(body_inputs, body_outputs, inputs, outputs, **attrs):
    body = Graph("body", body_inputs, (), body_outputs)
    return Node("loop", "scan", inputs, outputs, {"constants": 0, "carries": 1, "trips": 4, **attrs}, (body,))


def test_a_well_formed_graph_is_given_back():
    whole = graph(input_paths=("x",), output_paths=("y",), carried=((0, 0),))
    assert ir.verify(whole) is whole
    assert ir.verify(prepared("named")) is prepared("named")


def test_constants_may_be_returned():
    ir.verify(graph(outputs=(Constant("1.0", TensorType("float32")),)))


MALFORMED = {
    "an unknown kind": (
        graph((replace(ADD, kind="frobnicate"),)),
        "graph step: unknown kind 'frobnicate' (add it to ir.kinds)",
    ),
    "use before definition": (
        graph((Node("map", "neg", (Y,), (Z,)), ADD)),
        "graph step: map uses %1, which is not defined before it",
    ),
    "defined twice": (graph((ADD, ADD)), "graph step: %1 is defined twice"),
    "an input defined again": (graph((replace(ADD, outputs=(X,)),), outputs=(X,)), "graph step: %0 is defined twice"),
    "an unknown result": (graph(outputs=(Z,)), "graph step: returns %2, which is not defined"),
    "too few paths": (graph(input_paths=("x", "y")), "graph step: 2 paths for 1 inputs"),
    "a carried input out of range": (graph(carried=((1, 0),)), "graph step: carried pair (1, 0) is out of range"),
    "a carried output out of range": (graph(carried=((0, 1),)), "graph step: carried pair (0, 1) is out of range"),
    "a body that uses what is outside it": (
        graph((ADD, scan((Z,), (X,), (Y,), (Value(3, V),))), outputs=(Value(3, V),)),
        "graph body: returns %0, which is not defined",
    ),
    "a body defining a value of the outside": (
        graph((scan((X,), (X,), (X,), (Y,)),)),
        "graph body: %0 is defined twice",
    ),
    "an operand of another type than its definition": (
        graph((replace(ADD, inputs=(Value(0, TensorType("float32", (Dim("batch", 8),))), X)),)),
        "graph step: map uses %0 as f32[batch=8], but it is f32[batch=4]",
    ),
    "too many output paths": (graph(output_paths=("y", "z")), "graph step: 2 paths for 1 outputs"),
    "a negative carried input": (graph(carried=((-1, 0),)), "graph step: carried pair (-1, 0) is out of range"),
    "a body that gives another type": (
        graph((scan((Value(3, V),), (Constant("1.0", TensorType("float32")),), (X,), (Y,)),)),
        "graph step: body gives f32[] where f32[batch=4] is made",
    ),
    "a body of another type": (
        graph((scan((Value(3, TensorType("float32", (Dim("batch", 5),))),), (Value(3, V),), (X,), (Y,)),)),
        "graph step: body takes f32[batch=5], but is fed f32[batch=4]",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_graph_is_refused(name):
    bad, message = MALFORMED[name]
    with pytest.raises(ir.MalformedGraph) as caught:
        ir.verify(bad)
    assert str(caught.value) == message


REFUSED = {
    "a body with too few inputs": graph((scan((), (), (X,), (Y,)),)),
    "a body with another number of results": graph((scan((Z,), (), (X,), (Y,)),)),
    "a while without its counts": graph(
        (Node("loop", "while", (X,), (Y,), {}, (Graph("condition", (), (), ()), Graph("body", (), (), ()))),)
    ),
    "a loop without a body": graph((Node("loop", "scan", (X,), (Y,), {"carries": 1, "constants": 0}),)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bodies_that_do_not_fit_are_refused(name):
    with pytest.raises(
        ir.MalformedGraph, match="^graph step: the bodies of loop.(scan|while) do not fit its operands and"
    ):
        ir.verify(REFUSED[name])
