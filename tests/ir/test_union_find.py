"""Classes of what is the same, against the plainest way to keep them: sets that are joined."""

from hypothesis import given
from hypothesis import strategies as st

from ir.union_find import Classes

PAIRS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=30)


@given(PAIRS)
def test_two_keys_are_one_class_if_a_chain_of_pairs_joins_them(pairs):
    classes, plain = Classes[int](), [{key} for key in range(13)]
    for first, second in pairs:
        classes.union(first, second)
        one = next(each for each in plain if first in each)
        other = next(each for each in plain if second in each)
        if one is not other:
            plain.remove(other)
            one |= other
    for each in plain:
        assert {classes[key] for key in each} <= each
        assert len({classes[key] for key in each}) == 1


def test_the_first_mentioned_key_stands_for_its_class():
    classes = Classes[str]()
    classes.union("b", "a")
    classes.union("c", "a")
    assert [classes[key] for key in "abcd"] == ["b", "b", "b", "d"]
