"""What the compiler is asked about, as a configuration names it: a mesh and a chip. It imports no JAX."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from levanter.errors import UserError
from passes.errors import PlanError
from passes.hardware.chip import CHIPS, chip_of
from passes.planner.document import PlanDocument, read_document
from passes.planner.errors import document_unreadable, reason_of
from passes.sharding.mesh import DeviceMesh

__all__ = ["ONE_DEVICE", "DeviceMesh", "PlanConfig", "check_hardware", "chip_names", "parse_mesh", "read_plan"]

ONE_DEVICE = DeviceMesh(("data",), (1,))


def parse_mesh(text: str | None) -> DeviceMesh:
    """The mesh that `text` describes (see `passes.sharding.mesh_forms`); None is one device.

    `8` is data=8; `4x2` is data=4, model=2; `2x4x2` is replica=2, data=4, model=2; `2x16x4x4` is replica=2, data=16,
    sequence=4, model=4; `data=4,expert=2` names its axes, outermost first.

    Raises:
        UserError: `text` is none of these forms, or a size is not a whole number of at least 1.
    """
    if text is None:
        return ONE_DEVICE
    try:
        return DeviceMesh.of(text)
    except PlanError as error:
        raise UserError(str(error)) from None


@dataclass(frozen=True)
class PlanConfig(PlanDocument):
    """A plan as a section of a configuration: what `levanter compile --save-plan` writes, with its file."""

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
        except PlanError as error:
            raise UserError(str(error)) from None


def read_plan(path: str | Path, shown: str) -> PlanConfig:
    """The plan in a file, which messages call `shown`.

    Raises:
        UserError: the file cannot be read, or is no plan.
    """
    try:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise document_unreadable(shown, reason_of(error)) from None
        return PlanConfig(**asdict(read_document(text, shown)))
    except PlanError as error:
        raise UserError(str(error)) from None


def chip_names() -> list[str]:
    """The chips that ship, sorted."""
    return sorted(CHIPS)


def check_hardware(hardware: str) -> None:
    """Whether `hardware` names a chip: one that ships, or `my_chips.yaml:NAME`.

    Raises:
        UserError: there is no such chip, or its file is wrong.
    """
    try:
        chip_of(hardware)
    except PlanError as error:
        raise UserError(str(error)) from error
