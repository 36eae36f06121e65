"""LoRA adapters as `peft` writes and reads them: a folder with adapter_config.json and adapter_model.safetensors.

Where a layer's two matrices lie in the file follows from where its weight lies in the model's own file, which the table
of its Hugging Face family says:

    model.layers.{layers}.self_attn.q_proj.weight          (kv_heads group head_size) embed
    base_model.model.….q_proj.lora_A.weight                lora_rank embed
    base_model.model.….q_proj.lora_B.weight                (kv_heads group head_size) lora_rank

(https://huggingface.co/docs/peft/developer_guides/checkpoint)
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from haliax.axis import axes_of
from levanter import durable
from levanter.adapters import errors
from levanter.adapters.lora.lora import RANK
from levanter.hf import errors as hf_errors
from levanter.hf.exporting import DTYPES
from levanter.hf.family import Weight
from levanter.hf.layout import Layout
from levanter.hf.safetensors import Spec, create_folder, read_header
from levanter.hf.table import Entry, Table, whole

if TYPE_CHECKING:
    from levanter.adapters.lora.config import LoraConfig

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_END = ".weight"


def export_adapter(
    folder: Path,
    config: LoraConfig,
    layers: Mapping[str, Any],
    table: Table,
    arrays: Mapping[str, Any],
    *,
    base: str | None,
    dtype: str = "float32",
) -> None:
    """Write the adapters of a model as a folder that `peft` loads.

    Args:
        folder: new, or empty.
        layers: the adapted layers by name; shapes will do.
        table: of the model without adapters.
        arrays: the arrays of the adapters by name, such as `blocks.mlp.up.lora_a`.
        base: the model that they are for, as a path or an id.
        dtype: of the tensors.

    Raises:
        UserError: the folder is in use or cannot be written, or a layer is a part of a tensor of the family.
    """
    entries = adapter_entries(layers, table)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise hf_errors.target_in_use(folder)
    staged = folder.absolute().with_name(f".{folder.absolute().name}.tmp")
    try:
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        described = _described(config, layers, table, base)
        (staged / CONFIG).write_text(json.dumps(described, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        specs = {name: Spec(DTYPES[dtype], entry.shape) for entry in entries for name in entry.tensors()}
        files = create_folder(staged, specs, max_shard_bytes=1 << 62)
        for entry in entries:
            values = np.asarray(arrays[entry.weight.path])
            for name, here, inner in entry.parts(whole(entry.axes)):
                entry.within(files[name].view(write=True))[inner] = values[here]
        del files
        (staged / "model.safetensors").rename(staged / WEIGHTS)
        if folder.exists():
            folder.rmdir()
        durable.commit_tree(staged, folder.absolute())
    except OSError as error:
        shutil.rmtree(staged, ignore_errors=True)
        raise hf_errors.cannot_export(folder, error.strerror or str(error)) from error


def read_adapter(folder: Path, config: LoraConfig, layers: Mapping[str, Any], table: Table) -> dict[str, np.ndarray]:
    """The arrays of the adapters in a folder by name, in the axes of `layers`.

    Raises:
        UserError: the folder has none, or they are of another rank, scale, or other layers than `config` says.
    """
    try:
        described = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = read_header(folder / WEIGHTS)
    except (OSError, ValueError) as error:
        raise errors.unreadable_adapter(folder, getattr(error, "strerror", None) or str(error)) from error
    if described.get("peft_type") != "LORA":
        raise errors.unreadable_adapter(folder, f"its peft_type is {described.get('peft_type')}")
    for field, theirs, ours in (
        ("rank", described.get("r"), config.rank),
        ("alpha", described.get("lora_alpha"), config.alpha),
        ("rank_stabilized", bool(described.get("use_rslora", False)), config.rank_stabilized),
    ):
        if theirs != ours:
            raise errors.other_adapter(folder, field, theirs, ours)
    entries = adapter_entries(layers, table)
    needed = {name for entry in entries for name in entry.tensors()}
    if needed != set(tensors):
        raise errors.other_layers(folder, needed - set(tensors), set(tensors) - needed)
    arrays: dict[str, np.ndarray] = {}
    for entry in entries:
        values = np.empty(tuple(axis.size for axis in entry.axes), np.float32)
        for name, here, inner in entry.parts(whole(entry.axes)):
            if tensors[name].shape != entry.shape:
                raise errors.other_shape(folder, name, tensors[name].shape, entry.shape)
            values[here] = entry.within(tensors[name].view())[inner].astype(np.float32)
        arrays[entry.weight.path] = values
    return arrays


def adapter_entries(layers: Mapping[str, Any], table: Table) -> list[Entry]:
    """Where the two matrices of every layer lie in the file.

    Raises:
        UserError: a layer is only a part of a tensor.
    """
    found: list[Entry] = []
    for name, layer in layers.items():
        for entry in table.of(f"{name}{_END}"):
            weight = entry.weight
            if weight.rows is not None:
                raise errors.fused(name, weight.key)
            ins, outs = ({axis.name for axis in axes_of(axes)} for axes in (layer.In, layer.Out))
            module = f"{_PREFIX}{weight.key.removesuffix(_END)}"
            source, target = _dim(weight.parsed, ins), _dim(weight.parsed, outs)
            for side, letter, layout in (("a", "A", f"{RANK} {source}"), ("b", "B", f"{target} {RANK}")):
                array = getattr(layer, f"lora_{side}")
                own = Weight(f"{name}.lora_{side}", f"{module}.lora_{letter}.weight", layout)
                found.append(Entry(own, array.axes, {axis.name: axis.size for axis in array.axes}))
    return found


def _dim(layout: Layout, names: set[str]) -> str:
    """The dim of a layout that merges axes of `names`, as text."""
    dim = next(dim for dim in layout.dims if dim and set(dim) <= names)
    return dim[0] if len(dim) == 1 else f"({' '.join(dim)})"


def _described(config: LoraConfig, layers: Mapping[str, Any], table: Table, base: str | None) -> dict[str, Any]:
    """adapter_config.json."""
    keys = [entry.weight.key.removesuffix(_END) for name in layers for entry in table.of(f"{name}{_END}")]
    # A Conv1D of GPT-2 has its weight [in, out], and `peft` asks to be told.
    first, layer = next((table.of(f"{name}{_END}")[0].weight, layer) for name, layer in layers.items())
    ins = {axis.name for axis in axes_of(layer.In)}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rank_stabilized,
        "target_modules": sorted({_suffix(key, keys) for key in keys}),
        "fan_in_fan_out": set(first.parsed.dims[0]) <= ins,
        "bias": "none",
        "inference_mode": True,
    }


def _suffix(key: str, keys: list[str]) -> str:
    """The end of a module's name that `peft` finds it by in every layer, such as `attn.c_proj`.

    One name alone may be that of another module as well (`c_proj` of GPT-2's MLP), so the part before is among it.
    """
    parts = [part for part in key.split(".") if not part.startswith("{")]
    return ".".join(parts[-2:])
