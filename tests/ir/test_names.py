"""Laws of unification."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ir.names import Unifier

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
