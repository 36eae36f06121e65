"""Phases: what is forward, backward and update, also where gradients are taken inside a loop or a branch."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import ir
from ir.graph import Graph, Node

F32 = jnp.float32
PARAMETERS = {"up": jax.ShapeDtypeStruct((4, 8), F32), "down": jax.ShapeDtypeStruct((8, 4), F32)}
STATE = {"params": PARAMETERS, "moments": PARAMETERS}
BATCHES = jax.ShapeDtypeStruct((3, 6, 4), F32)


def loss_of(params, x):
    return jnp.mean((jnp.tanh(x @ params["up"]) @ params["down"] - x) ** 2)


def updated(state, gradients):
    moments = jax.tree.map(lambda m, g: 0.9 * m + g, state["moments"], gradients)
    return {"params": jax.tree.map(lambda p, m: p - 0.1 * m, state["params"], moments), "moments": moments}


def summed_over(params, batches, start=None):
    def micro(carry, x):
        loss, gradients = jax.value_and_grad(loss_of)(params, x)
        return jax.tree.map(jnp.add, carry, (loss, gradients)), None

    zeros = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    return lax.scan(micro, zeros if start is None else start, batches)[0]


def accumulating(state, batches):
    loss, gradients = summed_over(state["params"], batches)
    return updated(state, gradients), loss / 3


def the_first_outside(state, batches):
    start = jax.value_and_grad(loss_of)(state["params"], batches[0])
    loss, gradients = summed_over(state["params"], batches[1:], start)
    return updated(state, gradients), loss / 3


def in_a_while(state, batches):
    def micro(i, carry):
        found = jax.value_and_grad(loss_of)(state["params"], batches[i])
        return jax.tree.map(jnp.add, carry, found)

    # Bounds that are not known make a `while`.
    zeros = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, state["params"]))
    loss, gradients = lax.fori_loop(0, jnp.int32(batches.sum() > 0) + 2, micro, zeros)
    return updated(state, gradients), loss / 3


def whole_steps(state, batches):
    def one(state, x):
        loss, gradients = jax.value_and_grad(loss_of)(state["params"], x)
        return updated(state, gradients), loss

    return lax.scan(one, state, batches)


def searching_a_line(state, batches):
    """As L-BFGS does: gradients are taken again, at what the update has made."""
    loss, gradients = jax.value_and_grad(loss_of)(state["params"], batches[0])
    new = updated(state, gradients)

    def shorter(carry, _):
        params = jax.tree.map(lambda p, g: p - 0.1 * g, carry, jax.grad(loss_of)(carry, batches[0]))
        return params, None

    params, _ = lax.scan(shorter, new["params"], None, length=2)
    return {**new, "params": params}, loss


def now_and_then(state, batches):
    """As Sophia does: an estimate from gradients, in one branch."""
    loss, gradients = jax.value_and_grad(loss_of)(state["params"], batches[0])
    again = lax.cond(
        batches.sum() > 0, lambda: jax.grad(loss_of)(state["params"], batches[1]), lambda: state["moments"]
    )
    return updated(state, jax.tree.map(jnp.add, gradients, again)), loss


def structured(graph: Graph) -> Node:
    (node,) = [node for node in graph.nodes if node.bodies]
    return node


def phases(graph: Graph, *kinds: str) -> list[str]:
    """The phases of the nodes of some kinds, in order, one of each run."""
    found = [node.phase for node in graph.nodes if not kinds or node.kind in kinds]
    return [phase for i, phase in enumerate(found) if i == 0 or found[i - 1] != phase]


@pytest.mark.parametrize("step", [accumulating, the_first_outside, in_a_while])
def test_a_loop_over_microbatches_is_backward_and_its_body_has_both_passes(step):
    graph = ir.trace(step, STATE, BATCHES)
    loop = structured(graph)
    assert loop.phase == "backward"
    assert graph.nodes[-1].phase == "update"
    body = loop.bodies[-1]
    products = [node.phase for node in body.nodes if node.kind == "contract"]
    assert products == ["forward"] * 2 + ["backward"] * 3
    loss, *sums = [operand.id for operand in body.outputs if operand.type.dtype == "float32"]
    phase_of = {node.outputs[0].id: node.phase for node in body.nodes}
    assert phase_of[loss] == "forward" and [phase_of[each] for each in sums] == ["update"] * 2
    after = graph.nodes[graph.nodes.index(loop) + 1 :]
    assert {node.phase for node in after if node.value_inputs and node.outputs[0].type.dims} == {"update"}
    assert ir.parse(str(graph)) == graph


def test_a_loop_over_whole_steps_has_all_three_in_its_body():
    (body,) = structured(ir.trace(whole_steps, STATE, BATCHES)).bodies
    assert {node.phase for node in body.nodes} == {"forward", "backward", "update"}
    left = {operand.id for operand in body.outputs if operand.type.dims}
    assert {node.phase for node in body.nodes if node.outputs[0].id in left} == {"update"}


def test_a_line_search_is_of_the_update():
    graph = ir.trace(searching_a_line, STATE, BATCHES)
    loop = structured(graph)
    assert loop.phase == "update"
    assert {node.phase for node in loop.bodies[0].nodes} == {"update"}
    assert phases(graph, "map", "contract") == ["forward", "backward", "update"]


def test_gradients_in_a_branch():
    graph = ir.trace(now_and_then, STATE, BATCHES)
    branch = structured(graph)
    assert branch.phase == "backward"
    assert phases(branch.bodies[1], "contract") == ["forward", "backward"]
    assert {node.phase for node in branch.bodies[0].nodes} <= {"forward"}
    assert graph.nodes[-1].phase == "update"


def test_a_step_without_gradients_is_forward():
    graph = ir.trace(lambda batches: lax.scan(lambda total, x: (total + x.sum(), x * 2), 0.0, batches), BATCHES)
    assert {node.phase for node in graph.walk()} == {"forward"}
