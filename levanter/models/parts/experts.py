"""A mixture of experts: each token goes through a few of many gated MLPs, which a router chooses.

There are two ways to bring tokens to their experts. *Grouped*: all tokens of the batch are sorted by their expert, and
one grouped product multiplies each by the weights of its own (Gale et al., "MegaBlocks", arXiv:2211.15841); no token is
ever dropped, and every device that has a part of the batch works with all experts. *Slots*: a text is cut into
stretches, in each of which an expert has a number of slots and takes the first tokens that chose it (Lepikhin et al.,
"GShard", arXiv:2006.16668). Tokens are brought there and back by products, whose axes are `batch`, `experts` and
`embed`, so a plan can shard any of them: with `experts` on a mesh axis each device works with its experts alone. A
token that finds no slot goes without that expert.
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
        capacity_factor: slots of an expert in a stretch, relative to what it needs if all experts are chosen equally
            often; None for the grouped way.
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
        weights, chosen = highest(probabilities, self.shape.Experts, Axis("choice", self.shape.top))
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
        # Each row is looked up among the tokens themselves: they are gathered once, not once for each choice.
        at = [axis.name for axis in rows].index("choice")
        inner = math.prod(axis.size for axis in rows[at + 1 :])
        tokens = (*rows[:at], *rows[at + 1 :])
        source = order // (self.shape.top * inner) * inner + order % inner
        flat = x.rearrange((*tokens, Embed)).flatten_axes(tokens, "source")
        sorted_tokens = flat.take("source", source, mode="promise_in_bounds")
        sizes = hax.sum(hnn.one_hot(expert_of, Experts, dtype=jnp.int32), axis="token")
        hidden = self.activation(self.gate(sorted_tokens, sizes)) * self.up(sorted_tokens, sizes)
        outputs = self.down(hidden, sizes)
        back = outputs.take("token", hax.argsort(order, "token"), mode="promise_in_bounds")
        own = back.unflatten_axis("token", rows)
        return hax.sum(own * weights.astype(x.dtype), axis="choice").rearrange(x.axes)

    def _in_slots(self, x: NamedArray, weights: NamedArray, chosen: NamedArray, factor: float) -> NamedArray:
        """The tokens that find a slot through their experts; weights and chosen [..., position, choice]."""
        Experts, Pos = self.shape.Experts, x.resolve_axis("position")
        Place = Axis("place", stretch_of(Pos.size))
        parts = (Axis("stretch", Pos.size // Place.size), Place)
        Slot = Axis("slot", min(Place.size, max(1, math.ceil(self.shape.top * Place.size / Experts.size * factor))))
        tokens, weights, chosen = (each.unflatten_axis(Pos, parts) for each in (x, weights, chosen))
        is_chosen = hnn.one_hot(chosen, Experts, dtype=jnp.float32)
        share = hax.sum(is_chosen * weights, axis="choice")
        wanted = hax.sum(is_chosen, axis="choice")
        # How many before it in its stretch chose the same expert: the slot that it gets, if there are as many.
        slot = (hax.cumsum(wanted, Place) - 1.0).astype(jnp.int32)
        sent = hnn.one_hot(slot, Slot, dtype=jnp.float32) * wanted
        at_experts = hax.dot(sent.astype(x.dtype), tokens, axis=Place)
        hidden = self.activation(self.gate.per_expert(at_experts)) * self.up.per_expert(at_experts)
        outputs = self.down.per_expert(hidden)
        returned = hax.dot((sent * share).astype(x.dtype), outputs, axis=(Experts, Slot))
        return returned.flatten_axes(parts, Pos).rearrange(x.axes)


def stretch_of(length: int) -> int:
    """Places of one stretch of a text: the largest divisor of its length up to 256, or all where that is a small one.

    The products that bring tokens to slots cost as much as attention over one stretch; in a short one the choices of
    experts even out less, so that more tokens find no slot.
    """
    divisor = next(size for size in range(min(length, 256), 0, -1) if length % size == 0)
    return divisor if divisor >= 64 else length


def highest(scores: NamedArray, axis: Axis, Choice: Axis) -> tuple[NamedArray, NamedArray]:
    """The largest scores along the axis, largest first, and their places: [..., choice] each.

    They are found one after another: unlike a sort, that is only maxima, which a mesh can take of any sharding.
    """
    values, places = [], []
    for _ in range(Choice.size):
        place = hax.argmax(scores, axis)
        is_it = hnn.one_hot(place, axis, dtype=bool)
        values.append(hax.sum(hax.where(is_it, scores, 0.0), axis))
        places.append(place)
        scores = hax.where(is_it, -jnp.inf, scores)
    return hax.stack(Choice, values), hax.stack(Choice, places)


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
