"""The CPU devices that a mesh needs, asked of XLA before JAX starts."""

from __future__ import annotations

import os

import pytest

from levanter.cli import devices
from levanter.config import parse_mesh
from levanter.errors import UserError

FLAG = "--xla_force_host_platform_device_count"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", f"{FLAG}=8"),
        ("--xla_dump_to=x  --a=b", f"--xla_dump_to=x --a=b {FLAG}=8"),
        (f"{FLAG}=4 --a=b", f"--a=b {FLAG}=8"),
        (f"{FLAG}=16", f"{FLAG}=16"),
    ],
)
def test_the_users_other_flags_are_kept(flags: str, expected: str) -> None:
    assert devices.with_device_count(flags, 8) == expected


@pytest.mark.parametrize(
    ("platforms", "expected"),
    [("", f"{FLAG}=8"), ("cpu", f"{FLAG}=8"), ("cuda,cpu", f"{FLAG}=8"), ("tpu", None), ("cuda", None)],
)
def test_only_a_cpu_is_split(platforms: str, expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    devices.prepare(parse_mesh("4x2"))
    assert os.environ.get("XLA_FLAGS") == expected


def test_too_few_devices_say_how_many_there_are() -> None:
    with pytest.raises(UserError) as caught:
        devices.require(parse_mesh("100x2"))
    assert str(caught.value) == (
        "mesh data=100,model=2 needs 200 devices and JAX found 8 (cpu): "
        "give a smaller --mesh, or set JAX_PLATFORMS=cpu to run on as many CPU devices as it needs"
    )
