"""What the TPU compiler does with collectives that no plan says, and that leaves a step what it is.

- It joins collectives of one kind over the same mesh axes, and takes small ones out of loops: one of the stacked values
  in place of one a trip.
- It makes a reduce-scatter or a gather only of shards that are whole tiles (8 × 128 elements of 32 bits), and over a
  whole slice of two or more dims no reduce-scatter at all; else it reduces the whole value on every device, which are
  the same bytes of an all-reduce.
- It gathers in bf16 what only products read that take bf16, as those of f32 values do at JAX's default precision: half
  the bytes. That is predicted (`passes.hardware.sends`) of what is gathered for products alone, and done
  with more than that, and not with all of it.
- It permutes in bf16 what only such products read, as keys that go round do.
- Where two values of one type are reduced and then added, it adds first and reduces once.
- It reduce-scatters in pieces that fit on the chip (`passes.hardware.pieces`), fills up the rows of shards so that
  these come out even, and sends on what it filled in by permutes.

So for each set of mesh axes the bytes are set beside each other kind by kind; where these account for all of
them, there is no surprise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from passes.hardware.sends import HALVED
from passes.report.units import format_bytes

JOINED = "the TPU compiler joins collectives of one kind over the same axes, and takes small ones out of loops"
REDUCED = (
    "the TPU compiler makes gathers and reduce-scatters of whole tiles only, and no reduce-scatter over a whole slice "
    "of two or more dims: here it reduces the whole value on every device"
)
PASSED = "the TPU compiler passes on in bf16 what only products read that take bf16, as keys that go round"
KEPT = (
    "the TPU compiler gathers in bf16 what only products read that take bf16, but where it computes with it in another "
    "way"
)
PADDED = (
    "the TPU compiler reduce-scatters in pieces that fit on the chip, fills up the rows of shards so that these come "
    "out even, and shifts by permutes what it filled in"
)
SUMMED = "the TPU compiler adds values before it reduces them, where the plan reduces each and adds then"
Key = tuple[str, tuple[str, ...]]


def settled(rows: Sequence[Mapping[str, Any]]) -> dict[Key, tuple[str, str]]:
    """(kind, mesh axes) whose counts or sizes differ only by habit, with what differs and why.

    Args:
        rows: the `collectives` of `levanter.compiler.verify.compare`; the sizes of each with how many of which
            `dtypes` were compiled.
    """
    found: dict[Key, tuple[str, str]] = {}
    for axes in dict.fromkeys(tuple(row["mesh_axes"]) for row in rows):
        found |= _settled({row["kind"]: row for row in rows if tuple(row["mesh_axes"]) == axes}, axes)
    return found


def _settled(kinds: Mapping[str, Mapping[str, Any]], axes: tuple[str, ...]) -> dict[Key, tuple[str, str]]:
    missing = {kind: row["predicted_bytes"] - row["compiled_bytes"] for kind, row in kinds.items()}
    reasons: dict[str, str] = {kind: JOINED for kind, row in kinds.items() if counts_differ(row)}
    halved = _halved(kinds["all_gather"]) if "all_gather" in kinds else 0
    if halved:
        missing["all_gather"] -= halved
        reasons["all_gather"] = HALVED
    passed = _halved(kinds["permute"]) if "permute" in kinds else 0
    if passed:
        missing["permute"] -= passed
        reasons["permute"] = PASSED
    kept = _kept(kinds["all_gather"]) if "all_gather" in kinds else 0
    if kept:
        missing["all_gather"] += kept
        reasons["all_gather"] = KEPT
    if {"reduce_scatter", "permute"} <= kinds.keys() and _padded(kinds["reduce_scatter"], kinds["permute"]):
        missing |= {"reduce_scatter": 0, "permute": 0}
        reasons |= {"reduce_scatter": PADDED, "permute": PADDED}
    summed = _summed(kinds["all_reduce"]) if "all_reduce" in kinds else 0
    reduced = [kind for kind in ("all_gather", "reduce_scatter") if missing.get(kind, 0) > 0]
    unaccounted = sum(missing[kind] for kind in reduced) + missing.get("all_reduce", 0)
    if summed and 0 < unaccounted <= summed:
        missing["all_reduce"] -= unaccounted
        reasons["all_reduce"] = SUMMED
        unaccounted = 0
    if reduced and unaccounted == 0:
        missing |= dict.fromkeys([*reduced, "all_reduce"], 0)
        reasons |= {kind: REDUCED for kind in [*reduced, "all_reduce"] if kind in reasons}
    return {
        (kind, axes): (counts_of(kinds[kind], axes), reason) for kind, reason in reasons.items() if missing[kind] == 0
    }


def _halved(row: Mapping[str, Any]) -> int:
    """The bytes that gathers, or permutes, in bf16 save beside those that were predicted of twice the size."""
    sizes = row["sizes"]
    bf16 = {size["bytes"]: size["dtypes"].get("bf16", 0) for size in sizes}
    # What was compiled in another type is what was predicted of that size.
    left = {size["bytes"]: size["predicted_count"] - size["compiled_count"] + bf16[size["bytes"]] for size in sizes}
    saved = 0
    for size, count in sorted(bf16.items(), reverse=True):
        halves = max(0, min(count, left.get(2 * size, 0)))
        left[size] -= count - halves
        left[2 * size] = left.get(2 * size, 0) - halves
        saved += halves * size
    return saved


def _kept(gathers: Mapping[str, Any]) -> int:
    """The bytes that gathers in f32 take beyond those that were predicted of half the size."""
    over = {size["bytes"]: size["compiled_count"] - size["predicted_count"] for size in gathers["sizes"]}
    wide = {size["bytes"]: min(over[size["bytes"]], size["dtypes"].get("f32", 0)) for size in gathers["sizes"]}
    return sum(max(0, min(-over.get(size // 2, 0), count)) * (size // 2) for size, count in wide.items())


def _padded(scatters: Mapping[str, Any], permutes: Mapping[str, Any]) -> bool:
    """Whether the reduce-scatters that are missing are there with some more bytes, of which permutes shift a part."""
    off = [size for size in scatters["sizes"] if size["predicted_count"] != size["compiled_count"]]
    short = sum(size["predicted_count"] - size["compiled_count"] for size in off)
    filled = scatters["compiled_bytes"] - scatters["predicted_bytes"]
    pieces = sum(size["compiled_count"] for size in off if not size["predicted_count"])
    shifted = permutes["compiled_bytes"]
    return (
        short == 0 < pieces == permutes["compiled_count"] and 0 < shifted < filled and not permutes["predicted_bytes"]
    )


def _summed(reduces: Mapping[str, Any]) -> int:
    """The bytes of all-reduces that may have become sums: those of a size of which there are fewer, but some."""
    short = [size for size in reduces["sizes"] if 0 < size["compiled_count"] < size["predicted_count"]]
    return sum((size["predicted_count"] - size["compiled_count"]) * size["bytes"] for size in short)


def counts_differ(row: Mapping[str, Any]) -> bool:
    return any(size["predicted_count"] != size["compiled_count"] for size in row["sizes"])


def counts_of(row: Mapping[str, Any], axes: tuple[str, ...]) -> str:
    sides = [f"{row[f'{side}_count']} of {format_bytes(row[f'{side}_bytes'])} {side}" for side in _SIDES]
    return f"{row['kind']} over {', '.join(axes) or 'devices that are no mesh axis'}: {', '.join(sides)}, in all"


_SIDES = ("predicted", "compiled")
