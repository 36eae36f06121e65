"""What the planner knows of a chip, and how a chip is named: `v5e`, or `my_chips.yaml:NAME` for one of your own.

No JAX in here: a configuration names a chip before JAX is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from math import prod
from pathlib import Path

from passes.hardware import errors
from passes.hardware.chip_file import COMPILERS, ChipRow, chips_in
from passes.hardware.memory import PLAIN_MEMORY, ChipMemory

HOP_SECONDS = 1e-6
ANY_SLICE = (1 << 16, 1 << 16, 1 << 16)
"""Of a chip of which nothing else is said: three dims of any length."""


@dataclass(frozen=True)
class Overlap:
    """The share of each kind of communication that is trusted to run while the chip computes, from 0 to 1."""

    state: float = 0.8
    """Parameter gathers and gradient reductions: a latency-hiding scheduler can start them early."""
    activations: float = 0.0
    """Collectives that the next operation waits for."""


@dataclass(frozen=True)
class Chip:
    """One accelerator.

    Attributes:
        name: what names it, see `chip_of`.
        flops: bf16 operations per second.
        capacity: bytes of memory.
        memory_bandwidth: bytes per second to and from memory; `stream`: those of an operation that does little else;
            0: as many.
        link: bytes per second, one way, on one link of a torus or out of one chip of a switched network.
        wraps_at: the multiple at which a dimension of the torus closes into a ring; 0: no torus, a switched network.
        slow_per_host: bytes per second of one host on the network between hosts.
        host: chips of one host (node).
        slice: the form of the largest slice of a torus: chips along each of its dims.
        f32_flops: operations per second of products of float32, by default as JAX multiplies these; 0: as of bf16.
        int8_flops: of products of numbers of 8 bits; 0: as of bf16.
        start: seconds before and after the work of a kernel.
        launch: seconds before a collective sends anything; `slow_launch`: besides, where it leaves the island.
        hop: seconds over one link of a torus.
        combined: bytes up to which XLA sends small collectives as one; 0: each alone.
        overlap: what share of its communication is trusted to be hidden.
        memory: how its memory takes arrays.
        compiler: what compiles programs for it: `libtpu` sends other collectives than are printed
            (`passes.hardware.sends`).
        device_kind: parts of what JAX calls such a device (`jax.Device.device_kind`).
        source: where the numbers come from.
    """

    name: str
    flops: float
    capacity: int
    memory_bandwidth: float
    link: float
    wraps_at: int
    slow_per_host: float
    host: int
    overlap: Overlap = Overlap()
    memory: ChipMemory = PLAIN_MEMORY
    source: str = ""
    slice: tuple[int, ...] = ANY_SLICE
    stream: float = 0.0
    f32_flops: float = 0.0
    int8_flops: float = 0.0
    start: float = 0.0
    launch: float = 0.0
    slow_launch: float = HOP_SECONDS
    hop: float = HOP_SECONDS
    combined: float = 0.0
    device_kind: tuple[str, ...] = ()
    compiler: str = COMPILERS[0]

    @property
    def switched(self) -> bool:
        return self.wraps_at == 0

    @property
    def traffic_rate(self) -> float:
        """Bytes per second that operations move to and from memory."""
        return self.stream or self.memory_bandwidth

    @property
    def largest_slice(self) -> int:
        """Chips of the largest slice."""
        return prod(self.slice)

    def rate(self, bytes_of_an_element: int) -> float:
        """Operations per second of products of numbers of so many bytes."""
        known = self.int8_flops if bytes_of_an_element == 1 else self.f32_flops if bytes_of_an_element >= 4 else 0.0
        return known or self.flops


def chip_of(hardware: str | Chip) -> Chip:
    """The chip that `hardware` names: one of `CHIPS` in any case, or `PATH.yaml:NAME` for one in a file of your own
    (`PATH.yaml` alone where it has one chip). The path is relative to the working directory.

    Raises `PlanError` for an unknown chip, a file that cannot be read, and a key of this chip that is unknown, missing
    or has a bad value; what is wrong with other chips of the file is not asked.
    """
    if isinstance(hardware, Chip):
        return hardware
    if not isinstance(hardware, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise errors.hardware_kind(hardware, tuple(CHIPS))
    if hardware.lower() in CHIPS:
        return CHIPS[hardware.lower()]
    path, name = _file_and_name(hardware)
    if not path:
        raise errors.unknown_hardware(hardware, tuple(CHIPS))
    sections = chips_in(_text(hardware, path), path)
    if not name and len(sections) == 1:
        name = next(iter(sections))
    if name not in sections:
        raise errors.unknown_chip(hardware, path, name, tuple(sections))
    return _chip(hardware, sections[name].row())


def _file_and_name(hardware: str) -> tuple[str, str]:
    path, colon, name = hardware.rpartition(":")
    if colon and path.endswith((".yaml", ".yml")):
        return path, name.strip()
    return (hardware, "") if hardware.endswith((".yaml", ".yml")) else ("", "")


def _text(hardware: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise errors.chip_file_unreadable(hardware, path, "it is not UTF-8 text") from None
    except OSError as error:
        raise errors.chip_file_unreadable(hardware, path, (error.strerror or str(error)).lower()) from None


def _chip(name: str, row: ChipRow) -> Chip:
    numbers = row.numbers
    return Chip(
        name,
        flops=numbers["bf16_tflops"] * 1e12,
        capacity=round(numbers["memory_gb"] * 1e9),
        memory_bandwidth=numbers["hbm_gb_per_s"] * 1e9,
        stream=numbers["stream_gb_per_s"] * 1e9,
        link=numbers["link_gb_per_s"] * 1e9,
        wraps_at=int(numbers.get("ring_multiple", 0)),
        slow_per_host=numbers["host_gb_per_s"] * 1e9,
        host=int(numbers["host_chips"]),
        overlap=Overlap(numbers["overlap_state"], numbers["overlap_activations"]),
        memory=ChipMemory(
            round(numbers["on_chip_mb"] * 1e6),
            (int(numbers["tile_rows"]), int(numbers["tile_lanes"])),
            row.kernel,
            round(numbers["copies_mb"] * 1e6),
            round(numbers["scratch_kib"] * 1024),
        ),
        source=row.source,
        slice=row.slice or ANY_SLICE,
        f32_flops=numbers["f32_tflops"] * 1e12,
        int8_flops=numbers["int8_tflops"] * 1e12,
        start=numbers["kernel_us"] * 1e-6,
        launch=numbers["launch_us"] * 1e-6,
        slow_launch=numbers["host_launch_us"] * 1e-6,
        hop=numbers["hop_us"] * 1e-6,
        combined=numbers["combined_mb"] * 1e6,
        device_kind=row.device_kind,
        compiler=row.compiler,
    )


CHIPS: dict[str, Chip] = {
    name: _chip(name, section.row())
    for name, section in chips_in(
        (files("passes.hardware") / "chips.yaml").read_text(encoding="utf-8"), "chips.yaml"
    ).items()
}
"""The chips of `chips.yaml`, by name."""
