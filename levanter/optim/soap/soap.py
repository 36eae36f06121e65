"""SOAP over named parameters (Vyas et al., 2024, arXiv:2409.11321, algorithm 3).

Of each matrix G [..., in, out] the running means of G·Gᵀ and Gᵀ·G are kept, and orthonormal bases of about their
eigenvectors. Adam's second moment is that of the gradient in these bases; its step is turned back:

    update = Q_in · ( Q_inᵀ·M·Q_out / sqrt(V) ) · Q_outᵀ

The bases are refined every few steps by one step of orthogonal iteration, `QR(G·Gᵀ·Q)`. The first step only finds
them, and moves no matrix. Names say which axes are a matrix's sides; several axes are merged into one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import haliax as hax
from haliax import Axis, NamedArray
from levanter.optim.chain import chained
from levanter.optim.matrix import Matrix, matrices_of
from levanter.optim.optimizer import Decays, Optimizer
from levanter.paths import map_named

if TYPE_CHECKING:
    from levanter.optim.soap.config import SoapConfig


class Side(NamedTuple):
    """What is kept of one side of a matrix."""

    covariance: NamedArray  # [..., side, side across]
    basis: NamedArray  # [..., side, side across]


class SoapState(NamedTuple):
    """Moments and bases; `rows` and `columns` are None where a parameter is no matrix or a side is too long."""

    count: Any  # int32 scalar: steps done
    mu: Any
    nu: Any  # of a matrix: in its bases
    rows: Any
    columns: Any


def soap(config: SoapConfig, num_train_steps: int, decays: Decays) -> Optimizer:
    """The optimizer that `config` describes, for a run of `num_train_steps` steps; `decays` says what decays."""
    return chained(config, num_train_steps, decays, "soap", scale_by_soap(config))


def scale_by_soap(config: SoapConfig) -> optax.GradientTransformation:
    """Gradients to Adam's direction in the eigenbases of each matrix; plain Adam for what is no matrix."""

    def init(params: Any) -> SoapState:
        found = matrices_of(params, config.separate_axes)

        def sides(out: bool) -> Any:
            def side(name: str, leaf: Any) -> Side | None:
                matrix = found.get(name)
                return None if matrix is None else _new_side(flattened(leaf, matrix), matrix, out, config.max_size)

            return map_named(side, params)

        zeros = jax.tree.map(jnp.zeros_like, params)
        count = jnp.zeros((), jnp.int32)
        return SoapState(count, zeros, jax.tree.map(jnp.copy, zeros), sides(False), sides(True))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, SoapState]:
        found = matrices_of(updates, config.separate_axes)
        first = state.count == 0
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: config.beta1 * m + (1.0 - config.beta1) * g, state.mu, updates)

        def one(name: str, gradient: Any, m: Any, v: Any, rows: Side | None, columns: Side | None) -> _Step:
            matrix = found.get(name)
            if matrix is None:
                v = jax.tree.map(lambda v, g: config.beta2 * v + (1.0 - config.beta2) * g * g, v, gradient)
                return _Step(jax.tree.map(lambda m, v: _adam(m, v, count, config), m, v), m, v, None, None)
            g = flattened(gradient, matrix)
            turned = _turned(g, rows, columns)
            flat_v = config.beta2 * flattened(v, matrix) + (1.0 - config.beta2) * turned * turned
            done = jnp.maximum(state.count, 1)
            direction = _adam(_turned(flattened(m, matrix), rows, columns), flat_v, done, config)
            back = restored(_turned_back(direction, rows, columns), gradient, matrix)
            sides = (_remembered(g, side, out, first, config.beta2) for side, out in ((rows, False), (columns, True)))
            # The first gradient is in no basis yet: it counts in the means of its products alone.
            v = hax.where(first, v, restored(flat_v, v, matrix))
            return _Step(hax.where(first, 0.0, back), hax.where(first, 0.0, m), v, *sides)

        steps = map_named(one, updates, mu, state.nu, state.rows, state.columns)
        directions, mu, nu, rows, columns = (
            jax.tree.map(lambda step, at=at: step[at], steps, is_leaf=lambda part: isinstance(part, _Step))
            for at in range(5)
        )
        due = state.count % config.precondition_every == 0
        rows, columns = _renewed((rows, columns), jnp.where(first, 1, jnp.where(due, 2, 0)))
        return directions, SoapState(count, mu, nu, rows, columns)

    return optax.GradientTransformation(init, update)


class _Step(NamedTuple):
    update: Any
    mu: Any
    nu: Any
    rows: Any
    columns: Any


def _adam(m: Any, v: Any, count: Any, config: SoapConfig) -> Any:
    of_m, of_v = (1.0 - beta ** count.astype(jnp.float32) for beta in (config.beta1, config.beta2))
    return (m / of_m) / (hax.sqrt(v / of_v) + config.epsilon)


def flattened(x: NamedArray, matrix: Matrix) -> NamedArray:
    """A weight as [..., In, Out], each of the two sides one axis, last."""
    for axes in (matrix.In, matrix.Out):
        if len(axes) > 1:
            x = x.flatten_axes(axes, _side(axes).name)
    sides = (_side(matrix.In), _side(matrix.Out))
    names = {side.name for side in sides}
    return x.rearrange((*(axis for axis in x.axes if axis.name not in names), *sides))


def restored(x: NamedArray, like: NamedArray, matrix: Matrix) -> NamedArray:
    """What `flattened` made flat, with the axes of `like`."""
    for axes in (matrix.In, matrix.Out):
        if len(axes) > 1:
            x = x.unflatten_axis(_side(axes).name, axes)
    return x.rearrange(like.axes)


def _side(axes: tuple[Axis, ...]) -> Axis:
    size = 1
    for axis in axes:
        size *= axis.size
    return Axis("_".join(axis.name for axis in axes), size)


def _new_side(x: NamedArray, matrix: Matrix, out: bool, max_size: int) -> Side | None:
    side = _side(matrix.Out if out else matrix.In)
    if side.size > max_size:
        return None
    # One name for the other dim of both: each name more is one more that a plan decides on.
    stacked, across = x.axes[:-2], Axis(f"{side.name}_across", side.size)
    identity = hax.named(jnp.eye(side.size, dtype=x.dtype), (side, across))
    return Side(
        hax.zeros((*stacked, side, across), x.dtype),
        identity.broadcast_axis(stacked).rearrange((*stacked, side, across)),
    )


def _turned(x: NamedArray, rows: Side | None, columns: Side | None) -> NamedArray:
    """A matrix in its bases, whose axes have the names of its own."""
    for side in (rows, columns):
        if side is not None:
            own, across = side.basis.axes[-2:]
            x = hax.dot(x, side.basis, axis=own).rename({across.name: own.name})
    return x


def _turned_back(x: NamedArray, rows: Side | None, columns: Side | None) -> NamedArray:
    for side in (rows, columns):
        if side is not None:
            own, across = side.basis.axes[-2:]
            x = hax.dot(x.rename({own.name: across.name}), side.basis, axis=across)
    return x


def _remembered(g: NamedArray, side: Side | None, out: bool, first: Any, beta2: float) -> Side | None:
    """The side with the products of `g` in its covariance."""
    if side is None:
        return None
    *_, own, across = side.covariance.axes
    other = g.axes[-2] if out else g.axes[-1]
    products = hax.dot(g, g.rename({own.name: across.name}), axis=other).rearrange(side.covariance.axes)
    return Side(hax.where(first, products, beta2 * side.covariance + (1.0 - beta2) * products), side.basis)


def _renewed(sides: Any, how: jax.Array) -> Any:
    """The sides with other bases: 0 keeps them, 1 finds them, 2 refines them by one step of orthogonal iteration.

    All of them in one branch: devices that wait for each other in several branches at a time can wait for ever.
    """

    def all_of(basis_of: Any) -> Any:
        def renewed(sides: Any) -> Any:
            return jax.tree.map(lambda side: Side(side.covariance, basis_of(side)), sides, is_leaf=_is_side)

        return renewed

    return jax.lax.switch(how, [lambda sides: sides, all_of(_found), all_of(_refined)], sides)


def _found(side: Side) -> NamedArray:
    # Largest first, as orthogonal iteration orders them.
    return hax.named(jnp.linalg.eigh(side.covariance.array)[1][..., ::-1], side.basis.axes)


def _refined(side: Side) -> NamedArray:
    *_, own, across = side.covariance.axes
    summed = f"{own.name}_summed"
    product = hax.dot(side.covariance.rename({across.name: summed}), side.basis.rename({own.name: summed}), axis=summed)
    return hax.named(jnp.linalg.qr(product.array)[0], side.basis.axes)


def _is_side(part: Any) -> bool:
    return isinstance(part, Side)
