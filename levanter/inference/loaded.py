"""A trained model, ready for use: from a run directory, one of its checkpoints, or a Hugging Face folder or id.

Of a run its newest whole checkpoint is used, with the parameters that its optimizer evaluates with (an average of those
that it trains, say).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levanter.checkpoint import Location, newest, read_manifest, resolve
from levanter.compiler.inference import Layout, plan_inference
from levanter.config import TrainConfig, document, load_pretrained
from levanter.config import load as load_config
from levanter.data.tokenizer import Tokenizer, load_tokenizer
from levanter.hf import import_model, open_folder
from levanter.hf.starting import is_imported, starting_model
from levanter.inference import errors
from levanter.inference.generate import Placement
from levanter.models.lm_model import LmModel
from levanter.runtime import own_code
from levanter.runtime.evaluated import load_evaluated
from levanter.runtime.run_directory import CHECKPOINTS, CONFIG
from levanter.runtime.state import state_shape

_PLACES = "key_position"


@dataclass(frozen=True)
class Source:
    """Where a model comes from, before anything of it is read but its configuration.

    Attributes:
        name: what the user called it.
        run: the run directory, or None where the model is a Hugging Face one.
    """

    name: str
    config: TrainConfig
    run: Path | None


@dataclass(frozen=True)
class Loaded:
    """A model on devices and what goes with it.

    Attributes:
        config: of the run; of a Hugging Face model, the default of every section but the model's.
        layout: how it lies on a mesh; None on one device.
    """

    name: str
    config: TrainConfig
    model: LmModel
    tokenizer: Tokenizer
    layout: Layout | None = None

    @property
    def vocab_size(self) -> int:
        """How many ids can be drawn: those that both the model and the tokenizer know."""
        return min(self.config.model.vocab_size, self.tokenizer.vocab_size)

    @property
    def place(self) -> Placement | None:
        """What lays arrays out as the model lies; None on one device. Places of a text are on every device."""
        if self.layout is None:
            return None
        layout, replicated = self.layout, (_PLACES, self.model.Pos.name)
        return lambda tree: layout.place(tree, replicated)


def find(name: str, overrides: Sequence[str] = (), options: Sequence[str] = ()) -> Source:
    """The model that `name` means, and its configuration with the overrides over it.

    Args:
        overrides, options: see `levanter.config.load`.

    Raises:
        UserError: there is no such thing, or anything is wrong with the configuration.
    """
    path = Path(name).expanduser()
    run = next((folder for folder in (path, *path.parents[:2]) if (folder / CONFIG).is_file()), None)
    if run is not None and (path == run or (run / CHECKPOINTS) in (path, path.parent)):
        # Other text than the run's is read with the run's tokenizer all the same.
        kept = document.read(run / CONFIG).values.get("data", {}).get("tokenizer")
        other = kept and any(each.startswith("--data.type") for each in overrides)
        first = [f"--data.tokenizer={kept}"] if other else []
        return Source(name, load_config(run / CONFIG, [*first, *overrides], options=options), run)
    if path.is_dir() and not (path / "config.json").is_file():
        raise errors.no_model(name)
    return Source(name, load_pretrained(name, overrides, options=options), None)


def load_model(source: Source, batch: int, notify: Callable[[str], None]) -> Loaded:
    """The model of a source, on the devices of `trainer.mesh` as the plan for reading `batch` texts at once has it.

    Args:
        notify: told, in a line for people, what they should know of the checkpoint.

    Raises:
        UserError: there is no whole checkpoint, or it does not fit the configuration; nothing fits the devices.
    """
    if source.run is None:
        assert source.config.model.initialize_from is not None
        folder = open_folder(source.config.model.initialize_from)
        made = _made(source, batch, False, lambda config, like, at: import_model(folder, config.model, like, at))
    else:
        made = _of_run(source, source.run, batch, notify)
    config, model, layout = made
    return Loaded(source.name, config, model, load_tokenizer(config.data.tokenizer), layout)


_Made = tuple[TrainConfig, LmModel, Layout | None]


def _of_run(source: Source, run: Path, batch: int, notify: Callable[[str], None]) -> _Made:
    """The model of the checkpoint of a run that is meant; `notify` is told what people should know of it."""

    def read(checkpoint: Location) -> _Made:
        if is_imported(read_manifest(checkpoint)):
            return _made(source, batch, False, lambda config, like, at: starting_model(config, run, checkpoint, at))
        return _made(source, batch, True, lambda config, like, at: load_evaluated(config, checkpoint, at))

    path, problems = Path(source.name).expanduser(), list[str]()
    if path != run:
        checkpoint = resolve(path)
        made = read(checkpoint)
    else:
        found = newest(run / CHECKPOINTS, read, problems)
        if found is None:
            raise errors.no_checkpoint(run)
        checkpoint, made = found
    for problem in problems:
        notify(problem)
    for file in own_code.changed(read_manifest(checkpoint).metadata.get(own_code.KEY, {}), source.config):
        notify(errors.code_changed(file, checkpoint))
    return made


def _made(source: Source, batch: int, trained: bool, read: Callable[[TrainConfig, Any, Any], LmModel]) -> _Made:
    """A model on the devices of its mesh.

    Args:
        trained: whether it was trained here; weights that nobody has trained here have no adapter yet.
        read: gives the model, of a config, its shapes, and their shardings (None on one device).
    """
    config = source.config if trained else dataclasses.replace(source.config, adapter=None)
    like, layout = state_shape(config).model, None
    if config.trainer.mesh is not None:
        layout = plan_inference(like, batch, config.mesh.as_dict(), config.trainer.hardware)
    return config, read(config, like, None if layout is None else layout.model), layout
