"""Training steps of convolutions, norms and a mixer, drawn at random, in flax linen and equinox."""

from __future__ import annotations

import random
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from corpus.case import Floats, Ids, Step, cross_entropy, training_with_extra
from corpus.equinox_steps import module_step

CLASSES = 10
LINEN_NORMS: dict[str, Any] = {
    "batch": lambda name: nn.BatchNorm(use_running_average=False, name=name),
    "group": lambda name: nn.GroupNorm(num_groups=4, name=name),
    "instance": lambda name: nn.InstanceNorm(name=name),
    "layer": lambda name: nn.LayerNorm(name=name),
}
OPTIMIZERS: tuple[Any, ...] = (
    lambda: optax.adam(1e-3),
    lambda: optax.adamw(1e-3),
    lambda: optax.sgd(0.1, momentum=0.9),
    lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3)),
)


def drawn_step(seed: int) -> Step:
    """A step of one of the two libraries, its sizes, norms and activations drawn by the seed."""
    draw = random.Random(seed)
    return (_linen if draw.random() < 0.6 else _equinox)(draw)


def _batch(draw: random.Random, *image: int) -> dict[str, Any]:
    batch = draw.choice([4, 8])
    return {"image": Floats((batch, *image)), "labels": Ids(CLASSES, (batch,))}


def _linen(draw: random.Random) -> Step:
    filters, height, width = draw.choice([8, 16]), draw.choice([8, 12, 16]), draw.choice([8, 12])
    activation = draw.choice([nn.gelu, nn.relu, nn.swish, nn.tanh])
    first, second = draw.choice(list(LINEN_NORMS)), draw.choice(list(LINEN_NORMS))
    kernel, stride, groups = draw.choice([3, 5]), draw.choice([1, 2]), draw.choice([1, filters])
    pool = draw.choice([nn.avg_pool, nn.max_pool, None])

    class Net(nn.Module):
        @nn.compact
        def __call__(self, image: jax.Array) -> jax.Array:
            x = activation(LINEN_NORMS[first]("norm1")(nn.Conv(filters, (kernel, kernel), name="stem")(image)))
            x = nn.Conv(filters, (3, 3), strides=(stride, stride), feature_group_count=groups, name="down")(x)
            x = LINEN_NORMS[second]("norm2")(x)
            x = pool(x, (2, 2), strides=(2, 2)) if pool else x
            x = x.reshape(x.shape[0], -1, filters)
            y = jnp.swapaxes(nn.LayerNorm(name="norm3")(x), 1, 2)
            y = nn.Dense(x.shape[1], name="across2")(activation(nn.Dense(24, name="across1")(y)))
            x = x + jnp.swapaxes(y, 1, 2)
            y = activation(nn.Dense(32, name="up")(nn.LayerNorm(name="norm4")(x)))
            x = x + nn.Dense(filters, name="down2")(y)
            return nn.Dense(CLASSES, name="head")(nn.LayerNorm(name="norm5")(x).mean(1))

    net = Net()

    def loss(params: Any, extra: Any, batch: Any) -> Any:
        logits, changed = net.apply({"params": params, **extra}, batch["image"], mutable=["batch_stats"])
        return cross_entropy(logits, batch["labels"]), dict(changed)

    def init(key: jax.Array, batch: Any) -> Any:
        variables = dict(net.init(key, batch["image"]))
        params = variables.pop("params")
        return params, variables

    names = {"batch.image": "batch height width color", "batch.labels": "batch"}
    return training_with_extra(init, loss, _batch(draw, height, width, 3), names, draw.choice(OPTIMIZERS)())


def _equinox(draw: random.Random) -> Step:
    filters, height, groups = draw.choice([8, 16]), draw.choice([8, 12]), draw.choice([1, 4])
    activation, kernel = draw.choice([jax.nn.gelu, jax.nn.relu, jax.nn.silu]), draw.choice([3, 5])
    places = (height // 2) ** 2

    class Net(eqx.Module):
        stem: eqx.nn.Conv2d
        norm1: eqx.nn.GroupNorm
        down: eqx.nn.Conv2d
        norm2: eqx.nn.LayerNorm
        across: eqx.nn.MLP
        norm3: eqx.nn.LayerNorm
        mlp: eqx.nn.MLP
        head: eqx.nn.Linear

        def __init__(self, key: jax.Array):
            keys = jax.random.split(key, 5)
            self.stem = eqx.nn.Conv2d(3, filters, kernel, padding="SAME", key=keys[0])
            self.norm1 = eqx.nn.GroupNorm(groups, filters)
            self.down = eqx.nn.Conv2d(filters, filters, 2, stride=2, key=keys[1])
            self.norm2 = eqx.nn.LayerNorm(places)
            self.across = eqx.nn.MLP(places, places, 24, 1, activation, key=keys[2])
            self.norm3 = eqx.nn.LayerNorm(filters)
            self.mlp = eqx.nn.MLP(filters, filters, 32, 1, activation, key=keys[3])
            self.head = eqx.nn.Linear(filters, CLASSES, key=keys[4])

        def __call__(self, image: jax.Array) -> jax.Array:
            x = self.down(activation(self.norm1(self.stem(image)))).reshape(filters, -1)
            x = (x + jax.vmap(self.across)(jax.vmap(self.norm2)(x))).T
            x = x + jax.vmap(self.mlp)(jax.vmap(self.norm3)(x))
            return self.head(x.mean(0))

    def loss_of(model: Any, batch: Any) -> jax.Array:
        return cross_entropy(jax.vmap(model)(batch["image"]), batch["labels"])

    names = {"batch.image": "batch color height width", "batch.labels": "batch"}
    return module_step(lambda key: Net(key), loss_of, _batch(draw, 3, height, height), names)
