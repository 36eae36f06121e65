"""The number of micro-batches: chosen where it is left to the planner, kept by the run, pinned, said by a plan."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))

from made_up_chip import run, small_run, write_chip

from levanter.compiler import microbatches
from levanter.compiler.compile import planned, report, with_choices
from levanter.compiler.plan_files import PlanFile
from levanter.compiler.question import PlanConfig, read_plan
from levanter.config import TrainConfig
from levanter.errors import UserError
from passes.report.explained import explained
from passes.summary import memory, times

pytestmark = pytest.mark.hurried


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    """One whose step needs a chip with the memory of a step of two micro-batches, and has one."""
    return small_run(tmp_path, 8)


def with_microbatches_of(config: TrainConfig, count: int | None) -> TrainConfig:
    return dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, microbatches=count))


def test_the_fastest_that_fits_is_chosen(config: TrainConfig) -> None:
    """Each number is planned once, for a mesh of 4; chips with less and less memory follow. Beside all of them."""
    made = {1: (1.0, 400), 2: (1.2, 300), 4: (1.1, 200), 8: (2.0, 100)}
    asked: list[int] = []

    def plan(each: TrainConfig) -> SimpleNamespace:
        asked.append(each.trainer.microbatches or 0)
        return SimpleNamespace(graph=each.trainer.microbatches, plan=None, placed=None)

    def choose(capacity: int, unlimited: float) -> microbatches.Chosen:
        asked.clear()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(microbatches, "memory", lambda count, *_: {"peak": made[count][1], "capacity": capacity})
            patched.setattr(microbatches, "times", lambda count, *_: SimpleNamespace(step=made[count][0]))
            now = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, train_batch_size=32))
            found, chosen = microbatches.fastest(now, 4, plan, lambda each: unlimited)
        assert found.trainer.microbatches == chosen.count
        return chosen

    assert choose(1000, 1.0).reason == "the whole batch at once fits, and nothing is faster"
    assert asked == [1]
    for capacity in (1000, 350, 250, 150):
        chosen = choose(capacity, 0.5)
        fitting = {count: step for count, (step, peak) in made.items() if peak <= capacity}
        assert chosen.count == min(fitting, key=lambda count: fitting[count])
        assert asked == [1, 2, 4, 8]
    assert chosen.reason == "with 4 nothing fits, a device needs 200 B of 150 B"
    assert choose(350, 0.5).reason == "with 2 a step takes 9% longer"
    with pytest.raises(UserError) as caught:
        choose(50, 0.5)
    assert str(caught.value) == (
        f"no trainer.microbatches of 1, 2, 4, 8 makes a step fit the memory of a {config.trainer.hardware}: give more "
        "devices with --mesh, a smaller trainer.train_batch_size or model, or another trainer.hardware"
    )


def test_no_number_beats_the_whole_batch_on_unlimited_memory(config: TrainConfig) -> None:
    """What the search relies on where it stops, by planning all of them."""
    config = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, hardware="v5p"))
    steps = []
    for count in microbatches.counts(8, 2):
        result = planned(with_microbatches_of(config, count), {"data": 2}, "v5p")
        steps.append(times(result.graph, result.placed, result.plan).step)
    assert len(steps) == 3
    assert steps == sorted(steps)
    (chosen,) = with_choices(with_microbatches_of(config, None), {"data": 2}, "v5p")[2]
    assert chosen is not None
    assert chosen.count == 1


def test_a_pin_and_a_plan_say_the_number(config: TrainConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, hardware="v5e", mesh="data=2"))
    found = report(config, {"data": 2}, "v5e", pin={"microbatches": "2"}, plan_file=PlanFile("it", tmp_path / "p.yaml"))
    assert found["microbatches"] == {"count": 2, "reason": "pinned"}
    assert "\nmicrobatches: 2\n" in (tmp_path / "p.yaml").read_text()

    followed = dataclasses.replace(config.trainer, plan=read_plan(tmp_path / "p.yaml", "p.yaml"))
    config = dataclasses.replace(config, trainer=followed)
    assert config.trainer.microbatches == 2
    told = report(config, {"data": 2}, "v5e", explain=["microbatches"], plan_file=PlanFile("it", tmp_path / "q.yaml"))
    assert told["memory"] == found["memory"]
    assert (tmp_path / "q.yaml").read_text() == (tmp_path / "p.yaml").read_text()
    lines = explained(told["explained"][0])
    assert lines[0] == "Parts in which the batch is computed: 2."
    assert sorted(line.partition(":")[0] for line in lines[1:]) == ["Micro-batches 1", "Micro-batches 4"]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("0", "--pin microbatches=0: expected a whole number of at least 1, or any"),
        ("2,4", "--pin microbatches=2,4: expected a whole number of at least 1, or any"),
        (
            "3",
            "trainer.train_batch_size 8 does not divide into trainer.microbatches 3: set microbatches to a divisor of "
            "it, for example 2",
        ),
    ],
)
def test_a_number_that_cannot_be_is_refused(config: TrainConfig, written: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        planned(config, {"data": 1}, "v5e", pin={"microbatches": written})
    assert str(caught.value) == message


def test_an_elastic_run_takes_neither_from_a_plan(config: TrainConfig) -> None:
    model = dataclasses.replace(config.model, gradient_checkpointing=False)
    trainer = dataclasses.replace(
        config.trainer, deterministic="elastic", virtual_shards=2, hardware="v5e", mesh="data=1"
    )
    elastic = dataclasses.replace(config, model=model, trainer=trainer)
    for pin, message in (
        ({"remat": "full"}, "remat cannot be pinned in an elastic run: its bits depend on what the backward pass"),
        (
            {"microbatches": "2"},
            "microbatches cannot be pinned in an elastic run: its bits depend on them, and are the",
        ),
        (
            {"padding": "vocab"},
            "an elastic run is not padded: sums over a padded axis have other bits, and those of an elastic run are "
            "the same under any plan; leave `padding` out, or make the axis itself longer",
        ),
    ):
        with pytest.raises(UserError, match=message):
            planned(elastic, {"data": 1}, "v5e", pin=pin)
    for key, message in (
        ({"remat": ["full"]}, "plan.yaml: `remat`: the bits of an elastic run depend on what the backward pass"),
        ({"microbatches": 2}, "plan.yaml: `microbatches` is 2, and trainer.microbatches is 1: the bits of an elastic"),
    ):
        with pytest.raises(UserError, match=message):
            dataclasses.replace(elastic, trainer=dataclasses.replace(trainer, plan=PlanConfig("data=1", **key)))
    with pytest.raises(UserError, match="model.gradient_checkpointing: null lets each plan choose, but the bits of an"):
        dataclasses.replace(elastic, model=dataclasses.replace(model, gradient_checkpointing=None))


@pytest.mark.slow
def test_a_run_keeps_what_was_chosen(config: TrainConfig, tmp_path: Path) -> None:
    free = with_microbatches_of(config, None)
    result = planned(with_microbatches_of(config, 2), {"data": 1}, config.trainer.hardware)
    write_chip(config, 1.05 * memory(result.graph, result.plan, result.placed)["peak"])
    (chosen,) = with_choices(free, {"data": 1}, config.trainer.hardware)[2]
    assert chosen is not None
    assert chosen.said.startswith("trainer.microbatches: 2, the fastest that fits a device (0.0")
    assert run(free)[0] == chosen.said
    kept: dict[str, Any] = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert kept["trainer"]["microbatches"] is None and kept["fixed"]["trainer.microbatches"] == 2

    # A resume keeps them where the memory is another one: bits depend on them.
    write_chip(config, 1e9)
    longer = dataclasses.replace(free.trainer, num_train_steps=3)
    assert not any(line.startswith("trainer.microbatches") for line in run(dataclasses.replace(config, trainer=longer)))
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["fixed"]["trainer.microbatches"] == 2


def test_a_number_that_is_given_is_left_alone(config: TrainConfig) -> None:
    assert with_choices(config, {"data": 1}, "v5e") == (config, None, [])


def test_the_numbers_that_are_tried() -> None:
    assert list(microbatches.counts(32, 4)) == [1, 2, 4, 8]
    assert list(microbatches.counts(12, 1)) == [1, 2, 4]
    assert list(microbatches.counts(7, 2)) == [1]
