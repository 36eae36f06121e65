"""The order of the windows is a bijection, spread evenly, and the same for ever."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levanter.data.permutation import Permutation

GOLDEN_TEN = [5, 6, 8, 4, 7, 3, 0, 1, 9, 2]
GOLDEN_LARGE = [896730018035, 6450185758, 100342630201]


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 3000), key=st.text(max_size=8))
def test_every_thing_has_one_place(size: int, key: str) -> None:
    order = Permutation(size, key)(np.arange(size))
    assert np.array_equal(np.sort(order), np.arange(size))


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 1 << 61), key=st.text(max_size=8), data=st.data())
def test_places_may_be_asked_for_one_at_a_time(size: int, key: str, data: st.DataObject) -> None:
    places = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=5)))
    permutation = Permutation(size, key)
    together = permutation(places)
    alone = [permutation(places[i : i + 1])[0] for i in range(len(places))]
    assert together.tolist() == alone
    assert ((together >= 0) & (together < size)).all()


def test_the_order_of_a_key_never_changes() -> None:
    assert Permutation(10, "seed 0")(np.arange(10)).tolist() == GOLDEN_TEN
    assert Permutation(10**12, "seed 0")(np.arange(3)).tolist() == GOLDEN_LARGE


def test_keys_give_different_orders_without_a_pattern() -> None:
    first, second = (Permutation(4096, key)(np.arange(4096)) for key in ("a", "b"))
    assert (first == second).mean() < 0.01
    for order in (first, second):
        # Neighbours are as far apart as chance would have it: a third of the size on average.
        assert np.abs(np.diff(order)).mean() == pytest.approx(4096 / 3, rel=0.05)
        assert abs(np.corrcoef(order, np.arange(4096))[0, 1]) < 0.05


@pytest.mark.parametrize("size", [0, -1, 1 << 62])
def test_a_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"^a permutation needs a size between 1 and 2\\*\\*62, not {size}$"):
        Permutation(size, "")
