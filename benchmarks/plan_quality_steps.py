"""Steps that `plan_quality.py` plans besides those of configurations: GPT-3's sizes, a ViT and a U-Net."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import haliax as hax
import haliax.nn as hnn
import ir
from haliax import Axis, NamedArray
from ir.graph import Graph
from levanter.models.vit.config import VitConfig
from passes.pipeline import prepare

ADAM = optax.adamw(1e-4)
GPT = {
    "gpt3_1b": ["--model.hidden_dim=2048", "--model.num_heads=16", "--model.num_layers=24", "--model.seq_len=2048"],
    "gpt3_7b": ["--model.hidden_dim=4096", "--model.num_heads=32", "--model.num_layers=32", "--model.seq_len=2048"],
}
"""Brown et al. (2020), table 2.1: 1.3 and 6.7 billion parameters."""
VIT = VitConfig(hidden_dim=1280, intermediate_dim=5120, num_layers=32, num_heads=16, gradient_checkpointing=True)
"""ViT-H/16 (Dosovitskiy et al. 2021)."""
LEVELS = (256, 512, 1024, 2048)
"""Channels of each level of the U-Net, an axis of its own."""
Height, Width, Colors, Time = Axis("height", 64), Axis("width", 64), Axis("colors", 4), Axis("time", 256)
SPATIAL = (Height, Width)


class UNet(eqx.Module):
    """A convolution to each level and one within it, down and up again, the levels' inputs added on the way up; the
    time is added at the bottom."""

    first: hnn.Conv
    down: list[hnn.Conv]
    within: list[hnn.Conv]
    time: hnn.Linear
    up: list[hnn.ConvTranspose]
    last: hnn.Conv

    @staticmethod
    def init(key: jax.Array, channels: Sequence[int] = LEVELS) -> UNet:
        levels = [Axis(f"level{i}", size) for i, size in enumerate(channels)]
        keys = iter(jax.random.split(key, 3 * len(levels) + 2))
        return UNet(
            hnn.Conv.init(SPATIAL, Colors, levels[0], 3, padding=1, key=next(keys)),
            [hnn.Conv.init(SPATIAL, a, b, 3, stride=2, padding=1, key=next(keys)) for a, b in _pairs(levels)],
            [hnn.Conv.init(SPATIAL, a, a.alias(f"{a.name}_made"), 3, padding=1, key=next(keys)) for a in levels],
            hnn.Linear.init(Time, levels[-1], key=next(keys)),
            [
                hnn.ConvTranspose.init(SPATIAL, b, a, 3, stride=2, padding=1, output_padding=1, key=next(keys))
                for a, b in _pairs(levels)
            ],
            hnn.Conv.init(SPATIAL, levels[0], Colors, 3, padding=1, key=next(keys)),
        )

    def __call__(self, image: NamedArray, time: NamedArray) -> NamedArray:
        hidden = self._within(0, self.first(image))
        kept = [hidden]
        for i, down in enumerate(self.down):
            hidden = self._within(i + 1, down(hidden))
            kept.append(hidden)
        hidden = hidden + self.time(time)
        for i in reversed(range(len(self.up))):
            hidden = hnn.silu(self.up[i](hidden)) + kept[i]
        return self.last(hidden)

    def _within(self, level: int, hidden: NamedArray) -> NamedArray:
        name = f"level{level}"
        return hidden + hnn.silu(self.within[level](hidden)).rename({f"{name}_made": name})


def _pairs(levels: list[Axis]) -> list[tuple[Axis, Axis]]:
    return list(zip(levels, levels[1:], strict=False))


def _step(state: Any, batch: Any) -> tuple[Any, jax.Array]:
    model, moments = state
    value, grads = jax.value_and_grad(lambda model: _loss(model, batch))(model)
    updates, moments = ADAM.update(grads, moments, model)
    return (optax.apply_updates(model, updates), moments), value


def _loss(model: Any, batch: Any) -> jax.Array:
    if "labels" in batch:
        return model.loss(batch["images"], batch["labels"])
    return hax.mean(hax.square(model(batch["images"], batch["time"]) - batch["images"])).scalar()


def unet_small(state: Any, batch: Any) -> tuple[Any, jax.Array]:
    """The same with an eighth of the channels, which compiles in seconds."""
    return _step(state, batch)


def unet_small_arguments() -> tuple[Any, Any]:
    return jax.eval_shape(partial(_start, "unet", 32, [size // 8 for size in LEVELS]))


def _start(model: str, examples: int, channels: Sequence[int] = LEVELS) -> tuple[Any, Any]:
    batch, key = Axis("batch", examples), jax.random.key(0)
    if model == "vit_h":
        made: Any = VIT.build(key=key)
        given = {"images": hax.zeros((batch, *VIT.Image)), "labels": hax.zeros(batch, dtype=jnp.int32)}
    else:
        made = UNet.init(key, channels)
        given = {"images": hax.zeros((batch, Colors, *SPATIAL)), "time": hax.zeros((batch, Time))}
    return (made, ADAM.init(made)), given


def step_graph(model: str, examples: int) -> Graph:
    """The canonical graph of a step of `vit_h` or `unet` on so many images."""
    return prepare(ir.trace(_step, *jax.eval_shape(partial(_start, model, examples))))
