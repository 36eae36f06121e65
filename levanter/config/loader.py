"""From a file and overrides to a `TrainConfig`, and back to text."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import draccus
import yaml

from levanter.config import document
from levanter.config.check import checked
from levanter.config.document import Document
from levanter.config.files import find_model
from levanter.config.kept import in_its_place, without_kept
from levanter.config.overrides import parse_overrides
from levanter.config.planned import with_plan
from levanter.config.pretrained import with_pretrained
from levanter.config.renamed import renamed
from levanter.config.schema import TrainConfig
from levanter.errors import UserError


def load(
    source: str | Path | None, overrides: Sequence[str] = (), *, own: str | None = None, options: Sequence[str] = ()
) -> TrainConfig:
    """The configuration in `source` with the overrides over it.

    Args:
        source: the path of a YAML file, or the name of a shipped model such as `gpt2_nano`; None is the default of
            every section.
        overrides: command-line arguments such as `["--optimizer.learning_rate", "1e-3"]`.
        own: the config of a model of the user's own in place of that of `source`: `my_model.py:MyConfig`, from the
            working directory, or `my_package.my_model:MyConfig`.
        options: the command's other option names, for suggesting one where an override is unknown.

    Raises:
        UserError: anything is wrong with the file, a key or a value; the message is one line.
    """
    written, name = Document(), None
    if source is not None:
        is_path = isinstance(source, Path) or "/" in source or source.endswith((".yaml", ".yml"))
        path = Path(source) if is_path else find_model(str(source))
        written, name = renamed(without_kept(in_its_place(document.read(path), path))), path.stem
    if own is not None:
        written = written.updated(parse_overrides([f"--model.type={own}"]).anchored(Path.cwd()))
        name = Path(own.rpartition(":")[0]).name.removesuffix(".py").rpartition(".")[2]
    written = written.updated(renamed(parse_overrides(overrides).anchored(Path.cwd())))
    config = _decode(with_plan(with_pretrained(written)), options)
    if config.trainer.run_name is None and name is not None:
        return dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, run_name=name))
    return config


def load_pretrained(source: str, overrides: Sequence[str] = (), *, options: Sequence[str] = ()) -> TrainConfig:
    """The configuration of a run that starts from a Hugging Face model: the default of every section but the model's.

    Args:
        source: a model folder, or an id on the hub.
        overrides, options: as of `load`.

    Raises:
        UserError: as `load` does.
    """
    return load(None, [f"--model.initialize_from={source}", *overrides], options=options)


def loads(text: str) -> TrainConfig:
    """The configuration that `dump` wrote, or that of a run.

    Raises:
        UserError: as `load` does.
    """
    return _decode(renamed(without_kept(document.parse(text, "config"))))


def dump(config: TrainConfig) -> str:
    """The configuration as YAML, every field written out; `loads` gives it back."""
    return yaml.safe_dump(draccus.encode(config), sort_keys=False, allow_unicode=True)


def _decode(written: Document, options: Sequence[str] = ()) -> TrainConfig:
    values = checked(TrainConfig, written, options)
    try:
        return draccus.decode(TrainConfig, values)
    except Exception as error:
        # A dataclass that refuses its values raises UserError; draccus hands it on as the cause of errors of its own.
        refusal = next((link for link in _chain(error) if isinstance(link, UserError)), None)
        if refusal is None:
            raise
        raise UserError(_located(str(refusal), written)) from None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _located(message: str, written: Document) -> str:
    """The message with the file and line of the first set field that it names by its dotted name."""
    named = (tuple(name.split(".")) for name in re.findall(r"\b\w+(?:\.\w+)+", message))
    mark = next((written.marks[path] for path in named if path in written.marks), None)
    return f"{message} (set in {mark.where})" if mark and mark.where else message
