"""The wording of every error about a model's configuration: what is wrong, where, and the fix."""

from __future__ import annotations

from collections.abc import Sequence

from levanter.errors import UserError


def heads_do_not_divide(hidden_dim: int, num_heads: int) -> UserError:
    lower = max(1, hidden_dim // num_heads) * num_heads
    return UserError(
        f"model.hidden_dim {hidden_dim} does not divide into model.num_heads {num_heads}: "
        f"set hidden_dim to a multiple of num_heads, for example {lower} or {lower + num_heads}"
    )


def groups_do_not_divide(num_heads: int, num_kv_heads: int) -> UserError:
    divisors = [size for size in range(1, num_heads + 1) if num_heads % size == 0]
    nearest = min(divisors, key=lambda size: (abs(size - num_kv_heads), size))
    return UserError(
        f"model.num_heads {num_heads} does not divide into model.num_kv_heads {num_kv_heads}: "
        f"set num_kv_heads to a divisor of num_heads, for example {nearest}"
    )


def patches_do_not_divide(image_size: int, patch_size: int) -> UserError:
    lower = max(1, image_size // patch_size) * patch_size
    return UserError(
        f"model.image_size {image_size} does not divide into patches of model.patch_size {patch_size}: "
        f"set image_size to a multiple of patch_size, for example {lower} or {lower + patch_size}"
    )


def too_few_experts(num_experts: int, experts_per_token: int) -> UserError:
    return UserError(
        f"model.experts_per_token {experts_per_token} is more than model.num_experts {num_experts}: "
        f"set experts_per_token to {num_experts} or less"
    )


def longrope_without_factors() -> UserError:
    return UserError(
        "model.rope.scaling is longrope, which needs a divisor for each frequency: "
        "set model.rope.short_factors and model.rope.long_factors"
    )


def vocabulary_too_small(model_size: int, tokenizer_size: int) -> UserError:
    return UserError(
        f"the tokenizer has {tokenizer_size} tokens but model.vocab_size is {model_size}: "
        f"set model.vocab_size to {tokenizer_size} or more"
    )


_PIECES = {
    "Pos": """\
    @property
    def Pos(self) -> Axis:  # the axis of the places of a text, at the longest that the model reads""",
    "Vocab": """\
    @property
    def Vocab(self) -> Axis:  # the axis of the token ids in its logits""",
    "drops_out": """\
    @property
    def drops_out(self) -> bool:  # whether it drops anything at random while training""",
    "activations": """\
    def activations(self, tokens: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        # tokens int32 [..., Pos] → [..., Pos, …], what the logits are made from; without a key nothing is dropped""",
    "logits": """\
    def logits(self, activations: NamedArray) -> NamedArray:
        # [..., …], as `activations` gives it → float [..., Vocab]""",
    "loss": """\
    def loss(self, tokens: NamedArray, targets: NamedArray, *, key: jax.Array | None = None) -> jax.Array:
        # int32 [..., Pos] each → the mean cross entropy in nats over the targets >= 0, a float32 scalar""",
    "evaluation_loss": """\
    def evaluation_loss(self, tokens: NamedArray, targets: NamedArray) -> jax.Array:
        # as `loss`, without a key and without terms that are no cross entropy, such as those of a router""",
    "decays": """\
    def decays(self) -> Any:
        # the tree of the model with a bool for each array: whether weight decay applies""",
    "cache": """\
    def cache(self, batch: tuple[Axis, ...], length: int, dtype: Any) -> Any:
        # what `extend` keeps of the places before, for texts of at most `length` places; a tree of arrays""",
    "extend": """\
    def extend(self, tokens: NamedArray, cache: Any, start: NamedArray | int) -> tuple[NamedArray, Any]:
        # tokens int32 [..., Pos] that stand at places start, start + 1, … of their rows, and the cache so far
        # → the activations [..., Pos, …], and the cache with these places; later places of it are not seen""",
}
"""The lines to write for each piece of the contract of `LmModel`."""
_OPTIONAL = ("evaluation_loss", "decays", "cache", "extend")


def contract_missing(model: str, missing: Sequence[str]) -> UserError:
    names = ", ".join(f"`{name}`" for name in missing)
    return UserError(f"the model {model} lacks {names}. Write in it\n\n{_pieces(missing)}")


def no_lm_model(model: str) -> UserError:
    pieces = _pieces([name for name in _PIECES if name not in _OPTIONAL])
    return UserError(
        f"{model} is not an LmModel. Write\n\nfrom levanter.models import LmModel\n\nclass {model}(LmModel):\n{pieces}"
    )


def contract_value(model: str, name: str, expected: str, got: str) -> UserError:
    return UserError(f"`{model}.{name}` is of type {got} and must be of type {expected}. Write\n\n{_pieces([name])}")


def contract_field(model: str, name: str, kind: str) -> UserError:
    return UserError(
        f"`{model}.{name}` is a field that is not static, so it would be trained. Write\n\n"
        f"    {name}: {kind} = eqx.field(static=True)"
    )


def contract_signature(model: str, method: str, signature: str, reason: str) -> UserError:
    return UserError(
        f"`{model}.{method}{signature}` does not take what it is given ({reason}). Write\n\n{_pieces([method])}"
    )


def contract_result(model: str, method: str, expected: str, got: str) -> UserError:
    return UserError(f"`{model}.{method}` gives {got} and must give {expected}:\n\n{_pieces([method])}")


def contract_raised(what: str, where: str | None, error: Exception) -> UserError:
    place = f" at {where}" if where else ""
    return UserError(f"`{what}` fails{place}: {type(error).__name__}: {error} (--debug shows all of it)")


def contract_axis(model: str, name: str, axis: object, fix: str) -> UserError:
    return UserError(f"`{model}.{name}` is {axis}: {fix}")


def other_places(config: str, axis: object) -> str:
    return f"take it from the config, `{config}.Pos`, which is {axis}"


def too_few_ids(vocab_size: int) -> str:
    return f"model.vocab_size is {vocab_size}, so make it at least that long, or take the `Vocab` that `build` is given"


def half_a_cache(model: str, there: str, missing: str) -> UserError:
    return UserError(f"{model} has `{there}` and no `{missing}`: write both, or neither\n\n{_pieces([missing])}")


def dropout_unsaid(model: str) -> UserError:
    return UserError(
        f"{model} has a layer of dropout and says that it drops nothing (`drops_out` is False), so nothing would be "
        f"dropped in training. Say it:\n\n{_pieces(['drops_out'])}"
    )


def _pieces(names: Sequence[str]) -> str:
    return "\n\n".join(_PIECES[name] for name in names)


def takes_no_segments(name: str, method: str) -> UserError:
    return UserError(
        f"`{name}.{method}` takes no `segments`, so that documents would see each other (data.packing): "
        "add the argument `segments: NamedArray | None = None` and let attention respect it, "
        "or set data.packing to stream"
    )
