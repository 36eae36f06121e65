"""Steps of `flax.linen` modules."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from corpus.case import Case, Floats, Ids, Mask, Sizes, Step, cross_entropy, training, training_with_extra

ATTENTION = {
    "*.query.kernel": "embed heads head_size",
    "*.key.kernel": "embed heads head_size",
    "*.value.kernel": "embed heads head_size",
    "*.query.bias": "heads head_size",
    "*.key.bias": "heads head_size",
    "*.value.bias": "heads head_size",
    "*.out.kernel": "heads head_size embed",
    "*.out.bias": "embed",
}
BLOCK = {
    **ATTENTION,
    "*Norm_*.scale": "embed",
    "*Norm_*.bias": "embed",
    "*.up.kernel": "embed mlp",
    "*.up.bias": "mlp",
    "*.down.kernel": "mlp embed",
    "*.down.bias": "embed",
}


class Mlp(nn.Module):
    sizes: Sizes

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.gelu(nn.Dense(self.sizes.mlp, name="up")(x))
        return nn.Dense(self.sizes.embed, name="down")(x)


class Attends(nn.Module):
    """Attention of `x` to `y`."""

    sizes: Sizes

    @nn.compact
    def __call__(self, x: Any, y: Any, mask: Any) -> Any:
        sizes = self.sizes
        return nn.MultiHeadDotProductAttention(
            num_heads=sizes.heads, qkv_features=sizes.heads * sizes.head_size, out_features=sizes.embed
        )(x, y, mask=mask)


class Block(nn.Module):
    sizes: Sizes

    @nn.compact
    def __call__(self, x: Any, mask: Any) -> Any:
        y = nn.LayerNorm()(x)
        x = x + Attends(self.sizes)(y, y, mask)
        return x + Mlp(self.sizes)(nn.LayerNorm()(x))


class Decoder(nn.Module):
    """A causal language model of two blocks with learned positions."""

    sizes: Sizes

    @nn.compact
    def __call__(self, tokens: Any) -> Any:
        sizes = self.sizes
        words = nn.Embed(sizes.vocab, sizes.embed, name="words")
        places = self.param("places", nn.initializers.normal(), (sizes.position, sizes.embed))
        x = words(tokens) + places
        mask = nn.make_causal_mask(tokens)
        for _ in range(2):
            x = Block(sizes)(x, mask)
        return words.attend(nn.LayerNorm()(x))


def attention(sizes: Sizes) -> Step:
    model = Decoder(sizes)
    shape = sizes.batch, sizes.position
    return training(
        lambda key, batch: model.init(key, batch["tokens"])["params"],
        lambda params, batch: cross_entropy(model.apply({"params": params}, batch["tokens"]), batch["labels"]),
        {"tokens": Ids(sizes.vocab, shape), "labels": Ids(sizes.vocab, shape)},
        {
            **BLOCK,
            "*.words.embedding": "vocab embed",
            "*.places": "position embed",
            "batch.*": "batch position",
        },
    )


class ScannedBlock(nn.Module):
    sizes: Sizes

    @nn.compact
    def __call__(self, x: Any, mask: Any) -> Any:
        return Block(self.sizes, name="block")(x, mask), None


class ScannedDecoder(nn.Module):
    """The blocks in one scan over stacked parameters, rematerialized in the backward pass; dropout-free."""

    sizes: Sizes

    @nn.compact
    def __call__(self, tokens: Any) -> Any:
        sizes = self.sizes
        x = nn.Embed(sizes.vocab, sizes.embed, name="words")(tokens)
        scanned = nn.scan(
            nn.remat(ScannedBlock),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=sizes.layers,
        )
        x, _ = scanned(sizes, name="layers")(x, nn.make_causal_mask(tokens))
        return nn.Dense(sizes.vocab, name="head")(nn.RMSNorm(name="last")(x))


def scanned_layers(sizes: Sizes) -> Step:
    model = ScannedDecoder(sizes)
    shape = sizes.batch, sizes.position
    return training(
        lambda key, batch: model.init(key, batch["tokens"])["params"],
        lambda params, batch: cross_entropy(model.apply({"params": params}, batch["tokens"]), batch["labels"]),
        {"tokens": Ids(sizes.vocab, shape), "labels": Ids(sizes.vocab, shape)},
        {
            **{pattern.replace("*", "*.layers.*", 1): f"layers {axes}" for pattern, axes in BLOCK.items()},
            "*.words.embedding": "vocab embed",
            "*.last.scale": "embed",
            "*.head.kernel": "embed vocab",
            "*.head.bias": "vocab",
            "batch.*": "batch position",
        },
    )


class Translator(nn.Module):
    """An encoder with a padding mask and a decoder that attends to it."""

    sizes: Sizes

    @nn.compact
    def __call__(self, source: Any, real: Any, target: Any) -> Any:
        sizes = self.sizes
        words = nn.Embed(sizes.vocab, sizes.embed, name="words")
        memory = Block(sizes, name="encoder")(words(source), nn.make_attention_mask(real, real))
        x = Block(sizes, name="decoder")(words(target), nn.make_causal_mask(target))
        x = x + Attends(sizes, name="cross")(nn.LayerNorm()(x), memory, nn.make_attention_mask(target >= 0, real))
        return nn.Dense(sizes.vocab, name="head")(nn.LayerNorm()(x))


def encoder_decoder(sizes: Sizes) -> Step:
    model = Translator(sizes)

    def apply(params: Any, batch: Any) -> Any:
        return model.apply({"params": params}, batch["source"], batch["real"], batch["target"])

    return training(
        lambda key, batch: model.init(key, batch["source"], batch["real"], batch["target"])["params"],
        lambda params, batch: cross_entropy(apply(params, batch), batch["labels"]),
        {
            "source": Ids(sizes.vocab, (sizes.batch, sizes.source)),
            "real": Mask((sizes.batch, sizes.source)),
            "target": Ids(sizes.vocab, (sizes.batch, sizes.position)),
            "labels": Ids(sizes.vocab, (sizes.batch, sizes.position)),
        },
        {
            **BLOCK,
            "*.words.embedding": "vocab embed",
            "*.head.kernel": "embed vocab",
            "*.head.bias": "vocab",
            "batch.source": "batch source",
            "batch.real": "batch source",
            "batch.target": "batch position",
            "batch.labels": "batch position",
        },
    )


class Tagger(nn.Module):
    """A bidirectional LSTM that labels every position of sequences of several lengths."""

    sizes: Sizes

    @nn.compact
    def __call__(self, x: Any, lengths: Any) -> Any:
        forwards = nn.RNN(nn.LSTMCell(self.sizes.hidden), name="forwards")
        backwards = nn.RNN(nn.LSTMCell(self.sizes.hidden), name="backwards")
        x = nn.Bidirectional(forwards, backwards)(x, seq_lengths=lengths)
        return nn.Dense(self.sizes.classes, name="head")(x)


def lstm(sizes: Sizes) -> Step:
    model = Tagger(sizes)

    def apply(params: Any, batch: Any) -> Any:
        return model.apply({"params": params}, batch["x"], batch["lengths"])

    return training(
        lambda key, batch: model.init(key, batch["x"], batch["lengths"])["params"],
        lambda params, batch: cross_entropy(apply(params, batch), batch["labels"]),
        {
            "x": Floats((sizes.batch, sizes.position, sizes.features)),
            "lengths": Ids(sizes.position, (sizes.batch,)),
            "labels": Ids(sizes.classes, (sizes.batch, sizes.position)),
        },
        {
            "*.head.kernel": "both classes",
            "*.head.bias": "classes",
            "*.i*.kernel": "features hidden",
            "*.h*.bias": "hidden",
            "batch.x": "batch position features",
            "batch.lengths": "batch",
            "batch.labels": "batch position",
        },
    )


class Gru(nn.Module):
    """A GRU whose last state is classified."""

    sizes: Sizes

    @nn.compact
    def __call__(self, x: Any) -> Any:
        carry, _ = nn.RNN(nn.GRUCell(self.sizes.hidden), return_carry=True, name="rnn")(x)
        return nn.Dense(self.sizes.classes, name="head")(carry)


def gru(sizes: Sizes) -> Step:
    model = Gru(sizes)
    return training(
        lambda key, batch: model.init(key, batch["x"])["params"],
        lambda params, batch: cross_entropy(model.apply({"params": params}, batch["x"]), batch["labels"]),
        {
            "x": Floats((sizes.batch, sizes.position, sizes.features)),
            "labels": Ids(sizes.classes, (sizes.batch,)),
        },
        {
            "*.head.kernel": "hidden classes",
            "*.head.bias": "classes",
            "*.i*.kernel": "features hidden",
            "*.h*.bias": "hidden",
            "*.i*.bias": "hidden",
            "batch.x": "batch position features",
            "batch.labels": "batch",
        },
    )


class Residual(nn.Module):
    """A convolution block with a shortcut."""

    filters: int

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        y = nn.Conv(self.filters, (3, 3), use_bias=False)(x)
        y = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(y))
        y = nn.Conv(self.filters, (3, 3), use_bias=False, name="second")(y)
        y = nn.GroupNorm(num_groups=4)(y)
        return nn.relu(y + x)


class ConvNet(nn.Module):
    sizes: Sizes

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        x = nn.Conv(self.sizes.filters, (3, 3), name="stem")(x)
        x = Residual(self.sizes.filters, name="block")(x, train)
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        return nn.Dense(self.sizes.classes, name="head")(x.mean(axis=(1, 2)))


def convolutions(sizes: Sizes) -> Step:
    model = ConvNet(sizes)

    def loss_of(params: Any, stats: Any, batch: Any) -> Any:
        variables = {"params": params, "batch_stats": stats}
        logits, changed = model.apply(variables, batch["image"], train=True, mutable=["batch_stats"])
        return cross_entropy(logits, batch["labels"]), changed["batch_stats"]

    def init(key: jax.Array, batch: Any) -> Any:
        variables = model.init(key, batch["image"], train=True)
        return variables["params"], variables["batch_stats"]

    return training_with_extra(
        init,
        loss_of,
        {
            "image": Floats((sizes.batch, sizes.height, sizes.width, sizes.color)),
            "labels": Ids(sizes.classes, (sizes.batch,)),
        },
        {
            "*.stem.kernel": "kernel_height kernel_width color filters",
            "*.stem.bias": "filters",
            "*.block.Conv_0.kernel": "kernel_height kernel_width filters filters_out",
            "*.block.second.kernel": "kernel_height kernel_width filters_out filters",
            "*.BatchNorm_0.*": "filters_out",
            "*.GroupNorm_0.*": "filters",
            "*.head.kernel": "filters classes",
            "*.head.bias": "classes",
            "batch.image": "batch height width color",
            "batch.labels": "batch",
        },
    )


def bidirectional(sizes: Sizes) -> Step:
    """Of which only one kernel is named, and the lengths of the sequences are given."""
    both = [nn.RNN(nn.OptimizedLSTMCell(sizes.hidden)) for _ in range(2)]
    module = nn.Bidirectional(*both)

    def loss_of(params: Any, batch: Any) -> jax.Array:
        states = module.apply({"params": params}, batch["x"], seq_lengths=batch["lengths"])
        return jax.numpy.square(states).mean()

    return training(
        lambda key, inputs: module.init(key, inputs["x"])["params"],
        loss_of,
        {"x": Floats((sizes.batch, sizes.position, sizes.features)), "lengths": Ids(sizes.position, (sizes.batch,))},
        {"batch.x": "batch position features", "batch.lengths": "batch", "*.ii.kernel": "features hidden"},
    )


CASES = {
    "linen attention": Case(attention),
    "linen scanned layers": Case(scanned_layers),
    "linen encoder-decoder": Case(encoder_decoder),
    "linen LSTM": Case(lstm),
    "linen GRU": Case(gru, small=True),
    "linen bidirectional": Case(bidirectional),
    "linen convolutions": Case(convolutions),
}
