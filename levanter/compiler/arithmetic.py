"""How much arithmetic a training step is, and what its devices could do at most: what speed is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax

from passes.arithmetic import arithmetic
from passes.hardware.chip import CHIPS

if TYPE_CHECKING:
    from levanter.compiler.compile import Compiled

_KINDS = (
    ("TPU v4", "v4"),
    ("TPU v5 lite", "v5e"),
    ("TPU v5e", "v5e"),
    ("TPU v5", "v5p"),
    ("TPU v6", "v6e"),
    ("A100", "a100"),
    ("H100", "h100"),
    ("H200", "h200"),
)
"""A part of what JAX calls a kind of device, and the chip of ours that it is; the first that fits."""


@dataclass(frozen=True)
class StepArithmetic:
    """The arithmetic of a step on all devices.

    Attributes:
        flops: operations that the model asks for: products of the forward and backward pass, nothing counted twice.
        peak: bf16 operations a second that the devices could do together; None where they are CPUs.
    """

    flops: int
    peak: float | None


def step_arithmetic(compiled: Compiled) -> StepArithmetic:
    """The arithmetic of a compiled step, and the peak of the devices that it runs on.

    A device that is none of the chips we know is taken for the one that was planned for (`trainer.hardware`).
    """
    devices = jax.tree.leaves(compiled.state_shardings)[0].device_set
    return StepArithmetic(arithmetic(compiled.graph).model, peak_of(devices, compiled.plan.chip.flops))


def peak_of(devices: Any, planned: float) -> float | None:
    """bf16 operations a second of some devices together; None where one of them is a CPU.

    Args:
        planned: those of the chip that was planned for.
    """
    peaks = [_peak(device, planned) for device in devices]
    known = [peak for peak in peaks if peak is not None]
    return sum(known) if len(known) == len(peaks) else None


def _peak(device: Any, planned: float) -> float | None:
    if device.platform == "cpu":
        return None
    return next((CHIPS[chip].flops for part, chip in _KINDS if part in device.device_kind), planned)
