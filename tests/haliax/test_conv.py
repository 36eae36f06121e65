"""Convolutions and pooling, against equinox."""

import equinox as eqx
import inputs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import haliax as hax
import haliax.nn as hnn

B, D, H, W, I, O = hax.make_axes(batch=2, depth=3, height=8, width=9, channels=4, out=6)  # noqa: E741
key = jax.random.key(0)
image = inputs.normal(0, (I, H, W))
OPTIONS = [
    {},
    {"stride": 2, "padding": 1},
    {"padding": "SAME", "dilation": 2},
    {"groups": 2, "stride": (1, 2), "padding": [(1, 0), (0, 2)]},
]


def plain(kind, layer, **options):
    other = kind(2, I.size, O.size, 3, key=key, **options)
    bias = layer.bias.array[:, None, None]
    return eqx.tree_at(lambda c: (c.weight, c.bias), other, (layer.weight.array, bias))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_conv(options):
    layer = hnn.Conv.init(("height", "width"), I, O, 3, key=key, **options)
    expected = plain(eqx.nn.Conv, layer, **options)(image.array)
    result = layer(image)
    assert [axis.name for axis in result.axes] == ["out", "height", "width"]
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


TRANSPOSED = [{}, {"stride": 2, "padding": 1, "output_padding": 1}, {"groups": 2, "stride": 2, "dilation": 2}]


@pytest.mark.parametrize("options", TRANSPOSED, ids=str)
def test_conv_transpose(options):
    layer = hnn.ConvTranspose.init((H, W), I, O, 3, key=key, **options)
    expected = plain(eqx.nn.ConvTranspose, layer, **options)(image.array)
    np.testing.assert_allclose(layer(image), expected, rtol=1e-4, atol=1e-5)


def test_axes_stay_where_they_stand():
    images = hax.random.normal(key, (D, W, I, B, H))
    layer = hnn.Conv.init((H, W), I, O, (3, 1), key=key)
    result = layer(images)
    assert result.axes == (D, W, O, B, H.resize(6))
    one = layer(images["depth", 1, "batch", 0])
    np.testing.assert_allclose(result["depth", 1, "batch", 0], one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"stride": 1}, {"stride": 2, "padding": 1}, {"use_ceil": True}], ids=str)
@pytest.mark.parametrize("name", ["max", "mean"])
def test_pooling(name, options):
    window = hax.make_axes(height=3, width=2)
    kind = {"max": eqx.nn.MaxPool2d, "mean": eqx.nn.AvgPool2d}[name]
    settings = {**options, "stride": options.get("stride", 1)}
    if name == "mean" and (settings.get("padding") or settings.get("use_ceil")):
        settings = None
    result = getattr(hnn, f"{name}_pool")(window, image, **options)
    if settings is not None:
        np.testing.assert_allclose(result, kind((3, 2), **settings)(image.array), rtol=1e-5, atol=1e-6)


def test_other_pooling():
    window = hax.Axis("width", 3)
    assert np.array_equal(hnn.min_pool(window, image), -np.asarray(hnn.max_pool(window, -image)))
    count = hnn.pool.pool(hax.make_axes(height=2, width=3), hax.ones((H, W)), 0.0, jax.lax.add, stride=(2, 1))
    assert count.shape == {"height": 4, "width": 7} and (count.array == 6).all()
    for options, expected in ({"stride": 3}, [1, 4, 7]), ({"stride": 4, "use_ceil": True}, [1, 5, 8]):
        assert hnn.max_pool(hax.Axis("width", 2), hax.arange(W), **options).tolist() == expected
    ones = hax.ones((H, W))
    assert (hnn.mean_pool(window, ones, padding=1) == 1).all()
    assert float(hnn.mean_pool(window, ones, padding=1, count_include_pad=True).min()) == pytest.approx(2 / 3)
    assert hnn.max_pool(window, hax.arange(W), padding="SAME", stride=3).tolist() == [2, 5, 8]


def test_errors():
    with pytest.raises(
        hax.AxisError, match="axis `channels` of size 4 cannot be cut into parts of 3: 4 is not divisible by 3"
    ):
        hnn.Conv.init((H, W), I, O, 3, groups=3, key=key)
    with pytest.raises(hax.AxisError, match=r"\(3, 3, 3\) must be one value for each of the axes `height`, `width`"):
        hnn.Conv.init((H, W), I, O, (3, 3, 3), key=key)
    with pytest.raises(hax.AxisError, match="axis `channels` is not in"):
        hnn.Conv.init((H, W), I, O, 3, key=key)(hax.ones((H, W), jnp.float32))
