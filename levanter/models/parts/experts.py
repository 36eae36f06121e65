"""A mixture of experts: each token goes through a few of many gated MLPs, which a router chooses.

There are two ways to bring tokens to their experts. *Grouped*: all tokens of the batch are sorted by their expert, and
one grouped product multiplies each by the weights of its own (Gale et al., "MegaBlocks", arXiv:2211.15841); no token is
ever dropped, and every device that has a part of the batch works with all experts. *Slots*: each expert has a number of
slots for each row of the batch, and takes the first tokens that chose it (Lepikhin et al., "GShard", arXiv:2006.16668);
all arrays then have the axis `experts`, so a plan can shard it over a mesh axis, and each device works with its experts
alone. A token that finds no slot goes without that expert.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray
from levanter.models.parts import initial
from levanter.runtime import rng


@dataclass(frozen=True)
class ExpertsShape:
    """How large a mixture is, and how tokens are brought to their experts.

    Attributes:
        top: experts that a token goes through.
        capacity_factor: slots of an expert, relative to what it needs if all experts are chosen equally often; None for
            the grouped way.
    """

    Experts: Axis
    Embed: Axis
    Mlp: Axis
    top: int
    capacity_factor: float | None = None


class Experts(eqx.Module):
    """A router and its experts, each `down(activation(gate(x)) * up(x))`."""

    router: hnn.Linear  # [embed] → [experts]
    gate: hnn.MoELinear  # [experts, embed, mlp]
    up: hnn.MoELinear  # [experts, embed, mlp]
    down: hnn.MoELinear  # [experts, mlp, embed]
    shape: ExpertsShape = eqx.field(static=True)
    activation: Callable[[NamedArray], NamedArray] = eqx.field(static=True)

    @staticmethod
    def init(
        shape: ExpertsShape,
        *,
        scale: float,
        out_scale: float,
        activation: Callable[[NamedArray], NamedArray] = hnn.silu,
        key: jax.Array,
    ) -> Experts:
        def layer(In: Axis, Out: Axis, scale: float, name: str) -> hnn.MoELinear:
            weight = initial.normal((shape.Experts, In, Out), scale, rng.named(key, name))
            return hnn.MoELinear(weight, None, shape.Experts, In, Out)

        Embed, Mlp = shape.Embed, shape.Mlp
        return Experts(
            router=initial.linear(Embed, shape.Experts, scale, rng.named(key, "router"), use_bias=False),
            gate=layer(Embed, Mlp, scale, "gate"),
            up=layer(Embed, Mlp, scale, "up"),
            down=layer(Mlp, Embed, out_scale, "down"),
            shape=shape,
            activation=activation,
        )

    def __call__(self, x: NamedArray) -> tuple[NamedArray, dict[str, NamedArray]]:
        """x [..., position, embed] → the same axes, and the losses of the router by name: see `router_losses`."""
        logits = self.router(x).astype(jnp.float32)
        probabilities = hnn.softmax(logits, axis=self.shape.Experts)
        weights, chosen = hax.top_k(probabilities, self.shape.Experts, self.shape.top, Axis("choice", self.shape.top))
        weights = weights / hax.sum(weights, axis="choice")
        losses = router_losses(logits, probabilities, chosen, self.shape.Experts)
        if self.shape.capacity_factor is None:
            return self._grouped(x, weights, chosen), losses
        return self._in_slots(x, weights, chosen, self.shape.capacity_factor), losses

    def _grouped(self, x: NamedArray, weights: NamedArray, chosen: NamedArray) -> NamedArray:
        """Every token through its experts, by grouped products; weights and chosen [..., position, choice]."""
        Embed, Experts = self.shape.Embed, self.shape.Experts
        rows = chosen.axes
        expert_of = chosen.flatten_axes(rows, "token")
        order = hax.argsort(expert_of, "token")
        sources = x.broadcast_axis(Axis("choice", self.shape.top)).rearrange((*rows, Embed))
        sorted_tokens = sources.flatten_axes(rows, "token").take("token", order, mode="promise_in_bounds")
        sizes = hax.sum(hnn.one_hot(expert_of, Experts, dtype=jnp.int32), axis="token")
        hidden = self.activation(self.gate(sorted_tokens, sizes)) * self.up(sorted_tokens, sizes)
        outputs = self.down(hidden, sizes)
        back = outputs.take("token", hax.argsort(order, "token"), mode="promise_in_bounds")
        own = back.unflatten_axis("token", rows)
        return hax.sum(own * weights.astype(x.dtype), axis="choice").rearrange(x.axes)

    def _in_slots(self, x: NamedArray, weights: NamedArray, chosen: NamedArray, factor: float) -> NamedArray:
        """The tokens that find a slot through their experts; weights and chosen [..., position, choice]."""
        Embed, Experts = self.shape.Embed, self.shape.Experts
        Pos = x.resolve_axis("position")
        slots = math.ceil(self.shape.top * Pos.size / Experts.size * factor)
        Slot = Axis("slot", min(Pos.size, max(1, slots)))
        is_chosen = hnn.one_hot(chosen, Experts, dtype=jnp.float32)
        share = hax.sum(is_chosen * weights, axis="choice")
        wanted = hax.sum(is_chosen, axis="choice") > 0
        # Places that chose an expert come first, in order; then the others, which have no share in it.
        place = hax.arange(Pos)
        first = hax.argsort(hax.where(wanted, place, place + Pos.size), Pos)
        first = first["position", 0 : Slot.size].rename({"position": "slot"})
        tokens = x.take(Pos, first, mode="promise_in_bounds")
        hidden = self.activation(_product(tokens, self.gate)) * _product(tokens, self.up)
        outputs = _product(hidden, self.down) * share.take(Pos, first, mode="promise_in_bounds").astype(x.dtype)
        return hax.zeros_like(x).at[{"position": first}].add(outputs.rearrange((*first.axes, Embed)))


def _product(x: NamedArray, layer: hnn.MoELinear) -> NamedArray:
    """Each expert's tokens times its own weight."""
    return hax.dot(x, layer.weight, axis=layer.In)


def router_losses(
    logits: NamedArray, probabilities: NamedArray, chosen: NamedArray, Experts: Axis
) -> dict[str, NamedArray]:
    """What keeps a router from going astray, each a number.

    `load_balance` (Fedus et al., "Switch Transformers", arXiv:2101.03961, equation 4): the number of experts times the
    sum over experts of the share of choices that fell on it times its mean probability; 1 where all are chosen equally
    often (times the experts a token goes through). `router_z` (Zoph et al., "ST-MoE", arXiv:2202.08906, equation 5):
    the mean squared log-normalizer of the router's logits, which keeps them small.

    Args:
        logits, probabilities: [..., position, experts].
        chosen: int32 [..., position, choice].
    """
    tokens = tuple(axis for axis in logits.axes if axis.name != Experts.name)
    share = hax.sum(hax.mean(hnn.one_hot(chosen, Experts, dtype=jnp.float32), axis=tokens), axis="choice")
    balance = hax.sum(share * hax.mean(probabilities, axis=tokens), axis=Experts) * Experts.size
    normalizer = hax.log(hax.sum(hax.exp(logits - hax.max(logits, Experts)), Experts)) + hax.max(logits, Experts)
    return {"load_balance": balance, "router_z": hax.mean(hax.square(normalizer))}
