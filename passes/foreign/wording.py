"""The wording of every finding about sharding rules: what is wrong, and the fix."""

from __future__ import annotations

from collections.abc import Sequence

Said = tuple[str, str]
"""What is wrong, and the fix."""


def written(name: str, axes: Sequence[str]) -> str:
    """`embed: data`, `mlp: [data, model]`"""
    over = axes[0] if len(axes) == 1 else f"[{', '.join(axes)}]"
    return f"`{name}: {over if axes else 'null'}`"


def listed(words: Sequence[str], most: int = 3) -> str:
    """`a`, `b` and 4 more"""
    shown = [f"`{each}`" for each in words[:most]]
    if len(words) > most:
        return f"{', '.join(shown)} and {len(words) - most} more"
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else "".join(shown)


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def conflict(names: Sequence[str], axis: str, count: int, example: str, keep: str, has: str, refused: bool) -> Said:
    last = (
        "JAX refuses such an array" if refused else f"the first rule wins, so {listed(names[1:])} is not sharded there"
    )
    return (
        f"{listed(names, 9)} want mesh axis `{axis}` in the same array: {counted(count, 'array')}, such as {example}. "
        f"A mesh axis shards one dim of an array; {last}",
        f"keep {written(keep, [axis])}, whose axis {has} parameters have, and remove the others"
        if refused
        else f"give {listed(names[1:])} a later rule with the mesh axes that are left, or null where that is meant",
    )


def undivided(name: str, size: str, axes: str, devices: int, legal: Sequence[int], count: int, example: str) -> Said:
    sizes = " or ".join(f"{each:,}" for each in legal)
    return (
        f"{name} = {size} does not divide by {devices} ({axes}), so {counted(count, 'array')} cannot be sharded "
        f"so, such as {example}",
        f"set the size of {name} to {sizes}, or shard it over fewer devices",
    )


def scanned(rule: str, name: str, axes: Sequence[str], count: int, all_: int, losers: Sequence[str]) -> Said:
    lost = f", and {listed(losers)} cannot have it there" if losers else ""
    return (
        f"{rule} shards the axis that the loop over {name} scans. Every device needs each slice, so {count} of {all_} "
        f"parameters are replicated where they are used{lost}",
        f"remove the rule, so that {' and '.join(axes)} can shard another axis of these parameters",
    )


def vectors(rule: str, axis: str, count: int, example: str, size: str) -> Said:
    return (
        f"{rule} shards nothing over `{axis}` but the scales of norms ({counted(count, 'array')}, such as {example}, "
        f"{size} in all). `{axis}` shards other axes of what is computed with, so every use gathers them, and every "
        "gradient is resharded",
        f"replicate them: remove `{axis}` from the rule",
    )


def replicated(count: int, all_: int, size: str, share: str, devices: int, example: str, hint: str) -> Said:
    verb = "is" if count == 1 else "are"
    return (
        f"{count} of {counted(all_, 'parameter')} {verb} replicated on all {devices} devices: {size}, {share} of all, "
        f"such as {example}. No rule shards an axis of it",
        f"add a rule, such as {hint}, or say null for its axes where that is meant",
    )


def never_taken(rule: str, name: str, by: str, by_rule: str, axis: str) -> Said:
    return (
        f"{rule} never applies: in every array with {name}, {by_rule} takes `{axis}` for {by} first",
        "remove it, or place it before the other",
    )


def never_named(rule: str, close: str | None) -> Said:
    fix = f"did you mean `{close}`?" if close else "remove it, or say what it means with --name THEIRS=OURS"
    return f"{rule} never applies: the step has no axis of that name", fix


def never_matched(pattern: str) -> Said:
    return f"`{pattern}` never applies: the model has no such module", "correct the pattern, or remove it"


def never_path(path: str, close: str | None) -> Said:
    fix = f"did you mean `{close}`?" if close else "remove it"
    return f"the spec of `{path}` never applies: the step has no such parameter", fix


def unknown_mesh_axis(axis: str, mesh: str, rules: Sequence[str], close: str | None) -> Said:
    return (
        f"mesh axis `{axis}` of {listed(rules)} is none of this mesh ({mesh}), so these rules shard nothing over it",
        f"did you mean `{close}`?" if close else "name an axis of the mesh, or give the mesh that axis",
    )


def unused_axis(axis: str, size: int) -> Said:
    return (
        f"no rule shards anything over mesh axis `{axis}`: its {size} groups of devices all compute the same",
        f"shard the batch over `{axis}`, or parameters and what is computed with",
    )


def whole_batch(name: str, axis: str, size: int) -> Said:
    return (
        f"mesh axis `{axis}` shards parameters at rest and nothing that is computed with: its {size} groups of devices "
        f"all compute the same batch",
        f"shard `{name}` over `{axis}`",
    )


def no_room(peak: str, capacity: str, best: str) -> Said:
    return f"a step by these rules needs {peak} a device, and there are {capacity}", f"the planner's best needs {best}"
