"""Chips as data: the rows of a YAML file, each key with its unit in its name, held to what a chip needs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import yaml

from passes.errors import not_yaml
from passes.hardware import errors
from passes.yaml_text import composed

NUMBERS = {
    "bf16_tflops": "a number above 0",
    "memory_gb": "a number above 0",
    "hbm_gb_per_s": "a number above 0",
    "stream_gb_per_s": "a number of at least 0",
    "link_gb_per_s": "a number above 0",
    "f32_tflops": "a number of at least 0",
    "int8_tflops": "a number of at least 0",
    "kernel_us": "a number of at least 0",
    "launch_us": "a number of at least 0",
    "hop_us": "a number of at least 0",
    "host_launch_us": "a number of at least 0",
    "combined_mb": "a number of at least 0",
    "ring_multiple": "a whole number of at least 1",
    "host_chips": "a whole number of at least 1",
    "host_gb_per_s": "a number above 0",
    "overlap_state": "a share from 0 to 1",
    "overlap_activations": "a share from 0 to 1",
    "on_chip_mb": "a number of at least 0",
    "copies_mb": "a number of at least 0",
    "scratch_kib": "a whole number of at least 1",
    "tile_rows": "a whole number of at least 1",
    "tile_lanes": "a whole number of at least 1",
}
"""Every numeric key, and what it holds. GB are 10**9 bytes."""
NETWORKS = ("torus", "switched")
LARGEST = "slice"
"""The key of the chips along each dim of the largest slice."""
DEVICE_KIND = "device_kind"
"""The key of what JAX calls such a device."""
KERNEL = "attention_kernel"
"""The key of the library's kernel that computes attention there."""
KERNELS = ("splash", "cudnn")
COMPILER = "compiler"
"""The key of what compiles programs for it, where that is known to send other collectives than are printed."""
LIBTPU = "libtpu"
COMPILERS = ("xla", LIBTPU)
KEYS = ("source", "network", LARGEST, DEVICE_KIND, KERNEL, COMPILER, *NUMBERS)
_WORDS = {"network": NETWORKS, KERNEL: KERNELS, COMPILER: COMPILERS}
_OPTIONAL = (LARGEST, DEVICE_KIND, KERNEL, COMPILER)
DEFAULTS = {
    "f32_tflops": 0.0,
    "int8_tflops": 0.0,
    "stream_gb_per_s": 0.0,
    "kernel_us": 0.0,
    "launch_us": 0.0,
    "hop_us": 1.0,
    "host_launch_us": 1.0,
    "combined_mb": 0.0,
    "overlap_state": 0.8,
    "overlap_activations": 0.0,
    "on_chip_mb": 0.0,
    "copies_mb": 0.0,
    "scratch_kib": 16384.0,
    "tile_rows": 1.0,
    "tile_lanes": 1.0,
}


@dataclass(frozen=True)
class ChipRow:
    """One chip of a file: where its numbers come from, the numbers by key, the form of the largest slice, parts of what
    JAX calls such a device, the kernel that computes attention there, if any is said, and what compiles for it. A
    switched network has no rings and no slices."""

    source: str
    numbers: dict[str, float]
    slice: tuple[int, ...] = ()
    device_kind: tuple[str, ...] = ()
    kernel: str = ""
    compiler: str = COMPILERS[0]


@dataclass(frozen=True)
class ChipSection:
    """What a file has of one chip, not yet read: a mistake in it is no matter to who asks for another one."""

    path: str
    name: str
    line: int
    node: Any
    first: int = 0
    """The line at which the same name was given before; 0: nowhere."""

    def row(self) -> ChipRow:
        """Its numbers.

        Raises:
            PlanError: the chip is given twice, has an unknown key, lacks one, or has one twice or with a bad value. The
                message has the file and the line.
        """
        if self.first:
            raise errors.chip_key_twice(self.path, self.line, self.name, None, self.first)
        return _row(self.name, self.line, self.node, self.path)


def chips_in(text: str, path: str) -> dict[str, ChipSection]:
    """The chips of a YAML file by name, in order; `path` is the file as messages call it.

    Raises:
        PlanError: the text is no YAML or no mapping of chips.
    """
    root = composed(text, partial(not_yaml, path))
    if not isinstance(root, yaml.MappingNode) or not root.value:
        raise errors.chip_file_empty(path)
    found: dict[str, ChipSection] = {}
    for key, value in root.value:
        name, line = str(key.value), key.start_mark.line + 1
        found[name] = ChipSection(path, name, line, value, found[name].line if name in found else 0)
    return found


def _entries(node: Any, path: str, chip: str) -> Iterator[tuple[str, int, Any]]:
    """(key, line, value) of a mapping; a key given twice, which YAML itself lets pass, is an error."""
    seen: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in seen:
            raise errors.chip_key_twice(path, line, name, chip, seen[name])
        seen[name] = line
        yield name, line, value


def _row(chip: str, line: int, node: Any, path: str) -> ChipRow:
    if not isinstance(node, yaml.MappingNode):
        raise errors.chip_not_a_mapping(path, line, chip)
    values: dict[str, Any] = {}
    for key, place, value in _entries(node, path, chip):
        if key not in KEYS:
            raise errors.chip_unknown_key(path, place, chip, key, KEYS)
        values[key] = _value(key, place, value, chip, path)
    needed = [key for key in KEYS if key not in DEFAULTS and key not in _OPTIONAL]
    if values.get("network") == "switched":
        needed.remove("ring_multiple")
    missing = [key for key in needed if key not in values]
    if missing:
        raise errors.chip_missing_keys(path, line, chip, missing)
    source, network, largest = values.pop("source"), values.pop("network"), values.pop(LARGEST, ())
    device_kind, kernel = values.pop(DEVICE_KIND, ()), values.pop(KERNEL, "")
    compiler = values.pop(COMPILER, COMPILERS[0])
    if network == "switched":
        values.pop("ring_multiple", None)
        largest = ()
    return ChipRow(source, {**DEFAULTS, **values}, largest, device_kind, kernel, compiler)


def _value(key: str, line: int, node: Any, chip: str, path: str) -> Any:
    if key == DEVICE_KIND:
        return _device_kind(line, node, chip, path)
    written = node.value if isinstance(node, yaml.ScalarNode) else "a section"
    if key == "source":
        if not isinstance(node, yaml.ScalarNode) or not written.strip():
            raise errors.chip_bad_value(path, line, chip, key, written, "the page or file that the numbers come from")
        return written
    if key in _WORDS:
        if written not in _WORDS[key]:
            raise errors.chip_bad_value(path, line, chip, key, written, " or ".join(_WORDS[key]))
        return written
    if key == LARGEST:
        if not re.fullmatch(r"[1-9][0-9]{0,4}(x[1-9][0-9]{0,4}){0,2}", written):
            raise errors.chip_bad_value(path, line, chip, key, written, "chips along each dim, such as 16x16")
        return tuple(int(size) for size in written.split("x"))
    try:
        number = float(written)
    except ValueError:
        number = math.nan
    share, whole = "share" in NUMBERS[key], "whole" in NUMBERS[key]
    least = 0 if "at least 0" in NUMBERS[key] else math.ulp(0.0)
    good = 0 <= number <= 1 if share else least <= number < math.inf and (not whole or number == int(number))
    if not good:
        raise errors.chip_bad_value(path, line, chip, key, written, NUMBERS[key])
    return number


def _device_kind(line: int, node: Any, chip: str, path: str) -> tuple[str, ...]:
    """One text, or a list of them."""
    parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
    found = tuple(part.value.strip() for part in parts if isinstance(part, yaml.ScalarNode))
    if len(found) < len(parts) or not all(found):
        written = ", ".join(found) or ("a list" if isinstance(node, yaml.SequenceNode) else "a section")
        raise errors.chip_bad_value(path, line, chip, DEVICE_KIND, written, "what JAX calls such a device, or a list")
    return found
