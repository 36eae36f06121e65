"""What training carries from step to step, and the step itself.

The state is a pytree of arrays and nothing else: the number of steps done, the model, and the optimizer's moments. A
step is a pure function of state and batch, so it can be traced from shapes alone: `state_shape` and `batch_shape` give
those in a moment even for a model that would not fit this machine.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from haliax import Axis, NamedArray
from levanter.adapters.config import AdapterConfig
from levanter.config.schema import TrainConfig
from levanter.models.check import build, check_results
from levanter.models.errors import takes_no_segments
from levanter.models.lm_model import LmModel
from levanter.models.parts.precision import floats_in_dtype
from levanter.optim.average import averaged
from levanter.optim.errors import all_frozen
from levanter.optim.groups import frozen_parts
from levanter.optim.norm import global_norm
from levanter.optim.optimizer import Optimizer
from levanter.paths import flat_names as flat_names
from levanter.paths import from_flat_names as from_flat_names
from levanter.paths import map_named
from levanter.runtime import rng
from levanter.runtime.accumulate import (
    first_microbatch,
    first_shard,
    loss_and_gradients,
    sharded_loss_and_gradients,
)
from levanter.runtime.config import LossScaleConfig
from levanter.runtime.frozen import parted, whole
from levanter.runtime.loss_scale import LossScale, Scaling, initial
from levanter.runtime.nonfinite import unless_finite
from levanter.runtime.precision import parse

Metrics = dict[str, Any]
"""Names to scalars; `loss` in nats per token, `grad_norm` before clipping, and the `learning_rate` of the step."""


VIRTUAL_SHARD = "virtual_shard"
"""The axis in front of a batch of an elastic run."""


class LmBatch(eqx.Module):
    """What a step of language modeling reads: at each position a token, and the token that follows it."""

    tokens: NamedArray  # int32 [batch, position], of an elastic run [virtual_shard, batch, position]
    targets: NamedArray  # int32, the same axes
    segments: NamedArray | None = None
    """int32, the same axes; equal for the tokens of one document; None where a token sees all before it."""


class TrainState(eqx.Module):
    """Everything that a checkpoint keeps."""

    step: Any  # int32 scalar: steps done
    model: Any
    opt_state: Any
    loss_scale: LossScale | None = None


TrainStep = Callable[[TrainState, LmBatch], tuple[TrainState, Metrics]]
Frozen = Callable[[Any], Any]
"""From a model to its tree with a bool for each array, whether it stays as it is; or to None where nothing does."""


def nothing_frozen(model: Any) -> None:
    """Everything is trained."""
    return None


def make_train_step(
    optimizer: Optimizer,
    seed: int,
    *,
    microbatches: int = 1,
    gradients_dtype: str | None = None,
    virtual_shards: int | None = None,
    frozen: Frozen = nothing_frozen,
    adapter: AdapterConfig | None = None,
    skip_nonfinite: bool = False,
    watch: Callable[..., Metrics] | None = None,
    loss_scale: LossScaleConfig | None = None,
) -> TrainStep:
    """The training step: loss, backward pass and update. A pure function, not jitted.

    Args:
        seed: of the run; dropout at a step depends on it and on the step's number only.
        microbatches: see `levanter.runtime.accumulate`.
        gradients_dtype: what gradients are kept in until the update, which computes in the dtype of the parameters.
        virtual_shards: of an elastic run; None for any other.
        frozen: what of a model stays as it is.
        adapter: of the model, which may drop some of its inputs while training.
        skip_nonfinite: whether an update that is not finite is left out; the step counts all the same.
        watch: gives more metrics, from the parameters, their gradients and their updates.
        loss_scale: see `levanter.runtime.loss_scale`.
    """
    dropping = adapter if adapter is not None and adapter.drops_out else None
    transform = optax.with_extra_args_support(optimizer.transform)

    def train_step(state: TrainState, batch: LmBatch) -> tuple[TrainState, Metrics]:
        drops = state.model.drops_out or dropping is not None
        key = rng.step_key(seed, state.step, "dropout") if drops else None
        trained, fixed = parted(state.model, frozen(state.model))

        def loss_of(trained: Any, batch: LmBatch, key: jax.Array | None) -> jax.Array:
            model = whole(trained, fixed)
            if dropping is not None and key is not None:
                model = dropping.dropped(model, rng.named(key, "adapter"))
            apart = segments_of(model, "loss", batch)
            return model.loss(batch.tokens, batch.targets, key=key if model.drops_out else None, **apart)

        def loss_of_a_part(trained: Any) -> jax.Array:
            part = batch if virtual_shards is None else first_shard(batch)
            return loss_of(trained, first_microbatch(part, microbatches), key)

        scaling = Scaling(loss_scale, state.loss_scale)
        differentiate = loss_and_gradients if virtual_shards is None else sharded_loss_and_gradients
        loss, gradients = differentiate(scaling.scaled(loss_of), trained, batch, key, microbatches, gradients_dtype)
        loss, kept = scaling.unscaled(loss, gradients)
        gradients = jax.tree.map(lambda each, parameter: each.astype(parameter.dtype), kept, trained)
        norm = global_norm(gradients, virtual_shards)
        updates, opt_state = transform.update(
            gradients,
            state.opt_state,
            trained,
            loss=loss_of_a_part,
            norm=None if virtual_shards is None else norm,
            key=rng.step_key(seed, state.step, "optimizer"),
        )
        metrics = {
            "loss": loss,
            "grad_norm": norm,
            "learning_rate": optimizer.learning_rate(state.step),
        }
        if watch is not None:
            metrics |= watch(trained, gradients, updates)
        new, old = (optax.apply_updates(trained, updates), opt_state), (trained, state.opt_state)
        if skip_nonfinite:
            new = unless_finite(loss, norm, global_norm(updates, virtual_shards), new, old)
        (trained, opt_state), scale, said = scaling.update(metrics["grad_norm"], new, old)
        return TrainState(state.step + 1, whole(trained, fixed), opt_state, scale), metrics | said

    return train_step


def train_step_of(config: TrainConfig, watch: Callable[..., Metrics] | None = None) -> TrainStep:
    """The training step that a whole configuration describes; `watch` is that of `make_train_step`."""
    return make_train_step(
        _optimizer(config),
        config.trainer.seed,
        microbatches=config.trainer.microbatches or 1,
        gradients_dtype=config.trainer.gradients_dtype,
        virtual_shards=_virtual_shards(config),
        frozen=_frozen(config),
        adapter=config.adapter,
        skip_nonfinite=config.trainer.on_nonfinite == "skip",
        watch=watch,
        loss_scale=config.trainer.loss_scale,
    )


def initial_state(config: TrainConfig, model: Any = None, adapter: Mapping[str, Any] | None = None) -> TrainState:
    """The state before the first step, a pure function of the config: to be called under `jax.jit` or `eval_shape`.

    Args:
        model: trained weights to start from, without an adapter's; without them the model is freshly initialized.
        adapter: arrays of the adapter by name to start from.
    """
    if model is None:
        model = _initial_model(config)
    if config.adapter is not None:
        model = config.adapter.adapted(model, rng.named(rng.seed_key(config.trainer.seed), "adapter"))
        model = from_flat_names(model, {**flat_names(model), **(adapter or {})})
    model = floats_in_dtype(model, parse(config.trainer.precision).params)
    trained, _ = parted(model, _frozen(config)(model))
    moments = _optimizer(config).transform.init(trained)
    return TrainState(jnp.zeros((), jnp.int32), model, moments, initial(config.trainer.loss_scale))


def _initial_model(config: TrainConfig) -> Any:
    return build(config.model, rng.named(rng.seed_key(config.trainer.seed), "model"))


def evaluated_model(config: TrainConfig, state: TrainState) -> Any:
    """The model of a state as it is evaluated, sampled from and exported: a mean of weights where the optimizer keeps
    one (`optimizer.ema`, schedule-free), else the model as it is trained."""
    if not config.optimizer.averages:
        return state.model
    trained, fixed = parted(state.model, _frozen(config)(state.model))
    return whole(_optimizer(config).eval_params(state.opt_state, trained), fixed)


def _optimizer(config: TrainConfig) -> Optimizer:
    steps = config.optimizer.schedule_steps or config.trainer.num_train_steps
    optimizer = config.optimizer.build(steps, _decays)
    return optimizer if config.optimizer.ema is None else averaged(optimizer, config.optimizer.ema)


def _virtual_shards(config: TrainConfig) -> int | None:
    """How many an elastic run has; None for any other."""
    return config.trainer.virtual_shards if config.trainer.elastic else None


def _frozen(config: TrainConfig) -> Frozen:
    patterns, groups = config.trainer.frozen, getattr(config.optimizer, "groups", [])
    adapter = config.adapter
    if not patterns and not groups and adapter is None:
        return nothing_frozen

    def frozen(model: Any) -> Any:
        mask = frozen_parts(patterns, groups, model)
        if adapter is not None:
            is_adapter = adapter.is_adapter
            mask = map_named(lambda name, leaf, still: still or not is_adapter(name), model, mask)
        flags = jax.tree.leaves(mask)
        if all(flags):
            raise all_frozen()
        return mask if any(flags) else None

    return frozen


def _decays(model: LmModel) -> Any:
    return model.decays()


def init_state(
    config: TrainConfig, shardings: Any = None, model: Any = None, adapter: Mapping[str, Any] | None = None
) -> TrainState:
    """The state before the first step, on devices; every array is made where it lies.

    The values depend on the config (and `model`) alone, not on the mesh.

    Args:
        shardings: a pytree of shardings with the structure of the state, or None for the default device.
        model: trained weights to start from, laid out so already; they are donated.
        adapter: arrays of the adapter by name to start from; None takes those that the config names.
    """
    # It runs once, so it is compiled in a hurry: to the same bits, in less than half the time.
    hurry = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    adapter = adapter or {}
    if config.adapter is not None and not adapter:
        adapter = config.adapter.starting_arrays(config.model, base_shape(config), state_shape(config).model)
    if model is not None:
        start = jax.jit(partial(initial_state, config), out_shardings=shardings, donate_argnums=0)
        return start(model, dict(adapter))
    start = jax.jit(partial(initial_state, config, None), out_shardings=shardings, compiler_options=hurry)
    return start(dict(adapter))


def state_shape(config: TrainConfig) -> TrainState:
    """The state with a `jax.ShapeDtypeStruct` for every array: nothing is computed or allocated.

    Raises:
        UserError: the model does not keep the contract of `LmModel`.
    """
    state = jax.eval_shape(lambda: initial_state(config))
    check_results(state.model)
    return state


def base_shape(config: TrainConfig) -> Any:
    """The model without an adapter, with a `jax.ShapeDtypeStruct` for every array."""
    return jax.eval_shape(lambda: _initial_model(config))


def segments_of(model: Any, method: str, batch: LmBatch) -> dict[str, NamedArray]:
    """What a method of a model is told of the documents of a batch, by the name of the argument.

    Raises:
        UserError: it takes no such argument, and would let documents see each other.
    """
    if batch.segments is None:
        return {}
    if "segments" not in inspect.signature(getattr(model, method)).parameters:
        raise takes_no_segments(type(model).__name__, method)
    return {"segments": batch.segments}


def batch_axes(config: TrainConfig) -> tuple[Axis, ...]:
    """Axes `batch` and `position` of a training batch; of an elastic run `virtual_shard`, `batch` and `position`."""
    size, shards = config.trainer.train_batch_size, _virtual_shards(config)
    if shards is None:
        return Axis("batch", size), config.model.Pos
    return Axis(VIRTUAL_SHARD, shards), Axis("batch", size // shards), config.model.Pos


def named_batch(arrays: Sequence[Any], axes: Sequence[Axis]) -> LmBatch:
    """A batch of a run from arrays [batch, position]: tokens, targets, and segments where there are any."""
    shape = [axis.size for axis in axes]
    return LmBatch(*(NamedArray(array.reshape(shape), tuple(axes)) for array in arrays))


def batch_shape(config: TrainConfig) -> LmBatch:
    """A batch with a `jax.ShapeDtypeStruct` for each of its arrays."""
    axes = batch_axes(config)
    tokens = NamedArray(jax.ShapeDtypeStruct(tuple(axis.size for axis in axes), jnp.int32), axes)
    return LmBatch(tokens, tokens, tokens if config.data.has_segments else None)
