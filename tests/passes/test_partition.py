"""Placing: which collectives a plan makes, where, how large; and the text of a placed graph, to read."""

import re
from collections import Counter

import pytest
from step_models import collectives_of, hand_plan, prepared

import ir
from passes import Plan, partition, pipeline, summary
from passes.scatter_sums import scatter_sums

MESH = {"data": 4, "model": 2}


def counted(placed):
    """(kind, axis names, mesh axes, what is moving) → how often the text of the step has it."""
    return Counter(
        (node.kind, ",".join(map(str, node.attrs["axis"])), node.attrs["mesh"], node.attrs["moving"])
        for node in collectives_of(placed)
    )


@pytest.mark.parametrize("plan", ["dp", "fsdp", "tp", "mixed"])
def test_a_small_placed_graph(plan, golden):
    placed = ir.verify(pipeline.place(prepared("mlp"), hand_plan(plan)))
    # Without line numbers: a helper that gets a line longer is no change of the graph.
    golden(re.sub(r"(# step_models\.py):\d+", r"\1", str(placed)), f"placed_mlp_{plan}.txt")


def test_the_whole_plan_says_nothing():
    placed = pipeline.place(prepared("mlp"), hand_plan("whole"))
    assert placed == prepared("mlp")


@pytest.mark.parametrize("name", ["mlp", "raw", "named", "named_checkpoint"])
def test_a_plan_without_rules_is_one_whose_rules_reach_nothing(name):
    """What is left alone at once is what walking through all of it leaves alone."""
    graph = prepared(name)
    reaching_nothing = Plan.by_hand({"data": 1}, {"an axis of no array": ["data"]})
    assert partition(graph, Plan.by_hand({"data": 1}, {})) == partition(graph, reaching_nothing) == graph


def test_data_parallelism_sums_gradients_and_the_loss():
    placed = pipeline.place(prepared("mlp"), hand_plan("dp"))
    both = ("data", "model")
    assert counted(placed) == {
        ("all_reduce", "batch", both, "gradient"): 2,
        ("all_reduce", "batch", both, "activation"): 1,
    }


def test_fully_sharded_storage_gathers_parameters_and_scatters_gradients():
    placed = pipeline.place(prepared("mlp"), hand_plan("fsdp"))
    both = ("data", "model")
    assert counted(placed) == {
        ("all_gather", "embed", both, "parameter"): 2,
        ("reduce_scatter", "batch", both, "gradient"): 2,
        ("all_reduce", "batch", both, "activation"): 1,
    }
    gathers = [node for node in collectives_of(placed) if node.kind == "all_gather"]
    assert [node.attrs["bytes"] for node in gathers] == [16 * 32 * 4] * 2  # after gathering
    scatters = [node for node in collectives_of(placed) if node.kind == "reduce_scatter"]
    assert [node.attrs["bytes"] for node in scatters] == [16 * 32 * 4] * 2  # before reducing


def test_megatron_sums_where_the_contraction_is_split():
    placed = pipeline.place(prepared("mlp"), Plan.by_hand(MESH, {"mlp": ("model",)}))
    assert counted(placed) == {("all_reduce", "mlp", ("model",), "activation"): 1}
    (node,) = collectives_of(placed)
    assert (node.phase, node.attrs["bytes"]) == ("forward", 8 * 16 * 4)


def test_megatron_in_a_transformer():
    """Forward: one sum after attention, one after the MLP, each in the loop's body; one for the split embedding."""
    placed = pipeline.place(prepared("raw"), hand_plan("tp"))
    activations = [node for node in collectives_of(placed) if node.attrs["moving"] == "activation"]
    forward_body = next(node for node in placed.nodes if node.kind == "loop" and node.phase == "forward").bodies[0]
    inside = [node for node in forward_body.walk() if node in activations]
    assert [(node.kind, node.attrs["mesh"], node.attrs["bytes"]) for node in inside] == [
        ("all_reduce", ("model",), 2 * 16 * 32 * 4),
        ("all_reduce", ("model",), 2 * 16 * 32 * 4),
    ]
    assert {"heads", "mlp"} <= {name for node in inside for name in node.attrs["axis"]}
    assert not [node for node in collectives_of(placed) if node.kind in ("all_gather", "all_to_all")]


def test_sequence_parallelism_turns_sums_into_scatters_and_gathers():
    placed = pipeline.place(prepared("raw"), hand_plan("sp"))
    loop = next(node for node in placed.nodes if node.kind == "loop" and node.phase == "forward")
    forward_body = loop.bodies[0]
    kinds = Counter(
        node.kind for node in forward_body.walk() if node.kind in ("all_gather", "reduce_scatter", "all_reduce")
    )
    assert kinds == {"all_gather": 2, "reduce_scatter": 2}
    carry = forward_body.inputs[loop.attrs["constants"]]
    assert str(carry.type) == "f32[batch=8@data, position=16@model, embed=32]"


def test_a_collective_in_a_loop_counts_once_a_trip():
    plan = hand_plan("tp")
    placed = pipeline.place(prepared("raw"), plan)
    in_text = Counter(node.kind for node in collectives_of(placed))
    in_a_step = Counter()
    for each in summary.collectives(placed, plan):
        in_a_step[each.kind] += each.count
    assert in_a_step["all_reduce"] > in_text["all_reduce"]
    forward = [each for each in summary.collectives(placed, plan) if each.phase == "forward"]
    assert {each.axis: each.count for each in forward if each.axis in ("mlp", "heads")} == {"mlp": 2, "heads": 2}


@pytest.mark.parametrize("name", ["raw", "named", "named_checkpoint"])
@pytest.mark.parametrize("plan", ["dp", "mixed_sp"])
def test_a_placed_step_is_well_formed(name, plan):
    chosen = hand_plan(plan)
    placed = ir.verify(pipeline.place(prepared(name), chosen))
    for value in placed.values():
        used = [axis for dim in value.type.dims for axis in dim.mesh]
        assert len(used) == len(set(used))
        assert not set(used) & set(value.type.partial)
        for dim in value.type.dims:
            assert dim.size % chosen.mesh.group(chosen.mesh.mask(dim.mesh)) == 0
    for before, after in placed.carried:
        assert placed.inputs[before].type == placed.outputs[after].type
    for operand in placed.outputs:
        assert operand.type.partial == ()
    sizes = {value.id: value.type for value in prepared(name).values()}
    for value in placed.values():
        if value.id in sizes:
            assert value.type.shape == sizes[value.id].shape and value.type.names == sizes[value.id].names


@pytest.mark.parametrize("plan", ["fsdp", "mixed_sp"])
def test_sums_that_are_sliced_become_scatters(plan):
    """The same values come out; each merged pair was an all-reduce and a slice over the same axes."""
    before = partition(prepared("named"), hand_plan(plan))
    after = scatter_sums(before)
    was, now = (Counter(node.kind for node in graph.walk()) for graph in (before, after))
    merged = now["reduce_scatter"] - was["reduce_scatter"]
    assert merged >= 0
    assert was["all_reduce"] - now["all_reduce"] == merged == was["reshard"] - now["reshard"]
    assert [output.type for output in after.outputs] == [output.type for output in before.outputs]
    assert scatter_sums(after) == after
    ir.verify(after)
