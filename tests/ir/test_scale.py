"""Building the IR is linear in the number of equations: the work for one is the same in a shallow and a deep model.

Counted in calls of functions of `ir`, which a clock on a busy machine could not tell so well; what it takes beside
JAX's own tracing is measured by benchmarks/tracing.py.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from step_models import shaped
from typeguard import suppress_type_checks

import ir

FOLDER = str(Path(ir.__file__).parent)


def deep_step(layers):
    """Attention over merged heads, layer by layer in a Python loop, and momentum; nothing is scanned."""
    weights = {
        "qkv": shaped("embed qkv heads head_size", 12, 3, 2, 5),
        "out": shaped("inner embed", 10, 12),
        "gain": shaped("embed", 12),
    }

    def loss_of(model, x):
        for layer in model:
            normal = x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * layer["gain"].array
            q, k, v = jnp.einsum("bpe,eqhs->qbphs", normal, layer["qkv"].array)
            mixed = jax.nn.softmax(q * k) * v
            x = x + mixed.reshape(*mixed.shape[:2], -1) @ layer["out"].array
        return jnp.mean(x * x)

    def step(state, x):
        model, speed = state
        loss, gradients = jax.value_and_grad(loss_of)(model, x.array)
        speed = jax.tree.map(lambda s, g: 0.9 * s + g, speed, gradients)
        return (jax.tree.map(lambda p, s: p - 0.1 * s, model, speed), speed), loss

    model = [weights] * layers
    return step, (model, model), shaped("batch position embed", 4, 7, 12)


def work_of(layers):
    """Calls of functions of `ir` per equation, and how many equations there were."""
    step = deep_step(layers)
    calls = 0

    def count(frame, event, _):
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(FOLDER)

    before = sys.getprofile()
    with suppress_type_checks():
        sys.setprofile(count)
        try:
            graph = ir.trace(*step)
        finally:
            sys.setprofile(before)
    equations = len(graph.nodes)
    return calls / equations, equations


def test_the_work_for_an_equation_does_not_grow_with_depth():
    shallow, few = work_of(8)
    deep, many = work_of(32)
    assert many > 3.8 * few
    assert deep < 1.02 * shallow
    assert deep < 60


def test_the_graph_of_a_layer_does_not_change_with_depth():
    graphs = [ir.trace(*deep_step(layers)) for layers in (2, 3)]
    kinds = [[f"{node.kind}.{node.fn} {node.outputs[0].type}" for node in graph.nodes] for graph in graphs]
    assert set(kinds[0]) == set(kinds[1])
