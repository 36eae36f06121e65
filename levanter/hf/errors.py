"""The wording of everything that can be wrong with a Hugging Face model: what is wrong, where, and the fix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from levanter.errors import UserError, nearest

_SHOWN = 5


def no_folder(name: str) -> UserError:
    return UserError(f"there is no folder `{name}`: give a Hugging Face model folder, or the id of one on the hub")


def cannot_download(name: str, reason: str) -> UserError:
    return UserError(
        f"cannot download `{name}` from the Hugging Face hub: {reason}; check the id and the network, or give a "
        "folder that has config.json and *.safetensors"
    )


def no_config(folder: Path, found: Sequence[str]) -> UserError:
    return UserError(
        f"`{folder}` has no config.json ({_holds(found)}): give the folder that `save_pretrained` wrote, or that was "
        "downloaded from the hub"
    )


def unreadable_json(path: Path, reason: str) -> UserError:
    return UserError(f"`{path}` is not the JSON that it should be: {reason}; put back the file of this model")


def no_weights(folder: Path, found: Sequence[str]) -> UserError:
    return UserError(
        f"`{folder}` has no *.safetensors ({_holds(found)}): write them once with transformers: "
        "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
    )


def shard_missing(index: Path, name: str) -> UserError:
    return UserError(f"`{index.parent / name}` is missing and {index.name} names it: download the file again")


def not_safetensors(path: Path, reason: str) -> UserError:
    return UserError(f"`{path}` is not a whole safetensors file: {reason}; download or write it again")


def other_dtype(path: Path, tensor: str, dtype: str, known: Iterable[str]) -> UserError:
    return UserError(
        f"`{tensor}` in {path} has dtype {dtype} and {', '.join(known)} can be read: convert it, with transformers: "
        "AutoModelForCausalLM.from_pretrained(FOLDER, dtype='bfloat16').save_pretrained(NEW_FOLDER)"
    )


def unknown_model_type(folder: Path, model_type: object, known: Iterable[str]) -> UserError:
    names = sorted(known)
    match = nearest(str(model_type), names)
    meant = f"; did you mean `{match}`?" if match else ""
    return UserError(
        f"{folder / 'config.json'} has model_type `{model_type}`, which is not a family of this library: "
        f"use one of {', '.join(names)}{meant}"
    )


def config_unsupported(model_type: object, field: str, value: object, supported: Iterable[object]) -> UserError:
    able = " or ".join(_json(each) for each in supported)
    return UserError(
        f"config.json has `{field}`: {_json(value)}, and this library's `{model_type}` computes {able} only: "
        "its results would differ, so it is not loaded; use a checkpoint without it"
    )


def missing_field(model_type: str, field: str) -> UserError:
    return UserError(
        f"config.json has no `{field}`, which a model of type `{model_type}` is made from: put back the config.json "
        "that belongs to the weights"
    )


def quantized(folder: Path, method: object) -> UserError:
    return UserError(
        f"the weights in `{folder}` are quantized ({method}) and those of full precision are read: use the checkpoint "
        "that it was made from, or write it again after `model.dequantize()` of transformers"
    )


def no_family(model: str) -> UserError:
    return UserError(
        f"the model {model} has no Hugging Face table: write FAMILY in an hf.py beside its config "
        "(docs/hugging_face.md shows one)"
    )


def other_type(given: str, found: str, source: str) -> UserError:
    return UserError(f"model.type is {given} and `{source}` is of type {found}: leave model.type out, or write {found}")


def no_language_model(folder: Path, model_type: str) -> UserError:
    return UserError(
        f"`{folder}` is of type {model_type}, which is not a language model, and a run trains those: read it with "
        "levanter.hf.import_model, and train it by a step of your own (docs/models.md shows how)"
    )


def missing_tensors(folder: Path, missing: Sequence[str], unused: Iterable[str]) -> UserError:
    names = sorted(unused)
    close = nearest(missing[0], names) if names else None
    hint = f"; the nearest name in it is `{close}`" if close else ""
    return UserError(
        f"the weights in `{folder}` lack {_listed(missing)}{hint}: check that config.json belongs to these weights"
    )


def missing_head(folder: Path, head: str, embedding: str) -> UserError:
    return UserError(
        f"the weights in `{folder}` lack `{head}` and config.json says that it is not tied: if it is the same as "
        f'`{embedding}`, set "tie_word_embeddings": true in config.json; otherwise download the weights again'
    )


def extra_tensors(folder: Path, extra: Sequence[str]) -> UserError:
    return UserError(
        f"the weights in `{folder}` hold {_listed(extra)}, for which the model has no place: they would be lost, so it "
        "is not loaded; check that config.json belongs to these weights"
    )


def untied_head(folder: Path, head: str, embedding: str) -> UserError:
    return UserError(
        f"`{head}` in `{folder}` differs from `{embedding}`, and config.json says that they are tied: one of the two "
        'would be lost; set "tie_word_embeddings": false in config.json to load both, or remove the tensor'
    )


def wrong_shape(
    folder: Path, tensor: str, found: Sequence[int], path: str, wanted: Sequence[int], layout: str
) -> UserError:
    return UserError(
        f"`{tensor}` in `{folder}` is {list(found)} and model.{path} needs {list(wanted)} ({layout}): "
        "leave the sizes of the model to config.json, and check that it belongs to these weights"
    )


def bad_layout(text: str, reason: str) -> UserError:
    return UserError(f'the layout "{text}" is not one: {reason}; write dims as in "(heads head_size) embed"')


def incomplete_table(family: str, problems: Sequence[str]) -> UserError:
    return UserError(f"the Hugging Face table of {family} does not fit its model: {'; '.join(problems[:_SHOWN])}")


def target_in_use(path: Path) -> UserError:
    return UserError(f"`{path}` is there and not empty: export to a new folder")


def cannot_export(path: Path, reason: str) -> UserError:
    return UserError(f"cannot write the folder `{path}`: {reason}; choose another one")


def run_has_checkpoints(path: Path) -> UserError:
    return UserError(f"`{path}` is a run directory with checkpoints: import into a new one with --run-dir")


def no_run(path: Path) -> UserError:
    return UserError(f"`{path}` is not a run directory (it has no config.yaml): give the --run-dir of a run")


def rope_contradiction(fields: Mapping[str, object]) -> UserError:
    said = " and ".join(f"`{name}`: {_json(value)}" for name, value in fields.items())
    return UserError(f"config.json says {said}, which contradict each other: remove the wrong one")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _holds(found: Sequence[str]) -> str:
    if not found:
        return "it is empty"
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"it holds {', '.join(found[:_SHOWN])}{more}"


def _json(value: object) -> str:
    import json

    return json.dumps(value)
