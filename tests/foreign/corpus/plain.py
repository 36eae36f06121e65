"""Steps in plain `jax.numpy`, without a library of modules."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from corpus.case import Case, Floats, Ids, Sizes, Step, cross_entropy, training


def normal(key: jax.Array, shapes: dict[str, tuple[int, ...]]) -> dict[str, jax.Array]:
    keys = jax.random.split(key, len(shapes))
    return {
        name: jax.random.normal(each, shape) * shape[0] ** -0.5
        for each, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def rms(x: jax.Array, scale: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * scale


def turned(x: jax.Array, angles: jax.Array) -> jax.Array:
    """Rotary embedding by halves. x [batch position heads size], angles [position size/2]"""
    cos, sin = (jnp.concatenate([f(angles)] * 2, axis=-1)[:, None] for f in (jnp.cos, jnp.sin))
    first, second = jnp.split(x, 2, axis=-1)
    return x * cos + jnp.concatenate([-second, first], axis=-1) * sin


def parted(x: jax.Array, heads: int, size: int) -> jax.Array:
    """[batch position heads*size] → [batch position heads size]"""
    return x.reshape(*x.shape[:2], heads, size)


def joined(x: jax.Array) -> jax.Array:
    """[batch position heads size] → [batch position heads*size]"""
    return x.reshape(*x.shape[:2], -1)


def grouped_attention(sizes: Sizes) -> Step:
    """A decoder block: fused qkv of grouped queries, rotary positions, `dot_product_attention`, fused SwiGLU."""
    q_size, kv_size = sizes.heads * sizes.head_size, sizes.kv_heads * sizes.head_size
    shapes = {
        "words": (sizes.vocab, sizes.embed),
        "norm1": (sizes.embed,),
        "qkv": (sizes.embed, q_size + 2 * kv_size),
        "out": (q_size, sizes.embed),
        "norm2": (sizes.embed,),
        "gate_up": (sizes.embed, 2 * sizes.mlp),
        "down": (sizes.mlp, sizes.embed),
    }

    def loss_of(params: Any, batch: Any) -> jax.Array:
        x = params["words"][batch["tokens"]]
        q, k, v = jnp.split(rms(x, params["norm1"]) @ params["qkv"], [q_size, q_size + kv_size], axis=-1)
        q = parted(q, sizes.heads, sizes.head_size)
        k, v = (parted(each, sizes.kv_heads, sizes.head_size) for each in (k, v))
        half = sizes.head_size // 2
        angles = jnp.outer(jnp.arange(sizes.position), 10000.0 ** (-jnp.arange(half) / half))
        attended = jax.nn.dot_product_attention(turned(q, angles), turned(k, angles), v, is_causal=True)
        x = x + joined(attended) @ params["out"]
        gate, up = jnp.split(rms(x, params["norm2"]) @ params["gate_up"], 2, axis=-1)
        x = x + (jax.nn.silu(gate) * up) @ params["down"]
        return cross_entropy(x @ params["words"].T, batch["labels"])

    shape = sizes.batch, sizes.position
    return training(
        lambda key, _: normal(key, shapes),
        loss_of,
        {"tokens": Ids(sizes.vocab, shape), "labels": Ids(sizes.vocab, shape)},
        {
            "*.words": "vocab embed",
            "*.norm*": "embed",
            "*.qkv": "embed qkv",
            "*.out": "inner embed",
            "*.gate_up": "embed gate_up",
            "*.down": "mlp embed",
            "batch.*": "batch position",
        },
    )


def contrastive(sizes: Sizes) -> Step:
    """Two towers whose embeddings of one pair should be near: a symmetric loss over all pairs of the batch."""
    shapes = {
        "image": (sizes.color * sizes.height, sizes.hidden),
        "image_out": (sizes.hidden, sizes.embed),
        "text": (sizes.vocab, sizes.embed),
    }

    def loss_of(params: Any, batch: Any) -> jax.Array:
        image = jax.nn.relu(batch["image"] @ params["image"]) @ params["image_out"]
        text = params["text"][batch["text"]].mean(axis=1)
        image, text = (each / jnp.linalg.norm(each, axis=-1, keepdims=True) for each in (image, text))
        logits = image @ text.T * 10.0
        labels = jnp.arange(logits.shape[0])
        return (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2

    return training(
        lambda key, _: normal(key, shapes),
        loss_of,
        {
            "image": Floats((sizes.batch, sizes.color * sizes.height)),
            "text": Ids(sizes.vocab, (sizes.batch, sizes.position)),
        },
        {
            "batch.image": "batch pixels",
            "batch.text": "batch position",
            "*.image": "pixels hidden",
            "*.image_out": "hidden embed",
            "*.text": "vocab embed",
        },
    )


def graph_network(sizes: Sizes) -> Step:
    """Messages along the edges of some graphs, summed at their receivers; nodes summed by graph."""
    edges = 3 * sizes.source
    shapes = {
        "into": (sizes.features, sizes.hidden),
        "message": (2 * sizes.hidden, sizes.hidden),
        "head": (sizes.hidden, sizes.classes),
    }

    def loss_of(params: Any, batch: Any) -> jax.Array:
        nodes = batch["nodes"] @ params["into"]
        for _ in range(2):
            ends = jnp.concatenate([nodes[batch["senders"]], nodes[batch["receivers"]]], axis=-1)
            messages = jax.nn.relu(ends @ params["message"])
            nodes = nodes + jax.ops.segment_sum(messages, batch["receivers"], num_segments=sizes.source)
        graphs = jax.ops.segment_sum(nodes, batch["graph"], num_segments=sizes.batch)
        return cross_entropy(graphs @ params["head"], batch["labels"])

    return training(
        lambda key, _: normal(key, shapes),
        loss_of,
        {
            "nodes": Floats((sizes.source, sizes.features)),
            "senders": Ids(sizes.source, (edges,)),
            "receivers": Ids(sizes.source, (edges,)),
            "graph": Ids(sizes.batch, (sizes.source,)),
            "labels": Ids(sizes.classes, (sizes.batch,)),
        },
        {
            "*.into": "features hidden",
            "*.message": "ends hidden",
            "*.head": "hidden classes",
            "batch.nodes": "nodes features",
            "batch.senders": "edges",
            "batch.receivers": "edges",
            "batch.graph": "nodes",
            "batch.labels": "graphs",
        },
    )


def mixture(sizes: Sizes) -> Step:
    """A mixture of normal distributions: responsibilities by `logsumexp`, and the means of what they assign."""
    shapes = {"mean": (sizes.classes, sizes.features), "scale": (sizes.classes, sizes.features)}

    def loss_of(params: Any, batch: Any) -> jax.Array:
        distance = (batch["x"][:, None] - params["mean"]) * jnp.exp(-params["scale"])
        each = -0.5 * jnp.square(distance).sum(-1) - params["scale"].sum(-1) + jax.nn.log_softmax(params["weights"])
        likely = each - jax.nn.logsumexp(each, axis=-1, keepdims=True)
        share = jnp.exp(jax.lax.stop_gradient(likely))
        means = share.T @ batch["x"] / (share.sum(0)[:, None] + 1e-3)
        return -jax.nn.logsumexp(each, axis=-1).mean() + jnp.square(params["mean"] - means).mean()

    return training(
        lambda key, _: {**normal(key, shapes), "weights": jnp.zeros(sizes.classes)},
        loss_of,
        {"x": Floats((sizes.batch, sizes.features))},
        {
            "*.mean": "components features",
            "*.scale": "components features",
            "*.weights": "components",
            "batch.x": "batch features",
        },
    )


CASES = {
    "plain grouped attention": Case(grouped_attention),
    "plain contrastive": Case(contrastive),
    "plain graph network": Case(graph_network),
    "plain mixture": Case(mixture),
}
