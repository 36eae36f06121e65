"""Axes, and the arithmetic of axis sets in each of the forms that they are given in."""

import pickle

import pytest
import typeguard

import haliax as hax
from haliax import axis
from haliax.axis import Axis

A, B, C = hax.make_axes(a=2, b=3, c=4)
A9 = A.resize(9)


def test_an_axis_is_a_value():
    assert (A.name, A.size, str(A), repr(A)) == ("a", 2, "a(2)", "Axis(name='a', size=2)")
    assert A.alias("z") == Axis("z", 2) and A.resize(9) == A9 and {A: 1}[Axis("a", 2)] == 1
    assert pickle.loads(pickle.dumps(A)) == A and A != A9


# Function, arguments, what comes out: a mapping for a mapping, else a tuple.
CASES = [
    (axis.axis_name, ("a",), "a"),
    (axis.axis_name, (A,), "a"),
    (axis.axis_name, ((A, "b"),), ("a", "b")),
    (axis.axis_name, ({"a": 2},), ("a",)),
    (axis.axis_size, (A,), 2),
    (axis.axis_size, ((A, B),), 6),
    (axis.axis_size, ({"a": 2, "b": 3},), 6),
    (axis.axis_size, ((),), 1),
    (axis.axis_spec_to_tuple, (A,), (A,)),
    (axis.axis_spec_to_tuple, ("a",), ("a",)),
    (axis.axis_spec_to_tuple, ({"a": 2, "b": None},), (A, "b")),
    (axis.axis_spec_to_shape_dict, ((A, "b"),), {"a": 2, "b": None}),
    (axis.to_jax_shape, (A,), 2),
    (axis.to_jax_shape, ((A, B),), (2, 3)),
    (axis.to_jax_shape, ({"a": 2, "b": 3},), (2, 3)),
    (axis.concat_axes, (A, (B, C)), (A, B, C)),
    (axis.concat_axes, ("a", B), ("a", B)),
    (axis.concat_axes, ({"a": 2}, B), {"a": 2, "b": 3}),
    (axis.union_axes, ((A, B), (B, C)), (A, B, C)),
    (axis.union_axes, ("a", A), ("a",)),
    (axis.union_axes, (A, "a"), (A,)),
    (axis.union_axes, (B, {"a": 2}), {"b": 3, "a": 2}),
    (axis.eliminate_axes, ((A, B, C), ("a", C)), (B,)),
    (axis.eliminate_axes, ({"a": 2, "b": 3}, A), {"b": 3}),
    (axis.eliminate_axes, ("a", A), ()),
    (axis.without_axes, ((A, B), ("a", "z")), (B,)),
    (axis.without_axes, ({"a": 2, "b": 3}, "z"), {"a": 2, "b": 3}),
    (axis.without_axes, ((A, B), A9, True), (B,)),
    (axis.intersect_axes, ((A, B), (C, B)), (B,)),
    (axis.intersect_axes, ((A, B), "a"), ("a",)),
    (axis.intersect_axes, ({"a": 2, "b": 3}, (B,)), {"b": 3}),
    (axis.replace_axis, ((A, B), "a", (C, "z")), (C, "z", B)),
    (axis.replace_axis, ((A, B), A, ()), (B,)),
    (axis.replace_axis, ({"a": 2, "b": 3}, "a", C), {"c": 4, "b": 3}),
    (axis.unsize_axes, (A,), "a"),
    (axis.unsize_axes, ((A, B),), ("a", "b")),
    (axis.unsize_axes, ((A, B), "b"), (A, "b")),
    (axis.unsize_axes, ({"a": 2, "b": 3}, B), {"a": 2, "b": None}),
    (axis.resolve_axis, ((A, B), "a"), A),
    (axis.resolve_axis, ((A, B), ("b",)), (B,)),
    (axis.resolve_axis, ((A, B), {"b": None}), {"b": 3}),
    (axis.resolve_axis, ({"a": 2, "b": 3}, "a"), A),
    (axis.selects_axis, ((A, "b"), (A, B)), True),
    (axis.selects_axis, (A, (A, B)), False),
    (axis.selects_axis, (A, A9), False),
    (axis.is_axis_compatible, ("a", A), True),
    (axis.is_axis_compatible, (A, A9), False),
    (axis.replace_missing_with_ellipsis, ((A, "b", C), (A, B)), (A, B, ...)),
    (axis.replace_missing_with_ellipsis, ((A, B), ()), (..., ...)),
    (axis.ensure_tuple, ("a",), ("a",)),
    (axis.ensure_tuple, ([1, 2],), (1, 2)),
    (axis.ensure_tuple, (None,), (None,)),
    (axis.index_where, (lambda value: value > 1, [1, 2, 3]), 1),
    (axis.index_where, (lambda value: value > 1, [1, 2, 3], 2), 2),
]


@pytest.mark.parametrize(("function", "arguments", "result"), CASES)
def test_arithmetic(function, arguments, result):
    found = function(*arguments)
    assert found == result and type(found) is type(result)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (axis.concat_axes, ((A, B), "a")),
        (axis.union_axes, (A, A9)),
        (axis.union_axes, ({"a": 2}, A9)),
        (axis.eliminate_axes, ((A, B), "z")),
        (axis.eliminate_axes, ((A, B), A9)),
        (axis.without_axes, ((A, B), A9)),
        (axis.intersect_axes, ((A, B), A9)),
        (axis.replace_axis, ((A, B), "z", C)),
        (axis.replace_axis, ((A, B), "a", B)),
        (axis.unsize_axes, ((A, B), "z")),
        (axis.resolve_axis, ((A, B), "z")),
        (axis.resolve_axis, ((A, B), {"a": 3})),
        (axis.replace_missing_with_ellipsis, (A, A9)),
        (axis.rearrange_for_partial_order, (("c", "b"), (A, B, C))),
        (axis.rearrange_for_partial_order, (("c", ..., "c"), (A, B, C))),
        (axis.rearrange_for_partial_order, ((..., "z"), (A, B, C))),
        (axis.axis_size, ("a",)),
        (axis.to_jax_shape, ((A, "b"),)),
        (axis.axis_spec_to_tuple, (3,)),
    ],
)
def test_mistakes_are_value_errors(function, arguments):
    with typeguard.suppress_type_checks(), pytest.raises(ValueError):
        function(*arguments)


# One `.` stands for `...`; the axes are a, b, c, d, e.
@pytest.mark.parametrize(
    ("order", "result"),
    [
        *[(".", "abcde"), ("e .", "eabcd"), (". a", "bcdea"), ("b . a", "bcdea"), (". c .", "abcde")],
        *[(". c a .", "cabde"), (". c . a", "bcdea"), ("b . d .", "badce"), (". d . b", "acdeb")],
        *[("c . e . a", "cbeda"), (". d . c . a", "bdcea"), ("d b . e .", "dbaec"), ("e d c b a", "edcba")],
    ],
)
def test_partial_orders(order, result):
    names = [... if word == "." else word for word in order.split()]
    assert axis.rearrange_for_partial_order(names, tuple("abcde")) == tuple(result)
    sized = tuple(Axis(name, 2) for name in "abcde")
    assert [a.name for a in axis.rearrange_for_partial_order(names, sized)] == list(result)


def test_dynamic_slices_are_handed_on():
    assert axis.dslice is axis.ds is hax.ds and axis.dblock(2, 3) == axis.ds(6, 3)
