"""einsum and rearrange by pattern, against jnp."""

import inputs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax

N, H, W, C = hax.make_axes(N=2, H=3, W=4, C=6)
x = inputs.normal(0, (N, H, W, C))


@pytest.mark.parametrize(
    ("pattern", "aliases", "names", "plain"),
    [
        ("n h w c -> c n h w", {}, "C N H W", lambda x: x.transpose(3, 0, 1, 2)),
        ("... c -> c ...", {}, "C N H W", lambda x: x.transpose(3, 0, 1, 2)),
        ("{C H} -> C ... H", {}, "C N W H", lambda x: x.transpose(3, 0, 2, 1)),
        ("{channel} -> channel ...", {"channel": C}, "C N H W", lambda x: x.transpose(3, 0, 1, 2)),
        ("n h w c -> n (pixel: h w) c", {}, "N pixel C", lambda x: x.reshape(2, 12, 6)),
        ("{W H} -> ... (pixel: W H)", {}, "N C pixel", lambda x: x.transpose(0, 3, 2, 1).reshape(2, 6, 12)),
        ("n h w (c: a b) -> n h w a b", {"a": 2}, "N H W a b", lambda x: x.reshape(2, 3, 4, 2, 3)),
        ("{(C: a b)} -> b ... a", {"b": hax.Axis("bee", 3)}, "bee N H W a", None),
        ("{N} -> N (rest: ...)", {}, "N rest", lambda x: x.reshape(2, 72)),
    ],
)
def test_rearrange(pattern, aliases, names, plain):
    result = hax.rearrange(x, pattern, **aliases)
    assert [axis.name for axis in result.axes] == names.split()
    if plain is None:
        plain = lambda x: x.reshape(2, 3, 4, 2, 3).transpose(4, 0, 1, 2, 3)  # noqa: E731
    assert np.array_equal(result, plain(x.array))


@pytest.mark.parametrize(
    ("pattern", "names", "plain"),
    [
        ("n h w c, c d -> n h w d", "N H W D", "nhwc,cd->nhwd"),
        ("... c, c d -> ... d", "N H W D", "nhwc,cd->nhwd"),
        ("{C}, {C D} -> ... D", "N H W D", "nhwc,cd->nhwd"),
        ("{C N}, {C} -> N ...", "N H W D", "nhwc,cd->nhwd"),
        ("-> D N", "D N", "nhwc,cd->dn"),
        ("{C} -> ", "N H W D", "nhwc,cd->nhwd"),
        ("{C H W} -> D ...", "D N", "nhwc,cd->dn"),
        ("{C N} -> N", "H W D N", "nhwc,cd->hwdn"),
        ("{...} -> D", "D", "nhwc,cd->d"),
        ("n h w c, c d", "", "nhwc,cd->"),
        ("a b c d, d e -> e a", "D N", "nhwc,cd->dn"),
    ],
)
def test_einsum(pattern, names, plain):
    y = hax.random.normal(jax.random.key(1), (C, hax.Axis("D", 5)))
    result = hax.einsum(pattern, x, y)
    assert [axis.name for axis in result.axes] == names.split()
    np.testing.assert_allclose(result, jnp.einsum(plain, x.array, y.array), rtol=1e-4, atol=1e-4)


def test_words_in_order_may_stand_for_other_names():
    a, b = hax.random.normal(jax.random.key(0), (N, C)), hax.random.normal(jax.random.key(1), (C.alias("N"), W))
    np.testing.assert_allclose(hax.einsum("i j, j k -> i k", a, b), a.array @ b.array, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: hax.rearrange(x, "a b -> b a"), 'the pattern "a b -> b a" lists 2 axes in order, but the array is '
         "f32[N=2, H=3, W=4, C=6]: put `...` for the others, or braces to go by name"),
        (lambda: hax.rearrange(x, "{N H} -> N H"), 'the right side of "{N H} -> N H" leaves out `W` of '
         "f32[N=2, H=3, W=4, C=6]: name it, or put `...` for the others"),
        (lambda: hax.rearrange(x, "{N -> N ..."), 'the pattern "{N -> N ..." cannot be read: `{` is not closed'),
        (lambda: hax.rearrange(x, "{(C: a b)} -> ... a b"), 'the pattern "{(C: a b)} -> ... a b" cannot be read: '
         "the sizes of `a` and `b` are needed: give them by keyword"),
        (lambda: hax.rearrange(x, "{(C: a b)} -> ... a b", a=4), "axis `C` of size 6 cannot be cut into parts of 4: "
         "6 is not divisible by 4"),
        (lambda: hax.einsum("a, b -> a b", x), 'the pattern "a, b -> a b" cannot be read: '
         "it has 2 operands, but 1 array was given"),
    ],
)  # fmt: skip
def test_errors(call, text):
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == text
