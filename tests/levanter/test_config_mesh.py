"""Device meshes as people write them."""

from __future__ import annotations

import pytest

from levanter.config import device_count, mesh_text, parse_mesh
from levanter.errors import UserError

FORMS = "write 8 (data), 4x2 (data, model), 2x4x2 (replica, data, model) or data=4,model=2"


@pytest.mark.parametrize(
    ("text", "mesh"),
    [
        ("8", {"data": 8}),
        ("4x2", {"data": 4, "model": 2}),
        ("2x4x2", {"replica": 2, "data": 4, "model": 2}),
        ("data=4,model=2", {"data": 4, "model": 2}),
        ("model=2, data=4", {"data": 4, "model": 2}),
        ("model=8", {"model": 8}),
        ("1x1", {"data": 1, "model": 1}),
    ],
)
def test_forms(text: str, mesh: dict[str, int]) -> None:
    parsed = parse_mesh(text)
    assert list(parsed.items()) == list(mesh.items())
    assert parse_mesh(mesh_text(parsed)) == parsed


def test_device_count() -> None:
    assert device_count(parse_mesh("2x4x2")) == 16


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4y2", f"bad mesh `4y2`: {FORMS}"),
        ("", f"bad mesh ``: {FORMS}"),
        ("4x", f"bad mesh `4x`: {FORMS}"),
        ("-4x2", f"bad mesh `-4x2`: {FORMS}"),
        ("4.0x2", f"bad mesh `4.0x2`: {FORMS}"),
        ("٤x2", f"bad mesh `٤x2`: {FORMS}"),
        ("data=4,2", f"bad mesh `data=4,2`: {FORMS}"),
        ("0x2", "bad mesh `0x2`: axis data has size 0, and the least is 1"),
        ("model=0", "bad mesh `model=0`: axis model has size 0, and the least is 1"),
        ("2x2x2x2", f"bad mesh `2x2x2x2`: it has 4 axes and at most 3 are known; {FORMS}"),
        ("dta=4", "bad mesh `dta=4`: unknown mesh axis `dta`: did you mean `data`?"),
        ("x=4", "bad mesh `x=4`: unknown mesh axis `x`: known: data, model, replica"),
        ("data=4,data=2", "bad mesh `data=4,data=2`: axis data is given twice: remove one of them"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_mesh(text)
    assert str(caught.value) == message
