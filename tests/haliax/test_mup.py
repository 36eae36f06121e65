"""Parameterizations: the table of their factors, and where layers apply them."""

import inputs
import jax
import numpy as np
import pytest

import haliax as hax
import haliax.nn as hnn
from haliax.nn import mup

E, F, V = hax.make_axes(embed=4, features=3, vocab=7)
KEY = jax.random.key(0)
x = inputs.normal(0, (F, E))

LINEAR = {  # init_scale, lr_scale, active_scale for a fan-in of n
    mup.LinearStandardParam: (lambda n: n**-0.5, lambda n: 1, lambda n: 1),
    mup.InputLinearMup: (lambda n: 1, lambda n: 1, lambda n: 1),
    mup.HiddenLinearMup: (lambda n: n**-0.5, lambda n: 1 / n, lambda n: 1),
    mup.OutputLinearMup: (lambda n: 1, lambda n: 1, lambda n: 1 / n),
}


@pytest.mark.parametrize(("ins", "size"), [(E, 4), ((E, F), 12), ((), 1)], ids=str)
@pytest.mark.parametrize("kind", LINEAR, ids=lambda kind: kind.__name__)
def test_factors_of_linear_layers(kind, ins, size):
    init, rate, active = (factor(size) for factor in LINEAR[kind])
    reparam = kind(ins, V)
    assert (kind.init_scale(ins, V), reparam.lr_scale, reparam.active_scale) == pytest.approx((init, rate, active))
    assert isinstance(reparam, mup.AbstractLinearReparam) and (reparam.In, reparam.Out) == (ins, V)
    assert reparam == kind(In=ins, Out=V)


@pytest.mark.parametrize("kind", LINEAR, ids=lambda kind: kind.__name__)
def test_linear_applies_its_factors(kind):
    layer = hnn.Linear.init(E, V, key=KEY, reparam_cls=kind)
    standard = hnn.Linear.init(E, V, key=KEY)
    assert isinstance(layer, mup.ReparamEnabled) and layer.reparam == kind(E, V)
    np.testing.assert_allclose(layer.weight, standard.weight.array * 2 * kind.init_scale(E, V), rtol=1e-6)
    layer = hnn.Linear(layer.weight, hax.ones(V), E, V, _reparam_cls=kind)
    expected = x.array @ layer.weight.array.T * layer.reparam.active_scale + 1
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_choice_of_factors():
    names = {"input": mup.InputLinearMup, "hidden": mup.HiddenLinearMup, "output": mup.OutputLinearMup}
    for name, kind in names.items():
        chosen = getattr(hnn.Linear, f"{name}_reparam")
        assert (chosen(), chosen(use_mup=False)) == (kind, mup.LinearStandardParam)


@pytest.mark.parametrize(
    ("kind", "init", "unembed"), [(mup.EmbeddingStandardParam, 0.25, 1), (mup.EmbeddingMup, 1, 0.25)]
)
def test_embeddings(kind, init, unembed):
    table = hnn.Embedding.init(V, E, key=KEY, reparam_cls=kind)
    reparam = table.reparam
    assert (kind.init_scale(V, E), reparam.unembed_active_scale) == (init, unembed)
    assert (reparam.lr_scale, reparam.active_scale, reparam.Embed, reparam.Vocab) == (1, 1, E, V)
    raw = jax.random.truncated_normal(KEY, -3.0, 3.0, (7, 4))
    np.testing.assert_allclose(table.weight, raw * init, rtol=1e-5)
    np.testing.assert_allclose(table.unembed(x), x.array @ table.weight.array.T * unembed, rtol=1e-4, atol=1e-5)
    assert table.resize_embeddings(5).reparam == kind(E, V.resize(5))


@pytest.mark.parametrize("kind", [mup.AbstractReparam, mup.AbstractLinearReparam, mup.AbstractEmbeddingReparam])
def test_abstract_ones_cannot_be_made(kind):
    with pytest.raises(TypeError, match="abstract"):
        kind() if kind is mup.AbstractReparam else kind(E, V)
