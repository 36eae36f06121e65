"""The state that a run starts or resumes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from levanter import data as text
from levanter.checkpoint import Location, Manifest, committed, load, location, newest, read_manifest, resolve
from levanter.compiler.compile import Compiled
from levanter.config import TrainConfig, dump
from levanter.config.kept import FIXED
from levanter.hf.starting import is_imported, starting_model
from levanter.optim.schedule import learning_rate
from levanter.processes.starting import group
from levanter.runtime import elsewhere, environment, errors, own_code, rewinds
from levanter.runtime.course import UNLOGGED, Course
from levanter.runtime.nonfinite import Watch, from_the_first_step
from levanter.runtime.opening import STEPS
from levanter.runtime.record import INITIALIZED, SCHEDULE_STEPS, read
from levanter.runtime.run_directory import RunDirectory
from levanter.runtime.state import (
    TrainState,
    base_shape,
    flat_names,
    from_flat_names,
    init_state,
    state_shape,
)

_MODEL = "model."


def starting_state(
    config: TrainConfig,
    run: RunDirectory,
    fixed: Mapping[str, Any],
    tokens: text.TokenData,
    compiled: Compiled,
    console: Console,
) -> tuple[TrainState, int, Course]:
    """The state to resume from, its step and what to follow from there: of the newest complete checkpoint, or new where
    there is none. What a resume changes is told and recorded.

    A new state has imported weights where the run directory has them or the config names them, else random ones.

    Args:
        fixed: what null means in the config.
    """

    def tell(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    now, config_text = environment.current(), dump(config)
    skipped = rewinds.read(run.path)
    course = Course(skipped, now, Watch(config.trainer.on_nonfinite, console))
    members = group()
    if skipped.windows:
        if members.index == 0:
            rewinds.remove_given_up(run.checkpoints_path, skipped)
        members.exchange("given up")

    def read_state(path: Location) -> tuple[Manifest, TrainState | None]:
        manifest = read_manifest(path)
        usable = _same_data(manifest, tokens) and manifest.step <= config.trainer.num_train_steps
        usable = usable and not is_imported(manifest) and not elsewhere.differences(manifest, config_text)
        return manifest, loaded(config, path, compiled) if usable else None

    problems: list[str] = []
    found = newest(config.trainer.checkpoint.directory or run.checkpoints_path, read_state, problems, members)
    for problem in problems:
        tell(problem)
    if found is None or is_imported(found[1][0]):
        origin = _origin(config)
        fixed = {**fixed, INITIALIZED: str(origin)} if origin is not None else fixed
        # Written before the first step: what is fixed is what the first checkpoint is made with.
        run.write_config(replace(run.record, fixed=fixed, environment=now))
        members.exchange("config written")
        return first_state(config, run, compiled), 0, course

    checkpoint, (manifest, state) = found
    if others := elsewhere.differences(manifest, config_text):
        raise errors.of_another_run(checkpoint, others)
    if not _same_data(manifest, tokens):
        raise errors.other_data(checkpoint)
    for file in own_code.changed(manifest.metadata.get(own_code.KEY, {}), config):
        tell(errors.code_changed(file, checkpoint))
    for line in environment.differences(manifest.metadata.get(environment.KEY, {}), now, checkpoint):
        tell(line)
    if manifest.step > config.trainer.num_train_steps:
        raise errors.past_the_end(checkpoint, manifest.step, config.trainer.num_train_steps)
    assert state is not None
    tell(errors.resuming(checkpoint))
    _record_resume(config, run, manifest.step, fixed, now, tell)
    return state, manifest.step, replace(course, unlogged=manifest.metadata.get(UNLOGGED))


def _same_data(manifest: Manifest, tokens: text.TokenData) -> bool:
    return manifest.metadata.get("data") == tokens.identity_at(manifest.step)


def loaded(config: TrainConfig, checkpoint: Location, compiled: Compiled) -> TrainState:
    """The state of a checkpoint, laid out for a compiled step."""
    shapes = state_shape(config)
    arrays = load(checkpoint, like=flat_names(shapes), shardings=flat_names(compiled.state_shardings))
    return from_flat_names(shapes, arrays)


def first_state(config: TrainConfig, run: RunDirectory, compiled: Compiled, keep_in: Path | None = None) -> TrainState:
    """The state before the first step: the weights of another run, or imported ones, where the config or the run
    directory has some; else random ones.

    Args:
        keep_in: where to put what comes with imported weights; default: the run directory.
    """
    fixed = read(run.config_path.read_text(encoding="utf-8")).fixed.get(INITIALIZED)
    if fixed is not None:
        return initialized(config, location(fixed), compiled)
    oldest = next(iter(committed(run.checkpoints_path)), None)
    imported = oldest if oldest is not None and is_imported(read_manifest(oldest)) else None
    model = starting_model(config, keep_in or run.path, imported, compiled.state_shardings.model)
    return init_state(config, compiled.state_shardings, model)


def initialized(config: TrainConfig, checkpoint: Location, compiled: Compiled) -> TrainState:
    """The state before the first step of a run that starts from the checkpoint of another one (`initialize_from`).

    Raises:
        UserError: it does not fit the model, or the optimizer where that is taken too.
    """
    shapes, shardings = state_shape(config), compiled.state_shardings
    if config.trainer.initialize_optimizer:
        state = loaded(config, checkpoint, compiled)
        step = jax.device_put(0 * state.step, shardings.step)
        return TrainState(step, state.model, from_the_first_step(state.opt_state))
    names = read_manifest(checkpoint).arrays
    whole = all(f"{_MODEL}{name}" in names for name in flat_names(shapes.model))
    # Without the adapter's arrays it is the weights that an adapter is put beside.
    like = shapes.model if whole else base_shape(config)
    layouts = flat_names(shardings.model)
    arrays = load(
        checkpoint,
        like={f"{_MODEL}{name}": leaf for name, leaf in flat_names(like).items()},
        shardings={f"{_MODEL}{name}": layouts[name] for name in flat_names(like)},
        part=_MODEL,
    )
    arrays = {name.removeprefix(_MODEL): array for name, array in arrays.items()}
    if config.adapter is None or not whole:
        return init_state(config, shardings, from_flat_names(like, arrays))
    base = from_flat_names(base_shape(config), {name: arrays[name] for name in flat_names(base_shape(config))})
    kept = {name: arrays[name] for name in arrays if config.adapter.is_adapter(name)}
    return init_state(config, shardings, base, adapter=kept)


def _origin(config: TrainConfig) -> Location | None:
    """The checkpoint of another run that this one starts from."""
    if config.trainer.initialize_from is None:
        return None
    if config.model.initialize_from is not None:
        raise errors.two_origins()
    given = location(config.trainer.initialize_from)
    found = resolve(given.expanduser() if isinstance(given, Path) else given)
    return found.absolute() if isinstance(found, Path) else found


def _record_resume(
    config: TrainConfig,
    run: RunDirectory,
    step: int,
    fixed: Mapping[str, Any],
    now: Mapping[str, Any],
    tell: Callable[[str], None],
) -> None:
    """Tell and record what a resume changes."""
    shown = [str(each) for each in run.changes]
    if shown:
        tell(errors.resumed_with(shown, run.config_path))
    if any(each.name in ("trainer.mesh", "trainer.plan") for each in run.changes):
        tell(errors.mesh_changed(config.trainer.elastic))
    steps, schedule = config.trainer.num_train_steps, fixed[SCHEDULE_STEPS]
    if run.before(STEPS, steps) != steps and schedule < steps:
        tell(errors.schedule_ends(schedule, steps, float(learning_rate(config.optimizer, schedule)(schedule))))
    changed = {each.name: (each.before, each.now) for each in run.changes}
    for name in fixed.keys() & run.record.fixed.keys():
        if fixed[name] != run.record.fixed[name]:
            changed[f"{FIXED}.{name}"] = (run.record.fixed[name], fixed[name])
    for name, pair in environment.changes(run.record.environment, now).items():
        changed[f"{environment.KEY}.{name}"] = pair
    kept = {INITIALIZED: run.record.fixed[INITIALIZED]} if INITIALIZED in run.record.fixed else {}
    run.write_config(run.record.resumed(step, changed, fixed={**fixed, **kept}, environment=dict(now)))
