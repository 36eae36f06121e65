"""Muon over named parameters (Jordan et al., 2024): the momentum of a matrix, made orthogonal by Newton and Schulz.

    X ← a·X + (b·A + c·A²)·X  with  A = X·Xᵀ

in which `X·Xᵀ` sums over the longer side. Names say which axes are a matrix's rows and columns, so the products need
no transposes and no merged dims, and whatever other axes a weight has (layers, experts) pass through.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import haliax as hax
from haliax import Axis, NamedArray
from levanter.optim.chain import chained
from levanter.optim.matrix import Matrix, matrices_of
from levanter.optim.moments import kept_as
from levanter.optim.optimizer import Decays, Optimizer
from levanter.paths import map_named

if TYPE_CHECKING:
    from levanter.optim.muon.config import MuonConfig

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""a, b and c: steepest at 0, so that small singular values grow fastest (Jordan et al., 2024)."""
ADAM_SIZE = 0.2
"""The root mean square of an update of AdamW, about; what updates are scaled to (Liu et al., 2025, section 2.2)."""


class OrthogonalState(NamedTuple):
    """The momentum of matrices; None in the place of every other parameter."""

    momentum: Any


def muon(config: MuonConfig, num_train_steps: int, decays: Decays) -> Optimizer:
    """The optimizer that `config` describes, for a run of `num_train_steps` steps; `decays` says what decays."""
    separate = config.separate_axes

    def matrices(tree: Any, wanted: bool) -> Any:
        found = matrices_of(tree, separate)
        return map_named(lambda name, leaf: leaf if (name in found) == wanted else None, tree)

    orthogonal = scale_by_orthogonal(config)
    adam = optax.scale_by_adam(config.beta1, config.beta2, config.epsilon)

    def init(params: Any) -> dict[str, Any]:
        return {"muon": orthogonal.init(matrices(params, True)), "adam": adam.init(matrices(params, False))}

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, dict[str, Any]]:
        ours, momentum = orthogonal.update(matrices(updates, True), state["muon"])
        theirs, moments = adam.update(matrices(updates, False), state["adam"])
        both = map_named(lambda name, leaf, one, other: other if one is None else one, updates, ours, theirs)
        return both, {"muon": momentum, "adam": moments}

    direction = kept_as(config.moments_dtype, optax.GradientTransformation(init, update))
    return chained(config, num_train_steps, decays, "muon", direction)


def scale_by_orthogonal(config: MuonConfig) -> optax.GradientTransformation:
    """Gradients of matrices to their orthogonal momentum, of AdamW's size; the tree must hold nothing else."""

    def init(params: Any) -> OrthogonalState:
        return OrthogonalState(jax.tree.map(jnp.zeros_like, params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, OrthogonalState]:
        found = matrices_of(updates, config.separate_axes)
        momentum = jax.tree.map(lambda m, g: config.momentum * m + (1.0 - config.momentum) * g, state.momentum, updates)
        ahead = momentum
        if config.nesterov:
            ahead = jax.tree.map(lambda m, g: config.momentum * m + (1.0 - config.momentum) * g, momentum, updates)

        def one(name: str, m: NamedArray) -> NamedArray:
            matrix = found[name]
            size = ADAM_SIZE * math.sqrt(max(matrix.rows, matrix.columns))
            return size * orthogonal(m, matrix, config.newton_schulz_steps, config.epsilon)

        return map_named(one, ahead), OrthogonalState(momentum)

    return optax.GradientTransformation(init, update)


def orthogonal(x: NamedArray, matrix: Matrix, steps: int = 5, epsilon: float = 1e-8) -> NamedArray:
    """The nearest orthogonal matrix to `x` [..., In, Out], about: singular values end between 0.7 and 1.2."""
    a, b, c = COEFFICIENTS
    short, long = (matrix.In, matrix.Out) if matrix.rows <= matrix.columns else (matrix.Out, matrix.In)
    across = {axis.name: f"{axis.name}_across" for axis in short}
    Across = tuple(Axis(across[axis.name], axis.size) for axis in short)
    again = {f"{axis.name}_across": f"{axis.name}_again" for axis in short}
    dtype, axes = x.dtype, x.axes
    x = x.astype(jnp.float32)
    x = x / (hax.sqrt(hax.sum(x * x, (*short, *long))) + epsilon)
    for _ in range(steps):
        gram = hax.dot(x, x.rename(across), axis=long)  # [..., short, short across]
        squared = hax.dot(gram, gram.rename({**again, **across}), axis=Across).rename(
            {old: new for old, new in zip(again.values(), across.values(), strict=True)}
        )
        polynomial = b * gram + c * squared
        x = a * x + hax.dot(polynomial, x.rename(across), axis=Across)
    return x.rearrange(axes).astype(dtype)
