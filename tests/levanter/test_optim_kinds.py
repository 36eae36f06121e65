"""Each optimizer does what its paper (or optax) says, on named parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import haliax as hax
import haliax.nn as hnn
from haliax import Axis
from levanter.models.decay import matrices
from levanter.optim.adafactor.config import AdafactorConfig
from levanter.optim.lion.config import LionConfig
from levanter.optim.matrix import Matrix, matrices_of
from levanter.optim.muon.config import MuonConfig
from levanter.optim.muon.muon import ADAM_SIZE, orthogonal
from levanter.optim.schedule_free.config import ScheduleFreeConfig
from levanter.optim.soap.config import SoapConfig
from levanter.optim.sophia.config import SophiaConfig
from levanter.optim.sophia.sophia import hessian_diagonal
from levanter.paths import flat_names

pytestmark = pytest.mark.hurried

Layers, Embed, Heads, HeadSize = Axis("layers", 2), Axis("embed", 6), Axis("heads", 2), Axis("head_size", 4)
Thirds = (Axis("third", 3), Axis("half", 2))
Experts, Qkv = Axis("experts", 3), Axis("qkv", 3)


def parameters(seed: int = 0) -> dict[str, Any]:
    keys = jax.random.split(jax.random.key(seed), 5)

    def linear(axes: tuple[Axis, ...], In: Any, Out: Any, key: jax.Array) -> hnn.Linear:
        return hnn.Linear(hax.random.normal(key, axes), None, In, Out)

    return {
        "up": linear((Layers, Embed, Heads, HeadSize), Embed, (Heads, HeadSize), keys[0]),
        "expert": hnn.MoELinear(hax.random.normal(keys[1], (Experts, Embed, HeadSize)), None, Experts, Embed, HeadSize),
        "square": linear((Layers, *Thirds, Embed), Embed, Thirds, keys[4]),
        "bias": hax.random.normal(keys[2], (Layers, Embed)),
        "raw": jax.random.normal(keys[3], (5,)),
    }


def train(config: Any, steps: int = 4, **extra: Any) -> tuple[dict[str, Any], Any, Any]:
    """Parameters, state and optimizer after some steps on gradients that are random."""
    optimizer = config.build(steps, matrices)
    tree = parameters()
    state = optimizer.transform.init(tree)
    step = jax.jit(lambda g, s, p: optax.with_extra_args_support(optimizer.transform).update(g, s, p, **extra))
    for at in range(steps):
        updates, state = step(parameters(at + 1), state, tree)
        tree = optax.apply_updates(tree, updates)
    return tree, state, optimizer


def train_optax(transform: Any, name: str, shape: tuple[int, ...], steps: int = 4, **extra: Any) -> np.ndarray:
    """One array of the same tree, as [-1 or layers..., rows, columns], after the same steps of optax."""
    array = flat_names(parameters())[name].reshape(shape)
    state = transform.init(array)
    for at in range(steps):
        updates, state = transform.update(flat_names(parameters(at + 1))[name].reshape(shape), state, array, **extra)
        array = optax.apply_updates(array, updates)
    return np.asarray(array)


def close(left: Any, right: Any, tolerance: float = 1e-5) -> None:
    left = np.asarray(left)
    np.testing.assert_allclose(left, np.asarray(right).reshape(left.shape), rtol=tolerance, atol=tolerance)


PLAIN: dict[str, Any] = {"learning_rate": 0.01, "warmup": 0.0, "lr_schedule": "constant", "max_grad_norm": None}


def test_a_matrix_is_told_from_names() -> None:
    found = matrices_of(parameters())
    assert found == {
        "up.weight": Matrix((Embed,), (Heads, HeadSize)),
        "expert.weight": Matrix((Embed,), (HeadSize,)),
        "square.weight": Matrix((Embed,), Thirds),
    }
    qkv = hnn.Linear(hax.zeros((Embed, Qkv, Heads)), None, Embed, (Qkv, Heads))
    assert matrices_of(qkv, ["qkv"]) == {"weight": Matrix((Embed,), (Heads,))}
    assert matrices_of(qkv) == {"weight": Matrix((Embed,), (Qkv, Heads))}


def test_lion_is_that_of_optax() -> None:
    tree, _, _ = train(LionConfig(weight_decay=0.3, **PLAIN))
    for name, decay in {"up.weight": 0.3, "expert.weight": 0.3, "bias": 0.0, "raw": 0.0}.items():
        theirs = optax.lion(0.01, 0.9, 0.99, weight_decay=decay)
        close(flat_names(tree)[name], train_optax(theirs, name, (-1,)))


def test_adafactor_is_that_of_optax_on_each_matrix() -> None:
    tree, state, _ = train(AdafactorConfig(weight_decay=0.1, **PLAIN))
    theirs = optax.adafactor(0.01, min_dim_size_to_factor=1, weight_decay_rate=None)
    # optax applies its decay without the rate; here it has it, as in every other optimizer.
    theirs = optax.chain(theirs, optax.scale(-100.0), optax.add_decayed_weights(0.1), optax.scale(-0.01))
    for layer in range(2):
        array = flat_names(parameters())["up.weight"][layer].reshape(6, 8)
        found = theirs.init(array)
        for at in range(4):
            gradient = flat_names(parameters(at + 1))["up.weight"][layer].reshape(6, 8)
            updates, found = theirs.update(gradient, found, array)
            array = optax.apply_updates(array, updates)
        close(flat_names(tree)["up.weight"][layer], array)
    kept = flat_names(state["adafactor"])
    assert kept["factored.rows.up.weight"].shape == (2, 6) and kept["factored.columns.up.weight"].shape == (2, 2, 4)
    assert kept["factored.rows.expert.weight"].shape == (3, 6)
    assert "factored.full.up.weight" not in kept and kept["factored.full.bias"].shape == (2, 6)


def test_muon_is_that_of_optax_on_each_matrix() -> None:
    tree, state, _ = train(MuonConfig(weight_decay=0.1, nesterov=False, **PLAIN))
    size = ADAM_SIZE * 8**0.5
    theirs = optax.chain(
        contrib.scale_by_muon(nesterov=False, weight_dimension_numbers=contrib.MuonDimensionNumbers((1,), (2,))),
        optax.scale(size),
        optax.add_decayed_weights(0.1),
        optax.scale(-0.01),
    )
    close(flat_names(tree)["up.weight"], train_optax(theirs, "up.weight", (2, 6, 8)), 1e-4)
    adam = optax.adamw(0.01, 0.9, 0.95, 1e-8, weight_decay=0.0)
    for name in ("bias", "raw"):
        close(flat_names(tree)[name], train_optax(adam, name, (-1,)))
    assert sorted(name for name in flat_names(state) if "count" not in name) == [
        "muon.adam.mu.bias", "muon.adam.mu.raw", "muon.adam.nu.bias", "muon.adam.nu.raw",
        "muon.muon.momentum.expert.weight", "muon.muon.momentum.square.weight", "muon.muon.momentum.up.weight",
    ]  # fmt: skip


def test_muon_looks_ahead_by_a_momentum() -> None:
    tree, state, _ = train(MuonConfig(weight_decay=0.0, **PLAIN), steps=2)
    before, _, _ = train(MuonConfig(weight_decay=0.0, **PLAIN), steps=1)
    name, matrix = "up.weight", Matrix((Embed,), (Heads, HeadSize))
    first, second = (parameters(at)["up"].weight for at in (1, 2))
    momentum = 0.95 * 0.05 * first + 0.05 * second
    close(state["muon"]["muon"].momentum["up"].weight.array, momentum.array)
    direction = orthogonal(0.95 * momentum + 0.05 * second, matrix)
    moved = before["up"].weight - 0.01 * ADAM_SIZE * 8**0.5 * direction
    close(flat_names(tree)[name], moved.array)


def test_a_momentum_of_one_direction_becomes_orthogonal() -> None:
    x = hax.random.normal(jax.random.key(0), (Experts, HeadSize, Embed))
    values = np.linalg.svd(np.asarray(orthogonal(x, Matrix((Embed,), (HeadSize,)), 10).array), compute_uv=False)
    assert values.shape == (3, 4) and (values > 0.6).all() and (values < 1.3).all()


def quadratic(tree: Any) -> jax.Array:
    """Half of the sum of scale · x², whose Hessian's diagonal is the scale."""
    leaves = jax.tree.leaves(tree)
    scales = [1.0 + at for at in range(len(leaves))]
    return sum((0.5 * scale * jnp.sum(leaf**2) for scale, leaf in zip(scales, leaves, strict=True)), jnp.zeros(()))


@pytest.mark.slow
def test_the_estimate_of_the_hessian_is_that_of_a_quadratic() -> None:
    found = [jax.tree.leaves(hessian_diagonal(quadratic, parameters(), jax.random.key(seed))) for seed in range(400)]
    for at, leaves in enumerate(zip(*found, strict=True)):
        assert np.mean([np.mean(leaf) for leaf in leaves]) == pytest.approx(1.0 + at, rel=0.1)


def test_sophia_is_that_of_optax_with_the_same_estimates() -> None:
    config = SophiaConfig(weight_decay=0.0, hessian_every=2, gamma=0.05, epsilon=1e-8, **PLAIN)
    optimizer = config.build(5, matrices)
    ours = optax.with_extra_args_support(optimizer.transform)

    def estimate_init(tree: Any) -> optax.EmptyState:
        return optax.EmptyState()

    def estimate(updates: Any, state: Any, params: Any, *, loss: Any, key: Any, **_: Any) -> Any:
        return hessian_diagonal(loss, params, key), state

    theirs = contrib.sophia(
        0.01, 0.96, 0.99, 1e-8, weight_decay=0.0, gamma=0.05, update_interval=2,
        hessian_diagonal_fn=optax.GradientTransformationExtraArgs(estimate_init, estimate),
    )  # fmt: skip
    tree = other = {"weight": hax.random.normal(jax.random.key(0), (Embed, Heads))}
    state, found = ours.init(tree), theirs.init(other)
    for at in range(5):
        key = jax.random.key(at)
        updates, state = ours.update(jax.grad(quadratic)(tree), state, tree, loss=quadratic, key=key)
        tree = optax.apply_updates(tree, updates)
        updates, found = theirs.update(jax.grad(quadratic)(other), found, other, loss=quadratic, key=key)
        other = optax.apply_updates(other, updates)
    hessian = np.asarray(state["sophia"].hessian["weight"].array)
    assert hessian.any()
    close(tree["weight"].array, other["weight"].array, 1e-6)
    close(hessian, jax.tree.leaves(found[0].nu)[0])


def test_schedule_free_is_that_of_optax_and_evaluates_its_mean() -> None:
    config = ScheduleFreeConfig(weight_decay=0.1, **PLAIN)
    tree, state, optimizer = train(config)
    theirs = contrib.schedule_free(
        optax.adamw(0.01, 0.0, 0.95, 1e-8, weight_decay=0.1), 0.01, b1=0.9
    )  # fmt: skip
    close(flat_names(tree)["up.weight"], train_optax(theirs, "up.weight", (-1,)))
    mean = optimizer.eval_params(state, tree)
    # y = (1 - beta1) z + beta1 x
    z = flat_names(state["schedule_free"].z)
    for name, y in flat_names(tree).items():
        close(y, 0.1 * z[name] + 0.9 * flat_names(mean)[name])


def test_soap_is_adam_in_the_eigenbasis() -> None:
    """Against the paper's algorithm in plain arrays, on one matrix."""
    config = SoapConfig(weight_decay=0.0, precondition_every=2, **PLAIN)
    tree, state, _ = train(config)
    for layer in range(2):
        # Square, so that no eigenvalue is 0 and no part of a basis is arbitrary.
        gradients = [
            np.asarray(flat_names(parameters(at + 1))["square.weight"][layer], float).reshape(6, 6).T for at in range(4)
        ]
        w = np.asarray(flat_names(parameters())["square.weight"][layer]).reshape(6, 6).T
        m, v, beta = np.zeros((6, 6)), np.zeros((6, 6)), 0.95
        for at, g in enumerate(gradients):
            if at == 0:
                left, right = g @ g.T, g.T @ g
                q_left, q_right = (np.linalg.eigh(each)[1][:, ::-1] for each in (left, right))
                continue
            m = beta * m + (1 - beta) * g
            turned = q_left.T @ g @ q_right
            v = beta * v + (1 - beta) * turned**2
            direction = (q_left.T @ m @ q_right / (1 - beta**at)) / (np.sqrt(v / (1 - beta**at)) + 1e-8)
            w = w - 0.01 * q_left @ direction @ q_right.T
            left, right = beta * left + (1 - beta) * g @ g.T, beta * right + (1 - beta) * g.T @ g
            if at % 2 == 0:
                q_left, q_right = np.linalg.qr(left @ q_left)[0], np.linalg.qr(right @ q_right)[0]
        close(flat_names(tree)["square.weight"][layer], w.T, 2e-3)
    basis = state["soap"].rows["up"].weight.basis
    assert [axis.name for axis in basis.axes] == ["layers", "embed", "embed_across"]
    adam = optax.adamw(0.01, 0.95, 0.95, 1e-8, weight_decay=0.0)
    close(flat_names(tree)["bias"], train_optax(adam, "bias", (-1,)))


def test_a_long_side_keeps_its_basis() -> None:
    _, state, _ = train(SoapConfig(max_size=6, **PLAIN), steps=2)
    assert state["soap"].columns["up"].weight is None and state["soap"].rows["up"].weight is not None
