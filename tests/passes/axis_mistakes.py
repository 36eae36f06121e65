"""Wrong steps, written with plain `jax.numpy`: JAX runs every one of them, since the sizes agree.

`test_check_axes.py` quotes these lines with carets; keep each mistake on a line of its own.
"""

import jax
import jax.numpy as jnp
from jax import lax

from haliax import Axis, NamedArray
from haliax.nn.attention import attend


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


# --- what is followed through other values --------------------------------------------------------------------------


def multiplies_by_a_transposed_weight(x: NamedArray, w: NamedArray):
    hidden = jnp.tanh(x.array)
    return hidden @ w.array.T  # the weight is embed x mlp already


def swaps_heads_in_a_reshape(x: NamedArray, wq: NamedArray, wk: NamedArray, wo: NamedArray):
    batch, position, _ = x.array.shape
    heads, head_size = wo.array.shape[:2]
    q = (x.array @ wq.array.reshape(wq.array.shape[0], -1)).reshape(batch, position, heads, head_size)
    k = (x.array @ wk.array.reshape(wk.array.shape[0], -1)).reshape(batch, position, head_size, heads)  # swapped
    return jnp.einsum("bphd,bpdh->bhp", q, k)  # each position with itself


def merges_and_splits(x: NamedArray, w: NamedArray):
    heads, head_size = w.array.shape[:2]
    flat = x.array.reshape(x.array.shape[0], heads * head_size)
    split = jnp.sin(flat).reshape(-1, head_size, heads)  # merged the other way round
    return jnp.einsum("bdh,hde->be", split, w.array)


def splits_without_names(x: NamedArray):
    flat = x.array.reshape(x.array.shape[0], -1)
    return jnp.cos(flat).reshape(-1, x.array.shape[2], x.array.shape[1]).sum()  # nothing says which is which


def reshapes_for_transposing(x: NamedArray, w: NamedArray):
    swapped = x.array.reshape(x.array.shape[0], x.array.shape[2], x.array.shape[1])  # moves nothing
    return jnp.einsum("bdh,hde->be", swapped, w.array)


def attends_over_queries(q: NamedArray, k: NamedArray, v: NamedArray):
    scores = jnp.einsum("ph,kh->pk", q.array, k.array)
    weights = jax.nn.softmax(scores, axis=0)  # over the queries
    return weights @ v.array


def masks_keys_but_normalizes_queries(scores: NamedArray, mask: NamedArray):
    return jax.nn.softmax(jnp.where(mask.array, scores.array, -1e9), axis=0)  # the mask has keys only


def picks_along_another_axis(logits: NamedArray, targets: NamedArray):
    log_probabilities = jax.nn.log_softmax(logits.array, axis=0)  # over positions
    return -jnp.take_along_axis(log_probabilities, targets.array[:, None], axis=1).mean()


def picks_by_one_hot(logits: NamedArray, targets: NamedArray):
    log_probabilities = jax.nn.log_softmax(logits.array, axis=0)  # over positions again
    return -(log_probabilities * jax.nn.one_hot(targets.array, logits.array.shape[1])).sum(1).mean()


def averages_then_sums(x: NamedArray, y: NamedArray):
    each = jnp.square(x.array - y.array).mean(0)
    return 0.5 * each.sum()  # over the positions that are left


def repeats_the_first(x: NamedArray):
    return x.array - x.array[0]  # the first example, for all of them


def repeats_a_batch_of_one(x: NamedArray, y: NamedArray):
    return x.array * y.array  # y is a batch of one


def subtracts_a_row_from_a_column(prediction: NamedArray, target: NamedArray):
    return jnp.square(prediction.array - target.array).mean()  # [batch, 1] and [batch]


def looks_up_positions_by_token(tokens: NamedArray, words: NamedArray, places: NamedArray):
    return words.array[tokens.array] + places.array[tokens.array]  # token ids are no positions


def keeps_transposed_momentum(state: dict[str, NamedArray], x: NamedArray):
    gradient = jax.grad(lambda w: jnp.square(x.array @ w).sum())(state["w"].array)
    momentum = 0.9 * state["m"].array + gradient  # m is mlp x embed
    return {"w": state["w"] - 0.1 * NamedArray(momentum, state["w"].axes), "m": NamedArray(momentum, state["m"].axes)}


def is_wrong_once_and_trained(params: dict[str, NamedArray], x: NamedArray, y: NamedArray):
    def loss_of(p):
        hidden = jnp.tanh(x.array @ p["up"].array)
        mixed = hidden + y.array  # mlp and embed
        return jnp.square(jnp.tanh(mixed * 2) @ p["down"].array - y.array).mean()

    loss, gradients = jax.value_and_grad(loss_of)(params)
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients), loss


# --- lookups, updates, sorts ------------------------------------------------------------------------------------------


def looks_up_rows_of_another_axis(x: NamedArray, columns: NamedArray):
    return jnp.take_along_axis(x.array, columns.array[:, None], axis=1)  # one column for each row


def writes_another_axis(x: NamedArray, rows: NamedArray, y: NamedArray):
    return x.array.at[rows.array].set(y.array)  # rows of mlp into rows of embed


def updates_with_another_axis(x: NamedArray, y: NamedArray):
    return jax.lax.dynamic_update_slice(x.array, y.array, (0, 0))  # two rows of mlp


def sorts_with_another_axis(keys: NamedArray, values: NamedArray):
    return jax.lax.sort((keys.array, values.array), num_keys=1)  # embed and mlp


def adds_its_own_transpose(x: NamedArray):
    return x.array + x.array.T  # batch x embed and embed x batch


def averages_masked_means(loss: NamedArray, real: NamedArray):
    each = (loss.array * real.array).sum(1) / real.array.sum(1)
    return each.mean()  # a short example counts as much as a long one


def tears_positions_apart(x: NamedArray):
    return x.array.reshape(2, 6, 16)  # heads x position x size, without the transpose


def adds_other_gates(x: NamedArray, h: NamedArray):
    reset, update = jnp.split(x.array, 2, -1)
    return update + h.array[:, :4], reset  # the second half and the first


def attends_to_other_rows(q: NamedArray, k: NamedArray):
    def one(q, k):
        query, key = (
            NamedArray(q, (Axis("position", 4), Axis("size", 8))),
            NamedArray(k, (Axis("memory", 4), Axis("size", 8))),
        )
        return attend(query, key, key, Key="size", KPos="memory").array

    return jax.vmap(one)(q.array, k.array)  # a row of q is one of a batch, a row of k one of the documents


def merges_heads_in_front(x: NamedArray, w: NamedArray, out: NamedArray):
    heads = (x.array @ w.array).reshape(2, 4, 4, 3).transpose(0, 2, 1, 3)
    return x.array + heads.reshape(2, 4, 12) @ out.array  # as many heads as positions
