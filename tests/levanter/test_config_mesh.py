"""Device meshes as people write them."""

from __future__ import annotations

import pytest

from levanter.config import loads, parse_mesh
from levanter.errors import UserError

FORMS = (
    "write 8 (data), 4x2 (data, model), 2x4x2 (replica, data, model), 2x16x4x4 (replica, data, sequence, model), or "
    "name the axes: data=4,model=2"
)
LEAST = "sizes must be whole numbers of at least 1"


@pytest.mark.parametrize(
    ("text", "mesh"),
    [
        ("8", {"data": 8}),
        ("4x2", {"data": 4, "model": 2}),
        ("2x4x2", {"replica": 2, "data": 4, "model": 2}),
        ("2x16x4x4", {"replica": 2, "data": 16, "sequence": 4, "model": 4}),
        ("data=4,model=2", {"data": 4, "model": 2}),
        ("model=2, data=4", {"data": 4, "model": 2}),
        ("model=2, sequence=4, replica=3, data=4", {"replica": 3, "data": 4, "sequence": 4, "model": 2}),
        ("model=8", {"model": 8}),
        ("1x1", {"data": 1, "model": 1}),
        ("model=2, expert=8", {"model": 2, "expert": 8}),  # an axis of your own: the order is yours too
        (
            "replica=2,data=2,expert=2,sequence=2,model=2",
            dict.fromkeys(["replica", "data", "expert", "sequence", "model"], 2),
        ),
        ("x=4", {"x": 4}),
        (None, {"data": 1}),
    ],
)
def test_forms(text: str | None, mesh: dict[str, int]) -> None:
    parsed = parse_mesh(text)
    assert list(parsed.as_dict().items()) == list(mesh.items())
    assert parse_mesh(str(parsed)) == parsed


def test_a_config_has_its_mesh() -> None:
    assert loads("trainer:\n  mesh: replica=2,data=16,sequence=4,model=4\n").mesh.devices == 512
    assert str(loads("{}").mesh) == "data=1"


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
        ("4=data", f"bad mesh `4=data`: {FORMS}"),
        ("0x2", f"bad mesh `0x2`: axis `data` has size 0; {LEAST}"),
        ("model=0", f"bad mesh `model=0`: axis `model` has size 0; {LEAST}"),
        (
            "2x2x2x2x2",
            "bad mesh `2x2x2x2x2`: 5 sizes, and names are known for at most 4; name the axes, outermost first: "
            "replica=2,data=4,expert=2,sequence=2,model=4",
        ),
        ("data=4,data=2", "bad mesh `data=4,data=2`: axis `data` is given twice; remove one of them"),
        (
            "65536x65536",
            f"bad mesh `65536x65536`: it has 4294967296 devices, and the most is 2147483648; {FORMS}",
        ),
        ("9" * 5000, f"bad mesh `{'9' * 5000}`: {FORMS}"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_mesh(text)
    assert str(caught.value) == message
