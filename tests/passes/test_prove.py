"""The proof: what the passes make is proved, and each way to spoil it is refuted, with the node named."""

import importlib
import re
from functools import cache
from pathlib import Path

import numpy as np
import placed_mutations
import proved_step
import pytest
import simulated_devices
from step_models import hand_plan, prepared
from typeguard import suppress_type_checks

import ir
import passes
from passes import NotProved, Plan, pipeline
from passes.scatter_sums import scatter_sums

BLOCK = (Path(__file__).parents[1] / "golden" / "passes" / "prove" / "before.ir").read_text(encoding="utf-8")


class Text:
    """The text of a placed graph, to be edited as a hand would."""

    def __init__(self, text):
        self.lines = text.splitlines()

    def at(self, *needles):
        """The number of the one line that has all of these."""
        (found,) = self.all(*needles)
        return found

    def all(self, *needles):
        return [i for i, line in enumerate(self.lines) if all(needle in line for needle in needles)]

    def made(self, at):
        """The number of the value of a line."""
        return self.lines[at].split(":")[0].strip()

    def replaced(self, at, old, new):
        assert old in self.lines[at]
        self.lines[at] = self.lines[at].replace(old, new, 1)
        return self

    def read_instead(self, old, new, after):
        """Whoever reads a value behind a line reads another."""
        self.lines[after + 1 :] = [re.sub(rf"{old}\b(?!:)", new, line) for line in self.lines[after + 1 :]]
        return self

    def dropped(self, at):
        """The line is gone, and its operand is read."""
        operand = re.search(r"\((%\d+)", self.lines[at]).group(1)
        self.read_instead(self.made(at), operand, at)
        del self.lines[at]
        return self

    def doubled(self, at):
        """The line is done again to its own result."""
        value, operand = self.made(at), re.search(r"\((%\d+)", self.lines[at]).group(1)
        again = self.lines[at].replace(f"{value}:", "%900:").replace(f"({operand}", f"({value}")
        self.read_instead(value, "%900", at)
        self.lines.insert(at + 1, again)
        return self

    def inserted(self, at, node):
        """A node behind a line, which is read instead of its value; `$` stands for the value."""
        value = self.made(at)
        self.read_instead(value, "%901", at)
        self.lines.insert(at + 1, f"  %901: {node.replace('$', value)}")
        return self

    def graph(self):
        return ir.parse("\n".join(self.lines) + "\n")


def step():
    return Text(str(proved_step.placed()))


def refuted(text, *says):
    """The refutation says all this."""
    before = ir.parse(str(proved_step.before()))
    with pytest.raises(NotProved) as caught:
        passes.prove(text.graph(), before, proved_step.MESH)
    for each in says:
        assert each in str(caught.value), str(caught.value)


# What the passes make is proved.


def test_the_step_proves_and_is_the_step():
    placed, before = proved_step.placed(), proved_step.before()
    proof = passes.prove(placed, before, proved_step.MESH)
    assert str(proof) == f"proved: {len(list(placed.values())):,} values, 0 assumptions"
    arrays = simulated_devices.inputs(before)
    on_four = simulated_devices.run(placed, proved_step.MESH, arrays)
    assert simulated_devices.same(on_four, simulated_devices.run(before, {}, arrays))


def test_the_text_proves_as_the_graph_does():
    passes.prove(step().graph(), ir.parse(str(proved_step.before())), proved_step.MESH)


@pytest.mark.parametrize("plan", ["whole", "dp", "fsdp", "tp", "sp", "mixed", "mixed_sp"])
@pytest.mark.parametrize("name", ["mlp", "raw", "named", "named_checkpoint"])
def test_every_plan_of_the_small_steps_proves(name, plan):
    with suppress_type_checks():
        plan = hand_plan(plan)
        proof = passes.prove(pipeline.place(prepared(name), plan), prepared(name), plan.mesh)
    assert proof.assumptions == () and proof.against


def test_the_pipeline_proves_and_says_so():
    result = passes.run(prepared("mlp"), {"data": 4, "model": 2}, plan=hand_plan("mixed"))
    assert result.facts()["proof"] == {"values": len(list(result.placed.values())), "assumptions": [], "against": True}
    assert passes.plan(prepared("mlp"), {"data": 2}).report()["proof"]["assumptions"] == []
    assert "proved: " in str(passes.plan(prepared("mlp"), {"data": 2}))


def test_what_has_no_rule_is_an_assumption():
    graph = ir.parse(
        """graph g {
          inputs
            %0: f32[a=8]
          -- forward --
          %1: f32[a=8] = opaque.ffi_call(%0)  # model.py:7
          %2: f32[a=8] = opaque.ffi_call(%1)  # model.py:7
          outputs
            %2
        }
        """
    )
    assert str(passes.prove(graph)) == (
        "proved: 3 values, 2 assumptions\n  assumed: opaque.ffi_call (model.py:7), 2 times"
    )


# Collectives that are missing, doubled, elsewhere, or over other axes (NVIDIA/Megatron-LM#7452 lists most of these).


def test_a_gradient_that_is_not_reduced_over_the_batch():
    text = step()
    refuted(text.dropped(text.at("reduce_scatter", "axis=[batch]", ":36")), "reshape.transpose (proved_step.py:36)")


def test_a_gradient_that_is_reduced_twice():
    text = step()
    refuted(
        text.doubled(text.at("all_reduce", "axis=[position]", ":35")), "all_reduce (proved_step.py:35)", "not partial"
    )


def test_a_gradient_that_is_reduced_over_the_wrong_group():
    text = step()
    at = text.at("all_reduce", "axis=[position]", ":35")
    refuted(
        text.replaced(at, "mesh=[model]", "mesh=[data]"),
        "all_reduce (proved_step.py:35)",
        "it is partial over model only",
        "reduce over model instead",
    )


def test_a_layer_norm_under_sequence_parallelism_without_its_sum_over_model():
    """The gradient of a replicated parameter: right on no device, and different on each."""
    text = step()
    at = text.at("all_reduce", "axis=[position]", ":35")
    refuted(
        text.dropped(at), "is refuted at reshape.reshape (proved_step.py:35)", "reduce_scatter it over model before"
    )


def test_a_loss_that_is_scaled_by_the_size_of_the_model_group():
    text = step()
    at = text.at("map.div(%", "24.0:f32[])")
    refuted(text.inserted(at, "f32[] = map.mul($, 2.0:f32[])"), "map.mul", "no operation of the step before partition")


def test_a_tied_embedding_whose_two_gradients_are_not_added():
    text = step()
    refuted(text.dropped(text.at("map.add_any", "vocab=12@model, embed=8]")), "no operation of the step before")


def test_a_bias_that_is_added_to_the_parts():
    """The reduction stands behind the addition, as it may for any linear function but not for this one."""
    text = Text(BLOCK.partition("\n")[2])
    at = text.at("all_reduce")
    move = text.lines.pop(at)
    text.lines[text.at("map.add")] = (
        text.lines[text.at("map.add")]
        .replace("%9: f32[batch=64@data, embed=1024] =", "%90: f32[batch=64@data, embed=1024] partial(model) =")
        .replace("(%7", "(%6")
    )
    text.lines.insert(text.at("map.add") + 1, move.replace("%7:", "%9:").replace("(%6)", "(%90)"))
    with pytest.raises(NotProved) as caught:
        passes.prove(text.graph())
    assert str(caught.value).splitlines()[0] == (
        "graph block is refuted at map.add (block.py:8): operand 1, %8: it is not partial over model, as %6 is: each "
        "device would bring all of it, and the pending sum over model would count it once a device; make that sum first"
    )


def test_a_bias_that_is_scaled_by_the_devices_to_make_up_for_it():
    text = step()
    at = text.at("all_gather", "axis=[embed]", ":37", "_=1, _=1, embed=8")
    refuted(text.inserted(at, "f32[_=1, _=1, embed=8] = map.div($, 2.0:f32[])"), "map.div", "no operation")


def test_a_function_of_the_parts_that_is_not_linear():
    text = Text(BLOCK.partition("\n")[2])
    at = text.at("contract", "partial(model)")
    text.inserted(at, "f32[batch=64@data, embed=1024] partial(model) = map.tanh($)")
    with pytest.raises(NotProved) as caught:
        passes.prove(text.graph())
    assert "map.tanh" in str(caught.value) and "does not add up to map.tanh of the sum" in str(caught.value)


def test_a_norm_that_counts_what_is_replicated_on_each_device():
    text = step()
    at = text.all("all_reduce", "axis=[embed]", ":46")[0]
    refuted(
        text.replaced(at, "mesh=[data]", "mesh=[data, model]"),
        "all_reduce (proved_step.py:46)",
        "partial over data only",
    )


def test_a_norm_of_one_devices_part():
    text = step()
    at = text.at("all_reduce", "axis=[mlp, embed]", ":46")
    refuted(text.dropped(at), "map.add (proved_step.py:46)", "it is not partial over data, as")


def test_a_mean_by_the_local_count():
    text = step()
    at = text.at("map.div(%", "24.0:f32[])")
    refuted(text.replaced(at, "24.0", "6.0"), "map.div (proved_step.py:40)", "there it is", "24.0:f32[]")


def test_a_wrong_slice():
    """The rows of another device: the mesh axes of a dim in another order."""
    plan = Plan.by_hand({"a": 2, "b": 2}, {"mlp": ("a", "b")})
    text = Text(str(pipeline.place(prepared("mlp"), plan)))
    at = text.at("= contract(", "over=[embed=16]", "%3:")
    text.replaced(at, "mlp=32@a,b", "mlp=32@b,a")
    with pytest.raises(NotProved, match="is said to be sharded mlp@b,a.*the operation makes sharded mlp@a,b"):
        passes.prove(text.graph())


def test_a_gather_in_the_wrong_order():
    graph = ir.parse(
        """graph g {
          inputs
            %0: f32[a=8@data,model]
          -- forward --
          %1: f32[a=8@model] = all_gather(%0) axis=[a] bytes=16 mesh=[data]  # model.py:3
          outputs
            %1
        }
        """
    )
    with pytest.raises(NotProved) as caught:
        passes.prove(graph)
    assert str(caught.value) == (
        "graph g is refuted at all_gather (model.py:3): operand 0, %0: `a=8` is sharded over data, model: only the "
        "innermost of its mesh axes can be taken from it, in their order, and data are not\n"
        "  %0: f32[a=8@data,model]\n"
        "  %1: f32[a=8@model] = all_gather(%0) axis=[a] bytes=16 mesh=[data]                       # model.py:3\n"
        "                                  ^^"
    )


def test_a_maximum_is_not_scattered():
    """A pass merges a sum with the slice behind it; a maximum stays what it is."""
    partitioned = passes.partition(proved_step.before(), proved_step.PLAN)
    maxima = [
        node for node in scatter_sums(partitioned).walk() if node.inputs and node.inputs[0].type.reduction == "max"
    ]
    assert [node.kind for node in maxima] == ["all_reduce"]


# A sum that a loop leaves pending.


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "= broadcast(0.0:f32[])",
            "= broadcast(1.0:f32[])",
            "refuted at broadcast (step.py:7): %13: the result is said to be partial over data, but on the shards of "
            "its operands the operation makes replicated",
        ),
        (
            "%10: f32[embed=1024, mlp=4096] partial(data) = map.add(%5, %8)",
            "%10: f32[embed=1024, mlp=4096] partial(data) = map.mul(%5, %8)",
            "refuted at map.mul (step.py:9): operand 1, %8: it is partial over data, and so is %5",
        ),
        (
            "    # step.py:5\n    -- update --\n    %10: f32[embed=1024, mlp=4096] partial(data) = map.add(%5, %8)",
            "    # step.py:5\n    %9: f32[embed=1024, mlp=4096] = all_reduce(%8) axis=[batch] bytes=4 mesh=[data]\n"
            "    -- update --\n    %10: f32[embed=1024, mlp=4096] partial(data) = map.add(%5, %9)",
            "refuted at map.add (step.py:9): operand 1, %9: it is not partial over data, as %5 is: each device would "
            "bring all of it, and the pending sum over data would count it once a device",
        ),
        (
            "map.mul(0.1:f32[], %4)",
            "map.mul(0.1:f32[], %14)",
            "refuted at map.mul (step.py:11): %11: the result is said to be sharded embed@data, but on the shards of "
            "its operands the operation makes partial over data: all_reduce or reduce_scatter it over data before",
        ),
    ],
)
def test_gradients_that_a_loop_adds_up(old, new, message):
    golden = Path(__file__).parents[1] / "golden" / "passes" / "defer_sums" / "after.ir"
    text = golden.read_text(encoding="utf-8")
    assert str(passes.prove(ir.parse(text))) == "proved: 13 values, 0 assumptions"
    assert text.count(old) == 1
    with pytest.raises(NotProved) as caught:
        passes.prove(ir.parse(text.replace(old, new)))
    assert message in str(caught.value)


# What goes in and out.


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ("%0: f32[a=8] partial(data)", "%1: f32[a=8] partial(data) = map.neg(%0)", "%1"),
            "graph g is refuted at input %0: it is partial over data: what goes into a step is whole or sharded, and "
            "no reduction is pending",
        ),
        (
            ("%0: f32[a=8@data]", "%1: f32[] partial(data) = reduce.sum(%0) over=[a=8]", "%1"),
            "graph g is refuted at output %1: it is still partial over data: each device would return its own part; "
            "all_reduce it over data first",
        ),
        (
            ("%0: f32[a=8@data,data]", "%1: f32[a=8@data,data] = map.neg(%0)", "%1"),
            "graph g is refuted at input %0: its type uses data twice: a mesh axis shards one dim of a value, or the "
            "value is partial over it",
        ),
        (
            ("%0: f32[a=6@data]", "%1: f32[a=6@data] = map.neg(%0)", "%1"),
            "graph g is refuted at input %0: `a=6` is sharded over data, 4 devices, which do not divide it",
        ),
        (
            ("%0: f32[a=8@rows]", "%1: f32[a=8@rows] = map.neg(%0)", "%1"),
            "graph g is refuted at input %0: rows is no axis of the mesh, which has data, model",
        ),
        (
            (
                "%0: f32[a=8@data]",
                "%1: f32[a=8] = all_gather(%0) axis=[a] bytes=32 mesh=[data]",
                "%1\n carried\n inputs 0 -> outputs 0",
            ),
            "graph g is refuted at output %1: the state goes in sharded a@data and comes out replicated: bring the "
            "output to the layout of the input",
        ),
    ],
)
def test_what_goes_in_and_out(lines, message):
    inputs, nodes, outputs = lines
    graph = ir.parse(f"graph g {{\n inputs\n {inputs}\n -- forward --\n {nodes}\n outputs\n {outputs}\n}}\n")
    with pytest.raises(NotProved) as caught:
        passes.prove(graph, mesh={"data": 4, "model": 2})
    assert str(caught.value) == message


def test_another_step_is_refuted():
    with pytest.raises(
        NotProved, match="graph step is refuted at inputs: the step before partition has the inputs f32"
    ):
        passes.prove(proved_step.placed(), prepared("mlp"))
    text = step()
    norm, loss = (text.lines[text.at(path)].split()[0] for path in ("1.norm", "1.loss"))
    text.replaced(text.at("1.norm"), norm, loss)
    refuted(
        text, "is refuted at output 1.norm: it is not what the step before partition returns here, which is", "map.sqrt"
    )


# Random mutations: whatever still proves computes the same.


def sound(graph, before, mesh, at=None, arrays=None):
    """How many mutants there are, and how many still prove: each of those gives the numbers of the graph."""
    arrays = simulated_devices.inputs(before) if arrays is None else arrays
    wanted = None
    count = proved = 0
    for mutant in placed_mutations.mutants(graph, mesh, at):
        count += 1
        try:
            passes.prove(mutant.graph, before, mesh)
        except NotProved:
            continue
        proved += 1
        wanted = simulated_devices.run(graph, mesh, arrays) if wanted is None else wanted
        assert simulated_devices.same(simulated_devices.run(mutant.graph, mesh, arrays), wanted), str(mutant)
    return count, proved


@pytest.mark.parametrize("plan", ["mixed", "tp"])
def test_every_mutation_of_a_small_step_that_changes_a_value_is_refuted(plan):
    with suppress_type_checks():
        plan = hand_plan(plan, 2, 2)
        placed, before = pipeline.place(prepared("mlp"), plan), prepared("mlp")
        count, proved = sound(placed, before, plan.mesh.as_dict())
    assert count > 300 and proved < 0.05 * count


def test_most_mutations_change_values():
    """Or the test above would hold of any prover."""
    with suppress_type_checks():
        plan = hand_plan("mixed", 2, 2)
        placed, mesh = pipeline.place(prepared("mlp"), plan), plan.mesh.as_dict()
        arrays = simulated_devices.inputs(placed)
        wanted = simulated_devices.run(placed, mesh, arrays)
        rng = np.random.default_rng(0)
        chosen = [m for m in placed_mutations.mutants(placed, mesh) if rng.random() < 0.1]
        different = 0
        for mutant in chosen:
            try:
                different += not simulated_devices.same(simulated_devices.run(mutant.graph, mesh, arrays), wanted)
            except (TypeError, ValueError):  # shapes that do not fit
                different += 1
    assert len(chosen) > 25 and different > 0.4 * len(chosen)


@pytest.mark.slow
def test_every_mutation_of_the_step_with_everything_that_changes_a_value_is_refuted():
    with suppress_type_checks():
        count, _ = sound(proved_step.placed(), proved_step.before(), proved_step.MESH)
    assert count > 2000


ZOO = ("gpt2", "llama", "moe_einsum", "vit", "unet", "encoder_decoder", "lstm", "lora", "plain_equinox", "moe_sort")
UNSIMULATED = ("moe_sort",)
"""`jax.vmap` has no rule for a ragged product of a sharded row."""
_DATA, _MODEL = ("data",), ("model",)
ZOO_PLANS = {
    "fsdp": Plan.by_hand({"data": 4}, {"batch": _DATA}, {"embed": _DATA}),
    "megatron": Plan.by_hand(
        {"data": 2, "model": 2},
        {
            "batch": _DATA,
            **dict.fromkeys(("mlp", "heads", "kv_heads", "vocab", "expert", "classes", "latent", "hidden"), _MODEL),
        },
        {"embed": _DATA},
    ),
    "sequence": Plan.by_hand(
        {"data": 2, "model": 2}, {"batch": _DATA, "position": _MODEL}, {"embed": _DATA, "vocab": _MODEL}
    ),
    "three axes": Plan.by_hand(
        {"replica": 2, "data": 2, "model": 2},
        {"batch": ("replica", "data"), "mlp": _MODEL, "position": _MODEL, "vocab": ("model", "replica")},
        {"embed": ("data", "replica"), "mlp": ("model", "data")},
    ),
}


@cache
def zoo_step(name):
    function, state, batch = importlib.import_module(f"zoo.{name}").build()
    return pipeline.prepare(ir.trace(function, state, batch))


@pytest.mark.parametrize("plan", ZOO_PLANS)
@pytest.mark.parametrize(
    "name", [each if each in ("gpt2", "moe_sort") else pytest.param(each, marks=pytest.mark.slow) for each in ZOO]
)
@pytest.mark.filterwarnings("ignore::passes.PlanWarning")
def test_every_model_of_the_zoo_proves(name, plan):
    with suppress_type_checks():
        plan = ZOO_PLANS[plan]
        proof = passes.prove(pipeline.place(zoo_step(name), plan), zoo_step(name), plan.mesh)
    assert proof.assumptions == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", [each for each in ZOO if each not in UNSIMULATED])
@pytest.mark.filterwarnings("ignore::passes.PlanWarning")
def test_random_mutations_of_the_zoo_that_change_a_value_are_refuted(name):
    """Sixty or more for each model, at random places."""
    with suppress_type_checks():
        plan = ZOO_PLANS["megatron"]
        before = zoo_step(name)
        placed = pipeline.place(before, plan)
        places = placed_mutations.places(placed, plan.mesh.as_dict())
        order = np.random.default_rng(len(places)).permutation(len(places))
        moves = [places[i] for i in order if placed_mutations.is_move(places[i].node)]
        count, _ = sound(placed, before, plan.mesh.as_dict(), [*moves[:4], *[places[i] for i in order[:6]]])
    assert count >= 60
