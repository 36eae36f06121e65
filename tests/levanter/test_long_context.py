"""A model of the zoo on sequences so long that gathered keys do not fit a device: the plan has the keys go round."""

from __future__ import annotations

import pytest
from typeguard import suppress_type_checks

import ir
import passes
from ir.graph import Graph
from levanter.compiler import compile as compiler
from levanter.config import load
from levanter.runtime.state import batch_shape, state_shape, train_step_of
from passes.pipeline import prepare

MESH, CHIP = {"sequence": 256}, "v5e"
LONG = ["--model.seq_len=2097152", "--trainer.train_batch_size=1"]


@pytest.fixture(scope="module")
def graph() -> Graph:
    config = load("llama3_8b", LONG)
    return prepare(ir.trace(train_step_of(config), state_shape(config), batch_shape(config)))


def test_the_plan_is_a_ring(graph: Graph) -> None:
    plan = passes.plan(graph, MESH, CHIP)
    assert plan.attention == "ring" and plan.search is not None and plan.search.optimal
    assert plan.reasons["attention"].startswith("with keys gathered a device needs 19.")


@pytest.mark.slow
def test_compile_says_what_it_needs() -> None:
    """Under the same layouts a device has the keys and values of two others, in place of those of all."""
    with suppress_type_checks():
        report = compiler.report(load("llama3_8b", LONG), MESH, CHIP)
    assert report["attention"]["way"] == "ring"
    assert {each["kind"] for each in report["collectives"] if each["moving"] == "key"} == {"permute"}
    memory = report["memory"]
    rules = {"position": ["sequence"]}, {"embed": ["sequence"]}
    with suppress_type_checks():
        gathered = compiler.report(load("llama3_8b", LONG), MESH, CHIP, by_hand=rules)["memory"]
    assert memory["peak"] < 0.6 * memory["capacity"] < 1.2 * memory["capacity"] < gathered["peak"]
    keys = 2 * 2 * 2097152 * 8 * 128  # keys and values of all positions in bf16
    assert gathered["peak"] - memory["peak"] > keys
