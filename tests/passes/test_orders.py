"""Orders in which names take mesh axes: a mixture of experts whose tokens go to their experts by all-to-alls."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import random_plans
from step_models import Step, filled, mlp_step, raw_gpt, shaped
from test_planner import seconds_of
from typeguard import suppress_type_checks

import ir
import passes
from passes import PlanError, pipeline, summary
from passes.alternatives import explanation
from passes.hardware.chip import CHIPS
from passes.planner.cost import step_seconds
from passes.planner.document import read_document, text_of
from passes.planner.first import exchanged_plans
from passes.planner.orders import in_each_order, orders
from passes.planner.problem import Problem
from passes.planner.search import search
from passes.report.changes import changes
from passes.report.explained import explained
from passes.sharding.mesh import DeviceMesh
from passes.sharding.rules import ShardingRules, in_order

WHERE = {"mlp": ("experts", "batch")}


def mixture(batch=64, place=15, experts=8, embed=256, mlp=1024, wide=4095):
    """A dense layer, whose width no mesh divides, and one of experts, each token to all of them by its weight; no names
    inside."""

    def loss_of(state, x):
        w = {name: each.array for name, each in state.items()}
        x = x + jnp.einsum("bpw,we->bpe", jnp.tanh(jnp.einsum("bpe,ew->bpw", x, w["in"])), w["out"])
        share = jax.nn.sigmoid(jnp.einsum("bpe,ex->bpx", x, w["router"]))
        sent = jnp.einsum("bpx,bpe->bxe", share, x)
        made = jnp.einsum("bxm,xme->bxe", jnp.tanh(jnp.einsum("bxe,xem->bxm", sent, w["up"])), w["down"])
        return jnp.mean((jnp.einsum("bpx,bxe->bpe", share, made) - x) ** 2)

    def step(w, batch):
        loss, grads = jax.value_and_grad(loss_of)(w, batch["x"].array)
        return jax.tree.map(lambda p, g: p - 0.1 * g, w, grads), loss

    state = {
        "in": shaped("embed wide", embed, wide),
        "out": shaped("wide embed", wide, embed),
        "router": shaped("embed experts", embed, experts),
        "up": shaped("experts embed mlp", experts, embed, mlp),
        "down": shaped("experts mlp embed", experts, mlp, embed),
    }
    return Step(step, state, {"x": shaped("batch place embed", batch, place, embed)})


@pytest.fixture(scope="module")
def graph():
    return pipeline.prepare(ir.trace(*mixture()))


def every_price(problem, several):
    """The least seconds of all plans in each of some orders, one by one."""
    space, capacity = problem.space, problem.network.chip.capacity
    found = {}
    with suppress_type_checks():
        for where in several:
            prices = []
            for stored in space.storage_choices:
                extra = stored.extra
                for masks in product(*space.options.values()):
                    compute = dict(zip(space.options, map(int, masks), strict=True))
                    cost, peak = problem.price(ShardingRules(space.mesh, space.order, compute, extra, where))
                    prices += [seconds_of(cost)] if peak <= capacity else []
            found[str(where)] = min(prices)
    return found


def test_the_names_of_a_shape_in_another_order():
    order = ("batch", "slot", "experts", "embed")
    assert in_order({"experts", "batch", "mlp", "slot"}, order, WHERE) == ["experts", "batch", "slot"]
    assert in_order({"experts", "batch", "slot"}, order, WHERE) == ["batch", "slot", "experts"]
    assert in_order({"batch", "mlp", "slot"}, order, WHERE) == ["batch", "slot"]
    assert in_order({"experts", "embed", "mlp"}, order, WHERE) == ["experts", "embed"]
    # A name that nothing is said of is in no one's way, so it does not matter whether it is in the order.
    assert in_order({"embed", "mlp", "slot", "free"}, order, {"mlp": ("free", "embed")}) == ["embed", "slot"]
    assert in_order({"embed", "mlp", "slot"}, order, {"mlp": ("free", "embed")}) == ["slot", "embed"]


def test_only_what_is_exchanged_is_searched(graph):
    def searched(graph, mesh):
        problem = Problem.of(graph, DeviceMesh.of(mesh), CHIPS["v5e"])
        return orders(problem.graph, problem.roles, problem.space)

    assert searched(graph, "8") == ({}, WHERE)
    assert searched(graph, "4x2") == ({}, WHERE)
    # 8 experts do not divide by 16, and no product of a model without experts has weights with a name of the batch.
    assert searched(graph, "16") == ({},)
    for step in (mlp_step(8, 16, 32), raw_gpt()):
        assert searched(pipeline.prepare(ir.trace(*step)), "4x2") == ({},)


def test_a_window_is_no_axis_to_exchange():
    # The kernel of a convolution has dims of its own, of the size of its window, by the names of what it goes over.
    def step(w, batch):
        def loss_of(w):
            made = jax.lax.conv(batch["x"].array, w["kernel"].array, (1, 1), "SAME")
            return jnp.mean(jnp.square(made))

        loss, grads = jax.value_and_grad(loss_of)(w)
        return jax.tree.map(lambda p, g: p - 0.1 * g, w, grads), loss

    state = {"kernel": shaped("made colors height width", 16, 8, 4, 4)}
    image = Step(step, state, {"x": shaped("batch colors height width", 32, 8, 16, 16)})
    problem = Problem.of(pipeline.prepare(ir.trace(*image)), DeviceMesh.of("4"), CHIPS["v5e"])
    assert orders(problem.graph, problem.roles, problem.space) == ({},)


def test_a_search_begins_with_what_an_order_is_for(graph):
    problem = Problem.of(graph, DeviceMesh.of("4x2"), CHIPS["v5e"])
    space = in_each_order([problem.space], [WHERE])[-1]
    begun = [(stored.names, masks["experts"], masks["batch"]) for stored, masks in exchanged_plans(space)]
    assert ((), 2, 3) in begun and (("embed",), 1, 1) in begun
    assert all(experts & batch for _, experts, batch in begun)


def test_the_best_of_all_orders_is_found(graph):
    problem = Problem.of(graph, DeviceMesh.of("8"), CHIPS["v5e"])
    prices = every_price(problem, ({}, WHERE))
    plan = passes.plan(ir.trace(*mixture()), "8", "v5e")
    assert plan.order_where == WHERE and plan.search.optimal
    assert plan.search.plans == problem.space.plans + problem.space.plans // 4
    cost, _ = problem.price(plan.rules)
    assert seconds_of(cost) == pytest.approx(prices[str(WHERE)], rel=1e-9)
    assert prices[str(WHERE)] < 0.95 * prices["{}"]
    assert plan.reasons["order"].startswith("without it a step takes")


@pytest.mark.parametrize("mesh", ["2x2", "4x2"])
@pytest.mark.parametrize(
    "sizes", [{"batch": 16, "embed": 64, "mlp": 128, "wide": 63}, {"wide": 63}], ids=["not", "best"]
)
def test_on_several_mesh_axes_the_best_of_both_orders_is_found(mesh, sizes):
    """Against every plan of the other order, those that the search leaves out as well: without both names on some mesh
    axis nothing is better there."""
    graph = pipeline.prepare(ir.trace(*mixture(**sizes)))
    problem = Problem.of(graph, DeviceMesh.of(mesh), CHIPS["v5e"])
    spaces = in_each_order([problem.space], [WHERE])
    choices = list(product(*problem.space.options.values()))
    masks = dict(zip(problem.space.options, np.array(choices).T, strict=True))
    least = []
    with suppress_type_checks():
        for where, stored in product(({}, WHERE), problem.space.storage_choices):
            cost = problem.cost(ShardingRules(problem.network.mesh, problem.space.order, masks, stored.extra, where))
            least.append(float(np.min(step_seconds(cost.compute, cost.activations, cost.hidden, CHIPS["v5e"].overlap))))
        found = search(spaces, problem.terms, problem.memory, CHIPS["v5e"])
    assert found.best[0].seconds == pytest.approx(min(least), rel=1e-9)
    together = masks["experts"] & masks["batch"] != 0
    assert 0 < together.sum() < len(choices)
    assert spaces[1].plans == together.sum() * len(problem.space.storage_choices)


def test_only_what_beats_a_known_plan_is_looked_for(graph):
    problem = Problem.of(graph, DeviceMesh.of("8"), CHIPS["v5e"])
    given = (problem.space, problem.terms, problem.memory, CHIPS["v5e"], None)
    best = search(*given).best
    assert search(*given, best[1].seconds).best == best[:1]
    assert search(*given, best[0].seconds).best == [] and search(*given, best[0].seconds).leanest is None


def test_the_order_of_the_space_where_another_one_gives_nothing():
    # A batch so long that gathering weights is hidden, and exchanging tokens is not.
    plan = passes.plan(ir.trace(*mixture(batch=2048, place=63, mlp=16)), "8", "v5e")
    assert plan.compute == {"batch": ("data",)}
    assert not plan.order_where
    assert "order" not in plan.reasons
    assert "order:" not in text_of(plan.as_document())


@pytest.mark.parametrize(
    ("mesh", "compute"),
    [
        ({"data": 8}, {"batch": "data", "experts": "data"}),
        ({"data": 4, "model": 2}, {"batch": "data", "experts": ("data", "model")}),
    ],
    ids=str,
)
def test_tokens_go_there_and_back_by_all_to_alls(mesh, compute):
    """Values and collectives are those of one device and of the compiled program; the experts' weights are not sent."""
    step = mixture(batch=8, embed=16, mlp=32, wide=15)
    graph = pipeline.prepare(ir.trace(*step))
    plan = passes.Plan.by_hand(mesh, compute, order_where=WHERE)
    rows = summary.collectives(pipeline.place(graph, plan), plan)
    exchanged = [row for row in rows if row.kind == "all_to_all"]
    assert {row.moving for row in exchanged} == {"activation"}
    assert {"forward", "backward"} <= {row.phase for row in exchanged} and sum(row.count for row in exchanged) >= 4
    assert not [row for row in rows if row.moving != "activation" and row.bytes >= 8 * 16 * 32 * 4 // 8]
    assert random_plans.differences(step.function, (filled(step.state), filled(step.batch)), plan) == []


def test_a_line_of_the_file(graph, tmp_path):
    plan = passes.run(graph, "8", "v5e").plan
    text = text_of(plan.as_document(), (), plan.reasons)
    assert f"\norder: {{mlp: [experts, batch]}}  # {plan.reasons['order']}\n" in text
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    again = passes.run(graph, "8", plan=passes.Plan.load(path)).plan
    assert again.order_where == WHERE and again.reasons["order"] == plan.reasons["order"]
    assert text_of(again.as_document(), (), again.reasons) == text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{mlp: [expert, batch]}", "order of 'expert': the step has no axis of that name; did you mean 'experts'?"),
        ("{mpl: [experts, batch]}", "order of 'mpl': the step has no axis of that name; did you mean 'mlp'?"),
        ("{mlp: {experts: batch}}", ":3: `order.mlp` is a section; expected names, such as [experts, batch]"),
        ("experts", ":3: `order` is experts; expected names by name, such as {mlp: [experts, batch]}"),
    ],
)
def test_what_is_refused_of_the_line(graph, line, message):
    with pytest.raises(PlanError) as error:
        document = read_document(f"mesh: data=8\ncompute: {{batch: [data]}}\norder: {line}\n", "plan.yaml")
        passes.run(graph, "8", plan=passes.Plan.of_document(document))
    assert str(error.value).removeprefix("plan.yaml").removeprefix(": ") == message


def test_the_other_order_is_explained_and_a_change(graph):
    result = passes.run(graph, "8", "v5e")
    heading, why, other = explained(vars_of(explanation(result.graph, result.plan, "order")))
    assert heading == "Order of names: experts before batch where mlp is."
    assert why == f"Why: {result.plan.reasons['order']}."
    assert other.startswith("With one order everywhere: a step takes") and "loses 4 all_to_all of activations" in other
    plain = passes.Plan.by_hand("8", {"batch": "data"})
    found = changes(plain.report(graph), result.plan.report())
    assert found["order"] == [{}, {"mlp": ["experts", "batch"]}]
    assert "order: experts before batch where mlp is; without it" in str(result.plan)


def vars_of(found):
    return {**vars(found), "alternatives": [vars(each) for each in found.alternatives]}
