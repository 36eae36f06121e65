"""The wording of every error about an adapter: what is wrong, where, and the fix."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from levanter.errors import UserError, part_meant, suggestion


def no_target(target: str, layers: Collection[str], axes: Iterable[str]) -> UserError:
    fix = part_meant(target, sorted(layers)) or suggestion(target, {*layers, *axes})
    return UserError(
        f"adapter.targets: no linear layer matches `{target}`: {fix} "
        "(a target is a pattern of names, or the name of an axis of a layer's input or output)"
    )


def no_layers() -> UserError:
    return UserError("adapter.targets is empty, so there is nothing to train: name layers, such as *.attention.*")


def unreadable_adapter(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} is not a LoRA adapter: {reason}; it needs adapter_config.json and adapter_model.safetensors, "
        "as `peft` writes them"
    )


def other_adapter(path: Path, field: str, theirs: object, ours: object) -> UserError:
    return UserError(
        f"the adapter in {path} has {field} {theirs}, and adapter.{field} is {ours}: set adapter.{field} to {theirs}"
    )


def other_layers(path: Path, missing: Collection[str], unknown: Collection[str]) -> UserError:
    shown = [f"lacks {', '.join(sorted(missing)[:3])}"] if missing else []
    shown += [f"has {', '.join(sorted(unknown)[:3])}, which the model does not"] if unknown else []
    return UserError(
        f"the adapter in {path} is for other layers than adapter.targets names: it {' and '.join(shown)}; "
        "make adapter.targets name the layers of its adapter_config.json"
    )


def other_shape(path: Path, tensor: str, found: tuple[int, ...], needed: tuple[int, ...]) -> UserError:
    return UserError(
        f"`{tensor}` in {path} is {list(found)} and the model needs {list(needed)}: it is of another model"
    )


def fused(layer: str, tensor: str) -> UserError:
    return UserError(
        f"the adapter of `{layer}` cannot be written for peft: Hugging Face keeps that layer as a part of `{tensor}`, "
        "which would have one adapter for all its parts. Export the merged weights: leave out --adapter"
    )


def no_adapter(run_dir: Path) -> UserError:
    return UserError(f"the run in {run_dir} has no adapter: leave out --adapter to export its weights")
