"""Norms of single parameters, of their gradients and of their updates, every so many steps (`trainer.watch`).

They are computed by a program of their own from the state before a step and its batch, so that the program of the step,
and every bit of the run, is the same whether anybody watches or not. It costs about one more step each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from levanter.optim.norm import global_norm
from levanter.paths import matches, named_leaves
from levanter.runtime import errors
from levanter.runtime.state import batch_shape, state_shape, train_step_of

if TYPE_CHECKING:
    from levanter.compiler.compile import Compiled
    from levanter.config import TrainConfig

OF = ("weight_norm", "gradient_norm", "update_norm")
"""What is told of a parameter: its Euclidean norm before the step, and those of its gradient (before clipping) and of
what the step adds to it. A key of the record is `gradient_norm/blocks.mlp.up.weight`."""


class Watch:
    """The norms of the parameters that a configuration watches.

    Raises:
        UserError: a pattern stands for no parameter that is trained.
    """

    def __init__(self, config: TrainConfig, compiled: Compiled) -> None:
        watch = config.trainer.watch
        self._every = watch.every
        self._patterns = list(watch.parameters)
        self._config, self._compiled = config, compiled
        self._program: Callable[..., Mapping[str, Any]] | None = None
        if self._patterns:
            names = [name for name, leaf in named_leaves(state_shape(config).model).items() if leaf is not None]
            for pattern in self._patterns:
                if not any(matches(name, pattern) for name in names):
                    raise errors.watches_nothing(pattern, names)

    def due(self, step: int) -> bool:
        """Whether the numbers of step `step`, counted from 1, are wanted."""
        return bool(self._patterns) and step % self._every == 0

    @property
    def compiled(self) -> bool:
        """Whether the program is there: the first time, it has to be compiled."""
        return self._program is not None

    def numbers(self, state: Any, batch: Any) -> Mapping[str, Any]:
        """The norms of the step that comes next, which has this state and batch; nobody waits for them here."""
        if self._program is None:
            trainer = self._config.trainer
            pieces = trainer.virtual_shards if trainer.elastic else None
            step = train_step_of(self._config, watch=lambda *trees: norms(self._patterns, pieces, *trees))

            def watched(state: Any, batch: Any) -> dict[str, Any]:
                return {name: value for name, value in step(state, batch)[1].items() if name.partition("/")[0] in OF}

            self._program = self._compiled.lower_for(watched, state_shape(self._config), batch_shape(self._config))
        return self._program(state, batch)


def norms(patterns: Sequence[str], pieces: int | None, *trees: Any) -> dict[str, jax.Array]:
    """The norms of all arrays that a pattern stands for, float32 scalars by key.

    Args:
        pieces: see `levanter.optim.norm.global_norm`.
        trees: weights, gradients and updates, in the structure of the model; None stands for what is not trained.
    """
    found: dict[str, jax.Array] = {}
    for of, tree in zip(OF, trees, strict=True):
        for name, leaf in named_leaves(tree).items():
            if leaf is not None and any(matches(name, pattern) for pattern in patterns):
                found[f"{of}/{name}"] = global_norm(leaf.astype(jnp.float32), pieces)
    return found
