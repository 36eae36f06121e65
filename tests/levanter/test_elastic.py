"""An elastic run makes the same bits on any number of devices, and through switches between them."""

from __future__ import annotations

import dataclasses
import io
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental import io_callback
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "models"))

from rescued import configured, digest, records, trained, write_files
from small import FAMILIES, run_of

import ir
import passes
from haliax import NamedArray
from levanter import checkpoint
from levanter.cli import devices
from levanter.compiler import compile as compiler
from levanter.compiler.compile import Compiled, compile_training
from levanter.compiler.elastic import check_elastic, check_elastic_graph
from levanter.config import TrainConfig, load, loads, parse_mesh
from levanter.errors import UserError
from levanter.registry import OPTIMIZERS
from levanter.runtime import evaluate, record
from levanter.runtime.asked import requested
from levanter.runtime.command import Command
from levanter.runtime.reproduce import reproduce
from levanter.runtime.state import LmBatch, batch_axes, batch_shape, flat_names, init_state, state_shape, train_step_of
from levanter.runtime.summary import next_commands
from levanter.runtime.trainer import train
from levanter.runtime.watch import Watch

STEPS = 3
TINY = {
    "trainer.deterministic": "elastic",
    "trainer.train_batch_size": 32,
    "model.num_layers": 2,
    "model.hidden_dim": 32,
    "model.num_heads": 2,
    "model.seq_len": 8,
    "model.vocab_size": 96,
}


def tiny(**changes: Any) -> TrainConfig:
    name = str(changes.pop("name", "gpt2_nano"))
    return load(name, [word for key, value in {**TINY, **changes}.items() for word in (f"--{key}", str(value))])


Plan = tuple[Compiled, Any]
"""The step of a mesh, and its evaluation."""


def compiled_for(config: TrainConfig, mesh: str, storage: dict[str, Sequence[str]] | None = None) -> Plan:
    """The step on a mesh; with `storage`, stored so and not as the planner thinks best."""
    compiled = _step(config, mesh, storage)
    return compiled, compiled.lower_for(
        _evaluation(config), _evaluated(config)(state_shape(config)), batch_shape(config)
    )


def _evaluated(config: TrainConfig) -> Any:
    return (lambda state: state) if config.optimizer.averages else (lambda state: state.model)


def _evaluation(config: TrainConfig) -> Any:
    return evaluate.eval_step_of(config) if config.optimizer.averages else evaluate.eval_step


def _step(config: TrainConfig, mesh: str, storage: dict[str, Sequence[str]] | None) -> Compiled:
    config = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, mesh=mesh))
    if storage is None:
        return compile_training(config)
    sizes = config.mesh.as_dict()
    plan = passes.Plan.by_hand(sizes, {"virtual_shard": tuple(sizes)}, storage)
    result = compiler.planned(config, sizes, "v5e", plan=plan)
    state, batch = passes.input_shardings(result.placed, passes.device_mesh(plan))
    step = passes.lower_placed(result.placed, plan, donate=True)
    return Compiled(result.graph, result.plan, step, state, batch)


def batches(config: TrainConfig, masked: bool) -> list[LmBatch]:
    axes, rng = batch_axes(config), np.random.default_rng(0)
    size, length = config.trainer.train_batch_size, axes[-1].size
    found: list[LmBatch] = []
    for _ in range(STEPS):
        ids = rng.integers(0, config.model.vocab_size, (size, length + 1)).astype(np.int32)
        targets = ids[:, 1:].copy()
        if masked:  # rows of all lengths, some of them empty
            targets[np.arange(length) >= rng.integers(0, length + 1, (size, 1))] = -1
        parts = [ids[:, :-1], targets]
        if config.data.has_segments:  # documents of all lengths
            parts.append(np.cumsum(rng.random((size, length)) < 0.3, axis=1).astype(np.int32))
        shape = [axis.size for axis in axes]
        found.append(LmBatch(*(NamedArray(each.reshape(shape), axes) for each in parts)))
    return found


def run(config: TrainConfig, plan: Sequence[Plan], masked: bool = True) -> tuple[Any, ...]:
    """Everything that a run gives, by bits: the step goes on under another plan each time."""
    state = jax.tree.map(np.asarray, init_state(config))
    numbers: list[bytes] = []
    for (compiled, held_out), batch in zip(plan, batches(config, masked), strict=True):
        placed = jax.device_put(batch, compiled.batch_shardings)
        state = jax.device_put(state, compiled.state_shardings)
        if config.trainer.watch.parameters:
            numbers += [np.asarray(each).tobytes() for each in Watch(config, compiled).numbers(state, placed).values()]
        state, metrics = compiled.train_step(state, placed)
        loss = held_out(_evaluated(config)(state), placed)
        assert np.isfinite(float(loss))
        numbers += [np.asarray(each).tobytes() for each in (*metrics.values(), loss)]
        state = jax.tree.map(np.asarray, state)
    return tuple(numbers), {name: np.asarray(each).tobytes() for name, each in flat_names(state).items()}


def test_the_same_bits_on_any_mesh_and_through_switches() -> None:
    config = tiny(**{"model.dropout": 0.1, "model.gradient_checkpointing": True})
    one = compiled_for(config, "data=1")
    stored = compiled_for(config, "data=8", {"embed": ("data",)})
    hybrid = compiled_for(config, "replica=2,data=2", {"mlp": ("data",)})
    wanted = run(config, [one] * STEPS)
    same(run(config, [stored] * STEPS), wanted)
    same(run(config, [hybrid, stored, one]), wanted)
    same(run(config, [one, hybrid, hybrid]), wanted)


REPLICATED = ("adafactor", "muon", "soap", "sophia")
"""Optimizers whose update has other bits for shards."""
WIDTH = {
    "bf16": {"model.compute_dtype": "bfloat16"},
    "short moments": {"optimizer.moments_dtype": "bfloat16"},
    "micro-batches": {"trainer.microbatches": 2, "trainer.virtual_shards": 8},
    "llama": {"name": "llama_nano"},
    "mixture": {"name": "mixtral_nano"},
    "lion": {"optimizer.type": "lion"},
    "adafactor": {"optimizer.type": "adafactor"},
    "muon": {"optimizer.type": "muon"},
    "soap": {"optimizer.type": "soap"},
    "sophia": {"optimizer.type": "sophia"},
    "schedule-free": {"optimizer.type": "schedule_free"},
    "average": {"optimizer.ema": 0.9},
    "frozen": {"trainer.frozen": "[embeddings.*]"},
    "groups": {"optimizer.groups": "[{match: '*.mlp.*', learning_rate: 0.5, weight_decay: 0.0}]"},
    "adapter": {"adapter.type": "lora", "adapter.dropout": 0.1},
    "packed": {"data.packing": "separate"},
    "watched": {"trainer.watch.parameters": "['*']", "trainer.watch.every": 1},
    "skip": {"trainer.on_nonfinite": "skip"},
    "scaled loss": {"trainer.loss_scale.kind": "dynamic", "trainer.loss_scale.initial": 2.0**126},
    "precision": {"trainer.precision": "params=bfloat16,compute=bfloat16,output=float32"},
    "recomputed": {"model.gradient_checkpointing": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("changes", WIDTH.values(), ids=WIDTH)
def test_the_same_bits_of_all_kinds(changes: dict[str, Any]) -> None:
    compare_one_with_four(tiny(**changes))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_bits_of_every_model(family: str) -> None:
    config = run_of(family, num_layers=2, seq_len=16)
    trainer = dataclasses.replace(config.trainer, deterministic="elastic", train_batch_size=32)
    compare_one_with_four(dataclasses.replace(config, trainer=trainer))


def compare_one_with_four(config: TrainConfig) -> None:
    """On one device, on four with the state in shards where that can be, and through switches."""
    stored = None if OPTIMIZERS.name_of(type(config.optimizer)) in REPLICATED else {"embed": ("data",)}
    one, four = compiled_for(config, "data=1"), compiled_for(config, "data=4", stored)
    wanted = run(config, [one] * STEPS)
    same(run(config, [four] * STEPS), wanted)
    same(run(config, [four, one, four]), wanted)


def same(found: tuple[Any, ...], wanted: tuple[Any, ...]) -> None:
    """All numbers and all arrays are the same; only the names of others are shown."""
    assert [i for i, (a, b) in enumerate(zip(found[0], wanted[0], strict=True)) if a != b] == []
    assert [name for name in wanted[1] if found[1][name] != wanted[1][name]] == []


@pytest.mark.slow
def test_a_run_resumes_on_another_mesh_to_the_same_bits(tmp_path: Path) -> None:
    text = tmp_path / "numbers.txt"
    text.write_text("".join(f"The number {n} comes after {n - 1}, and before {n + 1}.\n" for n in range(400)))

    def made(name: str, steps: int, mesh: str | None) -> Path:
        config = tiny(
            **{
                "data.type": "text",
                "data.paths": f"[{text}]",
                "data.cache_dir": tmp_path / "cache",
                "optimizer.lr_schedule": "constant",
                "optimizer.warmup": 2.0,
                "trainer.num_train_steps": steps,
                "trainer.run_dir": tmp_path / name,
                "trainer.eval_batches": 1,
                "trainer.sample_tokens": 0,
                "model.vocab_size": 50257,
                "model.num_layers": 1,
                "model.hidden_dim": 16,
            },
            **({} if mesh is None else {"trainer.mesh": mesh}),
        )
        train(config, Console(file=io.StringIO()))
        return tmp_path / name

    made("switched", 2, "data=8")
    switched, straight = made("switched", 4, "data=2"), made("straight", 4, None)
    assert checkpoint.digest(switched) == checkpoint.digest(straight)


@pytest.mark.slow
def test_a_run_goes_back_to_the_same_bits_on_any_mesh(tmp_path: Path) -> None:
    """One bad document is met on two devices, another on one; the steps are reproduced on the other mesh."""
    folder = write_files(tmp_path).parent
    rescue = ["--trainer.deterministic=elastic", "--trainer.virtual_shards=4", "--trainer.on_nonfinite=rewind"]
    first = ["--trainer.mesh=data=2", "--trainer.num_train_steps=12", "--optimizer.schedule_steps=24"]
    said = trained(configured(folder, *rescue, *first, run_dir="switched"))
    assert "loss is nan at step 9: going back to step 5, without the 4 batches since" in said
    said = trained(configured(folder, *rescue, run_dir="switched"))
    assert "loss is nan at step 21: going back to step 20, without the 1 batch since" in said
    trained(configured(folder, *rescue, run_dir="straight"))
    assert records(folder / "switched") == records(folder / "straight")
    assert digest(folder / "switched") == digest(folder / "straight")
    found = reproduce(requested(folder / "straight", (0, 24), "data=2"), [].append)
    assert " reproduced bit by bit: 24 records and step-15 " in found


def test_the_plan_says_what_is_done_in_order() -> None:
    config = tiny()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", passes.PlanWarning)
        plan = passes.Plan.by_hand({"data": 4}, {"virtual_shard": "data"}, {"embed": "data"})
        result = compiler.planned(config, {"data": 4}, "v5e", plan=plan)
    assert result.proof is not None and not result.proof.assumptions
    found = [each for each in result.facts()["collectives"] if each["phase"] == "update"]
    # Gradients are exchanged, which is as much as a reduce-scatter sends; numbers are gathered.
    assert {each["kind"] for each in found} == {"all_to_all", "all_gather"}
    parameters = result.facts()["parameters"]
    exchanged = sum(each["bytes"] * each["count"] for each in found if each["kind"] == "all_to_all")
    assert exchanged == sum(each["bytes"] for each in parameters if "embed" in each["axes"])


def test_gradients_are_added_as_they_are_made_and_never_all_there() -> None:
    config = tiny(**{"model.vocab_size": 16384})
    step: Any = _step(config, "data=1", None).train_step
    memory = step.lower(state_shape(config), batch_shape(config)).compile().memory_analysis()
    head = 16384 * 32 * 4
    assert 0 < memory.temp_size_in_bytes < config.trainer.virtual_shards * head


def test_the_planner_shards_virtual_shards_alone() -> None:
    result = compiler.planned(tiny(), {"replica": 2, "data": 4}, "v5e")
    assert result.plan.compute == {"virtual_shard": ("replica", "data")}
    muon = compiler.planned(tiny(**{"optimizer.type": "muon"}), {"data": 4}, "v5e")
    assert muon.plan.storage == {"virtual_shard": ("data",)}


@pytest.mark.parametrize("virtual_shards", [2, 4, 16, 22, 64])
def test_what_to_try_next_is_elastic_too(virtual_shards: int) -> None:
    batch = 2 * virtual_shards
    config = tiny(**{"trainer.virtual_shards": virtual_shards, "trainer.train_batch_size": batch})
    advice = next_commands(Command(("train", "--run-dir", "a")), config, Path("a"))
    meshes = [words[words.index("--mesh") + 1] for words in (line.split() for line, _ in advice) if "--mesh" in words]
    assert len(meshes) == (1 if virtual_shards in (2, 22) else 2)
    for mesh in meshes:
        check_elastic(parse_mesh(mesh).as_dict(), virtual_shards)


REFUSED = {
    "tensor parallelism": (
        {"trainer.mesh": "data=2,model=2"},
        "trainer.deterministic elastic shares out the batch alone, and the mesh has model=2: products and sums over "
        "another number of devices have other bits; use the axes replica and data only, or trainer.deterministic fast",
    ),
    "too many devices": (
        {"trainer.mesh": "data=16"},
        "trainer.virtual_shards 16 cannot be shared out over 16 devices: each must have 2, 4, 8, … of them. Use "
        "1, 2, 4, 8 devices, or set virtual_shards to 32 or 64 (it must stay what it is for the whole run)",
    ),
    "an odd number of devices": (
        {"trainer.mesh": "data=3"},
        "trainer.virtual_shards 16 cannot be shared out over 3 devices: each must have 2, 4, 8, … of them. Use "
        "1, 2, 4, 8 devices, or set virtual_shards to 6 or 12 (it must stay what it is for the whole run)",
    ),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_elastic_is_refused(changes: dict[str, Any], message: str) -> None:
    config = tiny(**changes)
    with pytest.raises(UserError) as refused:
        compiler.planned(config, config.mesh.as_dict(), "v5e")
    assert str(refused.value) == message


def test_microbatches_are_not_chosen_by_the_mesh() -> None:
    with pytest.raises(UserError) as refused:
        loads("trainer: {deterministic: elastic, microbatches: null}")
    assert (
        "trainer.microbatches null is chosen for the memory of one mesh, and trainer.deterministic elastic adds up the "
        "same micro-batches on any: set a number, such as 1"
    ) in str(refused.value)


def test_the_threads_of_a_run_are_those_of_any_mesh() -> None:
    """A CPU has at least a thread for each of its devices, and cuts its work by their number."""
    fixed = record.fixed_at_start(tiny(**{"trainer.virtual_shards": 32}), record.Record(), 3, threads=2)
    assert fixed["trainer.cpu_threads"] == 16
    assert record.fixed_at_start(tiny(**{"trainer.cpu_threads": 9}), record.Record(), 3, 2)["trainer.cpu_threads"] == 9
    with pytest.raises(UserError) as refused:
        devices.require_threads(2, 8)
    assert str(refused.value) == (
        "trainer.cpu_threads 2 is less than the 8 CPU devices of this process, which have a thread each. Bits depend "
        "on their number, and trainer.deterministic elastic has one for any mesh: set it to 8, enough for all devices "
        "that can share out the virtual shards, or leave it out in a new run"
    )
    devices.require_threads(8, 8)
    devices.require_threads(2, 4)  # virtual shards for four devices: the mesh is refused, not the threads


def test_a_call_of_the_host_is_refused() -> None:
    def step(x: jax.Array) -> jax.Array:
        io_callback(print, None, x[0])
        return 2.0 * x

    with pytest.raises(UserError) as refused:
        check_elastic_graph(ir.trace(step, jax.ShapeDtypeStruct((4,), np.float32)))
    assert re.fullmatch(
        r"`opaque\.io_callback` \(test_elastic\.py:\d+\) cannot run on one device's shards, and an elastic step runs "
        r"on nothing else: take it out of the step, or use trainer\.deterministic fast",
        str(refused.value),
    )


def test_a_batch_that_does_not_divide_is_refused() -> None:
    for sizes, advice in (
        ("train_batch_size: 24", "a multiple of 16, or virtual_shards to a divisor, for example 8"),
        ("train_batch_size: 12", "a multiple of 16, or virtual_shards to a divisor, for example 4"),
        ("train_batch_size: 18", "a multiple of 16, or virtual_shards to a divisor, for example 2"),
        ("train_batch_size: 7", "a multiple of 16"),
    ):
        with pytest.raises(UserError) as refused:
            loads(f"trainer: {{deterministic: elastic, {sizes}}}")
        assert str(refused.value).endswith(
            "does not divide into trainer.virtual_shards 16, as trainer.deterministic elastic needs: set it to "
            f"{advice} (set in config:1)"
        )
    with pytest.raises(UserError) as refused:
        loads("trainer: {deterministic: elastic, train_batch_size: 24, microbatches: 2}")
    assert str(refused.value) == (
        "trainer.train_batch_size 24 does not divide into trainer.virtual_shards 16 of 2 micro-batches, as "
        "trainer.deterministic elastic needs: set it to a multiple of 32, or virtual_shards to a divisor of 12, for "
        "example 4 (set in config:1)"
    )


BY_HAND = {
    "no rule": (
        {}, {}, {},
        "an elastic step shards `virtual_shard` over all devices: --compute virtual_shard=replica,data",
    ),
    "tensor parallelism": (
        {}, {"virtual_shard": ("replica", "data"), "mlp": ("data",)}, {},
        "`mlp` cannot be sharded over data in an elastic step: each device computes whole virtual shards; leave it "
        "out, or use it for storage alone",
    ),
    "outer axes": (
        {}, {"virtual_shard": ("replica", "data")}, {"mlp": ("replica",)},
        "`mlp` cannot be stored over replica alone in an elastic step: sums go along the innermost mesh axes first; "
        "store it over data or over replica, data",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "compute", "storage", "message"), BY_HAND.values(), ids=BY_HAND)
def test_a_plan_by_hand_that_is_none_is_refused(changes: Any, compute: Any, storage: Any, message: str) -> None:
    mesh = {"replica": 2, "data": 2}
    with pytest.raises(UserError) as refused:
        compiler.planned(tiny(**changes), mesh, "v5e", plan=passes.Plan.by_hand(mesh, compute, storage))
    assert str(refused.value) == message


def test_an_optimizer_of_matrices_is_not_stored_in_shards() -> None:
    plan = passes.Plan.by_hand({"data": 2}, {"virtual_shard": "data"}, {"mlp": "data"})
    with pytest.raises(UserError) as refused:
        compiler.planned(tiny(**{"optimizer.type": "muon"}), {"data": 2}, "v5e", plan=plan)
    message = str(refused.value)
    assert message.startswith("`mlp` cannot be stored over data in an elastic step with this optimizer: its ")
    assert message.endswith(
        "keep the state replicated, or use one that updates element by element, such as adamw or lion"
    )


def test_a_fast_step_is_what_it_was() -> None:
    config = tiny(**{"trainer.deterministic": "fast"})
    graph = ir.trace(train_step_of(config), state_shape(config), batch_shape(config))
    assert not {node.kind for node in graph.walk()} & {"each", "sum_in_order", "square_sum"}
