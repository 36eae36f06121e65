"""How fast a run goes, and how much of its time makes steps: by clocks that the tests turn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from levanter.compiler.arithmetic import StepArithmetic, peak_of
from levanter.compiler.compile import planned
from levanter.config import TrainConfig
from levanter.models.gpt2.config import Gpt2Config
from levanter.runtime.config import TrainerConfig
from levanter.runtime.pace import Before, Pace, before
from levanter.trackers.records import TIMED, read, untimed
from passes.arithmetic import arithmetic
from passes.hardware.chip import CHIPS


class Clocks:
    """Both clocks, which stand still until they are turned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("time.perf_counter", lambda: self.now)
        monkeypatch.setattr("time.time", lambda: 1_000_000.0 + self.now)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def test_the_pace_does_not_count_pauses(clocks: Clocks) -> None:
    pace = Pace(tokens_per_step=100)
    rates = []
    for moment, paused in ((1.0, None), (2.0, 60.0), (62.0, None)):
        clocks.now = moment
        rates.append(pace.tick()["tokens_per_second"])
        if paused is not None:
            clocks.now = paused
            pace.pause()
    assert rates == [100.0, 100.0, 75.0]
    clocks.now = 70.0
    pace.lost(7.0)
    assert pace.tick()["step_seconds"] == 1.0


def test_every_number_of_a_step(clocks: Clocks) -> None:
    pace = Pace(100, StepArithmetic(flops=3_000, peak=10_000.0), Before(started=1_000_000.0 - 10.0, useful=5.0))
    clocks.now = 2.0
    pace.waited_for_data(0.25, idle=True)
    pace.waited_for_data(0.5, idle=False)
    pace.stalled(0.125)
    assert pace.tick() == {
        "tokens_per_second": 50.0,
        "step_seconds": 2.0,
        "flops_per_second": 1500.0,
        "mfu": 0.15,
        "data_wait_seconds": 0.25,
        "checkpoint_stall_seconds": 0.125,
        "goodput": round(7.0 / 12.0, 4),
        "run_seconds": 12.0,
        "time": 1_000_002.0,
    }
    clocks.now = 3.0
    again = pace.tick()
    assert again.keys() == TIMED
    assert again["data_wait_seconds"] == again["checkpoint_stall_seconds"] == 0.0


def test_goodput_counts_what_is_left_of_earlier_starts(clocks: Clocks, tmp_path: Path) -> None:
    """A run of four steps of a second, of which two are lost, and that is resumed a minute after its first start."""
    path = tmp_path / "metrics.jsonl"
    pace = Pace(100, before=before(path, 0, now=1_000_000.0 - 4.0))
    with open(path, "w") as file:
        for step in (1, 2, 3, 4):
            clocks.now += 1.0
            file.write(json.dumps({"step": step, "loss": 0.5, **pace.tick()}) + "\n")
        file.write('{"step": 5, "lo')
    assert [each["goodput"] for each in read(path)] == [round(n / (n + 4), 4) for n in (1, 2, 3, 4)]
    assert [untimed(each) for each in read(path)] == [{"step": step, "loss": 0.5} for step in (1, 2, 3, 4)]
    resumed = before(path, 2, now=1_000_056.0)
    assert resumed == Before(started=999_996.0, useful=2.0)
    clocks.now = 56.0
    pace = Pace(100, before=resumed)
    clocks.now = 57.0
    assert pace.tick()["goodput"] == round(3 / 61, 4)


def test_peaks_are_of_the_devices_at_hand() -> None:
    def devices(platform: str, *kinds: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(platform=platform, device_kind=kind) for kind in kinds]

    v5e = CHIPS["v5e"]
    own = replace(v5e, name="my.yaml:own", flops=7.0, device_kind=())
    assert peak_of(devices("cpu", "cpu"), own) is None
    assert peak_of(devices("tpu", "TPU v5 lite", "TPU v5 lite"), own) == pytest.approx(2 * 197e12)
    assert peak_of(devices("tpu", "TPU v5e"), own) == pytest.approx(197e12)
    assert peak_of(devices("tpu", "TPU v5"), v5e) == pytest.approx(459e12)
    assert peak_of(devices("tpu", "TPU v5 lite"), CHIPS["v5p"]) == pytest.approx(197e12)
    assert peak_of(devices("tpu", "TPU v6 lite"), own) == pytest.approx(920e12)
    assert peak_of(devices("gpu", "NVIDIA H100 80GB HBM3"), own) == pytest.approx(990e12)
    assert peak_of(devices("gpu", "NVIDIA B200"), own) == 7.0
    # A chip of one's own that says which device it is comes first.
    assert peak_of(devices("cpu", "cpu", "cpu"), replace(own, device_kind=("cpu",))) == 14.0
    assert peak_of(devices("gpu", "NVIDIA H100 80GB HBM3"), replace(own, device_kind=("H100",))) == 7.0


def test_recomputing_is_no_arithmetic_of_the_model() -> None:
    """Six operations a parameter and token, and twelve a pair of positions and embedding; the head is one of them."""
    found = {}
    layers, width, length, vocab, batch = 2, 16, 32, 128, 4
    for again in (True, False):
        model = Gpt2Config(
            *(length, vocab),
            hidden_dim=width,
            num_heads=2,
            num_layers=layers,
            gradient_checkpointing=again,
        )
        config = TrainConfig(model=model, trainer=TrainerConfig(train_batch_size=batch))
        found[again] = arithmetic(planned(config, {"data": 1}, "v5e").graph)
    parameters = layers * 12 * width**2 + vocab * width
    expected = batch * length * (6 * parameters + 12 * layers * width * length)
    assert found[True].model == found[False].model == pytest.approx(expected, rel=0.02)
    assert found[True].again > found[False].again > 0
    assert found[True].all == found[True].model + found[True].again
