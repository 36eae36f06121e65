"""`trainer.microbatches: null`: the fewest whose step fits, chosen once and kept by the run."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from rich.console import Console

from levanter.compiler import microbatches
from levanter.compiler.compile import planned, with_microbatches
from levanter.config import TrainConfig
from levanter.data import TextDataConfig
from levanter.errors import UserError
from levanter.models.gpt2.config import Gpt2Config
from levanter.runtime.config import TrainerConfig
from levanter.runtime.trainer import train
from passes.summary import memory

pytestmark = pytest.mark.hurried

CHIP = """
small:
  source: made up
  bf16_tflops: 1
  memory_gb: {gigabytes}
  hbm_gb_per_s: 10
  network: switched
  link_gb_per_s: 1
  host_chips: 8
  host_gb_per_s: 1
  overlap_state: 0
  overlap_activations: 0
"""


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    """One whose step needs a chip with the memory of a step of two micro-batches, and has one."""
    (tmp_path / "chips.yaml").write_text(CHIP.format(gigabytes=1))
    (tmp_path / "text.txt").write_text("a text of a few words that says nothing, and says it again. " * 200)
    model = Gpt2Config(seq_len=16, hidden_dim=8, num_heads=2, num_layers=1)
    trainer = TrainerConfig(
        train_batch_size=8,
        num_train_steps=2,
        eval_batches=0,
        sample_tokens=0,
        run_dir=str(tmp_path / "run"),
        hardware=f"{tmp_path}/chips.yaml:small",
    )
    data = TextDataConfig(paths=[str(tmp_path / "text.txt")])
    return TrainConfig(model=model, data=data, trainer=trainer)


def with_microbatches_of(config: TrainConfig, count: int | None) -> TrainConfig:
    return dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, microbatches=count))


def write_chip(config: TrainConfig, size: float) -> None:
    file = Path(config.trainer.hardware.partition(":")[0])
    file.write_text(CHIP.format(gigabytes=size / 1e9))


def run(config: TrainConfig) -> list[str]:
    out = io.StringIO()
    train(config, Console(file=out, width=200))
    return out.getvalue().splitlines()


def test_the_fewest_that_fit_are_chosen(config: TrainConfig) -> None:
    """The step is planned once for 1 and once for 2 micro-batches; chips with less and less memory follow."""
    found = {}

    def plan(each: TrainConfig) -> SimpleNamespace:
        count = each.trainer.microbatches
        if count not in found:
            result = planned(each, {"data": 1}, config.trainer.hardware)
            found[count] = memory(result.graph, result.plan, result.placed)
        return SimpleNamespace(graph=count, plan=None, placed=None)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(microbatches, "memory", lambda count, *_: found[count] | {"capacity": capacity})
        capacity = 10**9
        assert microbatches.fewest(config, 4, plan)[0].trainer.microbatches == 1
        plan(microbatches.with_count(config, 2))
        assert found[2]["peak"] < found[1]["peak"]
        capacity = (found[1]["peak"] + found[2]["peak"]) // 2
        chosen, needs = microbatches.fewest(config, 4, plan)
        assert (chosen.trainer.microbatches, needs["peak"]) == (2, found[2]["peak"])
        capacity = 1000
        with pytest.raises(UserError) as caught:
            microbatches.fewest(config, 4, plan)
    assert str(caught.value) == (
        f"no trainer.microbatches of 1, 2 makes a step fit the memory of a {config.trainer.hardware}: give more "
        "devices with --mesh, a smaller trainer.train_batch_size or model, or another trainer.hardware"
    )


@pytest.mark.slow
def test_a_run_keeps_what_was_chosen(config: TrainConfig, tmp_path: Path) -> None:
    free = with_microbatches_of(config, None)
    result = planned(with_microbatches_of(config, 2), {"data": 1}, config.trainer.hardware)
    write_chip(config, 1.05 * memory(result.graph, result.plan, result.placed)["peak"])
    _, said = with_microbatches(free, {"data": 1}, config.trainer.hardware)
    assert said is not None and said.startswith("trainer.microbatches: 2, the fewest whose step fits a device (0.0")
    assert run(free)[0] == said
    kept: dict[str, Any] = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert kept["trainer"]["microbatches"] is None and kept["fixed"]["trainer.microbatches"] == 2

    # A resume keeps them where the memory is another one: bits depend on them.
    write_chip(config, 1e9)
    longer = dataclasses.replace(free.trainer, num_train_steps=3)
    assert not any(line.startswith("trainer.microbatches") for line in run(dataclasses.replace(config, trainer=longer)))
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["fixed"]["trainer.microbatches"] == 2


def test_a_number_that_is_given_is_left_alone(config: TrainConfig) -> None:
    assert with_microbatches(config, {"data": 1}, "v5e") == (config, None)


def test_the_numbers_that_are_tried() -> None:
    assert list(microbatches.counts(32, 4)) == [1, 2, 4, 8]
    assert list(microbatches.counts(12, 1)) == [1, 2, 4]
    assert list(microbatches.counts(7, 2)) == [1]
