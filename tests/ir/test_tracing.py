"""Staging: where names come from, what marks do and do not do, paths, carried state, phases."""

from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.extend.core import jaxprs_in_params
from step_models import prepared, shaped, step_of, traced
from typeguard import suppress_type_checks

import haliax as hax
import ir
from haliax import Axis, NamedArray
from haliax.core.staging import is_staging, mark, staging
from passes.check_axes import axis_findings

BE = shaped("batch embed", 4, 4)
STEPS = ("raw", "named", "named_checkpoint", "mlp")


def equations(function, *arguments) -> Counter:
    """How often each primitive occurs, bodies included."""
    found: Counter = Counter()

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            found[equation.primitive.name] += 1
            for body in jaxprs_in_params(equation.params):
                walk(body)

    walk(jax.make_jaxpr(function)(*arguments).jaxpr)
    return found


@pytest.mark.parametrize("name", ["raw", "named", "named_checkpoint"])
def test_nearly_every_dim_of_a_step_has_a_name(name):
    dims = [dim for value in traced(name).values() for dim in value.type.dims if dim.size > 1]
    named = [dim for dim in dims if dim.name is not None]
    assert len(dims) > 1000
    assert len(named) / len(dims) >= 0.99
    # What is left are scalars spread for a moment; every input and every result of the step is named.
    graph = traced(name)
    for operand in (*graph.inputs, *graph.outputs):
        assert all(dim.name for dim in operand.type.dims), operand


@pytest.mark.parametrize("name", STEPS)
def test_a_right_step_has_no_axis_error_and_nothing_opaque(name):
    graph = traced(name)
    assert axis_findings(graph) == []
    assert [node.fn for node in graph.walk() if node.kind == "opaque"] == []
    ir.verify(graph)


@pytest.mark.parametrize("name", STEPS)
def test_the_text_of_a_step_comes_back(name):
    graph = prepared(name)
    with suppress_type_checks():  # tests/ir/test_text.py has them on
        text = str(graph)
        parsed = ir.parse(text)
        again = str(parsed)
    assert parsed == graph
    assert again == text


@pytest.mark.parametrize("name", STEPS)
def test_tracing_again_gives_the_same_text(name):
    assert str(ir.trace(*step_of(name))) == str(traced(name))


@pytest.mark.parametrize("name", STEPS)
def test_sources_are_the_users_lines(name):
    files = Counter(node.source.file for node in traced(name).walk() if node.source is not None)
    missing = [node for node in traced(name).walk() if node.source is None]
    own = {"raw": {"step_models.py"}, "mlp": {"step_models.py"}}.get(
        name,
        {
            *("gpt2.py", "loss.py", "state.py", "places.py", "adamw.py", "schedule.py", "rng.py", "step_models.py"),
            "norm.py",
        },
    )
    assert set(files) <= own
    assert not missing


# Marks.


def test_a_mark_names_what_arguments_do_not():
    plain = jax.ShapeDtypeStruct((4, 5), jnp.float32)
    graph = ir.trace(lambda x: hax.named(x * 2, ("a", "b")), plain)
    assert [str(value.type) for value in graph.values()] == ["f32[a=4, b=5]"] * 2
    assert [node.fn for node in graph.nodes] == ["mul"]  # the mark itself is gone


def test_marks_work_under_grad():
    plain = jax.ShapeDtypeStruct((4, 5), jnp.float32)
    graph = ir.trace(jax.grad(lambda x: (hax.named(x, ("a", "b")) ** 2).sum().scalar()), plain)
    assert {value.type.names for value in graph.values() if value.type.dims} == {("a", "b")}


def test_marks_work_under_vmap():
    plain = jax.ShapeDtypeStruct((4, 5), jnp.float32)
    graph = ir.trace(jax.vmap(lambda x: hax.named(x, ("a",)).array + 1), plain)
    assert [str(value.type) for value in graph.values()] == ["f32[_=4, a=5]"] * 2
    graph = ir.trace(jax.vmap(lambda x: hax.named(x, ("a",)).array + 1, in_axes=1, out_axes=1), plain)
    assert [str(value.type) for value in graph.values()] == ["f32[a=4, _=5]"] * 2


def test_marks_work_under_jit_scan_and_checkpoint():
    def body(carry, row):
        return carry + hax.named(row, ("a",)).array, None

    def step(x):
        return jax.jit(jax.checkpoint(lambda y: lax.scan(body, jnp.zeros(5), y)[0]))(x)

    graph = ir.trace(step, jax.ShapeDtypeStruct((4, 5), jnp.float32))
    assert graph.inputs[0].type.names == ("a",) and graph.inputs[0].type.dims[0].name is None
    assert graph.outputs[0].type.names == ("a",)


def test_a_rename_is_a_cut():
    graph = ir.trace(lambda x: x.rename({"embed": "other"}) * 2, BE)
    (rename, mul) = graph.nodes
    assert (rename.kind, rename.names("old")) == ("rename", ("batch", "embed"))
    assert rename.value_inputs[0].type.names == ("batch", "embed")
    assert rename.outputs[0].type.names == mul.outputs[0].type.names == ("batch", "other")


def test_a_rename_is_undone_by_its_transpose():
    graph = ir.trace(jax.grad(lambda x: (x.rename({"embed": "other"}) * 2).sum().scalar()), BE)
    renames = [
        (node.value_inputs[0].type.names, node.outputs[0].type.names, node.phase)
        for node in graph.nodes
        if node.kind == "rename"
    ]
    assert renames == [
        (("batch", "embed"), ("batch", "other"), "forward"),
        (("batch", "other"), ("batch", "embed"), "backward"),
    ]


def test_a_rename_under_vmap_keeps_the_batched_dim():
    x = shaped("batch embed", 4, 5)
    graph = ir.trace(
        lambda x: jax.vmap(lambda row: NamedArray(row, (Axis("embed", 5),)).rename({"embed": "other"}).array)(x.array),
        x,
    )
    assert graph.outputs[0].type.names == ("batch", "other")


def test_outside_staging_there_are_no_marks():
    x = jnp.ones((4, 4))

    def function(x):
        return hax.named(x, ("a", "b")).rename({"a": "c"}).array * 2

    assert equations(function, x) == {"mul": 1}
    assert not is_staging()
    with staging():
        assert is_staging()
        assert equations(function, x)["named"] >= 1
    assert equations(function, x) == {"mul": 1}


def test_staging_ends_where_the_step_raises():
    with pytest.raises(ZeroDivisionError):
        ir.trace(lambda x: 1 // 0, BE)
    assert not is_staging()


@pytest.mark.parametrize("first", ["inside", "outside"])
def test_the_jit_cache_knows_about_staging(first):
    """A function jitted before or after being staged is traced again, with or without marks."""
    function = jax.jit(lambda x: mark(x, ("a", "b")) * 2)
    plain = jax.ShapeDtypeStruct((4, 5), jnp.float32)

    def outside():
        assert equations(function, plain)["named"] == 0
        assert "named" not in function.lower(plain).as_text()

    if first == "outside":
        outside()
    assert ir.trace(lambda x: function(x), plain).outputs[0].type.names == ("a", "b")
    outside()


def test_marks_cost_nothing_in_a_compiled_program():
    def step(x):
        return (x.rename({"embed": "other"}) * 2).array

    def plain(x):
        return x.array * 2

    x = hax.ones((Axis("batch", 4), Axis("embed", 4)))
    assert jax.jit(step).lower(x).as_text().replace("step", "") == jax.jit(plain).lower(x).as_text().replace(
        "plain", ""
    )


# Paths and carried state.


def test_paths_say_where_values_stand():
    def step(state, batch, *rest):
        return {"w": state["w"] + 1, "b": state["b"]}, (batch[0].array.sum(),)

    state = {"w": shaped("embed", 4), "b": jax.ShapeDtypeStruct((), jnp.float32)}
    graph = ir.trace(step, state, [BE, {"x": BE}], BE)
    assert graph.name == "step"
    assert graph.input_paths == ("state.b", "state.w", "batch.0", "batch.1.x", "argument2")
    assert graph.output_paths == ("0.b", "0.w", "1.0")
    assert graph.carried == ((0, 0), (1, 1))


def test_state_alone_is_carried():
    graph = ir.trace(lambda state: {"w": state["w"] * 2}, {"w": BE})
    assert graph.carried == ((0, 0),)


def test_another_structure_is_not_carried():
    graph = ir.trace(lambda state, x: (state["w"] * 2, x), {"w": BE}, BE)
    assert graph.carried == ()


def test_a_number_that_is_no_state_is_not_carried():
    """A function of an array that returns a number has the same tree before and after: a single leaf."""
    graph = ir.trace(lambda x, y: x.sum() + y.array.sum(), jax.ShapeDtypeStruct((4,), jnp.float32), BE)
    assert graph.carried == ()


def test_a_named_tuple_of_state_is_carried():
    class State(NamedTuple):
        w: NamedArray
        step: Any

    state = State(BE, jax.ShapeDtypeStruct((), jnp.int32))
    graph = ir.trace(lambda state: State(state.w * 2, state.step + 1), state)
    assert graph.carried == ((0, 0), (1, 1))
    assert ir.trace(lambda state: (State(state.w * 2, state.step + 1), 1.0), state).carried == ((0, 0), (1, 1))


def test_state_that_changes_its_names_is_still_state():
    """So that `passes.check_axes` can say so."""
    graph = ir.trace(lambda state: {"w": state["w"].rename({"embed": "mlp"})}, {"w": BE})
    assert graph.carried == ((0, 0),)


def test_the_paths_of_a_real_step():
    graph = traced("named")
    assert "state.model.embeddings.tokens.weight" in graph.input_paths
    assert graph.input_paths[-2:] == ("batch.tokens", "batch.targets")
    assert graph.output_paths[-3:] == ("1.grad_norm", "1.learning_rate", "1.loss")
    assert len(graph.carried) == len(graph.inputs) - 2
    for before, after in graph.carried:
        assert graph.inputs[before].type == graph.outputs[after].type
        assert graph.input_paths[before].removeprefix("state.") == graph.output_paths[after].removeprefix("0.")


# Phases.


def test_the_phases_of_a_small_step():
    graph = traced("mlp")
    phases = [(node.phase, f"{node.kind}.{node.fn}".rstrip(".")) for node in graph.nodes]
    assert {name for phase, name in phases if phase == "forward"} >= {"contract", "reduce.sum"}
    backward = [name for phase, name in phases if phase == "backward"]
    assert backward.count("contract") == 3  # one for each parameter, one for the hidden activations
    assert [name for phase, name in phases if phase == "update"] == ["map.mul", "map.sub"] * 2
    order = [phase for phase, _ in phases]
    assert order == sorted(order, key=("forward", "backward", "update").index)


@pytest.mark.parametrize("name", ["raw", "named", "named_checkpoint"])
def test_the_phases_of_a_real_step(name):
    graph = traced(name)
    makers = {value.id: node for node in graph.nodes for value in node.outputs}
    for path, operand in zip(graph.output_paths, graph.outputs, strict=True):
        if path.startswith("0."):
            assert makers[operand.id].phase == "update", path
        elif path == "1.loss":
            assert makers[operand.id].phase == "forward"
    loops = [node.phase for node in graph.nodes if node.kind == "loop"]
    assert loops == ["forward", "backward"]
    for node in graph.walk():
        for body in node.bodies:
            assert {inner.phase for inner in body.walk()} <= {node.phase}


def test_a_step_without_a_backward_pass_is_forward():
    graph = ir.trace(lambda state, x: {"w": state["w"] + x.array.sum()}, {"w": BE}, BE)
    assert {node.phase for node in graph.nodes} == {"forward"}
