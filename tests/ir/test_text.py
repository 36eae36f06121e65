"""The text form: every graph comes back from its text, and the text is what a reader expects."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ir.graph import Constant, Graph, Node, Source, Value
from ir.text.parse import parse
from ir.text.print import print_graph, print_node, print_type
from ir.text.tokens import quote, unquote
from ir.types import Dim, TensorType

SCALAR = TensorType("float32")


def tensor(*dims, dtype="float32", partial=()):
    """`tensor(("batch", 32), ("embed", 64, ("data",)))`."""
    return TensorType(dtype, tuple(Dim(*dim) for dim in dims), partial)


def round_trip(graph):
    """The text of a graph that comes back equal, attribute types included, and prints the same again."""
    text = print_graph(graph)
    back = parse(text)
    assert back == graph
    assert print_graph(back) == text
    for ours, theirs in zip(back.walk(), graph.walk(), strict=True):
        assert repr(sorted(ours.attrs.items())) == repr(sorted(theirs.attrs.items()))
    return text


def training_step():
    x, w, hidden, loss = (
        Value(0, tensor(("batch", 32), ("embed", 64))),
        Value(1, tensor(("mlp", 256), ("embed", 64))),
        Value(2, tensor(("batch", 32), ("mlp", 256))),
        Value(3, SCALAR),
    )
    inner, outer = Value(4, tensor(("batch", 32), ("mlp", 256))), Value(5, tensor(("batch", 32), ("mlp", 256)))
    total, new = Value(6, SCALAR), Value(7, tensor(("mlp", 256, ("model",)), ("embed", 64, ("replica", "data"))))
    tanh = Node("map", "tanh", (inner,), (outer,), source=Source("model.py", 9))
    body = Graph("body", (inner,), (tanh,), (outer,), (), (), ((0, 0),))
    scanned = (Value(8, hidden.type), loss)
    return Graph(
        "step",
        (w, x),
        (
            Node("contract", "", (x, w), (hidden,), {"over": (Dim("embed", 64),)}, source=Source("model.py", 12)),
            Node("loop", "scan", (hidden,), scanned, {"trips": 4}, (body,), source=Source("a.py", 1)),
            Node("opaque", "debug_callback", (loss,), ()),
            Node("reduce", "sum", (loss,) * 12, (total,), {}, (), "backward", Source("model.py", 13)),
            Node("map", "mul", (w, Constant("-1e-08", SCALAR)), (new,), {}, (), "update"),
        ),
        (new, total, loss),
        ("state.weight", "batch.inputs[0]['x']"),
        ("state.weight", "loss", "the rest"),
        ((0, 0), (1, 1), (0, 2)),
    )


def test_the_text_of_a_step():
    assert (
        round_trip(training_step())
        == """\
graph step {
  inputs
    %1: f32[mlp=256, embed=64]                          state.weight
    %0: f32[batch=32, embed=64]                         batch.inputs[0]['x']
  -- forward --
  %2: f32[batch=32, mlp=256] = contract(%0, %1) over=[embed=64]                         # model.py:12
  %8: f32[batch=32, mlp=256],
  %3: f32[] = loop.scan(%2) trips=4 body {                                              # a.py:1
    inputs
      %4: f32[batch=32, mlp=256]
    %5: f32[batch=32, mlp=256] = map.tanh(%4)                                           # model.py:9
    outputs
      %5
    carried
      inputs 0 -> outputs 0
  }
  opaque.debug_callback(%3)
  -- backward --
  %6: f32[] = reduce.sum(
    %3, %3, %3, %3, %3, %3, %3, %3, %3, %3,
    %3, %3
  )                                                                                     # model.py:13
  -- update --
  %7: f32[mlp=256@model, embed=64@replica,data] = map.mul(%1, -1e-08:f32[])
  outputs
    %7                                                  state.weight
    %6                                                  loss
    %3                                                  "the rest"
  carried
    inputs 0..1 -> outputs 0..1
    inputs 0 -> outputs 2
}
"""
    )


def test_str_of_a_graph_is_its_text():
    assert str(training_step()) == print_graph(training_step())


def test_an_added_node_changes_no_other_line():
    graph = training_step()
    long = Value(99, tensor(*((f"a_rather_long_name_{i}", 10**i) for i in range(6))))
    added = Node("iota", "", (), (long,), source=Source("a_file_with_a_long_name.py", 12345))
    before = print_graph(graph).splitlines()
    after = print_graph(graph.with_nodes((graph.nodes[0], added, *graph.nodes[1:]))).splitlines()
    assert len(after) == len(before) + 1
    assert [line for line in after if "%99" not in line] == before


def test_equal_graphs_have_equal_texts_whatever_the_order_of_attributes():
    def with_attrs(attrs):
        return Graph("g", (), (Node("iota", "", (), (), attrs),), ())

    first, second = with_attrs({"b": 1, "a": (2, 3)}), with_attrs({"a": (2, 3), "b": 1})
    assert first == second and print_graph(first) == print_graph(second)


def test_one_node_and_one_type():
    node = training_step().nodes[1]
    assert print_node(node) == "%8: f32[batch=32, mlp=256],\n%3: f32[] = loop.scan(%2) trips=4" + " " * 55 + "# a.py:1"
    assert print_type(tensor((None, 3), ("batch", 4, ("data",)), dtype="bfloat16", partial=("model", "data"))) == (
        "bf16[_=3, batch=4@data] partial(model, data)"
    )


@pytest.mark.parametrize("text", ["1.0", "-inf", "nan", "inf", "True", "1e-08", "(1+2j)", "(nan+infj)", "-0j", "3", ""])
def test_constants(text):
    constant = Constant(text, tensor(dtype="complex64"))
    graph = Graph("g", (), (Node("map", "neg", (constant,), (Value(0, SCALAR),)),), (constant, Value(0, SCALAR)))
    assert round_trip(graph).count('"') == (0 if text else 4)


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        1,
        0,
        -7,
        1.0,
        -0.0,
        1e300,
        0.1,
        math.inf,
        -math.inf,
        math.nan,
        "fill",
        "true",
        "inf",
        "1",
        "",
        "a b",
        "_",
    ]
    + [(), (1, 2), (True,), ("a", "true", "_", "b c"), ('say "hi"\n',)]
    + [
        (Dim("a", 2),),
        (Dim(None, 3), Dim("_", 4), Dim("", 5)),
        (Dim("a", 2, ("x", "y z", "_")), Dim("b c", 3, ("w",))),
    ],
)
def test_attributes_keep_their_type(value):
    round_trip(Graph("g", (), (Node("slice", "", (), (), {"key": value, "odd key": value}),), ()))


@pytest.mark.parametrize("dtype", ["float32", "f32", "key<fry>", "key<odd impl>", "float8_e4m3fn", "", "_", "float0"])
def test_dtypes(dtype):
    round_trip(Graph("g", (Value(0, tensor(("a", 1), dtype=dtype)),), (), ()))


@pytest.mark.parametrize(
    "path",
    ["", "a.b", "[0]['x']", "partial", "partial(x)", "=", ",", ":f32[]", "%3", "a b", " a", "#", 'a"', "é\n\x00\ud800"],
)
def test_paths_and_files(path):
    value = Value(0, tensor(("a", 2)))
    node = Node("map", "", (value,), (Value(1, value.type),), source=Source(path, 3))
    round_trip(Graph(path, (value,), (node,), (value, Value(1, value.type)), (path,), (path, path)))


def test_graphs_without_something():
    assert round_trip(Graph("nothing", (), (), ())) == "graph nothing {\n}\n"
    empty = Graph("", (), (), ())
    round_trip(Graph("g", (), (Node("branch", "", (), (), {}, (empty, empty)),), ()))
    round_trip(Graph("g", (Value(1, SCALAR), Value(2, SCALAR)), (), (Value(1, SCALAR),), ("only the first",)))


def test_a_broken_graph_still_prints_and_comes_back():
    """Values that nothing defines, or defines with another type, or out of reach of a body, show their type."""
    here, gone, retyped = Value(0, SCALAR), Value(1, tensor(("a", 2))), Value(0, tensor(("b", 3)))
    body = Graph("body", (), (Node("iota", "", (here,), (Value(2, SCALAR),)),), (Value(2, SCALAR),))
    nodes = (Node("call", "", (here, gone, retyped), (), {}, (body,)), Node("map", "", (Value(2, SCALAR),), (gone,)))
    text = round_trip(Graph("g", (here,), nodes, (gone, retyped)))
    assert "call(%0, %1:f32[a=2], %0:f32[b=3])" in text
    assert "iota(%0:f32[])" in text
    assert "map(%2:f32[])" in text


def test_what_has_no_text_says_so():
    graph = training_step()
    with pytest.raises(ValueError) as too_many:
        print_graph(replace(graph, input_paths=("a", "b", "c")))
    assert str(too_many.value) == (
        "3 paths for 2 inputs (graph `step`): give at most one path per value, in the same order"
    )
    node = Node("map", "add", (), (), {"mixed": (Dim("a", 2), "b")})  # type: ignore[dict-item]
    with pytest.raises(TypeError) as no_form:
        print_graph(graph.with_nodes((node,)))
    assert str(no_form.value) == (
        "no text form for a tuple (attribute `mixed` of `map.add`): "
        "use str, int, float, bool, or a tuple of one of these or of Dim"
    )


# --- random graphs --------------------------------------------------------------------------------------------------

words = st.sampled_from(["batch", "embed", "_", "true", "inf", "partial", "inputs", "graph", "é", "a b", ""])
texts = words | st.text(max_size=6)
sizes = st.integers(0, 2**40)
dims = st.builds(Dim, st.none() | texts, sizes, st.lists(texts, max_size=2).map(tuple))
types = st.builds(
    TensorType,
    st.sampled_from(["float32", "bool", "bfloat16", "key<fry>", "f32"]) | texts,
    st.lists(dims, max_size=3).map(tuple),
    st.lists(texts, max_size=2).map(tuple),
)
floats = st.floats().map(lambda x: math.nan if math.isnan(x) else x)  # one nan object, for nan is not equal to itself
scalars = texts | st.integers() | floats | st.booleans()
attributes = scalars | st.one_of(
    st.lists(element, max_size=3).map(tuple) for element in (st.integers(), texts, dims, st.booleans())
)
complexes = st.complex_numbers().map(repr)
constants = st.builds(Constant, texts | floats.map(repr) | st.integers().map(str) | complexes, types)
sources = st.none() | st.builds(Source, texts, st.integers(-5, 10**6))
pairs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=4).map(tuple)


@st.composite
def graphs(draw, depth=2, counter=None, scope=()):
    """A graph whose values are numbered uniquely. Bodies may use values from around them, which show their type."""
    counter = counter if counter is not None else iter(draw(st.permutations(range(200))))
    scope = list(scope)

    def fresh(most):
        return tuple(Value(next(counter), draw(types)) for _ in range(draw(st.integers(0, most))))

    def operands(most):
        known = st.sampled_from(scope) if scope else constants
        return tuple(draw(st.lists(known | constants, max_size=most)))

    inputs = fresh(3)
    scope += inputs
    nodes = []
    for _ in range(draw(st.integers(0, 3))):
        bodies = [draw(graphs(depth - 1, counter, scope)) for _ in range(draw(st.integers(0, 2)) if depth else 0)]
        node = Node(
            draw(texts),
            draw(texts),
            operands(13),
            fresh(3),
            draw(st.dictionaries(texts, attributes, max_size=3)),
            tuple(bodies),
            draw(st.sampled_from(["forward", "backward", "update"])),
            draw(sources),
        )
        scope += node.outputs
        nodes.append(node)
    outputs = operands(3)
    input_paths = draw(st.just(()) | st.tuples(*[texts] * len(inputs)))
    output_paths = draw(st.just(()) | st.tuples(*[texts] * len(outputs)))
    return Graph(draw(texts), inputs, tuple(nodes), outputs, input_paths, output_paths, draw(pairs))


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_any_graph_comes_back(graph):
    text = round_trip(graph)
    assert all(line.isprintable() for line in text.split("\n")), "one line break is one line, for every reader"


@given(st.text())
def test_any_text_can_be_quoted(text):
    assert unquote(quote(text)) == text
