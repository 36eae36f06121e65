"""The attention module of the seed example, as its author wrote it, is staged and lowered."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest
from step_models import shaped

import ir
import passes

SEED = Path(__file__).parents[1] / "haliax" / "seed_example.py"


@pytest.fixture(scope="module")
def seed():
    spec = importlib.util.spec_from_file_location("seed_example_for_ir", SEED)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_seed_attention_is_staged_checked_planned_and_lowered(seed):
    attention = seed.Attention.init(seed.Embed, seed.Head, seed.Key, key=jax.random.key(0))
    x = shaped("position embed", seed.Pos.size, seed.Embed.size)

    def forward(attention, x):
        return attention(x)

    graph = ir.verify(ir.trace(forward, jax.eval_shape(lambda: attention), x))
    passes.check_axes(graph)
    assert graph.outputs[0].type.names == ("position", "embed")
    assert {"qkv", "head", "key", "key_position"} <= set(graph.axis_sizes())
    contracted = [node.names("over") for node in graph.walk() if node.kind == "contract"]
    assert contracted == [("embed",), ("key",), ("key_position",), ("head", "key")]
    plan = passes.Plan.by_hand({"model": 4}, {"head": ("model",)})
    step = passes.lower(graph, plan, jax.devices()[:4])
    value = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(1), leaf.shape), x)
    wanted = jax.jit(forward)(attention, value)
    np.testing.assert_allclose(step(attention, value).array, wanted.array, rtol=1e-3, atol=1e-4)
