"""Adafactor over named parameters (Shazeer and Stern, 2018).

    mean square of [in, out]  ≈  rows [in] · columns [out] / mean of rows

Optax takes the two longest dims for the matrix; here its names say which they are, so that the layers of a stack are
never a dim of it, several axes count as one, and the kept means have names that a plan shards like the weight's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import haliax as hax
from haliax import NamedArray
from levanter.optim.chain import chained
from levanter.optim.matrix import Matrix, matrices_of
from levanter.optim.optimizer import Decays, Optimizer
from levanter.paths import map_named

if TYPE_CHECKING:
    from levanter.optim.adafactor.config import AdafactorConfig

LEAST_SCALE = 1e-3
"""What the size of a parameter counts at least, so that one that is 0 can leave it."""


class FactoredState(NamedTuple):
    """Running means of squared gradients."""

    count: Any  # int32 scalar: steps done
    rows: Any  # of a matrix: without its Out axes
    columns: Any  # of a matrix: without its In axes
    full: Any  # of any other parameter


def adafactor(config: AdafactorConfig, num_train_steps: int, decays: Decays) -> Optimizer:
    """The optimizer that `config` describes, for a run of `num_train_steps` steps; `decays` says what decays."""
    parts = [("factored", scale_by_factored(config.decay_exponent, config.epsilon))]
    if config.clip_threshold is not None:
        parts.append(("clip", optax.stateless(_clipped(config.clip_threshold))))
    if config.relative_step:
        parts.append(("size", optax.stateless(_by_size)))
    if config.momentum is not None:
        parts.append(("momentum", optax.ema(config.momentum, debias=False)))
    return chained(config, num_train_steps, decays, "adafactor", optax.named_chain(*parts))


def _clipped(threshold: float) -> Any:
    def update(updates: Any, parameters: Any) -> Any:
        return _by_block(lambda update, size: update / hax.maximum(size / threshold, 1.0), updates, updates)

    return update


def _by_size(updates: Any, parameters: Any) -> Any:
    return _by_block(lambda update, size: update * hax.maximum(size, LEAST_SCALE), updates, parameters)


def _by_block(change: Callable[[Any, Any], Any], updates: Any, of: Any) -> Any:
    """Each update changed by the root mean square of the array of `of` at its place: of each matrix of a stack by
    itself, of any other parameter as a whole."""
    found = matrices_of(updates)

    def changed(name: str, update: Any, other: Any) -> Any:
        if not isinstance(update, NamedArray):
            return change(update, jnp.sqrt(jnp.mean(jnp.square(other))))
        axes = (*found[name].In, *found[name].Out) if name in found else update.axes
        return change(update, hax.sqrt(hax.mean(hax.square(other), axes)))

    return map_named(changed, updates, of)


def scale_by_factored(decay_exponent: float, epsilon: float) -> optax.GradientTransformation:
    """Gradients over the root of their mean squares, of which a matrix keeps those of its rows and columns."""

    def init(params: Any) -> FactoredState:
        found = matrices_of(params)

        def zeros(axes: str) -> Any:
            def of(name: str, leaf: Any) -> Any:
                matrix = found.get(name)
                if (matrix is None) != (axes == "full"):
                    return None
                if matrix is None:
                    return jax.tree.map(jnp.zeros_like, leaf)
                return hax.zeros(_without(leaf.axes, matrix.Out if axes == "rows" else matrix.In), leaf.dtype)

            return map_named(of, params)

        return FactoredState(jnp.zeros((), jnp.int32), zeros("rows"), zeros("columns"), zeros("full"))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, FactoredState]:
        found = matrices_of(updates)
        count = state.count + 1
        kept = 1.0 - count.astype(jnp.float32) ** -decay_exponent

        def one(name: str, gradient: Any, rows: Any, columns: Any, full: Any) -> _Step:
            squares = gradient * gradient + epsilon
            if (matrix := found.get(name)) is None:
                full = jax.tree.map(lambda old, new: kept * old + (1.0 - kept) * new, full, squares)
                return _Step(jax.tree.map(lambda g, v: g * jax.lax.rsqrt(v), gradient, full), None, None, full)
            rows = kept * rows + (1.0 - kept) * hax.mean(squares, matrix.Out)
            columns = kept * columns + (1.0 - kept) * hax.mean(squares, matrix.In)
            return _Step(_scaled(gradient, rows, columns, matrix), rows, columns, None)

        steps = map_named(one, updates, state.rows, state.columns, state.full)
        scaled, rows, columns, full = (
            jax.tree.map(lambda step, at=at: step[at], steps, is_leaf=lambda part: isinstance(part, _Step))
            for at in range(4)
        )
        return scaled, FactoredState(count, rows, columns, full)

    return optax.GradientTransformation(init, update)


class _Step(NamedTuple):
    update: Any
    rows: Any
    columns: Any
    full: Any


def _scaled(gradient: Any, rows: Any, columns: Any, matrix: Matrix) -> Any:
    return gradient * hax.rsqrt(rows / hax.mean(rows, matrix.In)) * hax.rsqrt(columns)


def _without(axes: Any, gone: Any) -> tuple[Any, ...]:
    names = {axis.name for axis in gone}
    return tuple(axis for axis in axes if axis.name not in names)
