"""Laws of unification."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ir.names import are_apart
from ir.staging.derive import derive_names
from ir.staging.unify import Unifier

NAMES = st.sampled_from([None, "a", "b", "c"])
PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25)
DIMS = st.lists(st.tuples(st.integers(1, 3), NAMES), min_size=10, max_size=10)


def unified(dims, pairs):
    unifier = Unifier()
    classes = [unifier.fresh(size, name) for size, name in dims]
    merged = [unifier.same(classes[a], classes[b]) for a, b in pairs]
    return unifier, classes, merged


@given(DIMS, PAIRS)
@settings(max_examples=200, deadline=None)
def test_a_class_has_one_size_and_one_name(dims, pairs):
    unifier, classes, merged = unified(dims, pairs)
    for (a, b), same in zip(pairs, merged, strict=True):
        assert same == (unifier.find(classes[a]) == unifier.find(classes[b]))
    for dim, (size, name) in zip(classes, dims, strict=True):
        assert unifier.size_of(dim) == unifier.size_of(unifier.find(dim)) == size
        if name is not None:
            assert unifier.name_of(dim) == name  # a name that was given is never lost or changed


@given(DIMS, PAIRS)
@settings(max_examples=200, deadline=None)
def test_what_is_refused_has_two_sizes_or_two_names(dims, pairs):
    unifier = Unifier()
    classes = [unifier.fresh(size, name) for size, name in dims]
    for a, b in pairs:
        sizes = unifier.size_of(classes[a]), unifier.size_of(classes[b])
        names = {unifier.name_of(classes[a]), unifier.name_of(classes[b])} - {None}
        assert unifier.same(classes[a], classes[b]) == (sizes[0] == sizes[1] and len(names) < 2)


@given(DIMS, PAIRS)
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_two_does_not_matter(dims, pairs):
    one, classes, _ = unified(dims, pairs)
    other, others, _ = unified(dims, [(b, a) for a, b in pairs])
    assert [one.find(dim) for dim in classes] == [other.find(dim) for dim in others]


@given(st.lists(st.integers(1, 5), min_size=2, max_size=4))
@settings(max_examples=50, deadline=None)
def test_splitting_what_was_merged_gives_the_parts_back(sizes):
    unifier = Unifier()
    parts = [unifier.fresh(size, f"n{i}") for i, size in enumerate(sizes)]
    whole = unifier.merge_of(parts)
    assert unifier.split_of(whole, sizes) == parts
    assert unifier.merge_of(parts) == whole


def derived(unifier, *dims):
    found = derive_names(unifier)
    return [found[dim] for dim in dims]


def test_merging_named_dims_gives_their_names_at_the_end():
    unifier = Unifier()
    batch, position, heads = unifier.fresh(4, "batch"), unifier.fresh(10, "position"), unifier.fresh(2, "heads")
    row = unifier.merge_of([batch, position])
    assert unifier.name_of(row) is None  # not yet: it meets no other name while classes are merged
    more = unifier.merge_of([row, unifier.fresh(1), heads])
    assert derived(unifier, row, more) == ["batch*position", "batch*position*heads"]


def test_splitting_a_named_dim_numbers_the_parts_that_nothing_names():
    unifier = Unifier()
    inner = unifier.fresh(14, "inner")
    first, last = unifier.split_of(inner, [2, 7])
    unifier.same(last, unifier.fresh(7, "head_size"))
    assert derived(unifier, first, last) == ["inner/0", "head_size"]


def test_a_padded_dim_keeps_a_name_that_comes_later():
    unifier = Unifier()
    whole = unifier.fresh(12)
    padded = unifier.resized(whole, 15)
    more = unifier.resized(padded, 16)
    unifier.same(whole, unifier.fresh(12, "position"))
    assert derived(unifier, whole, padded, more) == ["position"] * 3


def test_a_name_goes_from_a_part_to_the_whole():
    unifier = Unifier()
    whole = unifier.fresh(12)
    unifier.same(unifier.resized(whole, 5), unifier.fresh(5, "position"))
    assert derived(unifier, whole) == ["position"]


def test_a_part_is_named_after_the_whole_unless_it_meets_a_name():
    unifier = Unifier()
    gates = unifier.fresh(12, "gates")
    reset, update = unifier.part_of(gates, (0, 4, 1)), unifier.part_of(gates, (4, 8, 1))
    assert unifier.part_of(gates, (0, 4, 1)) == reset != update
    assert unifier.same(update, unifier.fresh(4, "hidden"))
    assert not unifier.same(update, unifier.fresh(4, "inputs"))  # one part, two roles
    every_other = unifier.part_of(reset, (0, 4, 2))
    assert derived(unifier, reset, update, every_other) == ["gates[0:4]", "hidden", "gates[0:4:2]"]


def test_a_part_of_what_was_joined_is_the_piece():
    """As a fused layer joins the kernels of its gates, and splits what comes out."""
    unifier = Unifier()
    pieces = [unifier.fresh(4), unifier.fresh(3), unifier.fresh(4)]
    joint = unifier.join_of(pieces, 11)
    assert [unifier.part_of(joint, (start, stop, 1)) for start, stop in ((0, 4), (4, 7), (7, 11))] == pieces
    assert unifier.part_of(joint, (0, 7, 1)) not in pieces
    other = unifier.fresh(11)
    assert unifier.same(other, joint)
    assert unifier.part_of(other, (4, 7, 1)) == pieces[1]


def test_what_a_step_makes_is_called_after_what_made_it():
    unifier = Unifier()
    (counted, filled, one, more), other = (
        (unifier.made(size, "iota") for size in (5, 7, 1, 5)),
        unifier.made(5, "stack"),
    )
    unifier.same(filled, unifier.fresh(7, "hidden"))  # a name is taken
    first, second = unifier.split_of(unifier.made(6, "stack"), [2, 3])
    assert derived(unifier, counted, filled, one, more, other) == ["iota~1", "hidden", None, "iota~2", "stack~1"]
    assert derived(unifier, first, second) == ["stack~2/0", "stack~2/1"]


def test_what_a_step_makes_names_no_argument():
    unifier = Unifier()
    (argument,) = unifier.argument((5,), (None,))
    assert unifier.same(argument, unifier.made(5, "iota"))
    assert derived(unifier, argument) == [None]


def test_further_occurrences_of_what_a_step_makes():
    unifier = Unifier()
    counted = unifier.made(5, "iota")
    again = unifier.occurrence(counted, [counted])
    unifier.together((counted, again))
    assert derived(unifier, counted, again) == ["iota~1", "iota~1'"]


def test_parts_that_are_put_together_are_the_whole():
    unifier = Unifier()
    size = unifier.fresh(8, "size")
    halves = [unifier.part_of(size, (0, 4, 1)), unifier.part_of(size, (4, 8, 1))]
    assert unifier.join_of(halves, 8) == unifier.join_of(halves[::-1], 8) == size
    assert unifier.join_of([halves[0], halves[0]], 8) != size
    prefix = unifier.join_of([unifier.fresh(2, "prefix"), size], 10)
    padded = unifier.join_of([unifier.fresh(1), size], 9)
    assert derived(unifier, prefix, padded) == ["prefix+size", "size"]


EXTENTS = st.tuples(st.integers(0, 12), st.integers(0, 24), st.integers(1, 7))


@given(EXTENTS, EXTENTS)
@settings(max_examples=400, deadline=None)
def test_parts_are_apart_where_they_have_no_place_in_common(first, second):
    assert are_apart(first, second) == set(range(*first)).isdisjoint(range(*second))


def test_parts_of_a_long_axis_are_compared_by_their_ends():
    """A flat vector of all parameters may have as many places as there are."""
    size = 2**62
    unifier = Unifier()
    flat = unifier.fresh(size, "flat")
    parts = [unifier.part_of(flat, (0, size // 2, 1)), unifier.part_of(flat, (size // 2, size, 1))]
    assert unifier.join_of(parts, size) == flat
    assert unifier.join_of([unifier.part_of(flat, (start, size, 2)) for start in (0, 1)], size) == flat


def test_what_stands_in_one_value_is_never_one_class():
    """Where a rule says that it is the same, the second is a further occurrence of the axis."""
    unifier = Unifier()
    rows, columns, position = unifier.fresh(5), unifier.fresh(5), unifier.fresh(5, "position")
    unifier.together((rows, columns))
    assert unifier.same(rows, position)
    assert not unifier.same(columns, position)
    assert unifier.kin(columns, position) and unifier.kin(rows, columns)
    assert derived(unifier, rows, columns) == ["position", "position'"]


def test_a_further_occurrence_takes_the_name_that_it_meets():
    unifier = Unifier()
    position, key = unifier.fresh(5, "position"), unifier.fresh(5, "key_position")
    second = unifier.occurrence(position, [position])
    assert unifier.occurrence(position, [position]) == second
    assert unifier.occurrence(position, [position, second]) != second
    assert not unifier.same(second, position) and unifier.same(second, key)
    assert unifier.kin(second, position)
    assert derived(unifier, second) == ["key_position"]


def test_a_name_that_an_argument_has_twice():
    unifier = Unifier()
    first, second = unifier.argument((4, 4), ("hidden", "hidden"))
    assert unifier.kin(first, second) and not unifier.same(first, second)
    assert derived(unifier, first, second) == ["hidden", "hidden'"]


def test_a_class_is_called_once():
    unifier = Unifier()
    dim = unifier.fresh(4)
    assert unifier.call(dim, None)
    assert unifier.call(dim, "batch")
    assert unifier.call(dim, "batch")
    assert not unifier.call(dim, "embed")
    assert unifier.name_of(dim) == "batch"


@given(DIMS, PAIRS)
@settings(max_examples=100, deadline=None)
def test_roots_are_the_representatives(dims, pairs):
    unifier, classes, _ = unified(dims, pairs)
    found = [unifier.find(dim) for dim in classes]
    assert [unifier.roots()[dim] for dim in classes] == found


def test_products_are_found_when_their_classes_have_merged():
    unifier = Unifier()
    one, other, last = unifier.fresh(4), unifier.fresh(4), unifier.fresh(3)
    whole = unifier.merge_of([other, last])
    unifier.same(one, other)  # `one` is the older: it stands for both from here on
    assert unifier.merge_of([one, last]) == whole
    older = unifier.fresh(12)
    unifier.same(whole, older)
    assert unifier.split_of(older, [4, 3]) == [other, last]
