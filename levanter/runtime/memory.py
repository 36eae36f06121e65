"""Whether a run fits, before it is compiled, and what to make smaller where it does not.

The state (parameters and the optimizer's moments) is known to the byte from shapes alone. What a step needs besides is
only known when XLA asks for it, so that is told when it fails.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator

import jax

from levanter.compiler.lack import what_a_device_holds
from levanter.config import TrainConfig
from levanter.fields import SIZE, range_of
from levanter.runtime import errors
from levanter.runtime.state import state_shape


@contextlib.contextmanager
def explained(config: TrainConfig) -> Iterator[None]:
    """Says what to make smaller where memory runs out in the block.

    Raises:
        UserError: it ran out.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError, ValueError) as error:  # the last where an array is read
        reason = next((line for line in str(error).splitlines() if _is_exhaustion(line)), None)
        if reason is None and not isinstance(error, MemoryError):
            raise
        step = {"train_batch_size": config.trainer.train_batch_size}
        why, holds = _after_colon(reason or str(error)), what_a_device_holds(config)
        raise errors.out_of_memory(why, step, model_sizes(config), holds) from error


def check_state(config: TrainConfig) -> None:
    """Hold the state of a run against the memory of the devices it trains on.

    Raises:
        UserError: it cannot fit, however it is laid out.
    """
    needed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state_shape(config)))
    there = memory_of(config.mesh.devices)
    if there is not None and needed > there:
        raise errors.state_too_large(needed, there, model_sizes(config))


def memory_of(devices: int) -> int | None:
    """Bytes that the first `devices` devices have together, or None where they do not tell. CPU devices share one."""
    if jax.default_backend() == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in jax.local_devices()[:devices]]
    known = [limit for limit in limits if limit is not None]
    return min(known) * devices if known else None


def model_sizes(config: TrainConfig) -> dict[str, int]:
    """The sizes that a model of this kind is made from, by field."""
    model = config.model
    return {
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(model)
        if range_of(field) == SIZE and not field.name.endswith("_multiple")
    }


def _is_exhaustion(line: str) -> bool:
    return "RESOURCE_EXHAUSTED" in line or "out of memory" in line.lower()


def _after_colon(reason: str) -> str:
    """`INTERNAL: Error dispatching computation: Out of memory …` without the names of what was on the way."""
    return reason.rpartition(": ")[2].strip().rstrip(".") or "no memory left"
