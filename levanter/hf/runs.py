"""Between model folders and run directories: a run that starts from a folder, and a folder made from a run.

An import writes the weights as the checkpoint of step 0, which holds the model and no optimizer state, so that training
starts from it with any optimizer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from levanter.adapters.errors import no_adapter
from levanter.adapters.lora.config import LoraConfig
from levanter.adapters.lora.peft import export_adapter
from levanter.checkpoint import Location, committed, resolve, save
from levanter.config import TrainConfig, dump, loads
from levanter.data.tokenizer import load_tokenizer
from levanter.hf import errors
from levanter.hf.exporting import MAX_SHARD_BYTES, export_model
from levanter.hf.folder import CONFIG, GENERATION, HfFolder, open_folder
from levanter.hf.importing import read_arrays
from levanter.hf.kept import Origin, keep, kept_folder, origin_of
from levanter.hf.starting import IMPORTED, MODEL
from levanter.hf.table import table_of
from levanter.runtime.evaluated import EvaluatedArrays
from levanter.runtime.run_directory import HUGGING_FACE, open_run
from levanter.runtime.state import base_shape, state_shape


def import_run(config: TrainConfig, run_dir: Path) -> Origin:
    """Make the run directory of a run that starts from the model folder in `config.model.initialize_from`.

    Raises:
        UserError: the folder cannot be read, or the run directory cannot be made or has checkpoints.
    """
    assert config.model.initialize_from is not None
    folder = open_folder(config.model.initialize_from)
    if committed(run_dir / "checkpoints"):
        raise errors.run_has_checkpoints(run_dir)
    arrays = read_arrays(folder, config.model, base_shape(config))
    data = config.data
    if folder.has_tokenizer and data.tokenizer == config.model.initialize_from:
        data = replace(data, tokenizer=str(run_dir / HUGGING_FACE))
    trainer = replace(config.trainer, run_name=config.trainer.run_name or run_dir.name, run_dir=str(run_dir))
    with open_run(run_dir, dump(replace(config, data=data, trainer=trainer))) as run:
        origin = keep(folder, run.path)
        save(run.checkpoints_path, 0, _Prefixed(arrays), {IMPORTED: folder.source})
    return origin


def export_run(
    run_dir: Path,
    target: Path,
    *,
    dtype: str | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    adapter: bool = False,
) -> tuple[Location, str]:
    """Write the newest checkpoint of a run as a model folder; returns the checkpoint and the dtype.

    The weights are those that the run evaluates: means of weights where it keeps them, with its adapter merged.

    Args:
        dtype: of the tensors; None takes those that the weights came with, or float32 where they are the run's own.
        adapter: whether the adapter alone is written, as `peft` reads it.

    Raises:
        UserError: there is no run or no checkpoint, its model has no Hugging Face family, or the target is in use.
    """
    if not (run_dir / "config.yaml").is_file():
        raise errors.no_run(run_dir)
    config = loads((run_dir / "config.yaml").read_text(encoding="utf-8"))
    checkpoint = resolve(run_dir)
    origin = origin_of(run_dir)
    others = origin.other_dtypes if origin is not None and dtype is None else {}
    if adapter:
        return _export_adapter(config, run_dir, checkpoint, target, origin, dtype or "float32")
    dtype = dtype or (origin.dtype if origin is not None else "float32")
    export_model(
        target,
        config.model,
        EvaluatedArrays(config, checkpoint),
        base_shape(config),
        dtype=dtype,
        other_dtypes=others,
        companions=_companions(config, run_dir, origin),
        max_shard_bytes=max_shard_bytes,
    )
    return checkpoint, dtype


def _export_adapter(
    config: TrainConfig, run_dir: Path, checkpoint: Location, target: Path, origin: Origin | None, dtype: str
) -> tuple[Location, str]:
    if not isinstance(config.adapter, LoraConfig):
        raise no_adapter(run_dir)
    layers = config.adapter.layers(state_shape(config).model)
    table = table_of(config.model, base_shape(config))
    base = origin.source if origin is not None else config.model.initialize_from
    arrays = EvaluatedArrays(config, checkpoint).adapter()
    export_adapter(target, config.adapter, layers, table, arrays, base=base, dtype=dtype)
    return checkpoint, dtype


def _companions(config: TrainConfig, run_dir: Path, origin: Origin | None) -> dict[str, bytes]:
    """What goes beside the weights: what came with them, or what the run's tokenizer says."""
    kept = kept_folder(run_dir) if origin is not None else None
    files = _contents(kept) if kept is not None else {}
    own = {str(run_dir / HUGGING_FACE), origin.source if origin is not None else ""}
    if kept is not None and kept.has_tokenizer and config.data.tokenizer in own:
        return files
    tokenizer = load_tokenizer(config.data.tokenizer)
    ends = {"bos_token_id": tokenizer.start_of_text, "eos_token_id": tokenizer.end_of_text}
    content = (json.dumps(ends, indent=2, sort_keys=True) + "\n").encode()
    named = {name: files.get(name, content) for name in (CONFIG, GENERATION)}
    return {**tokenizer.files(), **named}


def _contents(folder: HfFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.companions()}


class _Prefixed(Mapping[str, Any]):
    """The arrays of a model under the names that a checkpoint has for them."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self._arrays = arrays

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name.removeprefix(MODEL)]

    def __iter__(self) -> Iterator[str]:
        return (f"{MODEL}{name}" for name in self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)
