"""Holds a model against the contract of `LmModel`, when it is built and not at the end of a run."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp

import haliax.nn as hnn
from haliax import Axis, NamedArray
from levanter.models import errors
from levanter.models.config import ModelConfig
from levanter.models.lm_model import LmModel

_CALLS = {
    "activations": (("tokens",), {"key": None}),
    "logits": (("activations",), {}),
    "loss": (("tokens", "targets"), {"key": None}),
    "evaluation_loss": (("tokens", "targets"), {}),
    "decays": ((), {}),
}

_checked: set[tuple[Any, ...]] = set()
"""The structures and shapes of models whose results are known to be right: a command asks many times for one."""


def build(config: ModelConfig, key: jax.Array) -> LmModel:
    """The model that `config` describes, freshly initialized, with all that can be seen without running it checked.

    Raises:
        UserError: it does not keep the contract of `LmModel`.
    """
    model = config.build(config.Vocab, key=key)
    name = type(model).__name__
    if not isinstance(model, LmModel):
        raise errors.no_lm_model(name)
    for attribute, kind in (("Pos", Axis), ("Vocab", Axis), ("drops_out", bool)):
        value = getattr(model, attribute)
        if not isinstance(value, kind):
            raise errors.contract_value(name, attribute, kind.__name__, type(value).__name__)
        if (field := type(model).__dataclass_fields__.get(attribute)) and not field.metadata.get("static"):
            raise errors.contract_field(name, attribute, kind.__name__)
    for method, (positional, named) in _CALLS.items():
        signature = inspect.signature(getattr(model, method))
        try:
            signature.bind(*positional, **named)
        except TypeError as error:
            raise errors.contract_signature(name, method, str(signature), str(error)) from None
    if not model.drops_out and any(_drops(part) for part in jax.tree.leaves(model, is_leaf=_drops)):
        raise errors.dropout_unsaid(name)
    decays = model.decays()
    if not _is_mask(decays, model):
        raise errors.contract_result(
            name, "decays", "the tree of the model with a bool for each array", _described(decays)
        )
    return model


def check_results(model: LmModel) -> None:
    """Check what the methods of a model give, from shapes alone; `model` may hold a shape for every array.

    Raises:
        UserError: a method gives something else than the contract says.
    """
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(model))
    if (seen := (jax.tree.structure(model), shapes)) in _checked:
        return
    name = type(model).__name__
    tokens = NamedArray(jax.ShapeDtypeStruct((model.Pos.size,), jnp.int32), (model.Pos,))
    x = jax.eval_shape(lambda model, tokens: model.activations(tokens, key=None), model, tokens)
    if not isinstance(x, NamedArray) or model.Pos not in x.axes:
        raise errors.contract_result(name, "activations", f"a NamedArray with the axis {model.Pos}", _described(x))
    scores = jax.eval_shape(lambda model, x: model.logits(x[model.Pos.name, 0]), model, x)
    if not (isinstance(scores, NamedArray) and scores.axes == (model.Vocab,) and _is_float(scores)):
        raise errors.contract_result(
            name, "logits", f"floats with the axis {model.Vocab} for one place", _described(scores)
        )
    for method, options in (("loss", {"key": None}), ("evaluation_loss", {})):
        loss = jax.eval_shape(
            lambda model, tokens, method=method, options=options: getattr(model, method)(tokens, tokens, **options),
            model,
            tokens,
        )
        if not (isinstance(loss, jax.ShapeDtypeStruct) and loss.shape == () and loss.dtype == jnp.float32):
            raise errors.contract_result(name, method, "one float32 number, no NamedArray", _described(loss))
    _checked.add(seen)


def _is_mask(decays: Any, model: LmModel) -> bool:
    try:
        jax.tree.map(lambda decay, part: None, decays, model)
    except (ValueError, TypeError):
        return False
    return all(isinstance(each, bool) for each in jax.tree.leaves(decays))


def _drops(part: Any) -> bool:
    return isinstance(part, hnn.Dropout) and isinstance(part.pdrop, int | float) and part.pdrop > 0


def _is_float(array: NamedArray) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating)


def _described(value: Any) -> str:
    if isinstance(value, NamedArray):
        return f"{value.dtype}[{', '.join(f'{axis.name}={axis.size}' for axis in value.axes)}]"
    if isinstance(value, jax.ShapeDtypeStruct):
        return f"a raw array {value.dtype}{list(value.shape)}"
    return f"a {type(value).__name__}"
