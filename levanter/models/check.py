"""Holds a model against the contract of `LmModel`, when it is built and not at the end of a run."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

import haliax.nn as hnn
from haliax import Axis, NamedArray
from levanter.errors import UserError
from levanter.models import errors
from levanter.models.config import ModelConfig
from levanter.models.lm_model import LmModel
from levanter.user_code import is_own, line_of

_CALLS = {
    "activations": (("tokens",), {"key": None}),
    "logits": (("activations",), {}),
    "loss": (("tokens", "targets"), {"key": None}),
    "evaluation_loss": (("tokens", "targets"), {}),
    "decays": ((), {}),
    "cache": (("batch", "length", "dtype"), {}),
    "extend": (("tokens", "cache", "start"), {}),
}
"""How each method is called; those that a model may lack are held against this where it has them."""

_checked: set[tuple[Any, ...]] = set()
"""The structures and shapes of models whose results are known to be right: a command asks many times for one."""


def build(config: ModelConfig, key: jax.Array) -> LmModel:
    """The model that `config` describes, freshly initialized, with all that can be seen without running it checked.

    Raises:
        UserError: it does not keep the contract of `LmModel`.
    """
    with _told(type(config), "build"):
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
    if model.Pos.name != config.Pos.name or model.Pos.size < config.Pos.size:
        raise errors.contract_axis(name, "Pos", model.Pos, errors.other_places(type(config).__name__, config.Pos))
    if model.Vocab.size < config.vocab_size:
        raise errors.contract_axis(name, "Vocab", model.Vocab, errors.too_few_ids(config.vocab_size))
    for there, missing in (("cache", "extend"), ("extend", "cache")):
        if hasattr(model, there) and not hasattr(model, missing):
            raise errors.half_a_cache(name, there, missing)
    for method, (positional, named) in _CALLS.items():
        if not hasattr(model, method):
            continue
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
    name, kind = type(model).__name__, type(model)
    tokens = _tokens(model.Pos)
    with _told(kind, "activations"):
        x = jax.eval_shape(lambda model, tokens: model.activations(tokens, key=None), model, tokens)
    if not isinstance(x, NamedArray) or model.Pos not in x.axes:
        raise errors.contract_result(name, "activations", f"a NamedArray with the axis {model.Pos}", _described(x))
    with _told(kind, "logits"):
        scores = jax.eval_shape(lambda model, x: model.logits(x[model.Pos.name, 0]), model, x)
    if not (isinstance(scores, NamedArray) and scores.axes == (model.Vocab,) and _is_float(scores)):
        raise errors.contract_result(
            name, "logits", f"floats with the axis {model.Vocab} for one place", _described(scores)
        )
    for method, options in (("loss", {"key": None}), ("evaluation_loss", {})):
        with _told(kind, method):
            loss = jax.eval_shape(
                lambda model, tokens, method=method, options=options: getattr(model, method)(tokens, tokens, **options),
                model,
                tokens,
            )
        if not (isinstance(loss, jax.ShapeDtypeStruct) and loss.shape == () and loss.dtype == jnp.float32):
            raise errors.contract_result(name, method, "one float32 number, no NamedArray", _described(loss))
    if is_own(kind):
        _check_batches(model)
    if hasattr(model, "cache"):
        _check_cache(model, x.dtype)
    _checked.add(seen)


def _check_batches(model: LmModel) -> None:
    """Whether a batch passes through: an axis that the model does not name."""
    Batch = Axis("batch", 2)
    with _told(type(model), "activations"):
        x = jax.eval_shape(lambda model, tokens: model.activations(tokens, key=None), model, _tokens(Batch, model.Pos))
    if Batch not in x.axes or model.Pos not in x.axes:
        expected = f"for a batch, a NamedArray with the axes {Batch} and {model.Pos}"
        raise errors.contract_result(type(model).__name__, "activations", expected, _described(x))


def _check_cache(model: Any, dtype: Any) -> None:
    """Whether what `extend` gives is what `activations` gives, and the cache that it was given."""
    name, Batch, Part = type(model).__name__, Axis("batch", 2), model.Pos.resize(1)
    with _told(type(model), "cache"):
        cache = jax.eval_shape(lambda model: model.cache((Batch,), model.Pos.size, dtype), model)
    starts = NamedArray(jax.ShapeDtypeStruct((Batch.size,), jnp.int32), (Batch,))
    tokens = _tokens(Batch, Part)
    with _told(type(model), "extend"):
        result = jax.eval_shape(lambda *given: given[0].extend(*given[1:]), model, tokens, cache, starts)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], NamedArray)):
        raise errors.contract_result(name, "extend", "(activations, cache)", _described(result))
    x, after = result
    if Batch not in x.axes or Part not in x.axes:
        raise errors.contract_result(name, "extend", f"activations with the axes {Batch} and {Part}", _described(x))
    if jax.tree.structure(after) != jax.tree.structure(cache) or _types(after) != _types(cache):
        raise errors.contract_result(name, "extend", "a cache of the shapes and dtypes of that before", "another one")


def _types(tree: Any) -> list[Any]:
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def _tokens(*axes: Axis) -> NamedArray:
    return NamedArray(jax.ShapeDtypeStruct(tuple(axis.size for axis in axes), jnp.int32), axes)


@contextlib.contextmanager
def _told(cls: type, method: str) -> Iterator[None]:
    """What fails in a class of the user's own is told with the line of it.

    Raises:
        UserError: something failed.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not is_own(cls):
            raise
        raise errors.contract_raised(f"{cls.__name__}.{method}", line_of(error), error) from error


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
