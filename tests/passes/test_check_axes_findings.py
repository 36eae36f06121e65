"""Every kind of axis mistake, in a small program that JAX runs without a word, and the checker's words for it.

The words stand in tests/golden/check_axes.txt, read them there; `CASES` says how many findings of which code each
program has, so that no finding comes or goes unnoticed.
"""

import axis_mistakes as wrong
import jax
import jax.numpy as jnp
import pytest
from jax.flatten_util import ravel_pytree
from step_models import shaped

import ir
import passes
from haliax import Axis, NamedArray

HEADS = (shaped("batch heads head_size", 2, 4, 8),)
BE, BM = shaped("batch embed", 4, 4), shaped("batch mlp", 4, 4)
Q, K = shaped("position head_size", 4, 8), shaped("key_position head_size", 4, 8)
LOGITS, TARGETS = shaped("position vocab", 4, 8), shaped("position", 4, dtype=jnp.int32)
TOKENS = shaped("batch position", 2, 8, dtype=jnp.int32)
STATE = {"w": shaped("embed mlp", 4, 4), "m": shaped("mlp embed", 4, 4)}
PARAMS = {"up": shaped("embed mlp", 4, 4), "down": shaped("mlp embed", 4, 4)}


def heads_example(heads, head_size):
    weights = [shaped("embed heads head_size", 16, heads, head_size)] * 2
    return shaped("batch position embed", 2, 3, 16), *weights, shaped("heads head_size embed", heads, head_size, 16)


def flat_example(heads, head_size):
    return shaped("batch heads head_size", 2, heads, head_size), shaped("heads head_size embed", heads, head_size, 16)


CASES = {
    "an addition": (wrong.adds_other_axes, (BE, BM), ["elementwise"]),
    "a contraction": (wrong.contracts_other_axes, (BE, shaped("mlp out", 4, 4)), ["contract"]),
    "a forgotten transpose": (wrong.forgets_a_transpose, (BE, shaped("embed batch", 4, 4)), ["contract"]),
    "a transposed weight": (wrong.multiplies_by_a_transposed_weight, (BE, shaped("embed mlp", 4, 4)), ["contract"]),
    "a concatenation": (wrong.concatenates_other_axes, (BE, BM), ["concat"]),
    "a name that is not so": (wrong.marks_another_name, (BE,), ["named"]),
    "branches": (wrong.branches_disagree, (jax.ShapeDtypeStruct((), bool), BE, BM), ["branch"]),
    "a scan's carry": (wrong.carries_other_axes, (BE, shaped("layers embed mlp", 3, 4, 4)), ["carry"]),
    "a while loop's carry": (wrong.loops_with_other_axes, (BE,), ["carry"]),
    "a lookup": (wrong.looks_up_rows_of_another_axis, (BE, shaped("mlp", 4, dtype=jnp.int32)), ["gather"]),
    "a scatter": (
        wrong.writes_another_axis,
        (BE, shaped("rows", 2, dtype=jnp.int32), shaped("rows mlp", 2, 4)),
        ["scatter"],
    ),
    "an update": (wrong.updates_with_another_axis, (BE, shaped("rows mlp", 2, 4)), ["slice"]),
    "a sort": (wrong.sorts_with_another_axis, (shaped("embed", 4), shaped("mlp", 4)), ["sort"]),
    "an array plus its transpose": (wrong.adds_its_own_transpose, (BE,), ["elementwise"]),
    "a column minus a row": (
        wrong.subtracts_a_row_from_a_column,
        (shaped("batch out", 4, 1), shaped("batch", 4)),
        ["repeat"],
    ),
    "heads swapped in a reshape, of one size": (wrong.swaps_heads_in_a_reshape, heads_example(4, 4), ["contract"]),
    "heads swapped in a reshape": (wrong.swaps_heads_in_a_reshape, heads_example(2, 4), ["order"]),
    "merged and split in another order, of one size": (wrong.merges_and_splits, flat_example(4, 4), ["contract"]),
    "merged and split in another order": (wrong.merges_and_splits, flat_example(4, 8), ["order"]),
    "a reshape for a transpose": (wrong.reshapes_for_transposing, flat_example(4, 8), ["order"]),
    "split in another order, without names": (wrong.splits_without_names, HEADS, ["split-order"]),
    "attention over the queries": (wrong.attends_over_queries, (Q, K, K), ["softmax-axis"]),
    "a mask of the keys": (
        wrong.masks_keys_but_normalizes_queries,
        (shaped("position key_position", 4, 4), shaped("key_position", 4, dtype=bool)),
        ["softmax-axis"],
    ),
    "log-probabilities picked elsewhere": (wrong.picks_along_another_axis, (LOGITS, TARGETS), ["softmax-axis"]),
    "log-probabilities picked by one-hot": (wrong.picks_by_one_hot, (LOGITS, TARGETS), ["softmax-axis"]),
    "a mean, then a sum": (wrong.averages_then_sums, (shaped("batch position", 4, 8),) * 2, ["mean-then-sum"]),
    "a mean of masked means": (wrong.averages_masked_means, (shaped("batch position", 4, 6),) * 2, ["mean-of-means"]),
    "positions torn apart": (
        wrong.tears_positions_apart,
        (shaped("batch heads position size", 2, 4, 6, 4),),
        ["regroup"],
    ),
    "heads in front of as many positions": (
        wrong.merges_heads_in_front,
        (shaped("batch position embed", 2, 4, 8), shaped("embed packed", 8, 12), shaped("inner embed", 12, 8)),
        ["beside"],
    ),
    "gates that were split in another order": (
        wrong.adds_other_gates,
        (shaped("batch gates", 2, 8),) * 2,
        ["part"],
    ),
    "the first example repeated": (wrong.repeats_the_first, (BE,), ["repeat"]),
    "a batch of one repeated": (wrong.repeats_a_batch_of_one, (BE, shaped("batch embed", 1, 4)), ["repeat"]),
    "token ids as positions": (
        wrong.looks_up_positions_by_token,
        (TOKENS, shaped("vocab embed", 16, 4), shaped("position embed", 8, 4)),
        ["index"],
    ),
    "attention in which rows are not of one kind": (
        wrong.attends_to_other_rows,
        (shaped("batch position size", 2, 4, 8), shaped("document memory size", 2, 4, 8)),
        ["attention"],
    ),
    "a momentum that is transposed": (wrong.keeps_transposed_momentum, (STATE, BE), ["elementwise"]),
    "state with other names": (wrong.renames_state, ({"w": BE, "b": BE},), ["state"]),
    "state that comes back transposed": (wrong.transposes_state, ({"w": shaped("batch embed", 4, 8)},), ["state"]),
    "one mistake in a whole training step": (wrong.is_wrong_once_and_trained, (PARAMS, BE, BE), ["elementwise"]),
    "many mistakes": (
        wrong.many_mistakes,
        (BE, BM, shaped("mlp batch", 4, 4)),
        ["elementwise", "elementwise", "elementwise", "contract", "elementwise"],
    ),
}  # fmt: skip


def findings_of(name):
    function, arguments, _ = CASES[name]
    jax.eval_shape(function, *arguments)  # JAX itself has nothing against it
    return passes.axis_findings(ir.trace(function, *arguments))


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_found(name):
    assert [each.code for each in findings_of(name)] == CASES[name][2]


def test_the_words(golden):
    pages = [f"=== {name}\n\n" + "\n\n".join(map(str, findings_of(name))) for name in CASES]
    golden("\n\n".join(pages), "check_axes.txt")


def test_every_code_is_there():
    from passes.check_axes import ERRORS, WARNINGS

    assert {code for _, _, codes in CASES.values() for code in codes} == {*ERRORS, *WARNINGS}


def named(array, *axes):
    return NamedArray(array, tuple(axes))


RIGHT = {
    "a rename": (lambda q, k: jnp.einsum("ph,qh->pq", q.array, k.rename({"position": "key_position"}).array), (Q, Q)),
    "sizes that differ": (lambda x, y: x.array * y.array, (BE, shaped("one embed", 1, 4))),
    "a bias": (lambda x, b: x.array + b.array, (BE, shaped("embed", 4))),
    "a mean taken away": (lambda x: jnp.square(x.array - x.array.mean(0)).sum(), (BE,)),
    "a sum, then a mean": (lambda x, y: jnp.square(x.array - y.array).sum(1).mean(), (BE, BE)),
    "two means": (lambda x: jnp.square(x.array).mean(0).mean(), (BE,)),
    "a sum over what is no data": (lambda w, x: (x.array @ w.array).mean(0).sum(), (shaped("embed experts", 4, 3), BE)),
    "attention": (lambda q, k, v: jax.nn.softmax(q.array @ k.array.T, axis=1) @ v.array, (Q, K, K)),
    "a causal mask": (
        lambda s: jax.nn.softmax(jnp.where(jnp.tri(4, dtype=bool), s.array, -1e9)),
        (shaped("position key_position", 4, 4),),
    ),
    "a mask of the keys": (
        lambda s, m: jax.nn.softmax(jnp.where(m.array, s.array, -1e9)),
        (shaped("position key_position", 4, 4), shaped("key_position", 4, dtype=bool)),
    ),
    "the mean of probabilities": (lambda x: jax.nn.softmax(x.array).mean(0), (LOGITS,)),
    "merged and split": (lambda x: x.array.reshape(2, -1).reshape(2, 4, 8), HEADS),
    "split as groups": (lambda x: (x.array.reshape(4, 8), x.array.reshape(8, 4)), (shaped("embed", 32),)),
    "merged two ways": (
        lambda x: (x.array.reshape(-1), x.array.T.reshape(-1)),
        (shaped("batch position", 2, 3),),
    ),
    "one place used alone": (lambda x: x.array[0] @ x.array[1], (BE,)),
    "indices of one axis": (
        lambda t, w: (w.array[t.array], jax.nn.one_hot(t.array, 16) @ w.array),
        (TOKENS, shaped("vocab embed", 16, 4)),
    ),
    "indices of a renamed axis": (
        lambda i, x: (x.array[i.array], x.rename({"position": "key_position"}).array[i.array]),
        (shaped("batch", 2, dtype=jnp.int32), shaped("position embed", 8, 4)),
    ),
    "a factorization, which makes its operand symmetric": (
        lambda x: jax.grad(lambda v: jnp.linalg.cholesky(v).sum() + jnp.linalg.eigvalsh(v).sum())(x.array),
        (BE,),
    ),
    "parameters as one vector": (
        lambda p: ravel_pytree(jax.tree.map(lambda leaf: leaf, p))[0],
        ([shaped("embed", 4), shaped("mlp", 4), shaped("embed mlp", 4, 4), shaped("heads", 2)],),
    ),
    "an identity matrix": (lambda w: w.array + jnp.eye(4), (BE,)),
    "a gradient times itself": (
        lambda w, x: w - 0.1 * named(
            (g := jax.grad(lambda v: (x.array @ v).sum())(w.array)) @ g.T @ g, Axis("embed", 4), Axis("mlp", 4)
        ),
        (shaped("embed mlp", 4, 4), BE),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_is_let_be(name):
    function, arguments = RIGHT[name]
    assert passes.axis_findings(ir.trace(function, *arguments)) == []
