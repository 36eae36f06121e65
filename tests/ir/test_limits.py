"""Graphs that are too deep, too wide or too large: an answer, or an error in words, in no time."""

import re
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from typeguard import suppress_type_checks

import ir
import passes
from haliax import Axis, NamedArray
from ir.graph import Graph, Node, Value
from ir.limits import DEEPEST, LARGEST, MOST_DIMS
from ir.types import Dim, TensorType

TYPE = TensorType("float32", (Dim("embed", 4),))
X = NamedArray(jax.ShapeDtypeStruct((4,), jnp.float32), (Axis("embed", 4),))


def nested(depth: int) -> Graph:
    """A sine within `depth` calls; made from the inside."""
    numbers = iter(range(2 * depth + 2))
    given, made = (Value(next(numbers), TYPE) for _ in range(2))
    graph = Graph("body", (given,), (Node("map", "sin", (given,), (made,)),), (made,))
    for _ in range(depth):
        given, made = (Value(next(numbers), TYPE) for _ in range(2))
        call = Node("call", "checkpoint", (given,), (made,), bodies=(graph,))
        graph = Graph("body", (given,), (call,), (made,))
    return replace(graph, name="step")


def text(depth: int) -> str:
    """The text of such a graph, not indented."""
    lines = ["graph step {", "inputs", "%0: f32[embed=4]"]
    for i in range(depth):
        lines += [
            f"%{2 * i + 1}: f32[embed=4] = call.checkpoint(%{2 * i}) body {{",
            "inputs",
            f"%{2 * i + 2}: f32[embed=4]",
        ]
    lines.append(f"%{2 * depth + 1}: f32[embed=4] = map.sin(%{2 * depth})")
    for i in reversed(range(depth)):
        lines += ["outputs", f"%{2 * i + 3}", "}"]
    return "\n".join([*lines, "outputs", "%1", "}"])


def test_as_deep_as_it_may_be_everything_works():
    with suppress_type_checks():  # which take five times as long, body by body
        graph = ir.parse(text(DEEPEST))
        assert ir.parse(str(ir.verify(graph))) == graph == ir.parse(text(DEEPEST))
        assert passes.check_axes(graph) == graph
        assert str(passes.plan(graph, {"data": 2})).startswith("step on 2 × v5e")
        assert str(passes.run(graph, {"data": 2}).placed).count("call.checkpoint") == DEEPEST
        assert ir.changes(graph, ir.verify(nested(DEEPEST))).text("a", "b")


@pytest.mark.parametrize("depth", [DEEPEST + 1, 3000])
def test_a_text_that_is_too_deep_is_refused(depth):
    with pytest.raises(ir.ParseError) as caught:
        ir.parse(text(depth))
    assert str(caught.value) == (
        "bodies are nested more than 64 deep (line 196, column 44): give one loop or call what several do\n"
        "  196 | %129: f32[embed=4] = call.checkpoint(%128) body {\n"
        "      |                                            ^^^^"
    )


@pytest.mark.parametrize("depth", [DEEPEST + 1, 3000])
def test_a_graph_that_is_too_deep_is_refused(depth):
    graph = nested(depth)
    for function in (ir.verify, str):
        with pytest.raises(ir.MalformedGraph) as malformed:
            function(graph)
        assert str(malformed.value) == "graph step: bodies are nested more than 64 deep"
    for name, function in {
        "canonicalize": passes.canonicalize,
        "check_axes": passes.check_axes,
        "axis_findings": lambda graph: list(passes.axis_findings(graph)),
        "plan": lambda graph: passes.plan(graph, {"data": 2}),
        "run": lambda graph: passes.run(graph, {"data": 2}),
    }.items():
        with pytest.raises(passes.PlanError) as refused:
            function(graph)
        assert str(refused.value) == f"passes.{name}: bodies of the graph step are nested more than 64 deep"


def wrapped(wrap, depth):
    """A sine within `depth` of something, the step's own function outermost."""

    def step(x):
        inner = jnp.sin
        for _ in range(depth):
            inner = wrap(inner)
        return inner(x.array)

    return step


SHARDED = jax.sharding.SingleDeviceSharding(jax.devices()[0])
WRAPPED = {
    "checkpoint": lambda inner: jax.checkpoint(lambda x: inner(x)),
    "jit": lambda inner: jax.jit(lambda x: inner(x)),
    "jit with shardings": lambda inner: jax.jit(lambda x: inner(x), in_shardings=SHARDED),
    "loop": lambda inner: lambda x: jax.lax.scan(lambda carry, _: (inner(carry), None), x, None, 2)[0],
    "branch": lambda inner: lambda x: jax.lax.cond(x[0] > 0, inner, jnp.cos, x),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_step_that_is_nested_beyond_what_python_allows_is_refused(kind):
    with pytest.raises(ir.TooDeep) as caught:
        ir.trace(wrapped(WRAPPED[kind], 3000), X)
    assert str(caught.value) == (
        "`step` could not be traced within Python's limit of calls within calls: it calls itself without end, or "
        "functions (`jit`, `checkpoint`, loops) are nested too deep; write what repeats as one loop (`jax.lax.scan`)"
    )


def test_a_step_with_more_bodies_than_a_graph_may_have_is_refused():
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        with pytest.raises(ir.TooDeep) as caught:
            ir.trace(wrapped(jax.checkpoint, DEEPEST + 1), X)
        assert str(ir.trace(wrapped(jax.checkpoint, DEEPEST), X)).count("call.checkpoint") == DEEPEST
    finally:
        sys.setrecursionlimit(before)
    assert re.fullmatch(
        r"loops, branches and calls are nested more than 64 deep \(test_limits\.py:\d+\): write what repeats as one "
        r"loop \(`jax\.lax\.scan`, `hax\.scan`\) instead of one inside the other",
        str(caught.value),
    )


def step_text(dims: str) -> str:
    return (
        f"graph step {{\n  inputs\n    %0: f32[{dims}]\n"
        f"  %1: f32[] = reduce.sum(%0) over=[{dims}]\n  outputs\n    %1\n}}\n"
    )


def test_a_list_of_very_many_dims_is_refused():
    assert ir.verify(ir.parse(step_text(", ".join(["_=2"] * MOST_DIMS))))
    with pytest.raises(ir.ParseError) as caught:
        ir.parse(step_text(", ".join(f"a{i}=2" for i in range(50_000))))
    assert str(caught.value).startswith(
        "more than 64 dims in one list (line 3, column 451): a value has at most 64 dims: merge some of them\n"
    )
    with pytest.raises(ir.ParseError, match="^more than 64 dims in one list "):
        ir.parse(step_text("a=2").replace("over=[a=2]", f"over=[{', '.join(['a=2'] * 50_000)}]"))


@pytest.mark.parametrize("number", [str(LARGEST + 1), str(10**20), "9" * 5000])
@pytest.mark.parametrize("place", ["[a=2]", "%1:", "over=["])
def test_a_number_that_is_too_large_is_refused(number, place):
    changed = {"[a=2]": f"[a={number}]", "%1:": f"%{number}:", "over=[": f"trips={number} over=["}
    changed_text = step_text("a=2").replace(place, changed[place], 1)
    if place == "over=[" and len(number) < 1000:  # the attribute of an op may be any number
        assert ir.parse(changed_text).nodes[0].attrs["trips"] == int(number)
        return
    with pytest.raises(ir.ParseError) as caught:
        ir.parse(changed_text)
    assert re.match(
        r"a whole number that is too large \(line \d, column \d+\): sizes, positions and numbers of values lie below "
        r"2\^63, about 9\.2e18\n",
        str(caught.value),
    )


def test_a_size_that_no_array_has_is_refused():
    dim = Dim("a", 10**20)
    value = Value(0, TensorType("float32", (dim,)))
    with pytest.raises(ir.MalformedGraph) as malformed:
        ir.verify(Graph("step", (value,), (), (value,)))
    assert str(malformed.value) == (
        "graph step: %0 has the dim a=100000000000000000000: sizes are at least 0 and below 2^63"
    )
    for shape in ((10**20,), (1,) * (MOST_DIMS + 1)):
        with pytest.raises(ValueError) as traced:
            ir.trace(lambda state: jnp.sin(state["x"]), {"x": jax.ShapeDtypeStruct(shape, jnp.float32)})
        assert str(traced.value) == (
            "the argument `state.x` is too large: an array has at most 64 dims, each smaller than 2^63"
        )


def test_what_is_too_large_or_has_too_many_axes_to_plan_is_refused():
    with pytest.raises(passes.PlanError) as caught:
        passes.plan(ir.parse(step_text(f"a={10**18}, b={10**18}")), {"data": 2})
    assert str(caught.value) == (
        "the value %0 has about 2^119 elements, and costs are counted up to 2^63: no mesh "
        "holds it; make its axes smaller"
    )
    with pytest.raises(passes.PlanError) as caught:
        passes.plan(ir.parse(step_text(", ".join(f"a{i}=2" for i in range(MOST_DIMS)))), {"data": 2})
    assert str(caught.value) == (
        "one operation has 64 axes that could be sharded (a0, a1, a10, …), and at most 14 are compared: merge some of "
        "its axes"
    )
