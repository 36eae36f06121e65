"""Device groups in XLA's three notations, and the mesh axes they are."""

from __future__ import annotations

import pytest

from levanter.compiler.verify.groups import MeshAxes, parse_groups, parse_pairs
from levanter.errors import WorkFailed


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("{{0,1},{2,3}}", [(0, 1), (2, 3)]),
        ("{}", [(0, 1, 2, 3, 4, 5, 6, 7)]),
        ("", [(0, 1, 2, 3, 4, 5, 6, 7)]),
        ("[4,2]<=[8]", [(0, 1), (2, 3), (4, 5), (6, 7)]),
        ("[2,4]<=[4,2]T(1,0)", [(0, 2, 4, 6), (1, 3, 5, 7)]),
        ("mesh['a'=4,'b'=2] {'a'}", [(0, 2, 4, 6), (1, 3, 5, 7)]),
        ("mesh['a'=4,'b'=2] {'b','a'}", [(0, 2, 4, 6, 1, 3, 5, 7)]),
        ("mesh['a'=2,'b'=1,'c'=4], device_ids=([4,2]T(1,0)) {'a'}", [(0, 1), (2, 3), (4, 5), (6, 7)]),
        ("mesh['a'=2,'b'=2], device_ids=(3,1,2,0) {'b'}", [(3, 1), (2, 0)]),
        ("mesh['a'=8] {'a':(1)2}", [(0, 4), (1, 5), (2, 6), (3, 7)]),
        ("mesh['a'=8] {'a':(2)2}", [(0, 2), (1, 3), (4, 6), (5, 7)]),
        ("mesh['a'=8] {'a':(1)2,'a':(4)2}", [(0, 1, 4, 5), (2, 3, 6, 7)]),
        ("mesh[a=2,b=4] {a}", [(0, 4), (1, 5), (2, 6), (3, 7)]),
    ],
)
def test_every_notation(text: str, groups: list[tuple[int, ...]]) -> None:
    assert parse_groups(text, 8) == groups


@pytest.mark.parametrize("text", ["all", "mesh['a'=8] {'z'}", "mesh['a'=2], device_ids=() {'a'}"])
def test_an_unknown_notation_is_refused(text: str) -> None:
    with pytest.raises(WorkFailed):
        parse_groups(text, 8)


def test_groups_are_matched_with_mesh_axes() -> None:
    axes = MeshAxes({"replica": 2, "data": 2, "model": 2})
    assert axes.of_groups([(0, 1), (2, 3), (4, 5), (6, 7)]) == ("model",)
    assert axes.of_groups([(6, 4), (0, 2), (5, 7), (1, 3)]) == ("data",)
    assert axes.of_groups([(0, 1, 4, 5), (2, 3, 6, 7)]) == ("replica", "model")
    assert axes.of_groups([tuple(range(8))]) == ("replica", "data", "model")
    assert axes.of_groups([(0, 3), (1, 2), (4, 7), (5, 6)]) == ()


def test_axes_of_size_one_are_never_named() -> None:
    assert MeshAxes({"replica": 1, "data": 4, "model": 1}).of_groups([(0, 1, 2, 3)]) == ("data",)


def test_permutes_move_along_axes() -> None:
    axes = MeshAxes({"data": 4, "model": 2})
    assert axes.of_pairs(parse_pairs("{{0,2},{2,4},{4,6},{6,0}}")) == ("data",)
    assert axes.of_pairs(parse_pairs("{{0,1},{1,0}}")) == ("model",)
    assert axes.of_pairs(parse_pairs("{{0,3}}")) == ("data", "model")
