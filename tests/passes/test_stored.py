"""Which kinds of state the storage axes shard: ZeRO-1, 2 and 3."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import jax
import numpy as np
import pytest
from step_models import collectives_of, filled, prepared, step_of
from typeguard import suppress_type_checks

import passes
from passes import pipeline
from passes.errors import PlanError
from passes.sharding.state import STAGES, STATE_KINDS

ZERO_1, ZERO_2 = ("optimizer",), ("gradients", "optimizer")
LEVELS = (STATE_KINDS, ZERO_2, ZERO_1, ("parameters", "optimizer"), ())


def plan(stored: tuple[str, ...]) -> passes.Plan:
    return passes.Plan.by_hand("data=8", {"batch": "data"}, {"embed": "data"}, stored=stored)


def collectives(stored: tuple[str, ...]) -> Counter[tuple[str, str, str]]:
    """How many of each kind, by what is moving and the phase, scalars left out."""
    placed = pipeline.place(prepared("raw"), plan(stored))
    found = [node for node in collectives_of(placed) if node.value_inputs[0].type.dims]
    return Counter((node.kind, str(node.attrs["moving"]), str(node.phase)) for node in found)


def test_zero_2_gathers_what_the_update_made_and_scatters_gradients() -> None:
    found = collectives(ZERO_2)
    state = [value for value in prepared("raw").inputs if "embed" in value.type.names]
    assert found["all_gather", "parameter", "update"] == len(state) // 3
    assert not any(kind == "all_gather" and phase != "update" for kind, _, phase in found)
    assert (
        found["reduce_scatter", "gradient", "backward"]
        == collectives(STATE_KINDS)["reduce_scatter", "gradient", "backward"]
    )


def test_zero_1_reduces_gradients_as_data_parallelism_does() -> None:
    found, plain = collectives(ZERO_1), collectives(())
    assert not any(kind == "reduce_scatter" for kind, _, _ in found)
    key = ("all_reduce", "gradient", "backward")
    assert found[key] == plain[key] > 0
    assert found - plain == Counter(
        {("all_gather", "parameter", "update"): collectives(ZERO_2)["all_gather", "parameter", "update"]}
    )


@pytest.mark.parametrize("stored", LEVELS, ids=str)
def test_each_is_proved_and_state_has_its_bytes(stored: tuple[str, ...]) -> None:
    graph = prepared("raw")
    result = passes.run(graph, "data=8", plan=plan(stored))
    assert result.proof is not None
    assert not result.proof.assumptions
    found = result.facts()
    sizes = {kind: 0 for kind in ("parameters", "optimizer")}
    for value, path in list(zip(graph.inputs, graph.input_paths, strict=True))[: len(graph.carried)]:
        kind = "parameters" if ".params" in path else "optimizer"
        sizes[kind] += value.type.bytes // (8 if kind in stored and "embed" in value.type.names else 1)
    assert 0 < sizes["optimizer"] <= found["memory"]["optimizer"]
    assert 0 < sizes["parameters"] <= found["memory"]["parameters"]
    assert found["plan"]["stored"] == list(stored)


@pytest.mark.parametrize("stored", LEVELS, ids=str)
def test_values_are_those_of_one_device(stored: tuple[str, ...]) -> None:
    step = step_of("mlp")
    arguments = filled((step.state, step.batch))
    chosen = plan(stored)
    with suppress_type_checks():
        many = passes.lower(prepared("mlp"), chosen)
        state, batch = jax.device_put(arguments, chosen.shardings(arguments, graph=prepared("mlp")))
        found = many(state, batch)
    wanted = step.function(*arguments)
    for one, other in zip(jax.tree.leaves(wanted), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(np.asarray(other), np.asarray(one), rtol=1e-5, atol=1e-6)
    kept = jax.tree.leaves(found[0])[0].sharding
    assert ("data" in str(kept.spec)) == ("parameters" in stored)


def test_a_file_says_them(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    plan(ZERO_2).save(file, "tiny")
    assert "stored: [gradients, optimizer]" in file.read_text()
    assert passes.Plan.load(file).stored == ZERO_2


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (
            ["optimiser"],
            "'optimiser' is not a kind of state; did you mean 'optimizer'? "
            "(there are parameters, gradients, optimizer)",
        ),
        (
            ["parameters", "gradients"],
            "parameters and gradients cannot be stored over mesh axes that the optimizer's state is not stored over: "
            "the update is computed where that is; add optimizer",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, stored: list[str], message: str) -> None:
    with pytest.raises(PlanError) as refused:
        passes.Plan.by_hand("8", {"batch": "data"}, {"embed": "data"}, stored=stored)
    assert str(refused.value) == message
    file = tmp_path / "p.yaml"
    file.write_text(f"mesh: data=8\ncompute: {{batch: data}}\nstored: {stored}\n")
    with pytest.raises(PlanError) as refused:
        passes.Plan.load(file)
    assert str(refused.value) == f"{file}: {message}"


def test_the_search_takes_whichever_is_best() -> None:
    graph = prepared("mlp")
    found = {
        stored: passes.plan(graph, "data=8", "v5e", pin={"stored": stored, "batch": "data"})
        for stored in ("any", *STAGES)
    }
    steps = {stored: plan.report(graph)["time"]["step"] for stored, plan in found.items()}
    assert steps["any"] == min(steps.values())
    assert found["any"].search is not None
    assert found["any"].search.optimal
    assert found["any"].search.plans == sum(found[stored].search.plans for stored in STAGES)
    for stored in STAGES:
        assert found[stored].stored == stored
