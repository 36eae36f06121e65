"""A step that was compiled under a plan trains as the plain step does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from typeguard import suppress_type_checks

from levanter.compiler import compile as compiler
from levanter.errors import UserError
from levanter.runtime.evaluate import eval_step
from levanter.runtime.state import LmBatch, TrainState, batch_shape, init_state, state_shape, train_step_of

sys.path.insert(0, str(Path(__file__).parents[1] / "passes"))

import step_models  # noqa: E402

pytestmark = pytest.mark.hurried


def tiny(**changes: Any) -> Any:
    return step_models.tiny_config(**changes)


@pytest.fixture(scope="module")
def compiled() -> compiler.Compiled:
    with suppress_type_checks():
        return compiler.compile_training(
            tiny(**{"trainer.mesh": "4x2", "trainer.train_batch_size": 32, "model.vocab_size": 4096})
        )


def test_a_compiled_step_trains(compiled: compiler.Compiled) -> None:
    config = tiny(**{"trainer.mesh": "4x2", "trainer.train_batch_size": 32, "model.vocab_size": 4096})
    state = init_state(config, compiled.state_shardings)
    shapes = batch_shape(config)
    batch = jax.device_put(step_models.filled(shapes), compiled.batch_shardings)
    plain_state, plain_metrics = jax.jit(train_step_of(config))(init_state(config), step_models.filled(shapes))
    structure = jax.tree.structure(state)
    new, metrics = compiled.train_step(state, batch)
    assert jax.tree.structure(new) == structure
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert float(metrics["loss"]) == pytest.approx(float(plain_metrics["loss"]), rel=1e-5)
    for leaf, sharding in zip(jax.tree.leaves(new), jax.tree.leaves(compiled.state_shardings), strict=True):
        assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
    for ours, theirs in zip(jax.tree.leaves(new), jax.tree.leaves(plain_state), strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=2e-3, atol=2e-5)


def test_microbatches_on_a_mesh_are_reduced_once_and_train_alike() -> None:
    options = {"trainer.mesh": "4x2", "trainer.train_batch_size": 64, "model.vocab_size": 4096}
    options |= {"trainer.microbatches": 4}
    # Plain steps along the gradient: the first step of Adam is the sign of one, which rounding can turn around.
    options |= {"optimizer.epsilon": 1.0, "optimizer.max_grad_norm": "null"}
    config = tiny(**options)
    with suppress_type_checks():
        compiled = compiler.compile_training(config)
    collectives = compiled.plan.report(compiled.graph)["collectives"]
    sums = [each for each in collectives if each["moving"] == "gradient"]
    # `count` is of a step, trips included: 4 micro-batches × layers, were they reduced there.
    assert sums and max(each["count"] for each in sums) <= 2
    # Each device has its rows of every micro-batch.
    assert not [
        each for each in collectives if each["kind"] != "all_reduce" and each["axis"] == "batch" and each not in sums
    ]
    batch = step_models.filled(batch_shape(config))
    plain_state, plain_metrics = jax.jit(train_step_of(config))(init_state(config), batch)
    new, metrics = compiled.train_step(
        init_state(config, compiled.state_shardings), jax.device_put(batch, compiled.batch_shardings)
    )
    assert float(metrics["loss"]) == pytest.approx(float(plain_metrics["loss"]), rel=1e-6)
    for ours, theirs in zip(jax.tree.leaves(new), jax.tree.leaves(plain_state), strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-6, atol=1e-6)


def test_an_evaluation_runs_under_the_same_plan(compiled: compiler.Compiled) -> None:
    config = tiny(**{"trainer.mesh": "4x2", "trainer.train_batch_size": 32, "model.vocab_size": 4096})
    shapes = batch_shape(config)
    evaluate = compiled.lower_for(eval_step, state_shape(config).model, shapes)
    state: TrainState = init_state(config, compiled.state_shardings)
    batch: LmBatch = step_models.filled(shapes)
    plain = jax.jit(eval_step)(init_state(config).model, batch)
    for _ in range(2):  # nothing is donated
        loss = evaluate(state.model, jax.device_put(batch, compiled.batch_shardings))
        assert float(loss) == pytest.approx(float(plain), rel=1e-5)


def test_too_few_devices_is_a_user_error() -> None:
    with suppress_type_checks(), pytest.raises(UserError, match="^the plan is for 8 devices, 2 given: pass 8 devices"):
        compiler.compile_training(tiny(**{"trainer.mesh": "4x2"}), jax.devices()[:2])
