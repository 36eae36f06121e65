"""Run by `test_published_levanter.py`: GPT-2 and LLaMA of the published Levanter, on whichever haliax is found first.

Writes losses, gradients, logits and the keys of state dicts to the file that the first argument names. Weights are a
function of path and axis names alone, and gradients are written with axes in the order of their names, so that they
are comparable whatever order a layer keeps its axes in.
"""

import importlib.abc
import importlib.machinery
import re
import sys
import types
import zlib

import equinox as eqx
import jax
import jax._src.clusters
import jax._src.numpy.einsum
import jax._src.numpy.lax_numpy
import jax._src.tree_util
import numpy as np

STUBS = ("braceexpand", "dataclasses_json", "gcsfs", "git", "humanfriendly", "jmp", "matplotlib")
STUBS += ("pytimeparse", "ray", "tblib")
BROKEN_BY_NEWER_JAX = (
    (jax, "tree_map", jax.tree.map),
    (jax._src.tree_util, "BuiltInKeyEntry", object),
    (jax._src.clusters, "TpuCluster", object),
    (jax._src.numpy.lax_numpy, "_einsum", getattr(jax._src.numpy.einsum, "_einsum", None)),
)


class Stub(types.ModuleType):
    """A module that has every name, each a class that does nothing."""

    __path__: list[str] = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        nothing = {"__init__": lambda self, *args, **kwargs: None, "__call__": lambda self, f=None, *args, **kwargs: f}
        nothing["__class_getitem__"] = classmethod(lambda cls, item: cls)
        setattr(self, name, type(name, (Exception,), nothing))
        return getattr(self, name)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname, path, target=None):
        is_stub = fullname.split(".")[0] in STUBS
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True) if is_stub else None

    def create_module(self, spec):
        return Stub(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Finder())
for module, name, value in BROKEN_BY_NEWER_JAX:
    if not hasattr(module, name):
        setattr(module, name, value)

normal = jax.random.normal  # LLaMA's embeddings are made from an array of one key, which JAX once took


def normal_of_first_key(key, *args, **kwargs):
    return normal(key[0] if key.shape == (1, 2) else key, *args, **kwargs)


jax.random.normal = normal_of_first_key

import haliax as hax  # noqa: E402
from levanter.models.attention import AttentionMask  # noqa: E402
from levanter.models.gpt2 import Gpt2Config  # noqa: E402
from levanter.models.llama import LlamaConfig  # noqa: E402
from levanter.models.lm_model import LmExample  # noqa: E402

SIZES = {"seq_len": 16, "hidden_dim": 32, "num_heads": 4, "num_layers": 3, "gradient_checkpointing": True}
CONFIGS = {
    "gpt2": Gpt2Config(**SIZES),
    "llama": LlamaConfig(**SIZES, intermediate_dim=48),
}
Vocab = hax.Axis("vocab", 64)


def is_named(leaf):
    return isinstance(leaf, hax.NamedArray)


def by_path(tree):
    return [
        (jax.tree_util.keystr(path), leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_named)[0]
        if is_named(leaf)
    ]


def filled(tree):
    """The tree with numbers that depend on the path and the axis names of each array only."""

    def fill(path, leaf):
        if not is_named(leaf):
            return leaf
        axes = sorted(leaf.axes, key=lambda axis: axis.name)
        seed = zlib.crc32(re.sub(r"\W", "", jax.tree_util.keystr(path)).encode())
        numbers = np.random.default_rng(seed).normal(size=[axis.size for axis in axes]) * 0.1
        return hax.named(numbers.astype(np.float32), tuple(axes)).rearrange(leaf.axes)

    return jax.tree_util.tree_map_with_path(fill, tree, is_leaf=is_named)


def in_name_order(array):
    return np.asarray(array.rearrange(tuple(sorted(array.axes, key=lambda axis: axis.name))).array)


def outcome(config):
    model = filled(config.model_type.init(Vocab, config, key=jax.random.PRNGKey(0)))
    Batch, Pos = hax.Axis("batch", 2), config.Pos
    tokens = np.random.default_rng(0).integers(0, Vocab.size, (Batch.size, Pos.size)).astype(np.int32)
    loss_mask = (1 - hax.nn.one_hot(-1, Pos, dtype=np.float32)) > 0  # today's JAX refuses a mask of floats
    example = LmExample(hax.named(jax.numpy.asarray(tokens), (Batch, Pos)), loss_mask, AttentionMask.causal())

    def loss(model):
        return model.compute_loss(example, key=None).scalar()

    value, gradient = eqx.filter_jit(eqx.filter_value_and_grad(loss))(model)
    result = {"loss": np.asarray(value)}
    logits = eqx.filter_jit(lambda model: model(example.tokens, example.attn_mask, key=None))(model)
    result["logits"] = in_name_order(logits)
    result["loss_mask"] = in_name_order(loss_mask)
    for path, leaf in by_path(gradient):
        result[f"gradient {path}"] = in_name_order(leaf)
    result["keys"] = np.array(sorted(model.to_state_dict()))
    if hasattr(hax, "state_dict"):
        result["haliax keys"] = np.array(sorted(hax.state_dict.to_torch_compatible_state_dict(model)))
    return result


np.savez(sys.argv[1], **{f"{name} {key}": x for name, config in CONFIGS.items() for key, x in outcome(config).items()})
print(hax.__file__)
