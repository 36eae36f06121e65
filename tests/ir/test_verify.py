"""The verifier refuses each way in which a graph can be malformed, and nothing else."""

from dataclasses import replace

import pytest
from step_models import prepared

import ir
from ir.graph import Constant, Graph, Node, Value
from ir.types import Dim, TensorType

V = TensorType("float32", (Dim("batch", 4),))
LONG = TensorType("float32", (Dim("batch", 8),))
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
        graph((replace(ADD, kind="contrcat"),)),
        "graph step: unknown kind 'contrcat'; did you mean `contract`? (a kind is a file in ir/ops and a line in its "
        "registry)",
    ),
    "use before definition": (
        graph((Node("map", "neg", (Y,), (Z,)), ADD)),
        "graph step: map uses %1, which is not defined before it",
    ),
    "defined twice": (graph((ADD, ADD)), "graph step: %1 is defined twice"),
    "an input defined again": (graph((replace(ADD, outputs=(X,)),), outputs=(X,)), "graph step: %0 is defined twice"),
    "an unknown result": (graph(outputs=(Z,)), "graph step: returns %2, which is not defined"),
    "a result of another type than its definition": (
        graph(outputs=(Value(1, LONG),)),
        "graph step: the result uses %1 as f32[batch=8], but it is f32[batch=4]",
    ),
    "a negative size": (
        graph((), (Value(0, TensorType("float32", (Dim("batch", -1),))),), ()),
        "graph step: %0 has the dim batch=-1: sizes are at least 0 and below 2^63",
    ),
    "too few paths": (graph(input_paths=("x", "y")), "graph step: 2 paths for 1 inputs"),
    "a carried input out of range": (graph(carried=((1, 0),)), "graph step: carried pair (1, 0) is out of range"),
    "a carried output out of range": (graph(carried=((0, 1),)), "graph step: carried pair (0, 1) is out of range"),
    "state that changes its size": (
        graph((), (X, Value(1, LONG)), (Value(1, LONG),), carried=((0, 0),)),
        "graph step: carried pair (0, 0) is f32[batch=4] before the step and f32[batch=8] after it: state keeps its "
        "dtype and its sizes",
    ),
    "a body that uses what is outside it": (
        graph((ADD, scan((Z,), (X,), (Y,), (Value(3, V),))), outputs=(Value(3, V),)),
        "graph body: returns %0, which is not defined",
    ),
    "a body defining a value of the outside": (
        graph((scan((X,), (X,), (X,), (Y,)),)),
        "graph body: %0 is defined twice",
    ),
    "an operand of another type than its definition": (
        graph((replace(ADD, inputs=(Value(0, LONG), X)),)),
        "graph step: map uses %0 as f32[batch=8], but it is f32[batch=4]",
    ),
    "too many output paths": (graph(output_paths=("y", "z")), "graph step: 2 paths for 1 outputs"),
    "a negative carried input": (graph(carried=((-1, 0),)), "graph step: carried pair (-1, 0) is out of range"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_graph_is_refused(name):
    bad, message = MALFORMED[name]
    with pytest.raises(ir.MalformedGraph) as caught:
        ir.verify(bad)
    assert str(caught.value) == message


def test_a_node_is_what_its_rule_gives():
    text = """graph step {
  inputs
    %0: f32[batch=32, embed=64]
    %1: f32[embed=64, mlp=8]
  -- forward --
  %2: i8[banana=7] = contract(%0, %1) over=[nowhere=3]  # model.py:3
  %3: i8[banana=7] = map.neg(%2)
  outputs
    %3
}
"""
    assert (
        refusal(text)
        == """graph step: contract: `over` lists nowhere=3, which is not a dim of the first operand; the \
result is i8[banana=7], but with `over=[embed=64]` the rule gives f32[batch=32, mlp=8]
  %0: f32[batch=32, embed=64]
  %1: f32[embed=64, mlp=8]
  %2: i8[banana=7] = contract(%0, %1) over=[nowhere=3]                                    # model.py:3
      ^^^^^^^^^^^^                    ^^^^^^^^^^^^^^^^
  %3: i8[banana=7] = map.neg(%2)"""
    )


def refusal(text):
    with pytest.raises(ir.MalformedGraph) as caught:
        ir.verify(ir.parse(text))
    return str(caught.value)


INPUTS = """    %0: f32[batch=4, embed=8]
    %1: f32[embed=8, mlp=6]
    %2: i32[batch=4, _=1]
    %3: f32[layers=3, embed=8]
    %4: bool[batch=4, embed=8]
    %5: i32[]
    %6: f32[batch=4@data, embed=8]
    %7: f32[batch=4, embed=8] partial(data)
"""


def what_is_wrong(node):
    """The message for a node, without what it shows of the graph."""
    text = f"graph g {{\n  inputs\n{INPUTS}  -- forward --\n  {node}\n}}\n"
    first, *_ = refusal(text).splitlines()
    return first.removeprefix("graph g: ")


WRONG = {
    "%9: f32[embed=8, batch=4] = map.neg(%0)": (
        "map.neg: the result is f32[embed=8, batch=4], but the rule gives f32[batch=4, embed=8]"
    ),
    "%9: f16[batch=4, embed=8] = map.neg(%0)": (
        "map.neg: the result is f16[batch=4, embed=8], but the rule gives f32[batch=4, embed=8]"
    ),
    "%9: f32[batch=4, embed=8] = map.lt(%0, %0)": (
        "map.lt: the result is f32[batch=4, embed=8], but the rule gives bool[batch=4, embed=8]"
    ),
    "%9: f32[batch=4, embed=8] = map.add(%0, %4)": "map.add: an operand of bool where f32 is needed",
    "%9: f32[batch=4, embed=8] = map.add(%0, %1)": (
        "map.add: the operand is f32[batch=4, embed=8], but the rule needs the size 8 at 0"
    ),
    "%9: f32[batch=4, embed=8] = map.add(%0)": "map.add: it takes 2 operands, not 1",
    "%9: f32[batch=4, embed=8], %10: f32[batch=4, embed=8] = map.neg(%0)": "map.neg: it takes 2 operands, not 1",
    "%9: f32[batch=4] = contract(%0, %1) over=[embed=8]": (
        "contract: the result is f32[batch=4], but the rule gives f32[batch=4, mlp=6]"
    ),
    "%9: f32[batch=4, mlp=6] = contract(%0, %1)": "contract: the attribute `over` is missing",
    "%9: f32[batch=4, mlp=6] = contract(%0, %1) over=embed": (
        "contract: `over` must list dims, such as `over=[embed=64]`"
    ),
    "%9: f32[batch=4, mlp=6], %10: f32[batch=4] = attention(%0, %3, %3) over=[embed=8] along=[mlp=6]": (
        "attention: `along` lists mlp=6, which is not a dim of the key"
    ),
    "%9: f32[batch=4], %10: f32[batch=4] = attention(%0, %3, %3) over=[embed=8] along=[layers=3]": (
        "attention: the result is f32[batch=4], but the rule gives f32[batch=4, embed=8]"
    ),
    "%9: f32[batch=4, embed=8], %10: f32[] = attention(%0, %3, %3) over=[embed=8] along=[layers=3]": (
        "attention: the result is f32[], but the rule gives f32|f64[batch=4]"
    ),
    "%9: f32[embed=8] = reduce.sum(%0) over=[embed=8]": (
        "reduce.sum: the result is f32[embed=8], but the rule gives f32[batch=4]"
    ),
    "%9: f32[batch=4] = reduce.argmax(%0) over=[embed=8]": (
        "reduce.argmax: the result is f32[batch=4], but the rule gives i8|i16|i32|i64|u8|u16|u32|u64[batch=4]"
    ),
    "%9: f32[mlp=6, embed=8] = broadcast(%0)": (
        "broadcast: the rule needs the operand's dims in their order, f32[batch=4, embed=8], among those of the result"
    ),
    "%9: f32[seq=4, embed=8] = rename(%0) old=[embed=8, batch=4]": ("rename: the rule gives `old=[batch=4, embed=8]`"),
    "%9: f32[seq=5, embed=8] = rename(%0) old=[batch=4, embed=8]": (
        "rename: the result is f32[seq=5, embed=8], but the rule gives f32[?=4, ?=8]"
    ),
    "%9: f32[batch=4, embed=8] = reshape.transpose(%1)": (
        "reshape.transpose: the rule needs the operand's dims in some order: embed=8, mlp=6"
    ),
    "%9: f32[a=4, b=7] = reshape.reshape(%0) along=[batch=4, embed=8]": (
        "reshape.reshape: the rule needs the 32 elements of f32[batch=4, embed=8]"
    ),
    "%9: f32[batch=4, a=2, b=4] = reshape.reshape(%0) along=[batch=4]": (
        "reshape.reshape: the rule gives `along=[embed=8]`"
    ),
    "%9: f32[batch=5, embed=8] = slice.static(%0) along=[batch=4]": (
        "slice.static: the result is f32[batch=5, embed=8], but the rule gives f32[?=?, embed=8]"
    ),
    "%9: f32[batch=2, embed=8] = slice.static(%0) along=[embed=8]": ("slice.static: the rule gives `along=[batch=4]`"),
    "%9: f32[batch=5, embed=8] = pad(%0, 0.0:f32[]) along=[embed=8]": (
        "pad: the rule needs the size of batch=4, which `along` does not list"
    ),
    "%9: f32[batch=7, embed=8] = concat(%0, %0) along=[batch=4]": (
        "concat: the result is f32[batch=7, embed=8], but the rule gives f32[?=8, embed=8]"
    ),
    "%9: f32[batch=4, mlp=6] = gather.take(%1, %2) along=[mlp=6]": (
        "gather.take: the rule needs the dims of the indices, [batch=4], and between them [embed=8]"
    ),
    "%9: f32[embed=8, mlp=6] = scatter.add(%1, %2, %0) along=[embed=8]": (
        "scatter.add: the rule needs the dims of the indices, [batch=4], and between them [mlp=6]"
    ),
    "%9: i32[batch=4] = iota() along=[embed=8]": "iota: `along` lists embed=8, which is not a dim of the result",
    "%9: f32[batch=4, embed=8] = cumulate.cumsum(%0) along=[mlp=6]": (
        "cumulate.cumsum: `along` lists mlp=6, which is not a dim of the operand"
    ),
    "%9: f32[batch=4, mlp=9], %10: i32[batch=4, mlp=9] = sort.top_k(%0) along=[embed=8]": (
        "sort.top_k: the result is f32[batch=4, mlp=9], but the rule gives f32[batch=4, ?=?]; "
    ),
    "%9: f32[batch=4, embed=8] = linalg.cholesky(%0) along=[mlp=6]": (
        "linalg.cholesky: `along` lists mlp=6, which is not a dim of the operands"
    ),
    "%9: u32[] = random.bits(%5)": "random.bits: an operand of int32 where a key is needed",
    "%9: f32[batch=4, embed=8] = collective.psum(%1) mesh=[data]": (
        "collective.psum: the result is f32[batch=4, embed=8], but the rule gives f32[embed=8, mlp=6]"
    ),
    "%9: f32[batch=4, embed=8] = all_gather(%6) axis=[batch] mesh=[model]": (
        "all_gather: the rule needs a dim to leave the axes of `mesh`, and no more"
    ),
    "%9: f32[batch=4@data, embed=8] = all_reduce(%7) axis=[mlp] mesh=[data]": (
        "all_reduce: the rule needs the reduction over `mesh` to be made, and no dim to move"
    ),
    "%9: f32[batch=4@data, embed=8] = reshard(%0) axis=[batch] mesh=[]": (
        "reshard: `mesh` must list different names, such as `mesh=[data]`"
    ),
    "%9: f32[batch=8, embed=8] = all_reduce(%7) axis=[mlp] mesh=[data]": (
        "all_reduce: the result is f32[batch=8, embed=8], but the rule gives f32[batch=4, embed=8]"
    ),
}


@pytest.mark.parametrize("node", WRONG)
def test_the_rule_of_each_kind_is_run_again(node):
    assert what_is_wrong(node).startswith(WRONG[node])


def test_carets_stand_under_operands_that_are_on_lines_of_their_own():
    operands = ", ".join(["%0"] * 10 + ["%1", "%0"])
    node = f"%9: f32[batch=48, embed=8] = concat({operands}) along=[batch=4]"
    text = f"graph g {{\n  inputs\n{INPUTS}  -- forward --\n  {node}\n}}\n"
    assert refusal(text).splitlines()[3:] == [
        "  %9: f32[batch=48, embed=8] = concat(",
        "    %0, %0, %0, %0, %0, %0, %0, %0, %0, %0,",
        "    %1, %0",
        "    ^^",
        "  ) along=[batch=4]",
    ]


def loop(
    *,
    body="%11",
    carry="f32[embed=8]",
    result="f32[embed=8]",
    sum_="%12",
    attrs="carries=1 constants=0 over=[layers=3] trips=3",
):
    return f"""%9: {result} = loop.scan(%10, %3) {attrs} body {{
    inputs
      %12: {carry}
      %13: f32[embed=8]
    %11: f32[embed=8] = map.add({sum_}, %13)
    outputs
      {body}
  }}"""


BODIES = {
    "a carry of another type": (
        {"carry": "f32[embed=9]", "sum_": "%13"},
        "body takes f32[embed=9], but is fed f32[embed=8]",
    ),
    "a carry of another name": (
        {"carry": "f32[mlp=8]", "sum_": "%13"},
        "body takes f32[mlp=8], but is fed f32[embed=8]",
    ),
    "another result": ({"body": "1.0:f32[]"}, "body gives f32[] where f32[embed=8] is made"),
    "no result": ({"body": ""}, "its bodies do not fit its operands and results (too few results for the carries)"),
    "another number of trips": (
        {"attrs": "carries=1 constants=0 over=[layers=3] trips=4"},
        "the rule needs the size of layers=3",
    ),
    "no counts": ({"attrs": "over=[layers=3] trips=3"}, "`constants` must be a whole number that is not negative"),
    "too many carries": (
        {"attrs": "carries=5 constants=0 over=[layers=3] trips=3"},
        "the rule needs at most 2 constants and carries",
    ),
    "scanned over what is not there": (
        {"attrs": "carries=1 constants=0 over=[banana=3] trips=3"},
        "`over` lists banana=3, which is not a dim of what is scanned over",
    ),
    "a result of another name": (
        {"result": "f32[mlp=8]"},
        "the result is f32[mlp=8], but the rule gives f32[embed=8]",
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_do_not_fit_are_refused(name):
    changed, message = BODIES[name]
    node = "%10: f32[embed=8] = broadcast(0.0:f32[])\n  " + loop(**changed)
    assert what_is_wrong(node).startswith(f"loop.scan: {message}")


def test_a_loop_that_fits_is_well_formed():
    node = "%10: f32[embed=8] = broadcast(0.0:f32[])\n  " + loop()
    ir.verify(ir.parse(f"graph g {{\n  inputs\n{INPUTS}  -- forward --\n  {node}\n}}\n"))


def test_an_axis_mistake_is_no_malformed_graph():
    node = "%2: f32[batch=4] = map.add(%0, %1)"
    ir.verify(ir.parse(f"graph g {{\n  inputs\n    %0: f32[batch=4]\n    %1: f32[mlp=4]\n  {node}\n}}\n"))
