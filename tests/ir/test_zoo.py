"""The model zoo: whole training steps of many kinds, each named, checked, printed, lowered and laid out.

`tests/ir/zoo` holds a model a file. What is said of a graph is said of the canonical one, without dead code: that is
what is planned and lowered.
"""

import importlib
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import equinox
import jax
import numpy as np
import optax
import pytest
from typeguard import suppress_type_checks
from zoo.reading import reading
from zoo.training import Step, arguments

import ir
import passes
from ir.graph import Graph
from passes import Plan

MODELS = (
    "gpt2",
    "llama",
    "moe_einsum",
    "moe_sort",
    "vit",
    "unet",
    "encoder_decoder",
    "lstm",
    "lora",
    "plain_equinox",
)
WRITTEN_WITH = {"jax": "0.10.2", "optax": "0.2.8", "equinox": "0.13.8"}
"""The libraries whose steps the golden files and the table in the docs show; others write their steps another way."""
HURRIED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Options of the compiler that leave out optimization."""
ONE_DEVICE = Plan.by_hand({"data": 1}, {})
DOCS = Path(__file__).parents[2] / "docs" / "ir.md"

versions = {"jax": jax.__version__, "optax": optax.__version__, "equinox": equinox.__version__}
as_written = pytest.mark.skipif(versions != WRITTEN_WITH, reason=f"written with {WRITTEN_WITH}")


class Share(NamedTuple):
    """How much of a graph has names; dims of size 1 do not count."""

    operations: int
    dims: int
    named: int

    @staticmethod
    def of(graph: Graph) -> "Share":
        dims = [dim for value in graph.values() for dim in value.type.dims if dim.size > 1]
        return Share(sum(1 for _ in graph.walk()), len(dims), sum(dim.name is not None for dim in dims))


@cache
def step_of(name: str) -> Step:
    return importlib.import_module(f"zoo.{name}").build()


@cache
def graph_of(name: str) -> Graph:
    with suppress_type_checks():  # tests of single rules and passes run with the checks on; here they would take long
        return ir.verify(passes.canonicalize(ir.trace(*step_of(name))))


@cache
def results_of(name: str, options: tuple[str, ...]) -> list[np.ndarray]:
    """Every array that two steps of `jax.jit` leave, with these options of `HURRIED`."""
    step = step_of(name)
    plain = jax.jit(step.function).lower(step.state, step.batch)
    return two_steps(plain.compile({key: HURRIED[key] for key in options}), step)


def two_steps(function, step: Step) -> list[np.ndarray]:
    state, batch = arguments(step)
    first, seen = function(state, batch)
    return [np.asarray(leaf) for leaf in jax.tree.leaves((seen, function(first, batch)))]


@pytest.mark.parametrize("name", MODELS)
def test_nearly_every_dim_has_a_name(name):
    share = Share.of(graph_of(name))
    assert share.named >= 0.99 * share.dims


@pytest.mark.parametrize("name", MODELS)
def test_every_input_and_result_has_names(name):
    graph = graph_of(name)
    for operand in (*graph.inputs, *graph.outputs):
        assert all(dim.name for dim in operand.type.dims if dim.size > 1), operand


@pytest.mark.parametrize("name", MODELS)
def test_every_primitive_has_a_rule(name):
    assert [node.fn for node in graph_of(name).walk() if node.kind == "opaque"] == []


@pytest.mark.parametrize("name", MODELS)
def test_there_is_no_false_alarm(name):
    with suppress_type_checks():
        assert list(passes.axis_findings(graph_of(name))) == []


@pytest.mark.parametrize("name", MODELS)
def test_the_text_comes_back(name):
    with suppress_type_checks():
        assert ir.parse(str(graph_of(name))) == graph_of(name)


@as_written
@pytest.mark.parametrize("name", MODELS)
def test_golden(name, golden):
    with suppress_type_checks():
        # Where a line stands in a file is no part of what a graph says.
        text = re.sub(r"(# [\w.]+):\d+$", r"\1", str(graph_of(name)), flags=re.MULTILINE)
        golden(reading(graph_of(name), text), f"zoo/{name}.txt")


@as_written
def test_the_table_in_the_docs_is_what_was_measured():
    stated = re.findall(r"^\| `(\w+)` \|[^|]*\| (\d+) \| (\d+) \| (\d+) \|", DOCS.read_text(encoding="utf-8"), re.M)
    assert {name: Share(*map(int, numbers)) for name, *numbers in stated} == {
        name: Share.of(graph_of(name)) for name in MODELS
    }


SLOW_TO_OPTIMIZE = ("encoder_decoder", "llama", "moe_einsum", "plain_equinox", "vit")
OPTIMIZED = [
    *((name, {}) for name in MODELS if name not in SLOW_TO_OPTIMIZE),
    *((name, HURRIED) for name in SLOW_TO_OPTIMIZE),
    *(pytest.param(name, {}, marks=pytest.mark.slow) for name in SLOW_TO_OPTIMIZE),
]


@pytest.mark.parametrize(("name", "options"), OPTIMIZED)
def test_on_one_device_it_is_the_step_bit_for_bit(name, options):
    step = step_of(name)
    with suppress_type_checks():
        lowered = passes.lower(graph_of(name), ONE_DEVICE).lower(step.state, step.batch)
        ours = two_steps(lowered.compile(options), step)
    for mine, plain in zip(ours, results_of(name, tuple(options)), strict=True):
        assert (mine.dtype, mine.shape, mine.tobytes()) == (plain.dtype, plain.shape, plain.tobytes())
        assert np.isfinite(plain).all()


@pytest.mark.parametrize("name", MODELS)
def test_it_can_be_planned(name):
    with suppress_type_checks():
        plan = passes.plan(graph_of(name), {"data": 2, "model": 2})
    assert plan.search.optimal
    assert plan.search.plans > 1000


SPREAD = {
    "llama": {"mlp": ("model",), "kv_heads": ("model",), "vocab": ("model",)},
    "moe_einsum": {"expert": ("model",), "vocab": ("model",)},
    "vit": {"mlp": ("model",), "heads": ("model",), "classes": ("model",)},
    "plain_equinox": {"mlp": ("model",), "latent": ("model",), "vocab": ("model",)},
}
"""By model, what lies on `model`. The batch lies on `data`, and so does `embed` at rest."""


@pytest.mark.parametrize("name", SPREAD)
def test_on_four_devices_it_computes_the_same(name):
    step = step_of(name)
    plan = Plan.by_hand({"data": 2, "model": 2}, {"batch": ("data",), **SPREAD[name]}, {"embed": ("data",)})
    with suppress_type_checks():
        program = passes.lower(graph_of(name), plan, jax.devices()[:4]).lower(step.state, step.batch)
        compiled = program.compile(HURRIED)
        shardings = compiled.input_shardings[0]
        state, batch = jax.device_put(arguments(step), shardings)
        first, seen = compiled(state, batch)
        spread = [np.asarray(leaf) for leaf in jax.tree.leaves((seen, compiled(first, batch)))]
    for mine, plain in zip(spread, results_of(name, tuple(HURRIED)), strict=True):
        np.testing.assert_allclose(mine, plain, rtol=2e-3, atol=2e-5)
