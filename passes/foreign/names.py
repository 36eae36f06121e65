"""What axes are called elsewhere: their names and ours (docs/lint.md prints this table)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from passes.foreign.rules import ALL, ArrayKind, Kind

ACTIVATION = "activation_"
"""What MaxText writes in front of a name where activations are meant."""


@dataclass(frozen=True)
class Meaning:
    """What a name stands for: the first of `ours` that the step has, in some of its parameters.

    `where` says which systems write it.
    """

    ours: tuple[str, ...]
    where: str
    arrays: frozenset[ArrayKind] = ALL


NAMES: Mapping[str, Meaning] = {
    "hidden": Meaning(("embed",), "Flax"),
    "norm": Meaning(("embed",), "MaxText: scales of norms", frozenset(("vector",))),
    "embed_no_exp": Meaning(("embed",), "MaxText: in experts", frozenset(("experts",))),
    "embed_moe": Meaning(("embed",), "MaxText: in experts", frozenset(("experts",))),
    "embed_tensor_transpose": Meaning(("embed",), "MaxText"),
    "intermediate": Meaning(("mlp",), "Flax"),
    "expert_mlp": Meaning(("mlp",), "MaxText"),
    "mlp_no_fsdp": Meaning(("mlp",), "MaxText"),
    "mlp_moe": Meaning(("mlp",), "MaxText"),
    "heads": Meaning(("heads", "kv_heads"), "Levanter, Flax, MaxText"),
    "q_heads": Meaning(("heads", "kv_heads"), "MaxText"),
    "joined_kv": Meaning(("heads", "kv_heads"), "Flax"),
    "q_heads_per_group": Meaning(("group",), "Levanter"),
    "kv": Meaning(("head_size",), "Flax, MaxText"),
    "kv_head_dim": Meaning(("head_size",), "MaxText"),
    "head_dim": Meaning(("head_size",), "Flax"),
    "layer": Meaning(("layers",), "Levanter"),
    "stack": Meaning(("layers",), "Levanter"),
    "exp": Meaning(("experts",), "MaxText"),
    "expert": Meaning(("experts",), "Flax"),
    "exp_with_fsdp": Meaning(("experts",), "MaxText"),
    "length": Meaning(("position",), "Flax, MaxText"),
    "sequence": Meaning(("position",), "Flax"),
    "seq": Meaning(("position",), "Flax"),
    "seq_len": Meaning(("position",), "Flax"),
    "norm_length": Meaning(("position",), "MaxText"),
    "q_length": Meaning(("position",), "MaxText"),
    "attn_length": Meaning(("position",), "MaxText"),
    "kv_length": Meaning(("key_position",), "MaxText"),
    "kv_batch": Meaning(("batch",), "MaxText"),
    "embed_and_logits_batch": Meaning(("batch",), "MaxText"),
    "loss_batch": Meaning(("batch",), "MaxText"),
}

_ELSEWHERE = frozenset(
    (
        "batch",
        "embed",
        "mlp",
        "heads",
        "kv_heads",
        "head_size",
        "vocab",
        "layers",
        "position",
        "key_position",
        "experts",
        "group",
        "qkv",
        "token",
        "key_token",
        "relpos",
        "conv",
        "stage",
        "circular_repeats",
        "num_pages",
        "num_tiles",
        "tokens_per_page",
        "paged_kv_heads",
        "paged_kv_head_dim_size",
        "dense_layers",
        "moe_layers",
        "q_lora",
        "kv_lora",
        "q_lora_up_proj",
        "kv_lora_up_proj",
        "mla",
        "diloco",
        "concat_embed",
        "vocab_embed",
        "table_embed",
        "length_no_exp",
        "batch_no_exp",
        "length_no_heads",
        "batch_moe",
        "attn_length_no_exp",
        "q_length_no_exp",
        "prefill_kv_batch",
        "prefill_kv_length",
    )
)
"""Names of models and purposes that a step may not have: not misspelled, where they do nothing."""
_PREFIXES = ("cache_", "decode_", "prefill_", "engram_", "vision_")


def known_elsewhere(name: str) -> bool:
    """Whether a name is one of another system's, for models and purposes that this step may not have."""
    bare = name.removeprefix("prefill_").removeprefix(ACTIVATION)
    return bare in _ELSEWHERE or bare in NAMES or name.startswith(_PREFIXES)


def kind_of(name: str, told_apart: bool) -> Kind:
    """What a rule of Flax is about: with `told_apart`, activations have a prefix and other names are parameters'."""
    if name.startswith(ACTIVATION):
        return "activations"
    return "parameters" if told_apart and name != "batch" else "both"


def ours(name: str, step: Mapping[str, int], own: Mapping[str, str]) -> tuple[tuple[str, ...], frozenset[ArrayKind]]:
    """What a name of theirs is here, and in which parameters; no name where the step has none of it.

    Args:
        step: sizes of the axes of the step.
        own: names of theirs and ours, as the user has given them.
    """
    bare = name.removeprefix(ACTIVATION)
    given = own.get(name, own.get(bare))
    if given is not None:
        return (given,), ALL
    meaning = NAMES.get(bare)
    if bare in step and (meaning is None or meaning.arrays == ALL):
        return (bare,), ALL
    found = next((each for each in meaning.ours if each in step), None) if meaning is not None else None
    return ((found,), meaning.arrays) if found is not None and meaning is not None else ((), ALL)


def theirs(name: str, step: Mapping[str, int]) -> str:
    """What MaxText calls a name of ours."""
    written = _WRITTEN.get(name, name)
    return name if written in step else written


_WRITTEN = {
    "head_size": "kv",
    "experts": "exp",
    "group": "q_heads_per_group",
    "position": "length",
    "key_position": "kv_length",
}


def table() -> Iterator[tuple[str, str, str]]:
    """The rows of the table: theirs, ours, and which systems write it."""
    yield from ((name, " or ".join(each.ours), each.where) for name, each in NAMES.items())


_MESH_AXES: Mapping[str, frozenset[str]] = {
    "levanter": frozenset(("data", "model", "replica", "replica_dcn")),
    "flax": frozenset(
        (
            *("data", "stage", "fsdp", "fsdp_transpose", "sequence", "context", "context_autoregressive", "tensor"),
            *("tensor_transpose", "tensor_sequence", "expert", "autoregressive", "diloco", "model"),
        )
    ),
}


def is_mesh_axis_elsewhere(axis: str, dialect: str) -> bool:
    """Whether another system has a mesh axis of that name; where a mesh lacks it, it has one device."""
    return axis in _MESH_AXES.get(dialect, ())
