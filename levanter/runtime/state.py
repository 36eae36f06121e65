"""What training carries from step to step, and the step itself.

The state is a pytree of arrays and nothing else: the number of steps done, the model, and the optimizer's moments. A
step is a pure function of state and batch, so it can be traced from shapes alone: `state_shape` and `batch_shape` give
those in a moment even for a model that would not fit this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from haliax import Axis, NamedArray
from haliax.core.staging import WRAPPERS
from levanter.config.schema import TrainConfig
from levanter.models.check import build, check_results
from levanter.models.lm_model import LmModel
from levanter.optim.optimizer import Optimizer
from levanter.runtime import rng

Metrics = dict[str, Any]
"""Names to scalars; `loss` in nats per token, `grad_norm` before clipping, and the `learning_rate` of the step."""


class LmBatch(eqx.Module):
    """What a step of language modeling reads: at each position a token, and the token that follows it."""

    tokens: NamedArray  # int32 [batch, position]
    targets: NamedArray  # int32 [batch, position]


class TrainState(eqx.Module):
    """Everything that a checkpoint keeps."""

    step: Any  # int32 scalar: steps done
    model: Any
    opt_state: Any


TrainStep = Callable[[TrainState, LmBatch], tuple[TrainState, Metrics]]


def make_train_step(optimizer: Optimizer, seed: int) -> TrainStep:
    """The training step: loss, backward pass and update. A pure function, not jitted.

    Args:
        seed: of the run; dropout at a step depends on it and on the step's number only.
    """

    def train_step(state: TrainState, batch: LmBatch) -> tuple[TrainState, Metrics]:
        key = rng.step_key(seed, state.step, "dropout") if state.model.drops_out else None

        def loss_of(model: Any) -> jax.Array:
            return model.loss(batch.tokens, batch.targets, key=key)

        loss, gradients = jax.value_and_grad(loss_of)(state.model)
        updates, opt_state = optimizer.transform.update(gradients, state.opt_state, state.model)
        metrics = {
            "loss": loss,
            "grad_norm": optax.tree.norm(gradients),
            "learning_rate": optimizer.learning_rate(state.step),
        }
        return TrainState(state.step + 1, optax.apply_updates(state.model, updates), opt_state), metrics

    return train_step


def train_step_of(config: TrainConfig) -> TrainStep:
    """The training step that a whole configuration describes."""
    return make_train_step(_optimizer(config), config.trainer.seed)


def initial_state(config: TrainConfig, model: Any = None) -> TrainState:
    """The state before the first step, a pure function of the config: to be called under `jax.jit` or `eval_shape`.

    Args:
        model: trained weights to start from; without them the model is freshly initialized.
    """
    if model is None:
        model = build(config.model, rng.named(rng.seed_key(config.trainer.seed), "model"))
    return TrainState(jnp.zeros((), jnp.int32), model, _optimizer(config).transform.init(model))


def _optimizer(config: TrainConfig) -> Optimizer:
    return config.optimizer.build(config.trainer.num_train_steps, _decays)


def _decays(model: LmModel) -> Any:
    return model.decays()


def init_state(config: TrainConfig, shardings: Any = None, model: Any = None) -> TrainState:
    """The state before the first step, on devices; every array is made where it lies.

    The values depend on the config (and `model`) alone, not on the mesh.

    Args:
        shardings: a pytree of shardings with the structure of the state, or None for the default device.
        model: trained weights to start from, laid out so already; they are donated.
    """
    # It runs once, so it is compiled in a hurry: to the same bits, in less than half the time.
    hurry = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    if model is not None:
        start = jax.jit(partial(initial_state, config), out_shardings=shardings, donate_argnums=0)
        return start(model)
    return jax.jit(lambda: initial_state(config), out_shardings=shardings, compiler_options=hurry)()


def state_shape(config: TrainConfig) -> TrainState:
    """The state with a `jax.ShapeDtypeStruct` for every array: nothing is computed or allocated.

    Raises:
        UserError: the model does not keep the contract of `LmModel`.
    """
    state = jax.eval_shape(lambda: initial_state(config))
    check_results(state.model)
    return state


def batch_axes(config: TrainConfig) -> tuple[Axis, Axis]:
    """Axes `batch` and `position` of a training batch."""
    return Axis("batch", config.trainer.train_batch_size), config.model.Pos


def batch_shape(config: TrainConfig) -> LmBatch:
    """A batch with a `jax.ShapeDtypeStruct` for each of its arrays."""
    axes = batch_axes(config)
    tokens = NamedArray(jax.ShapeDtypeStruct(tuple(axis.size for axis in axes), jnp.int32), axes)
    return LmBatch(tokens, tokens)


def flat_names(state: Any) -> dict[str, Any]:
    """The arrays of a state (or the shapes or shardings of one) by path, such as `model.blocks.mlp.up.weight`.

    The names do not depend on how modules are nested inside haliax: the wrapper of a stack of layers and the array of
    a `NamedArray` have no name of their own. So they are stable, and checkpoints use them.
    """
    return {_path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def from_flat_names(like: Any, arrays: dict[str, Any]) -> Any:
    """The tree with the structure of `like` and the leaves that `flat_names` gave.

    Raises:
        KeyError: an array is not there.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(like)
    return jax.tree.unflatten(structure, [arrays[_path_name(path)] for path, _ in paths])


def _path_name(path: tuple[Any, ...]) -> str:
    parts = [str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key)))) for key in path]
    return ".".join(part for part in parts if part not in WRAPPERS)
