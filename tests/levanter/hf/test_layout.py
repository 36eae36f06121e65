"""The layout language: views that only split, merge and reorder dims, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from levanter.errors import UserError
from levanter.hf.layout import parse

SIZES = {"heads": 2, "head_size": 3, "embed": 5}


def test_a_layout_says_the_shape_of_a_tensor() -> None:
    assert parse("(heads head_size) embed").shape(SIZES) == (6, 5)
    assert parse("embed").shape(SIZES) == (5,)
    assert parse("1 1 embed").shape(SIZES) == (1, 1, 5)
    assert parse("1 1 embed").axes == ("embed",)


def test_a_view_has_a_dim_for_each_axis_in_the_order_asked_for() -> None:
    tensor = np.arange(30).reshape(6, 5)
    view = parse("(heads head_size) embed").view(tensor, SIZES, ("embed", "heads", "head_size"))
    assert view.shape == (5, 2, 3)
    assert view[4, 1, 2] == tensor[1 * 3 + 2, 4]


@pytest.mark.parametrize(
    ("layout", "shape"),
    [("(heads head_size) embed", (6, 5)), ("embed (heads head_size)", (5, 6)), ("1 embed 1", (1, 5, 1))],
)
def test_a_view_shares_memory_also_of_a_part_of_the_tensor(layout: str, shape: tuple[int, ...]) -> None:
    longer = np.zeros([2 * size for size in shape])
    part = longer[tuple(slice(0, size) for size in shape)]
    parsed = parse(layout)
    view = parsed.view(part, SIZES, tuple(reversed(parsed.axes)))
    assert np.shares_memory(view, longer)
    view[...] = 1.0
    assert longer.sum() == part.size


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(heads (head_size)) embed", "a bracket inside a bracket"),
        ("heads) embed", "a bracket too many"),
        ("() embed", "a bracket with nothing in it"),
        ("(heads embed", "a bracket is not closed"),
        ("heads head-size", "`head-size` is not an axis name"),
        ("embed embed", "axis `embed` twice"),
    ],
)
def test_what_is_no_layout_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text)
    assert str(caught.value) == (
        f'the layout "{text}" is not one: {reason}; write dims as in "(heads head_size) embed"'
    )
