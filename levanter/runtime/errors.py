"""The wording of every error about a run: what is wrong, where, and the fix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from levanter.checkpoint.locations import Location
from levanter.errors import UserError, WorkFailed, first_of, part_meant, suggestion

_SHOWN = 8
_SHOWN_FILES = 3


def is_not_finite(step: int, name: str, value: float) -> str:
    return f"{name} is {value} at step {step}"


def diverged(what: str, origin: str, ways: Sequence[tuple[str, str]]) -> WorkFailed:
    """A run that has come to its end early.

    Args:
        what: which number, at which step.
        origin: where it came from; empty where that could not be found.
        ways: commands to continue with, and what each does.
    """
    lines = [f"training diverged: {what}.", *([origin] if origin else []), "to continue:"]
    for line, does in ways:
        lines += [f"  {line}", f"      {does}"]
    return WorkFailed("\n".join(lines))


def resuming(checkpoint: Location) -> str:
    return f"resuming from {checkpoint}"


def replaying(start: int, step: int) -> str:
    return f"training diverged at step {step}: replaying it from step {start}, to see where it began"


def not_replayed(error: BaseException) -> str:
    return f"the step could not be replayed ({type(error).__name__}: {error})"


def not_shown() -> str:
    return "a replay of the step has only finite numbers: the bits of this machine may have changed"


def update_skipped(what: str) -> str:
    return f"{what}: its update is not applied (trainer.on_nonfinite)"


def rewound(what: str, back: int, batches: int, path: Path) -> str:
    noun = "batch" if batches == 1 else "batches"
    return f"{what}: going back to step {back}, without the {batches} {noun} since (recorded in {path})"


def origin_of_nonfinite(array: str, operation: str, source: str | None, phase: str, inside: str) -> str:
    at = f" at {source}" if source else ""
    return f"the first array that is not finite: {array}, made by `{operation}`{at} ({phase}{inside})"


def input_not_finite(name: str, step: int) -> str:
    return f"the first array that is not finite: {name}, as step {step} found it"


def optimizer_of_nothing() -> UserError:
    return UserError(
        "trainer.initialize_optimizer without trainer.initialize_from: name the run or the checkpoint to start from"
    )


def two_origins() -> UserError:
    return UserError(
        "model.initialize_from and trainer.initialize_from are given: keep the first to start from a Hugging Face "
        "folder, or the second to start from a run"
    )


def stopped_early(name: str) -> str:
    return f"stopped by {name} with nothing to save"


def diverged_together(what: str) -> WorkFailed:
    """A run of several processes; one of a single process looks for the origin too."""
    return WorkFailed(
        f"training diverged: {what}. Try --trainer.on_nonfinite rewind or skip, a lower --optimizer.learning_rate, or "
        "resume it in one process, which looks for where the number came from"
    )


def out_of_memory(reason: str, step: Mapping[str, int], model: Mapping[str, int], holds: str) -> UserError:
    """A step that does not fit; `step` and `model` are fields of the trainer and of the model, with their sizes, and
    `holds` are lines of what fills a device."""
    return UserError(
        f"out of memory while training ({reason}): make {_sizes('trainer', step)} smaller, or one of "
        f"{_sizes('model', model)}; --trainer.microbatches 4, and --model.gradient_checkpointing true where the model "
        f"has it, need less for the same update{holds}"
    )


def state_too_large(needed: int, there: int, model: Mapping[str, int]) -> UserError:
    """Parameters and moments that do not fit, before anything is allocated. Both numbers are bytes."""
    return UserError(
        f"the model and its optimizer need {needed / 2**30:,.1f} GiB and there are {there / 2**30:,.1f} GiB: "
        f"make one of {_sizes('model', model)} smaller (`levanter compile --mesh SHAPE` says what it needs on a mesh)"
    )


def _sizes(section: str, sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{section}.{name} ({size})" for name, size in sizes.items())


def other_data(checkpoint: Location) -> UserError:
    return UserError(
        f"the text or the tokenizer is not the one that {checkpoint} was trained on: "
        "put back the data of this run, or start another one with --run-dir"
    )


def microbatches_by_the_mesh() -> UserError:
    return UserError(
        "trainer.microbatches null is chosen for the memory of one mesh, and trainer.deterministic elastic adds up the "
        "same micro-batches on any: set a number, such as 1"
    )


def too_few_threads(threads: int, devices: int, enough: int) -> UserError:
    return UserError(
        f"trainer.cpu_threads {threads} is less than the {devices} CPU devices of this process, which have a thread "
        "each. Bits depend on their number, and trainer.deterministic elastic has one for any mesh: set it to "
        f"{enough}, enough for all devices that can share out the virtual shards, or leave it out in a new run"
    )


def microbatches_do_not_divide(batch: int, microbatches: int) -> UserError:
    nearest = min((n for n in range(1, batch + 1) if batch % n == 0), key=lambda n: abs(n - microbatches))
    return UserError(
        f"trainer.train_batch_size {batch} does not divide into trainer.microbatches {microbatches}: "
        f"set microbatches to a divisor of it, for example {nearest}"
    )


def virtual_shards_do_not_divide(batch: int, shards: int, microbatches: int) -> UserError:
    per_shard = f"trainer.virtual_shards {shards}" + (f" of {microbatches} micro-batches" if microbatches > 1 else "")
    divisors = [n for n in range(2, shards, 2) if batch % (n * microbatches) == 0]
    # A power of two can be shared out by most numbers of devices.
    best = max(divisors, key=lambda n: (n & (n - 1) == 0, n), default=None)
    of_parts = f" of {batch // microbatches}" if microbatches > 1 else ""
    return UserError(
        f"trainer.train_batch_size {batch} does not divide into {per_shard}, as trainer.deterministic elastic needs: "
        f"set it to a multiple of {shards * microbatches}"
        + (f", or virtual_shards to a divisor{of_parts}, for example {best}" if best else "")
    )


def code_changed(file: str, checkpoint: Location) -> str:
    return (
        f"{file} has changed since {checkpoint} was saved: the run resumes with the code as it is now, and is not the "
        "run that it would have been"
    )


def learns_from_ignored(model: str) -> UserError:
    return UserError(
        f"the loss of {model} counts negative targets, which are those that nothing is to be learned from (data.type): "
        "return `levanter.models.loss.mean_loss(losses, targets)`, with a number for each target"
    )


def past_the_end(checkpoint: Location, step: int, num_train_steps: int) -> UserError:
    return UserError(
        f"{checkpoint} is past the end of this run (trainer.num_train_steps is {num_train_steps}): "
        f"set it to {step} or more, or start another run with --run-dir"
    )


def run_in_use(path: Path, holder: str) -> UserError:
    return UserError(
        f"another process is writing the run directory {path} ({holder or 'unknown'}): "
        "wait for it or stop it, or choose another one with --run-dir"
    )


def checkpoints_in_use(path: Path, holder: str) -> UserError:
    return UserError(
        f"another process is writing checkpoints into {path} ({holder or 'unknown'}): "
        "wait for it or stop it, or choose another folder with --trainer.checkpoint.directory"
    )


def cannot_keep_checkpoints(path: Path, reason: str) -> UserError:
    return UserError(
        f"cannot keep checkpoints in {path}: {reason}; choose another folder with --trainer.checkpoint.directory"
    )


def of_another_run(checkpoint: Location, differences: Sequence[str]) -> UserError:
    return UserError(
        f"{checkpoint} is of a run with another config ({first_of(differences, _SHOWN)}): "
        "set these back to resume that run, or choose another folder with --trainer.checkpoint.directory"
    )


def other_config(path: Path, differences: Sequence[str], another: str | None) -> UserError:
    """`another` is the command that starts the run in a directory of its own, where that is known."""
    fix = f"start this one with `{another}`" if another else "choose another directory with --run-dir"
    return UserError(
        f"the run directory {path} has checkpoints of a run with another config ({first_of(differences, _SHOWN)}): "
        f"set these back to resume it, or {fix}"
    )


def kept_elsewhere(path: Path, differences: Sequence[str], chosen: Path, resumable: bool = False) -> str:
    """`resumable`: whether the run at `path` could be resumed with these differences, by naming it."""
    resume = f" (--run-dir {path} would resume that one with it)" if resumable else ""
    return f"{path} holds another run ({first_of(differences, _SHOWN)}): this one is kept in {chosen}{resume}"


def environment_changed(name: str, before: object, now: object, checkpoint: Location) -> str:
    was, is_now = (f"`{value}`" if value is not None else "not set" for value in (before, now))
    return (
        f"{name} was {was} when {checkpoint} was saved and is {is_now} now: the run resumes, and its bits may differ "
        "from here on"
    )


def resumed_with(changes: Sequence[str], config: Path) -> str:
    return f"this resume changes {'; '.join(changes)} (recorded in {config})"


def mesh_changed(elastic: bool) -> str:
    if elastic:
        return (
            "the values are those of the checkpoint, laid out anew, and the bits of the run stay what they are "
            "(trainer.deterministic elastic)"
        )
    return (
        "the values are those of the checkpoint, laid out anew; sums are taken in another order from here on, so the "
        "last bits of losses may be others"
    )


def schedule_ends(schedule: int, steps: int, rate: float) -> str:
    return (
        f"the learning rate follows its schedule of {schedule} steps, fixed when the run started, and is {rate:g} from "
        f"there to step {steps}; --optimizer.schedule_steps {steps} stretches it"
    )


def mesh_chosen(mesh: str, hardware: str, tried: Sequence[Mapping[str, Any]]) -> str:
    """`tried` are the meshes, the fastest first, with the predicted seconds of a step."""
    others = [
        f"{_mesh_text(each['mesh'])} {1e6 * each['step']:,.0f}" for each in tried[1:3] if each["step"] is not None
    ]
    beside = f"; next {', '.join(others)}" if others else ""
    return f"mesh {mesh}, the fastest of {len(tried)} for {hardware}: {1e6 * tried[0]['step']:,.0f} µs a step{beside}"


def _mesh_text(mesh: Mapping[str, int]) -> str:
    return ",".join(f"{axis}={size}" for axis, size in mesh.items())


def threads_kept(threads: int, cores: int) -> str:
    return (
        f"the run keeps its {threads} CPU threads, which its bits depend on; this process has {cores} "
        f"{'core' if cores == 1 else 'cores'} (--trainer.cpu_threads {cores} would change that)"
    )


def unreadable_config(path: Path) -> UserError:
    return UserError(
        f"{path} is not a config of a run: put back the one of this run, or choose another directory with --run-dir"
    )


def foreign_files(path: Path, names: Sequence[str]) -> UserError:
    shown = ", ".join(names[:_SHOWN_FILES])
    more = f" and {len(names) - _SHOWN_FILES} more" if len(names) > _SHOWN_FILES else ""
    return UserError(
        f"{path} is not a run directory: it holds other files ({shown}{more}); "
        "choose a new or empty directory with --run-dir"
    )


def cannot_make_run(path: Path, reason: str) -> UserError:
    return UserError(f"cannot use {path} as a run directory: {reason}; choose another one with --run-dir")


# --- reproducing ---


def no_run(path: Path) -> UserError:
    return UserError(f"`{path}` is not a run directory (it has no config.yaml): give the --run-dir of a run")


def no_steps(text: str) -> UserError:
    return UserError(
        f"--steps {text}: write FIRST:LAST, such as 100:120 for what was made after step 100 up to step 120"
    )


def steps_not_made(path: Path, end: int, done: int) -> UserError:
    return UserError(f"--steps: {path} has made {done} steps, not {end}: give a LAST of at most {done}")


def nothing_made(path: Path) -> UserError:
    return UserError(f"{path} has made no step yet: there is nothing to reproduce")


def starts_earlier(checkpoint: Location | None, start: int, asked: int) -> str:
    where = f"the nearest checkpoint before it is {checkpoint}" if checkpoint else "there is no checkpoint before it"
    return f"there is no checkpoint of step {asked}; {where}: starting from step {start}"


def not_compared(end: int) -> str:
    return f"there is no checkpoint of step {end}: the weights after it are not compared, its numbers are"


def environment_differs(name: str, before: object, now: object) -> str:
    was, is_now = (f"`{value}`" if value is not None else "not set" for value in (before, now))
    return f"{name} was {was} when these steps were made and is {is_now} now, on which bits may depend"


def no_record(steps: Sequence[int]) -> str:
    noun = "step" if len(steps) == 1 else "steps"
    return f"metrics.jsonl has no record of {len(steps)} {noun} (the first is {steps[0]}): not compared"


def reproduced(path: Path, start: int, end: int, records: int, arrays: Mapping[str, int]) -> str:
    """`arrays`: how many of them were compared, by the name of the checkpoint."""
    told = ", ".join(f"{name} ({count} arrays)" for name, count in arrays.items())
    weights = f" and {told}" if told else ""
    return f"steps {start + 1} to {end} of {path} reproduced bit by bit: {records} records{weights}"


def not_reproduced(path: Path, what: Sequence[str]) -> WorkFailed:
    return WorkFailed(f"{path} is not reproduced: {'; '.join(what)}")


def number_differs(step: int, name: str, was: object, is_now: object) -> str:
    return f"the first step that differs is {step}, where {name} was {was} and is {is_now}"


def array_differs(step: int, name: str, differing: int, arrays: int) -> str:
    return f"after step {step} the first array that differs is {name} ({differing} of {arrays} differ)"


# --- instruments and precision ---


def no_callback(place: str) -> UserError:
    return UserError(
        f"trainer.callbacks has `{place}`, which is not a callback: name FILE.py:NAME, or MODULE:NAME, of a subclass "
        "of levanter.runtime.callbacks.Callback that is made without arguments"
    )


def watches_nothing(pattern: str, names: Sequence[str]) -> UserError:
    fix = part_meant(pattern, names) or f"write a part of a name such as `{names[0]}`, with * for the rest"
    return UserError(f"trainer.watch.parameters has `{pattern}`, which stands for no parameter: {fix}")


def no_window(text: str) -> UserError:
    return UserError(f"trainer.profile is '{text}': write FIRST:LAST, two steps counted from 1, such as 20:25")


def window_cut(asked: range, traced: range, made: range) -> str:
    """`traced` are the steps of the window `asked` that are among those that this start makes, `made`."""
    window = f"trainer.profile {asked[0]}:{asked[-1]}"
    what = f"traces {_steps(traced)} only" if traced else "traces nothing"
    return f"{window} {what}: this start makes {_steps(made) if made else 'no step'}"


def not_traced(folder: Path, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return f"cannot write the trace of trainer.profile into {folder} ({reason}): the run continues without it"


def _steps(steps: range) -> str:
    return f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"


def no_policy(text: str, part: str, known: Mapping[str, Sequence[str]]) -> UserError:
    """`known` has the dtypes that each part of a policy can name."""
    choices = "; ".join(f"{name}: {', '.join(dtypes)}" for name, dtypes in known.items())
    return UserError(
        f"trainer.precision is '{text}', and '{part}' is not a part of a policy: write such as "
        f"params=float32,compute=bfloat16,output=float32, each at most once ({choices})"
    )


def no_precision(part: str, dtype: str, config: str, field: str) -> UserError:
    return UserError(
        f"trainer.precision has {part}={dtype}, which {config} does not know: leave {part} out, or give it a field "
        f"`{field}` that its model obeys"
    )


def scale_no_power(value: float) -> UserError:
    return UserError(
        f"trainer.loss_scale.initial is {value:g}: it must be a power of two, such as 32768, so that nothing is rounded"
    )


def no_metric(pattern: str, known: Sequence[str]) -> UserError:
    return UserError(
        f"no metric `{pattern}` in these runs: {suggestion(pattern, known) if known else 'no step is done'}"
    )


def nothing_to_plot(paths: Sequence[Path]) -> UserError:
    return UserError(f"nothing to draw of {', '.join(map(str, paths))}: no step is done")


def no_picture(path: Path, endings: Sequence[str]) -> UserError:
    return UserError(f"cannot draw into {path}: name a file that ends in {', '.join(endings)}")


def cannot_write_picture(path: Path, reason: str) -> UserError:
    return UserError(f"cannot write {path}: {reason.lower()}; name another file with -o")
