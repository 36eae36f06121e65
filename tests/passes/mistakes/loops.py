"""Mistakes in loops, `vmap` and recurrent cells."""

import jax
import jax.numpy as jnp
from jax import lax

from mistakes.pair import mistake


@mistake("batch time", x="batch=6 time=6 features=4", h="batch=6 hidden=5", w="features=4 hidden=5")
def a_scan_over_the_batch(wrong, x, h, w):
    def ahead(carry, now):
        carry = jnp.tanh(0.9 * carry + now @ w)  # here
        return carry, carry

    return lax.scan(ahead, h, x if wrong else x.swapaxes(0, 1))[0]  # here


GATES = {"x": "batch=2 features=4", "h": "batch=2 hidden=5", "wx": "features=4 gates=15", "wh": "hidden=5 gates=15"}


@mistake("gates", **GATES)
def gates_of_a_gru_in_two_orders(wrong, x, h, wx, wh):
    r, z, n = jnp.split(x @ wx, 3, axis=-1)
    if wrong:
        hz, hr, hn = jnp.split(h @ wh, 3, axis=-1)
    else:
        hr, hz, hn = jnp.split(h @ wh, 3, axis=-1)
    r, z = jax.nn.sigmoid(r + hr), jax.nn.sigmoid(z + hz)  # here
    return (1 - z) * jnp.tanh(n + r * hn) + z * h


@mistake("gates", x="batch=2 features=4", h="batch=2 hidden=5", wx="features=4 gates=20", wh="hidden=5 gates=20")
def gates_of_an_lstm_that_are_shifted(wrong, x, h, wx, wh):
    a, b = x @ wx, h @ wh
    forget = jax.nn.sigmoid(a[:, 5:10] + b[:, 5:10])
    add = jax.nn.sigmoid(a[:, :5] + (b[:, 10:15] if wrong else b[:, :5]))  # here
    return jax.nn.sigmoid(a[:, 15:] + b[:, 15:]) * jnp.tanh(forget * h + add)


@mistake("batch position", x="batch=6 position=6 embed=4", scale="position=6 embed=4")
def a_vmap_over_the_positions(wrong, x, scale):
    return jax.vmap(lambda one: one * scale, in_axes=1 if wrong else 0)(x)  # here


@mistake("batch heads", x="batch=6 heads=6 size=4", w="heads=6 size=4 out=3", y="batch=6 heads=6 out=3")
def a_vmap_with_its_result_at_the_wrong_place(wrong, x, w, y):
    mixed = jax.vmap(lambda one, each: one @ each, in_axes=(1, 0), out_axes=0 if wrong else 1)(x, w)  # here
    return mixed - y  # here


@mistake("members batch", x="batch=5 features=4", w="members=5 features=4 classes=3", labels="batch=5 classes=3")
def members_of_an_ensemble_taken_for_examples(wrong, x, w, labels):
    logits = jax.vmap(lambda one: x @ one)(w)
    return (logits * (labels[:, None] if wrong else labels)).mean()  # here


@mistake("time batch", rewards="time=6 batch=6", values="batch=6 time=6")
def values_of_the_batch_as_if_of_the_time(wrong, rewards, values):
    def back(after, now):
        reward, value = now
        after = reward + 0.9 * after
        return after, after - value  # here

    values = values if wrong else values.T
    return lax.scan(back, jnp.zeros(6), (rewards, values), reverse=True)[1]  # here


@mistake("embed mlp", x="batch=2 embed=6", w="layers=3 embed=6 mlp=6")
def layers_that_lack_the_way_back(wrong, x, w):
    def layer(carry, weight):
        hidden = jax.nn.relu(carry @ weight)
        return (hidden if wrong else carry + hidden @ weight.T), None  # here

    return lax.scan(layer, x, w)[0]  # here


@mistake("state inputs", u="time=6 inputs=4", a="state=4", b="state=4 inputs=4")
def the_input_matrix_of_a_state_space_transposed(wrong, u, a, b):
    def ahead(state, now):
        state = a * state + (now @ b if wrong else b @ now)  # here
        return state, state

    return lax.scan(ahead, jnp.zeros(4), u)[1]  # here
