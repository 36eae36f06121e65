"""Annotations of axes and dtypes: what they hold, what matches them, and what is refused."""

import typing

import jax.numpy as jnp
import pytest

import haliax as hax
from haliax import NamedArray, NamedArrayAxes, haxtyping
from haliax.haxtyping import Complex, Float, Int, Named, UInt, bf16, bool_, f32, i32, u8

Batch, Embed = hax.make_axes(batch=2, embed=3)
x = hax.zeros((Batch, Embed))


def axes_of(annotation):
    array_type, axes = typing.get_args(annotation)
    assert array_type is NamedArray
    return axes


@pytest.mark.parametrize(
    ("spec", "axes"),
    [
        ("batch embed", NamedArrayAxes(("batch", "embed"))),
        (("batch", "embed"), NamedArrayAxes(("batch", "embed"))),
        ("batch ...", NamedArrayAxes(("batch",), subset=True)),
        ("... embed", NamedArrayAxes((), ("embed",), subset=True)),
        (("batch", ..., "embed"), NamedArrayAxes(("batch",), ("embed",), subset=True)),
        ({"embed", "batch"}, NamedArrayAxes(("batch", "embed"), ordered=False)),
        ({"batch", ...}, NamedArrayAxes(("batch",), ordered=False, subset=True)),
        ("{batch ...}", NamedArrayAxes(("batch",), ordered=False, subset=True)),
        ("", NamedArrayAxes(())),
    ],
)
def test_what_an_annotation_holds(spec, axes):
    assert axes_of(NamedArray[spec]) == axes and NamedArray[spec] == NamedArray[spec]
    assert axes_of(f32[NamedArray, spec]) == axes_of(f32[NamedArray[spec]])
    assert axes_of(f32[NamedArray, spec]).dtype is jnp.float32
    assert axes_of(Named[NamedArray, spec]) == axes


@pytest.mark.parametrize(
    ("spec", "matches"),
    [
        *[("batch embed", True), ("embed batch", False), ("batch", False), ("batch ...", True), ("...", True)],
        *[("batch ... embed", True), ("embed ...", False), ({"embed", "batch"}, True), ({"embed"}, False)],
        *[({"embed", ...}, True), (("batch", "embed"), True), ("batch embed head", False), ("batch batch", False)],
        *[(NamedArray["batch embed"], True), (f32[NamedArray, "batch ..."], True), (i32[NamedArray, "..."], False)],
        *[(Float[NamedArray, "..."], True), (Int[NamedArray, "..."], False), (f32["batch embed"], True)],
    ],
)
def test_matches_axes(spec, matches):
    assert x.matches_axes(spec) is matches


def test_dtypes():
    kinds = {"u8": UInt, "i32": Int, "bf16": Float, "f32": Float, "complex64": Complex}
    for name, kind in kinds.items():
        array = x.astype({"u8": "uint8", "i32": "int32", "bf16": "bfloat16", "f32": "float32"}.get(name, name))
        matching = [k for k in (UInt, Int, Float, Complex) if array.matches_axes(k[NamedArray, "..."])]
        assert matching == [kind] and array.matches_axes(getattr(haxtyping, name)["batch embed"])
    assert (x > 0).matches_axes(bool_["..."]) and not x.matches_axes(bf16["..."]) and not x.matches_axes(u8["..."])
    assert "Float32" in str(f32[jnp.ndarray, "batch"])


def test_annotated_functions_run():
    def total(array: f32[NamedArray, "batch embed"]) -> NamedArray["batch"]:  # noqa: F722, F821
        return array.sum("embed")

    assert total(x).matches_axes(typing.get_type_hints(total, include_extras=True)["return"])
    assert repr(axes_of(f32[NamedArray, "batch ... embed"])) == "NamedArray[float32 batch ... embed]"
    assert repr(NamedArrayAxes(("a",), ordered=False, subset=True)) == "NamedArray[{a, ...}]"


@pytest.mark.parametrize("spec", [3, None, Batch, (Batch,), "... a ...", {"batch", 3}, NamedArray])
def test_what_is_no_spec(spec):
    with pytest.raises(TypeError, match="does not describe axes"):
        x.matches_axes(spec)
