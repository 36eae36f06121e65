"""How much arithmetic a training step is, and what its devices could do at most: what speed is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax

from passes.arithmetic import arithmetic
from passes.hardware.chip import CHIPS, Chip

if TYPE_CHECKING:
    from levanter.compiler.compile import Compiled


@dataclass(frozen=True)
class StepArithmetic:
    """The arithmetic of a step on all devices.

    Attributes:
        flops: operations that the model asks for: products of the forward and backward pass, nothing counted twice.
        peak: bf16 operations a second that the devices could do together; None where that is not known, as
            of CPUs.
    """

    flops: int
    peak: float | None


def step_arithmetic(compiled: Compiled) -> StepArithmetic:
    """The arithmetic of a compiled step, and the peak of the devices that it runs on."""
    devices = jax.tree.leaves(compiled.state_shardings)[0].device_set
    return StepArithmetic(arithmetic(compiled.graph).model, peak_of(devices, compiled.plan.chip))


def peak_of(devices: Any, planned: Chip) -> float | None:
    """bf16 operations a second of some devices together; None where one of them is a CPU that no chip describes.

    Each device is the chip whose `device_kind` says most of what JAX calls it. An accelerator that none describes is
    taken for the one that was planned for.

    Args:
        planned: the chip that was planned for (`trainer.hardware`), which may be one of the user's own.
    """
    peaks = [_peak(device, planned) for device in devices]
    known = [peak for peak in peaks if peak is not None]
    return sum(known) if len(known) == len(peaks) else None


def _peak(device: Any, planned: Chip) -> float | None:
    named = [
        (len(part), chip)
        for chip in (planned, *CHIPS.values())
        for part in chip.device_kind
        if part in device.device_kind
    ]
    if named:
        return max(named, key=lambda each: each[0])[1].flops  # of equals the first, and so the user's own
    return None if device.platform == "cpu" else planned.flops
