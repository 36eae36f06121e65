"""Wrong steps, written with plain `jax.numpy`: JAX runs every one of them, since the sizes agree.

`test_check_axes.py` quotes these lines with carets; keep each mistake on a line of its own.
"""

import jax
import jax.numpy as jnp
from jax import lax

from haliax import NamedArray


def adds_other_axes(x: NamedArray, y: NamedArray):
    return x.array + y.array  # adds batch x embed to batch x mlp


def contracts_other_axes(x: NamedArray, w: NamedArray):
    return jnp.einsum("be,em->bm", x.array, w.array)  # w is mlp x embed


def forgets_a_transpose(x: NamedArray, y: NamedArray):
    return jnp.einsum("be,be->b", x.array, y.array)  # y is embed x batch


def carries_other_axes(x: NamedArray, w: NamedArray):
    def layer(carry, weight):
        return carry @ weight, None

    return lax.scan(layer, x.array, w.array)[0]  # the carry comes in as embed and leaves as mlp


def loops_with_other_axes(x: NamedArray):
    return lax.fori_loop(0, 3, lambda i, c: c.T, x.array)  # odd trips transpose


def concatenates_other_axes(x: NamedArray, y: NamedArray):
    return jnp.concatenate([x.array, y.array], axis=0)  # batch x embed above batch x mlp


def concatenates_along_other_axes(x: NamedArray, y: NamedArray):
    return jnp.concatenate([x.array, y.array], axis=1)  # batch x embed beside batch x mlp


def attends_without_renaming(q: NamedArray, k: NamedArray):
    return jnp.einsum("ph,qh->pq", q.array, k.array)  # position twice


def branches_disagree(p: jax.Array, x: NamedArray, y: NamedArray):
    return lax.cond(p, lambda: (0.0, x.array), lambda: (1.0, y.array))  # embed or mlp


def marks_another_name(x: NamedArray):
    return NamedArray(jnp.sin(x.array), (x.axes[0], x.axes[1].alias("mlp")))  # was embed


def changes_state(state: dict[str, NamedArray], x: NamedArray):
    return {"w": NamedArray(state["w"].array.T * 2, state["w"].axes)}


def renames_state(state: dict[str, NamedArray]):
    return {"w": state["w"].rename({"embed": "mlp"}), "b": state["b"] + 1}


def transposes_state(state: dict[str, NamedArray]):
    return {"w": state["w"].rearrange(("embed", "batch"))}, 0.0


def many_mistakes(x: NamedArray, y: NamedArray, w: NamedArray):
    a = x.array + y.array  # first
    b = lax.map(lambda row: row * w.array[0], x.array)  # second, inside a loop
    c = jnp.where(x.array > 0, a, y.array)  # third
    return a @ w.array.T + b + c, jax.grad(lambda v: (v * y.array).sum())(x.array)  # more
