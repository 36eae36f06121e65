"""The wording of every way in which a step of the user's cannot be found, or has no arguments or names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from levanter.errors import UserError, suggestion


def bad_target(target: str) -> UserError:
    return UserError(f"bad step `{target}`: write MODULE:FUNCTION, such as my_model.train:step or my_model.py:step")


def not_a_step(target: str, kind: str) -> UserError:
    return UserError(f"`{target}` is a {kind}: name the function that is the step, or one that returns it")


def no_step_and_arguments(target: str, kind: str) -> UserError:
    return UserError(f"`{target}` takes no arguments and returned a {kind}: return (step, arguments)")


def no_arguments(target: str, wanted: str) -> UserError:
    return UserError(
        f"no arguments for `{target}`: define `{wanted}` beside it, a tuple of shapes or a function that returns one, "
        "or name them with --arguments MODULE:NAME"
    )


def call_failed(target: str, error: Exception) -> UserError:
    return UserError(f"calling `{target}` failed: {type(error).__name__}: {error} (--debug shows where)")


def arguments_no_tuple(target: str, kind: str) -> UserError:
    return UserError(f"the arguments of `{target}` are a {kind}: give a tuple, one element for each argument")


def no_names(target: str, source: str, wanted: Iterable[str]) -> UserError:
    listed = " or ".join(f"`{name}`" for name in wanted)
    return UserError(f"no names for `{target}` in `{source}`: define {listed} in it, or name them as MODULE:NAME")


def no_naming(source: str, kind: str) -> UserError:
    return UserError(
        f"the names of `{source}` are a {kind}: give a mapping from path patterns to names, such as "
        '{"*.mlp.up.kernel": "embed mlp"}, or a function of path and shape'
    )


def no_shardings(source: str, kind: str) -> UserError:
    return UserError(
        f"the shardings of `{source}` are a {kind}: give a mapping from path patterns to mesh axes, such as "
        '{"params.*.kernel": "data model"}, or (in_shardings, out_shardings) as `jax.jit` takes them, or a function '
        "of the mesh that returns them"
    )


def shardings_do_not_fit(source: str, error: Exception) -> UserError:
    return UserError(f"the shardings of `{source}` do not fit the step: {error}")


def sharding_unmatched(pattern: str, paths: Sequence[str]) -> UserError:
    return UserError(f"the sharding of `{pattern}` is for no argument: {suggestion(pattern, paths)}")


def sharding_rank(path: str, words: str, rank: int) -> UserError:
    return UserError(f"`{path}` has {rank} dims and its sharding, `{words}`, is for more: write a word for each dim")


def sharding_axis(path: str, axis: str, known: Sequence[str]) -> UserError:
    return UserError(f"`{path}` is sharded over `{axis}`, which is not an axis of the mesh: {suggestion(axis, known)}")


def sharding_twice(path: str, axis: str) -> UserError:
    return UserError(f"`{path}` is sharded over `{axis}` twice: a mesh axis can be in one place only")


def shardings_mixed(words: Sequence[str]) -> UserError:
    listed = " ".join(f"--shardings {word}" for word in words)
    return UserError(f"{listed}: give patterns, PATH=AXES, or one place that holds shardings, MODULE:NAME")


def cannot_place(name: str, error: Exception) -> UserError:
    return UserError(f"JAX refuses the shardings of `{name}`: {str(error).strip()}")


def other_arguments(step: str, reference: str, first: str, second: str) -> UserError:
    return UserError(
        f"`{step}` takes {first} where `{reference}` takes {second}: a reference takes and gives the same arrays, in "
        "the same order"
    )


def other_results(step: str, reference: str, first: str, second: str) -> UserError:
    return UserError(
        f"`{step}` gives {first} where `{reference}` gives {second}: a reference takes and gives the same arrays, in "
        "the same order"
    )


def no_microbatches_fit(tried: Sequence[int], hardware: str, reason: str) -> UserError:
    """`reason` is the planner's for the last number that was tried, where it gave one."""
    counts = ", ".join(map(str, tried))
    said = f" ({reason.splitlines()[0].rstrip('.')})" if reason else ""
    return UserError(
        f"no trainer.microbatches of {counts} makes a step fit the memory of a {hardware}{said}: give more devices "
        "with --mesh, a smaller trainer.train_batch_size or model, or another trainer.hardware"
    )


def chosen_microbatches(count: int, reason: str, peak: int, capacity: int) -> str:
    """Bytes of a device: those that the step needs, and those that there are."""
    return (
        f"trainer.microbatches: {count}, the fastest that fits a device "
        f"({peak / 2**30:.3g} GiB of {capacity / 2**30:.3g} GiB): {reason}"
    )


def pinned_microbatches(written: str) -> UserError:
    return UserError(f"--pin microbatches={written}: expected a whole number of at least 1, or any")


def chosen_dtype(field: str, dtype: str, reason: str) -> str:
    return f"{field}: {dtype}: {reason}"


def pinned_dtype(name: str, written: str) -> UserError:
    return UserError(f"--pin {name}={written}: expected float32, bfloat16, or any")


def elastic_dtype(name: str, field: str) -> UserError:
    return UserError(
        f"{name} cannot be pinned in an elastic run: its bits depend on them, and are the same under any plan; set "
        f"{field}"
    )


def elastic_microbatches() -> UserError:
    return UserError(
        "microbatches cannot be pinned in an elastic run: its bits depend on them, and are the same under any plan; "
        "set trainer.microbatches"
    )


def elastic_mesh(axes: Mapping[str, int], batch: Sequence[str]) -> UserError:
    given = ", ".join(f"{axis}={size}" for axis, size in axes.items())
    return UserError(
        f"trainer.deterministic elastic shares out the batch alone, and the mesh has {given}: products and sums over "
        f"another number of devices have other bits; use the axes {' and '.join(batch)} only, or "
        "trainer.deterministic fast"
    )


def elastic_devices(devices: int, shards: int, fit: Sequence[int]) -> UserError:
    return UserError(
        f"trainer.virtual_shards {shards} cannot be shared out over {devices} device{'s' if devices > 1 else ''}: each "
        f"must have 2, 4, 8, … of them. Use {', '.join(map(str, fit))} devices, or set virtual_shards to "
        f"{2 * devices} or {4 * devices} (it must stay what it is for the whole run)"
    )


def elastic_operation(operation: str, source: str) -> UserError:
    at = f" ({source})" if source else ""
    return UserError(
        f"`{operation}`{at} cannot run on one device's shards, and an elastic step runs on nothing else: take it "
        "out of the step, or use trainer.deterministic fast"
    )


def elastic_remat() -> UserError:
    return UserError(
        "remat cannot be pinned in an elastic run: its bits depend on what the backward pass computes again, and are "
        "the same under any plan; set model.gradient_checkpointing to true or false"
    )


def elastic_needs_remat(remat: Sequence[str]) -> UserError:
    return UserError(
        f"the step fits the memory of a device only with remat {', '.join(remat)}, which a plan cannot choose in an "
        "elastic run, whose bits are the same under any plan: set model.gradient_checkpointing true, or make the batch "
        "smaller"
    )


def elastic_padding() -> UserError:
    return UserError(
        "an elastic run is not padded: sums over a padded axis have other bits, and those of an elastic run are the "
        "same under any plan; leave `padding` out, or make the axis itself longer"
    )


def elastic_rule(name: str, found: Sequence[str], wanted: Sequence[str]) -> UserError:
    return UserError(
        f"an elastic step shards `{name}` over all devices: --compute {name}={','.join(wanted)}"
        + (f", and not over {','.join(found)}" if found else "")
    )


def elastic_compute(name: str, over: Sequence[str]) -> UserError:
    return UserError(
        f"`{name}` cannot be sharded over {', '.join(over)} in an elastic step: each device computes whole virtual "
        "shards; leave it out, or use it for storage alone"
    )


def elastic_storage(name: str, over: Sequence[str], operation: str, source: str) -> UserError:
    return UserError(
        f"`{name}` cannot be stored over {', '.join(over)} in an elastic step with this optimizer: its {operation}"
        + (f" ({source})" if source else "")
        + " has other bits for shards; keep the state replicated, or use one that updates element by element, such as "
        "adamw or lion"
    )


def elastic_storage_axes(name: str, over: Sequence[str], axes: Sequence[str]) -> UserError:
    return UserError(
        f"`{name}` cannot be stored over {', '.join(over)} alone in an elastic step: sums go along the innermost mesh "
        f"axes first; store it over {axes[-1]}" + (f" or over {', '.join(axes)}" if len(axes) > 1 else "")
    )


def plan_followed(source: str) -> str:
    return f"the plan is that of {source}"


def two_plans(source: str) -> UserError:
    return UserError(f"two plans are given, {source} and one by hand: leave out --plan, or --compute and --storage")


def plan_of_another_model(source: str, planned: str, model: str) -> str:
    return f"{source} was made for {planned} and is used for {model}: the figures here are those of {model}"


def plan_of_other_sizes(source: str, sizes: Mapping[str, tuple[int, int]]) -> str:
    listed = ", ".join(f"`{name}` was {before} and is {now}" for name, (before, now) in sizes.items())
    return f"{source} was made for other sizes: {listed}"


def plan_of_another_chip(source: str, planned: str, hardware: str) -> str:
    return f"{source} was made for {planned}, and the figures here are those of {hardware}"


def plan_not_written(path: str, reason: str, option: str) -> UserError:
    return UserError(f"cannot write `{path}`: {reason}: name another file for {option}")


def rules_unreadable(path: str, reason: str) -> UserError:
    return UserError(f"cannot read the rules {path}: {reason}")
