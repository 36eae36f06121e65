"""The wording of every error of the passes, once."""

from collections.abc import Sequence
from difflib import get_close_matches

from ir.kinds import Mismatch
from ir.types import TensorType


class PlanError(Exception):
    """A question that the planner cannot answer: a bad mesh, unknown hardware, a plan that fits nowhere."""


class AxisErrors(Exception):
    """All axis errors of a graph. `findings` holds them one by one."""

    def __init__(self, findings: Sequence[str]) -> None:
        self.findings = tuple(findings)
        count = "1 axis error" if len(findings) == 1 else f"{len(findings)} axis errors"
        super().__init__(f"{count}\n\n" + "\n\n".join(findings))


_MEETING = {
    "elementwise": "{op} of `{a}` with `{b}`: dims at the same place must be the same axis",
    "contract": "contraction of `{a}` with `{b}`: only one axis can be summed with itself",
    "named": "a value whose axis is `{a}` is named `{b}`",
    "twice": "`{a}` occurs twice in one result: its two occurrences cannot be told apart",
    "concat": "concatenation of `{a}` with `{b}`: dims at the same place must be the same axis",
    "carry": "a loop carries `{a}` in and `{b}` out: a carry keeps its axes from one iteration to the next",
    "branch": "branches return `{a}` and `{b}` at the same place",
}


def axis_error(mismatch: Mismatch, kind: str, fn: str, operands: Sequence[TensorType], where: str) -> str:
    """One finding: what met, where, every operand, the fix."""
    what = _MEETING[mismatch.rule].format(a=mismatch.first, b=mismatch.second, op=fn or kind)
    shown = "\n".join(f"    {type_}" for type_ in operands)
    sizes = f" (both have size {mismatch.size})" if mismatch.size is not None else ""
    return f"{what}{sizes}\n{where}\n  operands\n{shown}\n  fix: {_fix(mismatch)}"


def _fix(mismatch: Mismatch) -> str:
    a, b = mismatch.first, mismatch.second
    if mismatch.rule == "twice":
        return f"rename one of them first, e.g. x.rename({{{a!r}: 'key_{a}'}})"
    return f"if they are the same axis, call it one name; if not, this is not the dim you meant (rename {b!r} or {a!r})"


def state_changes_names(path: str, before: TensorType, after: TensorType) -> str:
    return (
        f"{path}: the step takes {before} and gives back {after}\n"
        "  fix: state keeps its axes; rename the result, or transpose it back"
    )


def bad_mesh(mesh: dict[str, int]) -> PlanError:
    return PlanError(f"mesh {mesh}: a mesh needs at least one axis, each of size 1 or more, such as data=4, model=2")


def unknown_mesh_axis(name: str, axes: Sequence[str]) -> PlanError:
    return PlanError(f"mesh axis {name!r}: this mesh has {', '.join(axes)}{_nearest(name, axes)}")


def unknown_hardware(name: str, known: Sequence[str]) -> PlanError:
    return PlanError(f"hardware {name!r}: known are {', '.join(known)}{_nearest(name, known)}")


def does_not_fit(peak: int, capacity: int, hardware: str, mesh: dict[str, int]) -> PlanError:
    shape = "x".join(str(n) for n in mesh.values())
    return PlanError(
        f"no plan fits: the leanest on mesh {shape} needs {peak / 1e9:.2f} GB a device, {hardware} has "
        f"{capacity / 1e9:.0f} GB; use more devices, a smaller batch, or gradient checkpointing"
    )


def no_origin(name: str) -> PlanError:
    return PlanError(
        f"graph {name!r} was parsed from text: it can be checked, planned and costed, but only a graph from ir.trace "
        "can be lowered"
    )


def other_structure(name: str, wanted: str, given: str) -> TypeError:
    return TypeError(
        f"{name} was traced for arguments of another structure\n  traced for {wanted}\n  given      {given}\n"
        "  fix: trace, plan and lower the step for these arguments"
    )


def other_array(name: str, path: str, wanted: TensorType, dtype: str, shape: tuple[int, ...]) -> TypeError:
    sizes = ", ".join(str(size) for size in shape)
    return TypeError(
        f"{name} was traced with {path}: {wanted}, given {dtype}[{sizes}]\n"
        "  fix: trace, plan and lower the step for these arguments"
    )


def wrong_devices(wanted: int, given: int, platform: str) -> PlanError:
    return PlanError(
        f"the plan is for {wanted} devices, {given} given: pass {wanted} devices"
        + (f", or set XLA_FLAGS=--xla_force_host_platform_device_count={wanted}" if platform == "cpu" else "")
    )


def _nearest(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
