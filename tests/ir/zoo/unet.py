"""A U-Net that predicts the noise in an image: convolutions down and up, a skip by concatenation, the time as input."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from zoo.training import Step, floats, training_step

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray

Batch, Colors, Height, Width = Axis("batch", 4), Axis("colors", 3), Axis("height", 12), Axis("width", 20)
Wide, Deep, Time = Axis("wide", 10), Axis("deep", 22), Axis("time", 14)
Joined = Axis("joined", 2 * Wide.size)
SPATIAL = (Height, Width)


def time_features(time: NamedArray) -> NamedArray:
    """Sines and cosines of the time [batch] at seven frequencies: [batch, time]."""
    Half = Time.resize(Time.size // 2)
    angle = time.broadcast_axis(Half) * hax.exp(-hax.arange(Half).astype(jnp.float32))
    return hax.concatenate(Time, [hax.sin(angle), hax.cos(angle)])


class UNet(eqx.Module):
    """One level down and up again."""

    first: hnn.Conv
    down: hnn.Conv
    time: hnn.Linear
    norm: hnn.LayerNorm
    up: hnn.ConvTranspose
    last: hnn.Conv

    @staticmethod
    def init(key: jax.Array) -> UNet:
        keys = jax.random.split(key, 5)
        return UNet(
            hnn.Conv.init(SPATIAL, Colors, Wide, 3, padding=1, key=keys[0]),
            hnn.Conv.init(SPATIAL, Wide, Deep, 3, stride=2, padding=1, key=keys[1]),
            hnn.Linear.init(Time, Deep, key=keys[2]),
            hnn.LayerNorm.init(Deep),
            hnn.ConvTranspose.init(SPATIAL, Deep, Wide, 3, stride=2, padding=1, output_padding=1, key=keys[3]),
            hnn.Conv.init(SPATIAL, Joined, Colors, 3, padding="SAME", key=keys[4]),
        )

    def __call__(self, image: NamedArray, time: NamedArray) -> NamedArray:
        wide = hnn.silu(self.first(image))
        deep = hnn.silu(self.norm(self.down(wide) + self.time(time_features(time))))
        skipped = [each.rename({"wide": "joined"}) for each in (hnn.silu(self.up(deep)), wide)]
        return self.last(hax.concatenate(Joined, skipped))

    def loss(self, batch: dict[str, NamedArray]) -> jax.Array:
        noise, time = batch["noise"], batch["time"]
        noisy = batch["images"] * hax.cos(time) + noise * hax.sin(time)
        return hax.mean(hax.square(self(noisy, time) - noise)).scalar()


def build() -> Step:
    images = floats(Batch, Colors, Height, Width)
    batch = {"images": images, "noise": images, "time": floats(Batch)}
    return training_step(UNet.init, UNet.loss, optax.adamw(1e-3), batch)
