"""Which factors of a shape are which of another: the smallest runs of equal product."""

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ir.ops import factors, groups

SIZES = st.lists(st.integers(1, 6), max_size=5)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([4, 6], [4, 2, 3], [([0], [0]), ([1], [1, 2])]),
        ([4, 2, 3], [8, 3], [([0, 1], [0]), ([2], [1])]),
        ([4, 6], [6, 4], [([0, 1], [0, 1])]),
        ([1, 4], [4, 1], [([0], []), ([1], [0]), ([], [1])]),
        ([4, 1, 3], [12], [([0, 1, 2], [0])]),
        ([], [1, 1], [([], [0]), ([], [1])]),
        ([0, 2], [0], [([0], [0])]),  # nothing can be aligned behind a size of 0
    ],
)
def test_groups(before, after, expected):
    assert groups(before, after) == expected


@given(SIZES, st.randoms())
def test_every_group_has_one_product_and_every_dim_one_group(sizes, chance):
    total, after = prod(sizes), []
    while total > 1:
        size = chance.choice([n for n in range(2, total + 1) if total % n == 0])
        after.append(size)
        total //= size
    found = groups(sizes, after)
    assert all(prod(sizes[p] for p in left) == prod(after[p] for p in right) for left, right in found)
    assert sorted(p for left, _ in found for p in left) == list(range(len(sizes)))
    assert sorted(p for _, right in found for p in right) == list(range(len(after)))
    real = factors(sizes, after)
    assert sorted(p for left, _ in real for p in left) == [p for p, size in enumerate(sizes) if size != 1]
