"""What the bits of a run depend on besides its code, its configuration and its data.

It is recorded in `config.yaml` and in every checkpoint, and compared at a resume: what differs is told, and the run
resumes.

XLA cuts the work of a CPU into as many parts as its thread pool has threads, and sums what the parts give: another
number makes other bits. The variable NPROC says that number, and XLA reads it when its client starts. So a run fixes
it when it starts, by default at the cores that there are, and keeps it.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from levanter.checkpoint.locations import Location
from levanter.runtime import errors

KEY = "environment"
"""Where the metadata of a checkpoint has what `current` gave."""
THREADS = "NPROC"

_OPTIONS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_disable_most_optimizations",
)
_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")
_DEVICE_COUNT = "--xla_force_host_platform_device_count="
"""A flag that says of the mesh what the mesh says itself."""


def available_threads() -> int:
    """The threads that XLA's pool for the CPU has when nothing is fixed: NPROC, or the cores of this process."""
    given = os.environ.get(THREADS, "")
    return int(given) if given.isdigit() and int(given) > 0 else cores()


def cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fix_threads(number: int) -> None:
    """Set how many threads XLA's pool for the CPU has; it counts until JAX starts its client."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if not platforms or "cpu" in platforms.split(","):
        os.environ[THREADS] = str(number)


def current() -> dict[str, Any]:
    """What there is now; this starts JAX. Plain data, as JSON and YAML can hold it."""
    import jax
    from jaxlib.version import __version__ as jaxlib_version

    from levanter.version import installed_version

    device = jax.devices()[0]
    found: dict[str, Any] = {
        "levanter": installed_version(),
        "jax": jax.__version__,
        "jaxlib": jaxlib_version,
        "python": platform.python_version(),
        "platform": device.platform,
        "device_kind": _processor() if device.platform == "cpu" else device.device_kind,
    }
    if device.platform == "cpu":
        found["cpu_threads"] = max(available_threads(), jax.local_device_count())  # each device has one at least
    flags = {name.lower(): _flags(os.environ.get(name, "")) for name in _VARIABLES}
    found |= {name: text for name, text in flags.items() if text}
    options = {name: getattr(jax.config, name, None) for name in _OPTIONS}
    return found | {name: value for name, value in options.items() if value is not None}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs by name, before and now; None where there is nothing. A record of an older version that does not
    speak of something does not differ in it."""
    variables = {name.lower() for name in _VARIABLES}
    before = {name: _flags(value or "") or None if name in variables else value for name, value in before.items()}
    told = set(before) | (variables if before else set())
    return {
        name: (before.get(name), now.get(name))
        for name in (*before, *(name for name in now if name not in before))
        if name in told and before.get(name) != now.get(name)
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any], checkpoint: Location) -> list[str]:
    """A line for people for each thing that is not what it was when `checkpoint` was saved."""
    return [
        errors.environment_changed(name, was, is_now, checkpoint)
        for name, (was, is_now) in changes(before, now).items()
    ]


def _flags(text: str) -> str:
    """The flags in a variable, one space between two."""
    return " ".join(flag for flag in text.split() if not flag.startswith(_DEVICE_COUNT))


def _processor() -> str:
    """The model of the CPU: XLA compiles for what it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name"))
    return next(named, platform.machine())
