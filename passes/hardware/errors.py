"""The wording of every error about chips and the networks between them, once."""

from __future__ import annotations

from collections.abc import Sequence

from passes.errors import PlanError, counted, kind_of, nearest, nearest_name


def network_axis(axis: str, axes: Sequence[str]) -> PlanError:
    return PlanError(f"network: mesh axis {axis!r}: this mesh has {', '.join(axes)}{nearest(axis, axes)}")


def network_lacks(axis: str, size: int) -> PlanError:
    return PlanError(f"network: mesh axis {axis!r}, of {size} devices, is not in it; add it, or leave out `network`")


def network_form(axis: str, written: str, kind: str, dims: int) -> PlanError:
    inside = "x".join(["4"] * dims)
    ways = f"{inside}, `2 {kind}s`, or `2 {kind}s x {inside}`"
    along = "devices of a node" if kind == "node" else f"devices along each of {dims} dims of a slice"
    return PlanError(f"network of {axis!r}: expected {along}, such as {ways}; got {written!r}")


def network_size(axis: str, size: int, written: str, found: int) -> PlanError:
    return PlanError(
        f"network of {axis!r}: {written!r} is {counted(found, 'device')}, and the mesh axis has {size}; the parts of "
        "an axis multiply to its size"
    )


def network_slices(axis: str, size: int) -> PlanError:
    return PlanError(
        f"network of {axis!r}: on a TPU this mesh axis is the slices themselves; write `{size} slices`, or give the "
        "mesh axis another name"
    )


def network_too_large(size: int, most: int, chip: str, kind: str) -> PlanError:
    return PlanError(
        f"network: {size:,} devices are in one {kind}, and a {kind} of {chip} has at most {most:,}; put some of an "
        f"axis over several, such as `2 {kind}s`"
    )


def unknown_hardware(name: str, known: Sequence[str]) -> PlanError:
    return PlanError(f"hardware {name!r}: known are {', '.join(known)}{nearest(name, known)}")


def hardware_kind(hardware: object, known: Sequence[str]) -> PlanError:
    return PlanError(
        f"hardware {hardware!r} ({kind_of(hardware)}): give the name of a chip ({', '.join(known)}), "
        '"my_chips.yaml:NAME" for one of your own, or a passes.Chip'
    )


def unknown_chip(hardware: str, path: str, name: str, known: Sequence[str]) -> PlanError:
    if not name:
        return PlanError(f"hardware {hardware!r}: {path} has {', '.join(known)}; say which, as in {path}:{known[0]}")
    return PlanError(f"hardware {hardware!r}: {path} has {', '.join(known)}{nearest(name, known)}")


def chip_file_unreadable(hardware: str, path: str, reason: str) -> PlanError:
    return PlanError(f"hardware {hardware!r}: cannot read {path}: {reason}")


def chip_file_empty(path: str) -> PlanError:
    return PlanError(f"{path}: it holds no chips; write `NAME:` and below it `source:`, `bf16_tflops:` and so on")


def chip_not_a_mapping(path: str, line: int, chip: str) -> PlanError:
    return PlanError(f"{path}:{line}: chip `{chip}` is not a section of keys and values, such as `memory_gb: 80`")


def chip_key_twice(path: str, line: int, key: str, chip: str | None, first: int) -> PlanError:
    what = f"chip `{key}`" if chip is None else f"`{key}` of chip `{chip}`"
    return PlanError(f"{path}:{line}: {what} is given twice (first at line {first}); remove one of them")


def chip_unknown_key(path: str, line: int, chip: str, key: str, known: Sequence[str]) -> PlanError:
    close = nearest_name(key, known)
    fix = f"; did you mean `{close}`?" if close else f"; known are {', '.join(known)}"
    return PlanError(f"{path}:{line}: unknown key `{key}` of chip `{chip}`{fix}")


def chip_missing_keys(path: str, line: int, chip: str, missing: Sequence[str]) -> PlanError:
    return PlanError(f"{path}:{line}: chip `{chip}` lacks {', '.join(f'`{key}`' for key in missing)}")


def chip_bad_value(path: str, line: int, chip: str, key: str, value: str, expected: str) -> PlanError:
    return PlanError(f"{path}:{line}: `{key}` of chip `{chip}` is `{value}`; expected {expected}")
