"""Every function of jax.numpy, jax.lax, jax.nn, jax.scipy.special and their neighbours that makes sense on named
operands, and what JAX makes of its gradient: known to a rule, named as it should be, and lowered to the same bits.

The functions are in tests/ir/coverage/*.txt, one expression a line.
"""

import re
import types
from functools import cache
from pathlib import Path

import jax
import jax.extend.core.primitives as primitives
import jax.numpy as jnp
import numpy as np
import pytest
from coverage_arguments import ARGUMENTS, LEFT_OUT, SCOPE
from coverage_rows import FAMILIES, Row, raw, result_names, rows
from jax.extend.core import Primitive
from typeguard import suppress_type_checks

import ir
import passes
from ir.ops import op_of
from ir.staging.control import INLINED, STRUCTURED
from ir.staging.primitives import RULES
from passes import Plan

ROWS = [row for family in FAMILIES for row in rows(family)]
ORDINARY = [row for row in ROWS if row.family != "opaque"]
KNOWN = {*RULES, *STRUCTURED, *INLINED}


def each(found):
    return [pytest.param(row, id=f"{row.family}: {row.expression}") for row in found]


def well_formed(graph):
    """The graph, verified, readable, and with no two names where one should be. (A matrix over one space, which inner
    workings of linear algebra have, bears its name twice.)"""
    with suppress_type_checks():  # annotations are checked in the tests of verifier, printer and parser
        assert ir.parse(str(ir.verify(graph))) == graph
        assert [m for node in graph.walk() for m in op_of(node).mismatches(node) if m.rule != "twice"] == []
    return graph


def opaque(graph):
    return {node.fn for node in graph.walk() if node.kind == "opaque"}


@pytest.mark.parametrize("row", each(ORDINARY))
def test_a_function_is_known_and_its_results_are_named(row: Row):
    graph = well_formed(ir.trace(row, *row.types))
    assert opaque(graph) == set()
    assert result_names(graph) == row.names


@pytest.mark.parametrize("row", each(row for row in ORDINARY if row.differentiable))
def test_its_gradient_is_known(row: Row):
    with suppress_type_checks():
        graph = ir.trace(row.gradient, *row.types)
    assert opaque(well_formed(graph)) == set()
    wanted = [raw(argument) for argument in row.types if jnp.issubdtype(raw(argument).dtype, jnp.inexact)]
    assert [operand.type.shape for operand in graph.outputs] == [argument.shape for argument in wanted]


# What compiles in no time and covers the kinds; the rest is lowered in the tests of whole steps.
COMPILED = ("fourier", "indexing", "nn", "products", "reductions", "shapes")
COMPILED_GRADIENTS = ("indexing", "products")
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def numbers(name):
    """An argument of small numbers."""
    argument, rng = raw(ARGUMENTS[name]), np.random.default_rng(len(name))
    if jnp.issubdtype(argument.dtype, jax.dtypes.prng_key):
        return jax.random.split(jax.random.key(0), argument.shape) if argument.shape else jax.random.key(0)
    drawn = rng.integers(0, 4, argument.shape) if argument.dtype == jnp.int32 else rng.normal(size=argument.shape)
    return jnp.asarray(drawn, argument.dtype) if argument.dtype != jnp.bool_ else jnp.asarray(drawn > 0)


def bits(tree):
    return [(str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(tree)]


def assert_lowers_to_the_same_bits(found, functions):
    """One program of many functions, so that one compilation covers them all."""
    names = [name for name in ARGUMENTS if any(name in row.arguments for row in found)]

    def program(*values):
        given = dict(zip(names, values, strict=True))
        return [
            function(*(given[name] for name in row.arguments)) for row, function in zip(found, functions, strict=True)
        ]

    types = [ARGUMENTS[name] for name in names]
    values = [jax.tree.map(lambda _, name=name: numbers(name), type_) for name, type_ in zip(names, types, strict=True)]
    lowered = passes.lower(ir.trace(program, *types), Plan.by_hand({"data": 1}, {}))
    ours, plain = (step.lower(*values).compile(FAST)(*values) for step in (lowered, jax.jit(program)))
    apart = [row.expression for row, a, b in zip(found, ours, plain, strict=True) if bits(a) != bits(b)]
    assert apart == []


@pytest.mark.parametrize("family", COMPILED)
def test_a_family_lowers_to_the_same_bits(family):
    found = rows(family)
    assert_lowers_to_the_same_bits(found, found)


@pytest.mark.parametrize("family", COMPILED_GRADIENTS)
def test_the_gradients_of_a_family_lower_to_the_same_bits(family):
    found = [row for row in rows(family) if row.differentiable]
    assert_lowers_to_the_same_bits(found, [row.gradient for row in found])


def test_linear_algebra_lowers_to_the_same_bits():
    found = [row for row in rows("linear") if row.expression.startswith(("lax.linalg.", "linalg.solve"))]
    assert_lowers_to_the_same_bits(found, found)


def test_what_runs_on_several_devices_lowers_to_the_same_bits():
    found = [row for row in rows("control") if row.expression.startswith(("shard(", "lax.", "custom", "remat"))]
    found = [row for row in found if not row.functions & {"lax.pbroadcast", "lax.ragged_all_to_all"}]  # not on CPUs
    assert_lowers_to_the_same_bits(found, found)


MODULES = ("jnp", "linalg", "fft", "nn", "lax", "lax.linalg", "special", "slinalg", "signal", "random", "jax.ops")


@pytest.mark.parametrize("module", MODULES)
def test_no_public_function_is_forgotten(module):
    """Each is in a table, or in the list of those that make no sense on named operands."""
    named = eval(module, dict(SCOPE))
    functions = {
        name
        for name, member in vars(named).items()
        if callable(member)
        and not isinstance(member, types.ModuleType | type)
        and not name.startswith("_")
        and not name.endswith("_p")
    }
    tried = {name.removeprefix(f"{module}.") for row in ROWS for name in row.functions}
    assert functions - tried - set(LEFT_OUT[module].split()) == set()


@cache
def documented():
    """The primitives in the table of docs/ir.md that says what stays opaque."""
    text = (Path(__file__).parents[2] / "docs" / "ir.md").read_text(encoding="utf-8")
    table = text.split("## What stays opaque\n")[1].split("\n## ")[0]
    return {
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall("`(.*?)`", line.split("|")[1])
    }


@pytest.mark.parametrize("row", each(row for row in ROWS if row.family == "opaque"))
def test_what_stays_opaque_is_listed(row: Row):
    graph = well_formed(ir.trace(row, *row.types))
    assert opaque(graph) and opaque(graph) <= documented()
    assert result_names(graph) == row.names
    if row.differentiable:
        assert opaque(well_formed(ir.trace(row.gradient, *row.types))) <= documented()


def test_what_is_listed_has_no_rule():
    """But for references, whose dims are known: what reads and writes them is opaque all the same."""
    assert documented() & KNOWN == {"new_ref", "get", "swap", "addupdate", "freeze"}


def test_every_primitive_that_jax_exports_has_a_rule_or_is_listed():
    exported = {
        member.name
        for module in (primitives, jax.lax, jax.lax.linalg)
        for member in vars(module).values()
        if isinstance(member, Primitive)
    }
    assert len(exported) > 150
    assert exported - KNOWN - documented() == set()
