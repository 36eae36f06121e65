"""A Perceiver of `equinox.nn` modules under `jax.vmap`: only the arguments of the step have names.

Inside there is no named array and no mark; the modules never hear of an axis. A few learned queries attend to a
sequence, and their mean is classified. AdamW with clipping.
"""

from __future__ import annotations

import equinox as eqx
import jax
import optax
from zoo.training import State, Step, tokens

from haliax import Axis, NamedArray

Batch, Position, Vocab, Latent = Axis("batch", 4), Axis("position", 10), Axis("vocab", 34), Axis("latent", 6)
Embed, Inner, Mlp, Classes = Axis("embed", 14), Axis("inner", 26), Axis("mlp", 22), Axis("classes", 10)
HEADS = 2


class Perceiver(eqx.Module):
    """As in the documentation of Equinox: modules of single examples, and `jax.vmap` around them."""

    tokens: eqx.nn.Embedding
    positions: jax.Array
    latents: jax.Array
    norm: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    mlp: eqx.nn.MLP
    head: eqx.nn.Linear

    def __init__(self, key: jax.Array):
        keys = jax.random.split(key, 6)
        self.tokens = eqx.nn.Embedding(Vocab.size, Embed.size, key=keys[0])
        self.positions = jax.random.normal(keys[1], (Position.size, Embed.size))
        self.latents = jax.random.normal(keys[2], (Latent.size, Embed.size))
        self.norm = eqx.nn.LayerNorm(Embed.size)
        size = Inner.size // HEADS
        self.attention = eqx.nn.MultiheadAttention(HEADS, Embed.size, qk_size=size, vo_size=size, key=keys[3])
        self.mlp = eqx.nn.MLP(Embed.size, Embed.size, Mlp.size, 1, jax.nn.gelu, key=keys[4])
        self.head = eqx.nn.Linear(Embed.size, Classes.size, key=keys[5])

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """tokens int32 [position] → logits [classes]"""
        x = jax.vmap(self.tokens)(tokens) + self.positions
        context = jax.vmap(self.norm)(x)
        read = self.latents + self.attention(self.latents, context, context)
        read = read + jax.vmap(self.mlp)(read)
        return self.head(read.mean(axis=0))


AXES = {
    ".tokens.weight": (Vocab, Embed),
    ".positions": (Position, Embed),
    ".latents": (Latent, Embed),
    ".norm.weight": (Embed,),
    ".norm.bias": (Embed,),
    ".attention.query_proj.weight": (Inner, Embed),
    ".attention.key_proj.weight": (Inner, Embed),
    ".attention.value_proj.weight": (Inner, Embed),
    ".attention.output_proj.weight": (Embed, Inner),
    ".mlp.layers[0].weight": (Mlp, Embed),
    ".mlp.layers[0].bias": (Mlp,),
    ".mlp.layers[1].weight": (Embed, Mlp),
    ".mlp.layers[1].bias": (Embed,),
    ".head.weight": (Classes, Embed),
    ".head.bias": (Classes,),
}


def build() -> Step:
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    shapes = eqx.filter_eval_shape(Perceiver, jax.random.key(0))
    settings = eqx.filter(shapes, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct), inverse=True)

    def loss_of(named: Perceiver, batch: dict[str, NamedArray]) -> jax.Array:
        arrays = jax.tree.map(lambda leaf: leaf.array, named, is_leaf=lambda leaf: isinstance(leaf, NamedArray))
        logits = jax.vmap(eqx.combine(arrays, settings))(batch["tokens"].array)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"].array).mean()

    def step(state: State, batch: dict[str, NamedArray]) -> tuple[State, jax.Array]:
        loss, gradients = jax.value_and_grad(loss_of)(state.model, batch)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.model)
        return State(optax.apply_updates(state.model, updates), opt_state), loss

    def initial() -> State:
        arrays = eqx.filter(Perceiver(jax.random.key(0)), eqx.is_array)
        model = jax.tree_util.tree_map_with_path(
            lambda path, leaf: NamedArray(leaf, AXES[jax.tree_util.keystr(path)]), arrays
        )
        return State(model, optimizer.init(model))

    return Step(step, jax.eval_shape(initial), {"tokens": tokens(Batch, Position), "labels": tokens(Batch)})
