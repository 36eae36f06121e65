"""Steps that add gradients up over micro-batches, and plans for them."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import ir
import passes
from passes import Plan, pipeline
from passes.stage import Stage

F32 = jnp.float32
MESH = {"data": 4, "model": 2}
MICROBATCHES, BATCH, EMBED, MLP, LAYERS = 4, 16, 8, 32, 3
PLANS = {
    "dp": Plan.by_hand(MESH, {"batch": ("data", "model")}),
    "fsdp": Plan.by_hand(MESH, {"batch": ("data", "model")}, {"embed": ("data", "model")}),
    "mixed": Plan.by_hand(MESH, {"batch": "data", "mlp": "model"}, {"embed": "data"}),
}


def flat_loss(params, x):
    return jnp.mean((jnp.tanh(x @ params["up"] + params["bias"]) @ params["down"] - x) ** 2)


def deep_loss(params, x):
    """A loop over layers, and the first matrix used twice."""

    def layer(h, w):
        return h + jnp.tanh(h @ w["up"]) @ w["down"], None

    x = jnp.tanh(x @ params["up"]) @ params["up"].T
    return jnp.mean((lax.scan(layer, x, params["layers"])[0] - x) ** 2)


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, F32)


def paired_loss(params, x):
    """Two matrices of one shape, whose gradients start from the same zeros."""
    return jnp.mean((jnp.tanh(x @ params["up"]) * jnp.tanh(x @ params["gate"]) @ params["down"] - x) ** 2)


PARAMETERS = {
    paired_loss: {"up": shape(EMBED, MLP), "gate": shape(EMBED, MLP), "down": shape(MLP, EMBED)},
    flat_loss: {"up": shape(EMBED, MLP), "down": shape(MLP, EMBED), "bias": shape(MLP)},
    deep_loss: {
        "up": shape(EMBED, MLP),
        "layers": {"up": shape(LAYERS, EMBED, MLP), "down": shape(LAYERS, MLP, EMBED)},
    },
}


BATCHES = {"batches": "microbatch batch embed"}
NAMES = {
    paired_loss: {"*.up": "embed mlp", "*.gate": "embed mlp", "*.down": "mlp embed"} | BATCHES,
    flat_loss: {"*.up": "embed mlp", "*.down": "mlp embed", "*.bias": "mlp"} | BATCHES,
    deep_loss: {
        "*.params.up": "embed mlp",
        "*.moments.up": "embed mlp",
        "*.layers.up": "layers embed mlp",
        "*.layers.down": "layers mlp embed",
    }
    | BATCHES,
}


def stepping(loss_of, seen=lambda total: 0.0, first=False):
    """A step that adds gradients up over micro-batches; `seen` is what each of them looks at besides."""

    def step(state, batches):
        def micro(carry, x):
            total, gradients = carry
            loss, new = jax.value_and_grad(loss_of)(state["params"], x)
            gradients = jax.tree.map(lambda total, each: total + 0.25 * each, gradients, new)
            return (total + loss, gradients), seen(gradients)

        params, start = state["params"], (jnp.zeros(()), jax.tree.map(jnp.zeros_like, state["params"]))
        if first:
            start = jax.value_and_grad(loss_of)(params, batches[0])
            start = start[0], jax.tree.map(lambda each: 0.25 * each, start[1])
        (total, gradients), norms = lax.scan(micro, start, batches[1:] if first else batches)
        moments = jax.tree.map(lambda m, g: 0.9 * m + g, state["moments"], gradients)
        params = jax.tree.map(lambda p, m: p - 0.1 * m, params, moments)
        return {"params": params, "moments": moments}, {"loss": total / MICROBATCHES, "seen": norms}

    return step


def traced(step, loss_of):
    state = {"params": PARAMETERS[loss_of], "moments": PARAMETERS[loss_of]}
    return passes.canonicalize(ir.trace(step, state, shape(MICROBATCHES, BATCH, EMBED), names=NAMES[loss_of]))


def filled(tree, seed=0):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(0.3 * random.standard_normal(leaf.shape), leaf.dtype), tree)


def before(name, graph, plan):
    """The stage under a plan before the pass called `name`."""
    front, _ = pipeline.PIPELINE.split(name)
    _, back = front.split("partition")
    return back.run(Stage(graph, plan.mesh, plan.hardware, plan))
