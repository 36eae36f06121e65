"""The wording of what is wrong with a file of another system's sharding rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from passes.errors import PlanError, nearest


def unparsable(source: str, line: int, reason: str) -> PlanError:
    return PlanError(f"{source}:{line}: the file cannot be parsed: {reason}")


def no_rules(source: str) -> PlanError:
    return PlanError(
        f"{source}: it has no sharding rules that are known here; give an axis mapping of Levanter (axis_resources, "
        "fsdp_axis, tensor_parallel_axes, parameter_axis_mapping, compute_axis_mapping), logical_axis_rules of MaxText "
        "or Flax, a tp_plan of Hugging Face, or partition_specs by path"
    )


def no_pair(where: str) -> PlanError:
    return PlanError(f"{where}: a logical axis rule is a pair of a name and mesh axes, such as ['embed', 'fsdp']")


def no_axes(where: str, key: str) -> PlanError:
    return PlanError(f"{where}: `{key}` has no mesh axes; write one, a list of them, or null")


def tp_style(where: str, pattern: str, style: str, known: Sequence[str]) -> PlanError:
    fix = nearest(style, known) or f"; known are {', '.join(known)}"
    return PlanError(f"{where}: `{pattern}` has the style {style!r}, which is not known here{fix}")


def no_spec(where: str, path: str) -> PlanError:
    return PlanError(
        f"{where}: the spec of `{path}` is a list with mesh axes or null for each dim, such as [null, data]"
    )


def spec_too_long(where: str, path: str, count: int, names: Sequence[str]) -> PlanError:
    return PlanError(
        f"{where}: the spec of `{path}` has {count} dims, and the array has {len(names)} ({', '.join(names)}); remove "
        "the others"
    )


def own_name(theirs: str, ours: str, known: Sequence[str]) -> PlanError:
    fix = nearest(ours, known) or f"; it has {', '.join(known)}"
    return PlanError(f"{theirs!r} is to mean {ours!r}, and the step has no axis of that name{fix}")


def not_expressible(dialect: str, reason: str) -> PlanError:
    return PlanError(f"the plan cannot be written as rules of {dialect}: {reason}")


def laid_otherwise(mine: Mapping[str, Sequence[str]], its: Mapping[str, Sequence[str]]) -> str:
    shown = [
        ", ".join(f"{name} over {' × '.join(axes)}" for name, axes in each.items()) or "nothing" for each in (mine, its)
    ]
    return f"an array that the plan shards {shown[0]} would be sharded {shown[1]}"


def one_layout(stored: Sequence[str]) -> str:
    return (
        f"they lay all state out alike, and the plan stores {' and '.join(stored) or 'no state'} over axes of its own"
    )
