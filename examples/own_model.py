"""A language model of one's own, gated averages in place of attention, trained by `levanter train`.

    levanter train examples/own_model.py:AveragesConfig
    levanter train examples/own_model.py:AveragesConfig --model.num_heads 16 --mesh 4x2
    levanter compile examples/own_model.py:AveragesConfig --mesh 4x2 --verify

Each head of each layer keeps a running average of what it has read, at a pace that depends on the token:

    state[t] = keep[t] · state[t-1] + (1 - keep[t]) · value[t]

Unrolled, the weight of place s in the state at t is (1 - keep[s]) · keep[s+1] ⋯ keep[t], so all places are computed at
once by one product (as in "Transformers are SSMs", Dao and Gu, 2024). No function here mentions a batch, or a mesh:
what each name is sharded over is the plan's business.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray
from levanter.fields import SIZE, number
from levanter.models import LmModel, ModelConfig
from levanter.models.loss import mean_loss, next_token_loss, output_logits


@dataclass(frozen=True)
class AveragesConfig(ModelConfig):
    """Layers of gated averages and an MLP. The defaults train on a CPU in minutes."""

    seq_len: int = number(128, SIZE)
    """Tokens in one training sequence: the size of axis `position`."""
    num_heads: int = number(8, SIZE)
    """Size of axis `heads`: averages in a layer, each at a pace of its own."""
    head_size: int = number(16, SIZE)
    """Size of axis `head_size`; axis `embed`, the residual stream, is num_heads times as long."""
    num_layers: int = number(3, SIZE)
    """Size of axis `layers`."""

    @property
    def Vocab(self) -> Axis:
        return Axis("vocab", -(-self.vocab_size // 128) * 128)  # a multiple of 128 divides over a mesh

    def build(self, Vocab: Axis, *, key: jax.Array) -> LmModel:
        Heads, HeadSize, Layers = (
            Axis("heads", self.num_heads),
            Axis("head_size", self.head_size),
            Axis("layers", self.num_layers),
        )
        Embed, of_layers = Axis("embed", Heads.size * HeadSize.size), jax.random.split(key, Layers.size)
        return GatedAverages(
            table=hax.random.normal(jax.random.fold_in(key, 1), (Vocab, Embed)) * 0.02,
            layers=hnn.Stacked.init(Layers, Layer)(Embed, Heads, HeadSize, key=of_layers),
            norm=hnn.RmsNorm.init(Embed),
            vocab_size=self.vocab_size,
            Pos=self.Pos,
        )


class Layer(eqx.Module):
    """Gated averages, then an MLP, each added to what it read."""

    norm: hnn.RmsNorm  # [embed]
    value: hnn.Linear  # [embed] → [heads, head_size]
    keep: hnn.Linear  # [embed] → [heads]
    gate: hnn.Linear  # [embed] → [heads, head_size]
    out: hnn.Linear  # [heads, head_size] → [embed]
    mlp_norm: hnn.RmsNorm  # [embed]
    up: hnn.Linear  # [embed] → [mlp]
    down: hnn.Linear  # [mlp] → [embed]

    @staticmethod
    def init(Embed: Axis, Heads: Axis, HeadSize: Axis, *, key: jax.Array) -> "Layer":
        keys = iter(jax.random.split(key, 6))
        Mlp = Axis("mlp", 4 * Embed.size)
        keep = hnn.Linear.init(Embed, Heads, key=next(keys))
        # The heads start with memories of 2 to about 150 tokens.
        paces = hax.named(jnp.linspace(0.0, 5.0, Heads.size), Heads)
        return Layer(
            norm=hnn.RmsNorm.init(Embed),
            value=hnn.Linear.init(Embed, (Heads, HeadSize), key=next(keys)),
            keep=eqx.tree_at(lambda linear: linear.bias, keep, paces),
            gate=hnn.Linear.init(Embed, (Heads, HeadSize), key=next(keys)),
            out=hnn.Linear.init((Heads, HeadSize), Embed, key=next(keys), init_scale=0.2),
            mlp_norm=hnn.RmsNorm.init(Embed),
            up=hnn.Linear.init(Embed, Mlp, key=next(keys)),
            down=hnn.Linear.init(Mlp, Embed, key=next(keys), init_scale=0.2),
        )

    def __call__(self, x: NamedArray) -> NamedArray:
        """x [..., position, embed] → [..., position, embed]"""
        y = self.norm(x)
        x = x + self.out(hnn.silu(self.gate(y)) * averages(self.value(y), self.keep(y)))
        return x + self.down(hnn.gelu(self.up(self.mlp_norm(x))))


def averages(value: NamedArray, keep: NamedArray) -> NamedArray:
    """The state at every place: value [..., position, heads, head_size], keep [..., position, heads] as logits."""
    Pos = value.resolve_axis("position")
    Earlier = Pos.alias("earlier")
    age = hax.cumsum(hnn.log_sigmoid(keep), Pos)  # the logarithm of keep[0] ⋯ keep[t]
    added = (value * hnn.sigmoid(-keep)).rename({Pos: Earlier})
    has_been = hax.arange(Earlier).broadcast_axis(Pos) <= hax.arange(Pos)
    lasting = hax.where(has_been, age.broadcast_axis(Earlier) - age.rename({Pos: Earlier}), -1e9)
    return hax.dot(hax.exp(lasting), added, axis=Earlier)


class GatedAverages(LmModel):
    """tokens [..., position] → logits [..., position, vocab]; the token embedding is also the output head."""

    table: NamedArray  # [vocab, embed]
    layers: hnn.Stacked  # [layers] of Layer
    norm: hnn.RmsNorm  # [embed]
    vocab_size: int = eqx.field(static=True)
    Pos: Axis = eqx.field(static=True)

    @property
    def Vocab(self) -> Axis:
        return self.table.resolve_axis("vocab")

    @property
    def drops_out(self) -> bool:
        return False

    def activations(self, tokens: NamedArray, *, key: jax.Array | None = None) -> NamedArray:
        return self.norm(self.layers.fold(self.table.take(self.Vocab, tokens)))

    def logits(self, activations: NamedArray) -> NamedArray:
        return output_logits(activations, self.table, self.table.resolve_axis("embed"), self.vocab_size)

    def loss(self, tokens: NamedArray, targets: NamedArray, *, key: jax.Array | None = None) -> jax.Array:
        x = self.activations(tokens, key=key)
        losses = next_token_loss(x, self.table, targets, self.table.resolve_axis("embed"), self.vocab_size)
        return mean_loss(losses, targets)
