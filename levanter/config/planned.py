"""`trainer.plan`: the path of a plan's file is replaced by what the file says, with its mesh and chip where none is
written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from levanter.compiler.question import parse_mesh, read_plan
from levanter.config import errors
from levanter.config.document import Document, display
from levanter.errors import UserError

_KEY = ("trainer", "plan")


def with_plan(written: Document) -> Document:
    """The document with the plan that it names; as it is where it names none.

    Raises:
        UserError: the file cannot be read, or is no plan.
    """
    section = written.values.get("trainer")
    source = section.get("plan") if isinstance(section, Mapping) else None
    if not isinstance(source, str) or not source:
        return written
    mark = written.mark(_KEY)
    try:
        plan = read_plan(source, display(source))
    except UserError as error:
        raise errors.in_place(f"{'--' if mark.option else ''}trainer.plan", mark.where, error) from None
    assert isinstance(section, Mapping)
    mesh = str(parse_mesh(plan.mesh))
    trainer: dict[str, Any] = {**section, "plan": {**asdict(plan), "mesh": mesh}}
    for key, value in (("mesh", mesh), ("hardware", plan.hardware)):
        if trainer.get(key) is None:
            trainer[key] = value
    return Document({**written.values, "trainer": trainer}, written.marks)
