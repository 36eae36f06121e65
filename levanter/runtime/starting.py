"""The state that a run starts or resumes from."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from levanter import data as text
from levanter.checkpoint import Location, Manifest, load, newest, read_manifest
from levanter.compiler.compile import Compiled
from levanter.config import TrainConfig
from levanter.hf.runs import is_imported, starting_model
from levanter.processes.starting import group
from levanter.runtime import errors, own_code
from levanter.runtime.run_directory import RunDirectory
from levanter.runtime.state import TrainState, flat_names, from_flat_names, init_state, state_shape


def starting_state(
    config: TrainConfig, run: RunDirectory, tokens: text.TokenData, compiled: Compiled, console: Console
) -> tuple[TrainState, int]:
    """The state to resume from and its step: of the newest complete checkpoint, or new where there is none.

    A new one has imported weights where the run directory has them or the config names them, else random ones.
    """
    problems: list[str] = []
    folder = config.trainer.checkpoint.directory or run.checkpoints_path
    found = newest(folder, lambda path: _restored(path, config, tokens, compiled), problems, group())
    for problem in problems:
        console.print(problem, markup=False, highlight=False, soft_wrap=True)
    if found is None or is_imported(found[1][0]):
        model = starting_model(config, run.path, found and found[0], compiled.state_shardings.model)
        return init_state(config, compiled.state_shardings, model), 0
    checkpoint, (manifest, state) = found
    for file in own_code.changed(manifest.metadata.get(own_code.KEY, {}), config):
        console.print(errors.code_changed(file, checkpoint), markup=False, highlight=False, soft_wrap=True)
    console.print(f"going on from {checkpoint}", markup=False, highlight=False, soft_wrap=True)
    return state, manifest.step


def _restored(
    checkpoint: Location, config: TrainConfig, tokens: text.TokenData, compiled: Compiled
) -> tuple[Manifest, Any]:
    """The manifest of a checkpoint, and the state in it, of which each value that is read is verified."""
    manifest = read_manifest(checkpoint)
    if is_imported(manifest):
        return manifest, None
    if manifest.metadata.get("data") != tokens.identity:
        raise errors.other_data(checkpoint)
    if manifest.step > config.trainer.num_train_steps:
        raise errors.past_the_end(checkpoint, manifest.step, config.trainer.num_train_steps)
    shapes = state_shape(config)
    arrays = load(checkpoint, like=flat_names(shapes), shardings=flat_names(compiled.state_shardings))
    return manifest, from_flat_names(shapes, arrays)
