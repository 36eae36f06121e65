"""Broadcasting by name, spelled out: which axes come out, in which order, and what is refused."""

import inputs
import numpy as np
import pytest

import haliax as hax

A, B, C = hax.make_axes(a=2, b=3, c=4)
ab, ba, b, c = inputs.counting((A, B)), inputs.counting((B, A)), inputs.counting(B), inputs.counting(C)


@pytest.mark.parametrize(
    ("call", "axes"),
    [
        (lambda: ab.broadcast_to((B, A)), (B, A)),
        (lambda: ab.broadcast_to((C, B, A)), (C, B, A)),
        (lambda: hax.broadcast_to(ab, (B, A), ensure_order=False), (A, B)),
        (lambda: hax.broadcast_to(ab, (B, C, A), ensure_order=False), (C, A, B)),
        (lambda: hax.broadcast_to(b, (A,), enforce_no_extra_axes=False), (A, B)),
        (lambda: hax.broadcast_to(b, {"a": 2, "b": 3}), (A, B)),
        (lambda: hax.broadcast_to(b, "b"), (B,)),
        (lambda: hax.broadcast_to(3.0, (A, B)), (A, B)),
        (lambda: b.broadcast_axis(A), (A, B)),
        (lambda: b.broadcast_axis((B, A)), (B, A)),
        (lambda: ab.broadcast_axis((A, C, B)), (A, C, B)),
        (lambda: ab.broadcast_axis((C, A)), (C, A, B)),
        (lambda: ab + ba, (A, B)),
        (lambda: ba + ab, (B, A)),
        (lambda: b + ab, (A, B)),
        (lambda: b + hax.ones((hax.Axis("a", 1), B)), (hax.Axis("a", 1), B)),
        (lambda: hax.where(b > 0, ab, 0), (A, B)),
        (lambda: hax.where(True, b, 0), (B,)),
    ],
)
def test_order(call, axes):
    assert call().axes == axes


def test_numbers():
    assert np.array_equal(ab.broadcast_axis((C, A)), np.broadcast_to(ab.array, (4, 2, 3)))
    assert np.array_equal(ab.broadcast_to((B, A)), np.asarray(ab).T)


@pytest.mark.parametrize(
    ("arrays", "options", "axes"),
    [
        ((b, ab), {}, (A, B)),
        ((ab, ba), {}, (A, B)),
        ((b, c), {"require_subset": False}, (B, C)),
        ((b, ab, c), {"require_subset": False}, (C, A, B)),
        ((b, b.rename({"b": "z"})), {"require_subset": False}, (B.alias("z"), B)),
        ((1.0, b, None, np.ones(3, np.float32)), {}, (B,)),
        ((), {}, ()),
        ((1.0, None), {}, ()),
    ],
)
def test_broadcast_arrays(arrays, options, axes):
    results, found = hax.core.broadcast_arrays_and_return_axes(*arrays, **options)
    assert found == axes and len(results) == len(arrays)
    for result, array in zip(results, arrays, strict=True):
        assert result.axes == axes if isinstance(array, hax.NamedArray) else result is array


@pytest.mark.parametrize(
    "call",
    [
        *(lambda: b + c, lambda: hax.broadcast_arrays(b, c), lambda: b.broadcast_to(A), lambda: hax.where(b > 0, c, 0)),
        *(
            lambda: b.broadcast_to((B.resize(4),)),
            lambda: b.broadcast_axis(B.resize(7)),
            lambda: hax.broadcast_to(b, ()),
        ),
        *(lambda: b + hax.arange(B.resize(1)), lambda: hax.broadcast_to(b, ("a", "b"))),
    ],
)
def test_what_is_refused(call):
    with pytest.raises(hax.AxisError):
        call()


def test_comparisons_of_whole_arrays_are_plain_booleans():
    turned = ab.rearrange((B, A))
    assert hax.array_equal(ab, turned) is True and hax.allclose(ab, turned + 1e-9) is True
    assert hax.array_equal(ab, b) is False and hax.array_equiv(ab * 0 + b, b) is True
    assert hax.array_equal(b, b.rename({"b": "z"})) is False and hax.array_equiv(b, c) is False
