"""From the arrays of a model to a folder that `transformers` loads as it is.

The files are made at their full size first; then the arrays of ours are asked for one after another and each is written
into its places, so that there is one of them in memory at a time. The folder is written aside and renamed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from levanter import durable
from levanter.hf import errors
from levanter.hf.folder import CONFIG
from levanter.hf.safetensors import Spec, create_folder
from levanter.hf.table import Table, table_of, whole
from levanter.models.config import InFolders

MAX_SHARD_BYTES = 50_000_000_000
"""As `save_pretrained` has it."""

DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}


def export_model(
    folder: Path,
    config: InFolders,
    arrays: Mapping[str, Any],
    like: Any,
    *,
    dtype: str = "float32",
    other_dtypes: Mapping[str, str] | None = None,
    companions: Mapping[str, bytes] | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write the folder of a model: config.json, the weights, and what travels with them.

    Args:
        folder: new, or empty.
        arrays: of the model by flat name; each is asked for once and may be a JAX array, whose shards are all here.
        like: the model that `config` builds; shapes will do.
        dtype: of the tensors: float32, bfloat16 or float16.
        other_dtypes: tensors of another dtype, by name.
        companions: further files by name. A config.json among them gives the fields that ours has no place for.
        max_shard_bytes: the most bytes of tensors in one file.

    Raises:
        UserError: the folder is in use or cannot be written, or the model has no Hugging Face family.
    """
    table = table_of(config, like)
    companions = dict(companions or {})
    before = json.loads(companions.pop(CONFIG, b"{}"))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise errors.target_in_use(folder)
    staged = folder.absolute().with_name(f".{folder.absolute().name}.tmp")
    try:
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        described = hf_config(config, dtype, before)
        (staged / CONFIG).write_text(json.dumps(described, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        for name, content in companions.items():
            (staged / name).write_bytes(content)
        write_weights(staged, table, arrays, dtype, other_dtypes or {}, max_shard_bytes)
        if folder.exists():
            folder.rmdir()
        durable.commit_tree(staged, folder.absolute())
    except OSError as error:
        raise errors.cannot_export(folder, error.strerror or str(error)) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def hf_config(config: InFolders, dtype: str, before: Mapping[str, Any]) -> dict[str, Any]:
    """config.json of a model.

    Args:
        before: what the config.json said that the model was read from; ours wins.
    """
    family = type(config).hf()
    assert family is not None
    # The old spelling of `dtype`; both at once would be read by some and not by others.
    kept = {name: value for name, value in before.items() if name != "torch_dtype"}
    model_type = before.get("model_type", family.model_types[0])
    return {
        **kept,
        **family.config_to_hf(config),
        "architectures": [family.architecture],
        "dtype": dtype,
        "model_type": model_type,
    }


def write_weights(
    folder: Path,
    table: Table,
    arrays: Mapping[str, Any],
    dtype: str,
    other_dtypes: Mapping[str, str],
    max_shard_bytes: int,
) -> None:
    """Write the safetensors files of a model into a folder."""
    specs = {name: Spec(DTYPES[other_dtypes.get(name, dtype)], table.shape(name)) for name in table.tensors}
    files = create_folder(folder, specs, max_shard_bytes)
    for path in dict.fromkeys(entry.weight.path for entry in table.entries):
        values = np.asarray(arrays[path])
        for entry in table.of(path):
            for name, here, inner in entry.parts(whole(entry.axes)):
                entry.within(files[name].view(write=True))[inner] = values[here]
        del values
